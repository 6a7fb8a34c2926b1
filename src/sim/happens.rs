//! What happens in the engine without a call of an agent: by itself, and by people's hands.

use std::sync::Arc;
use std::time::Duration;

use helios::model::ImageUri;
use helios::model::current::{Container, Restart};
use helios::model::status::{ContainerStatus, Health};
use helios::world::engine::FoundVolume;

use super::engine::Found;
use super::world::State;
use crate::base::map::Map;

/// What happens by itself.
impl State {
    /// A container starts, whoever started it.
    pub fn begin(&mut self, name: &str) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        found.container.status = ContainerStatus::Running;
        found.container.is_paused = false;
        found.is_restarting = false;
        found.container.exit_code = Some(0);
        found.started = self.engine.made;
        found.container.started += 1;
        found.container.health = if found.has_check {
            Health::Starting
        } else {
            Health::None
        };
        let (id, ends, check) = (found.container.id.clone(), found.ends, found.has_check);
        self.tell_networks("connect", name);
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
        if found.container.status != ContainerStatus::Running || found.is_restarting {
            return;
        }
        found.container.status = ContainerStatus::Stopped;
        found.container.exit_code = Some(code);
        let again = match found.container.restart {
            Restart::No => false,
            Restart::Always | Restart::UnlessStopped => true,
            Restart::OnFailure(tries) => tries && code != 0,
        };
        self.tell_networks("disconnect", &name);
        self.engine.tell("container", "die", id);
        self.call(&format!("{name} ends with {code}"), true);
        if again {
            self.begin(&name);
        }
    }

    /// A container crashes again and again: the engine waits before it starts it the next
    /// time, and calls that running.
    pub fn crash(&mut self, name: &str, wait: Duration) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        let is_kept = found.container.restart != Restart::No;
        if found.container.status != ContainerStatus::Running || !is_kept {
            return;
        }
        found.is_restarting = true;
        let id = found.container.id.clone();
        self.tell_networks("disconnect", name);
        self.engine.tell("container", "die", &id);
        self.after(wait, move |state| {
            let name = state.engine.find(&id);
            let found = name
                .as_ref()
                .and_then(|name| state.engine.containers.get(name));
            if let (Some(name), true) = (&name, found.is_some_and(|found| found.is_restarting)) {
                state.begin(name);
            }
        });
    }

    /// A container that starts or ends comes to its networks or leaves them.
    fn tell_networks(&self, action: &str, name: &str) {
        let Some(found) = self.engine.containers.get(name) else {
            return;
        };
        for _ in &found.container.networks {
            self.engine.tell("network", action, &found.container.id);
        }
    }

    /// All processes end with the engine, and those come back with it whose policy says so.
    pub fn restart_engine(&mut self) {
        self.engine.set_down(true);
        let mut again = Vec::new();
        for (name, found) in &mut self.engine.containers {
            if found.container.is_up() {
                found.container.status = ContainerStatus::Stopped;
                found.container.is_paused = false;
                found.is_restarting = false;
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
}

/// What people do to an engine.
impl State {
    /// Somebody stops a container by hand.
    pub fn stop_by_hand(&mut self, name: &str) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        if found.container.is_up() {
            found.container.status = ContainerStatus::Stopped;
            found.container.is_paused = false;
            found.is_restarting = false;
            found.container.exit_code = Some(137);
            let id = found.container.id.clone();
            self.tell_networks("disconnect", name);
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

    /// Somebody removes a container by force, and that takes its time.
    pub fn remove_slowly(&mut self, name: &str, wait: Duration) {
        self.stop_by_hand(name);
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        found.is_removing = true;
        let id = found.container.id.clone();
        self.after(wait, move |state| {
            if let Some(name) = state.engine.find(&id) {
                state.remove_by_hand(&name);
            }
        });
    }

    /// Somebody pauses a container.
    pub fn pause_by_hand(&mut self, name: &str) {
        let Some(found) = self.engine.containers.get_mut(name) else {
            return;
        };
        if found.container.status == ContainerStatus::Running && !found.is_restarting {
            found.container.status = ContainerStatus::Stopped;
            found.container.is_paused = true;
            let id = found.container.id.clone();
            self.engine.tell("container", "pause", &id);
        }
    }

    /// Somebody takes a container off its networks.
    pub fn disconnect_by_hand(&mut self, name: &str) {
        self.tell_networks("disconnect", name);
        if let Some(found) = self.engine.containers.get_mut(name)
            && !found.container.networks.is_empty()
        {
            found.container.networks.clear();
            found.container.fingerprint = u64::MAX - found.container.fingerprint;
        }
    }

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
            maker: helios::model::current::Maker::Legacy,
            image_id: self.engine.images[&image].clone(),
            depends_on: Map::new(),
            status: ContainerStatus::Running,
            is_paused: false,
            started: 0,
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
            stops_in: None,
            is_removing: false,
            is_restarting: false,
            is_foreign: app.is_empty(),
        };
        self.engine.containers.insert(name.into(), found);
    }
}
