//! Time.

use super::Pending;
use crate::base::uptime::Uptime;

/// The two clocks of a machine.
pub trait Clock: Send + Sync {
    /// The monotonic one: for everything that waits.
    fn now(&self) -> Uptime;

    /// Seconds since the epoch by the wall clock, which may be wrong: for file
    /// stamps and `Retry-After` dates only.
    fn wall_secs(&self) -> i64;

    /// Ends at `at` or a little later.
    fn sleep_until(&self, at: Uptime) -> Pending<'_, ()>;
}
