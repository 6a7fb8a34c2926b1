//! One exchange at a time, with time limits and a small pool (R-HTTP-1 to R-HTTP-10).

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::Body;
use super::conn::{Conn, ConnError, Sent, Watch};
use super::head::{self, Fields, RESPONSE, is_field_value, is_token, put_line};
use super::pool::Pool;
pub use super::stream::Endpoint;
use super::stream::Stream;
pub use super::{Error, ErrorKind};
use crate::limits::{HTTP_DRAIN_BYTES_MAX, HTTP_INTERIM_MAX, HTTP_POOL_IDLE};

const USER_AGENT: &str = concat!("helios/", env!("CARGO_PKG_VERSION"));

/// How long each part of an exchange may take (R-HTTP-3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// To find the address, connect and agree on TLS.
    pub connect: Duration,
    /// From the request's end to the response's head; also every write.
    pub head: Duration,
    /// Between two pieces of the response's body.
    pub idle: Duration,
    /// All of it, body included.
    pub total: Option<Duration>,
}

/// A request.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Beside `Host`, `User-Agent`, `Content-Length` and `Connection`, which
    /// the client adds where they are not given.
    pub headers: &'a [(&'a str, &'a str)],
    /// The body.
    pub body: Option<&'a [u8]>,
    /// Instead of the client's own.
    pub timeouts: Option<Timeouts>,
}

/// A client of one server. Shared by reference; every exchange in flight has a
/// connection of its own.
#[derive(Debug)]
pub struct Client {
    server: Arc<Server>,
    timeouts: Timeouts,
}

#[derive(Debug)]
struct Server {
    endpoint: Endpoint,
    /// For `Host`.
    authority: String,
    pool: Arc<Pool>,
}

impl Client {
    /// A client that opens its first connection when it is first used.
    #[must_use]
    pub fn new(endpoint: Endpoint, timeouts: Timeouts) -> Client {
        let authority = endpoint.authority();
        Client {
            server: Arc::new(Server {
                endpoint,
                authority,
                pool: Arc::default(),
            }),
            timeouts,
        }
    }

    /// Sends a request and waits for the response's head.
    ///
    /// To give up, drop the future: the connection is closed with it.
    pub async fn send(&self, request: Request<'_>) -> Result<Response, Error> {
        let timeouts = request
            .timeouts
            .clone()
            .unwrap_or_else(|| self.timeouts.clone());
        let end = timeouts.total.map(|total| Instant::now() + total);
        let exchange = Exchange {
            server: &self.server,
            request: &request,
            timeouts,
            end,
        };
        exchange.check()?;
        if let Some(conn) = self.server.pool.take() {
            match exchange.run(conn).await {
                Err(Failed { stale: true, .. }) => {}
                result => return result.map_err(|failed| failed.error),
            }
        }
        let conn = exchange.connect().await?;
        exchange.run(conn).await.map_err(|failed| failed.error)
    }
}

/// One request on its way.
struct Exchange<'r> {
    server: &'r Arc<Server>,
    request: &'r Request<'r>,
    timeouts: Timeouts,
    end: Option<Instant>,
}

/// An exchange that failed; `stale` when the reason can only be that a pooled
/// connection had died, and it is safe to try another (R-HTTP-6).
struct Failed {
    error: Error,
    stale: bool,
}

