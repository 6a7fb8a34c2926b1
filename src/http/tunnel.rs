//! What becomes of a connection that has left HTTP: bytes, both ways.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::{AsyncRead, AsyncWrite};

use super::stream::Stream;
use crate::limits::HTTP_TUNNEL_BUF_BYTES;

/// A stream, and what had already arrived on it.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) stream: Stream,
    pub(super) early: Vec<u8>,
}

/// One way of a tunnel: bytes read and not yet written.
struct Way {
    buf: Vec<u8>,
    pos: usize,
    end: usize,
}

impl Way {
    fn new(early: &[u8]) -> Way {
        let mut buf = early.to_vec();
        buf.resize(early.len().max(HTTP_TUNNEL_BUF_BYTES), 0);
        Way {
            buf,
            pos: 0,
            end: early.len(),
        }
    }

    /// Ready once `from` has ended and all of it is with `to`, or one of them broke.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Stream,
        to: &mut Stream,
    ) -> Poll<io::Result<()>> {
        loop {
            while self.pos < self.end {
                let bytes = &self.buf[self.pos..self.end];
                match ready!(Pin::new(&mut *to).poll_write(cx, bytes))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    some => self.pos += some,
                }
            }
            ready!(Pin::new(&mut *to).poll_flush(cx))?;
            (self.pos, self.end) = (
                0,
                ready!(Pin::new(&mut *from).poll_read(cx, &mut self.buf))?,
            );
            if self.end == 0 {
                to.half_close();
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Carries bytes between the two until both have ended, or one broke.
pub(super) async fn join(ours: &mut Stream, early: &[u8], mut theirs: Tunnel) -> io::Result<()> {
    let (mut there, mut back) = (Way::new(early), Way::new(&theirs.early));
    let (mut there_ended, mut back_ended) = (false, false);
    poll_fn(|cx| {
        if !there_ended {
            there_ended = there.poll(cx, ours, &mut theirs.stream)?.is_ready();
        }
        if !back_ended {
            back_ended = back.poll(cx, &mut theirs.stream, ours)?.is_ready();
        }
        if there_ended && back_ended {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    })
    .await
}
