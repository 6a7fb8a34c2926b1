//! The container engine.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Pending;
use crate::base::map::Map;
use crate::model::current::{Container, Network};
use crate::model::target::Dependency;
use crate::model::{
    AppUuid, ImageUri, NetworkConfig, NetworkName, ReleaseUuid, ServiceConfig, ServiceName,
    VolumeConfig, VolumeName,
};

/// A failed engine call. Decide by `kind`, show with `Display`, never match on text.
#[derive(Debug, Clone)]
pub struct EngineError {
    /// What to do about it.
    pub kind: Kind,
    /// What we were doing, as a verb and an object: `start container 'web_1a2b'`.
    pub doing: String,
    /// What the other side said, in its own words.
    pub said: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It is not there: already done, if we were removing it.
    Gone,
    /// It is there already, or in use.
    Conflict,
    /// The image that it needs is missing, or its layers cannot be read (FD-10).
    Damaged,
    /// A registry refused (R-REG-AUTH-6).
    Denied,
    /// Its disk is full. Asking again helps as soon as somebody made room (FD-08).
    Full,
    /// The request itself is wrong. Asking again will not help.
    Refused,
    /// The engine tried and failed (5xx). Asking again may help.
    Failed,
    /// No answer, or an answer we cannot read. Asking again may help.
    Unreachable,
}

impl EngineError {
    /// A failure to do `doing` of which the other side `said` something.
    pub fn new(kind: Kind, doing: impl Into<String>, said: impl Into<String>) -> EngineError {
        EngineError {
            kind,
            doing: doing.into(),
            said: said.into(),
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.doing, self.said)
    }
}

impl std::error::Error for EngineError {}

/// What answers on the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineInfo {
    /// `Docker`, `balenaEngine`, `Podman Engine`.
    pub name: String,
    /// Its own version.
    pub version: String,
    /// The API version that is used: the older of the engine's newest and ours.
    pub api: ApiVersion,
}

/// An API version, `1.41` being `ApiVersion(41)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ApiVersion(pub u16);

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1.{}", self.0)
    }
}

/// A container to be made. Names of networks and volumes in `config` are those
/// of the release; `network` and `volume` give the engine's.
#[derive(Clone, Copy)]
pub struct NewContainer<'a> {
    /// Its name on the engine.
    pub name: &'a str,
    /// The app it belongs to.
    pub app: &'a AppUuid,
    /// The app's number.
    pub app_id: u32,
    /// The app's name.
    pub app_name: Option<&'a str>,
    /// The release it is made for.
    pub release: &'a ReleaseUuid,
    /// The service it is.
    pub service: &'a ServiceName,
    /// The service's number.
    pub service_id: u32,
    /// The image reference of the target.
    pub image: &'a ImageUri,
    /// `cmd` and `labels` of the image as a JSON object, as far as they are known.
    pub image_config: Option<&'a str>,
    /// What the target asks for.
    pub config: &'a ServiceConfig,
    /// The same as canonical JSON, for the identity label.
    pub config_json: &'a str,
    /// What it waits for, for its label.
    pub depends_on: &'a Map<ServiceName, Dependency>,
    /// Engine name of a network of the release.
    pub network: &'a (dyn Fn(&NetworkName) -> String + Sync),
    /// Engine name of a volume of the release.
    pub volume: &'a (dyn Fn(&VolumeName) -> String + Sync),
    /// Id of the container of a service that lends this one a namespace.
    pub container: &'a (dyn Fn(&str) -> String + Sync),
    /// What the agent adds that is no part of identity (D-11).
    pub host: &'a HostFacts,
}

/// What the agent tells every container about the device (target-state 5).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The device's uuid.
    pub uuid: String,
    /// The device's name.
    pub device_name: Option<String>,
    /// The device type, from the stored identity.
    pub device_type: Option<String>,
    /// `amd64`, `aarch64`, `armv7hf`, `rpi`, `i386`.
    pub arch: String,
    /// `balenaOS 6.1.4+rev2`.
    pub os_version: Option<String>,
    /// The board revision.
    pub os_build: Option<String>,
    /// The kernel's release, as `uname -r` says it.
    pub kernel: Option<String>,
    /// The host's directory for locks and sockets, absolute.
    pub runtime_dir: String,
    /// Whether `io.balena.supervised` is written (D-08).
    pub supervised: bool,
}

/// An image as the engine knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageFacts {
    /// `sha256:...`.
    pub id: Arc<str>,
    /// `cmd` and `labels` of its configuration as a JSON object.
    pub config: Option<Arc<str>>,
}

/// One image of the engine's list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedImage {
    /// `sha256:...`.
    pub id: Arc<str>,
    /// Every reference to it that is a valid one, digests before tags.
    pub names: Vec<ImageUri>,
}

