//! What everyone may look at: the device as it is, its target, and what is in the way.

use std::collections::VecDeque;
use std::sync::Arc;

use super::host::{self, Host};
use super::work::Cancel;
use crate::base::backoff::Backoff;
use crate::base::latest::Latest;
use crate::base::map::{Map, Set};
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::current::{Container, Device, Maker};
use crate::model::status::UpdateStatus;
use crate::model::target::DeviceTarget;
use crate::model::{AppUuid, ImageUri, NetworkName, ReleaseUuid, ServiceName, VolumeName};

/// The app of a container that does not say (state-engine 0.2).
const UNKNOWN_APP: &str = "10c401";

/// The board behind its lock.
pub type Shared = Arc<Latest<Board>>;

/// Everything the flows share.
#[derive(Debug, Default)]
pub struct Board {
    /// The device as the engine showed it last.
    pub device: Device,
    /// Why the backend's newest document is no target; what was accepted before stays.
    pub refused: Option<Arc<str>>,
    /// Why the last poll brought nothing; `None` when it did.
    pub backend_down: Option<Arc<str>>,
    /// Why the engine does not answer; `None` when it does.
    pub engine_down: Option<Arc<str>>,
    /// Whether the engine was read at all since the start (D-34).
    pub is_read: bool,
    /// How far the device is on its way to the target.
    pub status: UpdateStatus,
    /// Why it is not `done`, in one line.
    pub reason: Option<Arc<str>>,
    /// Since when the status is what it is.
    pub since: Uptime,
    /// The last accepted target, local edits included.
    pub target: Option<Arc<DeviceTarget>>,
    /// Apps of the last target from the backend: the ones it is told about.
    pub authorized: Option<Set<AppUuid>>,
    /// Releases that the backend named, in a former run too: it knows no others, and one
    /// that it does not know spoils a whole report (remote-api 3.3).
    pub known_releases: Set<ReleaseUuid>,
    /// Images that are being pulled or about to be, and what makes an end of that. A pull
    /// belongs to no apply.
    pub pulls: Map<ImageUri, Arc<Cancel>>,
    /// What failed and when it is tried again.
    pub troubles: Map<Part, Trouble>,
    /// Containers, by name, that an action of ours is changing right now.
    pub busy: Set<Arc<str>>,
    /// Containers, by name, that an action of ours changed a moment ago: their
    /// events may still be on the way.
    pub recent: VecDeque<(Arc<str>, Uptime)>,
    /// What is known about containers beside what the engine says.
    pub marks: Marks,
    /// Which engine answers, in which version.
    pub engine: Option<Arc<str>>,
    /// Services whose container is being made right now.
    pub installing: Set<(AppUuid, ServiceName)>,
    /// Update locks by app: those held, and one that somebody else holds.
    pub locks: Vec<(AppUuid, Locks)>,
    /// Services whose new container runs beside the old one.
    pub hand_overs: Vec<HandOver>,
    /// Images of ours that could not be written down as such yet (FD-09).
    pub unmarked: Vec<ImageUri>,
    /// How far each app's lane is. Empty before the first target.
    pub lanes: Map<AppUuid, Lane>,
    /// The update of the host's OS.
    pub host: Host,
    /// A target was accepted and its lanes are not on the board yet.
    pub is_preparing: bool,
    /// Somebody asked for a poll and its answer is not there yet (D-17).
    pub is_asking: bool,
    /// Plans that run right now; at zero an interrupt costs nothing.
    pub active: usize,
    /// Plans that were begun since the start, and whatever else may have made an image
    /// clean-up's.
    pub plans: u64,
    /// Counts actions and events, so that a long read notices that it is stale.
    pub touched: u64,
    /// The target names every app that may be there: what it does not name goes.
    /// Not so before the first target from the backend.
    pub is_complete: bool,
    /// Apps that a local call removed.
    pub deleted: Set<AppUuid>,
}

