//! What becomes of a connection that has left HTTP: bytes, both ways.

use std::future::poll_fn;
use std::io;
use std::mem;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Timer;
use futures_lite::{AsyncRead, AsyncWrite, StreamExt as _};

use super::stream::Stream;
use crate::limits::{HTTP_TUNNEL_BUF_BYTES, HTTP_TUNNEL_IDLE};

/// A stream, and what had already arrived on it.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) stream: Stream,
    pub(super) early: Vec<u8>,
}

/// One way of a tunnel: a buffer, and where in it are bytes not yet written.
struct Way {
    buf: Vec<u8>,
    left: Range<usize>,
    has_ended: bool,
    /// Something was carried since this was looked at last.
    has_moved: bool,
}

impl Way {
    fn new(early: &[u8]) -> Way {
        let mut buf = early.to_vec();
        buf.resize(early.len().max(HTTP_TUNNEL_BUF_BYTES), 0);
        Way {
            buf,
            left: 0..early.len(),
            has_ended: false,
            has_moved: false,
        }
    }

    /// Ready once `from` has ended and all of it is with `to`, or one of them broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        while !self.has_ended {
            while !self.left.is_empty() {
                let bytes = &self.buf[self.left.clone()];
                match ready!(Pin::new(&mut *to).poll_write(cx, bytes))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    some => self.left.start += some,
                }
                self.has_moved = true;
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            self.left = 0..ready!(Pin::new(&mut *from).poll_read(cx, &mut self.buf))?;
            if self.left.is_empty() {
                to.half_close();
                self.has_ended = true;
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// Carries bytes between the two until both have ended, or one broke, or neither had
/// anything to say for too long.
pub(super) async fn join(ours: &mut Stream, early: &[u8], mut theirs: Tunnel) -> io::Result<()> {
    let (mut there, mut back) = (Way::new(early), Way::new(&theirs.early));
    let mut look = Timer::interval(HTTP_TUNNEL_IDLE);
    poll_fn(|cx| {
        let to = there.poll(cx, ours, &mut theirs.stream)?;
        let from = back.poll(cx, &mut theirs.stream, ours)?;
        while look.poll_next(cx).is_ready() {
            if !(mem::take(&mut there.has_moved) | mem::take(&mut back.has_moved)) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        ready!(to);
        from.map(Ok)
    })
    .await
}
