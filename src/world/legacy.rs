//! The legacy supervisor, as far as the flows ask it for something (remote-api 9).

use std::fmt;

use super::Pending;

/// What it said to being told of a new target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It will fetch it.
    Accepted,
    /// It will not before its own time: instant updates are off, and nothing was forced.
    Deferred,
}

/// Why it did not do what it was asked for.
#[derive(Debug)]
pub struct LegacyError {
    /// What to do about it.
    pub kind: LegacyKind,
    /// A sentence for the log, without secrets.
    pub said: String,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegacyKind {
    /// It does not answer, or not sensibly: later, with back-off (R-TRG-3).
    Later,
    /// The key is not good: much later (R-TRG-4).
    Unauthorized,
    /// Update locks are in its way (R-TRG-5).
    Locked,
}

impl fmt::Display for LegacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for LegacyError {}

/// Its local API.
pub trait Legacy: Send + Sync {
    /// Tells it that there is a target to be fetched.
    fn update(&self, force: bool, cancel: bool) -> Pending<'_, Result<Told, LegacyError>>;

    /// Whether what it has is applied; else it is still at it.
    fn is_applied(&self) -> Pending<'_, Result<bool, LegacyError>>;

    /// Whether it takes this key for one of its own (R-SEC-3). An answer that says neither
    /// is an error.
    fn accepts<'a>(&'a self, key: &'a str) -> Pending<'a, Result<bool, LegacyError>>;
}
