//! The jobs of a service's containers.

use std::sync::Arc;
use std::time::Duration;

use super::board::{Board, Part};
use super::locks::service_dir;
use super::names::{self, OLD};
use super::reason;
use super::rules::{self, Situation};
use super::sweep;
use super::work::{Busy, Tools, Work};
use crate::base::map::Map;
use crate::limits;
use crate::model::current::{App, Container, Identity, Restart};
use crate::model::status::ContainerStatus;
use crate::model::target::{ReleaseTarget, ServiceTarget, Strategy};
use crate::model::{AppUuid, NetworkName, ReleaseUuid, ServiceConfig, ServiceName, VolumeName};
use crate::world::engine::{EngineError, Kind, NewContainer};

/// A service that the target names, with what it needs at hand.
struct Wanted<'a> {
    service: &'a ServiceName,
    target: &'a ServiceTarget,
    release: (&'a ReleaseUuid, &'a ReleaseTarget),
}

impl Work {
    /// The board's key of a service.
    #[must_use]
    pub fn service_part(&self, service: &ServiceName) -> Part {
        Part::Service(self.app.clone(), service.clone())
    }

    fn wanted<'a>(&'a self, service: &'a ServiceName) -> Result<Wanted<'a>, EngineError> {
        let doing = || format!("find service '{service}' in the target");
        let (uuid, release) = self
            .release()
            .ok_or_else(|| EngineError::new(Kind::Refused, doing(), "there is no release"))?;
        let target = release
            .services
            .get(service)
            .ok_or_else(|| EngineError::new(Kind::Refused, doing(), "the release lacks it"))?;
        Ok(Wanted {
            service,
            target,
            release: (uuid, release),
        })
    }