/// Containers, by id, of which something is known beside what the engine says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marks {
    /// Someone else stopped it (D-21).
    pub disturbed: Set<Arc<str>>,
    /// Somebody changed it since it was made (D-11).
    pub drifted: Set<Arc<str>>,
    /// What it depends on was made again, and it asked to be restarted then (GAP-26), unless
    /// it has started again since; with [`Container::started`] of that moment.
    pub outdated: Map<Arc<str>, u64>,
    /// The beginning of the id of the container that this agent runs in, if it runs in one.
    pub own: Option<Arc<str>>,
    /// A legacy supervisor runs beside this agent: what it made is its own (D-08).
    pub is_beside: bool,
    /// Its containers: of which app and service.
    pub legacy: Map<Arc<str>, (AppUuid, ServiceName)>,
}

impl Marks {
    /// Whether this agent runs in it: then it is as it should be, whatever the target says,
    /// since whoever stops himself starts nothing (FD-41).
    #[must_use]
    pub fn is_own(&self, found: &Container) -> bool {
        let own = self.own.as_deref();
        own.is_some_and(|own| found.id.starts_with(own))
    }

    /// The container of a legacy supervisor for this service, if there is one. An old one does
    /// not say which app it is of.
    #[must_use]
    pub fn of_legacy(&self, app: &AppUuid, service: &ServiceName) -> Option<&Arc<str>> {
        let is_it = |(of, name): &(AppUuid, ServiceName)| {
            name == service && (of == app || of.as_str() == UNKNOWN_APP)
        };
        let mut all = self.legacy.iter();
        all.find(|(_, found)| is_it(found)).map(|(id, _)| id)
    }

    /// The app of the one that this agent runs in, if that is one of them (FD-41).
    #[must_use]
    pub fn legacy_of_own(&self) -> Option<&AppUuid> {
        let own = self.own.as_deref()?;
        let mut all = self.legacy.iter();
        all.find(|(id, _)| id.starts_with(own))
            .map(|(_, (app, _))| app)
    }

    /// Whether there is any for this app.
    #[must_use]
    pub fn has_legacy(&self, app: &AppUuid) -> bool {
        let is_it = |of: &AppUuid| of == app || of.as_str() == UNKNOWN_APP;
        self.legacy.values().any(|(of, _)| is_it(of))
    }

    /// Whether a container is one of a legacy supervisor beside us, or a stranger's; it is
    /// noted as such.
    pub fn is_elsewhere(&mut self, app: &AppUuid, found: &Container) -> bool {
        if !self.is_beside || found.maker == Maker::Us {
            return false;
        }
        if found.maker == Maker::Legacy {
            let of = (app.clone(), found.service.clone());
            self.legacy.insert(found.id.clone(), of);
        }
        true
    }
}

/// The update locks of one app.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Locks {
    /// Directories of the host whose locks are ours now.
    pub held: Vec<Arc<str>>,
    /// The lock that somebody else holds, and when it is looked at again.
    pub refused: Option<(Arc<str>, Uptime)>,
}

/// A new container beside the old one (target-state 7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandOver {
    /// The app.
    pub app: AppUuid,
    /// The service.
    pub service: ServiceName,
    /// When the old one goes anyway.
    pub until: Uptime,
    /// The new one has taken over, or its time is up.
    pub is_done: bool,
}

/// How far one app is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lane {
    /// Something is being done, or about to be.
    Working,
    /// Something is waited for, and what.
    Waiting(Arc<str>),
    /// The app is what it should be.
    Reached,
    /// What is left cannot be done, and why.
    Blocked(Arc<str>),
}

impl Board {
    /// Sets the status; the reason belongs to it.
    pub fn set_status(
        &mut self,
        now: Uptime,
        status: UpdateStatus,
        reason: Option<Arc<str>>,
    ) -> bool {
        if self.status == status && self.reason == reason {
            return false;
        }
        if self.status != status {
            self.since = now;
        }
        self.status = status;
        self.reason = reason;
        true
    }

    /// The earliest moment from `now` on at which a failed part is tried again.
    #[must_use]
    pub fn next_try(&self, app: Option<&AppUuid>, now: Uptime) -> Option<Uptime> {
        let mine = self.troubles.iter().filter(|(part, _)| part.app() == app);
        let lock = app.and_then(|app| self.locks_of(app)?.refused.as_ref());
        mine.map(|(_, trouble)| trouble.retry_at)
            .chain(lock.map(|(_, at)| *at))
            .filter(|at| *at > now)
            .min()
    }

