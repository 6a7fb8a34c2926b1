//! Small named documents that survive power cuts.

use std::fmt;

use super::Pending;

/// A document that cannot be read or written.
#[derive(Debug)]
pub struct StoreError {
    /// Which document.
    pub path: String,
    /// What the system said.
    pub said: String,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document '{}': {}", self.path, self.said)
    }
}

impl std::error::Error for StoreError {}

/// Documents by path, `apps/{uuid}/name`. A path has only normal components.
pub trait Store: Send + Sync {
    /// The bytes; `None` when there is no such document.
    fn get<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Vec<u8>>, StoreError>>;

    /// Replaces the document: after a power cut either the old or the new one is
    /// there. Writes nothing when it already has these bytes (FD-33).
    fn put<'a>(&'a self, path: &'a str, bytes: &'a [u8]) -> Pending<'a, Result<(), StoreError>>;

    /// Removes a document, or everything below a path that ends with `/`.
    /// What is not there counts as removed.
    fn delete<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>>;

    /// The names directly below `path`, in order; hidden ones are left out.
    fn list<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>>;

    /// Sets a document that does not parse aside, so that it does not stop the
    /// next start and can be looked at (FD-32, W-20).
    fn quarantine<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>>;
}
