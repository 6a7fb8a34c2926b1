//! Updates of the host's OS (state-engine 6, 11.2, 11.10): with apps beside them, kills at every
//! moment, and machines that do not do as they should.

use std::time::Duration;

use serde_json::{Value, json};

use helios::base::uptime::Uptime;
use helios::model::current::OperatingSystem;
use helios::model::status::UpdateStatus;

use super::life::{DEVICE, Given, live_and_look};
use super::machine::{self, Run};
use super::scenarios::document;
use super::scenarios::play::set_target;
use super::world::{State, World};

mod broken;

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

fn os(text: &str) -> Option<OperatingSystem> {
    let (version, build) = match text.split_once('@') {
        Some((version, build)) => (version, Some(build.into())),
        None => (text, None),
    };
    Some(OperatingSystem {
        name: "balenaOS".into(),
        version: Some(version.into()),
        build,
    })
}

/// A document with apps and this release of the host; its board revision is its name.
fn target(apps: Value, host: Option<&str>) -> Vec<u8> {
    let document = document::device(&json!({ "apps": apps }));
    let mut document: Value = serde_json::from_slice(&document).unwrap();
    if let Some(release) = host {
        document[DEVICE]["apps"]["happ9"] = json!({"id": 9, "name": "os", "is_host": true, "releases": {
            release: {"id": 3, "services": {"hostapp": {
                "id": 4,
                "image": "registry.example/os@sha256:0123456789abcdef0123456789abcdef",
                "composition": {"labels": {
                    "io.balena.image.class": "hostapp",
                    "io.balena.private.updater": "registry.example/hup:1",
                    "io.balena.private.hostapp.board-rev": release,
                }},
            }}},
        }});
    }
    document.to_string().into_bytes()
}

fn one_app(release: &str) -> Value {
    json!({"A": {"release": release, "services": {"web": {"image": format!("web:{release}")}}}})
}

/// A host that runs b0 and should run h1.
fn world(apps: Value) -> World {
    fastrand::seed(1);
    let world = World::new(1);
    world.with(|state| {
        state.host.os = os("6.1@b0");
        set_target(state, target(apps, Some("h1")));
    });
    world
}

/// Agents live until `until`, each until it is killed; then this one is looked at.
fn live<R>(world: &World, until: Uptime, look: impl Fn(&mut State) -> R) -> R {
    live_with(world, until, |_| {}, look)
}

/// The same, with something that happens after each kill.
fn live_with<R>(
    world: &World,
    until: Uptime,
    after_kill: impl Fn(&mut State),
    look: impl Fn(&mut State) -> R,
) -> R {
    loop {
        let mut seen = None;
        live_and_look(world, &Given::honest(world), until, || {
            seen = Some(world.with(&look));
        });
        world.with(|state| {
            let violations = std::mem::take(&mut state.violations);
            assert!(
                violations.is_empty(),
                "{violations:?}\n{}",
                state.history.join("\n")
            );
        });
        if world.with(|state| state.now >= until) {
            return seen.unwrap();
        }
        world.with(&after_kill);
    }
}

fn shown(state: &mut State) -> (UpdateStatus, String) {
    let board = state.board.clone().unwrap();
    board.look(|board| {
        (
            board.status,
            board.reason.as_deref().unwrap_or_default().to_owned(),
        )
    })
}

fn build(state: &State) -> String {
    let os = state.host.os.as_ref().unwrap();
    os.build
        .as_ref()
        .or(os.version.as_ref())
        .unwrap()
        .to_string()
}

fn record(state: &State, release: &str) -> Value {
    let path = format!("host/releases/{release}/hostapp");
    let found = state.disk.documents.get(&path);
    found.map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap())
}

