//! The head of a message: bytes in, meaning out.
//!
//! [`Scan`] finds the end and holds the limits; [`request`] and [`response`]
//! then judge the whole head at once. They keep no copy: a [`RequestHead`] is
//! a few offsets into the bytes it was read from, and [`Fields`] walks those.
//!
//! # Invariants
//!
//! * Lines end in CRLF. A lone CR or LF, or a NUL, is refused before anything
//!   else looks at the bytes.
//! * Requests: whatever two servers could read differently is refused.
//! * Responses: what R-HTTP-1 allows is taken, and the connection not reused.

use std::fmt;
use std::io::Write;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::body::Body;
use crate::limits::{
    HTTP_FIELDS_MAX, HTTP_REQUEST_HEAD_BYTES_MAX, HTTP_REQUEST_LINE_BYTES_MAX,
    HTTP_RESPONSE_HEAD_BYTES_MAX, HTTP_STATUS_LINE_BYTES_MAX,
};

/// Why a head is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadError {
    /// The status a server answers it with.
    pub status: u16,
    /// What to tell people.
    pub reason: &'static str,
}

/// It is no HTTP, or is open to two readings.
#[must_use]
pub const fn bad(reason: &'static str) -> HeadError {
    refused(400, reason)
}

const fn refused(status: u16, reason: &'static str) -> HeadError {
    HeadError { status, reason }
}

const LINE_TOO_LONG: HeadError = refused(414, "the first line is too long");
const EXPECTATION: HeadError = refused(417, "that cannot be expected");
const FIELDS_TOO_LARGE: HeadError = refused(431, "too many or long fields");
const NOT_IMPLEMENTED: HeadError = refused(501, "no such coding or method");
const VERSION: HeadError = refused(505, "not HTTP/1.0 or HTTP/1.1");

/// How long a head may be.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Its first line.
    pub line_bytes: usize,
    /// All of it.
    pub bytes: usize,
}

/// For requests.
pub const REQUEST: Limits = Limits {
    line_bytes: HTTP_REQUEST_LINE_BYTES_MAX,
    bytes: HTTP_REQUEST_HEAD_BYTES_MAX,
};
/// For responses.
pub const RESPONSE: Limits = Limits {
    line_bytes: HTTP_STATUS_LINE_BYTES_MAX,
    bytes: HTTP_RESPONSE_HEAD_BYTES_MAX,
};

/// Looks for the end of a head in a growing buffer; sees every byte once.
#[derive(Debug, Default)]
pub struct Scan {
    start: usize,
    line: usize,
    at: usize,
    lines: usize,
}

impl Scan {
    /// Where the head lies once all of it is there; one empty line in front of
    /// it is passed over. `input` must begin with what the last call was given.
    pub fn end(&mut self, input: &[u8], limits: Limits) -> Result<Option<Range<usize>>, HeadError> {
        // Most bytes are told by their size alone.
        let stands_out = |byte: &u8| *byte <= b'\r' && matches!(byte, b'\r' | b'\n' | b'\0');
        while let Some(skip) = input[self.at..].iter().position(stands_out) {
            self.at += skip;
            self.check(limits)?;
            match input[self.at..] {
                [b'\r', b'\n', ..] => {}
                [b'\r'] => return Ok(None),
                _ => return Err(bad("a line end or NUL stands where none may")),
            }
            let empty = self.at == self.line;
            self.at += 2;
            self.line = self.at;
            match (empty, self.lines) {
                (true, 0) if self.start == 0 => self.start = self.at,
                (true, 0) => return Err(bad("there is no first line")),
                (true, _) => return Ok(Some(self.start..self.at)),
                (false, _) => self.lines += 1,
            }
        }
        self.at = input.len();
        self.check(limits)?;
        Ok(None)
    }

    /// Judges what is behind us by the limits.
    fn check(&self, limits: Limits) -> Result<(), HeadError> {
        if self.lines == 0 && self.at - self.line > limits.line_bytes {
            return Err(LINE_TOO_LONG);
        }
        if self.at - self.start > limits.bytes - 2 || self.lines > HTTP_FIELDS_MAX + 1 {
            return Err(FIELDS_TOO_LARGE);
        }
        Ok(())
    }
}

/// The field lines of a head that was accepted.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    /// The fields of a whole head: everything behind its first line.
    #[must_use]
    pub fn of(head: &'b [u8]) -> Fields<'b> {
        let first = head.iter().position(|byte| *byte == b'\n');
        Fields(&head[first.map_or(head.len(), |end| end + 1)..])
    }

    /// Field lines without a first line in front of them.
    #[must_use]
    pub fn lines(lines: &'b [u8]) -> Fields<'b> {
        Fields(lines)
    }

    /// The values of every field of this name.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.filter_map(move |(other, value)| eq(other, name).then_some(value))
    }

    /// The value of the first field of this name; none if it is not UTF-8.
    #[must_use]
    pub fn get(self, name: &str) -> Option<&'b str> {
        let first = self.all(name).next()?;
        str::from_utf8(first).ok()
    }
}

