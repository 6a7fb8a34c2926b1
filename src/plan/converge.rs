//! Brings one app to its target: window after window until nothing is left.

use std::sync::Arc;

use futures_lite::future;

use super::board::{Board, Lane, Part};
use super::problem::Ended;
use super::rules::{self, Agenda, ByService, PartName, Situation, Wait};
use super::window;
use super::work::{Active, Work};
use super::{drift, images, read};
use crate::base::map::Map;
use crate::base::uptime::Uptime;
use crate::model::current::App;
use crate::model::status::ContainerStatus;
use crate::model::target::{AppRelease, ReleaseTarget};
use crate::model::{AppUuid, ImageUri, ReleaseUuid, ServiceName};

/// Brings the app to its target and keeps it there until it is time to stop.
/// How far it is stands on the board.
pub async fn lane(work: Arc<Work>) {
    while !work.cancel.is_set() {
        let seen = work.tools.board.version();
        work.remove_spare_networks().await;
        let look_again = work.watch_hand_overs();
        let mut agenda = work.under_locks(work.agenda());
        if !agenda.is_empty() {
            work.show(Lane::Working);
            agenda = work.fresh(agenda).await;
            agenda = work.under_locks(agenda);
            if !agenda.is_empty() {
                work.step(&agenda).await;
            }
            continue;
        }
        work.release_locks(&agenda);
        if agenda.is_reached() {
            if work.show(Lane::Reached) {
                work.finish().await;
            }
            if work.target.is_none() {
                return;
            }
        } else if let Some(why) = blocked(&agenda) {
            work.show(Lane::Blocked(why.into()));
        } else {
            work.show(Lane::Waiting(waiting(&agenda).into()));
        }
        // Showing is a change of the board too: one more look, then there is peace.
        work.wait(seen, look_again).await;
    }
}

/// What is waited for, in one line.
fn waiting(agenda: &Agenda) -> String {
    // What failed explains more than what merely waits for it.
    let weight = |wait: &Wait| match wait {
        Wait::Retry => 0,
        Wait::Locked(_) => 1,
        Wait::Failed(..) => 2,
        Wait::Image | Wait::Legacy => 3,
        Wait::Dependency(_) | Wait::Dependent(_) | Wait::HandOver => 4,
        Wait::Storage | Wait::OtherImages | Wait::Move => 5,
        Wait::Order => 6,
    };
    let first = agenda.waiting.iter().min_by_key(|(_, wait)| weight(wait));
    first
        .map(|(part, wait)| format!("{part}: {wait}"))
        .unwrap_or_default()
}

/// Why nothing but a change from outside helps: every part waits for a dependency
/// that failed for good, or for a part that does. One that is merely still starting
/// is not among those that wait.
fn blocked(agenda: &Agenda) -> Option<String> {
    let waits = |name: &ServiceName| agenda.waiting.contains_key(&format!("service '{name}'"));
    let is_hopeless = |wait: &Wait| match wait {
        Wait::Failed(..) | Wait::Order => true,
        Wait::Dependency(name) => waits(name),
        Wait::Image
        | Wait::Dependent(_)
        | Wait::Legacy
        | Wait::OtherImages
        | Wait::Move
        | Wait::Storage
        | Wait::Retry
        | Wait::HandOver
        | Wait::Locked(_) => false,
    };
    if !agenda.waiting.values().all(is_hopeless) {
        return None;
    }
    let mut all = agenda.waiting.iter();
    let (part, wait) = all.find(|(_, wait)| matches!(wait, Wait::Failed(..)))?;
    Some(format!("{part} does not start: {wait}"))
}

/// What may be done now for an app, by what the board knows. `leaves`: it is to go.
#[must_use]
fn agenda(
    board: &Board,
    app: (&AppUuid, &App),
    release: Option<(&ReleaseUuid, &ReleaseTarget)>,
    leaves: bool,
    now: Uptime,
) -> Agenda {
    look(board, app, release, (leaves, false), now)
}

