//! Volumes, binds and temporary file systems.

use serde::{Deserialize, Deserializer, Serialize};

use super::is_false;
use crate::base::json::{Text, fields, members};
use crate::model::VolumeName;

/// Where the agent mounts the lock directory of a service in its container
/// (target-state 5.1, D-38). Nothing else can be there.
pub const LOCK_TARGETS: [&str; 2] = ["/tmp/balena", "/tmp/resin"];

/// Something of the host or of the engine inside a container (target-state 2.22).
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Mount {
    /// A volume of the release.
    Volume {
        /// Where in the container.
        target: String,
        /// Its name in the release.
        source: VolumeName,
        /// Not to be written to.
        #[serde(skip_serializing_if = "is_false")]
        read_only: bool,
        /// Whether the image's files at the target stay out of an empty volume.
        #[serde(skip_serializing_if = "is_false")]
        nocopy: bool,
        /// Only this directory of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        subpath: Option<String>,
    },
    /// A path of the host.
    Bind {
        /// Where in the container.
        target: String,
        /// Where on the host.
        source: String,
        /// Not to be written to.
        #[serde(skip_serializing_if = "is_false")]
        read_only: bool,
        /// How mounts below it are seen on the other side.
        propagation: Propagation,
        /// Whether the engine makes the path if it is missing.
        #[serde(skip_serializing_if = "is_false")]
        create_host_path: bool,
    },
    /// A file system in memory.
    Tmpfs {
        /// Where in the container.
        target: String,
        /// Bytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        size: Option<i64>,
        /// Permission bits.
        #[serde(skip_serializing_if = "Option::is_none")]
        mode: Option<u32>,
    },
}

/// The members of all kinds.
#[derive(Default)]
struct Flat {
    kind: String,
    target: String,
    source: String,
    read_only: bool,
    nocopy: bool,
    subpath: Option<String>,
    propagation: Propagation,
    create_host_path: bool,
    size: Option<i64>,
    mode: Option<u32>,
}

fields!(Flat {
    target, source, read_only, nocopy, subpath, propagation, create_host_path, size, mode,
    "type" => kind,
});

impl<'de> Deserialize<'de> for Mount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Mount, D::Error> {
        let flat = Flat::deserialize(deserializer)?;
        let target = flat.target;
        Ok(match &*flat.kind {
            "volume" => Mount::Volume {
                target,
                source: VolumeName::new(&flat.source),
                read_only: flat.read_only,
                nocopy: flat.nocopy,
                subpath: flat.subpath,
            },
            "bind" => Mount::Bind {
                target,
                source: flat.source,
                read_only: flat.read_only,
                propagation: flat.propagation,
                create_host_path: flat.create_host_path,
            },
            "tmpfs" => Mount::Tmpfs {
                target,
                size: flat.size,
                mode: flat.mode,
            },
            _ => return Err(serde::de::Error::custom("a mount of an unknown type")),
        })
    }
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
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

impl<'de> Deserialize<'de> for Propagation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Propagation, D::Error> {
        let Text(word) = Text::deserialize(deserializer)?;
        let unknown = || serde::de::Error::custom("an unknown propagation");
        Propagation::parse(&word).ok_or_else(unknown)
    }
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TmpfsOptions {
    /// Permission bits.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The owning group.
    pub gid: Option<u32>,
}

members!(TmpfsOptions {
    mode always, uid always, gid always,
});
