//! An engine that is maps, and answers as Docker does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

use helios::base::hash;
use helios::base::uptime::Uptime;
use helios::model::config::RestartPolicy;
use helios::model::current::{Container, Identity, Network, Restart};
use helios::model::status::{ContainerStatus, Health};
use helios::model::{
    AppUuid, ImageUri, NetworkConfig, NetworkName, ReleaseUuid, ServiceName, VolumeConfig,
    VolumeName,
};
use helios::world::Pending;
use helios::world::engine::{
    ApiVersion, Engine, EngineError, EngineEvent, EngineInfo, Events, FoundVolume, ImageFacts,
    Kind, ListedImage, NewContainer, Owned,
};

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
    /// It does not answer.
    pub is_down: bool,
    made: u64,
    listeners: Vec<Arc<std::sync::Mutex<Listener>>>,
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
    /// Somebody else's: no agent sees it in a list.
    pub is_foreign: bool,
}

#[derive(Default)]
struct Listener {
    events: VecDeque<EngineEvent>,
    is_broken: bool,
    waker: Option<Waker>,
}

fn refuse(kind: Kind, doing: &str, said: &str) -> EngineError {
    EngineError::new(kind, doing, said)
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

    fn tell(&mut self, what: &str, action: &str, id: &str) {
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

impl State {
    /// A container starts, whoever started it.
    pub fn begin(&mut self, name: &str) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        found.container.status = ContainerStatus::Running;
        found.container.exit_code = Some(0);
        found.started = self.engine.made;
        found.container.health = if found.has_check {
            Health::Starting
        } else {
            Health::None
        };
        let (id, ends, check) = (found.container.id.clone(), found.ends, found.has_check);
        self.engine.tell("container", "start", &id);
        if let Some(code) = ends {
            let id = id.clone();
            self.after(Duration::from_secs(3), move |state| state.end(&id, code));
        }
        if check {
            self.after(Duration::from_secs(2), move |state| {
                let name = state.engine.find(&id);
                let found = name.and_then(|name| state.engine.containers.get_mut(&name));
                if let Some(found) = found
                    && found.container.status == ContainerStatus::Running
                {
                    let (health, word) = if found.is_sick {
                        (Health::Unhealthy, "unhealthy")
                    } else {
                        (Health::Healthy, "healthy")
                    };
                    found.container.health = health;
                    let action = format!("health_status: {word}");
                    state.engine.tell("container", &action, &id);
                    if let Some(name) = state.engine.find(&id) {
                        state.call(&format!("{name} is {word}"), true);
                    }
                }
            });
        }
    }

    /// The process of a container ends by itself; the engine does as its policy says.
    pub fn end(&mut self, id: &str, code: i64) {
        let Some(name) = self.engine.find(id) else {
            return;
        };
        let Some(found) = self.engine.containers.get_mut(&name) else {
            return;
        };
        if found.container.status != ContainerStatus::Running {
            return;
        }
        found.container.status = ContainerStatus::Stopped;
        found.container.exit_code = Some(code);
        let again = match found.container.restart {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure(tries) => tries && code != 0,
        };
        self.engine.tell("container", "die", id);
        self.call(&format!("{name} ends with {code}"), true);
        if again {
            self.begin(&name);
        }
    }

    /// All processes end with the engine, and those come back with it whose policy says so.
    pub fn restart_engine(&mut self) {
        self.engine.set_down(true);
        let mut again = Vec::new();
        for (name, found) in &mut self.engine.containers {
            if found.container.status == ContainerStatus::Running {
                found.container.status = ContainerStatus::Stopped;
                found.container.exit_code = Some(137);
                if found.container.restart != Restart::No {
                    again.push(name.clone());
                }
            }
        }
        self.engine.set_down(false);
        for name in again {
            self.begin(&name);
        }
    }

    /// Somebody stops a container by hand.
    pub fn stop_by_hand(&mut self, name: &str) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        if found.container.status == ContainerStatus::Running {
            found.container.status = ContainerStatus::Stopped;
            found.container.exit_code = Some(137);
            let id = found.container.id.clone();
            for action in ["kill", "die", "stop"] {
                self.engine.tell("container", action, &id);
            }
        }
    }

    /// Somebody removes a container by force.
    pub fn remove_by_hand(&mut self, name: &str) {
        self.stop_by_hand(name);
        if let Some(found) = self.engine.containers.remove(name) {
            self.engine
                .tell("container", "destroy", &found.container.id);
        }
    }
}