/// What each part of an app waits for. `leaves`: it is to go.
#[must_use]
pub fn reasons(
    board: &Board,
    app: (&AppUuid, &App),
    release: Option<(&ReleaseUuid, &ReleaseTarget)>,
    leaves: bool,
    now: Uptime,
) -> Map<String, Wait> {
    look(board, app, release, (leaves, true), now).waiting
}

fn look(
    board: &Board,
    (uuid, app): (&AppUuid, &App),
    release: Option<(&ReleaseUuid, &ReleaseTarget)>,
    (leaves, reasons): (bool, bool),
    now: Uptime,
) -> Agenda {
    if leaves && !board.deleted.contains(uuid) && is_replaced(board) {
        let waiting = still_running(app);
        if !waiting.is_empty() {
            return Agenda {
                waiting,
                ..Agenda::default()
            };
        }
    }
    let waits = |part: &PartName<'_>| {
        let uuid = uuid.clone();
        let part = match *part {
            PartName::Network(name) => Part::Network(uuid, name.clone()),
            PartName::Volume(name) => Part::Volume(uuid, name.clone()),
            PartName::Service(name) => Part::Service(uuid, name.clone()),
        };
        board.is_waiting(&part, now)
    };
    rules::agenda(&Situation {
        uuid,
        app,
        containers: ByService::new(app),
        release,
        leaves,
        has_image: &|uri| images::is_there(&board.device, uri),
        waits: &waits,
        marks: &board.marks,
        locked: board.locked(uuid, now),
        handed_over: &|service| board.handed_over(uuid, service),
        reasons,
    })
}

/// Whether apps are new in the target and their images are on the way: the move of a device
/// to another fleet, say. A failed download is no reason to wait any longer (D-16), nor is one
/// whose strategy is to save space.
fn is_replaced(board: &Board) -> bool {
    let apps = board.target.iter().flat_map(|target| &target.apps);
    let mut new = apps.filter_map(|(uuid, app)| match &app.release {
        AppRelease::Wanted(_, release) => {
            // New until all of it has run once: its first containers come before its last images.
            let found = board.device.apps.get(uuid);
            found
                .is_none_or(|found| found.installed.is_none())
                .then_some(release)
        }
        AppRelease::None | AppRelease::Rejected(_) => None,
    });
    new.any(|release| {
        let mut missing = release
            .services
            .values()
            .filter(|service| {
                !service.strategy.kills_first() && !images::is_there(&board.device, &service.image)
            })
            .peekable();
        let has_failed = |image: &ImageUri| {
            let trouble = board.troubles.get(&Part::Image(image.clone()));
            // One that waits for room has not failed: what runs goes on meanwhile (FD-07).
            trouble.is_some_and(|trouble| trouble.backoff.failures() > 0)
        };
        missing.peek().is_some() && !missing.any(|service| has_failed(&service.image))
    })
}

/// What of an app runs, and waits.
fn still_running(app: &App) -> Map<String, Wait> {
    let all = app.containers.values();
    let runs = all.filter(|found| found.status == ContainerStatus::Running);
    runs.map(|found| (format!("service '{}'", found.service), Wait::Move))
        .collect()
}

impl Work {
    /// What may be done now.
    #[must_use]
    pub fn agenda(&self) -> Agenda {
        let now = self.tools.clock.now();
        let release = self.release().map(|(uuid, release)| (uuid, &**release));
        self.look(|app, board| agenda(board, (&self.app, app), release, self.target.is_none(), now))
    }

