//! One HTTP/1.1 connection over any byte stream.
//!
//! The stream is a type parameter: a Unix socket to the engine, TCP from the
//! local API, TLS to the cloud, or a script in tests. Everything this file
//! knows about HTTP it asks of [`head`](super::head) and [`body`](super::body).
//!
//! There is one buffer: the head that is being worked on stays at its front,
//! what arrives goes behind it, and body pieces are handed out as slices of it.

use std::future::{Future, pending, poll_fn};
use std::io::{self, IoSlice};
use std::ops::Range;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::{AsyncRead, AsyncWrite};

use super::body::{Body, Step};
use super::head::{HeadError, Limits, Scan, put_line};
use crate::limits::{HTTP_BUF_BYTES, HTTP_BUF_BYTES_MAX, HTTP_GONE_LOOK};

/// Why a connection is of no more use.
#[derive(Debug)]
pub enum ConnError {
    /// The head is refused.
    Head(HeadError),
    /// The body's framing or coding is broken; the text says what was sent instead.
    Coding(&'static str),
    /// The body is longer than so many bytes, which is all that is wanted.
    TooLarge(usize),
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
        loop {
            if self.fires.is_none_or(|fires| fires > deadline) {
                self.timer.set_at(deadline);
                self.fires = Some(deadline);
            }
            ready!(Pin::new(&mut self.timer).poll(cx));
            self.fires = None;
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
        }
    }
}

/// The moment so long from now, and at most some decades: an `Instant` ends somewhere.
#[must_use]
pub fn after(limit: Duration) -> Instant {
    Instant::now() + limit.min(Duration::from_secs(u32::MAX.into()))
}

/// How far a request got, when the peer could refuse it before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// All of it.
    All,
    /// The peer refused, or gave up, before it had taken everything.
    Part,
    /// The peer took nothing at all.
    Nothing,
}

/// Where in a response its status is.
const STATUS_AT: usize = "HTTP/1.1 ".len();

/// What has arrived: first the head that is being worked on, then what is unread.
#[derive(Debug, Default)]
struct Buf {
    bytes: Vec<u8>,
    head: usize,
    pos: usize,
    end: usize,
}

impl Buf {
    fn unread(&self) -> &[u8] {
        &self.bytes[self.pos..self.end]
    }

    /// Makes this part of what is unread the head, and drops all in front of it.
    fn set_head(&mut self, head: Range<usize>) {
        self.bytes.copy_within(self.pos + head.start..self.end, 0);
        self.end -= self.pos + head.start;
        self.head = head.len();
        self.pos = self.head;
    }

    /// Makes sure that there is space behind `end`: by moving, then by growing.
    fn make_room(&mut self) {
        let full = self.end == self.bytes.len();
        if self.pos == self.end {
            (self.pos, self.end) = (self.head, self.head);
        } else if full && self.pos > self.head {
            self.bytes.copy_within(self.pos..self.end, self.head);
            (self.pos, self.end) = (self.head, self.head + self.end - self.pos);
        }
        let (len, max) = (self.bytes.len(), self.head + HTTP_BUF_BYTES_MAX);
        let double = (len * 2).max(self.head + HTTP_BUF_BYTES);
        if self.end == len {
            // Only a head outgrows `max`, and `Scan` refuses that in time.
            self.bytes.resize(double, 0);
        } else if full && len < max {
            // A read that filled all there was suggests that there is more to come.
            self.bytes.resize(double.min(max), 0);
        }
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<usize>> {
        let got = ready!(Pin::new(stream).poll_read(cx, &mut self.bytes[self.end..]))?;
        self.end += got;
        Poll::Ready(Ok(got))
    }

    /// Ready once the peer has begun an answer that refuses, or has closed. One
    /// that only chats may go on, and is not listened to any longer.
    fn poll_refusal(
        &mut self,
        cx: &mut Context<'_>,
        stream: &mut (impl AsyncRead + Unpin),
    ) -> Poll<io::Result<bool>> {
        while self.unread().len() <= STATUS_AT {
            self.make_room();
            if ready!(self.poll_fill(cx, stream))? == 0 {
                return Poll::Ready(Ok(true));
            }
        }
        match self.unread()[STATUS_AT] {
            b'3'..=b'5' => Poll::Ready(Ok(true)),
            _ => Poll::Pending,
        }
    }
}

/// A stream, the bytes that have arrived on it, and where in them we are.
#[derive(Debug)]
pub struct Conn<S> {
    /// The stream.
    pub stream: S,
    watch: Watch,
    buf: Buf,
    /// What heads are put together in before they are sent.
    pub out: Vec<u8>,
    /// What is left of the body behind the current head.
    pub body: Body,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conn<S> {
    /// A connection over a stream just opened.
    pub fn new(stream: S) -> Conn<S> {
        Conn {
            stream,
            watch: Watch::default(),
            buf: Buf::default(),
            out: Vec::new(),
            body: Body::None,
        }
    }

    /// The bytes of the current head.
    #[must_use]
    pub fn head(&self) -> &[u8] {
        &self.buf.bytes[..self.buf.head]
    }

    /// These bytes, as handed out by [`Conn::piece`].
    #[must_use]
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.buf.bytes[range]
    }

