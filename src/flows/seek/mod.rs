//! Makes the device its target and keeps it there: the driver of [`seeker`].

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_executor::LocalExecutor;
use futures_lite::future;

use crate::base::backoff::Backoff;
use crate::base::task;
use crate::base::thread;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::AppUuid;
use crate::model::current::App;
use crate::model::status::UpdateStatus;
use crate::model::target::{AppRelease, DeviceTarget};
use crate::plan::board::{Board, Lane};
use crate::plan::sweep::{self, Left};
use crate::plan::work::{Cancel, Tools, Work};
use crate::plan::{converge, images, read};

pub mod events;
pub mod host;
pub mod local;
mod mailbox;
pub mod seeker;

pub use mailbox::Mailbox;
use seeker::{Options, Order, Seeker};

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
pub async fn run(tools: Tools, mailbox: Arc<Mailbox>, stop: Arc<Cancel>) {
    let executor = LocalExecutor::new();
    let images = task::spawn(&executor, images::lane(tools.clone(), stop.clone()));
    let host = task::spawn(&executor, host::lane(tools.clone(), stop.clone()));
    let mut driver = Driver {
        images,
        host,
        seen: tools.board.version(),
        compare_at: tools.clock.now() + limits::COMPARE_INTERVAL,
        was_busy: false,
        apply: None,
        executor,
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
                let (tools, mailbox) = (driver.tools.clone(), mailbox.clone());
                let compared = async move { compare(&tools, &mailbox).await };
                task::spawn(&driver.executor, compared).detach();
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
    /// Pulls; they outlive the applies (FD-12).
    images: async_executor::Task<()>,
    /// The update of the host; so does it.
    host: async_executor::Task<()>,
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
                None => executor.run(future::pending()).await,
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
            Order::Keep(options) => {
                if let Some(apply) = self.apply.as_ref().filter(|_| options.force) {
                    apply.force.store(true, Ordering::Relaxed);
                    self.tools.board.change(|board| {
                        board.host.is_forced = true;
                        board.forget_refused_locks();
                    });
                }
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
                self.force_host(options.force);
                self.apply = Some(Apply::begin(&self.tools, &self.executor, options));
            }
        }
        if self
            .apply
            .as_ref()
            .is_some_and(|apply| !apply.cancel.is_set())
        {
            show_status(&self.tools);
            self.end_override();
        }
    }

    fn force_host(&self, is_forced: bool) {
        self.tools.board.change_if(|board| {
            std::mem::replace(&mut board.host.is_forced, is_forced) != is_forced
        });
    }

    /// An override is for one update (target-state 7.2), unless the target asks for it.
    fn end_override(&self) {
        let Some(apply) = &self.apply else { return };
        let is_over = |board: &Board| {
            let stays = board
                .target
                .as_ref()
                .is_some_and(|target| target.knobs.override_lock);
            board.status == UpdateStatus::Done && !stays
        };
        if apply.force.load(Ordering::Relaxed) && self.tools.board.look(is_over) {
            apply.force.store(false, Ordering::Relaxed);
            self.force_host(false);
        }
    }

    /// Lets what is under way come to its end.
    async fn end(mut self) {
        if let Some(apply) = &mut self.apply {
            apply.cancel.set();
            apply.ended(&self.executor).await;
        }
        self.executor.run(future::zip(self.images, self.host)).await;
    }
}

async fn request(mailbox: &Mailbox) -> Happened {
    let (options, changed) = mailbox.next().await;
    Happened::Request(options, changed)
}

/// What was remembered may have drifted without an event: looks at everything again. Apps
/// that came to be there without a target are work for another apply.
async fn compare(tools: &Tools, mailbox: &Mailbox) {
    let Some(target) = tools.board.look(|board| board.target.clone()) else {
        return;
    };
    if let Err(error) = read::device(tools).await {
        return log::warn!("comparing the device with its target: {error}");
    }
    let has_strays = tools.board.look(|board| {
        let mut all = board.device.apps.iter();
        all.any(|(uuid, app)| {
            let lane = board.lanes.get(uuid);
            leaves(board, &target, (uuid, app)) && lane.is_none_or(|lane| *lane == Lane::Reached)
        })
    });
    if has_strays {
        mailbox.again(Options::default());
    }
}

/// One target being applied and kept: a task an app and one for clean-up.
struct Apply {
    cancel: Arc<Cancel>,
    /// Locks of services are disregarded until it is reached.
    force: Arc<AtomicBool>,
    tasks: Vec<async_executor::Task<()>>,
}