    /// Runs one window and draws its conclusions.
    async fn step(self: &Arc<Self>, agenda: &Agenda) {
        let parts = window::parts(self, agenda);
        let before: Vec<_> = parts.iter().map(|part| self.failures(part)).collect();
        let active = Active::begin(&self.tools.board);
        let ended = window::run(self, agenda).await;
        if let Ended::NoPlan(said) = &ended {
            for part in &parts {
                self.tools.trouble(part, said);
            }
        }
        let look_again = !self.cancel.is_set() && !self.went_on(agenda);
        let again = look_again.then(|| self.agenda());
        let mut failed = false;
        for (part, before) in parts.iter().zip(before) {
            if self.failures(part) != before {
                failed = true;
            } else if again
                .as_ref()
                .is_some_and(|again| same(part, agenda, again))
            {
                // Jobs that change nothing would be repeated for ever.
                self.tools
                    .trouble(part, "it is not as asked after its plan ran");
                failed = true;
            } else {
                self.tools.clear(part);
            }
        }
        if failed && let Err(error) = read::app(&self.tools, &self.app).await {
            log::warn!("{error}");
        }
        drop(active);
    }

    /// Whether every part of an agenda is a service that is at another stage by now.
    fn went_on(&self, agenda: &Agenda) -> bool {
        let Some(release) = self.release().map(|(uuid, release)| (uuid, &**release)) else {
            return false;
        };
        let only_services = agenda.networks.is_empty() && agenda.volumes.is_empty();
        only_services
            && self.situation(|situation| {
                agenda.services.iter().all(|(name, (before, _))| {
                    let wanted = release.1.services.get_key_value(name.as_str());
                    let stage = |(name, target)| rules::stage(situation, name, target, release);
                    wanted
                        .map(stage)
                        .is_some_and(|now| *before != Some(now.to_byte()))
                })
            })
    }

    pub(super) fn failures(&self, part: &Part) -> u32 {
        self.tools.board.look(|board| {
            board
                .troubles
                .get(part)
                .map_or(0, |trouble| trouble.backoff.failures())
        })
    }

    /// Waits for a change of the board, for the next try, or to be stopped.
    async fn wait(&self, seen: u64, look_again: Option<Uptime>) {
        let now = self.tools.clock.now();
        let next = self
            .tools
            .board
            .look(|board| board.next_try(Some(&self.app), now));
        let next = next.into_iter().chain(look_again).min();
        let change = async {
            self.tools.board.newer(seen).await;
        };
        let time = async {
            match next {
                Some(at) => self.tools.clock.sleep_until(at).await,
                None => future::pending().await,
            }
        };
        future::or(self.cancel.wait(), future::or(change, time)).await;
    }

    /// Reads the app again if something of the agenda failed before: nothing that
    /// was remembered counts for a new try (D-19).
    async fn fresh(&self, agenda: Agenda) -> Agenda {
        if window::parts(self, &agenda)
            .iter()
            .all(|part| self.failures(part) == 0)
        {
            return agenda;
        }
        if let Err(error) = read::app(&self.tools, &self.app).await {
            for part in window::parts(self, &agenda) {
                self.tools.trouble(&part, &error.to_string());
            }
        }
        self.agenda()
    }

    /// Puts the lane's state on the board and in the log (FD-37); `true` if it is new.
    fn show(&self, lane: Lane) -> bool {
        let new = self.tools.board.change_if(|board| {
            board.lanes.insert(self.app.clone(), lane.clone()).as_ref() != Some(&lane)
        });
        match &lane {
            _ if !new => {}
            Lane::Working => log::debug!("app '{}': working", self.app),
            Lane::Waiting(why) => log::info!("app '{}' waits: {why}", self.app),
            Lane::Reached => log::info!("app '{}' is at its target", self.app),
            Lane::Blocked(why) => log::warn!("app '{}' cannot reach its target: {why}", self.app),
        }
        new
    }

