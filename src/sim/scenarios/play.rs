//! Plays a scenario in simulated time.

use std::time::Duration;

use serde_json::Value;

use helios::base::uptime::Uptime;
use helios::flows::api::v3;
use helios::model::ImageUri;
use helios::model::current::{Container, Network};
use helios::model::status::{ContainerStatus, Health, UpdateStatus};
use helios::model::target::AppRelease;
use helios::world::engine::FoundVolume;

use super::super::life::{DEVICE, Given, live_and_look};
use super::super::world::{State, World};
use super::calls;
use super::document::{self, Deed, Expect, Scenario};

/// Each target has so long to be reached.
const STEP_SECS: u64 = 600;
/// How long calls take differs between these.
const SEEDS: u64 = 6;
/// Before the first agent.
const BEGIN_SECS: u64 = 1;

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

/// Plays the scenario of this id in every way that it allows.
pub fn play(id: &str) {
    if let Ok(filter) = std::env::var("RUST_LOG") {
        helios::log::start(Some(&filter));
    }
    let scenario = document::read(id);
    let is_quiet = scenario.meanwhile.is_empty() && scenario.then.is_empty();
    let ways = match scenario.restart {
        Some(restart) => vec![restart],
        None if scenario.before.is_empty() => vec![false],
        None if is_quiet => vec![false, true],
        None => vec![true],
    };
    assert!(
        is_quiet || ways == [true] || scenario.before.is_empty(),
        "{id}: what happens in between needs a restart"
    );
    for restart in ways {
        for seed in 0..SEEDS {
            let (wrong, history) = once(&scenario, seed, restart);
            assert!(
                wrong.is_empty(),
                "{id} ({}), seed {seed}, restart {restart}: {}\nruling: {}\n\n{}\n\n{}",
                scenario.about,
                wrong.join("\n"),
                scenario.ruling.as_deref().unwrap_or("none"),
                history,
                wrong.join("\n"),
            );
        }
    }
}

fn once(scenario: &Scenario, seed: u64, restart: bool) -> (Vec<String>, String) {
    fastrand::seed(seed);
    let world = World::new(seed);
    let given = Given::honest(&world);
    world.with(|state| place(scenario, state));
    let mut begin = BEGIN_SECS;
    let mut wrong = Vec::new();
    for (index, before) in scenario.before.iter().enumerate() {
        let end = begin + STEP_SECS;
        let is_last = index + 1 == scenario.before.len();
        let want = scenario.before_status.as_deref().filter(|_| is_last);
        let want = want.unwrap_or("done").to_owned();
        let document = document::device(before);
        if restart {
            world.with(|state| set_target(state, document));
            live_and_look(&world, &given, at(end), || {
                world.with(|state| wrong.extend(status_is_not(state, &want)));
            });
        } else {
            let before = move |state: &mut State| set_target(state, document);
            world.with(|state| state.at(at(begin), before));
            world.with(|state| {
                state.at(at(end), move |state| {
                    if let Some(wrong) = status_is_not(state, &want) {
                        state.violation(wrong);
                    }
                });
            });
        }
        begin = end;
    }
    let target = document::device(&scenario.target);
    let start = move |state: &mut State| {
        state.calls.clear();
        if restart {
            // What the agent finds at its start is what it is to do.
            state.backend.kept = Some(target.clone());
        }
        set_target(state, target);
    };
    if restart || scenario.before.is_empty() {
        world.with(|state| {
            scenario.meanwhile.iter().for_each(|deed| act(state, deed));
            start(state);
            for (secs, deed) in &scenario.then {
                later(state, at(begin + secs), deed.clone());
            }
        });
    } else {
        world.with(|state| state.at(at(begin), start));
    }
    live_and_look(&world, &given, at(begin + STEP_SECS), || {
        world.with(|state| wrong.extend(judge(&scenario.expect, state)));
    });
    world.with(|state| {
        wrong.append(&mut state.violations);
        (wrong, state.history.join("\n"))
    })
}