impl<'b> Iterator for Fields<'b> {
    type Item = (&'b [u8], &'b [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|byte| *byte == b'\r')?;
        let (line, rest) = (&self.0[..end], self.0.get(end + 2..).unwrap_or_default());
        self.0 = rest;
        let colon = line.iter().position(|byte| *byte == b':')?;
        Some((&line[..colon], line[colon + 1..].trim_ascii()))
    }
}

/// The first value of a field, and whether the field stands more than once.
#[derive(Debug, Clone, Copy, Default)]
struct Value<'b> {
    first: Option<&'b [u8]>,
    is_repeated: bool,
}

/// What the fields say of framing and connection, of one walk through them.
#[derive(Debug, Default)]
struct Said<'b> {
    host: Value<'b>,
    length: Value<'b>,
    coding: Value<'b>,
    expect: Value<'b>,
    upgrade: Value<'b>,
    /// What `Connection` lists.
    closes: bool,
    keeps: bool,
    upgrades: bool,
}

impl<'b> Said<'b> {
    fn of(head: &'b [u8]) -> Said<'b> {
        let mut said = Said::default();
        for (name, value) in Fields::of(head) {
            if eq(name, "connection") {
                for one in elements(value) {
                    said.closes |= eq(one, "close");
                    said.keeps |= eq(one, "keep-alive");
                    said.upgrades |= eq(one, "upgrade");
                }
            }
            // By its length, so that most are compared with none.
            let (known, place) = match name.len() {
                4 => ("host", &mut said.host),
                6 => ("expect", &mut said.expect),
                7 => ("upgrade", &mut said.upgrade),
                14 => ("content-length", &mut said.length),
                17 => ("transfer-encoding", &mut said.coding),
                _ => continue,
            };
            if eq(name, known) {
                place.is_repeated = place.first.is_some();
                place.first = place.first.or(Some(value));
            }
        }
        said
    }

    fn keeps_alive(&self, http10: bool) -> bool {
        !self.closes && (!http10 || self.keeps)
    }
}

/// The elements of a comma-separated list.
pub fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

/// Whether they are the same but for the case of letters.
#[must_use]
pub fn eq(value: &[u8], text: &str) -> bool {
    value.len() == text.len() && value.eq_ignore_ascii_case(text.as_bytes())
}

/// Whether this is a field's name: a token.
#[must_use]
pub fn is_token(name: &[u8]) -> bool {
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !name.is_empty() && name.iter().all(token)
}

/// Whether this may stand as a field's value.
#[must_use]
pub fn is_field_value(value: &[u8]) -> bool {
    let fits = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    value.iter().all(fits)
}

/// Appends a line to a head that is put together.
pub fn put_line(out: &mut Vec<u8>, line: fmt::Arguments<'_>) {
    // A `Vec` takes everything.
    let _ = out.write_fmt(line).and_then(|()| out.write_all(b"\r\n"));
}

/// Appends a field to a head that is put together.
pub fn put_field(out: &mut Vec<u8>, name: &str, value: impl fmt::Display) {
    put_line(out, format_args!("{name}: {value}"));
}

/// Appends what says where the body ends: its length, or that it comes in chunks.
pub fn put_framing(out: &mut Vec<u8>, length: Option<u64>) {
    match length {
        Some(length) => put_field(out, "Content-Length", length),
        None => put_field(out, "Transfer-Encoding", "chunked"),
    }
}

/// The value of the first of these fields that has this name.
#[must_use]
pub fn find<'f>(fields: &[(&str, &'f str)], name: &str) -> Option<&'f str> {
    let mut fields = fields.iter();
    let found = fields.find(|(other, _)| other.eq_ignore_ascii_case(name));
    found.map(|(_, value)| *value)
}

/// Whether these can stand in a head.
#[must_use]
pub fn are_fields(fields: &[(&str, &str)]) -> bool {
    let fits = |(name, value): &(&str, &str)| {
        is_token(name.as_bytes()) && is_field_value(value.as_bytes())
    };
    fields.iter().all(fits)
}

/// Whether this, without its line end, is a field line.
#[must_use]
pub fn is_field_line(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return false;
    };
    is_token(&line[..colon]) && is_field_value(&line[colon + 1..])
}

/// A request's meaning, as offsets into its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Range<usize>,
    /// The target's path, never empty; `*` of `OPTIONS *`.
    pub path: Range<usize>,
    /// What stands behind the target's `?`.
    pub query: Range<usize>,
    /// How the body is framed.
    pub body: Body,
    /// Spoken by a peer of HTTP/1.0: no chunks for it.
    pub http10: bool,
    /// Whether the peer would send another request.
    pub keep_alive: bool,
    /// Whether it waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// Whether it asks to leave HTTP.
    pub upgrade: bool,
}

