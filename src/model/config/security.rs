//! What keeps containers apart.

use serde::{Deserialize, Serialize};

/// The cgroup namespace of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cgroup {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
}

impl Cgroup {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Cgroup::Private => "private",
            Cgroup::Host => "host",
        }
    }
}
