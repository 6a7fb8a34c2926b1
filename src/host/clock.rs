//! The only caller of the system's clocks.

use std::time::{Instant, SystemTime};

use crate::base::uptime::Uptime;
use crate::world::Pending;
use crate::world::clock::Clock;

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn start() -> SystemClock {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Uptime {
        Uptime::from_start(self.start.elapsed())
    }

    fn wall_secs(&self) -> i64 {
        match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
        }
    }

    fn sleep_until(&self, at: Uptime) -> Pending<'_, ()> {
        let at = self.start.checked_add(at.since_start());
        Box::pin(async move {
            match at {
                Some(at) => {
                    async_io::Timer::at(at).await;
                }
                None => std::future::pending().await,
            }
        })
    }
}
