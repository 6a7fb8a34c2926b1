//! Seeds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use helios::base::uptime::Uptime;
use helios::flows::poll;
use helios::flows::seek::seeker::Options;
use helios::world::engine::HostFacts;

use super::life::{DEVICE, Given, live_and_look};
use super::world::{Faults, State, World};
use super::{checks, documents};

/// Faults happen up to this second.
const FAULTS_SECS: u64 = 600;
/// After that everything has so long to come right: more than the longest back-off.
const REST_SECS: u64 = 2400;
/// At the end of that there is nothing to do any more.
const QUIET_SECS: u64 = 600;
/// Histories of one test run; `HELIOS_SEEDS` says which instead.
const SEEDS: u64 = 2000;
/// Documents have smaller numbers than the one that ends a history with edits.
const NUMBER_MAX: u64 = 100;

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

/// Sets the backend's document.
fn set_target(state: &mut State, number: u64, is_last: bool) {
    let document = documents::target(&mut state.rng, number, is_last);
    state.note(format!("target {number}: {document}"));
    let apps = document[DEVICE]["apps"].as_object().into_iter().flatten();
    for (_, app) in apps {
        let releases = app["releases"].as_object().into_iter();
        state
            .backend
            .releases
            .extend(releases.flat_map(|all| all.keys().cloned()));
    }
    state.backend.target = Some((number, document.to_string().into_bytes().into()));
}

/// Something that somebody does by hand, or that a service does.
fn by_hand(state: &mut State) {
    let names: Vec<_> = state.engine.containers.keys().cloned().collect();
    let Some(name) = state.rng.choice(names) else {
        return;
    };
    let ours = !state.engine.containers[&name].is_foreign;
    let wait = state.millis(20_000);
    match state.rng.u8(0..13) {
        0 => {
            state.note(format!("somebody removes '{name}'"));
            state.remove_by_hand(&name);
        }
        1 | 2 => {
            state.note(format!("somebody stops '{name}'"));
            state.stop_by_hand(&name);
        }
        3 => {
            let id = state.engine.containers[&name].container.id.clone();
            state.note(format!("'{name}' crashes"));
            state.end(&id, 1);
        }
        4 if ours => {
            let found = &state.engine.containers[&name];
            let dir = format!(
                "/run/helios/update-locks/{}/{}",
                found.app, found.container.service
            );
            if !state.dirs.ours.contains(&dir) {
                state.note(format!("a service locks {dir}"));
                state.dirs.theirs.insert(dir);
            }
        }
        5 => {
            state.note(format!("somebody changes '{name}'"));
            state.change_by_hand(&name);
        }
        6 => {
            let images: Vec<_> = state.engine.images.keys().cloned().collect();
            if let Some(uri) = state.rng.choice(images) {
                state.note(format!("somebody removes image '{uri}'"));
                state.remove_image_by_hand(&uri);
            }
        }
        7 => {
            state.note("somebody removes what no container uses");
            state.prune_by_hand();
        }
        8 => {
            state.note(format!("somebody removes '{name}', which takes {wait:?}"));
            state.remove_slowly(&name, wait);
        }
        9 => {
            state.note(format!("somebody pauses '{name}'"));
            state.pause_by_hand(&name);
        }
        10 if ours => {
            state.note(format!("somebody takes '{name}' off its networks"));
            state.disconnect_by_hand(&name);
        }
        11 => {
            state.note(format!("'{name}' crashes and is restarted after {wait:?}"));
            state.crash(&name, wait);
        }
        _ => {
            state.note(format!("'{name}' does not stop any more"));
            if let Some(found) = state.engine.containers.get_mut(&name) {
                found.will_not_stop = true;
            }
        }
    }
}

/// What is there before the first agent comes.
fn draw_inherited(state: &mut State) {
    if state.rng.u8(0..4) == 0 {
        state.inherit("db_7_1_old", "appone", "db", Some("1_data"));
    }
    if state.rng.u8(0..4) == 0 {
        state.inherit("web_apponer0", "", "web", None);
    }
    if state.rng.u8(0..4) == 0 {
        state.inherit("thing_1_1_old", "appgone", "thing", None);
    }
}

/// Draws when something with a length happens: its beginning and its end.
fn draw_span(state: &mut State) -> (Uptime, Uptime) {
    let begin = state.rng.u64(5..FAULTS_SECS);
    let end = begin + state.rng.u64(1..60);
    (at(begin), at(end.min(FAULTS_SECS)))
}

/// Draws which faults this history has, and when; returns when agents are killed.
fn draw(state: &mut State) -> Vec<Uptime> {
    draw_inherited(state);
    state.is_calm = state.rng.u8(0..8) == 0;
    let has_edits = state.rng.u8(0..4) == 0;
    draw_targets(state, has_edits);
    let kills = if state.is_calm {
        Vec::new()
    } else {
        draw_faults(state)
    };
    state.at(at(FAULTS_SECS + REST_SECS - QUIET_SECS), |state| {
        state.quiet_since = Some((state.disk.writes, state.calls.len()));
    });
    state.at(at(FAULTS_SECS), move |state| {
        state.note("all faults end");
        state.faults = Faults::default();
        state.kill_in = None;
        state.disk.is_full = false;
        state.dirs.theirs.clear();
        state.engine.set_down(false);
        for found in state.engine.containers.values_mut() {
            found.will_not_stop = false;
        }
        // An edit lives until the backend has something new (local-api 1.7).
        if has_edits {
            set_target(state, NUMBER_MAX, true);
        }
    });
    kills
}