impl Apply {
    fn begin(tools: &Tools, executor: &LocalExecutor<'static>, options: Options) -> Apply {
        let cancel = Arc::new(Cancel::default());
        let force = Arc::new(AtomicBool::new(options.force));
        let main = begin(tools.clone(), (cancel.clone(), force.clone()));
        let tasks = vec![task::spawn(executor, main)];
        Apply {
            cancel,
            force,
            tasks,
        }
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
async fn begin(tools: Tools, (cancel, force): (Arc<Cancel>, Arc<AtomicBool>)) {
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
    if target.knobs.override_lock {
        force.store(true, Ordering::Relaxed);
    }
    log::info!("applying the target");
    // What read the target is not needed to reach it.
    thread::rest();
    let lanes = tools.board.change(|board| prepare(board, &target));
    // One executor a set of lanes: all of them are dropped together.
    let executor = LocalExecutor::new();
    let mut tasks = Vec::with_capacity(lanes.len() + 1);
    tasks.push(task::spawn(
        &executor,
        sweeps(tools.clone(), cancel.clone()),
    ));
    for uuid in lanes {
        let app = target.apps.get(&uuid).map(|app| Arc::new(app.clone()));
        let work = Work {
            tools: tools.clone(),
            cancel: cancel.clone(),
            app: uuid,
            target: app,
            force: force.clone(),
            stopped: Default::default(),
        };
        tasks.push(task::spawn(&executor, converge::lane(Arc::new(work))));
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

/// Puts on the board what follows from the target alone; returns the apps that need a lane.
fn prepare(board: &mut Board, target: &DeviceTarget) -> Vec<AppUuid> {
    if target.name.is_some() {
        board.device.name.clone_from(&target.name);
    }
    // Whatever waits gets a new try with a new apply.
    board.forget_refused_locks();
    for trouble in board.troubles.values_mut() {
        trouble.retry_at = Uptime::default();
    }
    say_own(board);
    let is_host = target.host.is_some() || board.host.beside.is_some();
    board.host.lane = is_host.then_some(Lane::Working);
    let mut lanes = Vec::new();
    board.lanes.clear();
    board.is_preparing = false;
    for (uuid, app) in &target.apps {
        let current = board.device.apps.or_default(uuid.clone());
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
    let all = board.device.apps.iter();
    let leaving = all.filter(|found| leaves(board, target, *found));
    let leaving: Vec<_> = leaving.map(|(uuid, _)| uuid.clone()).collect();
    for uuid in leaving {
        log::info!("app '{uuid}' is not in the target and is removed");
        board.lanes.insert(uuid.clone(), Lane::Working);
        lanes.push(uuid);
    }
    lanes
}

/// Whether an app is to go altogether: not the supervisor's own one, and none that this agent
/// is a part of (D-09, FD-41).
fn leaves(board: &Board, target: &DeviceTarget, (uuid, app): (&AppUuid, &App)) -> bool {
    let may_go = board.is_complete || board.deleted.contains(uuid);
    let supervisor = target.supervisor.as_ref();
    let is_supervisor = supervisor.is_some_and(|supervisor| supervisor.app == *uuid)
        || crate::intake::is_supervisor(uuid);
    let has_own = || {
        app.containers
            .values()
            .any(|found| board.marks.is_own(found))
    };
    may_go && !target.apps.contains_key(uuid) && !is_supervisor && !has_own()
}

/// Says which container is left as it is whatever the target says of it, and why.
fn say_own(board: &Board) {
    for (uuid, app) in &board.device.apps {
        let mut all = app.containers.iter();
        if let Some((name, _)) = all.find(|(_, found)| board.marks.is_own(found)) {
            log::info!(
                "container '{name}' of app '{uuid}' is left as it is: this agent runs in it"
            );
        }
    }
}

/// Cleans up images whenever no app is worked on: also while one waits for a lock or its next
/// try, or is blocked, since the images of targets in between would pile up (FD-06, FD-09).
/// What could not be cleaned up is tried again (D-19).
async fn sweeps(tools: Tools, cancel: Arc<Cancel>) {
    let mut backoff = Backoff::new(tools.retry, limits::BACKOFF_MAX);
    let (mut seen, mut swept, mut again) = (0, None, None);
    while !cancel.is_set() {
        let now = tools.clock.now();
        let (is_settled, plans) = tools.board.look(|board| {
            let mut lanes = board.lanes.values();
            (lanes.all(|lane| *lane != Lane::Working), board.plans)
        });
        let is_due = swept != Some(plans) || again.is_some_and(|at| at <= now);
        if is_settled && is_due {
            swept = Some(plans);
            let left = sweep::sweep(&tools).await;
            if left != Left::Failed {
                backoff.reset();
            }
            let wait = match left {
                Left::Nothing => None,
                Left::InUse => Some(limits::COMPARE_INTERVAL),
                Left::Failed => Some(backoff.failed(fastrand::f64())),
            };
            again = wait.map(|wait| tools.clock.now() + wait);
            continue;
        }
        let time = async {
            match again.filter(|at| *at > now) {
                Some(at) => tools.clock.sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let change = async { seen = tools.board.newer(seen).await };
        future::or(cancel.wait(), future::or(change, time)).await;
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

fn host_status(board: &Board) -> (UpdateStatus, Option<Arc<str>>) {
    match crate::plan::host::status(board) {
        Some((status, why)) => (status, Some(why)),
        None => (UpdateStatus::Done, None),
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
    let host = host_status(board);
    if board.host.lane == Some(Lane::Working) {
        return host;
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
    if host.0 == UpdateStatus::ApplyingChanges {
        return host;
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
        None => host,
    }
}
