//! Makes the device its target and keeps it there: the driver of [`seeker`].

use std::collections::BTreeSet;
use std::sync::Arc;

use async_executor::LocalExecutor;
use futures_lite::future;

use crate::base::latest::Latest;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::status::UpdateStatus;
use crate::model::target::{AppRelease, AppTarget, DeviceTarget};
use crate::model::{AppUuid, ImageUri};
use crate::plan::board::{Board, Lane};
use crate::plan::work::{Cancel, Tools, Work};
use crate::plan::{converge, images, read, sweep};

pub mod events;
pub mod local;
pub mod seeker;

use seeker::{Options, Order, Seeker};

/// Where targets are handed in. Accepting one puts it on the board at once, so
/// that whoever was told "accepted" sees it, and that edits add up (W-11).
pub struct Mailbox {
    /// What was handed in since the driver looked last.
    pending: Latest<Option<(Options, bool)>>,
    tools: Tools,
}

impl Mailbox {
    /// A mailbox for the board of `tools`.
    #[must_use]
    pub fn new(tools: Tools) -> Mailbox {
        Mailbox {
            pending: Latest::new(None),
            tools,
        }
    }

    /// The backend's target. It names every app; local edits end with it.
    pub fn remote(&self, target: DeviceTarget, options: Options) {
        let changed = self.accept(|board| {
            authorize(board, &target);
            board.is_complete = true;
            board.deleted.clear();
            target
        });
        self.request(options, changed);
    }

    /// A target that was read from disk at the start: the backend's, if it is known,
    /// and the same with local edits.
    pub fn stored(
        &self,
        from_remote: Option<DeviceTarget>,
        target: DeviceTarget,
        deleted: BTreeSet<AppUuid>,
    ) {
        let changed = self.accept(|board| {
            if let Some(remote) = &from_remote {
                authorize(board, remote);
            }
            board.is_complete = from_remote.is_some();
            board.deleted = deleted;
            target
        });
        self.request(Options::default(), changed);
    }

    /// Replaces one app's target, or removes the app.
    pub fn edit(&self, uuid: &AppUuid, app: Option<AppTarget>, options: Options) {
        let changed = self.accept(|board| {
            let mut target = board.target.as_deref().cloned().unwrap_or_default();
            match app {
                Some(app) => {
                    board.deleted.remove(uuid);
                    target.apps.insert(uuid.clone(), app);
                }
                None => {
                    board.deleted.insert(uuid.clone());
                    target.apps.remove(uuid);
                }
            }
            target
        });
        self.request(options, changed);
    }

    /// The known target once more: read the engine, forget waiting times.
    pub fn again(&self, options: Options) {
        if self.tools.board.look(|board| board.target.is_some()) {
            self.request(options, false);
        }
    }

    /// A document that is no target at all: what runs goes on (target-state 1.3).
    pub fn refused(&self, why: &str) {
        let now = self.tools.clock.now();
        self.tools.board.change(|board| {
            board.refused = Some(why.into());
            board.set_status(now, UpdateStatus::Rejected, board.refused.clone());
        });
    }

    fn accept(&self, set: impl FnOnce(&mut Board) -> DeviceTarget) -> bool {
        let now = self.tools.clock.now();
        self.tools.board.change(|board| {
            let target = set(board);
            let changed = board.target.as_deref() != Some(&target);
            if changed {
                // A changed target resets every waiting time (D-19).
                board.troubles.clear();
                board.target = Some(Arc::new(target));
            }
            board.is_preparing = true;
            board.refused = None;
            // Before the caller answers its client (D-17).
            board.set_status(
                now,
                UpdateStatus::ApplyingChanges,
                Some("a target came in".into()),
            );
            changed
        })
    }

    fn request(&self, options: Options, changed: bool) {
        self.pending.change(|pending| {
            let (before, was_changed) = pending.unwrap_or_default();
            *pending = Some((before.or(options), was_changed || changed));
        });
    }
}

