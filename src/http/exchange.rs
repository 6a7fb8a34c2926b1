//! One request of a server, and the chance to answer it.

use std::borrow::Cow;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use super::body::Body;
use super::client::{Piece, Source};
use super::conn::{Conn, ConnError};
use super::head::{
    Fields, RequestHead, are_fields, decimal, find, put_field, put_framing, put_line,
};
use super::server::Status;
use super::stream::Stream;
use super::tunnel::{self, Tunnel};
use super::{Error, ErrorKind};
use crate::base::date::HttpDate;
use crate::base::wall;
use crate::limits::{
    HTTP_BODY_IDLE, HTTP_BODY_TIMEOUT, HTTP_DRAIN_BYTES_MAX, HTTP_HEAD_BYTES, HTTP_LINGER,
    HTTP_WRITE_TIMEOUT,
};

/// What we say ourselves is.
pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// Where a request came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A Unix socket.
    Unix,
    /// TCP from this machine.
    Loopback,
    /// TCP from elsewhere.
    Other,
}

/// Why there is no request body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It is longer than allowed: 413.
    TooLarge,
    /// It is malformed, cut short or too slow: 400, if anybody still listens.
    Broken,
}

/// How far the answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// Not begun.
    None,
    /// Being sent in chunks.
    Chunked,
    /// Being sent, so many bytes to go.
    Length(u64),
    /// Being sent to a peer of HTTP/1.0, up to the connection's end.
    UntilClose,
    /// Being sent to a `HEAD`, or with a status that has no body: not at all.
    Bodiless,
    /// All sent.
    Done,
}

/// What goes into an answer's head.
#[derive(Debug, Clone, Copy, Default)]
struct AnswerHead<'a> {
    status: u16,
    fields: &'a [(&'a str, &'a str)],
    /// Field lines of another server, passed on as they are.
    lines: &'a [u8],
    /// The body's, if it is known.
    length: Option<u64>,
}

/// One request and the chance to answer it.
#[derive(Debug)]
pub struct Exchange<'c> {
    conn: &'c mut Conn<Stream>,
    head: RequestHead,
    peer: Peer,
    status: &'c Status,
    stopping: &'c AtomicBool,
    answer: Answer,
}

