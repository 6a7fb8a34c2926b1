//! The drivers of poll and report where time jumps from deadline to deadline, against a
//! backend that is a script.

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Value, json};

use crate::base::latest::Latest;
use crate::base::lock::lock;
use crate::base::uptime::Uptime;
use crate::flows::poll::poller::Timing;
use crate::flows::poll::{self, Trigger};
use crate::flows::seek::Mailbox;
use crate::flows::seek::seeker::Options;
use crate::flows::{register, report};
use crate::model::ImageUri;
use crate::model::current::Image;
use crate::model::identity::{Record, RecordRemote, RecordRequest};
use crate::plan::board::Board;
use crate::plan::work::Tools;
use crate::sim::life::DEVICE;
use crate::sim::world::World;
use crate::world::Pending;
use crate::world::clock::Clock as _;
use crate::world::registration::{Confirmed, Registered, Registration, Retry, Trouble};
use crate::world::remote::{Polled, Remote, RemoteError, RemoteKind};

const S: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

type Script<T> = Box<dyn Fn(usize) -> Result<T, RemoteError> + Send + Sync>;

/// Takes its time, and answers the n-th request as the test says.
struct Scripted {
    world: World,
    takes: Duration,
    poll: Script<Polled>,
    report: Script<()>,
    polls: Mutex<Vec<Uptime>>,
    reports: Mutex<Vec<(Uptime, Value)>>,
}

impl Scripted {
    fn new(world: &World, takes: Duration) -> Scripted {
        Scripted {
            world: world.clone(),
            takes,
            poll: Box::new(|_| Ok(Polled::Unchanged)),
            report: Box::new(|_| Ok(())),
            polls: Mutex::default(),
            reports: Mutex::default(),
        }
    }
}

impl Remote for Scripted {
    fn cached(&self) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(async { None })
    }

    fn poll(&self) -> Pending<'_, Result<Polled, RemoteError>> {
        let mut polls = lock(&self.polls);
        let answer = (self.poll)(polls.len());
        polls.push(self.world.now());
        Box::pin(async move {
            self.world.sleep(self.takes).await;
            answer
        })
    }

    fn keep<'a>(&'a self, _: &'a [u8]) -> Pending<'a, ()> {
        Box::pin(async {})
    }

    fn report<'a>(&'a self, body: &'a [u8]) -> Pending<'a, Result<(), RemoteError>> {
        let mut reports = lock(&self.reports);
        let answer = (self.report)(reports.len());
        reports.push((self.world.now(), serde_json::from_slice(body).unwrap()));
        Box::pin(async move {
            self.world.sleep(self.takes).await;
            answer
        })
    }
}

pub(super) fn tools(world: &World) -> Tools {
    let shared = Arc::new(world.clone());
    Tools {
        engine: shared.clone(),
        registry: None,
        store: shared.clone(),
        clock: shared.clone(),
        host: shared,
        machine: None,
        board: Arc::new(Latest::new(Board::default())),
        facts: Arc::new(crate::world::engine::HostFacts {
            uuid: DEVICE.to_owned(),
            ..Default::default()
        }),
        retry: S,
        pulls_max: 1,
        disk_reserve: 0,
    }
}

fn timing(interval_min: Duration) -> Timing {
    Timing {
        interval: 900 * S,
        is_fixed: false,
        interval_min,
        jitter_max: 60 * S,
    }
}

/// Lets a flow run until `until`; `each` sees every moment before it goes on.
pub(super) fn live(
    world: &World,
    flow: impl Future<Output = ()>,
    until: Uptime,
    each: impl Fn(&World),
) {
    let mut flow = pin!(flow);
    loop {
        each(world);
        // What one step wakes is served in the same moment.
        for _ in 0..4 {
            let polled = flow.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(polled, Poll::Pending, "a flow does not end by itself");
        }
        if !world.advance(until) {
            return;
        }
    }
}

fn later(wish: Option<Duration>) -> RemoteError {
    RemoteError {
        kind: RemoteKind::Later(wish),
        said: "not now".into(),
    }
}

pub(super) fn document(apps: &Value) -> Arc<[u8]> {
    let text = json!({DEVICE: {"name": "x", "config": {}, "apps": apps}}).to_string();
    text.into_bytes().into()
}

fn polling(tools: &Tools, remote: &Arc<Scripted>, timing: Timing) -> poll::Poll {
    poll::Poll {
        remote: remote.clone(),
        trigger: Arc::new(Trigger::default()),
        mailbox: Arc::new(Mailbox::new(tools.clone())),
        tools: tools.clone(),
        uuid: DEVICE.to_owned(),
        timing,
        has_cached: false,
        taker: None,
    }
}

