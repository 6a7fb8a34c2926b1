//! A connected socket, TCP or Unix.
//!
//! `async-io` by itself tries each read first and waits then. Whoever has just written waits for
//! the other side: here that read waits at once, and whoever was woken asks `async-io` before the
//! system, so that a message takes no read that finds nothing. What `async-io` tells of an event
//! does not end a wait that began in the same round of its reactor, though: whoever is woken and
//! told of nothing tries nevertheless, or might be woken for ever.

use std::io::{self, IoSlice};
use std::mem;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use async_io::Async;
use futures_lite::{AsyncRead, AsyncWrite};
use rustix::io::{Errno, writev};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};

/// Both ways of a socket.
#[derive(Debug)]
pub struct Socket {
    io: Async<OwnedFd>,
    /// Written to, and neither read from nor waited for since.
    is_answer_due: bool,
    /// Something to read was waited for, and is still.
    is_waiting: bool,
}

impl Socket {
    /// Of one that was waited for in another way, to be connected or accepted.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn new(socket: Async<impl Into<OwnedFd>>) -> io::Result<Socket> {
        let io = Async::new(socket.into_inner()?.into())?;
        Ok(Socket {
            io,
            is_answer_due: false,
            is_waiting: false,
        })
    }

    /// Tells the peer that no more will come. One that is gone needs to be told nothing.
    pub fn half_close(&self) {
        shutdown(self.io.get_ref(), Shutdown::Write).ok();
    }

    /// Whether it is open, and nothing has come that was not read. Looked into, not waited for.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        let mut byte = [0];
        recv(self.io.get_ref(), &mut byte, RecvFlags::PEEK) == Err(Errno::AGAIN)
    }
}

impl Socket {
    /// What is there now; `None` when it has to be waited for.
    fn received(&self, buf: &mut [u8]) -> Option<io::Result<usize>> {
        loop {
            let got = recv(self.io.get_ref(), &mut *buf, RecvFlags::empty());
            match tried(got.map(|(got, _)| got)) {
                Some(Err(err)) if err.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

/// What came of it; `None` when it has to be waited for.
fn tried(result: Result<usize, Errno>) -> Option<io::Result<usize>> {
    match result {
        Err(Errno::AGAIN) => None,
        result => Some(result.map_err(io::Error::from)),
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let (was_waiting, is_due) = (self.is_waiting, mem::take(&mut self.is_answer_due));
        let mut is_told = !was_waiting && !is_due;
        loop {
            if is_told && let Some(done) = self.received(buf) {
                self.is_waiting = false;
                return Poll::Ready(done);
            }
            is_told = self.io.poll_readable(cx)?.is_ready();
            if !is_told {
                break;
            }
        }
        // Woken, maybe, and not told.
        if was_waiting && let Some(done) = self.received(buf) {
            self.is_waiting = false;
            return Poll::Ready(done);
        }
        self.is_waiting = true;
        Poll::Pending
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        loop {
            match tried(writev(self.io.get_ref(), bufs)) {
                Some(Err(err)) if err.kind() == io::ErrorKind::Interrupted => {}
                Some(done) => {
                    self.is_answer_due = done.is_ok();
                    return Poll::Ready(done);
                }
                None => ready!(self.io.poll_writable(cx))?,
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.half_close();
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use futures_lite::{AsyncReadExt, AsyncWriteExt};
    use std::os::unix::net::UnixStream;

    fn socket(stream: UnixStream) -> Socket {
        Socket::new(Async::new(stream).unwrap()).unwrap()
    }

    #[test]
    fn what_came_before_and_after_a_write_is_read() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let [mut ours, mut theirs] = [ours, theirs].map(socket);
        async_io::block_on(async {
            let mut buf = [0; 8];
            theirs.write_all(b"early").await.unwrap();
            ours.write_all(b"a").await.unwrap();
            assert_eq!(ours.read(&mut buf).await.unwrap(), 5);
            assert!(ours.is_silent());
            assert!(poll_once(ours.read(&mut buf)).await.is_none());
            theirs.write_all(b"late").await.unwrap();
            assert!(!ours.is_silent());
            assert_eq!(ours.read(&mut buf).await.unwrap(), 4);
            ours.half_close();
            assert_eq!(theirs.read(&mut buf).await.unwrap(), 1);
            assert_eq!(theirs.read(&mut buf).await.unwrap(), 0);
        });
    }

    #[test]
    fn whoever_is_woken_reads_whatever_the_reactor_told() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut ours = socket(ours);
        let mut buf = [0; 8];
        for _ in 0..50 {
            block_on(ours.write_all(b"a")).unwrap();
            assert!(block_on(poll_once(ours.read(&mut buf))).is_none());
            io::Write::write_all(&mut theirs, b"b").unwrap();
            let got = block_on(poll_once(ours.read(&mut buf)));
            assert_eq!(got.unwrap().unwrap(), 1);
        }
    }

    #[test]
    fn a_peer_that_is_gone_is_an_error_and_no_signal() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut ours = socket(ours);
        drop(theirs);
        assert!(!ours.is_silent());
        let err = block_on(ours.write_all(b"a")).unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(block_on(ours.read(&mut [0])).unwrap(), 0);
    }
}
