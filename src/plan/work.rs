//! What the jobs work with: the engine, the board, and the app they are about.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_listener::{Event, listener};

use super::board::{Board, Part, Shared, Trouble};
use crate::base::backoff::Backoff;
use crate::base::map::Set;
use crate::limits;
use crate::model::current::{App, Container};
use crate::model::target::{AppRelease, AppTarget, ReleaseTarget};
use crate::model::{AppUuid, ReleaseUuid, ServiceName};
use crate::world::clock::Clock;
use crate::world::engine::{Engine, EngineError, HostFacts, Kind};
use crate::world::host::Host;
use crate::world::registry::Registry;
use crate::world::store::Store;
use crate::world::updater::Machine;

/// What every job of every app shares.
#[derive(Clone)]
pub struct Tools {
    /// The container engine.
    pub engine: Arc<dyn Engine>,
    /// Where images come from; `None`: nobody asks about their size.
    pub registry: Option<Arc<dyn Registry>>,
    /// Documents.
    pub store: Arc<dyn Store>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Directories that services share with the agent.
    pub host: Arc<dyn Host>,
    /// What updates of the host need; `None`: there are none.
    pub machine: Option<Machine>,
    /// What everyone may look at.
    pub board: Shared,
    /// What containers are told about the device.
    pub facts: Arc<HostFacts>,
    /// First wait after a failure.
    pub retry: Duration,
    /// Images pulled at once.
    pub pulls_max: usize,
    /// Nothing is pulled while the engine has fewer bytes free (FD-07).
    pub disk_reserve: u64,
}

/// A request to stop at the next safe moment.
#[derive(Debug, Default)]
pub struct Cancel {
    is_set: AtomicBool,
    set: Event,
}

impl Cancel {
    /// Asks everyone to stop.
    pub fn set(&self) {
        self.is_set.store(true, Ordering::SeqCst);
        self.set.notify(usize::MAX);
    }

    /// Whether to stop.
    pub fn is_set(&self) -> bool {
        self.is_set.load(Ordering::SeqCst)
    }

    /// Ends when it is time to stop.
    pub async fn wait(&self) {
        loop {
            listener!(self.set => listener);
            if self.is_set() {
                return;
            }
            listener.await;
        }
    }
}

/// One app's work: the planner's resource.
pub struct Work {
    /// What every job shares.
    pub tools: Tools,
    /// When to stop.
    pub cancel: Arc<Cancel>,
    /// The app.
    pub app: AppUuid,
    /// What it should be; `None`: gone.
    pub target: Option<Arc<AppTarget>>,
    /// Whether locks of services are disregarded; shared by all apps of an apply.
    pub force: Arc<AtomicBool>,
    /// Containers, by id, that were stopped to make room for a successor (FD-14).
    pub stopped: Mutex<Set<Arc<str>>>,
}

/// Why a job ended early. The reason is on the board already.
#[derive(Debug)]
pub enum Stopped {
    /// A newer target is there.
    Interrupted,
    /// The engine refused or failed.
    Failed(EngineError),
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stopped::Interrupted => f.write_str("interrupted by a newer target"),
            Stopped::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Stopped {}

impl From<EngineError> for Stopped {
    fn from(error: EngineError) -> Stopped {
        Stopped::Failed(error)
    }
}

impl Work {
    /// Remembers that a container ran until we stopped it.
    pub fn was_stopped(&self, id: &Arc<str>) {
        self.stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
    }

    /// Whether a container ran until we stopped it.
    pub fn stopped_here(&self, id: &str) -> bool {
        self.stopped
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(id)
    }

    /// The release that is to run.
    #[must_use]
    pub fn release(&self) -> Option<(&ReleaseUuid, &Arc<ReleaseTarget>)> {
        match &self.target.as_ref()?.release {
            AppRelease::Wanted(uuid, release) => Some((uuid, release)),
            AppRelease::None | AppRelease::Rejected(_) => None,
        }
    }