#[test]
fn host_01_d_18_a_host_comes_to_its_target_and_says_done() {
    let world = world(one_app("R1"));
    let (status, reason) = live(&world, at(600), shown);
    world.with(|state| {
        let history = || state.history.join("\n");
        assert_eq!(
            (status, &*reason),
            (UpdateStatus::Done, ""),
            "{}",
            history()
        );
        assert_eq!(
            (build(state), state.host.starts, state.host.boots),
            ("h1".to_owned(), 1, 1)
        );
        assert_eq!(record(state, "h1")["status"], "running");
        // Under the lock of the one service, from the start of the unit to the reboot.
        let locked = |what: &str| (what.to_owned(), 1);
        assert_eq!(state.host.held, [locked("start"), locked("reboot")]);
        let images: Vec<_> = state
            .engine
            .images
            .keys()
            .map(|uri| uri.to_string())
            .collect();
        assert!(
            !images.iter().any(|uri| uri.contains("hup")),
            "it is cleaned up: {images:?}"
        );
    });
    let report = world.with(|state| state.backend.report.clone().unwrap());
    let report: Value = serde_json::from_slice(&report).unwrap();
    let host = &report[DEVICE]["apps"]["happ9"];
    assert_eq!(host["release_uuid"], "h1", "{report}");
    assert_eq!(host["releases"]["h1"]["update_status"], "done");
    assert_eq!(
        host["releases"]["h1"]["services"]["hostapp"]["status"],
        "Running"
    );
}

/// Whether the agent, or the machine, is gone only after the machine has started with the new OS:
/// then there is nothing left to be broken off.
fn was_late(world: &World, kill: u32) -> bool {
    world.with(|state| {
        let first = |what| state.history.iter().position(|line| line.contains(what));
        let is_late = first("the machine starts") < first("the agent is gone");
        state.kill_in.is_some() || is_late || kill > 2000
    })
}

#[test]
fn fd_40_killed_at_every_moment_it_converges_with_one_run_of_the_updater() {
    let mut moments = 0;
    for kill in 1.. {
        let world = world(one_app("R1"));
        world.with(|state| state.kill_in = Some(kill));
        let (status, reason) = live(&world, at(900), shown);
        world.with(|state| {
            let history = || format!("killed at {kill}\n{}", state.history.join("\n"));
            assert_eq!(
                (status, &*reason),
                (UpdateStatus::Done, ""),
                "{}",
                history()
            );
            assert_eq!(
                (build(state), state.host.starts),
                ("h1".to_owned(), 1),
                "{}",
                history()
            );
            assert_eq!(state.host.boots, 1, "{}", history());
            assert!(state.dirs.ours.is_empty(), "{}", history());
        });
        moments = kill;
        if was_late(&world, kill) {
            break;
        }
    }
    assert!(moments > 40, "only {moments} moments");
}

#[test]
fn fd_40_w_30_a_machine_that_starts_anew_at_any_moment_converges() {
    let mut moments = 0;
    for kill in 1.. {
        let world = world(one_app("R1"));
        world.with(|state| state.kill_in = Some(kill));
        // It takes agent, unit, breadcrumb and program with it, once.
        let fall = |state: &mut State| {
            if state.host.boots == 0 {
                machine::boot(state);
                state.kill_in = None;
            }
        };
        let (status, reason) = live_with(&world, at(900), fall, shown);
        world.with(|state| {
            let history = || format!("fell at {kill}\n{}", state.history.join("\n"));
            let is_done = (status, &*reason) == (UpdateStatus::Done, "");
            assert!(is_done, "{status:?} {reason} {}", history());
            assert_eq!(build(state), "h1", "{}", history());
            // What was broken off is done once more, and no more than that.
            assert!((1..=2).contains(&state.host.starts), "{}", history());
            let attempts = record(state, "h1")["install_attempts"].as_u64().unwrap();
            assert!(attempts <= 2, "{attempts} {}", history());
            assert!(state.dirs.ours.is_empty(), "{}", history());
        });
        moments = kill;
        if was_late(&world, kill) {
            break;
        }
    }
    assert!(moments > 40, "only {moments} moments");
}

/// The clock is set: else no day ever goes by.
const CLOCK_SET: i64 = 100_000_000;