    /// The app is what it should be: writes down what only the target knew.
    async fn finish(&self) {
        let store = &self.tools.store;
        let dir = read::app_dir(&self.app);
        let Some(target) = &self.target else {
            self.tools.board.change(|board| {
                board.device.apps.remove(&self.app);
                // What it had may be what others failed for: a port, a device.
                for (part, trouble) in board.troubles.iter_mut() {
                    if matches!(part, Part::Service(..)) {
                        trouble.retry_at = Uptime::default();
                    }
                }
            });
            if let Err(error) = store.delete(&format!("{dir}/")).await {
                log::warn!("{error}");
            }
            return;
        };
        let release = self.release().map(|(uuid, _)| uuid.clone());
        self.change(|app| {
            app.id = target.id;
            app.name.clone_from(&target.name);
            app.installed.clone_from(&release);
        });
        let name = serde_json::to_vec(&target.name.as_deref()).unwrap_or_default();
        let mut documents = vec![
            (format!("{dir}/id"), target.id.to_string().into_bytes()),
            (format!("{dir}/name"), name),
        ];
        if let Some(release) = &release {
            let path = format!("{dir}/releases/{}/installed", file_name(release));
            documents.push((path, b"true".to_vec()));
        }
        drift::remember(&self.tools, &self.app).await;
        for (path, bytes) in documents {
            if let Err(error) = store.put(&path, &bytes).await {
                log::warn!("{error}");
            }
        }
        let current = release.as_deref().map(file_name);
        let known = store.list(&format!("{dir}/releases")).await;
        // An agent that was killed here may have left more than one.
        let former = known.unwrap_or_default().into_iter();
        for name in former.filter(|name| Some(name) != current.as_ref()) {
            log::info!("app '{}': release '{name}' is gone", self.app);
            if let Err(error) = store.delete(&format!("{dir}/releases/{name}/")).await {
                log::warn!("{error}");
            }
        }
    }
}

/// A release's uuid as the name of a directory.
fn file_name(release: &str) -> String {
    release
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() {
                char::from(byte)
            } else {
                '_'
            }
        })
        .collect()
}

/// Whether the rules would do the very same thing to a part again.
fn same(part: &Part, before: &Agenda, after: &Agenda) -> bool {
    let (name, before, after) = match part {
        Part::Network(_, name) => (name.as_str(), &before.networks, &after.networks),
        Part::Volume(_, name) => (name.as_str(), &before.volumes, &after.volumes),
        Part::Service(_, name) => (name.as_str(), &before.services, &after.services),
        Part::Image(_) => return false,
    };
    after
        .get(name)
        .is_some_and(|change| before.get(name) == Some(change))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_18_blocked_only_when_nothing_can_still_happen() {
        let failed = || Wait::Failed("init".into(), "ended with an error");
        let on = |name: &str| Wait::Dependency(name.into());
        let cases = [
            (vec![("service 'a'", failed())], true),
            (
                vec![("service 'a'", failed()), ("service 'b'", on("a"))],
                true,
            ),
            (
                vec![("service 'a'", failed()), ("service 'b'", on("starting"))],
                false,
            ),
            (
                vec![("service 'a'", failed()), ("service 'b'", Wait::Retry)],
                false,
            ),
            (
                vec![("service 'a'", failed()), ("service 'b'", Wait::Image)],
                false,
            ),
            (vec![("service 'b'", on("a"))], false),
            (vec![], false),
        ];
        for (waiting, want) in cases {
            let waiting = waiting
                .into_iter()
                .map(|(part, wait)| (part.to_owned(), wait));
            let agenda = Agenda {
                waiting: waiting.collect(),
                ..Agenda::default()
            };
            assert_eq!(blocked(&agenda).is_some(), want, "{:?}", agenda.waiting);
        }
    }

    #[test]
    fn the_very_same_change_again_is_noticed() {
        let agenda = |change| Agenda {
            services: [("a".to_owned(), change)].into(),
            ..Agenda::default()
        };
        let part = Part::Service("app".into(), "a".into());
        let before = agenda((Some(1), Some(2)));
        assert!(same(&part, &before, &agenda((Some(1), Some(2)))));
        assert!(
            !same(&part, &before, &agenda((Some(2), Some(3)))),
            "it went on"
        );
        assert!(!same(&part, &before, &Agenda::default()), "it is done");
    }
}
