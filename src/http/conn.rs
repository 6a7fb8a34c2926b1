//! One HTTP/1.1 connection over any byte stream.
//!
//! The stream is a type parameter: a Unix socket to the engine, TCP from the
//! local API, TLS to the cloud, or a script in tests. Everything this file
//! knows about HTTP it asks of [`head`](super::head) and [`body`](super::body).
//!
//! There is one buffer: the head that is being worked on stays at its front,
//! what arrives goes behind it, and body pieces are handed out as slices of it.

use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{AsyncRead, AsyncWrite};

use super::body::Body;
use super::head::{HeadError, Limits, Scan};
use crate::limits::{HTTP_BUF_BYTES, HTTP_BUF_BYTES_MAX};

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum ConnError {
    /// The head is refused.
    Head(HeadError),
    /// The body's framing is broken.
    Framing,
    /// The body's content coding is; the text says what was sent instead.
    Coding(&'static str),
    /// The peer closed before the message was complete.
    CutShort,
    /// A time limit passed.
    Timeout,
    /// The stream failed.
    Io(io::Error),
}

impl From<io::Error> for ConnError {
    fn from(err: io::Error) -> ConnError {
        match err.kind() {
            io::ErrorKind::UnexpectedEof => ConnError::CutShort,
            _ => ConnError::Io(err),
        }
    }
}

impl From<HeadError> for ConnError {
    fn from(err: HeadError) -> ConnError {
        ConnError::Head(err)
    }
}

/// A time limit that costs nothing to move: its timer is left where it is when
/// the limit moves away from it, and set again when it fires too early.
#[derive(Debug)]
pub struct Watch {
    timer: Timer,
    fires: Option<Instant>,
}

impl Default for Watch {
    fn default() -> Watch {
        Watch {
            timer: Timer::never(),
            fires: None,
        }
    }
}

impl Watch {
    /// What `work` comes to, if it does before `deadline`.
    pub async fn until<W: Future>(
        &mut self,
        deadline: Instant,
        work: W,
    ) -> Result<W::Output, ConnError> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => self.poll(cx, deadline).map(|()| Err(ConnError::Timeout)),
        })
        .await
    }

    /// Ready once `deadline` has passed.
    fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        if self.fires.is_none_or(|fires| fires > deadline) {
            self.timer.set_at(deadline);
            self.fires = Some(deadline);
        }
        while Pin::new(&mut self.timer).poll(cx).is_ready() {
            if Instant::now() >= deadline {
                self.fires = None;
                return Poll::Ready(());
            }
            self.timer.set_at(deadline);
            self.fires = Some(deadline);
        }
        Poll::Pending
    }
}

/// The moment so long from now, and at most some decades: an `Instant` ends somewhere.
#[must_use]
pub fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(Duration::from_secs(u32::MAX.into()))
}

/// How a write ended that could be overtaken by the peer's answer.
#[derive(Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    All,
    /// The peer answered, or gave up, before it had taken everything.
    Part,
    /// The peer took nothing at all.
    Nothing,
}

/// A stream, the bytes that have arrived on it, and where in them we are.
#[derive(Debug)]
pub struct Conn<S> {
    stream: S,
    watch: Watch,
    /// What heads are put together in before they are sent.
    pub out: Vec<u8>,
    /// What is left of the body behind the current head.
    pub body: Body,
    buf: Vec<u8>,
    head: usize,
    pos: usize,
    end: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    /// A connection over a stream just opened.
    pub fn new(stream: S) -> Conn<S> {
        let (watch, buf, out) = (Watch::default(), Vec::new(), Vec::new());
        Conn {
            stream,
            watch,
            out,
            body: Body::None,
            buf,
            head: 0,
            pos: 0,
            end: 0,
        }
    }

    /// The stream.
    pub fn stream(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The bytes of the current head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.buf[..self.head]
    }