fn place(scenario: &Scenario, state: &mut State) {
    if scenario.no_pulls {
        state.faults.breaks = 1.0;
    }
    for uri in &scenario.images {
        state.engine.add_image(&ImageUri::parse(uri).unwrap());
    }
    for (oci_name, (app, name)) in &scenario.placed.networks {
        let network = Network {
            id: format!("id-of-{oci_name}").into(),
            oci_name: oci_name.as_str().into(),
            config: None,
        };
        let found = (app.as_str().into(), name.as_str().into(), network);
        state
            .engine
            .networks
            .insert(oci_name.as_str().into(), found);
    }
    for (oci_name, app) in &scenario.placed.volumes {
        let volume = FoundVolume {
            oci_name: oci_name.as_str().into(),
            app: app.as_deref().map(Into::into),
            name: None,
            config: None,
        };
        state
            .engine
            .volumes
            .insert(oci_name.as_str().into(), volume);
    }
}

/// The backend has this target from now on.
pub fn set_target(state: &mut State, document: Vec<u8>) {
    let number = state
        .backend
        .target
        .as_ref()
        .map_or(1, |(number, _)| number + 1);
    let text = String::from_utf8_lossy(&document);
    state.note(format!("target {number}: {text}"));
    let read: Value = serde_json::from_str(&text).unwrap();
    let apps = read[DEVICE]["apps"].as_object().unwrap().values();
    let releases = apps.flat_map(|app| app["releases"].as_object().unwrap().keys().cloned());
    state.backend.releases.extend(releases);
    state.backend.target = Some((number, document.into()));
}

/// Lets something happen at its time.
fn later(state: &mut State, when: Uptime, deed: Deed) {
    match deed {
        Deed::Edit(uuid, short) => {
            let body = document::app(&uuid, &short).to_string().into_bytes();
            state.edits.push_back((when, uuid, body));
        }
        deed => state.at(when, move |state| act(state, &deed)),
    }
}

fn act(state: &mut State, deed: &Deed) {
    let dir = |path: &str| format!("/run/helios/update-locks/{path}");
    match deed {
        Deed::Stop(name) => state.stop_by_hand(name),
        Deed::Dies(name) => {
            let found = state.engine.containers.get_mut(&**name).unwrap();
            found.container.status = ContainerStatus::Dead;
        }
        Deed::Untag(uri) => {
            let uri = ImageUri::parse(uri).unwrap();
            assert!(state.engine.images.remove(&uri).is_some(), "{uri}");
        }
        Deed::Lock(path) => drop(state.dirs.theirs.insert(dir(path))),
        Deed::Unlock(path) => {
            assert!(state.dirs.theirs.remove(&dir(path)), "{path}");
            state.call(&format!("{path} is unlocked"), true);
        }
        Deed::Target(target) => set_target(state, document::device(target)),
        Deed::Edit(..) => panic!("an edit needs an agent that lives"),
    }
}

fn status_is_not(state: &State, want: &str) -> Option<String> {
    let (status, reason) = status(state);
    (status.as_str() != want).then(|| {
        format!(
            "before it began, the status was {}: {reason}",
            status.as_str()
        )
    })
}

fn status(state: &State) -> (UpdateStatus, String) {
    let board = state.board.as_ref().expect("an agent lives");
    board.look(|board| {
        let reason = board.reason.as_deref().unwrap_or_default();
        (board.status, reason.to_owned())
    })
}

