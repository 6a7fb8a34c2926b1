//! HTTP/1.1 as the real backend's server writes it, byte for byte under our control: the
//! framing and the fields that agents really get, and whatever a fault makes of them.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use helios::base::date::HttpDate;

use crate::fault::Fault;

/// A head; more is no request of an agent.
const HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Bodies are read up to here, so that 413 has a meaning below it.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// An idle connection is closed after so long (remote-api 0.7 row 5).
const IDLE: Duration = Duration::from_secs(6);
/// Shorter bodies are not compressed (remote-api 2.2).
const CODED_BYTES_MIN: usize = 1024;

/// One request.
pub struct Call {
    pub method: String,
    pub path: String,
    pub query: String,
    fields: Vec<(String, String)>,
    /// Without its content coding; `Err` is the status for one that cannot be had.
    pub body: Result<Vec<u8>, u16>,
}

impl Call {
    /// The first field of that name, in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The key, wherever the real one looks for it.
    pub fn key(&self) -> Option<String> {
        let bearer = |value: &str| value.strip_prefix("Bearer ").map(str::to_owned);
        let key = self.field("authorization").and_then(bearer);
        key.or_else(|| self.asked("apikey").next())
            .filter(|key| !key.is_empty())
    }

    /// The values of a query parameter, decoded.
    pub fn asked<'c>(&'c self, name: &'c str) -> impl Iterator<Item = String> + 'c {
        self.query.split('&').filter_map(move |pair| {
            let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
            (known == name).then(|| decode(value))
        })
    }

    /// Whether the body is JSON by its own word.
    pub fn is_json(&self) -> bool {
        let kind = self.field("content-type").unwrap_or_default();
        kind.split(';')
            .next()
            .is_some_and(|kind| kind.trim() == "application/json")
    }
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut left = text.as_bytes();
    while let [first, rest @ ..] = left {
        let hex = rest.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        (left, _) = match (first, code) {
            (b'%', Some(code)) => (&rest[2..], bytes.push(code)),
            (b'+', _) => (rest, bytes.push(b' ')),
            _ => (rest, bytes.push(*first)),
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn empty(status: u16) -> Answer {
        Answer {
            status,
            ..Answer::default()
        }
    }

    fn of(status: u16, kind: &str, body: Vec<u8>) -> Answer {
        let kind = format!("{kind}; charset=utf-8");
        Answer {
            status,
            fields: vec![("Content-Type".into(), kind)],
            body,
        }
    }

    pub fn json(status: u16, body: &impl serde::Serialize) -> Answer {
        let body = serde_json::to_vec(body).unwrap_or_default();
        let answer = Answer::of(status, "application/json", body).tagged();
        answer.with("Vary", "Accept-Encoding")
    }

    pub fn text(status: u16, text: &str) -> Answer {
        Answer::of(status, "text/plain", text.as_bytes().to_vec()).tagged()
    }

    /// With the field that every body but an error page has.
    fn tagged(self) -> Answer {
        let etag = etag(&self.body);
        self.with("ETag", etag)
    }

    pub fn html(status: u16, text: &str) -> Answer {
        let page = format!("<!DOCTYPE html>\n<html><body><pre>{text}</pre></body></html>\n");
        Answer::of(status, "text/html", page.into_bytes())
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.fields
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.fields.push((name.into(), value.into()));
        self
    }

    /// Compressed as the caller likes it. The real one prefers brotli, which is not here.
    pub fn coded_for(mut self, accepted: &str) -> Answer {
        if self.body.len() < CODED_BYTES_MIN {
            return self;
        }
        let weight = |name: &str| {
            let of = |part: &str| {
                let (coding, q) = part.split_once(";q=").unwrap_or((part, "1"));
                (coding.trim() == name).then(|| q.trim().parse::<f32>().unwrap_or(0.0))
            };
            accepted.split(',').find_map(of).unwrap_or(0.0)
        };
        let coding = match (weight("gzip"), weight("deflate")) {
            (gzip, deflate) if gzip > 0.0 && gzip >= deflate => {
                self.body = gzip_of(&self.body);
                "gzip"
            }
            (_, deflate) if deflate > 0.0 => {
                self.body = miniz_oxide::deflate::compress_to_vec_zlib(&self.body, 6);
                "deflate"
            }
            _ => return self,
        };
        self.with("Content-Encoding", coding)
    }
}

/// Weak, over the text before any coding (remote-api 2.2).
pub fn etag(body: &[u8]) -> String {
    let digest = helios::base::hash::sha256_hex(body);
    format!("W/\"{:x}-{}\"", body.len(), &digest[..27])
}

fn gzip_of(bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    out.extend(miniz_oxide::deflate::compress_to_vec(bytes, 6));
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = if sum & 1 == 1 {
                sum >> 1 ^ 0xedb8_8320
            } else {
                sum >> 1
            };
        }
    }
    out.extend((!sum).to_le_bytes());
    out.extend(u32::try_from(bytes.len()).unwrap_or_default().to_le_bytes());
    out
}