    /// These bytes, as handed out by [`Conn::piece`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buf[range]
    }

    /// Whether bytes have arrived that nobody has looked at.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        self.pos < self.end
    }

    /// Lets go of the current head and, if nothing has arrived behind it, of
    /// more buffer than a connection at rest may hold.
    pub fn rest(&mut self) {
        self.buf.copy_within(self.pos..self.end, 0);
        (self.head, self.pos, self.end) = (0, 0, self.end - self.pos);
        if self.end <= HTTP_BUF_BYTES && self.buf.len() > HTTP_BUF_BYTES {
            self.buf.truncate(HTTP_BUF_BYTES);
            self.buf.shrink_to_fit();
        }
        if self.out.capacity() > HTTP_BUF_BYTES {
            self.out = Vec::new();
        }
    }

    /// Takes the current head out, and the whole buffer with it: a pooled
    /// connection holds none.
    pub fn take_head(&mut self) -> Vec<u8> {
        let mut head = std::mem::take(&mut self.buf);
        head.truncate(self.head);
        head.shrink_to_fit();
        (self.head, self.pos, self.end) = (0, 0, 0);
        self.out = Vec::new();
        self.watch = Watch::default();
        head
    }

    /// Takes out what has arrived and nobody has looked at.
    pub fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.buf[self.pos..self.end].to_vec();
        self.pos = self.end;
        unread
    }

    /// The stream alone.
    pub fn into_stream(self) -> S {
        self.stream
    }

    /// Waits for the first byte of the next message; `false` when the peer
    /// closed instead.
    pub async fn first_byte(&mut self, deadline: Instant) -> Result<bool, ConnError> {
        Ok(self.has_unread() || self.fill(deadline).await? > 0)
    }

    /// Reads the next head; from here on it is [`Conn::head`].
    pub async fn read_head(&mut self, limits: Limits, deadline: Instant) -> Result<(), ConnError> {
        // The head before this one is over.
        self.head = 0;
        let mut scan = Scan::default();
        loop {
            let unread = &self.buf[self.pos..self.end];
            if let Some(head) = scan.end(unread, limits)? {
                self.buf.copy_within(self.pos + head.start..self.end, 0);
                self.end -= self.pos + head.start;
                self.head = head.len();
                self.pos = self.head;
                return Ok(());
            }
            if self.fill(deadline).await? == 0 {
                return Err(ConnError::CutShort);
            }
        }
    }

    /// Where the next piece of the body lies in [`Conn::bytes`]; none at its end.
    pub async fn piece(&mut self, deadline: Instant) -> Result<Option<Range<usize>>, ConnError> {
        while !self.body.is_over() {
            let unread = &self.buf[self.pos..self.end];
            if let Some(step) = self.body.next(unread).map_err(|_| ConnError::Framing)? {
                let (used, is_data) = (step.used, !step.data.is_empty());
                self.pos += used;
                if is_data {
                    return Ok(Some(self.pos - used..self.pos));
                }
            } else if self.fill(deadline).await? == 0 {
                if self.body != Body::UntilClose {
                    return Err(ConnError::CutShort);
                }
                self.body = Body::None;
            }
        }
        Ok(None)
    }

    /// Reads past what is left of the body; `false` when it is longer than `max`.
    pub async fn skip_body(&mut self, max: usize, deadline: Instant) -> Result<bool, ConnError> {
        let mut skipped = 0;
        while let Some(piece) = self.piece(deadline).await? {
            skipped += piece.len();
            if skipped > max {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Sends all of `parts`, each write within `limit`.
    pub async fn send(&mut self, parts: [&[u8]; 3], limit: Duration) -> Result<(), ConnError> {
        let (stream, watch) = (&mut self.stream, &mut self.watch);
        send_parts(stream, watch, parts, limit).await
    }

    /// Sends what was put together in [`Conn::out`], and `body` behind it.
    pub async fn send_out(&mut self, body: &[u8], limit: Duration) -> Result<(), ConnError> {
        let (stream, watch) = (&mut self.stream, &mut self.watch);
        send_parts(stream, watch, [&self.out, body, &[]], limit).await
    }

    /// Like [`Conn::send_out`], but stops as soon as the peer refuses: a server
    /// may do so before it has taken all of the body. Each write has until
    /// `deadline`.
    pub async fn send_until_answered(
        &mut self,
        body: &[u8],
        deadline: impl Fn() -> Instant,
    ) -> Result<Sent, ConnError> {
        let out = std::mem::take(&mut self.out);
        let (mut sent, all) = (0, out.len() + body.len());
        while sent < all {
            let rest = [
                &out[sent.min(out.len())..],
                &body[sent.saturating_sub(out.len())..],
            ];
            self.make_room();
            let Conn {
                stream,
                watch,
                buf,
                end,
                ..
            } = self;
            // Enough to see a status is enough.
            let room = if *end < b"HTTP/1.1 4".len() {
                *end..
            } else {
                buf.len()..
            };
            let step = poll_fn(|cx| poll_either(stream, cx, rest, &mut buf[room.clone()]));
            match watch.until(deadline(), step).await? {
                Step::Wrote(Ok(some @ 1..)) => sent += some,
                Step::Read(Ok(got @ 1..)) => {
                    self.end += got;
                    if matches!(self.buf[self.pos..self.end].get(9), Some(b'3'..=b'5')) {
                        return Ok(Sent::Part);
                    }
                }
                _ => return Ok(if sent == 0 { Sent::Nothing } else { Sent::Part }),
            }
        }
        self.out = out;
        let flush = poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx));
        let flushed = self.watch.until(deadline(), flush).await?;
        Ok(if flushed.is_ok() {
            Sent::All
        } else {
            Sent::Part
        })
    }

    /// Waits for more bytes; zero means that the peer closed its side.
    async fn fill(&mut self, deadline: Instant) -> Result<usize, ConnError> {
        self.make_room();
        let Conn {
            stream,
            watch,
            buf,
            end,
            ..
        } = self;
        let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buf[*end..]));
        let got = watch.until(deadline, read).await??;
        *end += got;
        Ok(got)
    }

    /// Makes sure that there is space behind `end`: by moving, then by growing.
    fn make_room(&mut self) {
        let full = self.end == self.buf.len();
        if self.pos == self.end {
            (self.pos, self.end) = (self.head, self.head);
        } else if full && self.pos > self.head {
            self.buf.copy_within(self.pos..self.end, self.head);
            (self.pos, self.end) = (self.head, self.head + self.end - self.pos);
        }
        let (len, max) = (self.buf.len(), self.head + HTTP_BUF_BYTES_MAX);
        let double = (len * 2).max(self.head + HTTP_BUF_BYTES);
        if self.end == len {
            // Only a head outgrows `max`, and `Scan` refuses that in time.
            self.buf.resize(double, 0);
        } else if full && len < max {
            // A read that filled all there was suggests that there is more to come.
            self.buf.resize(double.min(max), 0);
        }
    }
}