/// R-POLL-5: whenever the answer and the wish meet, neither is lost.
#[test]
fn s_poll_23_an_answer_that_is_there_is_not_lost_for_a_trigger() {
    let mut random = fastrand::Rng::with_seed(23);
    for round in 0..10_000 {
        let world = World::new(round);
        let tools = tools(&world);
        let mut remote = Scripted::new(&world, MS * random.u32(0..4));
        remote.poll = Box::new(|number| match number {
            0 => Ok(Polled::Changed(document(&json!({})))),
            _ => Ok(Polled::Unchanged),
        });
        let remote = Arc::new(remote);
        let flow = polling(&tools, &remote, timing(MS));
        let start = world.now();
        for _ in 0..random.u32(1..4) {
            let (trigger, board) = (flow.trigger.clone(), tools.board.clone());
            let at = start + MS * random.u32(0..8);
            world.with(|state| {
                state.at(at, move |_| {
                    board.change(|board| board.is_asking = true);
                    trigger.pull(Options::default());
                });
            });
        }
        live(&world, poll::run(flow), start + S, |_| {});
        tools.board.look(|board| {
            assert!(board.target.is_some(), "round {round}: the target is lost");
            assert!(!board.is_asking, "round {round}: somebody waits for ever");
        });
        assert!(
            lock(&remote.polls).len() >= 2,
            "round {round}: a wish is lost"
        );
    }
}

/// FD-30: no wait depends on the wall clock, however far it jumps, and back.
#[test]
fn fd_30_s_net_29_steps_of_the_clock_by_ten_years_move_no_request() {
    const YEARS: i64 = 10 * 365 * 24 * 3600;
    let day = |steps: &'static [i64]| {
        fastrand::seed(29);
        let world = World::new(29);
        let mut remote = Scripted::new(&world, 2 * S);
        remote.poll = Box::new(|number| match number % 7 {
            0 => Ok(Polled::Changed(document(&json!({})))),
            1 => Err(later(None)),
            2 => Err(later(Some(100 * S))),
            _ => Ok(Polled::Unchanged),
        });
        let remote = Arc::new(remote);
        let tools = tools(&world);
        tools.board.change(|board| board.is_read = true);
        let polls = poll::run(polling(&tools, &remote, timing(10 * S)));
        let reports = report::run(reporting(&tools, &remote), std::future::pending());
        let both = async {
            futures_lite::future::zip(polls, reports).await;
        };
        let count = std::cell::Cell::new(0);
        live(&world, both, world.now() + 24 * 3600 * S, |world| {
            count.set(count.get() + 1);
            let step = steps.get(count.get() % steps.len().max(1));
            world.with(|state| state.wall_step += step.copied().unwrap_or(0));
        });
        let reports = lock(&remote.reports);
        let reports: Vec<_> = reports.iter().map(|(at, _)| *at).collect();
        (lock(&remote.polls).clone(), reports)
    };
    let steady = day(&[]);
    assert!(steady.0.len() > 80 && !steady.1.is_empty(), "{steady:?}");
    assert_eq!(day(&[YEARS, -YEARS]), steady, "there and back");
    assert_eq!(day(&[-YEARS, YEARS]), steady);
    assert_eq!(day(&[YEARS]), steady, "always on");
}

/// Answers what a backend in trouble says, one after the other, and then takes the device.
struct Reluctant(World, Mutex<Vec<Uptime>>);

impl Registration for Reluctant {
    fn register<'a>(&'a self, _: &'a Record) -> Pending<'a, Result<Registered, Trouble>> {
        let mut asked = lock(&self.1);
        asked.push(self.0.now());
        let retry = match asked.len() {
            1..4 => Retry::Later(None),
            4 => Retry::Later(Some(100 * S)),
            5 | 6 => Retry::Slowly,
            _ => return Box::pin(async { Ok(Registered::AsAsked) }),
        };
        let said = "not now".into();
        Box::pin(async move { Err(Trouble { retry, said }) })
    }

    fn confirm<'a>(&'a self, _: &'a Record) -> Pending<'a, Result<Confirmed, Trouble>> {
        Box::pin(async { Ok(Confirmed::Unknown) })
    }

    fn give_key<'a>(&'a self, _: &'a Record) -> Pending<'a, Result<bool, Trouble>> {
        Box::pin(async { Ok(false) })
    }
}

