//! One life of an agent: the flows as the program wires them, until a moment.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use async_executor::LocalExecutor;
use futures_lite::future;

use helios::base::latest::Latest;
use helios::base::uptime::Uptime;
use helios::flows::poll::poller::Timing;
use helios::flows::poll::{self, Poll as PollFlow, Trigger};
use helios::flows::report;
use helios::flows::seek::seeker::Options;
use helios::flows::seek::{self, Mailbox, events, local};
use helios::intake;
use helios::plan::board::{Board, Marks};
use helios::plan::work::{Cancel, Tools};
use helios::world::clock::Clock as _;
use helios::world::engine::{Engine, HostFacts};
use helios::world::host::Host;
use helios::world::remote::Remote;
use helios::world::store::Store;

use super::world::World;
use crate::base::map::Set;

/// This device.
pub const DEVICE: &str = "0123456789abcdef0123456789abcdef";
/// The first wait after a failure.
pub const RETRY: Duration = Duration::from_secs(2);
/// Images that are pulled at once.
pub const PULLS_MAX: usize = 2;
/// An agent that is polled so often without waiting for anything is busy for ever.
const POLLS_MAX: u32 = 300;
/// Between polls.
pub const POLL: Duration = Duration::from_secs(60);

/// What an agent gets of the world; a mutant gets something else.
#[derive(Clone)]
pub struct Given {
    pub engine: Arc<dyn Engine>,
    pub store: Arc<dyn Store>,
    pub host: Arc<dyn Host>,
    pub remote: Arc<dyn Remote>,
}