    /// Whether an action of ours changed this container up to a moment before `now`.
    #[must_use]
    pub fn was_busy(&self, name: &str, now: Uptime) -> bool {
        let late = |at: Uptime| now - at <= limits::OWN_EVENT_DELAY;
        self.recent
            .iter()
            .any(|(known, at)| **known == *name && late(*at))
    }

    /// The lock of an app that somebody else holds, as far as was known lately; an update of
    /// the host is one of all apps (W-14).
    #[must_use]
    pub fn locked(&self, app: &AppUuid, now: Uptime) -> Option<&str> {
        if self.host.is_exclusive {
            return Some(host::UPDATE);
        }
        let (path, at) = self.locks_of(app)?.refused.as_ref()?;
        (*at > now).then_some(path)
    }

    /// Where a service's hand-over is in the list.
    #[must_use]
    pub fn hand_over(&self, app: &AppUuid, service: &ServiceName) -> Option<usize> {
        let is_it = |found: &HandOver| found.app == *app && found.service == *service;
        self.hand_overs.iter().position(is_it)
    }

    /// The update locks of an app.
    #[must_use]
    pub fn locks_of(&self, app: &AppUuid) -> Option<&Locks> {
        let found = self.locks.iter().find(|(known, _)| known == app);
        found.map(|(_, locks)| locks)
    }

    /// The same, to be changed.
    pub fn locks_mut(&mut self, app: &AppUuid) -> &mut Locks {
        let known = self.locks.iter().position(|(known, _)| known == app);
        let at = known.unwrap_or_else(|| {
            self.locks.push((app.clone(), Locks::default()));
            self.locks.len() - 1
        });
        &mut self.locks[at].1
    }

    /// Whether no app is being changed and nothing is downloaded, by what the board knows.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let is_known = self.is_read && !self.is_preparing && self.engine_down.is_none();
        let is_idle = self.active == 0 && self.pulls.is_empty();
        is_known && is_idle && self.lanes.values().all(|lane| *lane != Lane::Working)
    }

    /// Forgets which locks were in the way: they are looked at again at once (FD-05).
    pub fn forget_refused_locks(&mut self) {
        for (_, locks) in &mut self.locks {
            locks.refused = None;
        }
    }

    /// Whether the new container of a service took over, or had its time.
    #[must_use]
    pub fn handed_over(&self, app: &AppUuid, service: &ServiceName) -> bool {
        let found = self.hand_over(app, service);
        found.is_some_and(|at| self.hand_overs[at].is_done)
    }

    /// Whether a part failed and its time has not come.
    #[must_use]
    pub fn is_waiting(&self, part: &Part, now: Uptime) -> bool {
        self.troubles
            .get(part)
            .is_some_and(|trouble| trouble.retry_at > now)
    }
}

/// One thing that can fail by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// An image, whoever needs it.
    Image(ImageUri),
    /// A network of an app.
    Network(AppUuid, NetworkName),
    /// A volume of an app.
    Volume(AppUuid, VolumeName),
    /// A service of an app.
    Service(AppUuid, ServiceName),
}

impl Part {
    /// The app it belongs to; images belong to none.
    #[must_use]
    pub const fn app(&self) -> Option<&AppUuid> {
        match self {
            Part::Image(_) => None,
            Part::Network(app, _) | Part::Volume(app, _) | Part::Service(app, _) => Some(app),
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Part::Image(uri) => write!(f, "image '{uri}'"),
            Part::Network(_, name) => write!(f, "network '{name}'"),
            Part::Volume(_, name) => write!(f, "volume '{name}'"),
            Part::Service(_, name) => write!(f, "service '{name}'"),
        }
    }
}

/// A failure that is waiting for its next try.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    /// The last error, as a sentence.
    pub said: Arc<str>,
    /// How often it failed, and the delay that follows from it.
    pub backoff: Backoff,
    /// Not before this.
    pub retry_at: Uptime,
}
