//! User apps beside a legacy supervisor (D-08): they come over when that one lets them go, with
//! kills at every moment.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use helios::base::uptime::Uptime;
use helios::flows::legacy::desk::{Desk, Fetched};
use helios::flows::legacy::{self, Handing, transfer};
use helios::model::status::{ContainerStatus, UpdateStatus};
use helios::plan::work::Tools;
use helios::world::Pending;
use helios::world::clock::Clock as _;
use helios::world::legacy::{Legacy, LegacyError, Told};
use helios::world::remote::Remote;

use super::life::{DEVICE, Given, live_and_look};
use super::scenarios::document;
use super::scenarios::play::set_target;
use super::world::{State, World};

/// How the legacy supervisor's container is called.
const THEIRS: &str = "web_1_2_old";
/// It asks for its target so often.
const ASKS: Duration = Duration::from_secs(2);

/// A supervisor that takes every wish.
struct Willing;

impl Legacy for Willing {
    fn update(&self, _: bool, _: bool) -> Pending<'_, Result<Told, LegacyError>> {
        Box::pin(async { Ok(Told::Accepted) })
    }

    fn is_applied(&self) -> Pending<'_, Result<bool, LegacyError>> {
        Box::pin(async { Ok(true) })
    }

    fn accepts<'a>(&'a self, _: &'a str) -> Pending<'a, Result<bool, LegacyError>> {
        Box::pin(async { Ok(true) })
    }
}

/// What an agent beside a legacy supervisor does more, and that one itself.
pub async fn run(world: World, tools: Tools, remote: Arc<dyn Remote>) {
    let desk = Arc::new(Desk::new(true));
    desk.set_remote(remote);
    let handing = Handing {
        settle_limit: None,
        legacy: Arc::new(Willing),
        desk: desk.clone(),
        tools: tools.clone(),
    };
    let ours = futures_lite::future::zip(legacy::run(handing), transfer::run(desk.clone(), tools));
    futures_lite::future::zip(ours, theirs(world, desk)).await;
}

/// It removes what its target does not say.
async fn theirs(world: World, desk: Arc<Desk>) {
    loop {
        world.sleep_until(world.now() + ASKS).await;
        let Fetched::Document(_, document) = desk.fetch(None).await else {
            continue;
        };
        let document: Value = serde_json::from_slice(&document).unwrap();
        let app = document[DEVICE]["apps"]
            .as_object()
            .unwrap()
            .values()
            .next();
        let app = app.expect("an app that is not there loses its volumes");
        let releases = app["releases"].as_object().unwrap();
        assert!(releases.values().all(|it| it["volumes"]["v"].is_object()));
        if releases.values().all(|it| it["services"] == json!({})) {
            world.with(|state| {
                if state.engine.containers.contains_key(THEIRS) {
                    let image = helios::model::ImageUri::parse("web:1").unwrap();
                    assert!(state.engine.images.contains_key(&image), "too early");
                    state.note("the legacy supervisor removes its container");
                }
                state.remove_by_hand(THEIRS);
            });
        }
    }
}

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

/// It runs an app, which is to be ours.
fn world() -> World {
    fastrand::seed(1);
    let world = World::new(1);
    let target = json!({"apps": {"A": {
        "release": "R1", "volumes": {"v": {}}, "networks": {"n": {}},
        "services": {
            "web": {"image": "web:1", "volumes": ["v:/v"], "networks": ["n"]},
            "new": {"image": "new:1"},
        },
    }}});
    let document = document::device(&target);
    let number: Value = serde_json::from_slice(&document).unwrap();
    let number = number[DEVICE]["apps"]["A"]["id"].as_u64().unwrap();
    world.with(|state| {
        state.is_beside = true;
        state.inherit(THEIRS, "A", "web", Some(&format!("{number}_v")));
        set_target(state, document);
    });
    world
}

/// Both never run at once, and only the other one takes its container away.
fn check(state: &State, kill: u32) {
    let history = || format!("killed at {kill}\n{}", state.history.join("\n"));
    assert!(
        state.violations.is_empty(),
        "{:?}\n{}",
        state.violations,
        history()
    );
    let started = state
        .history
        .iter()
        .position(|line| line.contains("start container 'web_R1': done"));
    let gone = state
        .history
        .iter()
        .position(|line| line.contains("removes its container"));
    assert!(gone.is_some() && gone < started, "{}", history());
    let touched = |line: &&String| {
        line.contains(&format!("'{THEIRS}'"))
            && ["stop", "remove", "rename", "start"]
                .iter()
                .any(|word| line.contains(word))
    };
    assert_eq!(state.history.iter().find(touched), None, "{}", history());
    let web = &state.engine.containers["web_R1"].container;
    assert_eq!(web.status, ContainerStatus::Running, "{}", history());
    assert_eq!(state.engine.volumes.len(), 1, "{}", history());
    assert_eq!(
        web.volumes.as_slice(),
        state.engine.volumes.keys().cloned().collect::<Vec<_>>()
    );
    let status = state.board.as_ref().unwrap().look(|board| board.status);
    assert_eq!(status, UpdateStatus::Done, "{}", history());
}

/// Agents live until then, one after the other.
fn live(world: &World, until: Uptime, kill: u32) {
    loop {
        let mut is_over = false;
        live_and_look(world, &Given::honest(world), until, || {
            is_over = world.with(|state| {
                let is_over = state.now >= until;
                if is_over {
                    check(state, kill);
                }
                is_over
            });
        });
        if is_over {
            return;
        }
    }
}

#[test]
fn d_08_killed_at_every_moment_of_a_transfer_nothing_runs_twice_or_is_lost() {
    let mut moments = 0;
    for kill in 1.. {
        let world = world();
        world.with(|state| state.kill_in = Some(kill));
        live(&world, at(900), kill);
        moments = kill;
        let is_late = world.with(|state| {
            let first = |what| state.history.iter().position(|line| line.contains(what));
            state.kill_in.is_some()
                || first("start container 'web_R1': done") < first("the agent is gone")
        });
        if is_late || kill > 2000 {
            break;
        }
    }
    assert!(moments > 40, "only {moments} moments");
}