#[test]
fn int_07_host_04_three_failures_are_enough_for_a_day() {
    let world = world(one_app("R1"));
    world.with(|state| {
        state.wall_step = CLOCK_SET;
        state.host.runs = [Run::Fails; 4].into();
    });
    let (status, reason) = live(&world, at(3000), shown);
    assert_eq!(status, UpdateStatus::Aborted);
    assert!(
        reason.contains("3 attempts failed") && reason.contains("exit code 1"),
        "{reason}"
    );
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (3, 0));
        assert!(state.dirs.ours.is_empty(), "locks are given back");
        let report: Value = serde_json::from_slice(state.backend.report.as_ref().unwrap()).unwrap();
        let release = &report[DEVICE]["apps"]["happ9"]["releases"]["h1"];
        assert_eq!(release["update_status"], "aborted", "{report}");
        assert_eq!(release["services"]["hostapp"]["status"], "Installing");
        assert_eq!(
            report[DEVICE]["apps"]["A"]["releases"]["R1"]["update_status"],
            "done"
        );
        // However often an agent starts.
        state.kill_in = Some(1);
    });
    live(&world, at(4000), |_| {});
    assert_eq!(world.with(|state| state.host.starts), 3);
    // The fourth fails as well, the fifth does not.
    let (status, reason) = live(&world, at(2 * 24 * 3600), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| assert_eq!((state.host.starts, build(state)), (5, "h1".to_owned())));
}

#[test]
fn fd_40_a_host_that_goes_back_is_tried_three_times() {
    let world = world(json!({}));
    world.with(|state| state.host.runs = [Run::GoesBack; 3].into());
    let (status, reason) = live(&world, at(4000), shown);
    assert_eq!(status, UpdateStatus::Aborted, "{reason}");
    assert!(reason.contains("came up with balenaOS 6.1"), "{reason}");
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (3, 3));
        assert_eq!(build(state), "b0");
    });
}

#[test]
fn w_14_an_updater_that_starts_the_host_anew_itself_is_no_failure() {
    let world = world(one_app("R1"));
    world.with(|state| state.host.runs = [Run::Reboots].into());
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| assert_eq!((state.host.starts, state.host.boots), (1, 1)));
}

#[test]
fn w_30_a_host_without_a_board_revision_is_updated_once() {
    let world = world(json!({}));
    world.with(|state| state.host.os = os("6.1"));
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (1, 1));
        state.kill_in = Some(1);
    });
    live(&world, at(1200), |_| {});
    assert_eq!(world.with(|state| state.host.starts), 1, "and stays so");
}

/// Where the lock of the one service is.
const LOCKED: &str = "/run/helios/update-locks/A/web";

#[test]
fn w_14_d_18_a_service_that_holds_its_lock_is_waited_for() {
    for forced in [false, true] {
        let world = world(one_app("R1"));
        world.with(|state| state.dirs.theirs.insert(LOCKED.to_owned()));
        let (status, reason) = live(&world, at(290), shown);
        assert_eq!(status, UpdateStatus::ApplyingChanges);
        assert!(
            reason.contains(&format!("{LOCKED}/updates.lock")),
            "{reason}"
        );
        world.with(|state| {
            assert_eq!(state.host.starts, 0);
            if forced {
                let force = helios::flows::seek::seeker::Options {
                    force: true,
                    cancel: false,
                };
                state.wishes.push_back((at(300), force));
            } else {
                state.at(at(300), |state| {
                    state.dirs.theirs.remove(LOCKED);
                });
            }
        });
        let (status, reason) = live(&world, at(900), shown);
        assert_eq!((status, &*reason), (UpdateStatus::Done, ""), "{forced}");
        assert_eq!(world.with(|state| build(state)), "h1");
    }
}

#[test]
fn w_14_a_lock_that_is_taken_during_the_update_holds_the_reboot_back() {
    // The agent that began is killed; the next one finds the unit, and a service its lock free.
    let world = world(one_app("R1"));
    world.with(|state| {
        let begun = "the updater is half done";
        state.upon.push((
            begun.to_owned(),
            Box::new(|state| {
                state.kill_in = Some(1);
                state.dirs.theirs.insert(LOCKED.to_owned());
            }),
        ));
    });
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!(status, UpdateStatus::ApplyingChanges, "{reason}");
    assert!(reason.contains(LOCKED), "{reason}");
    world.with(|state| {
        assert_eq!((state.host.starts, state.host.boots), (1, 0));
        assert_eq!(record(state, "h1")["status"], "installed");
        state.dirs.theirs.clear();
    });
    live(&world, at(900), |_| {});
    world.with(|state| assert_eq!((state.host.starts, build(state)), (1, "h1".to_owned())));
}