enum Step {
    Wrote(io::Result<usize>),
    Read(io::Result<usize>),
}

/// Writes if that is possible, reads if it is not.
fn poll_either<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    out: [&[u8]; 2],
    room: &mut [u8],
) -> Poll<Step> {
    let parts = out.map(IoSlice::new);
    if let Poll::Ready(wrote) = Pin::new(&mut *stream).poll_write_vectored(cx, &parts) {
        return Poll::Ready(Step::Wrote(wrote));
    }
    if room.is_empty() {
        return Poll::Pending;
    }
    Pin::new(stream).poll_read(cx, room).map(Step::Read)
}

async fn send_parts<S: AsyncWrite + Unpin>(
    stream: &mut S,
    watch: &mut Watch,
    parts: [&[u8]; 3],
    limit: Duration,
) -> Result<(), ConnError> {
    let mut parts = parts.map(IoSlice::new);
    let mut rest = &mut parts[..];
    loop {
        // Also passes over the empty ones at the front.
        IoSlice::advance_slices(&mut rest, 0);
        if rest.is_empty() {
            break;
        }
        let write = poll_fn(|cx| Pin::new(&mut *stream).poll_write_vectored(cx, rest));
        let deadline = after(limit);
        match watch.until(deadline, write).await?? {
            0 => return Err(ConnError::Io(io::ErrorKind::WriteZero.into())),
            some => IoSlice::advance_slices(&mut rest, some),
        }
    }
    let flush = poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx));
    Ok(watch.until(Instant::now() + limit, flush).await??)
}
