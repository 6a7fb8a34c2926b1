//! The steps against a supervisor in memory, and a kill at each of them.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Mutex;

use futures_lite::future::{block_on, poll_once};

use super::*;
use crate::base::lock::lock;
use crate::base::map::Map;
use crate::world::Pending;

/// When a step that is the last one takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    /// It is not done.
    Before,
    /// It is done, and nobody hears of it.
    After,
}

#[derive(Debug, Default, Clone)]
struct World {
    name: &'static str,
    /// It has no container before this.
    absent_until: Duration,
    database: Settings,
    /// What it read when it started.
    running: Settings,
    start: u32,
    /// Restarts that were asked for.
    restarts: u32,
    is_marked: bool,
    /// Containers of this agent.
    ours: usize,
    /// Somebody holds an update lock.
    is_locked: bool,
    documents: Map<String, Vec<u8>>,
    now: Duration,
    answers_at: Option<Duration>,
    /// What goes wrong, by step.
    troubles: Map<&'static str, VecDeque<TroubleKind>>,
    /// Steps until the kill.
    kill: Option<(usize, Kill)>,
    is_dead: bool,
    steps: Vec<&'static str>,
}

struct Fake(Mutex<World>);

impl Fake {
    fn new(world: World) -> Fake {
        Fake(Mutex::new(world))
    }

    fn world(&self) -> World {
        lock(&self.0).clone()
    }

    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        change(&mut lock(&self.0))
    }

    /// One step: done, not done because the process is gone, or failed. `None`: it is gone.
    fn step<T>(
        &self,
        name: &'static str,
        effect: impl FnOnce(&mut World) -> T,
    ) -> Option<Result<T, Trouble>> {
        self.with(|world| {
            if world.is_dead {
                return None;
            }
            world.steps.push(name);
            let last = match &mut world.kill {
                Some((0, kill)) => Some(*kill),
                Some((left, _)) => {
                    *left -= 1;
                    None
                }
                None => None,
            };
            world.is_dead = last.is_some();
            if last == Some(Kill::Before) {
                return None;
            }
            let trouble = world.troubles.get_mut(name).and_then(VecDeque::pop_front);
            if let Some(kind) = trouble {
                let said = format!("{name} failed");
                return Some(Err(Trouble { kind, said }));
            }
            let done = effect(world);
            last.is_none().then_some(Ok(done))
        })
    }

    fn pend<'a, T: Send + 'a>(
        &'a self,
        name: &'static str,
        effect: impl FnOnce(&mut World) -> T + Send + 'a,
    ) -> Pending<'a, Result<T, Trouble>> {
        Box::pin(async move {
            match self.step(name, effect) {
                Some(done) => done,
                None => pending().await,
            }
        })
    }

    fn steps(&self) -> Takeover<'_> {
        Takeover {
            supervisor: self,
            store: self,
            clock: self,
            machine_up: Duration::ZERO,
        }
    }
}

impl World {
    fn restart(&mut self) {
        self.start += 1;
        self.running = self.database.clone();
    }
}

impl Supervisor for Fake {
    fn start_of<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<Start>, Trouble>> {
        self.pend("look", move |world| {
            let is_there = world.name == name && world.now >= world.absent_until;
            is_there.then(|| Start(format!("{}", world.start)))
        })
    }
    fn settings<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Settings, Trouble>> {
        self.pend("read", |world| world.database.clone())
    }
    fn set<'a>(&'a self, _: &'a str, settings: &'a Settings) -> Pending<'a, Result<(), Trouble>> {
        self.pend("set", |world| world.database = settings.clone())
    }
    fn restart<'a>(&'a self, _: &'a str) -> Pending<'a, Result<(), Trouble>> {
        self.pend("restart", |world| {
            world.restarts += 1;
            world.restart();
        })
    }
    fn answers(&self) -> Pending<'_, bool> {
        Box::pin(async {
            let world = self.world();
            world.answers_at.is_some_and(|at| world.now >= at)
        })
    }
    fn remove_ours(&self) -> Pending<'_, Result<usize, Trouble>> {
        Box::pin(async {
            let done = self.pend("remove", |world| match world.is_locked {
                true => Err(lasting("held by a service".into())),
                false => Ok(std::mem::take(&mut world.ours)),
            });
            done.await.flatten()
        })
    }
    fn mark(&self) -> Result<bool, Trouble> {
        let done = self.step("mark", |world| {
            !std::mem::replace(&mut world.is_marked, true)
        });
        done.unwrap_or(Ok(true))
    }
    fn is_marked(&self) -> bool {
        self.with(|world| world.is_marked)
    }
    fn unmark(&self) -> Result<(), Trouble> {
        let done = self.step("unmark", |world| world.is_marked = false);
        done.unwrap_or(Ok(()))
    }
}

