//! What should be: a checked target.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    AppUuid, ImageUri, NetworkConfig, NetworkName, ReleaseUuid, ServiceConfig, ServiceName,
    VolumeConfig, VolumeName,
};
use crate::base::json::members;
use crate::base::map::{Map, Set};

/// The target of the whole device.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DeviceTarget {
    /// The device's name, when the document has one (a local edit has none).
    pub name: Option<Arc<str>>,
    /// What the document's `config` says to the agent (D-40).
    pub knobs: Knobs,
    /// User apps by uuid. Host apps are in `host`; the supervisor's own app is not here (D-09).
    pub apps: Map<AppUuid, AppTarget>,
    /// The host OS release, if the document names a good one.
    pub host: Option<HostTarget>,
    /// Host apps that cannot be used: the host keeps its release (D-16).
    pub refused_hosts: Map<AppUuid, Rejection>,
    /// The supervisor's own app, reported and never planned (D-09).
    pub supervisor: Option<SupervisorApp>,
}

/// Settings of the agent inside the target's `config` (D-40).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Knobs {
    /// `SUPERVISOR_POLL_INTERVAL`, not yet clamped.
    pub poll_interval: Option<Duration>,
    /// `SUPERVISOR_OVERRIDE_LOCK`.
    pub override_lock: bool,
    /// `SUPERVISOR_INSTANT_UPDATE_TRIGGER`; `None` when absent.
    pub instant_update: Option<bool>,
    /// `SUPERVISOR_HARDWARE_METRICS`; `None` when absent.
    pub hardware_metrics: Option<bool>,
}

/// The target of one user app.
#[derive(Debug, Clone, PartialEq)]
pub struct AppTarget {
    /// The backend's number for it; part of legacy volume names.
    pub id: u32,
    /// Its name, for people.
    pub name: Option<Arc<str>>,
    /// What is to run.
    pub release: AppRelease,
}

/// What an app's target says about its one release.
#[derive(Debug, Clone, PartialEq)]
pub enum AppRelease {
    /// The app exists and nothing of it runs.
    None,
    /// This release is to run.
    Wanted(ReleaseUuid, Arc<ReleaseTarget>),
    /// The document's release is bad: what runs is kept (D-16).
    Rejected(Rejection),
}

/// Why an app's target cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The release that was refused, when the document named one.
    pub release: Option<ReleaseUuid>,
    /// One line a problem: the path in the document and the reason.
    pub reasons: Arc<str>,
}

/// What one release consists of. All names it uses are declared in it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ReleaseTarget {
    /// Services by name.
    pub services: Map<ServiceName, ServiceTarget>,
    /// Networks by name, the implicit `default` included where a service needs it.
    pub networks: Map<NetworkName, NetworkConfig>,
    /// Volumes by name.
    pub volumes: Map<VolumeName, VolumeConfig>,
}

/// What one service is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceTarget {
    /// The backend's number for it.
    pub id: u32,
    /// The image it runs.
    pub image: ImageUri,
    /// Its [`ServiceConfig`](super::ServiceConfig) as canonical compact JSON.
    pub config: Arc<str>,
    /// What its configuration names of the release.
    pub uses: Uses,
    /// What it waits for before it starts, in name order.
    pub depends_on: Map<ServiceName, Dependency>,
    /// `false`: the container is to exist and not to run.
    pub running: bool,
    /// How its next container takes over from the last.
    pub strategy: Strategy,
}

impl ServiceTarget {
    /// The same with this configuration.
    #[must_use]
    pub fn with_config(self, config: &ServiceConfig) -> ServiceTarget {
        ServiceTarget {
            config: config.to_json().into(),
            uses: Uses::of(config),
            ..self
        }
    }
}

/// What a configuration names of its release. The rules ask for it with every change on the
/// device: it is kept, so that the configuration need not be parsed each time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    /// Networks it joins, in order.
    pub networks: Box<[NetworkName]>,
    /// Volumes it mounts, each once however often that is.
    pub volumes: Box<[VolumeName]>,
    /// Services whose containers lend it a namespace.
    pub lenders: Box<[ServiceName]>,
}

impl Uses {
    /// What this configuration names.
    #[must_use]
    pub fn of(config: &ServiceConfig) -> Uses {
        Uses {
            networks: config.used_networks().cloned().collect(),
            volumes: each_once(config.used_volumes().cloned()),
            lenders: each_once(config.shared_services().map(ServiceName::new)),
        }
    }
}

fn each_once<T: Ord>(names: impl Iterator<Item = T>) -> Box<[T]> {
    let names: Set<T> = names.collect();
    names.into_iter().collect()
}

/// How the container of a service takes over from its predecessor (target-state 7.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// The old one runs until the new image is there and the new container made (D-20).
    #[default]
    DownloadThenKill,
    /// The old one goes before the new image is downloaded.
    KillThenDownload,
    /// So does the old image: what needs the least space.
    DeleteThenDownload,
    /// Both run beside each other until the new one says so, or for so long.
    HandOver(Duration),
}

impl Strategy {
    /// Whether the old container goes before the new image is there.
    #[must_use]
    pub const fn kills_first(self) -> bool {
        matches!(
            self,
            Strategy::KillThenDownload | Strategy::DeleteThenDownload
        )
    }
}

/// How one service depends on another (target-state 2.10).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dependency {
    /// What has to be true of the other one.
    pub condition: Condition,
    /// The dependent restarts when the other one is made again.
    pub restart: bool,
    /// `false`: never waited for.
    pub required: bool,
}

members!(Dependency {
    condition always, restart always, required always,
});

/// What has to be true of a dependency.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Condition {
    /// It left the `created` state at least once.
    #[default]
    #[serde(rename = "service_started")]
    Started,
    /// Its health check passes.
    #[serde(rename = "service_healthy")]
    Healthy,
    /// It ended with exit code 0.
    #[serde(rename = "service_completed_successfully")]
    Completed,
}

/// The release of the host OS that is to run (target-state 1.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostTarget {
    /// The host app's uuid.
    pub app: AppUuid,
    /// Its release.
    pub release: ReleaseUuid,
    /// The OS image.
    pub image: ImageUri,
    /// The image that installs it.
    pub updater: ImageUri,
    /// The board revision that the installed OS will report.
    pub board_rev: Arc<str>,
}

/// The supervisor's own app as the target names it (target-state 4.6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorApp {
    /// Its uuid.
    pub app: AppUuid,
    /// Its release.
    pub release: ReleaseUuid,
    /// Its services and their images.
    pub services: Map<ServiceName, ImageUri>,
}
