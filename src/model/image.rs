//! Image references (target-state 1.7, remote-api 4.7).

use std::fmt;
use std::sync::Arc;

/// A checked image reference in normalised form: `repo@digest`, else `repo:tag`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageUri(Arc<str>);

impl ImageUri {
    /// The normalised text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