/// FD-30: nor does registering, which may be all that a device does on its first day.
#[test]
fn fd_30_steps_of_the_clock_by_ten_years_move_no_registration() {
    const YEARS: i64 = 10 * 365 * 24 * 3600;
    let registered = |steps: &[i64]| {
        fastrand::seed(30);
        let world = World::new(30);
        let remote = Arc::new(Reluctant(world.clone(), Mutex::default()));
        let tools = tools(&world);
        let remote_of = RecordRemote {
            api_endpoint: "https://h/".into(),
            api_key: "k".into(),
            request: RecordRequest::default(),
        };
        let flow = register::run(register::Register {
            remote: remote.clone(),
            store: tools.store.clone(),
            clock: tools.clock.clone(),
            board: tools.board.clone(),
            trigger: Arc::default(),
            record: Record {
                uuid: DEVICE.into(),
                fleet: Some(1),
                device_type: Some("t".into()),
                remote: remote_of,
            },
            is_kept: false,
            interval_min: 10 * S,
        });
        let (mut flow, mut moment) = (pin!(flow), 0);
        let end = world.now() + 24 * 3600 * S;
        loop {
            let polled = flow.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if let Poll::Ready(record) = polled {
                assert_eq!(record.uuid, DEVICE);
                break;
            }
            let step = steps.get(moment % steps.len().max(1)).copied();
            world.with(|state| state.wall_step += step.unwrap_or(0));
            moment += 1;
            assert!(world.advance(end), "it is not registered");
        }
        lock(&remote.1).clone()
    };
    let steady = registered(&[]);
    assert_eq!(steady.len(), 7, "{steady:?}");
    for steps in [&[YEARS, -YEARS][..], &[-YEARS, YEARS], &[YEARS], &[-YEARS]] {
        assert_eq!(registered(steps), steady, "{steps:?}");
    }
}

/// A machine that slept for two hours: what is overdue is done once, and soon.
#[test]
fn s_net_30_after_a_sleep_an_overdue_poll_runs_once() {
    let world = World::new(30);
    let remote = Arc::new(Scripted::new(&world, S));
    let tools = tools(&world);
    let flow = poll::run(polling(&tools, &remote, timing(10 * S)));
    let start = world.now();
    let (slept, woke) = (start + 3600 * S, start + 3 * 3600 * S);
    live(&world, flow, woke + 1000 * S, |world| {
        world.with(|state| {
            if state.now >= slept && state.now < woke {
                state.now = woke;
            }
        });
    });
    let polls = lock(&remote.polls);
    let after: Vec<_> = polls.iter().filter(|at| **at >= slept).collect();
    assert_eq!(after.len(), 2, "{polls:?}");
    assert!(*after[0] - woke <= 2 * S && *after[1] - *after[0] >= 900 * S);
}

/// D-16: what is no target for this device changes nothing.
#[test]
fn s_poll_27_a_document_that_is_not_for_this_device_keeps_the_target() {
    const OTHER: &str = "ffffffffffffffffffffffffffffffff";
    let good = |name: &str| json!({"name": name, "config": {}, "apps": {}});
    let cases = [
        (json!({OTHER: good("other")}), "x"),
        (json!({}), "x"),
        (json!([]), "x"),
        (json!([{DEVICE: good("a list")}]), "x"),
        (json!(null), "x"),
        // Of two, ours counts.
        (json!({OTHER: good("other"), DEVICE: good("new")}), "new"),
    ];
    for (number, (odd, want)) in cases.into_iter().enumerate() {
        let world = World::new(27);
        let tools = tools(&world);
        let mut remote = Scripted::new(&world, MS);
        let odd: Arc<[u8]> = odd.to_string().into_bytes().into();
        remote.poll = Box::new(move |number| match number {
            0 => Ok(Polled::Changed(document(&json!({})))),
            1 => Ok(Polled::Changed(odd.clone())),
            _ => Ok(Polled::Unchanged),
        });
        let remote = Arc::new(remote);
        let flow = poll::run(polling(&tools, &remote, timing(10 * S)));
        live(&world, flow, world.now() + 2000 * S, |_| {});
        assert!(lock(&remote.polls).len() >= 3, "it goes on");
        tools.board.look(|board| {
            let name = board
                .target
                .as_ref()
                .and_then(|target| target.name.as_deref());
            assert_eq!(name, Some(want), "case {number}");
        });
    }
}

