//! Limits and devices.

use serde::{Deserialize, Serialize};

/// A device of the host in the container (target-state 2.11).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where on the host.
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Some of `r`, `w` and `m`.
    pub permissions: String,
}

/// A limit of the kernel (target-state 2.21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// What holds.
    pub soft: i64,
    /// How far the process may raise it.
    pub hard: i64,
}