    /// Looks at the app through the rules.
    pub(super) fn situation<R>(&self, see: impl FnOnce(&Situation<'_>) -> R) -> R {
        self.look(|app, board| {
            let release = self.release().map(|(uuid, release)| (uuid, &**release));
            see(&Situation {
                leaves: self.target.is_none(),
                ..Situation::plain((&self.app, app), release, &board.marks)
            })
        })
    }

    /// The container that the target asks for, if there is one.
    fn successor(&self, wanted: &Wanted<'_>) -> Option<(Arc<str>, Container)> {
        self.situation(|situation| {
            let found = rules::successor(situation, wanted.service, wanted.target, wanted.release);
            found.map(|(name, container)| (name.clone(), container.clone()))
        })
    }

    /// All containers of the service but the one that the target asks for.
    fn others(&self, wanted: &Wanted<'_>) -> Vec<(Arc<str>, Container)> {
        let good = self.successor(wanted);
        let mut all = self.containers(wanted.service);
        all.retain(|(_, found)| good.as_ref().is_none_or(|(_, good)| good.id != found.id));
        all
    }

    /// Makes the container that the target asks for; does not start it.
    ///
    /// # Errors
    /// When the engine refuses; what was moved out of the way is moved back.
    pub async fn create(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        let _installing = Installing::mark(&self.tools, (&self.app, service));
        let is_again = !self.containers(service).is_empty();
        let made = self.create_wanted(&wanted).await;
        self.repair((service, &wanted.target.image), None, &made)
            .await;
        made?;
        // What never ran is of no use to anybody, and holds the image of its release (FD-06).
        for (name, found) in self.others(&wanted) {
            if found.status == ContainerStatus::Created {
                self.remove_one(&name).await?;
            }
        }
        if is_again {
            self.mark_dependents(service);
        }
        Ok(())
    }

    /// Notes who asked to be restarted when this service is made again (compose's
    /// `depends_on` with `restart: true`).
    fn mark_dependents(&self, service: &ServiceName) {
        let asks = |name: &ServiceName| {
            let target = self.release()?.1.services.get(name)?;
            Some(target.depends_on.get(service)?.restart)
        };
        let dependents = self.look(|app, _| {
            let all = app.containers.values();
            let asking = all.filter(|found| asks(&found.service) == Some(true));
            let asking = asking.map(|found| (found.id.clone(), found.started));
            asking.collect::<Vec<_>>()
        });
        self.tools.board.change_if(|board| {
            let any = !dependents.is_empty();
            board.marks.outdated.extend(dependents);
            any
        });
    }

    async fn create_wanted(&self, wanted: &Wanted<'_>) -> Result<(), EngineError> {
        let config = ServiceConfig::from_json(&wanted.target.config).map_err(|err| {
            let doing = format!("read the configuration of service '{}'", wanted.service);
            EngineError::new(Kind::Refused, doing, err.to_string())
        })?;
        let short = names::container_name(wanted.service, wanted.release.0);
        let taken = self.tools.board.look(|board| {
            let others = board
                .device
                .apps
                .iter()
                .filter(|(app, _)| **app != self.app);
            others
                .into_iter()
                .any(|(_, app)| app.containers.contains_key(&*short))
        });
        let long = names::container_name_long(wanted.service, wanted.release.0, &self.app);
        if taken {
            return self.create_named(wanted, &config, &long).await;
        }
        let clock = &self.tools.clock;
        let end = clock.now() + limits::REMOVAL_WAIT;
        loop {
            let made = self.create_named(wanted, &config, &short).await;
            if !made
                .as_ref()
                .is_err_and(|error| error.kind == Kind::Conflict)
            {
                return made;
            }
            match self.tools.engine.container(&short).await {
                // One of ours that was not known.
                Ok((app, (_, found))) if app == self.app && found.identity.is_some() => {
                    return self.refresh(&short).await;
                }
                // It is on its way out, or still being made for an agent that was killed.
                Err(found) if found.kind == Kind::Gone && clock.now() < end => {
                    clock.sleep_until(clock.now() + limits::REMOVAL_LOOK).await;
                }
                Err(found) if found.kind == Kind::Gone => return made,
                // Somebody who is not one of ours has the name (W-32).
                _ => return self.create_named(wanted, &config, &long).await,
            }
        }
    }

    async fn create_named(
        &self,
        wanted: &Wanted<'_>,
        config: &ServiceConfig,
        name: &str,
    ) -> Result<(), EngineError> {
        let _busy = Busy::mark(&self.tools, name);
        let moved = self.make_way(name, None).await?;
        let made = self.create_on_engine(wanted, config, name).await;
        if let (Err(_), Some(moved)) = (&made, &moved) {
            log::info!(
                "service '{}': its new container was not made, the old one keeps its name",
                wanted.service
            );
            if self.tools.engine.rename(moved, name).await.is_ok() {
                self.refresh(name).await?;
            }
        }
        made?;
        self.refresh(name).await
    }

    /// Moves our container of that name out of the way (D-37) and returns its new
    /// name. Of two that an interrupted replacement left, the one that does not run goes;
    /// never `keep`, the container that is to have the name.
    async fn make_way(
        &self,
        name: &str,
        keep: Option<&str>,
    ) -> Result<Option<String>, EngineError> {
        let find = |name: &str| {
            self.look(|app, board| {
                let found = app.containers.get(name);
                let found = found.filter(|found| !board.marks.is_own(found))?;
                Some((found.is_up(), found.id.clone()))
            })
        };
        let Some((is_up, _)) = find(name) else {
            return Ok(None);
        };
        let mut aside = format!("{OLD}{name}");
        if find(&aside).is_some_and(|(_, id)| Some(&*id) == keep) {
            // The update was taken back: the one that stood aside is wanted again.
            aside.insert_str(0, OLD);
        }
        if find(&aside).is_some() {
            let gone = if is_up { &*aside } else { name };
            self.stop_if_running(gone).await?;
            self.tools.engine.remove(gone).await?;
            self.refresh(gone).await?;
            if gone == name {
                return Ok(None);
            }
        }
        self.tools.engine.rename(name, &aside).await?;
        self.refresh(&aside).await?;
        Ok(Some(aside))
    }

    async fn create_on_engine(
        &self,
        wanted: &Wanted<'_>,
        config: &ServiceConfig,
        name: &str,
    ) -> Result<(), EngineError> {
        let target = self.target.as_ref();
        let release = wanted.release.1;
        let (app, is_beside) = self.look(|app, board| (app_storage(app), board.marks.is_beside));
        let volume = |name: &VolumeName| match release.volumes.get(name) {
            Some(config) => names::volume_name(&self.app, &app, name, config, is_beside).0,
            None => name.to_string(),
        };
        let network = |name: &NetworkName| names::network_name(&self.app, name);
        let lenders = self.lenders(config, wanted.release);
        let container = |service: &str| lenders.get(service).cloned().unwrap_or_default();
        let image_config = self.tools.board.look(|board| {
            let image = board.device.images.get(&wanted.target.image);
            image.and_then(|image| image.config.clone())
        });
        let new = NewContainer {
            name,
            app: &self.app,
            app_id: target.map_or(0, |target| target.id),
            app_name: target.and_then(|target| target.name.as_deref()),
            release: wanted.release.0,
            service: wanted.service,
            service_id: wanted.target.id,
            image: &wanted.target.image,
            image_config: image_config.as_deref(),
            config,
            config_json: &wanted.target.config,
            depends_on: &wanted.target.depends_on,
            network: &network,
            volume: &volume,
            container: &container,
            host: &self.tools.facts,
        };
        let dir = service_dir(&self.tools.facts.runtime_dir, &self.app, wanted.service);
        self.tools.host.make_dir(&dir);
        self.tools.engine.create(new).await.map(drop)
    }

    /// Ids of the containers of services that lend the new one a namespace.
    fn lenders(
        &self,
        config: &ServiceConfig,
        release: (&ReleaseUuid, &ReleaseTarget),
    ) -> Map<String, String> {
        self.situation(|situation| {
            let id = |name: &str| {
                let (_, lender) = rules::lender(situation, name, release)?;
                Some((name.to_owned(), lender.id.to_string()))
            };
            config.shared_services().filter_map(id).collect()
        })
    }

    /// Gives the container that the target asks for the name of its release.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn rename(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        let Some((old, found)) = self.successor(&wanted) else {
            return Ok(());
        };
        let name = names::container_name(service, wanted.release.0);
        let _busy = (
            Busy::mark(&self.tools, &old),
            Busy::mark(&self.tools, &name),
        );
        self.make_way(&name, Some(&found.id)).await?;
        match self.tools.engine.rename(&old, &name).await {
            Err(error) if error.kind == Kind::Conflict => {
                let long = names::container_name_long(service, wanted.release.0, &self.app);
                self.tools.engine.rename(&old, &long).await?;
                self.refresh(&long).await
            }
            Err(error) => Err(error),
            Ok(()) => self.refresh(&name).await,
        }
    }

    /// Stops every other container of the service.
    ///
    /// # Errors
    /// When one cannot be stopped.
    pub async fn stop_others(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        for (name, found) in self.others(&wanted) {
            if found.is_up() {
                let drifted = |board: &Board| board.marks.drifted.contains(&found.id);
                let why = if self.tools.board.look(drifted) {
                    "somebody changed it since it was made".to_owned()
                } else {
                    reason::of(&found, wanted.target)
                };
                log::info!("stopping container '{name}' of app '{}': {why}", self.app);
                self.stop_if_running(&name).await?;
                self.was_stopped(&found.id);
            }
        }
        Ok(())
    }

    async fn stop_if_running(&self, name: &str) -> Result<(), EngineError> {
        let found = self.look(|app, _| app.containers.get(name).cloned());
        let Some(found) = found else { return Ok(()) };
        if !found.is_up() {
            return Ok(());
        }
        let _busy = Busy::mark(&self.tools, name);
        self.change(|app| {
            if let Some(found) = app.containers.get_mut(name) {
                found.status = ContainerStatus::Stopping;
            }
        });
        let stopped = self
            .tools
            .engine
            .stop(name, grace(found.identity.as_ref()))
            .await;
        // Also when it failed: what it is now is what counts.
        self.refresh(name).await?;
        stopped
    }

    /// Makes the container that the target asks for do what it should. If it cannot
    /// be started, those that ran before run again (FD-14).
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn settle(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        let Some((name, found)) = self.successor(&wanted) else {
            return self.lost(&wanted).await;
        };
        if !wanted.target.running {
            log::info!(
                "stopping container '{name}' of app '{}': the target says so",
                self.app
            );
            return self.stop_if_running(&name).await;
        }
        let is_outdated = |board: &Board| rules::is_outdated(&found, wanted.target, &board.marks);
        if self.tools.board.look(is_outdated) {
            log::info!(
                "stopping container '{name}' of app '{}': it restarts with what it depends on",
                self.app
            );
            self.stop_if_running(&name).await?;
        } else if found.status == ContainerStatus::Running {
            return Ok(());
        }
        let _busy = Busy::mark(&self.tools, &name);
        let started = self.tools.engine.start(&name).await;
        self.tools.board.change_if(|board| {
            board.marks.disturbed.remove(&found.id);
            board.marks.outdated.remove(&found.id);
            false
        });
        self.refresh(&name).await?;
        if self.goes_away(&name, &started).await? {
            return self.lost(&wanted).await;
        }
        if started.is_err() {
            self.bring_back(&wanted, "the new container does not start")
                .await;
        }
        let image = &wanted.target.image;
        self.repair((service, image), Some(&name), &started).await;
        started
    }

    /// Somebody removed the container that is to run: what it was to replace runs again
    /// (FD-14). With nothing of that kind all is well, since the next look makes it anew.
    async fn lost(&self, wanted: &Wanted<'_>) -> Result<(), EngineError> {
        if self.others(wanted).is_empty() {
            return Ok(());
        }
        self.bring_back(wanted, "somebody removed the new container")
            .await;
        Err(is_gone(wanted.service))
    }

    /// Starts the new container while the old one runs (target-state 7.1).
    ///
    /// # Errors
    /// When the engine refuses; the old one runs on.
    pub async fn start_beside(&self, service: &ServiceName) -> Result<(), EngineError> {
        let dir = service_dir(&self.tools.facts.runtime_dir, &self.app, service);
        self.tools.host.clear_hand_over(&dir);
        log::info!(
            "service '{service}' of app '{}': the new container starts beside the old one, \
             which goes when that says so",
            self.app
        );
        self.settle(service).await
    }

    /// Starts again what a successor is to replace one day.
    ///
    /// # Errors
    /// When the service is not in the target.
    pub async fn revive(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        self.bring_back(&wanted, "its update waits").await;
        Ok(())
    }

    /// Starts what the successor was to replace.
    async fn bring_back(&self, wanted: &Wanted<'_>, why: &str) {
        let keeps_running = |found: &Container| {
            let was_ours = self.stopped_here(&found.id)
                || self
                    .tools
                    .board
                    .look(|board| board.marks.disturbed.contains(&found.id));
            let ran = was_ours || found.restart != Restart::No;
            ran && found.status == ContainerStatus::Stopped
        };
        let others = self.others(wanted);
        // The newest of them is the one that ran.
        let newest = others.iter().filter(|(_, found)| keeps_running(found));
        let Some((name, _)) = newest.max_by(|a, b| a.1.created.cmp(&b.1.created)) else {
            return;
        };
        let _busy = Busy::mark(&self.tools, name);
        match self.tools.engine.start(name).await {
            Ok(()) => log::warn!(
                "service '{}' of app '{}': {why}, '{name}' runs again",
                wanted.service,
                self.app
            ),
            Err(error) => log::error!(
                "service '{}' of app '{}': {why}, and '{name}' does not start either: {error}",
                wanted.service,
                self.app
            ),
        }
        // A failed look is repaired by the next read.
        let _ = self.refresh(name).await;
    }

    /// Removes every other container of the service.
    ///
    /// # Errors
    /// When one cannot be removed, or the one that took its place is gone: then it is all
    /// that there is (FD-13).
    pub async fn remove_others(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service)?;
        let others = self.others(&wanted);
        if !others.is_empty() && self.successor(&wanted).is_none() {
            return Err(is_gone(service));
        }
        for (name, _) in others {
            self.remove_one(&name).await?;
        }
        Ok(())
    }

    async fn remove_one(&self, name: &str) -> Result<(), EngineError> {
        self.stop_if_running(name).await?;
        let _busy = Busy::mark(&self.tools, name);
        let removed = self.tools.engine.remove(name).await;
        self.refresh(name).await?;
        removed
    }

    /// Stops every container of a service that is to go.
    ///
    /// # Errors
    /// When one cannot be stopped.
    pub async fn stop_all(&self, service: &ServiceName) -> Result<(), EngineError> {
        for (name, found) in self.containers(service) {
            if found.is_up() {
                let why = match self.release() {
                    Some((_, release)) => match release.services.get(service) {
                        Some(target) if target.strategy.kills_first() => {
                            "its strategy is to go before the new image is downloaded"
                        }
                        Some(_) => "a network it uses has to be made again",
                        None => "its service is not in the target",
                    },
                    _ => "its service is not in the target",
                };
                log::info!("stopping container '{name}' of app '{}': {why}", self.app);
                self.stop_if_running(&name).await?;
            }
        }
        Ok(())
    }

    /// Removes every container of a service that is to go.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub async fn remove_all(&self, service: &ServiceName) -> Result<(), EngineError> {
        let wanted = self.wanted(service).ok();
        let strategy = wanted.map(|wanted| wanted.target.strategy);
        if strategy != Some(Strategy::DeleteThenDownload) {
            return self.remove_containers(service).await;
        }
        // The download waits until the old image has made room (target-state 7.1).
        let _installing = Installing::mark(&self.tools, (&self.app, service));
        self.remove_containers(service).await?;
        sweep::sweep(&self.tools).await;
        Ok(())
    }

    async fn remove_containers(&self, service: &ServiceName) -> Result<(), EngineError> {
        for (name, _) in self.containers(service) {
            self.remove_one(&name).await?;
        }
        Ok(())
    }
}