/// R-REP-12: what is still to be told at the end is sent, or given up after two seconds.
#[test]
fn s_rep_17_the_last_report_is_sent_or_given_up_in_two_seconds() {
    for (takes, ends) in [(S, S), (60 * S, 2 * S)] {
        let world = World::new(17);
        let remote = Arc::new(Scripted::new(&world, takes));
        let tools = pulling(&world);
        let start = world.now();
        let end = start + 200 * S;
        let (clock, late) = (world.clone(), tools.clone());
        let stop = async move {
            clock.sleep_until(end).await;
            // News that nobody has been told.
            progress(&late, 77);
        };
        let mut flow = pin!(report::run(reporting(&tools, &remote), stop));
        let ended = loop {
            let polled = flow.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            if polled.is_ready() {
                break world.now();
            }
            assert!(world.advance(end + 100 * S), "it does not end");
        };
        // To write down what was told takes its time, too.
        assert!((ends..ends + S / 2).contains(&(ended - end)));
        let reports = lock(&remote.reports);
        let (at, last) = reports.last().unwrap();
        assert!(*at >= end && told(last) == 77, "{reports:?}");
    }
}

fn reporting(tools: &Tools, remote: &Arc<Scripted>) -> report::Report {
    report::Report {
        remote: remote.clone(),
        tools: tools.clone(),
        ceiling: 900 * S,
        own: Default::default(),
        whom: 1,
        trigger: None,
    }
}

const IMAGE: &str = "r.example/v2/aa";

/// A device whose one image is being pulled.
fn pulling(world: &World) -> Tools {
    let tools = tools(world);
    let app = json!({"id": 1, "name": "f", "releases": {"aa11": {"services": {
        "main": {"id": 1, "image": IMAGE}}}}});
    let target = poll::read(&document(&json!({"a": app})), DEVICE, &tools.facts).unwrap();
    tools.board.change(|board| {
        board.is_read = true;
        board.authorized = Some(target.apps.keys().cloned().collect());
        board.known_releases.insert("aa11".into());
        board.target = Some(Arc::new(target));
    });
    tools
}

fn progress(tools: &Tools, progress: u8) {
    let image = Image {
        progress,
        ..Image::default()
    };
    let uri = ImageUri::parse(IMAGE).unwrap();
    tools
        .board
        .change(|board| board.device.images.insert(uri, image));
}

fn told(report: &Value) -> &Value {
    &report[DEVICE]["apps"]["a"]["releases"]["aa11"]["services"]["main"]["download_progress"]
}

/// R-REP-4: fifty changes while one report is on its way are one more, with the newest.
#[test]
fn s_rep_06_changes_in_flight_are_one_report_with_the_newest_state() {
    let world = World::new(6);
    let remote = Arc::new(Scripted::new(&world, 60 * S));
    let tools = pulling(&world);
    let flow = report::run(reporting(&tools, &remote), std::future::pending());
    let start = world.now();
    for number in 1..=50 {
        let tools = tools.clone();
        world.with(|state| {
            state.at(start + S * u32::from(number), move |_| {
                progress(&tools, number);
            });
        });
    }
    live(&world, flow, start + 250 * S, |_| {});
    let reports = lock(&remote.reports);
    let told: Vec<_> = reports.iter().map(|(_, report)| told(report)).collect();
    assert_eq!(told, [&json!(0), &json!(50)]);
}

/// R-REP-4: a report that is tried again says what is so then.
#[test]
fn s_rep_07_each_retry_carries_the_state_of_its_moment() {
    let world = World::new(7);
    let mut remote = Scripted::new(&world, S);
    remote.report = Box::new(|number| match number {
        0..3 => Err(later(None)),
        _ => Ok(()),
    });
    let remote = Arc::new(remote);
    let tools = pulling(&world);
    let flow = report::run(reporting(&tools, &remote), std::future::pending());
    let start = world.now();
    for number in 1..=90 {
        let tools = tools.clone();
        world.with(|state| {
            state.at(start + S * u32::from(number), move |_| {
                progress(&tools, number);
            });
        });
    }
    live(&world, flow, start + 250 * S, |_| {});
    let reports = lock(&remote.reports);
    let told: Vec<_> = reports
        .iter()
        .map(|(at, report)| ((*at - start).as_secs(), told(report).as_u64().unwrap()))
        .collect();
    assert!(told.len() >= 4, "{told:?}");
    for (at, told) in told {
        // One second late at most: what changes in the same moment may come after it.
        let is = at.min(90);
        assert!(told == is || told + 1 == is, "after {at} s: {told}");
    }
}