    /// Looks at the app as it is.
    pub fn look<R>(&self, see: impl FnOnce(&App, &Board) -> R) -> R {
        self.tools
            .board
            .look(|board| match board.device.apps.get(&self.app) {
                Some(app) => see(app, board),
                None => see(&App::default(), board),
            })
    }

    /// Changes the app as it is. A read of the engine that began before does not know of it.
    pub fn change<R>(&self, set: impl FnOnce(&mut App) -> R) -> R {
        self.tools.board.change(|board| {
            board.touched += 1;
            set(board.device.apps.or_default(self.app.clone()))
        })
    }

    /// Runs one job of a part: not when it is time to stop, and with its outcome on the board.
    ///
    /// # Errors
    /// What the job answers.
    pub async fn job(
        &self,
        part: Part,
        job: impl Future<Output = Result<(), EngineError>>,
    ) -> Result<(), Stopped> {
        if self.cancel.is_set() {
            return Err(Stopped::Interrupted);
        }
        match job.await {
            Ok(()) => Ok(()),
            Err(error) => {
                self.tools.failed(&part, &error);
                Err(error.into())
            }
        }
    }

    /// Reads one container again; one that is gone leaves the board.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn refresh(&self, name: &str) -> Result<(), EngineError> {
        self.tools.refresh(name).await
    }

    /// Whether a container could not be started because somebody removes it: who does so by
    /// force ends its process first, which is told first. That is no failure to wait for.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn goes_away(
        &self,
        name: &str,
        started: &Result<(), EngineError>,
    ) -> Result<bool, EngineError> {
        let refused = |error: &EngineError| matches!(error.kind, Kind::Conflict | Kind::Gone);
        if !started.as_ref().is_err_and(refused) {
            return Ok(false);
        }
        let clock = &self.tools.clock;
        let end = clock.now() + limits::REMOVAL_WAIT;
        loop {
            if self.look(|app, _| !app.containers.contains_key(name)) {
                return Ok(true);
            }
            if clock.now() >= end {
                return Ok(false);
            }
            clock.sleep_until(clock.now() + limits::REMOVAL_LOOK).await;
            self.refresh(name).await?;
        }
    }

    /// Containers of a service, by name; without the one that this agent runs in (FD-41).
    #[must_use]
    pub fn containers(&self, service: &ServiceName) -> Vec<(Arc<str>, Container)> {
        self.look(|app, board| {
            let mine = app
                .containers
                .iter()
                .filter(|(_, found)| found.service == *service && !board.marks.is_own(found));
            mine.map(|(name, found)| (name.clone(), found.clone()))
                .collect()
        })
    }
}

impl Tools {
    /// Notes a failure: in the log, on the board, with the time of the next try (D-19, D-31).
    pub fn trouble(&self, part: &Part, said: &str) {
        self.trouble_within(part, said, None, limits::BACKOFF_MAX);
    }

    /// The same of a call of the engine: a full disk is looked at more often (FD-08), and a
    /// registry that refused is asked once more soon (R-REG-AUTH-6).
    pub fn failed(&self, part: &Part, error: &EngineError) {
        let (first, wait_max) = match error.kind {
            Kind::Full => (None, limits::FULL_RETRY_MAX),
            Kind::Denied => (Some(limits::DENIED_RETRY), limits::BACKOFF_MAX),
            _ => (None, limits::BACKOFF_MAX),
        };
        self.trouble_within(part, &error.to_string(), first, wait_max);
    }

    fn trouble_within(&self, part: &Part, said: &str, first: Option<Duration>, wait_max: Duration) {
        let now = self.clock.now();
        let chance = fastrand::f64();
        let delay = self.board.change(|board| {
            let trouble = self.trouble_of(board, part, now);
            let first = first.filter(|_| trouble.backoff.failures() == 0);
            let delay = trouble.backoff.failed(chance).min(wait_max);
            let delay = first.unwrap_or(delay);
            trouble.said = said.into();
            trouble.retry_at = now + delay;
            delay
        });
        let app = part
            .app()
            .map(|app| format!(" of app '{app}'"))
            .unwrap_or_default();
        log::warn!(
            "{part}{app}: {said}; next try in {} s",
            crate::base::uptime::whole_secs(delay)
        );
    }

