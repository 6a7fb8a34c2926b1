//! Volumes, binds and temporary file systems.

use serde::{Deserialize, Serialize};

use super::is_false;
use crate::model::VolumeName;

/// Where the agent mounts the lock directory of a service in its container
/// (target-state 5.1, D-38). Nothing else can be there.
pub const LOCK_TARGETS: [&str; 2] = ["/tmp/balena", "/tmp/resin"];

/// Something of the host or of the engine inside a container (target-state 2.22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// A volume of the release.
    Volume {
        /// Where in the container.
        target: String,
        /// Its name in the release.
        source: VolumeName,
        /// Not to be written to.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// Whether the image's files at the target stay out of an empty volume.
        #[serde(default, skip_serializing_if = "is_false")]
        nocopy: bool,
        /// Only this directory of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// A path of the host.
    Bind {
        /// Where in the container.
        target: String,
        /// Where on the host.
        source: String,
        /// Not to be written to.
        #[serde(default, skip_serializing_if = "is_false")]
        read_only: bool,
        /// How mounts below it are seen on the other side.
        #[serde(default)]
        propagation: Propagation,
        /// Whether the engine makes the path if it is missing.
        #[serde(default, skip_serializing_if = "is_false")]
        create_host_path: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Where in the container.
        target: String,
        /// Bytes.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<i64>,
        /// Permission bits.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

impl Mount {
    /// Where in the container.
    #[must_use]
    pub fn target(&self) -> &str {
        match self {
            Mount::Volume { target, .. }
            | Mount::Bind { target, .. }
            | Mount::Tmpfs { target, .. } => target,
        }
    }
}

/// How mounts below a bind are seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)] // The kernel's own words.
pub enum Propagation {
    #[default]
    Private,
    Rprivate,
    Shared,
    Rshared,
    Slave,
    Rslave,
}

impl Propagation {
    /// The word, if it is one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Propagation> {
        Some(match word {
            "private" => Propagation::Private,
            "rprivate" => Propagation::Rprivate,
            "shared" => Propagation::Shared,
            "rshared" => Propagation::Rshared,
            "slave" => Propagation::Slave,
            "rslave" => Propagation::Rslave,
            _ => return None,
        })
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Propagation::Private => "private",
            Propagation::Rprivate => "rprivate",
            Propagation::Shared => "shared",
            Propagation::Rshared => "rshared",
            Propagation::Slave => "slave",
            Propagation::Rslave => "rslave",
        }
    }
}

/// Options of an entry of the field `tmpfs` (target-state 2.20); `null` in JSON when not given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TmpfsOptions {
    /// Permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The owning group.
    pub gid: Option<u32>,
}