    /// Whether bytes have arrived that nobody has looked at.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        !self.buf.unread().is_empty()
    }

    /// Takes out what has arrived and nobody has looked at.
    pub fn take_unread(&mut self) -> Vec<u8> {
        let unread = self.buf.unread().to_vec();
        self.buf.pos = self.buf.end;
        unread
    }

    /// Lets go of the current head and, if nothing has arrived behind it, of
    /// more buffer than a connection at rest may hold.
    pub fn rest(&mut self) {
        self.buf.set_head(0..0);
        if self.buf.end <= HTTP_BUF_BYTES {
            self.buf.bytes.truncate(HTTP_BUF_BYTES);
            self.buf.bytes.shrink_to_fit();
        }
        if self.out.capacity() > HTTP_BUF_BYTES {
            self.out = Vec::new();
        }
    }

    /// Takes the current head out. A connection that is pooled, for seconds, keeps its timer
    /// set and what buffer it may hold at rest: the next exchange needs both.
    pub fn take_head(&mut self) -> Vec<u8> {
        let head = self.head().to_vec();
        self.rest();
        head
    }

    /// Waits for the first byte of the next message; `false` when the peer
    /// closed instead.
    pub async fn first_byte(&mut self, deadline: Instant) -> Result<bool, ConnError> {
        Ok(self.has_unread() || self.fill(deadline).await? > 0)
    }

