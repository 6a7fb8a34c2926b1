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
use crate::limits::HTTP_POOL_LOOK;

/// A server, and the idle connections to it.
#[derive(Debug)]
pub struct Pool {
    /// Where it is.
    pub endpoint: Endpoint,
    /// So many connections are kept at most.
    most: usize,
    idle: Mutex<Vec<Idle>>,
    alarm: Mutex<Alarm>,
}

/// A timer, and when it fires. That is left where it is while it is early enough: a busy client
/// would move it with every exchange.
#[derive(Debug)]
struct Alarm {
    timer: Timer,
    fires: Option<Instant>,
    /// When all connections were looked at last.
    looked: Option<Instant>,
}

#[derive(Debug)]
struct Idle {
    conn: Conn<Stream>,
    until: Instant,
}

impl Pool {
    /// No connections so far.
    pub fn new(endpoint: Endpoint, most: usize) -> Pool {
        Pool {
            endpoint,
            most,
            idle: Mutex::default(),
            alarm: Mutex::new(Alarm {
                timer: Timer::never(),
                fires: None,
                looked: None,
            }),
        }
    }

    /// The connection used last, if there is one that is still open.
    pub fn take(self: &Arc<Pool>) -> Option<Conn<Stream>> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            // The one that is registered: another would wake it.
            let waker = Waker::from(Arc::clone(self));
            let mut cx = Context::from_waker(&waker);
            if idle.is_of_use(&mut cx) {
                return Some(idle.conn);
            }
        }
    }

    /// Keeps a connection for so long. The others are not looked at: whichever closes wakes us.
    pub fn put(self: &Arc<Pool>, conn: Conn<Stream>, keep: Duration) {
        let until = Instant::now() + keep;
        let mut new = Idle { conn, until };
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        if !new.is_of_use(&mut cx) {
            return;
        }
        let mut idle = lock(&self.idle);
        let too_many = (idle.len() >= self.most).then(|| idle.remove(0));
        idle.push(new);
        drop(idle);
        drop(too_many);
        self.alarm(&mut cx, until);
    }

    /// Drops what is closed or over, and asks to be woken for the rest.
    ///
    /// A connection that is taken wakes us too, for nothing: of a busy client's none are
    /// looked at again before the timer fires or [`HTTP_POOL_LOOK`] has passed.
    fn tidy(self: &Arc<Pool>) {
        let now = Instant::now();
        let mut alarm = lock(&self.alarm);
        let is_early = alarm.looked.is_some_and(|at| now - at < HTTP_POOL_LOOK);
        if is_early && alarm.fires.is_some_and(|fires| fires > now) {
            return;
        }
        alarm.looked = Some(now);
        drop(alarm);
        let waker = Waker::from(Arc::clone(self));
        let mut cx = Context::from_waker(&waker);
        // Whatever is polled may wake somebody, us included: so not under the lock.
        let mut idle = mem::take(&mut *lock(&self.idle));
        idle.retain_mut(|idle| idle.is_of_use(&mut cx));
        if let Some(first) = idle.iter().map(|idle| idle.until).min() {
            self.alarm(&mut cx, first);
            let mut kept = lock(&self.idle);
            kept.append(&mut idle);
            kept.truncate(self.most);
        }
    }

    /// Asks to be woken at `first`, or at some moment before it.
    fn alarm(&self, cx: &mut Context<'_>, first: Instant) {
        let now = Instant::now();
        let mut alarm = lock(&self.alarm);
        if alarm
            .fires
            .is_none_or(|fires| fires > first || fires <= now)
        {
            alarm.timer.set_at(first);
            alarm.fires = Some(first);
        }
        // It may have passed by now: then the next use finds out.
        let _ = Pin::new(&mut alarm.timer).poll(cx);
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