/// What people do to an engine.
impl State {
    /// Somebody changes what a container was made from (D-11).
    pub fn change_by_hand(&mut self, name: &str) {
        if let Some(found) = self.engine.containers.get_mut(name) {
            found.container.fingerprint = u64::MAX - found.container.fingerprint;
            let id = found.container.id.clone();
            self.engine.tell("container", "update", &id);
        }
    }

    /// Somebody takes the name off an image.
    pub fn remove_image_by_hand(&mut self, uri: &ImageUri) {
        if let Some(id) = self.engine.images.remove(uri) {
            self.engine.pulled.remove(uri);
            self.engine.removed.insert(uri.clone(), self.now);
            self.engine.tell("image", "untag", &id);
        }
    }

    /// Somebody removes the networks that no container is attached to.
    pub fn prune_by_hand(&mut self) {
        let containers = &self.engine.containers;
        let is_used = |name: &Arc<str>| {
            let mut all = containers.values();
            all.any(|found| found.container.networks.contains(name))
        };
        let unused = self
            .engine
            .networks
            .iter()
            .filter(|(name, _)| !is_used(name));
        let unused: Vec<_> = unused
            .map(|(name, found)| (name.clone(), found.2.id.clone()))
            .collect();
        for (name, id) in unused {
            self.engine.networks.remove(&name);
            self.engine.tell("network", "destroy", &id);
        }
    }

    /// Something that runs before the first agent comes: of an app, made by another agent, or
    /// somebody else's.
    pub fn inherit(&mut self, name: &str, app: &str, service: &str, volume: Option<&str>) {
        let image = ImageUri::parse("registry.example/inherited:1").unwrap();
        self.engine.add_image(&image);
        if let Some(volume) = volume {
            let found = FoundVolume {
                oci_name: volume.into(),
                app: None,
                name: None,
                config: None,
            };
            self.engine.volumes.insert(volume.into(), found);
        }
        self.engine.made += 1;
        let made = self.engine.made;
        let container = Container {
            id: format!("id{made:06}").into(),
            service: service.into(),
            service_id: 1,
            release: "old".into(),
            identity: None,
            image_id: self.engine.images[&image].clone(),
            depends_on: BTreeMap::new(),
            status: ContainerStatus::Running,
            exit_code: Some(0),
            health: Health::None,
            created: format!("2026-01-01T00:00:00.{made:06}+00:00").into(),
            restart: Restart::Always,
            networks: Vec::new(),
            volumes: volume.into_iter().map(Into::into).collect(),
            lenders: Vec::new(),
            fingerprint: made,
            lock_dir: None,
        };
        let found = Found {
            app: app.into(),
            container,
            made,
            started: made,
            ends: None,
            has_check: false,
            is_sick: false,
            will_not_stop: false,
            will_not_start: false,
            is_foreign: app.is_empty(),
        };
        self.engine.containers.insert(name.into(), found);
    }
}

/// A request that the engine has. It may be carried out also when nobody waits for its
/// answer any more: the agent gave up, or is gone.
struct InFlight<'w, T, F: FnOnce(&mut State) -> Result<T, EngineError>> {
    world: &'w World,
    doing: &'w str,
    effect: Option<F>,
}

impl<T, F: FnOnce(&mut State) -> Result<T, EngineError>> Drop for InFlight<'_, T, F> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else {
            return;
        };
        self.world.with(|state| {
            if state.rng.bool() && effect(state).is_ok() {
                state.note(format!("{}: done, and nobody waited for it", self.doing));
            }
        });
    }
}

/// Marks a container as under a changing call.
struct Under {
    world: World,
    id: Arc<str>,
}

impl Drop for Under {
    fn drop(&mut self) {
        self.world.with(|state| state.under_change.remove(&self.id));
    }
}