/// What did not come out as it had to.
fn judge(expect: &Expect, state: &State) -> Vec<String> {
    let mut wrong = calls::compare(&expect.calls, &expect.repeated, &state.calls);
    let (status, reason) = status(state);
    let want = expect.status.as_deref().unwrap_or("done");
    let because = expect.reason.as_deref().unwrap_or_default();
    if status.as_str() != want || !reason.contains(because) {
        wrong.push(format!("the status is {}: {reason}", status.as_str()));
    }
    if !state.dirs.ours.is_empty() {
        wrong.push(format!("locks are left: {:?}", state.dirs.ours));
    }
    let mut list = |what: &str, want: &[String], mut found: Vec<String>| {
        let mut want = want.to_vec();
        want.sort();
        found.sort();
        if want != found {
            wrong.push(format!("{what} are {found:?}, not {want:?}"));
        }
    };
    let engine = &state.engine;
    let text = |name: &std::sync::Arc<str>| name.to_string();
    list(
        "networks",
        &expect.networks,
        engine.networks.keys().map(text).collect(),
    );
    list(
        "volumes",
        &expect.volumes,
        engine.volumes.keys().map(text).collect(),
    );
    list(
        "images",
        &expect.images,
        engine.images.keys().map(ToString::to_string).collect(),
    );
    judge_containers(expect, state, &mut wrong);
    judge_documents(expect, state, &mut wrong);
    wrong
}

fn judge_containers(expect: &Expect, state: &State, wrong: &mut Vec<String>) {
    let mut missing: Vec<_> = expect.containers.iter().collect();
    for (name, found) in &state.engine.containers {
        let does = does(&found.container);
        let known = missing
            .iter()
            .position(|(known, _)| calls::fits(known, name));
        match known.map(|at| missing.swap_remove(at)) {
            None => wrong.push(format!("there is a container '{name}' ({does})")),
            Some((_, want)) if *want == does => {}
            Some((_, want)) => wrong.push(format!("'{name}' is {does}, not {want}")),
        }
    }
    wrong.extend(
        missing
            .iter()
            .map(|(name, _)| format!("there is no container '{name}'")),
    );
}

/// What a container does, in a word or two.
fn does(found: &Container) -> String {
    match (found.status, found.health) {
        (ContainerStatus::Created, _) => "created".to_owned(),
        (ContainerStatus::Running, Health::None) => "running".to_owned(),
        (ContainerStatus::Running, Health::Starting) => "starting".to_owned(),
        (ContainerStatus::Running, Health::Healthy) => "healthy".to_owned(),
        (ContainerStatus::Running, Health::Unhealthy) => "unhealthy".to_owned(),
        (ContainerStatus::Stopping, _) => "stopping".to_owned(),
        (ContainerStatus::Stopped, _) => format!("exited {}", found.exit_code.unwrap_or(-1)),
        (ContainerStatus::Dead, _) => "dead".to_owned(),
    }
}

/// The report and the local API.
fn judge_documents(expect: &Expect, state: &State, wrong: &mut Vec<String>) {
    let board = state.board.as_ref().expect("an agent lives");
    let now = v3::Now {
        uptime: state.now,
        wall_secs: 0,
    };
    let device = board.look(|board| v3::device(board, now, false));
    let device: Value = serde_json::from_slice(&device).unwrap();
    if let Some(want) = &expect.device {
        differ("device", want, &device, wrong);
    }
    let report = state.backend.report.as_deref().unwrap_or(b"null");
    let report: Value = serde_json::from_slice(report).unwrap();
    let apps = &report[DEVICE]["apps"];
    if let Some(want) = &expect.report {
        return differ("report", want, apps, wrong);
    }
    let target = board.look(|board| board.target.clone()).unwrap();
    for (uuid, app) in &target.apps {
        if let AppRelease::Wanted(release, _) = &app.release {
            let told = &apps[uuid.as_str()]["releases"][release.as_str()]["update_status"];
            if told != "done" {
                wrong.push(format!("the report says of app '{uuid}': {told}"));
            }
        }
    }
}

/// Members that are wanted and are not so.
fn differ(at: &str, want: &Value, found: &Value, wrong: &mut Vec<String>) {
    match (want, found) {
        (Value::Object(want), Value::Object(found)) if !want.is_empty() => {
            for (name, want) in want {
                let found = found.get(name).unwrap_or(&Value::Null);
                differ(&format!("{at}.{name}"), want, found, wrong);
            }
        }
        _ if want == found => {}
        _ => wrong.push(format!("{at} is {found}, not {want}")),
    }
}