impl Exchange<'_> {
    /// Refuses what would not be one HTTP message.
    fn check(&self) -> Result<(), Error> {
        let Request {
            method,
            target,
            headers,
            ..
        } = self.request;
        let target_fits = target.starts_with('/') || *target == "*";
        let fields_fit = headers
            .iter()
            .all(|(name, value)| is_token(name.as_bytes()) && is_field_value(value.as_bytes()));
        let framing = ["content-length", "transfer-encoding"];
        let own_framing = headers
            .iter()
            .any(|(name, _)| framing.iter().any(|one| name.eq_ignore_ascii_case(one)));
        let what = match () {
            () if !is_token(method.as_bytes()) => "its method",
            () if !target_fits || !target.bytes().all(|b| b.is_ascii_graphic() && b != b'#') => {
                "its target"
            }
            () if !fields_fit => "a header field",
            () if own_framing => "a framing of its own",
            () => return Ok(()),
        };
        Err(Error::new(
            ErrorKind::Invalid,
            format!("the request cannot be sent: {what}"),
        ))
    }

    async fn connect(&self) -> Result<Conn<Stream>, Error> {
        let endpoint = &self.server.endpoint;
        let deadline = self.deadline(self.timeouts.connect);
        match Watch::default().until(deadline, endpoint.connect()).await {
            Some(stream) => Ok(Conn::new(stream?)),
            None => Err(Error::new(
                ErrorKind::Timeout,
                format!("cannot connect to {}: it takes too long", endpoint.name()),
            )),
        }
    }

    async fn run(&self, mut conn: Conn<Stream>) -> Result<Response, Failed> {
        self.write_head(&mut conn.out);
        let body = self.request.body.unwrap_or_default();
        let limit = self
            .deadline(self.timeouts.head)
            .saturating_duration_since(Instant::now());
        let sent = conn.send_until_answered(body, limit).await;
        let sent = sent.map_err(|err| self.failed(err, false))?;
        if sent == Sent::Nothing {
            return Err(self.failed(ConnError::CutShort, true));
        }
        let repeatable = matches!(self.request.method, "GET" | "HEAD" | "OPTIONS");
        match conn.first_byte(self.deadline(self.timeouts.head)).await {
            Ok(true) => {}
            Ok(false) => return Err(self.failed(ConnError::CutShort, repeatable)),
            Err(ConnError::Timeout) => return Err(self.failed(ConnError::Timeout, false)),
            Err(err) => return Err(self.failed(err, repeatable)),
        }
        self.response(conn, sent)
            .await
            .map_err(|err| self.failed(err, false))
    }

    /// Reads heads until the one that counts.
    async fn response(&self, mut conn: Conn<Stream>, sent: Sent) -> Result<Response, ConnError> {
        for _ in 0..=HTTP_INTERIM_MAX {
            conn.read_head(RESPONSE, self.deadline(self.timeouts.head))
                .await?;
            let head = head::response(conn.head(), self.request.method == "HEAD")?;
            match head.status {
                101 => return Err(head::HeadError::Bad("it switches protocols unasked").into()),
                100..200 => continue,
                _ => {}
            }
            conn.body = head.body;
            let keep = head.keep_alive && sent == Sent::All;
            return Ok(Response {
                status: head.status,
                keep: keep.then(|| keep_for(Fields::of(conn.head()))),
                conn: Some(conn),
                piece: 0..0,
                head: Vec::new(),
                server: Arc::clone(self.server),
                idle: self.timeouts.idle,
                end: self.end,
            });
        }
        Err(head::HeadError::Bad("it sends too many interim responses").into())
    }

    fn write_head(&self, out: &mut Vec<u8>) {
        let Request {
            method,
            target,
            headers,
            body,
            ..
        } = self.request;
        out.clear();
        let given = |name: &str| {
            headers
                .iter()
                .any(|(other, _)| other.eq_ignore_ascii_case(name))
        };
        put_line(out, &[method, " ", target, " HTTP/1.1"]);
        if !given("host") {
            put_line(out, &["Host: ", &self.server.authority]);
        }
        if !given("user-agent") {
            put_line(out, &["User-Agent: ", USER_AGENT]);
        }
        // A length of 0 is said where a body would be usual.
        if body.is_some() || matches!(*method, "POST" | "PUT" | "PATCH") {
            let length = body.unwrap_or_default().len().to_string();
            put_line(out, &["Content-Length: ", &length]);
        }
        for (name, value) in *headers {
            put_line(out, &[name, ": ", value]);
        }
        put_line(out, &[]);
    }

    /// So long from now, or the end of the whole exchange.
    fn deadline(&self, limit: Duration) -> Instant {
        deadline(limit, self.end)
    }

    fn failed(&self, err: ConnError, stale: bool) -> Failed {
        Failed {
            error: self.server.error(err),
            stale,
        }
    }
}

fn deadline(limit: Duration, end: Option<Instant>) -> Instant {
    let deadline = Instant::now() + limit;
    end.map_or(deadline, |end| end.min(deadline))
}

/// How long the server lets us keep the connection: a second less than its
/// hint, for the way there.
fn keep_for(fields: Fields<'_>) -> Duration {
    let hint = fields
        .all("keep-alive")
        .flat_map(|value| value.split(|byte| *byte == b','));
    let hint = hint
        .filter_map(|one| {
            str::from_utf8(one.trim_ascii())
                .ok()?
                .strip_prefix("timeout=")?
                .parse()
                .ok()
        })
        .map(|secs: u32| Duration::from_secs(u64::from(secs.saturating_sub(1))))
        .min();
    hint.map_or(HTTP_POOL_IDLE, |hint| hint.min(HTTP_POOL_IDLE))
}

