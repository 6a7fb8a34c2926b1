//! Clock, timers, random numbers, and what has happened so far.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

use helios::base::uptime::Uptime;
use helios::flows::seek::seeker::Options;
use helios::model::target::DeviceTarget;
use helios::model::{AppUuid, ImageUri, ServiceName};
use helios::plan::board::Shared;
use helios::world::Pending;
use helios::world::clock::Clock;
use helios::world::engine::Kind;

use super::around::{Backend, Dirs, Disk};
use super::engine::Containers;
use super::machine::Host;

/// The world; clones are the same one.
#[derive(Clone)]
pub struct World(Arc<Mutex<State>>);

/// What can go wrong, each with its chance; zero is never.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// An engine call fails with nothing done.
    pub fails: f64,
    /// An engine call is done and its answer is lost.
    pub lost: f64,
    /// An engine call hangs for as long as the agent waits for one.
    pub hangs: f64,
    /// A pull breaks off.
    pub breaks: f64,
    /// A document cannot be written.
    pub disk: f64,
    /// An exchange with the backend fails.
    pub remote: f64,
}

/// Something that was done, in few words: `create web_r1`, `lock app`, `web_r1 is healthy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub what: String,
    /// It changed something; otherwise it was refused or failed.
    pub done: bool,
}

/// Everything there is.
pub struct State {
    pub now: Uptime,
    pub wall_step: i64,
    pub rng: fastrand::Rng,
    pub faults: Faults,
    pub engine: Containers,
    pub disk: Disk,
    pub dirs: Dirs,
    pub backend: Backend,
    /// The machine below.
    pub host: Host,
    /// The board of the agent that lives now.
    pub board: Option<Shared>,
    /// The targets that agents accepted last, the newest at the end.
    pub accepted: Vec<Arc<DeviceTarget>>,
    /// What must never have happened, and did.
    pub violations: Vec<String>,
    /// Changing calls and faults, for whoever reads about a failed seed.
    pub history: Vec<String>,
    /// Changing calls that were answered, locks, and what containers did by themselves.
    pub calls: Vec<Call>,
    /// Local edits of the target, each with its moment: an app's uuid and its document.
    pub edits: VecDeque<(Uptime, String, Vec<u8>)>,
    /// Requests that came through the local API, each with its moment: force and cancel.
    pub wishes: VecDeque<(Uptime, Options)>,
    /// Somebody asked for an update whatever locks there are.
    pub may_force: bool,
    /// Calls that are refused: which, how, and how often.
    pub refusals: Vec<(String, Kind, u32)>,
    /// What happens as soon as something was done.
    pub upon: Vec<(String, Deed)>,
    /// A legacy supervisor runs beside the agents.
    pub is_beside: bool,
    /// The container that agents run in.
    pub own: Option<Arc<str>>,
    /// The agent that lives now is killed after so many moments.
    pub kill_in: Option<u32>,
    /// Nothing but targets changes in this history: no service may be down for long.
    pub is_calm: bool,
    /// Writes to disk and calls of the engine up to a moment from which on nothing is to do.
    pub quiet_since: Option<(u64, usize)>,
    /// Services that were seen running since they may not be down.
    pub has_run: BTreeSet<(AppUuid, ServiceName)>,
    /// Since when a service that may not be down is down.
    pub down_since: BTreeMap<(AppUuid, ServiceName), Uptime>,
    /// Containers that a changing call is on right now.
    pub under_change: BTreeSet<Arc<str>>,
    /// Images that are being pulled right now.
    pub pulling: BTreeSet<ImageUri>,
    /// The agent that lives is about to be killed.
    pub is_ending: bool,
    timers: BTreeMap<(Uptime, u64), Waker>,
    deeds: BTreeMap<(Uptime, u64), Deed>,
    counter: u64,
}

/// Something that happens by itself.
pub type Deed = Box<dyn FnOnce(&mut State) + Send>;

impl World {
    /// An empty world.
    pub fn new(seed: u64) -> World {
        World(Arc::new(Mutex::new(State {
            now: Uptime::from_start(Duration::from_secs(1)),
            wall_step: 0,
            rng: fastrand::Rng::with_seed(seed),
            faults: Faults::default(),
            engine: Containers::default(),
            disk: Disk::default(),
            dirs: Dirs::default(),
            backend: Backend::default(),
            host: Host::default(),
            board: None,
            accepted: Vec::new(),
            violations: Vec::new(),
            history: Vec::new(),
            calls: Vec::new(),
            edits: VecDeque::new(),
            wishes: VecDeque::new(),
            may_force: false,
            refusals: Vec::new(),
            upon: Vec::new(),
            is_beside: false,
            own: None,
            kill_in: None,
            is_calm: false,
            quiet_since: None,
            has_run: BTreeSet::new(),
            down_since: BTreeMap::new(),
            under_change: BTreeSet::new(),
            pulling: BTreeSet::new(),
            is_ending: false,
            timers: BTreeMap::new(),
            deeds: BTreeMap::new(),
            counter: 0,
        })))
    }