/// A volume that an agent of this family made. Whose it is, is for rules to say (D-12).
#[derive(Debug, Clone, PartialEq)]
pub struct FoundVolume {
    /// Its name on the engine.
    pub oci_name: Arc<str>,
    /// The app its label names.
    pub app: Option<AppUuid>,
    /// The name in the release its label names.
    pub name: Option<VolumeName>,
    /// What was asked for, when this agent made it.
    pub config: Option<VolumeConfig>,
}

/// An object of ours, with the app its label names.
pub type Owned<T> = (AppUuid, T);

/// Something happened on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// `container`, `network`, `volume`, `image`.
    pub what: Arc<str>,
    /// `die`, `destroy`, `health_status: healthy` ...
    pub action: Arc<str>,
    /// The object's id, or its name where it has no id. Where a container came to a network
    /// or left it: the container's.
    pub id: Arc<str>,
}

/// The engine's event stream.
pub trait Events: Send {
    /// The next event about a container, network or volume; `Err` when the stream broke.
    fn next(&mut self) -> Pending<'_, Result<EngineEvent, EngineError>>;
}

/// Everything this agent asks of a container engine (state-engine 4.1).
///
/// "Already so" is success: creating what exists under the same name is not
/// ([`Kind::Conflict`]), but starting the running, stopping the stopped and
/// removing the absent are.
pub trait Engine: Send + Sync {
    /// The directory of this machine in which the engine keeps its images; `None` when it
    /// runs on another one (FD-07).
    fn data_root(&self) -> Pending<'_, Result<Option<String>, EngineError>>;

    /// Who answers, and in which version.
    fn info(&self) -> Pending<'_, Result<EngineInfo, EngineError>>;

    /// Every container that carries our label, running or not.
    fn containers(&self) -> Pending<'_, Result<Vec<Owned<(Arc<str>, Container)>>, EngineError>>;
    /// One container by name or id, with its name.
    fn container<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Owned<(Arc<str>, Container)>, EngineError>>;
    /// Makes a container and connects it to all its networks; what is half made
    /// when a step fails is removed again. Returns its id.
    fn create<'a>(&'a self, new: NewContainer<'a>) -> Pending<'a, Result<String, EngineError>>;
    /// Starts a container.
    fn start<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>>;
    /// Stops a container; the engine kills it when its own grace period is over.
    /// `grace` is only for how long to wait for the answer.
    fn stop<'a>(&'a self, name: &'a str, grace: Duration) -> Pending<'a, Result<(), EngineError>>;
    /// Gives a container another name.
    fn rename<'a>(&'a self, name: &'a str, new: &'a str) -> Pending<'a, Result<(), EngineError>>;
    /// Removes a stopped container with its anonymous volumes.
    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>>;

    /// Every image that has a name.
    fn images(&self) -> Pending<'_, Result<Vec<ListedImage>, EngineError>>;
    /// What the engine resolves a reference to (W-38).
    fn image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<ImageFacts, EngineError>>;
    /// The hashes of what an image's layers unpack to, the lowest first (FD-07).
    fn diff_ids<'a>(&'a self, _id: &'a str) -> Pending<'a, Result<Vec<String>, EngineError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }
    /// Pulls an image. `progress` gets whole percents of all layers together,
    /// growing, below 100 until the end.
    fn pull<'a>(
        &'a self,
        uri: &'a ImageUri,
        progress: &'a (dyn Fn(u8) + Send + Sync),
    ) -> Pending<'a, Result<(), EngineError>>;
    /// Removes a name from an image, and the image with its last name. Never by force.
    fn remove_image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>>;

    /// Every network that carries our label.
    fn networks(&self) -> Pending<'_, Result<Vec<Owned<(NetworkName, Network)>>, EngineError>>;
    /// Makes a network. Returns its id.
    fn create_network<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a NetworkName,
        config: &'a NetworkConfig,
    ) -> Pending<'a, Result<String, EngineError>>;
    /// Removes a network by its id.
    fn remove_network<'a>(&'a self, id: &'a str) -> Pending<'a, Result<(), EngineError>>;

    /// Every volume that an agent of this family made, ours or another's.
    fn volumes(&self) -> Pending<'_, Result<Vec<FoundVolume>, EngineError>>;
    /// Makes a volume.
    fn create_volume<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a VolumeName,
        config: &'a VolumeConfig,
    ) -> Pending<'a, Result<(), EngineError>>;
    /// Removes a volume by its engine name. The data is gone.
    fn remove_volume<'a>(&'a self, oci_name: &'a str) -> Pending<'a, Result<(), EngineError>>;

    /// Opens the event stream.
    fn events(&self) -> Pending<'_, Result<Box<dyn Events>, EngineError>>;
}
