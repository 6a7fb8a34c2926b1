//! The verdict as it is written.

use serde_json::value::RawValue;

use crate::base::json::written;
use crate::base::map::Map;
use crate::intake::Refusal;
use crate::model::target::Dependency;
use crate::model::{NetworkName, ReleaseUuid, ServiceName, VolumeName};

/// What is wrong, and where.
pub(super) struct Fault {
    pub path: String,
    pub reason: String,
}

written!(Fault {
    path always, reason always,
});

/// The document on stdout.
#[derive(Default)]
pub(super) struct Verdict {
    pub accepted: bool,
    pub errors: Vec<Fault>,
    pub warnings: Vec<String>,
    pub apps: Map<String, AppVerdict>,
}

written!(Verdict {
    accepted always, errors always, warnings always, apps always,
});

#[derive(Default)]
pub(super) struct AppVerdict {
    pub status: &'static str,
    pub errors: Vec<Fault>,
    pub release: Option<ReleaseUuid>,
    pub image: Option<String>,
    pub board_rev: Option<String>,
    pub updater: Option<String>,
    pub releases: Map<String, ReleaseVerdict>,
}

written!(AppVerdict {
    status always, errors always, release, image, board_rev, updater, releases always,
});

#[derive(Default)]
pub(super) struct ReleaseVerdict {
    pub services: Map<ServiceName, ServiceVerdict>,
    pub networks: Map<NetworkName, Box<RawValue>>,
    pub volumes: Map<VolumeName, Box<RawValue>>,
}

written!(ReleaseVerdict {
    services always, networks always, volumes always,
});

pub(super) struct ServiceVerdict {
    pub depends_on: Map<ServiceName, Dependency>,
    pub create: Option<Box<RawValue>>,
    pub connect: Option<Vec<String>>,
}

written!(ServiceVerdict {
    depends_on always, create, connect,
});

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Fault {
        Fault {
            path: refusal.path,
            reason: refusal.reason,
        }
    }
}
