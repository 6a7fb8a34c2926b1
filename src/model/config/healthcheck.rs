//! The health check.

use crate::base::json::members;

/// How the engine finds out whether a container is well (target-state 2.13).
/// What is not given comes from the image. Durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Healthcheck {
    /// `["CMD", ...]`, `["CMD-SHELL", text]` or `["NONE"]`.
    pub test: Option<Vec<String>>,
    /// Between two checks.
    pub interval: Option<i64>,
    /// For one check.
    pub timeout: Option<i64>,
    /// So long failures do not count.
    pub start_period: Option<i64>,
    /// Between two checks in that time.
    pub start_interval: Option<i64>,
    /// So many failures in a row make it unhealthy.
    pub retries: Option<i64>,
}

members!(Healthcheck {
    test,
    interval,
    timeout,
    start_period,
    start_interval,
    retries,
});