/// Judges a whole request head, as found by [`Scan`].
pub fn request(head: &[u8]) -> Result<RequestHead, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; HTTP_FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    complete(parsed.parse_with_uninit_headers(head, &mut fields), head)?;
    let method = parsed.method.unwrap_or_default();
    let target = parsed.path.unwrap_or_default();
    let http10 = parsed.version == Some(0);
    let said = Said::of(head);
    let host = host(said.host, http10)?;
    // httparse takes exactly one space between the two.
    let target_at = method.len() + 1;
    let (path, query) = split_target(method, target, host)?;
    let shift = |range: Range<usize>| target_at + range.start..target_at + range.end;
    let body = request_body(&said, http10)?;
    Ok(RequestHead {
        method: 0..method.len(),
        path: shift(path),
        query: shift(query),
        body,
        http10,
        keep_alive: said.keeps_alive(http10),
        expects_continue: expects_continue(said.expect)? && !http10 && !body.is_over(),
        upgrade: !http10
            && said.upgrades
            && said
                .upgrade
                .first
                .is_some_and(|to| str::from_utf8(to).is_ok()),
    })
}

fn complete(parsed: httparse::Result<usize>, head: &[u8]) -> Result<(), HeadError> {
    match parsed {
        Ok(httparse::Status::Complete(used)) if used == head.len() => Ok(()),
        Err(httparse::Error::TooManyHeaders) => Err(FIELDS_TOO_LARGE),
        Err(httparse::Error::Version) if names_version(head) => Err(VERSION),
        Err(httparse::Error::HeaderName) => Err(bad("a field name is malformed")),
        Err(httparse::Error::HeaderValue) => Err(bad("a field value is malformed")),
        _ => Err(bad("the first line is malformed")),
    }
}

/// Whether the first line names a version of HTTP, if not one of ours.
fn names_version(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.split(|byte| *byte == b' ').any(|word| match word {
        b"HTTP/1.0" | b"HTTP/1.1" => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => {
            major.is_ascii_digit() && minor.is_ascii_digit()
        }
        _ => false,
    })
}

/// The one `Host`; HTTP/1.0 may do without.
fn host(said: Value<'_>, http10: bool) -> Result<Option<&[u8]>, HeadError> {
    let host = said.first;
    if said.is_repeated || host.is_none() && !http10 {
        return Err(bad("exactly one Host is needed"));
    }
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    if !host.unwrap_or_default().iter().all(fits) {
        return Err(bad("Host is malformed"));
    }
    Ok(host)
}

/// Path and query within a target of the origin, the absolute or the `*` form.
fn split_target(
    method: &str,
    target: &str,
    host: Option<&[u8]>,
) -> Result<(Range<usize>, Range<usize>), HeadError> {
    const ABSOLUTE: &str = "http://";
    if method == "CONNECT" {
        return Err(NOT_IMPLEMENTED);
    }
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    if !target.bytes().all(fits) {
        return Err(bad("the target holds what none may"));
    }
    if target == "*" && method == "OPTIONS" {
        return Ok((0..1, 1..1));
    }
    let start = target.get(..ABSOLUTE.len()).unwrap_or_default();
    let mut path = 0;
    if start.eq_ignore_ascii_case(ABSOLUTE) {
        let authority = &target[ABSOLUTE.len()..];
        let authority = &authority[..authority.find(['/', '?']).unwrap_or(authority.len())];
        if authority.is_empty() || !host.is_none_or(|host| eq(host, authority)) {
            return Err(bad("target and Host name two hosts"));
        }
        path = ABSOLUTE.len() + authority.len();
    } else if !target.starts_with('/') {
        return Err(bad("the target has no known form"));
    }
    let len = target.len();
    let mark = target[path..].find('?').map_or(len, |mark| path + mark);
    let query = (mark + 1).min(len)..len;
    if mark == path {
        // An absolute target without a path means `/`: the last slash of `http://`.
        return Ok((ABSOLUTE.len() - 1..ABSOLUTE.len(), query));
    }
    Ok((path..mark, query))
}

