//! The backend.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Pending;

/// Why an exchange with the backend brought nothing.
#[derive(Debug)]
pub struct RemoteError {
    /// What to do about it.
    pub kind: RemoteKind,
    /// A sentence for the log, without secrets.
    pub said: String,
}

/// What to do about a failed exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RemoteKind {
    /// No answer, or one that says "later": try again with back-off, and not
    /// before the server's `Retry-After`, if it gave one.
    Later(Option<Duration>),
    /// 401: the key is not (or no longer) good for this device.
    Unauthorized,
    /// 404 and other answers that the same request will get again.
    Refused(u16),
    /// The answer is too large or is not the document it should be.
    Unreadable,
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for RemoteError {}

/// What a poll brought.
#[derive(Debug, Clone)]
pub enum Polled {
    /// The document is another one than last time.
    Changed(Arc<[u8]>),
    /// The document is the one that was handed out last.
    Unchanged,
    /// 304 to an unconditional request: the backend does not know this device (R-POLL-6).
    UnknownDevice,
}

/// The backend's API from the device's side.
pub trait Remote: Send + Sync {
    /// The document of the last good poll, from disk; `None` without one.
    fn cached(&self) -> Pending<'_, Option<Vec<u8>>>;

    /// The document of [`Remote::cached`] is of no use: the next poll asks for all of it
    /// (R-POLL-7).
    fn forget(&self) {}

    /// The next poll asks without a condition: a "not modified" says nothing about whether
    /// the backend knows this device (R-POLL-6). What it was told last stays known.
    fn doubt(&self) {}

    /// Asks for the target (remote-api 2.1).
    fn poll(&self) -> Pending<'_, Result<Polled, RemoteError>>;

    /// Keeps the document of the last poll for the next start, in place of the former.
    /// Best effort: one that cannot be written down is applied all the same.
    fn keep<'a>(&'a self, document: &'a [u8]) -> Pending<'a, ()>;

    /// Sends a report: the JSON of one device's changes (remote-api 3.1).
    fn report<'a>(&'a self, body: &'a [u8]) -> Pending<'a, Result<(), RemoteError>>;
}