#[test]
fn gap_25_w_14_apps_come_first_and_nothing_of_them_stops_meanwhile() {
    let world = world(one_app("R1"));
    world.with(|state| {
        let begun = "the updater is half done";
        state.upon.push((
            begun.to_owned(),
            Box::new(|state| {
                state.calls.clear();
                set_target(state, target(one_app("R2"), Some("h1")));
            }),
        ));
        state.upon.push((
            "boot 1".to_owned(),
            Box::new(|state| {
                let stops = state
                    .calls
                    .iter()
                    .filter(|call| call.what.starts_with("stop"))
                    .count();
                assert_eq!(stops, 0, "{:?}", state.calls);
            }),
        ));
    });
    let (status, reason) = live(&world, at(900), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        let at = |what: &str| state.history.iter().position(|line| line.contains(what));
        assert!(
            at("start 'web_R1'") < at("the updater runs"),
            "{}",
            state.history.join("\n")
        );
        assert!(state.engine.containers.contains_key("web_R2"));
        assert_eq!((state.host.starts, state.host.boots), (1, 1));
    });
}

#[test]
fn w_22_the_updater_of_another_release_is_waited_for() {
    let world = world(json!({}));
    world.with(|state| {
        let begun = "the updater is half done";
        state.upon.push((
            begun.to_owned(),
            Box::new(|state| {
                set_target(state, target(json!({}), Some("h2")));
            }),
        ));
    });
    let (status, reason) = live(&world, at(900), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""));
    world.with(|state| {
        assert_eq!((state.host.starts, build(state)), (2, "h2".to_owned()));
        assert_eq!(record(state, "h1"), Value::Null, "HOST-02");
    });
}

#[test]
fn host_05_w_26_a_target_without_a_host_is_reached_without_it() {
    let world = world(one_app("R1"));
    live(&world, at(600), |_| {});
    world.with(|state| set_target(state, target(one_app("R1"), None)));
    let (status, reason) = live(&world, at(1200), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""), "INT-05, D-18");
    world.with(|state| {
        assert_eq!(
            record(state, "h1")["status"],
            "running",
            "what is known is kept"
        );
        assert_eq!(state.host.starts, 1);
    });
}

#[test]
fn issue_8_without_a_bus_the_host_is_refused_and_apps_are_not() {
    let world = world(one_app("R1"));
    world.with(|state| state.host.absent = Some("there is no D-Bus at unix:path=/x".to_owned()));
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!(status, UpdateStatus::Aborted);
    assert!(
        reason.contains("there is no D-Bus at unix:path=/x"),
        "{reason}"
    );
    world.with(|state| {
        assert!(state.engine.containers.contains_key("web_R1"));
        state.host.absent = None;
    });
    let (status, reason) = live(&world, at(2400), shown);
    assert_eq!((status, &*reason), (UpdateStatus::Done, ""), "it came back");
}

#[test]
fn gap_14_a_host_that_is_not_known_is_left_alone() {
    let world = world(one_app("R1"));
    world.with(|state| state.host.os = None);
    let (status, reason) = live(&world, at(600), shown);
    assert_eq!(status, UpdateStatus::Aborted);
    assert!(reason.contains("--host-os-version"), "{reason}");
    world.with(|state| {
        assert!(state.engine.containers.contains_key("web_R1"));
        assert_eq!(state.host.starts, 0);
    });
}

#[test]
fn fd_40_nothing_begins_while_the_host_makes_sure_of_its_last_update() {
    let world = world(json!({}));
    world.with(|state| state.host.is_on_trial = true);
    let (status, reason) = live(&world, at(300), shown);
    assert_eq!(status, UpdateStatus::ApplyingChanges);
    assert!(reason.contains("makes sure"), "{reason}");
    world.with(|state| {
        assert_eq!(state.host.starts, 0);
        state.host.is_on_trial = false;
    });
    live(&world, at(900), |_| {});
    assert_eq!(world.with(|state| build(state)), "h1");
}

#[test]
fn fd_40_an_attempt_that_cannot_be_counted_is_not_made() {
    let world = world(json!({}));
    live(&world, at(1), |_| {});
    world.with(|state| state.disk.is_full = true);
    live(&world, at(600), |_| {});
    world.with(|state| {
        assert_eq!(state.host.starts, 0);
        state.disk.is_full = false;
    });
    live(&world, at(2400), |_| {});
    world.with(|state| assert_eq!((state.host.starts, build(state)), (1, "h1".to_owned())));
}