fn request_body(said: &Said<'_>, http10: bool) -> Result<Body, HeadError> {
    match (said.length.first, said.coding.first) {
        (None, None) => Ok(Body::None),
        // Two equal lengths are refused as well: no peer of ours sends them.
        (Some(value), None) if !said.length.is_repeated => decimal(value).map(Body::length),
        (Some(_), None) => Err(bad("Content-Length stands twice")),
        (Some(_), Some(_)) => Err(bad(
            "Content-Length and Transfer-Encoding exclude each other",
        )),
        (None, Some(_)) if http10 || said.coding.is_repeated => {
            Err(bad("Transfer-Encoding stands twice, or in HTTP/1.0"))
        }
        (None, Some(coding)) if eq(coding, "chunked") => Ok(Body::chunked()),
        (None, Some(coding)) if elements(coding).all(is_token) => Err(NOT_IMPLEMENTED),
        (None, Some(_)) => Err(bad("Transfer-Encoding is malformed")),
    }
}

/// Digits only. `str::parse` would also take a leading `+`.
pub fn decimal(value: &[u8]) -> Result<u64, HeadError> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(bad("Content-Length is not a number"));
    }
    let digits = value.iter().map(|digit| u64::from(digit - b'0'));
    Ok(digits.fold(0, |number, digit| number * 10 + digit))
}

fn expects_continue(said: Value<'_>) -> Result<bool, HeadError> {
    match said.first {
        None => Ok(false),
        Some(one) if !said.is_repeated && eq(one, "100-continue") => Ok(true),
        _ => Err(EXPECTATION),
    }
}

/// A response's meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseHead {
    /// 100 to 599.
    pub status: u16,
    /// How the body is framed.
    pub body: Body,
    /// Whether the connection may be used again behind the body.
    pub keep_alive: bool,
}