fn of_store(trouble: Trouble) -> StoreError {
    StoreError {
        path: RECORD.into(),
        said: trouble.said,
    }
}

impl Store for Fake {
    fn get<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            let got = self.pend("get", move |world| world.documents.get(path).cloned());
            got.await.map_err(of_store)
        })
    }
    fn put<'a>(&'a self, path: &'a str, bytes: &'a [u8]) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let put = self.pend("put", move |world| {
                world.documents.insert(path.into(), bytes.to_vec());
            });
            put.await.map_err(of_store)
        })
    }
    fn delete<'a>(&'a self, _: &'a str) -> Pending<'a, Result<(), StoreError>> {
        unreachable!("nothing that was written down is forgotten")
    }
    fn list<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        unreachable!()
    }
    fn quarantine<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.with(|world| world.documents.remove(path));
            Ok(())
        })
    }
}

impl Clock for Fake {
    fn now(&self) -> Uptime {
        Uptime::from_start(self.world().now)
    }
    fn wall_secs(&self) -> i64 {
        0
    }
    fn sleep_until(&self, at: Uptime) -> Pending<'_, ()> {
        self.with(|world| world.now = world.now.max(at.since_start()));
        Box::pin(std::future::ready(()))
    }
}

fn wanted() -> Settings {
    settings(Some("http://127.0.0.1:48484/"), Some("48480"))
}

fn settings(endpoint: Option<&str>, port: Option<&str>) -> Settings {
    let (endpoint, port) = (endpoint.map(str::to_owned), port.map(str::to_owned));
    Settings { endpoint, port }
}

/// A supervisor that runs with what is in its database.
fn with(database: Settings) -> World {
    World {
        name: CONTAINERS[0],
        running: database.clone(),
        database,
        ..World::default()
    }
}

fn take_over(fake: &Fake) -> Result<Outcome, Trouble> {
    block_on(fake.steps().take_over(&wanted()))
}

fn restore(fake: &Fake) -> Result<Outcome, Trouble> {
    block_on(fake.steps().restore())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Over,
    Back,
}

/// Runs until the kill. `false`: it ended before that.
fn is_killed(fake: &Fake, direction: Direction, kill: (usize, Kill)) -> bool {
    fake.with(|world| world.kill = Some(kill));
    let wanted = wanted();
    let ended = block_on(poll_once(async {
        match direction {
            Direction::Over => fake.steps().take_over(&wanted).await,
            Direction::Back => fake.steps().restore().await,
        }
    }));
    fake.with(|world| {
        world.kill = None;
        // The very last step has nobody left to be killed.
        std::mem::take(&mut world.is_dead) || ended.is_none()
    })
}

fn run(fake: &Fake, direction: Direction) {
    match direction {
        Direction::Over => take_over(fake).unwrap(),
        Direction::Back => restore(fake).unwrap(),
    };
}

/// One of the two is in charge, and knows it.
fn check(world: &World, direction: Direction, original: &Settings, what: &str) {
    let want = match direction {
        Direction::Over => &wanted(),
        Direction::Back => original,
    };
    assert_eq!(&world.database, want, "{what}");
    assert_eq!(&world.running, want, "{what}");
    assert!(!world.is_marked, "{what}");
    if direction == Direction::Back {
        assert_eq!(world.ours, 0, "{what}");
    }
}