/// Takes the content coding off a request's body, up to `max` bytes.
fn inflate(coding: Option<&str>, body: Vec<u8>, max: usize) -> Result<Vec<u8>, u16> {
    use miniz_oxide::inflate::{decompress_to_vec_with_limit, decompress_to_vec_zlib_with_limit};
    let inflated = match coding {
        None | Some("identity") => return Ok(body),
        // No name and no extra fields: what agents send.
        Some("gzip") => decompress_to_vec_with_limit(body.get(10..).unwrap_or_default(), max),
        Some("deflate") => decompress_to_vec_zlib_with_limit(&body, max),
        Some(_) => return Err(415),
    };
    inflated.map_err(|error| match error.status {
        miniz_oxide::inflate::TINFLStatus::HasMoreOutput => 413,
        _ => 400,
    })
}

/// Serves one connection until it ends.
pub fn serve(stream: TcpStream, answer: impl Fn(&Call) -> (Answer, Fault)) {
    // The peer may be gone at any time; that is its own business.
    let _ = requests(&stream, answer);
    let _ = stream.shutdown(Shutdown::Both);
}

fn requests(stream: &TcpStream, answer: impl Fn(&Call) -> (Answer, Fault)) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        stream.set_read_timeout(Some(IDLE))?;
        if reader.fill_buf()?.is_empty() {
            return Ok(());
        }
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let Some(call) = request(&mut reader, stream)? else {
            return send(stream, Answer::empty(400), false, false, &Fault::default()).map(drop);
        };
        let (answer, fault) = answer(&call);
        let keeps = call.body.is_ok() && call.field("connection") != Some("close");
        if !send(stream, answer, call.method == "HEAD", keeps, &fault)? || !keeps {
            return Ok(());
        }
    }
}