    fn trouble_of<'b>(
        &self,
        board: &'b mut Board,
        part: &Part,
        retry_at: crate::base::uptime::Uptime,
    ) -> &'b mut Trouble {
        board.troubles.or_insert_with(part.clone(), || Trouble {
            said: "".into(),
            backoff: Backoff::new(self.retry, limits::BACKOFF_MAX),
            retry_at,
        })
    }

    /// Notes that a part waits for something outside: it is looked at again after the base
    /// interval, without growth. The log is the caller's business.
    pub fn postpone(&self, part: &Part, why: &str) {
        let retry_at = self.clock.now() + self.retry;
        self.board.change(|board| {
            let trouble = self.trouble_of(board, part, retry_at);
            trouble.said = why.into();
            trouble.retry_at = retry_at;
        });
    }

    /// Forgets the failures of a part that went well.
    pub fn clear(&self, part: &Part) {
        self.board
            .change_if(|board| board.troubles.remove(part).is_some());
    }

    /// Looks whether a container is the legacy supervisor's, and still there (D-08). One of
    /// ours is left to whoever makes it.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn notice(&self, id: &str) -> Result<(), EngineError> {
        match self.engine.container(id).await {
            Ok((app, (_, found))) => {
                self.board
                    .change_if(|board| board.marks.is_elsewhere(&app, &found));
                Ok(())
            }
            Err(error) if error.kind == Kind::Gone => {
                self.board
                    .change_if(|board| board.marks.legacy.remove(id).is_some());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Reads one container again; one that is gone leaves the board.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn refresh(&self, name: &str) -> Result<(), EngineError> {
        match self.engine.container(name).await {
            Ok((app, (found_name, container))) => {
                self.board.change(|board| {
                    board.touched += 1;
                    if board.marks.is_elsewhere(&app, &container) {
                        return;
                    }
                    forget(board, &container.id);
                    let app = board.device.apps.or_default(app);
                    app.containers.insert(found_name, container);
                });
                Ok(())
            }
            Err(error) if error.kind == Kind::Gone => {
                self.board.change(|board| {
                    board.touched += 1;
                    // Its image may be clean-up's.
                    board.plans += 1;
                    board.marks.legacy.remove(name);
                    for app in board.device.apps.values_mut() {
                        app.containers
                            .retain(|known, found| **known != *name && *found.id != *name);
                    }
                });
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// Takes a container off the board, under whatever name it is there.
fn forget(board: &mut Board, id: &str) {
    for app in board.device.apps.values_mut() {
        app.containers.retain(|_, found| *found.id != *id);
    }
}

/// Marks a container as ours to change for as long as it lives, so that its
/// events are not taken for somebody else's doing.
pub struct Busy<'t> {
    tools: &'t Tools,
    name: Arc<str>,
}

impl<'t> Busy<'t> {
    /// Marks `name`.
    pub fn mark(tools: &'t Tools, name: &str) -> Busy<'t> {
        let name: Arc<str> = name.into();
        tools.board.change_if(|board| {
            board.busy.insert(name.clone());
            board.touched += 1;
            false
        });
        Busy { tools, name }
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        let now = self.tools.clock.now();
        self.tools.board.change_if(|board| {
            board.busy.remove(&self.name);
            if board.recent.len() >= limits::OWN_EVENTS_MAX {
                board.recent.pop_front();
            }
            board.recent.push_back((self.name.clone(), now));
            false
        });
    }
}

/// Counts a plan as running for as long as it lives.
pub struct Active(Shared);

impl Active {
    /// One more plan runs.
    pub fn begin(board: &Shared) -> Active {
        board.change(|board| {
            board.active += 1;
            board.plans += 1;
        });
        Active(board.clone())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0
            .change(|board| board.active = board.active.saturating_sub(1));
    }
}