impl World {
    /// One call that changes something: it takes its time, and may fail before or after.
    async fn change<T>(
        &self,
        doing: String,
        (id, takes): (Option<&str>, Duration),
        effect: impl FnOnce(&mut State) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        let _under = id.and_then(|name| {
            let id = self.with(|state| {
                let name = state.engine.find(name)?;
                let id = state.engine.containers.get(&name)?.container.id.clone();
                if !state.under_change.insert(id.clone()) {
                    state.violation(format!("two changing calls at once: {doing}"));
                }
                Some(id)
            })?;
            Some(Under {
                world: self.clone(),
                id,
            })
        });
        let mut request = InFlight {
            world: self,
            doing: &doing,
            effect: Some(effect),
        };
        self.sleep(takes).await;
        self.answers(&doing).await?;
        let (fails, lost) = self.with(|state| {
            let faults = state.faults;
            (state.chance(faults.fails), state.chance(faults.lost))
        });
        let effect = request.effect.take().expect("nobody took it");
        if fails {
            self.with(|state| {
                state.note(format!("{doing}: fails"));
                state.call(&doing, false);
            });
            return Err(refuse(Kind::Failed, &doing, "a fault of the engine"));
        }
        let done = self.with(|state| {
            let done = effect(state);
            let how = match (&done, lost) {
                (Err(error), _) => error.said.clone(),
                (Ok(_), true) => "done, its answer is lost".to_owned(),
                (Ok(_), false) => "done".to_owned(),
            };
            state.note(format!("{doing}: {how}"));
            state.call(&doing, done.is_ok());
            done
        });
        let wait = self.with(|state| state.millis(20));
        self.sleep(wait).await;
        if lost {
            return Err(refuse(Kind::Unreachable, &doing, "the connection broke"));
        }
        done
    }

    /// The engine's time to answer, or that it does not.
    async fn answers(&self, doing: &str) -> Result<(), EngineError> {
        let hangs = self.with(|state| {
            let chance = state.faults.hangs;
            state.chance(chance)
        });
        let wait = self.with(|state| state.millis(20));
        self.sleep(if hangs {
            Duration::from_secs(120)
        } else {
            wait
        })
        .await;
        if hangs || self.with(|state| state.engine.is_down) {
            return Err(refuse(Kind::Unreachable, doing, "no answer"));
        }
        Ok(())
    }
}

/// A call that is about no container, and takes no time.
const AT_ONCE: (Option<&str>, Duration) = (None, Duration::ZERO);

fn full(doing: &str) -> EngineError {
    refuse(Kind::Full, doing, "no space left on device")
}

fn gone(doing: &str) -> EngineError {
    refuse(Kind::Gone, doing, "no such object")
}

