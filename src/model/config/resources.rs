//! Limits and devices.

use crate::base::json::members;

/// A device of the host in the container (target-state 2.11).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Where on the host.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

members!(Device {
    source always, target always, permissions always,
});

/// A limit of the kernel (target-state 2.21).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ulimit {
    /// What holds.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}

members!(Ulimit {
    soft always, hard always,
});