fn begun(direction: Direction, original: &Settings) -> World {
    let fake = Fake::new(with(original.clone()));
    if direction == Direction::Back {
        take_over(&fake).unwrap();
        fake.with(|world| (world.ours, world.restarts) = (3, 0));
    }
    fake.world()
}

#[test]
fn fd_42_s_tko_08_killed_at_any_step_either_direction_ends_well_with_one_restart() {
    let mut tried = 0;
    let foreign = settings(Some("http://10.0.0.1/"), None);
    for original in [Settings::default(), foreign] {
        for first in [Direction::Over, Direction::Back] {
            for second in [Direction::Over, Direction::Back] {
                for kill in [Kill::Before, Kill::After] {
                    for step in 0.. {
                        let fake = Fake::new(begun(first, &original));
                        if !is_killed(&fake, first, (step, kill)) {
                            assert!(step > 6, "{step} steps only");
                            break;
                        }
                        let what = format!("{first:?}, {kill:?} {step}, {second:?}");
                        run(&fake, second);
                        let world = fake.world();
                        check(&world, second, &original, &what);
                        let most = if first == second { 1 } else { 2 };
                        assert!(
                            world.restarts <= most,
                            "{what}: {} restarts",
                            world.restarts
                        );
                        tried += 1;
                    }
                }
            }
        }
    }
    println!("{tried} kills");
}

#[test]
fn fd_42_killed_twice_it_restarts_once() {
    for direction in [Direction::Over, Direction::Back] {
        for first in 0..16 {
            for second in 0..16 {
                for kill in [Kill::Before, Kill::After] {
                    let original = Settings::default();
                    let fake = Fake::new(begun(direction, &original));
                    is_killed(&fake, direction, (first, kill));
                    is_killed(&fake, direction, (second, kill));
                    run(&fake, direction);
                    let what = format!("{direction:?} {kill:?} {first} {second}");
                    check(&fake.world(), direction, &original, &what);
                    assert_eq!(fake.world().restarts, 1, "{what}");
                }
            }
        }
    }
}

#[test]
fn fd_42_after_a_boot_nothing_has_to_restart_that_has_read_its_settings() {
    for direction in [Direction::Over, Direction::Back] {
        for kill in [Kill::Before, Kill::After] {
            for step in 0..16 {
                let original = Settings::default();
                let fake = Fake::new(begun(direction, &original));
                is_killed(&fake, direction, (step, kill));
                let is_written = fake.with(|world| {
                    world.is_marked = false;
                    world.restarts = 0;
                    world.restart();
                    let running = &world.running;
                    match direction {
                        Direction::Over => *running == wanted(),
                        Direction::Back => *running == original,
                    }
                });
                run(&fake, direction);
                let what = format!("{direction:?} {kill:?} {step}");
                check(&fake.world(), direction, &original, &what);
                assert_eq!(fake.world().restarts, u32::from(!is_written), "{what}");
            }
        }
    }
}

#[test]
fn s_tko_01_without_a_supervisor_nothing_is_done() {
    let fake = Fake::new(World::default());
    assert_eq!(take_over(&fake), Ok(Outcome::NotPresent));
    assert_eq!(restore(&fake), Ok(Outcome::NotPresent));
    assert!(
        fake.world()
            .steps
            .iter()
            .all(|step| ["look", "get"].contains(step))
    );
}

#[test]
fn s_tko_02_s_tko_03_the_older_name_counts_where_the_newer_is_absent() {
    for name in CONTAINERS {
        let world = World {
            name,
            ..with(Settings::default())
        };
        assert_eq!(take_over(&Fake::new(world)), Ok(Outcome::Migrated(name)));
    }
}

