//! A response as a client sees it.

use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use super::body::Body;
use super::client::deadline;
use super::conn::{Conn, ConnError};
use super::gzip::Gunzip;
use super::head::{Fields, ResponseHead, elements};
use super::pool::Pool;
use super::stream::Stream;
use super::tunnel::Tunnel;
use crate::limits::{HTTP_DRAIN_BYTES_MAX, HTTP_GZIP_FREE_BYTES, HTTP_POOL_IDLE};

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
    /// The head, once the connection is given back.
    head: Vec<u8>,
    gunzip: Option<Box<Gunzip>>,
    /// Where in the connection's bytes the body is that has not been decoded.
    coded: Range<usize>,
    /// Where in the connection's or the decoder's bytes the body is that has
    /// not been handed out.
    piece: Range<usize>,
    pool: Arc<Pool>,
    /// The longest silence.
    idle: Duration,
    /// The end of it all.
    end: Option<Instant>,
}

impl Response {
    /// The response whose head this connection has just read.
    pub(super) fn new(
        mut conn: Conn<Stream>,
        head: ResponseHead,
        pool: Arc<Pool>,
        (idle, end): (Duration, Option<Instant>),
        offered_gzip: bool,
    ) -> Result<Response, ConnError> {
        let fields = Fields::of(conn.head());
        let keep = head.keep_alive.then(|| keep_for(fields));
        let is_ours = offered_gzip && !head.body.is_over();
        let coding = is_ours.then(|| fields.get("content-encoding")).flatten();
        let gunzip = match &*coding.unwrap_or_default().to_ascii_lowercase() {
            "" | "identity" => None,
            "gzip" | "x-gzip" => Some(Box::default()),
            _ => return Err(ConnError::Coding("a content coding nobody asked for")),
        };
        conn.body = head.body;
        Ok(Response {
            status: head.status,
            keep,
            conn: Some(conn),
            head: Vec::new(),
            gunzip,
            coded: 0..0,
            piece: 0..0,
            pool,
            idle,
            end,
        })
    }

    /// The status: 200 to 599, or 101 where an upgrade was asked for.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the first field of this name; none if it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.fields().get(name)
    }

    /// All header fields, as they came: length and coding are those of the body
    /// before it was decoded.
    #[must_use]
    pub fn fields(&self) -> Fields<'_> {
        Fields::of(self.conn.as_ref().map_or(&self.head, |conn| conn.head()))
    }

    /// How what is left of the body is framed.
    #[must_use]
    pub fn framing(&self) -> Body {
        self.conn.as_ref().map_or(Body::None, |conn| conn.body)
    }

    /// The next piece of the decoded body; none at its end.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, Error> {
        if !self.more().await? {
            return Ok(None);
        }
        let piece = mem::take(&mut self.piece);
        Ok(Some(self.decoded(piece)))
    }

    /// The whole body, if it is not longer than `max`.
    pub async fn bytes(&mut self, max: usize) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        if let (Some(conn), None) = (&self.conn, &self.gunzip)
            && let Body::Length(length) = conn.body
        {
            match usize::try_from(length) {
                Ok(length) if length <= max => bytes.reserve_exact(length),
                _ => return Err(self.failed(ConnError::TooLarge(max))),
            }
        }
        while let Some(piece) = self.chunk().await? {
            if piece.len() > max - bytes.len() {
                return Err(self.failed(ConnError::TooLarge(max)));
            }
            bytes.extend_from_slice(piece);
        }
        Ok(bytes)
    }

    /// The next line of the body, without its end, into `out`; `false` behind
    /// the last. A line of more than `max` bytes is refused.
    pub async fn line(&mut self, max: usize, out: &mut Vec<u8>) -> Result<bool, Error> {
        out.clear();
        while self.more().await? {
            let piece = self.decoded(self.piece.clone());
            let line = piece.iter().position(|byte| *byte == b'\n');
            let part = &piece[..line.unwrap_or(piece.len())];
            if part.len() > max - out.len() {
                return Err(self.failed(ConnError::TooLarge(max)));
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

    /// The connection, once it has left HTTP with status 101.
    #[must_use]
    pub fn into_tunnel(mut self) -> Option<Tunnel> {
        let mut conn = self.conn.take_if(|_| self.status == 101)?;
        let early = conn.take_unread();
        Some(Tunnel {
            stream: conn.stream,
            early,
        })
    }

    /// Makes sure that there is a piece to be handed out; `false` at the end.
    async fn more(&mut self) -> Result<bool, Error> {
        while self.piece.is_empty() {
            let Some(conn) = &mut self.conn else {
                return Ok(false);
            };
            if let Some(gunzip) = &mut self.gunzip {
                match gunzip.next(conn.bytes(self.coded.clone())) {
                    // More has to arrive.
                    Ok(None) => {}
                    Ok(Some(step)) => {
                        self.coded.start += step.used;
                        self.piece = step.data;
                        continue;
                    }
                    Err(_) if gunzip.is_bomb() => {
                        return Err(self.failed(ConnError::TooLarge(HTTP_GZIP_FREE_BYTES)));
                    }
                    Err(_) => return Err(self.failed(ConnError::Coding("a broken gzip stream"))),
                }
            }
            let result = conn.piece(deadline(self.idle, self.end)).await;
            match (result, &self.gunzip) {
                (Ok(Some(piece)), None) => self.piece = piece,
                (Ok(Some(piece)), Some(_)) => self.coded = piece,
                (Ok(None), Some(gunzip)) if !gunzip.may_end() => {
                    return Err(self.failed(ConnError::CutShort));
                }
                (Ok(None), _) => self.release(),
                (Err(err), _) => return Err(self.failed(err)),
            }
        }
        Ok(true)
    }

    fn decoded(&self, piece: Range<usize>) -> &[u8] {
        match (&self.conn, &self.gunzip) {
            (_, Some(gunzip)) => gunzip.bytes(piece),
            (Some(conn), None) => conn.bytes(piece),
            (None, None) => &[],
        }
    }

    fn failed(&mut self, err: ConnError) -> Error {
        self.keep = None;
        self.release();
        self.pool.error(err)
    }

    /// Gives the connection back, if its server and we have nothing left to say.
    fn release(&mut self) {
        let Some(mut conn) = self.conn.take() else {
            return;
        };
        self.gunzip = None;
        self.piece = 0..0;
        let keep = self
            .keep
            .filter(|_| conn.body.is_over() && !conn.has_unread());
        self.head = conn.take_head();
        if let Some(keep) = keep.filter(|keep| !keep.is_zero()) {
            self.pool.put(conn, keep);
        }
    }
}

impl Drop for Response {
    fn drop(&mut self) {
        self.release();
    }
}

/// How long the server lets us keep the connection: a second less than its
/// hint, for the way there.
fn keep_for(fields: Fields<'_>) -> Duration {
    let secs = fields.all("keep-alive").flat_map(elements);
    let secs = secs.filter_map(|hint| -> Option<u32> {
        let secs = str::from_utf8(hint).ok()?.strip_prefix("timeout=")?;
        secs.parse().ok()
    });
    let keep = secs.min();
    let keep = keep.map(|secs| Duration::from_secs(u64::from(secs.saturating_sub(1))));
    keep.map_or(HTTP_POOL_IDLE, |keep| keep.min(HTTP_POOL_IDLE))
}