    /// Looks at, or changes, everything.
    pub fn with<R>(&self, see: impl FnOnce(&mut State) -> R) -> R {
        see(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes to the next moment that somebody waits for, `until` at the latest; `false`
    /// when that is reached.
    pub fn advance(&self, until: Uptime) -> bool {
        let woken = {
            let mut state = self.lock();
            let timer = state.timers.keys().next().map(|(at, _)| *at);
            let deed = state.deeds.keys().next().map(|(at, _)| *at);
            let next = timer.into_iter().chain(deed).min();
            let next = next.map_or(until, |next| next.max(state.now));
            if next >= until {
                state.now = until.max(state.now);
                return false;
            }
            state.now = next;
            while let Some(entry) = state.deeds.first_entry().filter(|due| due.key().0 <= next) {
                let deed = entry.remove();
                deed(&mut state);
            }
            let later = state.timers.split_off(&(next, u64::MAX));
            std::mem::replace(&mut state.timers, later)
        };
        for waker in woken.into_values() {
            waker.wake();
        }
        true
    }

    /// Whether this is the moment at which the agent is killed.
    pub fn is_killed_now(&self) -> bool {
        self.with(|state| {
            state.kill_in = state.kill_in.map(|moments| moments.saturating_sub(1));
            state.kill_in.take_if(|moments| *moments == 0).is_some()
        })
    }

    /// Ends at `at`.
    pub async fn sleep_until(&self, at: Uptime) {
        let mut key = None;
        poll_fn(|context| {
            let former;
            let mut state = self.lock();
            former = key.take().and_then(|key| state.timers.remove(&key));
            // Declared before the lock, it is dropped after it.
            let _ = &former;
            if state.now >= at {
                return Poll::Ready(());
            }
            state.counter += 1;
            let new = (at, state.counter);
            state.timers.insert(new, context.waker().clone());
            key = Some(new);
            Poll::Pending
        })
        .await;
    }

    /// Ends after a while.
    pub async fn sleep(&self, wait: Duration) {
        let at = self.lock().now + wait;
        self.sleep_until(at).await;
    }
}

impl State {
    /// Lets something happen at `at`.
    pub fn at(&mut self, at: Uptime, deed: impl FnOnce(&mut State) + Send + 'static) {
        self.counter += 1;
        self.deeds.insert((at, self.counter), Box::new(deed));
    }

    /// Lets something happen after a while.
    pub fn after(&mut self, wait: Duration, deed: impl FnOnce(&mut State) + Send + 'static) {
        self.at(self.now + wait, deed);
    }

    /// Whether something with this chance happens.
    pub fn chance(&mut self, chance: f64) -> bool {
        chance > 0.0 && self.rng.f64() < chance
    }

    /// Up to so many milliseconds.
    pub fn millis(&mut self, max: u64) -> Duration {
        Duration::from_millis(self.rng.u64(0..=max))
    }

    /// Writes down what happened, behind what the agent has logged up to now.
    pub fn note(&mut self, what: impl std::fmt::Display) {
        let at = self.now.since_start().as_secs_f64();
        super::logged::take(|line| self.history.push(format!("          | {line}")));
        self.history.push(format!("{at:9.3} {what}"));
    }

    /// Writes down what was done.
    pub fn call(&mut self, what: &str, done: bool) {
        let what = what.replace("container ", "").replace('\'', "");
        if done {
            self.happens(&what);
        }
        self.calls.push(Call { what, done });
    }

    /// Lets what waits for this happen, too.
    pub fn happens(&mut self, what: &str) {
        if let Some(at) = self.upon.iter().position(|(known, _)| *known == *what) {
            let (_, deed) = self.upon.remove(at);
            self.after(Duration::ZERO, deed);
        }
    }

    /// How a call is refused, if it is.
    pub fn refused(&mut self, doing: &str) -> Option<Kind> {
        let is_it = |what: &str| {
            let rest = doing.strip_prefix(what);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(" '"))
        };
        let mut all = self.refusals.iter_mut();
        let (_, kind, times) = all.find(|(what, _, times)| *times > 0 && is_it(what))?;
        *times -= 1;
        Some(*kind)
    }

    /// Writes down what must not happen.
    pub fn violation(&mut self, what: impl std::fmt::Display) {
        self.note(format!("VIOLATION {what}"));
        self.violations.push(what.to_string());
    }

    /// Nothing that waits is waited for any more: its agent is gone.
    ///
    /// They are dropped by the caller, when nobody looks at the world: with the last waker
    /// goes a task, and whatever that holds.
    #[must_use]
    pub fn forget_timers(&mut self) -> impl Drop + use<> {
        self.under_change.clear();
        std::mem::take(&mut self.timers)
    }
}

impl Clock for World {
    fn now(&self) -> Uptime {
        self.lock().now
    }

    fn wall_secs(&self) -> i64 {
        let state = self.lock();
        let secs = i64::try_from(state.now.since_start().as_secs()).unwrap();
        1_700_000_000 + secs + state.wall_step
    }

    fn sleep_until(&self, at: Uptime) -> Pending<'_, ()> {
        Box::pin(World::sleep_until(self, at))
    }
}