/// The container that the target asks for is not there any more.
fn is_gone(service: &ServiceName) -> EngineError {
    let doing = format!("start service '{service}'");
    EngineError::new(Kind::Gone, doing, "its container is gone")
}

/// Marks a service as being made for as long as it lives.
struct Installing<'t> {
    tools: &'t Tools,
    key: (AppUuid, ServiceName),
}

impl<'t> Installing<'t> {
    fn mark(tools: &'t Tools, (app, service): (&AppUuid, &ServiceName)) -> Installing<'t> {
        let key = (app.clone(), service.clone());
        tools
            .board
            .change(|board| board.installing.insert(key.clone()));
        Installing { tools, key }
    }
}

impl Drop for Installing<'_> {
    fn drop(&mut self) {
        self.tools
            .board
            .change(|board| board.installing.remove(&self.key));
    }
}

/// The part of an app that decides the names of its volumes.
fn app_storage(app: &App) -> App {
    App {
        id: app.id,
        volumes: app.volumes.clone(),
        ..App::default()
    }
}

/// How long the container may take to stop.
fn grace(identity: Option<&Identity>) -> Duration {
    let config = identity.and_then(|identity| ServiceConfig::from_json(&identity.config).ok());
    config
        .and_then(|config| config.stop_grace())
        .unwrap_or(limits::STOP_GRACE_DEFAULT)
}