impl Engine for World {
    fn info(&self) -> Pending<'_, Result<EngineInfo, EngineError>> {
        Box::pin(async {
            self.answers("ask for the version").await?;
            Ok(EngineInfo {
                name: "Simulated".to_owned(),
                version: "1".to_owned(),
                api: ApiVersion(45),
            })
        })
    }

    fn data_root(&self) -> Pending<'_, Result<Option<String>, EngineError>> {
        Box::pin(async { Ok(Some("/data".to_owned())) })
    }

    fn containers(&self) -> Pending<'_, Result<Vec<Owned<(Arc<str>, Container)>>, EngineError>> {
        Box::pin(async {
            self.answers("list containers").await?;
            Ok(self.with(|state| {
                let all = state.engine.containers.iter();
                let ours = all.filter(|(_, found)| !found.is_foreign);
                ours.map(|(name, found)| {
                    (found.app.clone(), (name.clone(), found.container.clone()))
                })
                .collect()
            }))
        })
    }

    fn container<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Owned<(Arc<str>, Container)>, EngineError>> {
        Box::pin(async move {
            self.answers("inspect").await?;
            self.with(|state| {
                let name = state.engine.find(name).ok_or_else(|| gone("inspect"))?;
                let found = &state.engine.containers[&name];
                if found.is_foreign {
                    return Err(refuse(Kind::Failed, "inspect", "it has no label of ours"));
                }
                Ok((found.app.clone(), (name.clone(), found.container.clone())))
            })
        })
    }

    fn create<'a>(&'a self, new: NewContainer<'a>) -> Pending<'a, Result<String, EngineError>> {
        Box::pin(async move {
            let doing = format!("create container '{}'", new.name);
            self.change(doing.clone(), AT_ONCE, |state| create(state, &new, &doing))
                .await
        })
    }

    fn start<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("start container '{name}'");
            self.change(doing.clone(), (Some(name), Duration::ZERO), |state| {
                let name = state.engine.find(name).ok_or_else(|| gone(&doing))?;
                let found = &state.engine.containers[&name].container;
                let runs = |id: &Arc<str>| {
                    let mut all = state.engine.containers.values();
                    all.any(|one| {
                        one.container.id == *id && one.container.status == ContainerStatus::Running
                    })
                };
                if !found.lenders.iter().all(runs) {
                    let said = "cannot join the namespace of a container that does not run";
                    return Err(refuse(Kind::Conflict, &doing, said));
                }
                if state.engine.containers[&name].will_not_start {
                    return Err(refuse(Kind::Failed, &doing, "exec format error"));
                }
                if found.status != ContainerStatus::Running {
                    state.begin(&name);
                }
                Ok(())
            })
            .await
        })
    }

    fn stop<'a>(&'a self, name: &'a str, _grace: Duration) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("stop container '{name}'");
            // Judged when it is asked for: meanwhile the target and the successor may change.
            let takes = self.with(|state| {
                if let Some(name) = state.engine.find(name) {
                    super::checks::on_stop(state, &name, "stopped");
                }
                state.millis(2000)
            });
            self.change(doing.clone(), (Some(name), takes), |state| {
                let Some(name) = state.engine.find(name) else {
                    return Ok(());
                };
                if state.engine.containers[&name].will_not_stop {
                    return Err(refuse(Kind::Failed, &doing, "it does not stop"));
                }
                state.stop_by_hand(&name);
                Ok(())
            })
            .await
        })
    }

    fn rename<'a>(&'a self, name: &'a str, new: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("rename container '{name}' to '{new}'");
            self.change(doing.clone(), (Some(name), Duration::ZERO), |state| {
                let name = state.engine.find(name).ok_or_else(|| gone(&doing))?;
                if state.engine.containers.contains_key(new) {
                    return Err(refuse(Kind::Conflict, &doing, "the name is in use"));
                }
                super::checks::on_rename(state, &name);
                let mut found = state.engine.containers.remove(&name).unwrap();
                found.container.release = release_of(new, &found.container.service);
                let id = found.container.id.clone();
                state.engine.containers.insert(new.into(), found);
                state.engine.tell("container", "rename", &id);
                Ok(())
            })
            .await
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("remove container '{name}'");
            self.change(doing.clone(), (Some(name), Duration::ZERO), |state| {
                let Some(name) = state.engine.find(name) else {
                    return Ok(());
                };
                super::checks::on_remove(state, &name);
                let found = &state.engine.containers[&name].container;
                if found.status == ContainerStatus::Running {
                    return Err(refuse(Kind::Conflict, &doing, "it is running"));
                }
                state.remove_by_hand(&name);
                Ok(())
            })
            .await
        })
    }

    fn images(&self) -> Pending<'_, Result<Vec<ListedImage>, EngineError>> {
        Box::pin(async {
            self.answers("list images").await?;
            Ok(self.with(|state| {
                let all = state.engine.images.iter();
                all.map(|(uri, id)| ListedImage {
                    id: id.clone(),
                    names: vec![uri.clone()],
                })
                .collect()
            }))
        })
    }

    fn image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<ImageFacts, EngineError>> {
        Box::pin(async move {
            self.answers("inspect an image").await?;
            self.with(|state| {
                let id = state.engine.images.get(uri).cloned();
                let id = id.ok_or_else(|| gone("inspect an image"))?;
                Ok(ImageFacts { id, config: None })
            })
        })
    }

    fn pull<'a>(
        &'a self,
        uri: &'a ImageUri,
        progress: &'a (dyn Fn(u8) + Send + Sync),
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("pull '{uri}'");
            let mut pulling = super::pulls::Pulling::begin(self, uri);
            for percent in [20, 60] {
                let wait = self.with(|state| state.millis(3000));
                self.sleep(wait).await;
                progress(percent);
                let (breaks, is_full) = self.with(|state| {
                    let chance = state.faults.breaks;
                    (state.chance(chance), state.disk.is_full)
                });
                pulling.is_over = is_full || breaks;
                if is_full {
                    return Err(full(&doing));
                }
                if breaks {
                    self.with(|state| state.note(format!("{doing}: breaks off")));
                    return Err(refuse(Kind::Failed, &doing, "unexpected end of a layer"));
                }
            }
            let pulled = self.change(doing, AT_ONCE, |state| {
                state.engine.add_image(uri);
                state.engine.pulled.insert(uri.clone());
                Ok(())
            });
            let pulled = pulled.await;
            pulling.is_over = true;
            pulled
        })
    }

    fn tag<'a>(&'a self, _id: &'a str, _uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async { Err(refuse(Kind::Refused, "tag", "nobody asks for it")) })
    }

    fn remove_image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("remove image '{uri}'");
            self.change(doing.clone(), AT_ONCE, |state| {
                super::checks::on_remove_image(state, uri);
                let Some(id) = state.engine.images.get(uri).cloned() else {
                    return Ok(());
                };
                let mut all = state.engine.containers.values();
                if all.any(|found| found.container.image_id == id) {
                    return Err(refuse(Kind::Conflict, &doing, "a container uses it"));
                }
                state.engine.images.remove(uri);
                Ok(())
            })
            .await
        })
    }

    fn networks(&self) -> Pending<'_, Result<Vec<Owned<(NetworkName, Network)>>, EngineError>> {
        Box::pin(async {
            self.answers("list networks").await?;
            Ok(self.with(|state| {
                let all = state.engine.networks.values().cloned();
                all.map(|(app, name, network)| (app, (name, network)))
                    .collect()
            }))
        })
    }

    fn create_network<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a NetworkName,
        config: &'a NetworkConfig,
    ) -> Pending<'a, Result<String, EngineError>> {
        Box::pin(async move {
            let doing = format!("create network '{oci_name}'");
            self.change(doing.clone(), AT_ONCE, |state| {
                if state.engine.networks.contains_key(oci_name) {
                    return Err(refuse(Kind::Conflict, &doing, "it exists"));
                }
                state.engine.made += 1;
                let network = Network {
                    id: format!("net{}", state.engine.made).into(),
                    oci_name: oci_name.into(),
                    config: Some(config.clone()),
                };
                let id = network.id.to_string();
                let found = (app.clone(), name.clone(), network);
                state.engine.networks.insert(oci_name.into(), found);
                Ok(id)
            })
            .await
        })
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = self.with(|state| {
                let mut all = state.engine.networks.iter();
                let name = all.find(|(_, found)| *found.2.id == *id);
                format!("remove network '{}'", name.map_or(id, |(name, _)| name))
            });
            self.change(doing.clone(), AT_ONCE, |state| {
                let mut all = state.engine.networks.iter();
                let Some(name) = all.find(|(_, found)| *found.2.id == *id) else {
                    return Ok(());
                };
                let name = name.0.clone();
                let mut users = state.engine.containers.values();
                if users.any(|found| found.container.networks.contains(&name)) {
                    return Err(refuse(Kind::Conflict, &doing, "it has active endpoints"));
                }
                state.engine.networks.remove(&name);
                Ok(())
            })
            .await
        })
    }

    fn volumes(&self) -> Pending<'_, Result<Vec<FoundVolume>, EngineError>> {
        Box::pin(async {
            self.answers("list volumes").await?;
            Ok(self.with(|state| state.engine.volumes.values().cloned().collect()))
        })
    }

    fn create_volume<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a VolumeName,
        config: &'a VolumeConfig,
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("create volume '{oci_name}'");
            self.change(doing, AT_ONCE, |state| {
                let found = FoundVolume {
                    oci_name: oci_name.into(),
                    app: Some(app.clone()),
                    name: Some(name.clone()),
                    config: Some(config.clone()),
                };
                let all = &mut state.engine.volumes;
                all.entry(oci_name.into()).or_insert(found);
                Ok(())
            })
            .await
        })
    }

    fn remove_volume<'a>(&'a self, oci_name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("remove volume '{oci_name}'");
            self.change(doing, AT_ONCE, |state| {
                super::checks::on_remove_volume(state, oci_name);
                state.engine.volumes.remove(oci_name);
                Ok(())
            })
            .await
        })
    }

    fn events(&self) -> Pending<'_, Result<Box<dyn Events>, EngineError>> {
        Box::pin(async {
            self.answers("watch events").await?;
            let listener = Arc::new(std::sync::Mutex::new(Listener::default()));
            self.with(|state| state.engine.listeners.push(listener.clone()));
            Ok(Box::new(Stream(listener)) as Box<dyn Events>)
        })
    }
}