/// Judges a whole response head; `to_head` when it answers a `HEAD`.
pub fn response(head: &[u8], to_head: bool) -> Result<ResponseHead, HeadError> {
    let mut fields = [const { MaybeUninit::uninit() }; HTTP_FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let found = config.parse_response_with_uninit_headers(&mut parsed, head, &mut fields);
    complete(found, head)?;
    let http10 = parsed.version == Some(0);
    let status = parsed.code.unwrap_or_default();
    if !(100..=599).contains(&status) {
        return Err(bad("the status is not one of HTTP"));
    }
    let said = Said::of(head);
    let (mut body, sure) = response_body(head, &said, http10)?;
    if to_head || status < 200 || matches!(status, 204 | 304) {
        body = Body::None;
    }
    let keep_alive = sure && body != Body::UntilClose && said.keeps_alive(http10);
    Ok(ResponseHead {
        status,
        body,
        keep_alive,
    })
}

/// The declared framing, and whether it leaves no doubt (R-HTTP-1).
fn response_body(head: &[u8], said: &Said<'_>, http10: bool) -> Result<(Body, bool), HeadError> {
    let mut length = None;
    let more = said.length.is_repeated.then(|| Fields::of(head));
    let more = more
        .into_iter()
        .flat_map(|fields| fields.all("content-length"));
    for value in said.length.first.into_iter().chain(more).flat_map(elements) {
        let value = decimal(value)?;
        if length.replace(value).is_some_and(|other| other != value) {
            return Err(bad("Content-Length contradicts itself"));
        }
    }
    match said.coding.first {
        None => Ok((length.map_or(Body::UntilClose, Body::length), true)),
        Some(coding) if !said.coding.is_repeated && eq(coding, "chunked") => {
            Ok((Body::chunked(), length.is_none() && !http10))
        }
        _ => Err(bad("Transfer-Encoding is not chunked")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bytes mean when they arrive in pieces.
    fn scan(input: &[u8], piece: usize, limits: Limits) -> Result<Option<&[u8]>, HeadError> {
        let mut scan = Scan::default();
        let mut end = 0;
        while end < input.len() {
            end = input.len().min(end + piece);
            if let Some(head) = scan.end(&input[..end], limits)? {
                return Ok(Some(&input[head]));
            }
        }
        Ok(None)
    }

    /// The meaning of a request in one line.
    fn show(input: &[u8], piece: usize) -> String {
        let head = match scan(input, piece, REQUEST) {
            Ok(Some(head)) => head,
            Ok(None) => return "more".into(),
            Err(err) => return err.status.to_string(),
        };
        let request = match request(head) {
            Ok(request) => request,
            Err(err) => return err.status.to_string(),
        };
        let text = |range: Range<usize>| String::from_utf8_lossy(&head[range]).into_owned();
        let body = match request.body {
            Body::None => "-".into(),
            Body::Length(len) => len.to_string(),
            Body::Size => "chunked".into(),
            Body::UntilClose => "close".into(),
            inside => format!("{inside:?}"),
        };
        let flags = [
            (request.http10, " 1.0"),
            (!request.keep_alive, " close"),
            (request.expects_continue, " expects"),
            (request.upgrade, " upgrade"),
        ];
        let flags: String = flags
            .iter()
            .filter(|(set, _)| *set)
            .map(|(_, flag)| *flag)
            .collect();
        let [method, path, query] = [request.method, request.path, request.query].map(text);
        format!("{method} {path} {query} {body}{flags}")
    }

    #[test]
    fn requests() {
        let get = |rest: &str| format!("GET / HTTP/1.1\r\nHost: h\r\n{rest}\r\n");
        let post = |rest: &str| format!("POST /p HTTP/1.1\r\nHost: h\r\n{rest}\r\n");
        let line = |line: &str| format!("{line}\r\nHost: h\r\n\r\n");
        #[rustfmt::skip]
        let cases: Vec<(&str, String, &str)> = vec![
            ("simple", get(""), "GET /  -"),
            ("query", line("GET /a/b?c=d?e HTTP/1.1"), "GET /a/b c=d?e -"),
            ("empty query", line("GET /a? HTTP/1.1"), "GET /a  -"),
            ("escapes stay", line("GET /a%20b?%41 HTTP/1.1"), "GET /a%20b %41 -"),
            ("double slash", line("GET //h/x HTTP/1.1"), "GET //h/x  -"),
            ("empty line in front", format!("\r\n{}", get("")), "GET /  -"),
            ("two empty lines", format!("\r\n\r\n{}", get("")), "400"),
            ("absolute", line("GET http://h/a?b HTTP/1.1"), "GET /a b -"),
            ("absolute, case", line("GET HTTP://H/a HTTP/1.1"), "GET /a  -"),
            ("absolute, no path", line("GET http://h HTTP/1.1"), "GET /  -"),
            ("absolute, only query", line("GET http://h?q HTTP/1.1"), "GET / q -"),
            ("absolute, 1.0 without Host", "GET http://h/a HTTP/1.0\r\n\r\n".into(), "GET /a  - 1.0 close"),
            ("absolute, other Host", line("GET http://evil/a HTTP/1.1"), "400"),
            ("absolute, userinfo", line("GET http://x@h/a HTTP/1.1"), "400"),
            ("absolute, no host", line("GET http:///a HTTP/1.1"), "400"),
            ("absolute, https", line("GET https://h/a HTTP/1.1"), "400"),
            ("absolute, ftp", line("GET ftp://h/a HTTP/1.1"), "400"),
            ("options", line("OPTIONS * HTTP/1.1"), "OPTIONS *  -"),
            ("star for GET", line("GET * HTTP/1.1"), "400"),
            ("connect", line("CONNECT h:443 HTTP/1.1"), "501"),
            ("no slash", line("GET a HTTP/1.1"), "400"),
            ("authority", line("GET h:80 HTTP/1.1"), "400"),
            ("fragment", line("GET /a#b HTTP/1.1"), "400"),
            ("8-bit target", line("GET /\u{e9} HTTP/1.1"), "400"),
            ("own method", line("PURGE / HTTP/1.1"), "PURGE /  -"),
            ("lower-case method", line("get / HTTP/1.1"), "get /  -"),
            ("method with bracket", line("GE(T / HTTP/1.1"), "400"),
            ("space in front", line(" GET / HTTP/1.1"), "400"),
            ("two spaces", line("GET  / HTTP/1.1"), "400"),
            ("two spaces before version", line("GET /  HTTP/1.1"), "400"),
            ("tab for space", line("GET\t/ HTTP/1.1"), "400"),
            ("space behind version", line("GET / HTTP/1.1 "), "400"),
            ("space in target", line("GET /a b HTTP/1.1"), "400"),
            ("no version", line("GET /"), "400"),
            ("no target", line("GET HTTP/1.1"), "400"),
            ("version 0.9", line("GET / HTTP/0.9"), "505"),
            ("version 1.2", line("GET / HTTP/1.2"), "505"),
            ("version 2.0", line("GET / HTTP/2.0"), "505"),
            ("the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "505"),
            ("version 1.10", line("GET / HTTP/1.10"), "400"),
            ("version in lower case", line("GET / http/1.1"), "400"),
            ("other protocol", line("GET / RTSP/1.0"), "400"),
            ("a TLS hello", "\u{16}\u{3}\u{1}\u{2}\u{0}".into(), "400"),
            ("a TLS hello without NUL", "\u{16}\u{3}\u{1}\r\n\r\n".into(), "400"),
            ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), "400"),
            ("no Host in 1.0", "GET / HTTP/1.0\r\n\r\n".into(), "GET /  - 1.0 close"),
            ("two Hosts", get("Host: h\r\n"), "400"),
            ("two Hosts in case", get("hOST: h\r\n"), "400"),
            ("two Hosts in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n".into(), "400"),
            ("empty Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(), "GET /  -"),
            ("Host with port", "GET / HTTP/1.1\r\nHost: h:80\r\n\r\n".into(), "GET /  -"),
            ("Host of IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n".into(), "GET /  -"),
            ("Host with path", "GET / HTTP/1.1\r\nHost: h/x\r\n\r\n".into(), "400"),
            ("Host with user", "GET / HTTP/1.1\r\nHost: u@h\r\n\r\n".into(), "400"),
            ("Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".into(), "400"),
            ("Host with space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), "400"),
            ("Host in 8 bits", "GET / HTTP/1.1\r\nHost: h\u{e9}\r\n\r\n".into(), "400"),
            ("1.0 keeps alive if asked", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n".into(), "GET /  - 1.0"),
            ("close", get("Connection: close\r\n"), "GET /  - close"),
            ("close in a list", get("Connection: te , CLOSE\r\n"), "GET /  - close"),
            ("close in a second line", get("Connection: te\r\nConnection: close\r\n"), "GET /  - close"),
            ("close beats keep-alive", get("Connection: keep-alive, close\r\n"), "GET /  - close"),
            ("upgrade", get("Connection: Upgrade\r\nUpgrade: x\r\n"), "GET /  - upgrade"),
            ("upgrade without protocol", get("Connection: Upgrade\r\n"), "GET /  -"),
            ("upgrade without connection", get("Upgrade: x\r\n"), "GET /  -"),
            ("length", post("Content-Length: 5\r\n"), "POST /p  5"),
            ("length without space", post("Content-Length:5\r\n"), "POST /p  5"),
            ("length with space behind", post("Content-Length: 5 \t\r\n"), "POST /p  5"),
            ("length 0", post("Content-Length: 0\r\n"), "POST /p  -"),
            ("length 007", post("Content-Length: 007\r\n"), "POST /p  7"),
            ("length with a GET", get("Content-Length: 5\r\n"), "GET /  5"),
            ("length +5", post("Content-Length: +5\r\n"), "400"),
            ("length -5", post("Content-Length: -5\r\n"), "400"),
            ("length 0x5", post("Content-Length: 0x5\r\n"), "400"),
            ("length 5.0", post("Content-Length: 5.0\r\n"), "400"),
            ("length 1e3", post("Content-Length: 1e3\r\n"), "400"),
            ("length 1_0", post("Content-Length: 1_0\r\n"), "400"),
            ("length 5 5", post("Content-Length: 5 5\r\n"), "400"),
            ("length 5, 5", post("Content-Length: 5, 5\r\n"), "400"),
            ("length 5, 6", post("Content-Length: 5, 6\r\n"), "400"),
            ("length empty", post("Content-Length:\r\n"), "400"),
            ("length quoted", post("Content-Length: \"5\"\r\n"), "400"),
            ("length in other digits", post("Content-Length: \u{665}\r\n"), "400"),
            ("length of 19 digits", post("Content-Length: 9223372036854775807\r\n"), "POST /p  9223372036854775807"),
            ("length of 20 digits", post("Content-Length: 18446744073709551616\r\n"), "400"),
            ("length 10^30", post("Content-Length: 1000000000000000000000000000000\r\n"), "400"),
            ("lengths, equal", post("Content-Length: 5\r\nContent-Length: 5\r\n"), "400"),
            ("lengths, different", post("Content-Length: 5\r\nContent-Length: 6\r\n"), "400"),
            ("lengths, case", post("Content-Length: 5\r\ncontent-length: 6\r\n"), "400"),
            ("chunked", post("Transfer-Encoding: chunked\r\n"), "POST /p  chunked"),
            ("chunked in case", post("transfer-encoding: Chunked\r\n"), "POST /p  chunked"),
            ("chunked and length", post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "400"),
            ("length and chunked", post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "400"),
            ("chunked twice", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), "400"),
            ("chunked, then identity", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"), "400"),
            ("chunked in 1.0", "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".into(), "400"),
            ("identity", post("Transfer-Encoding: identity\r\n"), "501"),
            ("gzip", post("Transfer-Encoding: gzip\r\n"), "501"),
            ("gzip, chunked", post("Transfer-Encoding: gzip, chunked\r\n"), "501"),
            ("chunked, chunked", post("Transfer-Encoding: chunked, chunked\r\n"), "501"),
            ("chunked, identity", post("Transfer-Encoding: chunked, identity\r\n"), "501"),
            ("xchunked", post("Transfer-Encoding: xchunked\r\n"), "501"),
            ("chunked;q", post("Transfer-Encoding: chunked;q=1\r\n"), "400"),
            ("chunked quoted", post("Transfer-Encoding: \"chunked\"\r\n"), "400"),
            ("chunked, empty", post("Transfer-Encoding: chunked,\r\n"), "400"),
            ("chunked behind vertical tab", post("Transfer-Encoding: \u{b}chunked\r\n"), "400"),
            ("chunked behind 8-bit space", post("Transfer-Encoding: \u{a0}chunked\r\n"), "400"),
            ("no coding", post("Transfer-Encoding:\r\n"), "400"),
            ("space before colon", post("Transfer-Encoding : chunked\r\n"), "400"),
            ("tab before colon", post("Transfer-Encoding\t: chunked\r\n"), "400"),
            ("length, space before colon", post("Content-Length : 5\r\n"), "400"),
            ("space before name", post(" Transfer-Encoding: chunked\r\n"), "400"),
            ("folded", post("X: y\r\n\tTransfer-Encoding: chunked\r\n"), "400"),
            ("folded value", post("Transfer-Encoding:\r\n chunked\r\n"), "400"),
            ("fold first", "GET / HTTP/1.1\r\n X: y\r\nHost: h\r\n\r\n".into(), "400"),
            ("name with NUL", post("Transfer-Encoding\0: chunked\r\n"), "400"),
            ("value with NUL", post("X: a\0b\r\n"), "400"),
            ("value with DEL", post("X: a\u{7f}b\r\n"), "400"),
            ("value with escape", post("X: a\u{1b}b\r\n"), "400"),
            ("value with tab", get("X: a\tb\r\n"), "GET /  -"),
            ("value in 8 bits", get("X: \u{e9}\r\n"), "GET /  -"),
            ("name in 8 bits", get("\u{e9}: x\r\n"), "400"),
            ("name with quotes", get("\"X\": x\r\n"), "400"),
            ("no name", get(": x\r\n"), "400"),
            ("no colon", get("X\r\n"), "400"),
            ("underscore in name", get("Content_Length: 5\r\n"), "GET /  -"),
            ("bare LF", "GET / HTTP/1.1\nHost: h\n\n".into(), "400"),
            ("bare LF in fields", get("X: y\nTransfer-Encoding: chunked\r\n"), "400"),
            ("bare LF at the end", "GET / HTTP/1.1\r\nHost: h\r\n\n".into(), "400"),
            ("bare CR", get("X: y\rTransfer-Encoding: chunked\r\n"), "400"),
            ("bare CR in line", line("GET /\r HTTP/1.1"), "400"),
            ("CR CR LF", get("X: y\r\r\n"), "400"),
            ("expects", post("Content-Length: 5\r\nExpect: 100-Continue\r\n"), "POST /p  5 expects"),
            ("expects without body", post("Expect: 100-continue\r\n"), "POST /p  -"),
            ("expects in 1.0", "POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n".into(), "POST /  5 1.0 close"),
            ("expects other", post("Expect: 200-ok\r\n"), "417"),
            ("expects twice", post("Expect: 100-continue\r\nExpect: 100-continue\r\n"), "417"),
            ("no end", "GET / HTTP/1.1\r\nHost: h\r\n".into(), "more"),
            ("half an end", "GET / HTTP/1.1\r\nHost: h\r\n\r".into(), "more"),
            ("nothing", "\r".into(), "more"),
            ("100 fields", get(&"X: y\r\n".repeat(99)), "GET /  -"),
            ("101 fields", get(&"X: y\r\n".repeat(100)), "431"),
            ("endless fields", format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(200)), "431"),
            ("long line", line(&format!("GET /{} HTTP/1.1", "a".repeat(8192))), "414"),
            ("long line that fits", line(&format!("GET /{} HTTP/1.1", "a".repeat(8192 - 14))), &"a"[1..]),
            ("endless line", "a".repeat(9000), "414"),
            ("NUL behind an endless line", format!("{}\0", "a".repeat(8193)), "414"),
            ("long field", get(&format!("X: {}\r\n", "a".repeat(16 * 1024))), "431"),
            ("endless field", format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(17000)), "431"),
        ];
        for (what, input, want) in &cases {
            let whole = show(input.as_bytes(), input.len());
            assert!(whole.starts_with(want), "{what}: {whole} instead of {want}");
            for piece in (1..input.len()).filter(|piece| input.len() < 999 || *piece % 997 == 1) {
                assert_eq!(show(input.as_bytes(), piece), whole, "{what} by {piece}");
            }
        }
    }

    #[test]
    fn responses() {
        let ok = |rest: &str| format!("HTTP/1.1 200 OK\r\n{rest}\r\n");
        let kept = |body| Ok((200, body, true));
        let once = |body| Ok((200, body, false));
        let bad = Err(400);
        #[rustfmt::skip]
        let cases: Vec<(&str, String, Result<(u16, Body, bool), u16>)> = vec![
            ("length", ok("Content-Length: 5\r\n"), kept(Body::Length(5))),
            ("equal lengths", ok("Content-Length: 5\r\nContent-Length: 5\r\n"), kept(Body::Length(5))),
            ("equal lengths in a list", ok("Content-Length: 5, 5\r\n"), kept(Body::Length(5))),
            ("different lengths", ok("Content-Length: 5\r\nContent-Length: 6\r\n"), bad),
            ("different lengths in a list", ok("Content-Length: 5, 6\r\n"), bad),
            ("negative length", ok("Content-Length: -1\r\n"), bad),
            ("signed length", ok("Content-Length: +5\r\n"), bad),
            ("hex length", ok("Content-Length: 0x10\r\n"), bad),
            ("empty length", ok("Content-Length:\r\n"), bad),
            ("huge length", ok("Content-Length: 1000000000000000000000000000000\r\n"), bad),
            ("chunked", ok("Transfer-Encoding: chunked\r\n"), kept(Body::chunked())),
            ("chunked beats length", ok("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), once(Body::chunked())),
            ("chunked and bad length", ok("Transfer-Encoding: chunked\r\nContent-Length: x\r\n"), bad),
            ("chunked twice", ok("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), bad),
            ("gzip coding", ok("Transfer-Encoding: gzip, chunked\r\n"), bad),
            ("until close", ok(""), once(Body::UntilClose)),
            ("close", ok("Content-Length: 5\r\nConnection: close\r\n"), once(Body::Length(5))),
            ("1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n".into(), once(Body::Length(5))),
            ("1.0 keep-alive", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n".into(), kept(Body::Length(5))),
            ("1.0 chunked", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n".into(), once(Body::chunked())),
            ("204", "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n".into(), Ok((204, Body::None, true))),
            ("304", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n".into(), Ok((304, Body::None, true))),
            ("100", "HTTP/1.1 100 Continue\r\n\r\n".into(), Ok((100, Body::None, true))),
            ("no reason", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n".into(), kept(Body::None)),
            ("no reason, no space", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n".into(), kept(Body::None)),
            ("reason in 8 bits", "HTTP/1.1 200 \u{e9}\r\nContent-Length: 0\r\n\r\n".into(), kept(Body::None)),
            ("empty line in front", format!("\r\n{}", ok("Content-Length: 5\r\n")), kept(Body::Length(5))),
            ("no version", "200 OK\r\n\r\n".into(), bad),
            ("version 2.0", "HTTP/2.0 200 OK\r\n\r\n".into(), Err(505)),
            ("short status", "HTTP/1.1 20\r\n\r\n".into(), bad),
            ("long status", "HTTP/1.1 2000 OK\r\n\r\n".into(), bad),
            ("status 099", "HTTP/1.1 099 OK\r\n\r\n".into(), bad),
            ("status 600", "HTTP/1.1 600 OK\r\n\r\n".into(), bad),
            ("signed status", "HTTP/1.1 +20 OK\r\n\r\n".into(), bad),
            ("folded", ok("X: y\r\n z\r\n"), bad),
            ("bare LF", "HTTP/1.1 200 OK\nContent-Length: 5\n\n".into(), bad),
            ("NUL", ok("X: \0\r\n"), bad),
            ("8 bits", ok("X: \u{e9}\r\nContent-Length: 0\r\n"), kept(Body::None)),
            ("space before colon", ok("Content-Length : 5\r\n"), bad),
            ("many fields", ok(&"X: y\r\n".repeat(101)), Err(431)),
            ("a large field", ok(&format!("X: {}\r\n", "y".repeat(64 * 1024))), Err(431)),
            ("an endless line", "H".repeat(17000), Err(414)),
            ("TLS alert", "\u{15}\u{3}\u{1}\r\n\r\n".into(), bad),
        ];
        let show = |input: &[u8], piece| match scan(input, piece, RESPONSE) {
            Ok(Some(head)) => response(head, false)
                .map(|head| (head.status, head.body, head.keep_alive))
                .map_err(|err| err.status),
            Ok(None) => Err(0),
            Err(err) => Err(err.status),
        };
        for (what, input, want) in cases {
            for piece in (1..=input.len()).filter(|piece| input.len() < 999 || *piece % 4999 == 1) {
                assert_eq!(show(input.as_bytes(), piece), want, "{what} by {piece}");
            }
        }
        let head = response(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).unwrap();
        assert_eq!(head.body, Body::None, "to a HEAD");
    }

    #[test]
    fn fields_are_found_whatever_their_case() {
        let fields =
            Fields::of(b"GET / HTTP/1.1\r\nA: 1\r\nb:  two \r\na: 3\r\nC:\r\nL: x, Y\r\n\r\n");
        assert_eq!(fields.get("a"), Some("1"));
        assert_eq!(fields.get("B"), Some("two"));
        assert_eq!(fields.get("c"), Some(""));
        assert_eq!(fields.get("d"), None);
        assert_eq!(fields.all("A").count(), 2);
        let listed: Vec<_> = fields.all("l").flat_map(elements).collect();
        assert_eq!(listed, [b"x", b"Y"]);
        assert_eq!(fields.count(), 5);
    }
}
