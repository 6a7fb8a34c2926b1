//! Seeds.

use std::time::Duration;

use helios::base::uptime::Uptime;
use helios::flows::poll;
use helios::world::engine::HostFacts;

use super::life::{DEVICE, Given, live};
use super::world::{Faults, State, World};
use super::{checks, documents};

/// Faults happen up to this second.
const FAULTS_SECS: u64 = 600;
/// After that everything has so long to come right: more than the longest back-off.
const REST_SECS: u64 = 2400;
/// Histories of one test run; `HELIOS_SEEDS` says how many instead.
const SEEDS: u64 = 300;

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

/// Sets the backend's document.
fn set_target(state: &mut State, number: u64) {
    let document = documents::target(&mut state.rng, number);
    state.note(format!("target {number}: {document}"));
    state.backend.target = Some((number, document.to_string().into_bytes().into()));
}

/// Something that somebody does by hand, or that a service does.
fn by_hand(state: &mut State) {
    let names: Vec<_> = state.engine.containers.keys().cloned().collect();
    if names.is_empty() {
        return;
    }
    let name = names[state.rng.usize(..names.len())].clone();
    match state.rng.u8(0..6) {
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
        4 => {
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
        _ => {
            state.note(format!("'{name}' does not stop any more"));
            if let Some(found) = state.engine.containers.get_mut(&name) {
                found.will_not_stop = true;
            }
        }
    }
}

/// Draws which faults this history has, and when.
fn draw(state: &mut State) -> Vec<u64> {
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
    set_target(state, 1);
    for number in 2..=state.rng.u64(2..6) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        state.at(when, move |state| set_target(state, number));
    }
    for _ in 0..state.rng.u64(0..12) {
        let when = at(state.rng.u64(5..FAULTS_SECS));
        state.at(when, by_hand);
    }
    for _ in 0..state.rng.u64(0..3) {
        let begin = state.rng.u64(5..FAULTS_SECS);
        let end = (begin + state.rng.u64(1..60)).min(FAULTS_SECS);
        for (when, is_down) in [(begin, true), (end, false)] {
            state.at(at(when), move |state| {
                state.note(format!("the engine is down: {is_down}"));
                state.engine.set_down(is_down);
            });
        }
    }
    state.at(at(FAULTS_SECS), |state| {
        state.note("all faults end");
        state.faults = Faults::default();
        state.dirs.theirs.clear();
        state.engine.set_down(false);
        for found in state.engine.containers.values_mut() {
            found.will_not_stop = false;
        }
    });
    let mut kills: Vec<_> = (0..state.rng.u64(0..5))
        .map(|_| state.rng.u64(1..FAULTS_SECS))
        .collect();
    kills.sort_unstable();
    kills
}

/// One seed, one history; what is wrong with it.
pub fn history(seed: u64, given: impl Fn(&World) -> Given) -> Vec<String> {
    fastrand::seed(seed);
    let world = World::new(seed);
    let kills = world.with(draw);
    let given = given(&world);
    for kill in kills {
        live(&world, &given, at(kill));
    }
    let mut wrong = Vec::new();
    super::life::live_and_look(&world, &given, at(FAULTS_SECS + REST_SECS), || {
        world.with(|state| {
            let (_, document) = state.backend.target.clone().unwrap();
            let target = poll::read(&document, DEVICE, &HostFacts::default()).unwrap();
            wrong = checks::in_the_end(state, &target);
        });
    });
    world.with(|state| {
        wrong.extend(state.violations.drain(..));
        if !wrong.is_empty() && std::env::var_os("HELIOS_SEEDS").is_some() {
            println!("{}", state.history.join("\n"));
        }
    });
    wrong
}

#[test]
fn issue_5_histories_end_at_their_target_and_nothing_forbidden_happens() {
    let given = std::env::var("HELIOS_SEEDS").ok();
    let range = match given.as_deref().map(|text| text.split_once("..")) {
        None => 1..SEEDS + 1,
        Some(None) => 1..given.unwrap().parse::<u64>().unwrap() + 1,
        Some(Some((from, to))) => from.parse().unwrap()..to.parse().unwrap(),
    };
    let mut failed = Vec::new();
    for seed in range {
        let wrong = history(seed, Given::honest);
        if !wrong.is_empty() {
            failed.push(format!("seed {seed}: {}", wrong.join("; ")));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}