impl Server {
    fn error(&self, err: ConnError) -> Error {
        let name = self.endpoint.name();
        let (kind, text) = match err {
            ConnError::Timeout => (
                ErrorKind::Timeout,
                format!("{name} says nothing for too long"),
            ),
            ConnError::CutShort => (
                ErrorKind::Closed,
                format!("{name} closed the connection too early"),
            ),
            ConnError::Framing => (
                ErrorKind::BadMessage,
                format!("{name} sent a broken chunked body"),
            ),
            ConnError::Head(head::HeadError::LineTooLong | head::HeadError::FieldsTooLarge) => {
                (ErrorKind::TooLarge, format!("{name} sent too large a head"))
            }
            ConnError::Head(err) => (
                ErrorKind::BadMessage,
                format!("{name} sent no proper response: {}", err.reason()),
            ),
            ConnError::Io(err) if err.kind() == io::ErrorKind::InvalidData => (
                ErrorKind::Tls,
                format!("the secure connection to {name} broke: {err}"),
            ),
            ConnError::Io(err) => (
                ErrorKind::Closed,
                format!("the connection to {name} broke: {err}"),
            ),
        };
        Error::new(kind, text)
    }
}

/// A response, whose body is still to be read.
///
/// It owns the connection until its body has been read to the end; then the
/// connection goes back to the pool. Dropped earlier, the connection is closed.
#[derive(Debug)]
pub struct Response {
    status: u16,
    /// For how long the connection may be kept behind the body, if at all.
    keep: Option<Duration>,
    conn: Option<Conn<Stream>>,
    /// Where in the connection's bytes the piece of the body lies that has not
    /// been handed out yet.
    piece: Range<usize>,
    /// The head, once the connection is given back.
    head: Vec<u8>,
    server: Arc<Server>,
    idle: Duration,
    end: Option<Instant>,
}

impl Response {
    /// The status, 200 to 599.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first field of this name; none if it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().get(name)
    }

    /// All header fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(self.conn.as_ref().map_or(&self.head, |conn| conn.head()))
    }

    /// The next piece of the body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        if !self.more().await? {
            return Ok(None);
        }
        let piece = mem::take(&mut self.piece);
        Ok(self.conn.as_ref().map(|conn| conn.bytes(piece)))
    }

    /// The next line of the body, without its end, into `out`; `false` behind
    /// the last. A line of more than `max` bytes is refused.
    pub async fn line(&mut self, max: usize, out: &mut Vec<u8>) -> Result<bool, Error> {
        out.clear();
        while self.more().await? {
            let piece = self
                .conn
                .as_ref()
                .map_or(&[][..], |conn| conn.bytes(self.piece.clone()));
            let line = piece.iter().position(|byte| *byte == b'\n');
            let part = &piece[..line.unwrap_or(piece.len())];
            if part.len() > max - out.len() {
                return Err(self.too_large(max));
            }
            out.extend_from_slice(part);
            self.piece.start += part.len() + usize::from(line.is_some());
            if line.is_some() {
                out.pop_if(|byte| *byte == b'\r');
                return Ok(true);
            }
        }
        Ok(!out.is_empty())
    }

    /// Makes sure that there is a piece to be handed out; `false` at the end.
    async fn more(&mut self) -> Result<bool, Error> {
        if !self.piece.is_empty() {
            return Ok(true);
        }
        let Some(conn) = &mut self.conn else {
            return Ok(false);
        };
        match conn.piece(deadline(self.idle, self.end)).await {
            Ok(Some(piece)) => self.piece = piece,
            Ok(None) => self.release(),
            Err(err) => {
                self.keep = None;
                return Err(self.server.error(err));
            }
        }
        Ok(!self.piece.is_empty())
    }

    /// The whole body, if it is not longer than `max`.
    pub async fn bytes(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if let Some(Conn {
            body: Body::Length(length),
            ..
        }) = &self.conn
        {
            match usize::try_from(*length) {
                Ok(length) if length <= max => bytes.reserve_exact(length),
                _ => return Err(self.too_large(max)),
            }
        }
        while let Some(piece) = self.chunk().await? {
            if piece.len() > max - bytes.len() {
                return Err(self.too_large(max));
            }
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }

    fn too_large(&mut self, max: usize) -> Error {
        self.keep = None;
        self.release();
        let name = self.server.endpoint.name();
        Error::new(
            ErrorKind::TooLarge,
            format!("{name} sent a body of more than {max} bytes"),
        )
    }

    /// Reads past the rest of the body, if it is short, so that the connection
    /// can be kept.
    pub async fn discard(mut self) {
        let mut left = HTTP_DRAIN_BYTES_MAX;
        // What fails here has been of no interest.
        while let Ok(Some(piece)) = self.chunk().await {
            match left.checked_sub(piece.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    }

    /// Gives the connection back, if its server and we have nothing left to say.
    fn release(&mut self) {
        let Some(mut conn) = self.conn.take() else {
            return;
        };
        let keep = self
            .keep
            .filter(|_| conn.body.is_over() && !conn.has_unread());
        self.head = conn.take_head();
        if let Some(keep) = keep.filter(|keep| !keep.is_zero()) {
            self.server.pool.put(conn, keep);
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.release();
    }
}
