//! The engine's calls: it answers as Docker does, late, or not at all.

use std::sync::Arc;
use std::time::Duration;

use helios::model::current::{Container, Network};
use helios::model::status::ContainerStatus;
use helios::model::{AppUuid, ImageUri, NetworkConfig, NetworkName, VolumeConfig, VolumeName};
use helios::world::Pending;
use helios::world::engine::{
    ApiVersion, Engine, EngineError, EngineInfo, Events, FoundVolume, ImageFacts, Kind,
    ListedImage, NewContainer, Owned,
};

use super::checks;
use super::engine::{create, full, gone, refuse, release_of};
use super::pulls::Pulling;
use super::world::{State, World};

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
        if let Err(error) = self.answers(&doing).await {
            if error.kind != Kind::Unreachable {
                // A no is an answer.
                request.effect = None;
                self.with(|state| state.call(&doing, false));
            }
            return Err(error);
        }
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
        match self.with(|state| state.refused(doing)) {
            Some(kind) => Err(refuse(kind, doing, "the engine says no")),
            None => Ok(()),
        }
    }
}

/// A call that is about no container, and takes no time.
const AT_ONCE: (Option<&str>, Duration) = (None, Duration::ZERO);

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
                if state.engine.containers[&name].is_removing {
                    let said = "container is marked for removal and cannot be started";
                    return Err(refuse(Kind::Conflict, &doing, said));
                }
                let image = found.identity.as_ref().map(|identity| &identity.image);
                if image.is_some_and(|image| state.engine.damaged.contains(image)) {
                    return Err(refuse(Kind::Damaged, &doing, "layer does not exist"));
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
                let found = state.engine.find(name);
                if let Some(name) = &found {
                    checks::on_stop(state, name, "stopped");
                }
                let usual = state.millis(2000);
                let found = found.and_then(|name| state.engine.containers.get(&name));
                found.and_then(|found| found.stops_in).unwrap_or(usual)
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
                if state.engine.containers[&name].is_removing {
                    return Err(refuse(Kind::Conflict, &doing, "it is being removed"));
                }
                checks::on_rename(state, &name);
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
                checks::on_remove(state, &name);
                let found = &state.engine.containers[&name];
                if found.is_removing {
                    // What the engine's client makes of "already in progress".
                    return Ok(());
                }
                if found.container.is_up() {
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

    fn diff_ids<'a>(&'a self, id: &'a str) -> Pending<'a, Result<Vec<String>, EngineError>> {
        Box::pin(async move {
            self.answers("inspect an image").await?;
            Ok(self.with(|state| {
                let mut names = state.engine.images.iter();
                let shares =
                    names.any(|(uri, known)| **known == *id && state.engine.family.contains(uri));
                vec![if shares { "shared" } else { id }.to_owned()]
            }))
        })
    }

    fn pull<'a>(
        &'a self,
        uri: &'a ImageUri,
        progress: &'a (dyn Fn(u8) + Send + Sync),
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("pull '{uri}'");
            let mut pulling = Pulling::begin(self, uri);
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
                if !state.engine.damaged.is_empty() && state.engine.family.contains(uri) {
                    state.engine.damaged.insert(uri.clone());
                }
                Ok(())
            });
            let pulled = pulled.await;
            pulling.is_over = true;
            pulled
        })
    }

    fn remove_image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            let doing = format!("remove image '{uri}'");
            self.change(doing.clone(), AT_ONCE, |state| {
                checks::on_remove_image(state, uri);
                let Some(id) = state.engine.images.get(uri).cloned() else {
                    return Ok(());
                };
                let mut all = state.engine.containers.values();
                if all.any(|found| found.container.image_id == id) {
                    return Err(refuse(Kind::Conflict, &doing, "a container uses it"));
                }
                state.engine.images.remove(uri);
                state.engine.damaged.remove(uri);
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
                // Beside a legacy supervisor it has that one's labels.
                let is_ours = !state.is_beside;
                let found = FoundVolume {
                    oci_name: oci_name.into(),
                    app: Some(app.clone()),
                    name: is_ours.then(|| name.clone()),
                    config: is_ours.then(|| config.clone()),
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
                checks::on_remove_volume(state, oci_name);
                state.engine.volumes.remove(oci_name);
                Ok(())
            })
            .await
        })
    }

    fn events(&self) -> Pending<'_, Result<Box<dyn Events>, EngineError>> {
        Box::pin(async {
            self.answers("watch events").await?;
            let stream = self.with(|state| state.engine.listen(self));
            Ok(Box::new(stream) as Box<dyn Events>)
        })
    }
}