struct Stream(Arc<std::sync::Mutex<Listener>>);

impl Events for Stream {
    fn next(&mut self) -> Pending<'_, Result<EngineEvent, EngineError>> {
        Box::pin(poll_fn(|context| {
            let mut listener = self.0.lock().unwrap();
            if let Some(event) = listener.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if listener.is_broken {
                let error = refuse(Kind::Unreachable, "watch events", "the stream broke");
                return Poll::Ready(Err(error));
            }
            listener.waker = Some(context.waker().clone());
            Poll::Pending
        }))
    }
}

fn release_of(name: &str, service: &ServiceName) -> ReleaseUuid {
    let rest = name.strip_prefix("old_").unwrap_or(name);
    let rest = rest.strip_prefix(&format!("{service}_")).unwrap_or(rest);
    rest.split('_').next().unwrap_or(rest).into()
}

fn create(state: &mut State, new: &NewContainer<'_>, doing: &str) -> Result<String, EngineError> {
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
    let networks = new.config.used_networks().map(|name| (new.network)(name));
    let networks: Vec<Arc<str>> = networks.map(Into::into).collect();
    let volumes = new.config.used_volumes().map(|name| (new.volume)(name));
    let volumes: Vec<Arc<str>> = volumes.map(Into::into).collect();
    if !networks
        .iter()
        .all(|name| engine.networks.contains_key(name))
    {
        return Err(gone(doing));
    }
    // Docker makes a volume that is named and missing, without labels.
    if let Some(name) = volumes
        .iter()
        .find(|name| !engine.volumes.contains_key(*name))
    {
        state.violation(format!("{doing}: volume '{name}' is not there yet"));
    }
    let engine = &mut state.engine;
    let shared = new
        .config
        .shared_services()
        .map(|name| (new.container)(name).into());
    engine.made += 1;
    let id: Arc<str> = format!("id{:06}", engine.made).into();
    let behaves = new.config.labels.get("sim").map_or("", String::as_str);
    let does = |word: &str| behaves.split(", ").any(|known| known == word);
    let mut endings = behaves
        .split(", ")
        .filter_map(|word| word.strip_prefix("ends "));
    let container = Container {
        id: id.clone(),
        service: new.service.clone(),
        service_id: new.service_id,
        release: release_of(new.name, new.service),
        identity: Some(Identity {
            image: new.image.clone(),
            config: new.config_json.into(),
        }),
        image_id,
        depends_on: new.depends_on.clone(),
        status: ContainerStatus::Created,
        exit_code: Some(0),
        health: Health::None,
        created: format!("2026-01-01T00:00:00.{:06}+00:00", engine.made).into(),
        restart: match new.config.restart() {
            RestartPolicy::No => Restart::No,
            RestartPolicy::Always => Restart::Always,
            RestartPolicy::OnFailure { .. } => Restart::OnFailure(true),
            RestartPolicy::UnlessStopped => Restart::UnlessStopped,
        },
        networks,
        volumes,
        lenders: shared.collect(),
        fingerprint: engine.made,
        lock_dir: None,
    };
    let found = Found {
        app: new.app.clone(),
        container,
        made: engine.made,
        started: 0,
        ends: match does("once") {
            true => Some(0),
            false => endings.next().and_then(|code| code.parse().ok()),
        },
        has_check: does("checked") || does("sick"),
        is_sick: does("sick"),
        will_not_stop: false,
        will_not_start: does("broken"),
        is_foreign: false,
    };
    engine.containers.insert(new.name.into(), found);
    Ok(id.to_string())
}
