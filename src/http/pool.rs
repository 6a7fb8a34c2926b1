//! Idle connections of a client, closed on time without a task of their own.
//!
//! The pool is itself the waker of a timer and of its connections: when the
//! first one's time is over, or a server closes one, it looks through them and
//! drops what is of no more use. Nothing is held by a client that sleeps.

use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;
use futures_lite::AsyncRead;

use super::conn::Conn;
use super::stream::{Endpoint, Stream};
use crate::base::lock::lock;
use crate::limits::HTTP_POOL_MAX;

/// A server, and the idle connections to it.
#[derive(Debug)]
pub struct Pool {
    /// Where it is.
    pub endpoint: Endpoint,
    idle: Mutex<Vec<Idle>>,
    timer: Mutex<Timer>,
}

#[derive(Debug)]
struct Idle {
    conn: Conn<Stream>,
    until: Instant,
}

impl Pool {
    /// No connections so far.
    pub fn new(endpoint: Endpoint) -> Pool {
        Pool {
            endpoint,
            idle: Mutex::default(),
            timer: Mutex::new(Timer::never()),
        }
    }

    /// The connection used last, if there is one that is still open.
    pub fn take(&self) -> Option<Conn<Stream>> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            let mut cx = Context::from_waker(Waker::noop());
            if idle.is_of_use(&mut cx) {
                return Some(idle.conn);
            }
        }
    }

    /// Keeps a connection for so long.
    pub fn put(self: &Arc<Pool>, conn: Conn<Stream>, keep: Duration) {
        let until = Instant::now() + keep;
        let mut idle = lock(&self.idle);
        let too_many = (idle.len() >= HTTP_POOL_MAX).then(|| idle.remove(0));
        idle.push(Idle { conn, until });
        drop(idle);
        drop(too_many);
        self.tidy();
    }

    /// Drops what is closed or over, and asks to be woken for the rest.
    fn tidy(self: &Arc<Pool>) {
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        // Whatever is polled may wake somebody, us included: so not under the lock.
        let mut idle = mem::take(&mut *lock(&self.idle));
        idle.retain_mut(|idle| idle.is_of_use(&mut cx));
        if let Some(first) = idle.iter().map(|idle| idle.until).min() {
            let mut timer = lock(&self.timer);
            timer.set_at(first);
            // It may have passed by now: then the next use finds out.
            let _ = Pin::new(&mut *timer).poll(&mut cx);
            drop(timer);
            let mut kept = lock(&self.idle);
            kept.append(&mut idle);
            kept.truncate(HTTP_POOL_MAX);
        }
    }
}

impl Wake for Pool {
    fn wake(self: Arc<Pool>) {
        self.tidy();
    }
}

impl Idle {
    /// Whether its time is not over and it is open. An idle server says nothing:
    /// an end, an error and a byte all mean that the connection is of no more use.
    fn is_of_use(&mut self, cx: &mut Context<'_>) -> bool {
        let stream = Pin::new(&mut self.conn.stream);
        self.until > Instant::now() && stream.poll_read(cx, &mut [0]).is_pending()
    }
}
