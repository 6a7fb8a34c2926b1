//! The only caller of the system's clocks.

use std::time::Instant;

use crate::base::uptime::Uptime;
use crate::base::wall;
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
        wall::secs()
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