/// Notes what the backend may be told about.
fn authorize(board: &mut Board, target: &DeviceTarget) {
    let supervisor = target.supervisor.as_ref();
    let apps = target.apps.keys().chain(supervisor.map(|app| &app.app));
    board.authorized = Some(apps.cloned().collect());
    let releases = target.apps.values().filter_map(|app| match &app.release {
        AppRelease::None => None,
        AppRelease::Wanted(uuid, _) => Some(uuid),
        AppRelease::Rejected(rejection) => rejection.release.as_ref(),
    });
    if board.known_releases.len() > KNOWN_RELEASES_MAX {
        board.known_releases.clear();
    }
    board
        .known_releases
        .extend(releases.chain(supervisor.map(|app| &app.release)).cloned());
}

/// Releases that are remembered as known to the backend; then it starts afresh.
const KNOWN_RELEASES_MAX: usize = 64;

/// What the driver waits for.
enum Happened {
    Request(Options, bool),
    Busy(bool),
    Ended,
    CompareTime,
    StatusMayDiffer,
    Stop,
}

/// Runs until `stop` is set; engine calls that are under way are finished then, and
/// containers are left as they are.
pub async fn run(
    tools: Tools,
    mailbox: Arc<Mailbox>,
    own_container: Option<String>,
    stop: Arc<Cancel>,
) {
    let mut driver = Driver {
        seen: tools.board.version(),
        compare_at: tools.clock.now() + limits::COMPARE_INTERVAL,
        was_busy: false,
        apply: None,
        executor: LocalExecutor::new(),
        own_container,
        tools,
    };
    let mut seeker = Seeker::default();
    // Without a target this only reads the engine, for the API (D-34).
    driver.obey(seeker.on_request(Options::default(), false, false));
    loop {
        let order = match driver.next(&mailbox, &stop).await {
            Happened::Request(options, changed) => {
                seeker.on_request(options, changed, driver.is_busy())
            }
            Happened::Busy(busy) => seeker.on_busy(busy),
            Happened::Ended => {
                driver.apply = None;
                seeker.on_ended()
            }
            Happened::CompareTime => {
                driver.compare_at = driver.tools.clock.now() + limits::COMPARE_INTERVAL;
                // Beside the lanes: an engine that hangs must not hold them up.
                let tools = driver.tools.clone();
                driver
                    .executor
                    .spawn(async move { compare(&tools).await })
                    .detach();
                Order::Wait
            }
            Happened::StatusMayDiffer => Order::Wait,
            Happened::Stop => return driver.end().await,
        };
        driver.obey(order);
    }
}

/// What waits and does as the machine says.
struct Driver {
    tools: Tools,
    executor: LocalExecutor<'static>,
    apply: Option<Apply>,
    own_container: Option<String>,
    /// The board's version that was looked at last.
    seen: u64,
    was_busy: bool,
    compare_at: Uptime,
}

impl Driver {
    fn is_busy(&self) -> bool {
        self.tools.board.look(|board| board.active > 0)
    }

    /// Whatever comes first.
    async fn next(&mut self, mailbox: &Mailbox, stop: &Cancel) -> Happened {
        let Driver {
            tools,
            executor,
            apply,
            seen,
            was_busy,
            compare_at,
            ..
        } = self;
        let board = async {
            *seen = tools.board.newer(*seen).await;
            let busy = tools.board.look(|board| board.active > 0);
            if busy == *was_busy {
                return Happened::StatusMayDiffer;
            }
            *was_busy = busy;
            Happened::Busy(busy)
        };
        let time = async {
            tools.clock.sleep_until(*compare_at).await;
            Happened::CompareTime
        };
        let ended = async {
            match apply {
                Some(apply) => {
                    apply.ended(executor).await;
                    Happened::Ended
                }
                None => future::pending().await,
            }
        };
        let told = async {
            stop.wait().await;
            Happened::Stop
        };
        // Lanes run inside `ended`, and so must be polled whatever else happens.
        let outside = future::or(told, future::or(request(mailbox), future::or(board, time)));
        future::or(outside, ended).await
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Wait => {}
            Order::Keep => {
                let was = |board: &mut Board| std::mem::take(&mut board.is_preparing);
                self.tools.board.change_if(was);
            }
            Order::Interrupt => {
                if let Some(apply) = &self.apply {
                    log::debug!("the apply under way makes room for the target");
                    apply.cancel.set();
                }
            }
            Order::Begin(options) => {
                let own = self.own_container.as_deref();
                self.apply = Some(Apply::begin(&self.tools, &self.executor, options, own));
            }
        }
        if self
            .apply
            .as_ref()
            .is_some_and(|apply| !apply.cancel.is_set())
        {
            show_status(&self.tools);
        }
    }

    /// Lets what is under way come to its end.
    async fn end(mut self) {
        if let Some(apply) = &mut self.apply {
            apply.cancel.set();
            apply.ended(&self.executor).await;
        }
    }
}

