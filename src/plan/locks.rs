//! Update locks of an app, and services that run beside their predecessor for a while.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::board::HandOver;
use super::rules::{Agenda, Wait, stage};
use super::stage::Step;
use super::work::{Tools, Work};
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::current::Container;
use crate::model::target::Strategy;
use crate::model::{AppUuid, ServiceName};
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

/// Gives directories' locks back, as far as the host's update does not hold them as well.
fn unlock<'d>(tools: &Tools, dirs: impl Iterator<Item = &'d Arc<str>>) {
    let held = tools.board.look(|board| board.host.held.clone());
    dirs.filter(|dir| !held.contains(dir))
        .for_each(|dir| tools.host.unlock(dir));
}

impl Work {
    /// The agenda as far as update locks let it go: takes them if it needs them.
    pub(super) fn under_locks(&self, agenda: Agenda) -> Agenda {
        // What waits by itself needs no locks yet.
        if agenda.is_empty() || !agenda.needs_locks || self.take_locks() {
            return agenda;
        }
        self.agenda()
    }

    /// Takes the locks of all services of the app: one that must not be interrupted holds
    /// back the whole release (target-state 7.2). `false`: somebody holds one.
    fn take_locks(&self) -> bool {
        // Those held already count as well: a container of theirs may be gone by now.
        let held = self.held().into_iter();
        let mut dirs: Vec<(Arc<str>, bool)> = held.map(|dir| (dir, false)).collect();
        self.look(|app, board| {
            let all = app.containers.values();
            for found in all.filter(|found| !board.marks.is_own(found)) {
                let dir = lock_dir(&self.tools.facts.runtime_dir, &self.app, found);
                let runs = found.is_up();
                match dirs.iter_mut().find(|(known, _)| *known == dir) {
                    Some((_, known)) => *known |= runs,
                    None => dirs.push((dir, runs)),
                }
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
                    unlock(&self.tools, dirs.iter().map(|(dir, _)| dir));
                    self.refused(refused);
                    return false;
                }
            }
        }
        let held: Vec<_> = dirs.into_iter().map(|(dir, _)| dir).collect();
        self.tools.board.change_if(|board| {
            let locks = board.locks_mut(&self.app);
            let changed = locks.held != held || locks.refused.is_some();
            (locks.held, locks.refused) = (held, None);
            changed
        });
        true
    }

    fn refused(&self, refused: LockRefused) {
        let retry_at = self.tools.clock.now() + self.tools.retry;
        let is_new = self.tools.board.change_if(|board| {
            let locks = board.locks_mut(&self.app);
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
                crate::base::uptime::whole_secs(self.tools.retry)
            );
        }
    }

    /// Gives the locks back once nothing is left that needs them, or when a failure makes
    /// it a long wait.
    pub(super) fn release_locks(&self, agenda: &Agenda) {
        let soon = |wait: &Wait| {
            matches!(
                wait,
                Wait::Dependency(_)
                    | Wait::Dependent(_)
                    | Wait::HandOver
                    | Wait::Storage
                    | Wait::Order
            )
        };
        if agenda.is_reached() || !agenda.waiting.values().all(soon) {
            self.release_all();
        }
    }

    fn held(&self) -> Vec<Arc<str>> {
        self.tools.board.look(|board| {
            let locks = board.locks_of(&self.app);
            locks.map(|locks| locks.held.clone()).unwrap_or_default()
        })
    }

    fn release_all(&self) {
        let held = self.held();
        if held.is_empty() {
            return;
        }
        unlock(&self.tools, held.iter());
        self.tools
            .board
            .change(|board| board.locks_mut(&self.app).held.clear());
    }

    /// Looks whether new containers that run beside their predecessors took over; returns
    /// when to look again.
    pub(super) fn watch_hand_overs(&self) -> Option<Uptime> {
        let (uuid, release) = self.release()?;
        // An old one goes only when its successor is seen to be there.
        if self.tools.board.look(|board| board.engine_down.is_some()) {
            return None;
        }
        let now = self.tools.clock.now();
        let mut next = None;
        for (service, target) in &release.services {
            let Strategy::HandOver(timeout) = target.strategy else {
                continue;
            };
            let stage =
                self.situation(|situation| stage(situation, service, target, (uuid, &**release)));
            let known = self.tools.board.look(|board| {
                let at = board.hand_over(&self.app, service);
                at.map(|at| board.hand_overs[at].clone())
            });
            let is_new_settled = matches!(stage.step, Step::Settled | Step::MisnamedSettled);
            if !is_new_settled || !stage.others_run {
                if known.is_some() {
                    self.tools.board.change(|board| {
                        let is_it =
                            |found: &HandOver| found.app == self.app && found.service == *service;
                        board.hand_overs.retain(|found| !is_it(found));
                    });
                }
                continue;
            }
            let is_new = known.is_none();
            let mut hand_over = known.unwrap_or_else(|| HandOver {
                app: self.app.clone(),
                service: service.clone(),
                until: now + timeout,
                is_done: false,
            });
            if hand_over.is_done {
                continue;
            }
            hand_over.is_done = self.has_handed_over(service, (now, hand_over.until));
            if !hand_over.is_done {
                let look = (now + limits::HAND_OVER_LOOK).min(hand_over.until);
                next = Some(next.map_or(look, |next: Uptime| next.min(look)));
            }
            if is_new || hand_over.is_done {
                self.tools
                    .board
                    .change(|board| match board.hand_over(&self.app, service) {
                        Some(at) => board.hand_overs[at] = hand_over,
                        None => board.hand_overs.push(hand_over),
                    });
            }
        }
        next
    }

    /// Whether the new container said that it took over, or its time is up.
    fn has_handed_over(&self, service: &ServiceName, (now, until): (Uptime, Uptime)) -> bool {
        let dir = service_dir(&self.tools.facts.runtime_dir, &self.app, service);
        if self.tools.host.is_handed_over(&dir) {
            log::info!("service '{service}' of app '{}' took over", self.app);
            return true;
        }
        if now >= until {
            log::warn!(
                "service '{service}' of app '{}' did not say in time that it took over: \
                 the old one goes anyway",
                self.app
            );
        }
        now >= until
    }
}

impl Drop for Work {
    /// No lock outlives the work it was taken for, however that ends.
    fn drop(&mut self) {
        self.release_all();
    }
}
