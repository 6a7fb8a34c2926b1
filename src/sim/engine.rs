//! An engine that is maps: what it keeps, and whom it tells what happens to that.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use helios::base::hash;
use helios::base::uptime::Uptime;
use helios::model::config::RestartPolicy;
use helios::model::current::{Container, Identity, Network, Restart};
use helios::model::status::{ContainerStatus, Health};
use helios::model::{AppUuid, ImageUri, NetworkName, ReleaseUuid, ServiceName};
use helios::world::Pending;
use helios::world::engine::{EngineError, EngineEvent, Events, FoundVolume, Kind, NewContainer};

use super::world::{State, World};

/// Everything the engine keeps.
#[derive(Default)]
pub struct Containers {
    /// By name.
    pub containers: BTreeMap<Arc<str>, Found>,
    /// Reference to id.
    pub images: BTreeMap<ImageUri, Arc<str>>,
    /// References that agents pulled.
    pub pulled: BTreeSet<ImageUri>,
    /// References that somebody removed by hand, and when.
    pub removed: BTreeMap<ImageUri, Uptime>,
    /// By engine name.
    pub networks: BTreeMap<Arc<str>, (AppUuid, NetworkName, Network)>,
    /// By engine name.
    pub volumes: BTreeMap<Arc<str>, FoundVolume>,
    /// References that share a damaged layer, and those that hold it: it is fetched afresh
    /// when nothing holds it any more.
    pub family: BTreeSet<ImageUri>,
    pub damaged: BTreeSet<ImageUri>,
    /// It does not answer.
    pub is_down: bool,
    /// How many objects it has made.
    pub(super) made: u64,
    listeners: Vec<Arc<Mutex<Listener>>>,
}

/// A container, with what only the engine knows of it.
#[derive(Clone)]
pub struct Found {
    pub app: AppUuid,
    pub container: Container,
    /// How many containers had been made when it was made, and when it started last.
    pub made: u64,
    pub started: u64,
    /// The process ends by itself with this code.
    pub ends: Option<i64>,
    /// It has a health check, which passes after a while.
    pub has_check: bool,
    /// Its health check fails.
    pub is_sick: bool,
    /// A stop of it fails.
    pub will_not_stop: bool,
    /// A start of it fails.
    pub will_not_start: bool,
    /// A stop of it takes so long.
    pub stops_in: Option<Duration>,
    /// Somebody removes it, and the engine takes its time.
    pub is_removing: bool,
    /// It crashed, and the engine waits before it starts it again: it counts as running.
    pub is_restarting: bool,
    /// Somebody else's: no agent sees it in a list.
    pub is_foreign: bool,
}

impl Found {
    /// `behaves`: words that say what its process is like, with commas between them.
    fn behaving(behaves: &str, app: AppUuid, container: Container, made: u64) -> Found {
        let does = |word: &str| behaves.split(", ").any(|known| known == word);
        let mut words = behaves.split(", ");
        let ending = words.find_map(|word| word.strip_prefix("ends "));
        Found {
            app,
            container,
            made,
            started: 0,
            ends: match does("once") {
                true => Some(0),
                false => ending.and_then(|code| code.parse().ok()),
            },
            has_check: does("checked") || does("sick"),
            is_sick: does("sick"),
            will_not_stop: false,
            will_not_start: does("broken"),
            stops_in: does("slow").then_some(Duration::from_secs(300)),
            is_removing: false,
            is_restarting: false,
            is_foreign: false,
        }
    }
}

#[derive(Default)]
struct Listener {
    events: VecDeque<EngineEvent>,
    is_broken: bool,
    waker: Option<Waker>,
}

impl Containers {
    /// The streams of an agent that is gone.
    #[must_use]
    pub fn forget_listeners(&mut self) -> impl Drop + use<> {
        std::mem::take(&mut self.listeners)
    }

    /// An image is there; a digest is the same image in every repository.
    pub fn add_image(&mut self, uri: &ImageUri) {
        let content = uri.digest().unwrap_or(uri.as_str());
        let id = format!("sha256:{}", hash::sha256_hex(content.as_bytes()));
        self.images.insert(uri.clone(), id.into());
    }

    /// By name or id.
    pub fn find(&self, name: &str) -> Option<Arc<str>> {
        let by_id = || {
            let mut all = self.containers.iter();
            all.find(|(_, found)| *found.container.id == *name)
        };
        let by_name = self.containers.get_key_value(name);
        by_name.or_else(by_id).map(|(name, _)| name.clone())
    }

