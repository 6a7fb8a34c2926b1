//! The only clock value the flows know.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Time since some fixed moment before the program started. Never steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Uptime(Duration);

impl Uptime {
    /// The moment `since_start` after the clock's zero.
    #[must_use]
    pub const fn from_start(since_start: Duration) -> Uptime {
        Uptime(since_start)
    }

    /// How long ago the clock's zero was.
    #[must_use]
    pub const fn since_start(self) -> Duration {
        self.0
    }
}

impl Add<Duration> for Uptime {
    type Output = Uptime;
    fn add(self, later: Duration) -> Uptime {
        Uptime(self.0.saturating_add(later))
    }
}

/// How long after `earlier`; zero when it was not.
impl Sub for Uptime {
    type Output = Duration;
    fn sub(self, earlier: Uptime) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}
/// Seconds for people, rounded up.
#[must_use]
pub const fn whole_secs(time: Duration) -> u64 {
    time.as_secs()
        .saturating_add((time.subsec_nanos() > 0) as u64)
}