fn draw_targets(state: &mut State, has_edits: bool) {
    let count = state.rng.u64(1..6);
    let mut times: Vec<_> = (1..count).map(|_| state.rng.u64(5..FAULTS_SECS)).collect();
    times.sort_unstable();
    set_target(state, 1, count == 1);
    for (number, secs) in (2..).zip(times) {
        let dies = !state.is_calm && state.rng.bool();
        state.at(at(secs), move |state| {
            set_target(state, number, number == count);
            // In the middle of what follows, at any await of it.
            if dies {
                state.kill_in = Some(state.rng.u32(1..150));
            }
        });
    }
    if has_edits {
        let app = documents::APPS[state.rng.usize(..documents::APPS.len())];
        let body = documents::one_app(&mut state.rng, app, (NUMBER_MAX + 1, false));
        let when = at(state.rng.u64(5..FAULTS_SECS));
        let edit = (when, app.to_owned(), body.to_string().into_bytes());
        state.edits.push_back(edit);
    }
    for _ in 0..state.rng.u64(0..3) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        let options = Options {
            force: state.rng.bool(),
            cancel: state.rng.bool(),
        };
        state.wishes.push_back((when, options));
    }
}

fn draw_faults(state: &mut State) -> Vec<Uptime> {
    // Each seed has some kinds of faults and not others.
    let mut some = |chance: f64| if state.rng.bool() { chance } else { 0.0 };
    state.faults = Faults {
        fails: some(0.1),
        lost: some(0.1),
        hangs: some(0.01),
        breaks: some(0.3),
        disk: some(0.2),
        remote: some(0.3),
    };
    for _ in 0..state.rng.u64(0..12) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        state.at(when, by_hand);
    }
    for _ in 0..state.rng.u64(0..3) {
        let (begin, end) = draw_span(state);
        for (when, is_down) in [(begin, true), (end, false)] {
            state.at(when, move |state| {
                state.note(format!("the engine is down: {is_down}"));
                state.engine.set_down(is_down);
            });
        }
    }
    for _ in 0..state.rng.u64(0..2) {
        let (begin, end) = draw_span(state);
        for (when, is_full) in [(begin, true), (end, false)] {
            state.at(when, move |state| {
                state.note(format!("the disk is full: {is_full}"));
                state.disk.is_full = is_full;
            });
        }
    }
    for _ in 0..state.rng.u64(0..2) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        state.at(when, |state| {
            state.note("the engine restarts, and all containers with it");
            state.restart_engine();
        });
    }
    for _ in 0..state.rng.u64(0..3) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        let years = if state.rng.bool() { 10 } else { -10 };
        state.at(when, move |state| {
            state.note(format!("the wall clock goes {years} years"));
            state.wall_step += years * 365 * 24 * 3600;
        });
    }
    let kills = 0..state.rng.u64(0..5);
    let mut kills: Vec<_> = kills
        .map(|_| Uptime::from_start(Duration::from_millis(state.rng.u64(1..FAULTS_SECS * 1000))))
        .collect();
    kills.sort_unstable();
    kills
}

/// One seed, one history; what is wrong with it.
pub fn history(seed: u64, given: impl Fn(&World) -> Given) -> Vec<String> {
    fastrand::seed(seed);
    let world = World::new(seed);
    let mut kills = world.with(draw).into_iter();
    let given = given(&world);
    let (end, mut wrong) = (at(FAULTS_SECS + REST_SECS), Vec::new());
    while world.with(|state| state.now) < end {
        let until = kills.next().unwrap_or(end);
        live_and_look(&world, &given, until, || {
            world.with(|state| {
                if state.now >= end {
                    wrong = look_in_the_end(state);
                }
            });
        });
    }
    world.with(|state| {
        wrong.append(&mut state.violations);
        if asked_for().is_some() {
            println!("{}", state.history.join("\n"));
        }
    });
    wrong
}

fn look_in_the_end(state: &State) -> Vec<String> {
    let (_, document) = state.backend.target.clone().unwrap();
    let target = poll::read(&document, DEVICE, &HostFacts::default()).unwrap();
    checks::in_the_end(state, &target)
}

/// The histories that `HELIOS_SEEDS` asks for: `A..B`; these are printed.
fn asked_for() -> Option<std::ops::Range<u64>> {
    let given = std::env::var("HELIOS_SEEDS").ok()?;
    let (from, to) = given.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

/// The histories of this run: those asked for, or as many as `HELIOS_SEEDS` says.
fn seeds() -> std::ops::Range<u64> {
    asked_for().unwrap_or_else(|| {
        let count = std::env::var("HELIOS_SEEDS").ok();
        1..count.and_then(|text| text.parse().ok()).unwrap_or(SEEDS) + 1
    })
}

/// What is wrong with some histories, on all cores.
fn run(seeds: std::ops::Range<u64>, given: impl Fn(&World) -> Given + Sync) -> Vec<String> {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(Vec::new());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let wrong = history(seed, &given);
                    if !wrong.is_empty() {
                        let line = format!("seed {seed}: {}", wrong.join("; "));
                        failed.lock().unwrap().push(line);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn issue_5_histories_end_at_their_target_and_nothing_forbidden_happens() {
    if asked_for().is_some() {
        super::logged::begin();
    }
    let failed = run(seeds(), Given::honest);
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