async fn request(mailbox: &Mailbox) -> Happened {
    let (options, changed) = mailbox.pending.take().await;
    Happened::Request(options, changed)
}

/// What was remembered may have drifted without an event: looks at everything again.
async fn compare(tools: &Tools) {
    let is_quiet = tools
        .board
        .look(|board| board.active == 0 && board.target.is_some());
    if is_quiet && let Err(error) = read::device(tools).await {
        log::warn!("comparing the device with its target: {error}");
    }
}

/// One target being applied and kept: a task an app and one for the images.
struct Apply {
    cancel: Arc<Cancel>,
    tasks: Vec<async_executor::Task<()>>,
}

impl Apply {
    fn begin(
        tools: &Tools,
        executor: &LocalExecutor<'static>,
        options: Options,
        own_container: Option<&str>,
    ) -> Apply {
        let cancel = Arc::new(Cancel::default());
        if options.force {
            log::warn!("update locks are disregarded");
        }
        let main = begin(
            tools.clone(),
            cancel.clone(),
            own_container.map(str::to_owned),
        );
        let tasks = vec![executor.spawn(main)];
        Apply { cancel, tasks }
    }

    /// Runs the apply's tasks; returns when all of them have ended.
    async fn ended(&mut self, executor: &LocalExecutor<'static>) {
        executor
            .run(async {
                while let Some(task) = self.tasks.last_mut() {
                    task.await;
                    self.tasks.pop();
                }
            })
            .await;
    }
}

/// Reads the engine, then runs the lanes until they are stopped.
async fn begin(tools: Tools, cancel: Arc<Cancel>, own_container: Option<String>) {
    let cancelled = cancel.clone();
    let read = async {
        read_until_it_works(&tools).await;
        true
    };
    let stopped = async {
        cancelled.wait().await;
        false
    };
    if !future::or(read, stopped).await {
        return;
    }
    let Some(target) = tools.board.look(|board| board.target.clone()) else {
        return cancel.wait().await;
    };
    log::info!("applying the target");
    let lanes = tools
        .board
        .change(|board| prepare(board, &target, own_container.as_deref()));
    // One executor a set of lanes: all of them are dropped together.
    let executor = LocalExecutor::new();
    let mut tasks = Vec::with_capacity(lanes.len() + 2);
    tasks.push(executor.spawn(images::lane(
        tools.clone(),
        cancel.clone(),
        images_wanted(&target),
    )));
    tasks.push(executor.spawn(sweeps(tools.clone(), cancel.clone(), target.clone())));
    for uuid in lanes {
        let app = target.apps.get(&uuid).map(|app| Arc::new(app.clone()));
        let work = Work {
            tools: tools.clone(),
            cancel: cancel.clone(),
            app: uuid,
            target: app,
            stopped: Default::default(),
        };
        tasks.push(executor.spawn(converge::lane(Arc::new(work))));
    }
    executor
        .run(async {
            for task in tasks {
                task.await;
            }
            // An apply ends only when it is told to: what is reached is kept.
            cancel.wait().await;
        })
        .await;
}

/// Reads the engine; while it does not answer, the events' flow says so.
async fn read_until_it_works(tools: &Tools) {
    while let Err(error) = read::device(tools).await {
        log::debug!("{error}");
        tools
            .clock
            .sleep_until(tools.clock.now() + limits::ENGINE_RETRY)
            .await;
    }
}

/// Apps and services first in the document's order; each image once.
fn images_wanted(target: &DeviceTarget) -> Vec<ImageUri> {
    sweep::wanted(target).into_iter().collect()
}