impl<'c> Exchange<'c> {
    /// An exchange over a connection that has just read this head.
    pub(super) fn new(
        conn: &'c mut Conn<Stream>,
        mut head: RequestHead,
        peer: Peer,
        status: &'c Status,
        stopping: &'c AtomicBool,
    ) -> Exchange<'c> {
        conn.body = head.body;
        if head.body.is_over() {
            status.serving();
        }
        // One that sends its body already waits for nothing.
        head.expects_continue &= !conn.has_unread();
        Exchange {
            conn,
            head,
            peer,
            status,
            stopping,
            answer: Answer::None,
        }
    }

    fn text(&self, range: &std::ops::Range<usize>) -> &str {
        // The head's first line was accepted as ASCII.
        str::from_utf8(&self.conn.head()[range.clone()]).unwrap_or_default()
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> &str {
        self.text(&self.head.method)
    }

    /// The target's path as it came: not decoded, without the query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text(&self.head.path)
    }

    /// The target's query as it came, without its `?`.
    #[must_use]
    pub fn query(&self) -> &str {
        self.text(&self.head.query)
    }

    /// The value of the first field of this name; none if it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().get(name)
    }

    /// All header fields.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(self.conn.head())
    }

    /// Where it came from.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Path and query as they came.
    #[must_use]
    pub fn target(&self) -> Cow<'_, str> {
        let (path, query) = (&self.head.path, &self.head.query);
        match query.start - path.end {
            0 | 1 => self.text(&(path.start..query.end)).into(),
            // The path goes without saying, as in `http://host?query`.
            _ => format!("/?{}", self.query()).into(),
        }
    }

    /// Whether the peer speaks HTTP/1.0.
    #[must_use]
    pub fn is_http10(&self) -> bool {
        self.head.http10
    }

    /// How its body is framed.
    #[must_use]
    pub fn framing(&self) -> Body {
        self.head.body
    }

    /// Whether the peer waits for a word before it sends its body.
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.head.expects_continue
    }

    /// Whether it asks to leave HTTP.
    #[must_use]
    pub fn is_upgrade(&self) -> bool {
        self.head.upgrade
    }

    /// Ends when the peer has closed, which nobody answers any more. What it sends
    /// meanwhile is kept, up to a limit; beyond that it is not listened to.
    pub async fn gone(&mut self) {
        self.conn.closed().await;
        self.head.keep_alive = false;
    }

    /// The whole request body, if it is not longer than `max`.
    pub async fn body(&mut self, max: usize) -> Result<Vec<u8>, BodyError> {
        if let Body::Length(length) = self.conn.body
            && length > max as u64
        {
            return Err(BodyError::TooLarge);
        }
        let end = Instant::now() + HTTP_BODY_TIMEOUT;
        let mut body = Vec::new();
        while let Some(piece) = self.piece_until(end).await? {
            if piece.len() > max - body.len() {
                return Err(BodyError::TooLarge);
            }
            body.extend_from_slice(piece);
        }
        Ok(body)
    }

    /// The next piece of the request body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, BodyError> {
        self.piece_until(Instant::now() + HTTP_BODY_IDLE).await
    }

    async fn piece_until(&mut self, end: Instant) -> Result<Option<&[u8]>, BodyError> {
        if mem::take(&mut self.head.expects_continue) {
            let proceed = b"HTTP/1.1 100 Continue\r\n\r\n";
            let sent = self.conn.send(proceed, HTTP_WRITE_TIMEOUT).await;
            sent.map_err(|_| self.broken())?;
        }
        let deadline = end.min(Instant::now() + HTTP_BODY_IDLE);
        match self.conn.piece(deadline).await {
            Ok(Some(piece)) => Ok(Some(self.conn.bytes(piece))),
            Ok(None) => {
                self.status.serving();
                Ok(None)
            }
            Err(_) => Err(self.broken()),
        }
    }

    fn broken(&mut self) -> BodyError {
        self.head.keep_alive = false;
        BodyError::Broken
    }

    /// Answers, once. `Content-Length` and `Date` are added; a `HEAD` gets the
    /// length and not the body.
    pub async fn respond(
        &mut self,
        status: u16,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<(), Error> {
        let length = Some(body.len() as u64);
        let sends_body = has_body(status) && self.method() != "HEAD";
        let body = if sends_body { body } else { &[] };
        let head = AnswerHead {
            status,
            fields: headers,
            length,
            ..AnswerHead::default()
        };
        self.begin(head, Answer::Done, body).await
    }

    /// Begins an answer whose body [`Exchange::write`] sends: as long as its
    /// `Content-Length` says if there is one, else to where the handler returns.
    pub async fn stream(&mut self, status: u16, headers: &[(&str, &str)]) -> Result<(), Error> {
        let length = find(headers, "content-length").map(|value| decimal(value.as_bytes()));
        let length = length.transpose();
        let length = length.map_err(|_| invalid("a length that is no number"))?;
        let head = AnswerHead {
            status,
            fields: headers,
            length,
            ..AnswerHead::default()
        };
        self.open(head, &[]).await
    }

    /// Begins an answer that is another server's: `lines` are its field lines but for those
    /// that belong to the connection, and `length` is its body's, if that is known. `first`
    /// is as much of that as is there.
    pub async fn relay(
        &mut self,
        status: u16,
        lines: &[u8],
        length: Option<u64>,
        first: &[u8],
    ) -> Result<(), Error> {
        let head = AnswerHead {
            status,
            lines,
            length,
            ..AnswerHead::default()
        };
        self.open(head, first).await
    }

    async fn open(&mut self, head: AnswerHead<'_>, first: &[u8]) -> Result<(), Error> {
        let answer = match head.length {
            _ if self.method() == "HEAD" || !has_body(head.status) => Answer::Bodiless,
            Some(length) => Answer::Length(length),
            None if self.head.http10 => Answer::UntilClose,
            None => Answer::Chunked,
        };
        self.head.keep_alive &= answer != Answer::UntilClose;
        // With the head, where no framing stands between them.
        if let Answer::Length(left) = answer
            && let Some(left) = left.checked_sub(first.len() as u64)
        {
            return self.begin(head, Answer::Length(left), first).await;
        }
        self.begin(head, answer, &[]).await?;
        self.write(first).await
    }

    /// Sends a piece of the body begun with [`Exchange::stream`].
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        let sent = match self.answer {
            _ if piece.is_empty() => return Ok(()),
            Answer::Bodiless => return Ok(()),
            Answer::UntilClose => self.conn.send(piece, HTTP_WRITE_TIMEOUT).await,
            Answer::Chunked => self.conn.send_chunk(piece, HTTP_WRITE_TIMEOUT).await,
            Answer::Length(left) => {
                let left = left.checked_sub(piece.len() as u64);
                self.answer = Answer::Length(left.ok_or_else(|| invalid("more than it said"))?);
                self.conn.send(piece, HTTP_WRITE_TIMEOUT).await
            }
            Answer::None | Answer::Done => return Err(invalid("a body without its head")),
        };
        sent.map_err(|err| self.lost(&err))
    }

    /// Answers an upgrade with 101 and these field lines, then carries bytes between
    /// the peer and the tunnel until both have ended.
    pub async fn switch(&mut self, lines: &[u8], to: Tunnel) -> Result<(), Error> {
        if !self.head.upgrade {
            return Err(invalid("an upgrade that is not possible"));
        }
        let head = AnswerHead {
            status: 101,
            lines,
            ..AnswerHead::default()
        };
        self.begin(head, Answer::Done, &[]).await?;
        self.head.keep_alive = false;
        let early = self.conn.take_unread();
        let joined = tunnel::join(&mut self.conn.stream, &early, to).await;
        joined.map_err(|err| self.lost(&err.into()))
    }

    /// Sends the head and these first bytes of the body.
    async fn begin(
        &mut self,
        head: AnswerHead<'_>,
        answer: Answer,
        body: &[u8],
    ) -> Result<(), Error> {
        self.compose(head)?;
        self.answer = answer;
        let sent = self.conn.send_out(body, HTTP_WRITE_TIMEOUT).await;
        sent.map_err(|err| self.lost(&err))
    }

    /// Puts the head together.
    fn compose(&mut self, head: AnswerHead<'_>) -> Result<(), Error> {
        let AnswerHead {
            status,
            fields: headers,
            lines,
            length,
        } = head;
        if self.answer != Answer::None || !are_fields(headers) || !matches!(status, 101 | 200..=599)
        {
            return Err(invalid("an answer that HTTP does not allow"));
        }
        let closes = |(name, value): &(&str, &str)| {
            name.eq_ignore_ascii_case("connection") && value.eq_ignore_ascii_case("close")
        };
        // What is left of the request would have to be read past, or may never come.
        let left = self.head.expects_continue
            || matches!(self.conn.body, Body::Length(left) if left > HTTP_DRAIN_BYTES_MAX as u64);
        let stopping = self.stopping.load(Relaxed);
        self.head.keep_alive &= !(left || stopping || headers.iter().any(closes));
        self.status.serving();
        let has_body = has_body(status);
        let connection = match (self.head.keep_alive, self.head.http10) {
            _ if status == 101 => Some("upgrade"),
            (false, _) => Some("close"),
            (true, true) => Some("keep-alive"),
            (true, false) => None,
        };
        let out = &mut self.conn.out;
        out.reserve(HTTP_HEAD_BYTES + lines.len());
        // Another server's answer has its own (RFC 9110 6.6.1).
        put_start(out, status, Fields::lines(lines).get("date").is_none());
        if let Some(connection) = connection {
            put_field(out, "Connection", connection);
        }
        if has_body && (length.is_some() || !self.head.http10) {
            put_framing(out, length);
        }
        let ours = ["connection", "content-length", "date", "transfer-encoding"];
        let is_ours = |name: &str| ours.iter().any(|our| name.eq_ignore_ascii_case(our));
        for (name, value) in headers.iter().filter(|(name, _)| !is_ours(name)) {
            put_field(out, name, value);
        }
        out.extend_from_slice(lines);
        put_line(out, format_args!(""));
        Ok(())
    }

    fn lost(&mut self, err: &ConnError) -> Error {
        self.head.keep_alive = false;
        let (kind, why) = match err {
            ConnError::Timeout => (ErrorKind::Timeout, "it takes nothing for too long".into()),
            ConnError::Io(err) => (ErrorKind::Closed, err.to_string()),
            _ => (ErrorKind::Closed, "it closed".into()),
        };
        Error::new(kind, format!("a client did not take its answer: {why}"))
    }

    /// Ends the answer as the handler's result asks for; whether the connection
    /// can take another request.
    pub(super) async fn finish(mut self, result: Result<(), Error>) -> bool {
        if let Err(err) = &result {
            log::debug!("{} {}: {err}", self.method(), self.path());
        }
        let ended = match (self.answer, &result) {
            (Answer::None, _) => {
                let text = [("Content-Type", TEXT)];
                self.respond(500, &text, b"internal error").await.is_ok()
            }
            (Answer::Chunked, Ok(())) => {
                self.conn.send_chunk(&[], HTTP_WRITE_TIMEOUT).await.is_ok()
            }
            (Answer::Chunked | Answer::UntilClose, _) => result.is_ok(),
            (Answer::Length(left), _) => left == 0,
            (Answer::Done | Answer::Bodiless, _) => true,
        };
        if !(ended && self.head.keep_alive) {
            return false;
        }
        // What the handler left unread of the request: a little of it is read past.
        let end = Instant::now() + HTTP_LINGER;
        let skipped = self.conn.skip_body(HTTP_DRAIN_BYTES_MAX, end).await;
        skipped.unwrap_or(false)
    }
}

/// So that a request's body can be passed on as it comes.
impl Source for Exchange<'_> {
    fn next(&mut self) -> Piece<'_> {
        Box::pin(async {
            let broken = |_| Error::new(ErrorKind::Closed, "a client did not send its whole body");
            self.chunk().await.map_err(broken)
        })
    }
}

fn invalid(what: &str) -> Error {
    Error::new(ErrorKind::Invalid, format!("the handler asked for {what}"))
}

/// Whether an answer with this status has a body at all.
fn has_body(status: u16) -> bool {
    !matches!(status, 101 | 204 | 304)
}

/// Begins an answer's head anew: its first line, and the date (RFC 9110 6.6.1) if it has
/// none yet.
pub(super) fn put_start(out: &mut Vec<u8>, status: u16, dated: bool) {
    let now = u64::try_from(wall::secs()).unwrap_or(0);
    out.clear();
    put_line(out, format_args!("HTTP/1.1 {status} {}", reason(status)));
    if dated {
        put_field(out, "Date", HttpDate(now));
    }
}

/// The words for a status. There is a space in front of them even if there are none.
fn reason(status: u16) -> &'static str {
    match status {
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        422 => "Unprocessable Content",
        423 => "Locked",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        508 => "Loop Detected",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}