/// `None`: nothing that can be answered in order.
fn request(reader: &mut BufReader<TcpStream>, stream: &TcpStream) -> io::Result<Option<Call>> {
    let mut head = Vec::new();
    let mut limited = reader.by_ref().take(HEAD_BYTES_MAX);
    while !head.ends_with(b"\r\n\r\n") {
        if limited.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut parsed = httparse::Request::new(&mut fields);
    if !parsed.parse(&head).is_ok_and(|status| status.is_complete()) {
        return Ok(None);
    }
    let target = parsed.path.unwrap_or("/");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let text = |value: &[u8]| String::from_utf8_lossy(value).trim().to_owned();
    let mut call = Call {
        method: parsed.method.unwrap_or_default().into(),
        path: path.into(),
        query: query.into(),
        fields: parsed
            .headers
            .iter()
            .map(|field| (field.name.to_ascii_lowercase(), text(field.value)))
            .collect(),
        body: Ok(Vec::new()),
    };
    if call.field("expect").is_some() {
        (&*stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let body = match (
        call.field("transfer-encoding"),
        call.field("content-length"),
    ) {
        (Some(_), _) => chunks(reader)?,
        (None, Some(length)) => match length.parse::<usize>() {
            Ok(length) if length <= BODY_BYTES_MAX => {
                let mut body = vec![0; length];
                reader.read_exact(&mut body)?;
                Ok(body)
            }
            Ok(_) => Err(413),
            Err(_) => return Ok(None),
        },
        (None, None) => Ok(Vec::new()),
    };
    let max = crate::report::BODY_BYTES_MAX + 1;
    call.body = body.and_then(|body| inflate(call.field("content-encoding"), body, max));
    Ok(Some(call))
}

fn chunks(reader: &mut BufReader<TcpStream>) -> io::Result<Result<Vec<u8>, u16>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.by_ref().take(1024).read_line(&mut line)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let Ok(size) = size else { return Ok(Err(400)) };
        if body.len() + size > BODY_BYTES_MAX {
            return Ok(Err(413));
        }
        let start = body.len();
        body.resize(start + size + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(Ok(body));
        }
    }
}

/// Writes an answer as the fault says; `false` when the connection is of no more use.
fn send(
    stream: &TcpStream,
    answer: Answer,
    to_head: bool,
    keeps: bool,
    fault: &Fault,
) -> io::Result<bool> {
    std::thread::sleep(Duration::from_millis(fault.delay_ms));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let bytes = compose(answer, to_head, keeps, now, fault);
    let bytes = fault.damaged(bytes);
    let mut out = stream;
    if fault.slow_ms > 0 {
        for byte in &bytes {
            out.write_all(std::slice::from_ref(byte))?;
            std::thread::sleep(Duration::from_millis(fault.slow_ms));
        }
    } else {
        out.write_all(&bytes)?;
    }
    if fault.is_silent {
        // Until the peer gives up, as one does that lost its network.
        let mut byte = [0];
        stream.set_read_timeout(Some(Duration::from_secs(600)))?;
        let _ = io::Read::read(&mut &*stream, &mut byte);
    }
    Ok(!fault.ends_connection())
}

fn compose(answer: Answer, to_head: bool, keeps: bool, now: u64, fault: &Fault) -> Vec<u8> {
    let mut answer = fault.applied(answer, now);
    let has_body = !to_head && !matches!(answer.status, 100..=199 | 204 | 304);
    // Coded and empty answers come in chunks (remote-api 0.7 row 6).
    let coded = answer
        .fields
        .iter()
        .any(|(name, _)| name == "Content-Encoding");
    let is_chunked = has_body && (answer.body.is_empty() || coded) && fault.length == 0;
    if !is_chunked && (has_body || to_head && !answer.body.is_empty()) {
        let length = answer.body.len().saturating_add_signed(fault.length);
        answer
            .fields
            .push(("Content-Length".into(), length.to_string()));
    }
    answer
        .fields
        .push(("Date".into(), HttpDate(now).to_string()));
    if keeps {
        answer
            .fields
            .push(("Connection".into(), "keep-alive".into()));
        answer
            .fields
            .push(("Keep-Alive".into(), "timeout=5".into()));
    } else {
        answer.fields.push(("Connection".into(), "close".into()));
    }
    if is_chunked {
        answer
            .fields
            .push(("Transfer-Encoding".into(), "chunked".into()));
    }
    let mut out = format!("HTTP/1.1 {} {}\r\n", answer.status, reason(answer.status)).into_bytes();
    for (name, value) in &answer.fields {
        out.extend(format!("{name}: {value}\r\n").bytes());
    }
    out.extend(b"\r\n");
    match (has_body, is_chunked) {
        (false, _) => {}
        (true, false) => out.extend(&answer.body),
        (true, true) => {
            if !answer.body.is_empty() {
                out.extend(format!("{:x}\r\n", answer.body.len()).bytes());
                out.extend(&answer.body);
                out.extend(b"\r\n");
            }
            out.extend(b"0\r\n\r\n");
        }
    }
    out
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        301 => "Moved Permanently",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        409 => "Conflict",
        413 => "Payload Too Large",
        415 => "Unsupported Media Type",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Other",
    }
}