    /// An event for all who listen.
    pub(super) fn tell(&self, what: &str, action: &str, id: &str) {
        for listener in &self.listeners {
            let mut listener = listener.lock().unwrap();
            listener.events.push_back(EngineEvent {
                what: what.into(),
                action: action.into(),
                id: id.into(),
            });
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
    }

    /// A stream of what happens from now on.
    pub(super) fn listen(&mut self, world: &World) -> impl Events + use<> {
        let listener = Arc::new(Mutex::new(Listener::default()));
        self.listeners.push(listener.clone());
        Stream {
            listener,
            world: world.clone(),
            is_half_read: false,
        }
    }

    /// Takes the engine down, or lets it come back.
    pub fn set_down(&mut self, is_down: bool) {
        self.is_down = is_down;
        for listener in self.listeners.drain(..) {
            let mut listener = listener.lock().unwrap();
            listener.is_broken = true;
            if let Some(waker) = listener.waker.take() {
                waker.wake();
            }
        }
    }
}

struct Stream {
    listener: Arc<Mutex<Listener>>,
    world: World,
    /// Somebody waited for an event, and went away before it was there.
    is_half_read: bool,
}

impl Events for Stream {
    fn next(&mut self) -> Pending<'_, Result<EngineEvent, EngineError>> {
        if self.is_half_read {
            let what = "what was read of an event is thrown away";
            self.world.with(|state| state.violation(what));
        }
        Box::pin(poll_fn(|context| {
            let mut listener = self.listener.lock().unwrap();
            self.is_half_read = false;
            if let Some(event) = listener.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if listener.is_broken {
                let error = refuse(Kind::Unreachable, "watch events", "the stream broke");
                return Poll::Ready(Err(error));
            }
            listener.waker = Some(context.waker().clone());
            self.is_half_read = true;
            Poll::Pending
        }))
    }
}

pub(super) fn refuse(kind: Kind, doing: &str, said: &str) -> EngineError {
    EngineError::new(kind, doing, said)
}

pub(super) fn full(doing: &str) -> EngineError {
    refuse(Kind::Full, doing, "no space left on device")
}

pub(super) fn gone(doing: &str) -> EngineError {
    refuse(Kind::Gone, doing, "no such object")
}

/// The release in a container's name, as the agents put it there.
pub(super) fn release_of(name: &str, service: &ServiceName) -> ReleaseUuid {
    let rest = name.strip_prefix("old_").unwrap_or(name);
    let rest = rest.strip_prefix(&format!("{service}_")).unwrap_or(rest);
    rest.split('_').next().unwrap_or(rest).into()
}

/// Makes a container, if all that it needs is there; gives its id.
pub(super) fn create(
    state: &mut State,
    new: &NewContainer<'_>,
    doing: &str,
) -> Result<String, EngineError> {
    if state.disk.is_full {
        return Err(full(doing));
    }
    let engine = &mut state.engine;
    if engine.containers.contains_key(new.name) {
        return Err(refuse(Kind::Conflict, doing, "the name is in use"));
    }
    let Some(image_id) = engine.images.get(new.image).cloned() else {
        return Err(gone(doing));
    };
    let made = engine.made + 1;
    let container = as_made(new, image_id, made);
    let mut networks = container.networks.iter();
    if !networks.all(|name| engine.networks.contains_key(name)) {
        return Err(gone(doing));
    }
    // Docker makes a volume that is named and missing, without labels.
    let mut volumes = container.volumes.iter();
    let missing = volumes.find(|name| !engine.volumes.contains_key(*name));
    let violation = missing.map(|name| format!("{doing}: volume '{name}' is not there yet"));
    let id = container.id.to_string();
    let behaves = new.config.labels.get("sim").map_or("", String::as_str);
    let found = Found::behaving(behaves, new.app.clone(), container, made);
    engine.made = made;
    engine.containers.insert(new.name.into(), found);
    if let Some(violation) = violation {
        state.violation(violation);
    }
    Ok(id)
}

/// A container as it is before its first start; `made` counts it.
fn as_made(new: &NewContainer<'_>, image_id: Arc<str>, made: u64) -> Container {
    let config = new.config;
    let networks = config.used_networks().map(|name| (new.network)(name));
    let volumes = config.used_volumes().map(|name| (new.volume)(name));
    let lenders = config.shared_services().map(|name| (new.container)(name));
    Container {
        id: format!("id{made:06}").into(),
        service: new.service.clone(),
        service_id: new.service_id,
        release: release_of(new.name, new.service),
        identity: Some(Identity {
            image: new.image.clone(),
            config: new.config_json.into(),
        }),
        maker: helios::model::current::Maker::Us,
        image_id,
        depends_on: new.depends_on.clone(),
        status: ContainerStatus::Created,
        is_paused: false,
        started: 0,
        exit_code: Some(0),
        health: Health::None,
        created: format!("2026-01-01T00:00:00.{made:06}+00:00").into(),
        restart: match config.restart() {
            RestartPolicy::No => Restart::No,
            RestartPolicy::Always => Restart::Always,
            RestartPolicy::OnFailure { .. } => Restart::OnFailure(true),
            RestartPolicy::UnlessStopped => Restart::UnlessStopped,
        },
        networks: networks.map(Into::into).collect(),
        volumes: volumes.map(Into::into).collect(),
        lenders: lenders.map(Into::into).collect(),
        fingerprint: made,
        lock_dir: None,
    }
}
