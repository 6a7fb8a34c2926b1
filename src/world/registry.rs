//! The registry that an image comes from, as far as one asks it before a pull (FD-07).

use super::Pending;
use crate::model::ImageUri;

/// What an image takes, by its manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// Bytes of all layers as they are downloaded.
    pub bytes: u64,
    /// Each layer, the lowest first; empty when nobody needed to know.
    pub layers: Vec<Layer>,
}

/// One layer of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// The hash of what it unpacks to, by which the engine knows it: `sha256:...`.
    pub diff_id: String,
    /// Bytes of the download.
    pub bytes: u64,
}

/// Reads manifests.
pub trait Registry: Send + Sync {
    /// What an image takes on a device of `arch`. Its layers are told only when all of them
    /// together are more than `enough` bytes.
    ///
    /// # Errors
    /// Why that is not known, as a sentence without secrets. It is no reason not to pull.
    fn weigh<'a>(
        &'a self,
        image: &'a ImageUri,
        arch: &'a str,
        enough: u64,
    ) -> Pending<'a, Result<Weight, String>>;
}
