//! What is: the device as the engine shows it.

use std::sync::Arc;

use super::status::{ContainerStatus, Health};
use super::target::Dependency;
use super::{
    AppUuid, ImageUri, NetworkConfig, NetworkName, ReleaseUuid, ServiceName, VolumeConfig,
    VolumeName,
};
use crate::base::map::Map;

/// The device as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Device {
    /// The device's own uuid.
    pub uuid: Arc<str>,
    /// Its name, once a target told it.
    pub name: Option<Arc<str>>,
    /// The host OS, when it is known.
    pub host: Option<OperatingSystem>,
    /// All images on the engine that have a name, by normalised reference.
    pub images: Map<ImageUri, Image>,
    /// Apps by uuid.
    pub apps: Map<AppUuid, App>,
}

/// What the host runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatingSystem {
    /// `balenaOS`.
    pub name: Arc<str>,
    /// `6.1.4+rev2`.
    pub version: Option<Arc<str>>,
    /// The board revision.
    pub build: Option<Arc<str>>,
}

/// One image on the engine, or on its way there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Image {
    /// `sha256:...`; `None` while it is being pulled.
    pub id: Option<Arc<str>>,
    /// 0 to 100.
    pub progress: u8,
    /// `cmd` and `labels` of the image as a JSON object.
    pub config: Option<Arc<str>>,
}

/// One app as it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct App {
    /// The backend's number for it, 0 when unknown.
    pub id: u32,
    /// Its name, for people.
    pub name: Option<Arc<str>>,
    /// The release whose parts all matched the target at the end of an apply.
    pub installed: Option<ReleaseUuid>,
    /// The target release that was refused.
    pub rejected: Option<ReleaseUuid>,
    /// Every container of the app, by engine name.
    pub containers: Map<Arc<str>, Container>,
    /// Networks of the app by name in the release.
    pub networks: Map<NetworkName, Network>,
    /// Further networks of a name that is taken: only one is wanted (FD-21).
    pub spare_networks: Vec<(NetworkName, Arc<str>)>,
    /// Volumes of the app by engine name.
    pub volumes: Map<Arc<str>, Volume>,
}

/// One container of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    /// The engine's id.
    pub id: Arc<str>,
    /// Which service it is.
    pub service: ServiceName,
    /// The backend's number of the service, from its label.
    pub service_id: u32,
    /// Which release its name says.
    pub release: ReleaseUuid,
    /// What was asked for when it was made; `None` when it was not made by this agent.
    pub identity: Option<Identity>,
    /// Whose it is, by its labels.
    pub maker: Maker,
    /// The engine's id of the image that it runs.
    pub image_id: Arc<str>,
    /// What it waits for, from its label.
    pub depends_on: Map<ServiceName, Dependency>,
    /// What it does right now.
    pub status: ContainerStatus,
    /// It counts as stopped and holds on to all that it has: its ports, its networks.
    pub is_paused: bool,
    /// Tells one start from the others.
    pub started: u64,
    /// How it ended; meaningful when stopped.
    pub exit_code: Option<i64>,
    /// What its health check says.
    pub health: Health,
    /// When it was made: RFC 3339, UTC, `+00:00`.
    pub created: Arc<str>,
    /// Why the engine will or will not start it again (D-21).
    pub restart: Restart,
    /// Engine names of the networks it is attached to.
    pub networks: Vec<Arc<str>>,
    /// Engine names of the named volumes it mounts.
    pub volumes: Vec<Arc<str>>,
    /// Ids of the containers whose namespaces it shares.
    pub lenders: Vec<Arc<str>>,
    /// Of what the engine says that it was made from and hangs on: to notice that somebody
    /// changed it (D-11).
    pub fingerprint: u64,
    /// The host's directory that it sees at `/tmp/balena`; `None`: its service's own (D-38).
    pub lock_dir: Option<Arc<str>>,
}

impl Container {
    /// Whether it has a process, also one that is paused: it has to be stopped before anything
    /// else.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status == ContainerStatus::Running || self.is_paused
    }
}

/// Whose a container is, by its labels (D-08).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Maker {
    /// This agent's: it has a label of our own, in whatever form.
    #[default]
    Us,
    /// The legacy supervisor's, or upstream's.
    Legacy,
    /// Somebody else's.
    Nobody,
}

/// What a container was asked to be (D-11): the label of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The image reference of the target.
    pub image: ImageUri,
    /// The canonical configuration.
    pub config: Arc<str>,
}

/// The engine's restart policy of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// Always.
    Always,
    /// Always, but not after a stop on purpose.
    UnlessStopped,
    /// After a failure; `true` while tries are left.
    OnFailure(bool),
}

/// One network of ours.
#[derive(Debug, Clone, PartialEq)]
pub struct Network {
    /// The engine's id; names may be ambiguous (FD-21).
    pub id: Arc<str>,
    /// Its name on the engine.
    pub oci_name: Arc<str>,
    /// What was asked for; `None` when it was not made by this agent.
    pub config: Option<NetworkConfig>,
}

/// One volume of ours, or one adopted from the legacy supervisor.
#[derive(Debug, Clone, PartialEq)]
pub struct Volume {
    /// Its name in the release.
    pub name: VolumeName,
    /// What was asked for; `None` when it was not made by this agent.
    pub config: Option<VolumeConfig>,
}