#[test]
fn s_tko_04_s_tko_05_s_tko_06_what_is_so_already_is_not_done_again() {
    let bare = settings(Some("http://127.0.0.1:48484"), Some("48480"));
    let other = settings(Some("http://127.0.0.1:48484/"), Some("1"));
    #[rustfmt::skip]
    let cases = [
        (Settings::default(), true), (wanted(), false), (bare, false), (other, true),
        (settings(None, Some("48480")), true),
    ];
    for (found, changes) in cases {
        let fake = Fake::new(with(found.clone()));
        let outcome = take_over(&fake).unwrap();
        let world = fake.world();
        let want = match changes {
            true => Outcome::Migrated(CONTAINERS[0]),
            false => Outcome::AlreadyConfigured(CONTAINERS[0]),
        };
        assert_eq!(outcome, want, "{found:?}");
        assert_eq!(world.restarts, u32::from(changes), "{found:?}");
        assert_eq!(world.steps.contains(&"set"), changes, "{found:?}");
        assert!(is_same(&world.running, &wanted()));
        assert!(!world.is_marked);
    }
}

#[test]
fn s_tko_07_a_mark_that_upstream_left_is_a_restart() {
    let world = World {
        is_marked: true,
        ..with(wanted())
    };
    let fake = Fake::new(world);
    assert_eq!(take_over(&fake), Ok(Outcome::Migrated(CONTAINERS[0])));
    assert_eq!((fake.world().restarts, fake.world().is_marked), (1, false));
}

#[test]
fn s_tko_09_s_tko_10_the_mark_stays_where_a_restart_may_be_due() {
    use TroubleKind::{Lasting, TimedOut};
    #[rustfmt::skip]
    let cases = [
        ("read", Lasting, false, false), ("read", Lasting, true, true),
        ("set", Lasting, false, false), ("set", Lasting, true, true),
        ("set", TimedOut, false, true),
        ("restart", Lasting, false, true), ("restart", TimedOut, false, true),
    ];
    for (step, kind, before, after) in cases {
        let world = World {
            is_marked: before,
            troubles: [(step, [kind].into())].into(),
            ..with(Settings::default())
        };
        let fake = Fake::new(world);
        let trouble = take_over(&fake).unwrap_err();
        assert_eq!(trouble.kind, kind);
        assert_eq!(fake.world().is_marked, after, "{step} {kind:?} {before}");
        // And then it goes on.
        take_over(&fake).unwrap();
        check(&fake.world(), Direction::Over, &Settings::default(), step);
        assert_eq!(fake.world().restarts, 1, "{step}");
    }
}

#[test]
fn r_tko_5_what_passes_is_waited_for_and_what_does_not_is_given_up_in_time() {
    let passing = |times| vec![TroubleKind::Passing; times].into();
    let fake = Fake::new(World {
        troubles: [
            ("read", passing(20)),
            ("set", passing(3)),
            ("restart", passing(5)),
        ]
        .into(),
        ..with(Settings::default())
    });
    assert_eq!(take_over(&fake), Ok(Outcome::Migrated(CONTAINERS[0])));
    let fake = Fake::new(World {
        troubles: [("read", passing(1000))].into(),
        ..with(Settings::default())
    });
    assert!(take_over(&fake).is_err());
    assert_eq!(fake.world().now, limits::TAKEOVER_BUDGET);
}

#[test]
fn r_tko_5_while_the_machine_starts_the_container_may_still_come() {
    let late = World {
        absent_until: Duration::from_secs(30),
        ..with(Settings::default())
    };
    let fake = Fake::new(late.clone());
    assert_eq!(take_over(&fake), Ok(Outcome::Migrated(CONTAINERS[0])));
    let fake = Fake::new(late);
    let up = Takeover {
        machine_up: limits::TAKEOVER_BOOT,
        ..fake.steps()
    };
    let outcome = block_on(up.take_over(&wanted()));
    assert_eq!(
        outcome,
        Ok(Outcome::NotPresent),
        "later it is not waited for"
    );
}

#[test]
fn s_tko_21_the_settings_from_before_come_back_however_often_it_is_asked_for() {
    let name = CONTAINERS[0];
    for original in [
        Settings::default(),
        settings(Some("http://10.0.0.1/"), None),
    ] {
        let fake = Fake::new(with(original.clone()));
        take_over(&fake).unwrap();
        fake.with(|world| (world.ours, world.restarts) = (2, 0));
        assert_eq!(restore(&fake), Ok(Outcome::Restored(name, 2)));
        check(&fake.world(), Direction::Back, &original, "restored");
        assert_eq!(restore(&fake), Ok(Outcome::AlreadyRestored(name)));
        assert_eq!(fake.world().restarts, 1);
        // Round and round.
        take_over(&fake).unwrap();
        take_over(&fake).unwrap();
        restore(&fake).unwrap();
        check(&fake.world(), Direction::Back, &original, "the second time");
    }
}