/// Puts on the board what follows from the target alone; returns the apps that need a lane.
fn prepare(board: &mut Board, target: &DeviceTarget, own: Option<&str>) -> Vec<AppUuid> {
    if target.name.is_some() {
        board.device.name.clone_from(&target.name);
    }
    // Whatever waits gets a new try with a new apply.
    for trouble in board.troubles.values_mut() {
        trouble.retry_at = Uptime::default();
    }
    let mut lanes = Vec::new();
    board.lanes.clear();
    board.is_preparing = false;
    for (uuid, app) in &target.apps {
        let current = board.device.apps.entry(uuid.clone()).or_default();
        current.id = app.id;
        current.name.clone_from(&app.name);
        current.rejected = None;
        if let AppRelease::Rejected(rejection) = &app.release {
            current.rejected.clone_from(&rejection.release);
            let why = format!("its target is rejected: {}", rejection.reasons);
            log::error!("app '{uuid}': {why}");
            board.lanes.insert(uuid.clone(), Lane::Blocked(why.into()));
        } else {
            board.lanes.insert(uuid.clone(), Lane::Working);
            lanes.push(uuid.clone());
        }
    }
    let own_app = |uuid: &AppUuid, app: &crate::model::current::App| {
        target
            .supervisor
            .as_ref()
            .is_some_and(|supervisor| supervisor.app == *uuid)
            || crate::intake::is_supervisor(uuid)
            || app
                .containers
                .values()
                .any(|found| own.is_some_and(|own| found.id.starts_with(own)))
    };
    for (uuid, app) in &board.device.apps {
        let may_go = board.is_complete || board.deleted.contains(uuid);
        if !target.apps.contains_key(uuid) && may_go && !own_app(uuid, app) {
            log::info!("app '{uuid}' is not in the target and is removed");
            board.lanes.insert(uuid.clone(), Lane::Working);
            lanes.push(uuid.clone());
        }
    }
    lanes
}

/// Cleans up images whenever everything is reached.
async fn sweeps(tools: Tools, cancel: Arc<Cancel>, target: Arc<DeviceTarget>) {
    let mut seen = 0;
    let mut swept = false;
    while !cancel.is_set() {
        let settled = tools.board.look(|board| {
            board.active == 0 && board.lanes.values().all(|lane| *lane == Lane::Reached)
        });
        if settled && !swept {
            sweep::sweep(&tools, &target).await;
        }
        swept = settled;
        let change = async { seen = tools.board.newer(seen).await };
        future::or(cancel.wait(), change).await;
    }
}

/// The device's status is what its apps add up to (D-18).
fn show_status(tools: &Tools) {
    let now = tools.clock.now();
    let mut became = None;
    tools.board.change_if(|board| {
        let is_settled = !board.is_preparing && !board.is_asking || board.engine_down.is_some();
        if !is_settled || board.target.is_none() {
            return false;
        }
        let before = board.status;
        let (status, reason) = sum(board);
        let changed = board.set_status(now, status, reason.clone());
        if changed && before != status {
            became = Some((status, reason));
        }
        changed
    });
    if let Some((status, reason)) = became {
        let reason = reason
            .map(|reason| format!(": {reason}"))
            .unwrap_or_default();
        log::info!("status: {}{reason}", status.as_str());
    }
}

fn sum(board: &Board) -> (UpdateStatus, Option<Arc<str>>) {
    if let Some(why) = &board.engine_down {
        let why = format!("the engine does not answer: {why}");
        return (UpdateStatus::ApplyingChanges, Some(why.into()));
    }
    let lanes = || board.lanes.iter();
    if let Some((app, _)) = lanes().find(|(_, lane)| **lane == Lane::Working) {
        return (
            UpdateStatus::ApplyingChanges,
            Some(format!("working on app '{app}'").into()),
        );
    }
    let waiting = lanes().find_map(|(app, lane)| match lane {
        Lane::Waiting(why) => Some(format!("app '{app}' waits: {why}")),
        _ => None,
    });
    if let Some(why) = waiting {
        // The last error says more than that something is waited for.
        let said = board
            .troubles
            .values()
            .next()
            .map(|trouble| format!("{why} ({})", trouble.said));
        return (
            UpdateStatus::ApplyingChanges,
            Some(said.unwrap_or(why).into()),
        );
    }
    let blocked = lanes().find_map(|(app, lane)| match lane {
        Lane::Blocked(why) => Some(format!("app '{app}': {why}")),
        _ => None,
    });
    if let Some(why) = &board.refused {
        return (UpdateStatus::Rejected, Some(why.clone()));
    }
    match blocked {
        Some(why) => (UpdateStatus::Aborted, Some(why.into())),
        None => (UpdateStatus::Done, None),
    }
}