impl Given {
    /// The world as it is.
    pub fn honest(world: &World) -> Given {
        let world = Arc::new(world.clone());
        Given {
            engine: world.clone(),
            store: world.clone(),
            host: world.clone(),
            remote: world,
        }
    }
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Lets an agent live until `until` or until somebody kills it; then it is gone as after a
/// `kill -9`. At the end of its life somebody looks at the world.
pub fn live_and_look(world: &World, given: &Given, until: Uptime, look: impl FnOnce()) {
    world.with(|state| {
        state.backend.told = 0;
        // What a killed agent held is removed by the next one (FD-03).
        state.dirs.ours.clear();
        state.note("an agent starts");
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut agent = pin!(agent(world, given));
        let flag = Arc::new(Flag::default());
        let waker = Waker::from(flag.clone());
        loop {
            let mut is_quiet = false;
            let mut polls = 0;
            while !is_quiet {
                polls += 1;
                if polls > POLLS_MAX {
                    let tail = world.with(|state| {
                        state
                            .history
                            .split_off(state.history.len().saturating_sub(25))
                            .join("\n")
                    });
                    let board = world.with(|state| state.board.clone()).unwrap();
                    panic!(
                        "the agent is busy for ever:\n{tail}\n{:#?}",
                        board.look(|b| (
                            b.lanes.clone(),
                            b.locks.clone(),
                            b.troubles.clone(),
                            b.hand_overs.clone(),
                            b.marks.clone()
                        ))
                    );
                }
                flag.0.store(false, Ordering::SeqCst);
                let polled = agent.as_mut().poll(&mut Context::from_waker(&waker));
                assert_eq!(polled, Poll::Pending, "the agent never stops by itself");
                // The planner's tasks are the runtime's.
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                is_quiet = !flag.0.load(Ordering::SeqCst);
            }
            world.with(super::checks::on_moment);
            if !world.advance(until) || world.is_killed_now() {
                break;
            }
        }
        look();
        world.with(|state| state.is_ending = true);
    });
    // With the runtime every task of the agent is gone.
    drop(runtime);
    let left = world.with(|state| {
        state.note("the agent is gone");
        state.is_ending = false;
        state.disk.forget();
        let timers = state.forget_timers();
        (timers, state.engine.forget_listeners(), state.board.take())
    });
    drop(left);
}

fn board(world: &World) -> Board {
    Board {
        device: helios::model::current::Device {
            uuid: DEVICE.into(),
            host: world.with(|state| state.host.os.clone()),
            ..Default::default()
        },
        since: world.now(),
        marks: Marks {
            own: world.with(|state| state.own.clone()),
            is_beside: world.with(|state| state.is_beside),
            ..Marks::default()
        },
        ..Board::default()
    }
}

async fn agent(world: &World, given: &Given) {
    let facts = HostFacts {
        uuid: DEVICE.to_owned(),
        arch: "amd64".to_owned(),
        runtime_dir: "/run/helios".to_owned(),
        supervised: true,
        ..HostFacts::default()
    };
    let tools = Tools {
        engine: given.engine.clone(),
        registry: None,
        store: given.store.clone(),
        clock: Arc::new(world.clone()),
        host: given.host.clone(),
        machine: Some(super::machine::given(world)),
        board: Arc::new(Latest::new(board(world))),
        facts: Arc::new(facts),
        retry: RETRY,
        pulls_max: PULLS_MAX,
        disk_reserve: 1 << 20,
    };
    world.with(|state| state.board = Some(tools.board.clone()));
    let mailbox = Arc::new(Mailbox::new(tools.clone()));
    let has_cached = restore(&given.remote, &tools, &mailbox).await;
    let executor = LocalExecutor::new();
    let stop = Arc::new(Cancel::default());
    let _seek = executor.spawn(seek::run(tools.clone(), mailbox.clone(), stop));
    let _edits = executor.spawn(edits(world.clone(), mailbox.clone(), tools.clone()));
    let _wishes = executor.spawn(wishes(world.clone(), mailbox.clone()));
    let _events = executor.spawn(events::run(tools.clone()));
    let _polls = executor.spawn(poll::run(PollFlow {
        remote: given.remote.clone(),
        trigger: Arc::new(Trigger::default()),
        mailbox,
        tools: tools.clone(),
        uuid: DEVICE.to_owned(),
        timing: Timing {
            interval: POLL,
            is_fixed: true,
            interval_min: Duration::from_secs(10),
            jitter_max: Duration::from_secs(1),
        },
        has_cached,
        taker: None,
    }));
    #[cfg(feature = "legacy")]
    let _beside = world.with(|state| state.is_beside).then(|| {
        let remote = given.remote.clone();
        executor.spawn(super::beside::run(world.clone(), tools.clone(), remote))
    });
    let remote = given.remote.clone();
    let _reports = executor.spawn(report::run(
        report::Report {
            remote,
            tools,
            ceiling: POLL,
            own: Some(Default::default()),
            whom: 1,
            trigger: None,
        },
        future::pending(),
    ));
    executor.run(future::pending::<()>()).await;
}

/// Hands in local edits, as the API does it.
async fn edits(world: World, mailbox: Arc<Mailbox>, tools: Tools) {
    while let Some((at, uuid, body)) = world.with(|state| state.edits.pop_front()) {
        world.sleep_until(at).await;
        let app = intake::app_target(&uuid, &body).expect("an edit that is good");
        let uuid = uuid.as_str().into();
        world.with(|state| state.note(format!("app '{uuid}' is edited")));
        // What cannot be written down is applied all the same.
        let _ = local::keep(&tools, &uuid, Some(&body)).await;
        mailbox.edit(&uuid, Some(app.value), Options::default());
    }
}

/// Hands in what else the API may be asked for.
async fn wishes(world: World, mailbox: Arc<Mailbox>) {
    while let Some((at, options)) = world.with(|state| state.wishes.pop_front()) {
        world.sleep_until(at).await;
        world.with(|state| {
            state.note(format!("an update is asked for: {options:?}"));
            state.may_force |= options.force;
        });
        mailbox.again(options);
    }
}

/// As the program does it at its start (FD-24, FD-25).
async fn restore(remote: &Arc<dyn Remote>, tools: &Tools, mailbox: &Mailbox) -> bool {
    let cached = remote.cached().await;
    let from_remote = cached.and_then(|bytes| poll::read(&bytes, DEVICE, &tools.facts).ok());
    let mut target = from_remote.clone().unwrap_or_default();
    let (deleted, any): (Set<_>, bool) = local::load(tools, &mut target).await;
    let found = from_remote.is_some();
    if found || any {
        mailbox.stored(from_remote, target, deleted);
    }
    found
}
