//! Idle connections of a client, closed on time without a task of their own.
//!
//! The pool is woken by a timer: when the first one's time is over, it drops what is
//! of no more use. What a server closes is found when it is taken, or goes with the rest within
//! seconds: to listen to each would cost a busy client more than it saves. Nothing is held by a
//! client that sleeps.

use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use async_io::Timer;

use super::conn::Conn;
use super::stream::{Endpoint, Stream};
use crate::base::lock::lock;

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

#[derive(Debug)]
struct Alarm {
    timer: Timer,
    /// When it fires. It is left there while that is early enough: a busy client would move it
    /// with every exchange.
    fires: Option<Instant>,
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
            }),
        }
    }

    /// The connection used last, if there is one that is still open.
    pub fn take(&self) -> Option<Conn<Stream>> {
        loop {
            let mut idle = lock(&self.idle).pop()?;
            if idle.until > Instant::now() && idle.conn.stream.is_silent() {
                return Some(idle.conn);
            }
        }
    }

    /// Keeps a connection for so long.
    pub fn put(self: &Arc<Pool>, conn: Conn<Stream>, keep: Duration) {
        let until = Instant::now() + keep;
        let mut idle = lock(&self.idle);
        let too_many = (idle.len() >= self.most).then(|| idle.remove(0));
        idle.push(Idle { conn, until });
        drop(idle);
        drop(too_many);
        self.alarm(until);
    }

    /// Drops what is over, and asks to be woken for the rest.
    fn tidy(self: &Arc<Pool>) {
        let now = Instant::now();
        let mut idle = lock(&self.idle);
        let over: Vec<_> = idle.extract_if(.., |idle| idle.until <= now).collect();
        let first = idle.iter().map(|idle| idle.until).min();
        drop(idle);
        drop(over);
        if let Some(first) = first {
            self.alarm(first);
        }
    }

    /// Asks to be woken at `first`, or at some moment before it.
    fn alarm(self: &Arc<Pool>, first: Instant) {
        let mut alarm = lock(&self.alarm);
        let now = Instant::now();
        if alarm
            .fires
            .is_some_and(|fires| fires > now && fires <= first)
        {
            return;
        }
        alarm.timer.set_at(first);
        alarm.fires = Some(first);
        let waker = Waker::from(Arc::new(Bell(Arc::downgrade(self))));
        // It may have passed by now: then the next use finds out.
        let _ = Pin::new(&mut alarm.timer).poll(&mut Context::from_waker(&waker));
    }
}

/// What the timer wakes, as long as there is a client.
struct Bell(Weak<Pool>);

impl Wake for Bell {
    fn wake(self: Arc<Bell>) {
        if let Some(pool) = self.0.upgrade() {
            pool.tidy();
        }
    }
}
