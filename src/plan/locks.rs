//! Update locks of an app, and services that run beside their predecessor for a while.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::board::HandOver;
use super::rules::{Agenda, Wait, stage};
use super::stage::Step;
use super::work::Work;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::AppUuid;
use crate::model::current::Container;
use crate::model::status::ContainerStatus;
use crate::model::target::Strategy;
use crate::world::host::LockRefused;

/// The host's directory where a container's service leaves its locks (D-38).
pub(super) fn lock_dir(runtime_dir: &str, app: &AppUuid, container: &Container) -> Arc<str> {
    match &container.lock_dir {
        Some(dir) => dir.clone(),
        None => service_dir(runtime_dir, app, &container.service).into(),
    }
}

/// The directory that this agent gives a service (D-38).
pub(super) fn service_dir(runtime_dir: &str, app: &AppUuid, service: &str) -> String {
    format!("{runtime_dir}/update-locks/{app}/{service}")
}

impl Work {
    /// The agenda as far as update locks let it go: takes them if it needs them.
    pub(super) fn under_locks(&self, agenda: Agenda) -> Agenda {
        if !agenda.needs_locks || self.take_locks() {
            return agenda;
        }
        self.agenda()
    }

    /// Takes the locks of all services of the app: one that must not be interrupted holds
    /// back the whole release (target-state 7.2). `false`: somebody holds one.
    fn take_locks(&self) -> bool {
        let mut dirs: BTreeMap<Arc<str>, bool> = BTreeMap::new();
        self.look(|app, _| {
            for found in app.containers.values() {
                let dir = lock_dir(&self.tools.facts.runtime_dir, &self.app, found);
                *dirs.entry(dir).or_default() |= found.status == ContainerStatus::Running;
            }
        });
        let force = self.force.load(Ordering::Relaxed);
        for (dir, runs) in &dirs {
            // A stopped service cannot hold a lock (FD-04).
            match self.tools.host.lock(dir, force || !runs) {
                Ok(None) => {}
                Ok(Some(path)) => {
                    let why = if *runs {
                        "override was asked for"
                    } else {
                        "its service does not run"
                    };
                    log::warn!(
                        "app '{}': update lock '{path}' is disregarded: {why}",
                        self.app
                    );
                }
                Err(refused) => {
                    dirs.keys().for_each(|dir| self.tools.host.unlock(dir));
                    self.refused(refused);
                    return false;
                }
            }
        }
        let held: Vec<_> = dirs.into_keys().collect();
        self.tools.board.change_if(|board| {
            let locks = board.locks.entry(self.app.clone()).or_default();
            let changed = locks.held != held || locks.refused.is_some();
            (locks.held, locks.refused) = (held, None);
            changed
        });
        true
    }

    fn refused(&self, refused: LockRefused) {
        let retry_at = self.tools.clock.now() + self.tools.retry;
        let is_new = self.tools.board.change_if(|board| {
            let locks = board.locks.entry(self.app.clone()).or_default();
            let path = refused.path.as_str();
            let known = locks.refused.as_ref();
            let is_new = known.is_none_or(|(known, _)| **known != *path);
            locks.held.clear();
            locks.refused = Some((path.into(), retry_at));
            is_new
        });
        if is_new {
            log::info!(
                "app '{}': {refused}; it is looked at again every {} s",
                self.app,
                self.tools.retry.as_secs_f32().ceil()
            );
        }
    }

    /// Gives the locks back once nothing is left that needs them, or when a failure makes
    /// it a long wait.
    pub(super) fn release_locks(&self, agenda: &Agenda) {
        let soon = |wait: &Wait| {
            matches!(
                wait,
                Wait::Dependency(_) | Wait::HandOver | Wait::Storage | Wait::Order
            )
        };
        if agenda.is_reached() || !agenda.waiting.values().all(soon) {
            self.release_all();
        }
    }

    fn release_all(&self) {
        let held = self.tools.board.look(|board| {
            let locks = board.locks.get(&self.app);
            locks.map(|locks| locks.held.clone()).unwrap_or_default()
        });
        if held.is_empty() {
            return;
        }
        held.iter().for_each(|dir| self.tools.host.unlock(dir));
        self.tools.board.change(|board| {
            if let Some(locks) = board.locks.get_mut(&self.app) {
                locks.held.clear();
            }
        });
    }

    /// Looks whether new containers that run beside their predecessors took over; returns
    /// when to look again.
    pub(super) fn watch_hand_overs(&self) -> Option<Uptime> {
        let (uuid, release) = self.release()?;
        let now = self.tools.clock.now();
        let mut next = None;
        for (service, target) in &release.services {
            let Strategy::HandOver(timeout) = target.strategy else {
                continue;
            };
            let stage =
                self.situation(|situation| stage(situation, service, target, (uuid, &**release)));
            let key = (self.app.clone(), service.clone());
            if stage.step < Step::MisnamedSettled || stage.step == Step::Ready || !stage.others_run
            {
                self.tools
                    .board
                    .change_if(|board| board.hand_overs.remove(&key).is_some());
                continue;
            }
            let known = self
                .tools
                .board
                .look(|board| board.hand_overs.get(&key).copied());
            let mut hand_over = known.unwrap_or(HandOver {
                until: now + timeout,
                is_done: false,
            });
            if !hand_over.is_done {
                let dir = service_dir(&self.tools.facts.runtime_dir, &self.app, service);
                let said = self.tools.host.is_handed_over(&dir);
                hand_over.is_done = said || now >= hand_over.until;
                if said {
                    log::info!("service '{service}' of app '{}' took over", self.app);
                } else if hand_over.is_done {
                    log::warn!(
                        "service '{service}' of app '{}' did not say that it took over within {} s: \
                         the old one goes anyway",
                        self.app,
                        timeout.as_secs_f32()
                    );
                } else {
                    let look = (now + limits::HAND_OVER_LOOK).min(hand_over.until);
                    next = Some(next.map_or(look, |next: Uptime| next.min(look)));
                }
            }
            self.tools
                .board
                .change_if(|board| board.hand_overs.insert(key, hand_over) != Some(hand_over));
        }
        next
    }
}

impl Drop for Work {
    /// No lock outlives the work it was taken for, however that ends.
    fn drop(&mut self) {
        self.release_all();
    }
}