#[test]
fn s_tko_21_what_upstream_took_over_is_handed_back_too() {
    let fake = Fake::new(with(wanted()));
    assert_eq!(
        take_over(&fake),
        Ok(Outcome::AlreadyConfigured(CONTAINERS[0]))
    );
    assert_eq!(restore(&fake), Ok(Outcome::Restored(CONTAINERS[0], 0)));
    check(
        &fake.world(),
        Direction::Back,
        &Settings::default(),
        "restored",
    );
}

#[test]
fn r_tko_7_nothing_is_handed_back_to_nobody_or_against_a_lock() {
    let fake = Fake::new(with(Settings::default()));
    take_over(&fake).unwrap();
    fake.with(|world| (world.ours, world.is_locked) = (2, true));
    assert!(restore(&fake).is_err());
    check(
        &fake.world(),
        Direction::Over,
        &Settings::default(),
        "locked",
    );
    assert_eq!(fake.world().ours, 2);
    fake.with(|world| (world.name, world.is_locked) = ("gone", false));
    assert!(restore(&fake).is_err());
    assert_eq!(fake.world().ours, 2, "nobody would run them");
}

#[test]
fn s_tko_19_only_a_takeover_that_was_done_is_one_to_go_on_with() {
    let has_migrated = |fake: &Fake| block_on(fake.steps().has_migrated());
    let fails = |fake: &Fake, step| {
        let trouble = VecDeque::from([TroubleKind::Lasting]);
        fake.with(|world| world.troubles.insert(step, trouble));
        assert!(take_over(fake).is_err(), "{step}");
    };
    let fake = Fake::new(with(Settings::default()));
    for step in ["set", "restart", "unmark"] {
        fails(&fake, step);
        assert!(!has_migrated(&fake), "{step}: it was never done");
    }
    take_over(&fake).unwrap();
    assert!(has_migrated(&fake));
    for step in ["look", "read"] {
        fails(&fake, step);
        assert!(has_migrated(&fake), "{step}");
    }
    fake.with(|world| world.database = Settings::default());
    fails(&fake, "set");
    assert!(has_migrated(&fake), "half of the next one is on disk");
    restore(&fake).unwrap();
    assert!(!has_migrated(&fake));
}

#[test]
fn fd_32_a_record_that_cannot_be_read_does_not_stop_either_direction() {
    for direction in [Direction::Over, Direction::Back] {
        let fake = Fake::new(begun(direction, &Settings::default()));
        fake.with(|world| world.documents.insert(RECORD.into(), b"{".to_vec()));
        run(&fake, direction);
        check(&fake.world(), direction, &Settings::default(), "damaged");
    }
}

#[test]
fn s_tko_22_it_is_seen_whether_the_supervisor_came_back() {
    for (at, want) in [
        (Some(0), true),
        (Some(100), true),
        (Some(130), false),
        (None, false),
    ] {
        let fake = Fake::new(World {
            answers_at: at.map(Duration::from_secs),
            ..World::default()
        });
        assert_eq!(block_on(answers(&fake, &fake)), want, "{at:?}");
        assert!(fake.world().now <= limits::TAKEOVER_ANSWER);
    }
}

#[test]
fn r_tko_9_outcomes_begin_with_a_stable_word() {
    let name = CONTAINERS[0];
    let all = [
        (Outcome::NotPresent, "not-present: "),
        (Outcome::AlreadyConfigured(name), "already-configured: "),
        (Outcome::Migrated(name), "migrated: "),
        (Outcome::Restored(name, 2), "restored: "),
        (Outcome::AlreadyRestored(name), "already-restored: "),
    ];
    for (outcome, want) in all {
        assert!(outcome.to_string().starts_with(want));
    }
}