    /// Reads the next head; from here on it is [`Conn::head`].
    pub async fn read_head(&mut self, limits: Limits, deadline: Instant) -> Result<(), ConnError> {
        // The head before this one is over.
        self.buf.head = 0;
        let mut scan = Scan::default();
        loop {
            if let Some(head) = scan.end(self.buf.unread(), limits)? {
                self.buf.set_head(head);
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
            let step = self.body.next(self.buf.unread());
            let step = step.map_err(|_| ConnError::Coding("broken chunks"))?;
            if let Some(Step { used, data }) = step {
                let (start, is_data) = (self.buf.pos, !data.is_empty());
                self.buf.pos += used;
                if is_data {
                    return Ok(Some(start..self.buf.pos));
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

    /// Waits for more bytes; zero means that the peer closed its side.
    async fn fill(&mut self, deadline: Instant) -> Result<usize, ConnError> {
        self.buf.make_room();
        let read = poll_fn(|cx| self.buf.poll_fill(cx, &mut self.stream));
        Ok(self.watch.until(deadline, read).await??)
    }

    /// Sends these bytes, each write within `limit`.
    pub async fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<(), ConnError> {
        self.out.clear();
        self.send_out(bytes, limit).await
    }

    /// Sends what was put together in [`Conn::out`], and `body` behind it.
    pub async fn send_out(&mut self, body: &[u8], limit: Duration) -> Result<(), ConnError> {
        self.push([body, &[]], || after(limit), false).await.1
    }

    /// Sends these bytes as a chunk; if there are none, the last one.
    pub async fn send_chunk(&mut self, data: &[u8], limit: Duration) -> Result<(), ConnError> {
        self.out.clear();
        put_line(&mut self.out, format_args!("{:x}", data.len()));
        self.push([data, b"\r\n"], || after(limit), false).await.1
    }

    /// Like [`Conn::send_out`], but stops as soon as the peer refuses: a server
    /// may do so before it has taken all of the body. Each write has until
    /// `deadline`.
    pub async fn send_until_refused(
        &mut self,
        body: &[u8],
        deadline: impl Fn() -> Instant,
    ) -> Result<Sent, ConnError> {
        let all = self.out.len() + body.len();
        match self.push([body, &[]], deadline, true).await {
            (sent, Ok(())) if sent == all => Ok(Sent::All),
            (_, Err(ConnError::Timeout)) => Err(ConnError::Timeout),
            (0, _) => Ok(Sent::Nothing),
            _ => Ok(Sent::Part),
        }
    }

    /// What `work` comes to, unless the peer refuses, or closes, before it is done.
    pub async fn unless_refused<W: Future>(&mut self, work: W) -> Option<W::Output> {
        let Conn { stream, buf, .. } = self;
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => buf.poll_refusal(cx, stream).map(|_| None),
        })
        .await
    }

    /// Waits for the peer's word on whether it wants a body, and takes silence for a yes.
    pub async fn wants_body(&mut self, wait: Duration) -> bool {
        let Conn {
            stream, buf, watch, ..
        } = self;
        let word = poll_fn(|cx| {
            while buf.unread().len() <= STATUS_AT {
                buf.make_room();
                if ready!(buf.poll_fill(cx, stream)).unwrap_or(0) == 0 {
                    return Poll::Ready(false);
                }
            }
            Poll::Ready(buf.unread()[STATUS_AT] == b'1')
        });
        watch.until(after(wait), word).await.unwrap_or(true)
    }

    /// Ends when the peer has closed; most who wait for that are done before it is even
    /// looked for. What it says meanwhile stays unread, up to the
    /// buffer's limit; then it is not listened to.
    pub async fn closed(&mut self) {
        let Conn {
            stream, buf, watch, ..
        } = self;
        let _ = watch.until(after(HTTP_GONE_LOOK), pending::<()>()).await;
        poll_fn(|cx| {
            loop {
                if buf.unread().len() >= HTTP_BUF_BYTES_MAX {
                    return Poll::Pending;
                }
                buf.make_room();
                if ready!(buf.poll_fill(cx, stream)).unwrap_or(0) == 0 {
                    return Poll::Ready(());
                }
            }
        })
        .await;
    }

    /// Sends [`Conn::out`] and all the parts, or less if it `listens` and hears
    /// a refusal; how much, and how it ended.
    async fn push(
        &mut self,
        parts: [&[u8]; 2],
        deadline: impl Fn() -> Instant,
        listens: bool,
    ) -> (usize, Result<(), ConnError>) {
        let Conn {
            stream, watch, buf, ..
        } = self;
        let mut parts = [&self.out, parts[0], parts[1]].map(IoSlice::new);
        let (mut rest, mut sent) = (&mut parts[..], 0);
        loop {
            // Also passes over the empty ones at the front.
            IoSlice::advance_slices(&mut rest, 0);
            let step = poll_fn(|cx| {
                let written = poll_write(cx, stream, rest);
                if written.is_pending() && listens && ready!(buf.poll_refusal(cx, stream))? {
                    return Poll::Ready(Ok(None));
                }
                written
            });
            match watch.until(deadline(), step).await {
                Ok(Ok(Some(some))) => {
                    sent += some;
                    IoSlice::advance_slices(&mut rest, some);
                }
                Ok(Ok(None)) => return (sent, Ok(())),
                Ok(Err(err)) => return (sent, Err(err.into())),
                Err(err) => return (sent, Err(err)),
            }
        }
    }
}

/// How much of this a stream takes; none when there was nothing left, and what
/// it took before is under way.
fn poll_write(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncWrite + Unpin),
    parts: &[IoSlice<'_>],
) -> Poll<io::Result<Option<usize>>> {
    if parts.is_empty() {
        return Pin::new(stream).poll_flush(cx).map_ok(|()| None);
    }
    match ready!(Pin::new(stream).poll_write_vectored(cx, parts))? {
        0 => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        some => Poll::Ready(Ok(Some(some))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{self, REQUEST};
    use async_io::block_on;

    /// A peer that says `says`, `piece` bytes at a time, and takes as many at a
    /// time. Half of its reads and writes make us wait.
    struct Script {
        says: Vec<u8>,
        said: usize,
        heard: Vec<u8>,
        piece: usize,
        is_ready: bool,
    }

    impl Script {
        fn poll_ready(&mut self, cx: &Context<'_>) -> Poll<()> {
            self.is_ready = !self.is_ready;
            if self.is_ready {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    impl AsyncRead for Script {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            room: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            assert!(!room.is_empty(), "a read of nothing looks like an end");
            ready!(self.poll_ready(cx));
            let says = &self.says[self.said..];
            let len = self.piece.min(says.len()).min(room.len());
            room[..len].copy_from_slice(&says[..len]);
            self.said += len;
            Poll::Ready(Ok(len))
        }
    }

    impl AsyncWrite for Script {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            ready!(self.poll_ready(cx));
            let len = self.piece.min(bytes.len());
            self.heard.extend_from_slice(&bytes[..len]);
            Poll::Ready(Ok(len))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn conn(says: &[u8], piece: usize) -> Conn<Script> {
        Conn::new(Script {
            says: says.to_vec(),
            said: 0,
            heard: Vec::new(),
            piece,
            is_ready: false,
        })
    }

    #[test]
    fn requests_are_read_whatever_their_size_and_pieces() {
        let body = |len: usize| {
            (0..len)
                .map(|at| b"abcdefghijklmnopqrstuvwxyz"[at % 26])
                .collect::<Vec<_>>()
        };
        let mut says = Vec::new();
        let lens = [0, 1, 2_000, 2_048, 5_000, 70_000];
        for (len, head_len) in lens
            .into_iter()
            .flat_map(|len| [(len, 1), (len, 3_000), (len, 15_000)])
        {
            let fill = "x".repeat(head_len);
            put_line(
                &mut says,
                format_args!("POST / HTTP/1.1\r\nHost: h\r\nX: {fill}"),
            );
            put_line(&mut says, format_args!("Content-Length: {len}\r\n"));
            says.extend(body(len));
            put_line(
                &mut says,
                format_args!("POST / HTTP/1.1\r\nHost: h\r\nX: {fill}"),
            );
            put_line(&mut says, format_args!("Transfer-Encoding: chunked\r\n"));
            for piece in body(len).chunks(700) {
                put_line(&mut says, format_args!("{:x};ext", piece.len()));
                says.extend_from_slice(piece);
                says.extend_from_slice(b"\r\n");
            }
            put_line(&mut says, format_args!("0\r\nTrailer: x\r\n"));
        }
        for piece in [1, 7, 1_000, 2_048, 16_384, says.len()] {
            let mut conn = conn(&says, piece);
            let far = after(Duration::from_secs(60));
            for len in lens.into_iter().flat_map(|len| [len; 6]) {
                assert!(block_on(conn.first_byte(far)).unwrap());
                block_on(conn.read_head(REQUEST, far)).unwrap();
                let request = head::request(conn.head()).unwrap();
                conn.body = request.body;
                let mut got = Vec::new();
                while let Some(range) = block_on(conn.piece(far)).unwrap() {
                    got.extend_from_slice(conn.bytes(range));
                }
                assert!(got == body(len), "{len} by {piece}");
                assert_eq!(&conn.head()[request.method], b"POST", "the head stays");
                assert!(conn.buf.bytes.len() <= 3 * HTTP_BUF_BYTES_MAX);
                conn.rest();
                assert!(conn.has_unread() || conn.buf.bytes.len() <= HTTP_BUF_BYTES);
            }
            assert!(!block_on(conn.first_byte(far)).unwrap(), "nothing is left");
        }
    }

    #[test]
    fn what_is_sent_arrives_in_order() {
        let second = Duration::from_secs(1);
        let body = vec![b'x'; 1_000];
        for piece in [1, 3, 999, 5_000] {
            let mut conn = conn(b"", piece);
            put_line(&mut conn.out, format_args!("head"));
            block_on(conn.send_out(&body, second)).unwrap();
            block_on(conn.send_chunk(b"data", second)).unwrap();
            block_on(conn.send_chunk(b"", second)).unwrap();
            block_on(conn.send(b"end", second)).unwrap();
            let want = [b"head\r\n", &body[..], b"4\r\ndata\r\n0\r\n\r\nend"].concat();
            assert!(conn.stream.heard == want, "by {piece}");
        }
    }

    #[test]
    fn a_refusal_ends_what_is_being_sent() {
        let body = vec![b'x'; 1_000];
        let cases: [(&[u8], Sent); 4] = [
            (b"HTTP/1.1 413 Content Too Large\r\n", Sent::Part),
            (b"HTTP/1.1 307 Elsewhere\r\n", Sent::Part),
            (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 413", Sent::All),
            (b"HTTP/1.1 200 OK\r\n", Sent::All),
        ];
        for (says, want) in cases {
            for piece in [1, 5, 20] {
                let mut conn = conn(says, piece);
                conn.out = b"head".to_vec();
                let sent =
                    block_on(conn.send_until_refused(&body, || after(Duration::from_secs(9))));
                assert_eq!(sent.unwrap(), want, "{}", String::from_utf8_lossy(says));
                assert!(
                    says.starts_with(conn.buf.unread()),
                    "what was said is not lost"
                );
            }
        }
    }
}
