//! Situations that take more than a document: what an engine refuses at every step, what
//! takes long, what somebody does at the very moment, and who the agent itself is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use helios::base::uptime::Uptime;
use helios::flows::api::v3;
use helios::flows::poll;
use helios::flows::seek::seeker::Options;
use helios::model::ImageUri;
use helios::model::status::{ContainerStatus, UpdateStatus};
use helios::world::engine::{HostFacts, Kind};

use super::checks;
use super::life::{DEVICE, Given, live_and_look};
use super::scenarios::document;
use super::scenarios::play::set_target;
use super::world::{State, World};

/// A target has so long to be reached.
const STEP: u64 = 900;

fn at(secs: u64) -> Uptime {
    Uptime::from_start(Duration::from_secs(secs))
}

/// A world in which this target was reached; its agent is gone.
fn reached(target: &Value, place: impl FnOnce(&mut State)) -> World {
    fastrand::seed(1);
    let world = World::new(1);
    world.with(|state| {
        place(state);
        set_target(state, document::device(target));
    });
    live(&world, at(STEP));
    world.with(|state| state.calls.clear());
    world
}

/// An agent lives until `until`; nothing is wrong meanwhile.
fn live(world: &World, until: Uptime) {
    look_after(world, until, |_| {});
}

fn look_after<R>(world: &World, until: Uptime, look: impl FnOnce(&mut State) -> R) -> R {
    let mut seen = None;
    live_and_look(world, &Given::honest(world), until, || {
        seen = Some(world.with(look));
    });
    world.with(|state| {
        let violations = std::mem::take(&mut state.violations);
        assert!(
            violations.is_empty(),
            "{violations:?}\n{}",
            state.history.join("\n")
        );
    });
    seen.unwrap()
}

/// The next agent starts with this target.
fn next_target(state: &mut State, target: &Value) {
    let document = document::device(target);
    state.backend.kept = Some(document.clone());
    set_target(state, document);
}

/// What is not as the target says.
fn wrong(state: &mut State) -> Vec<String> {
    state.quiet_since = Some((state.disk.writes, state.calls.len()));
    let (_, document) = state.backend.target.clone().unwrap();
    let target = poll::read(&document, DEVICE, &HostFacts::default()).unwrap();
    checks::in_the_end(state, &target)
}

fn times(state: &State, what: &str) -> usize {
    let is_it = |call: &&super::world::Call| call.done && call.what == what;
    state.calls.iter().filter(is_it).count()
}

fn app(release: &str, services: &Value) -> Value {
    json!({"release": release, "services": services})
}

/// Calls of an update that has all that there is, and whether they are told by name.
const STEPS: &[&str] = &[
    "ask for the version",
    "watch events",
    "list containers",
    "list images",
    "list networks",
    "list volumes",
    "inspect",
    "inspect an image",
    "pull",
    "create container",
    "start container",
    "stop container",
    "rename container",
    "remove container",
    "create network",
    "remove network",
    "create volume",
    "remove volume",
    "remove image",
];

#[test]
fn fd_19_a_404_or_409_at_any_step_ends_at_the_target() {
    let before = json!({"apps": {
        "A": {"release": "R1", "networks": {"n": {}, "gone": {}}, "volumes": {"v": {}}, "services": {
            "keep": {"image": "keep:1"},
            "db": {"image": "db:1", "volumes": ["v:/v"], "networks": ["n"]},
            "web": {"image": "web:1"},
            "old": {"image": "old:1", "networks": ["gone"]},
        }},
        "B": {"release": "R1", "volumes": {"v": {}}, "services": {"b": {"image": "b:1", "volumes": ["v:/v"]}}},
    }});
    let target = json!({"apps": {"A": {
        "release": "R2", "networks": {"n": {"internal": true}}, "volumes": {"v": {}, "w": {}},
        "services": {
            "keep": {"image": "keep:1"},
            "db": {"image": "db:1", "volumes": ["v:/v"], "networks": ["n"]},
            "web": {"image": "web:2"},
            "new": {"image": "new:1", "volumes": ["w:/w"]},
        },
    }}});
    let mut failed = Vec::new();
    for step in STEPS {
        for kind in [Kind::Gone, Kind::Conflict] {
            for count in [1, 4] {
                let world = reached(&before, |_| {});
                world.with(|state| {
                    state.refusals.push(((*step).to_owned(), kind, count));
                    next_target(state, &target);
                });
                // What is overlooked is found by the next look at everything.
                let wrong = look_after(&world, at(3 * STEP), |state| {
                    let mut wrong = wrong(state);
                    if state.refusals[0].2 > 0 {
                        wrong.push("it was not asked for that often".to_owned());
                    }
                    wrong
                });
                if !wrong.is_empty() {
                    failed.push(format!("{step}, {kind:?}, {count} times: {wrong:?}"));
                }
            }
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn fd_20_a_container_that_does_not_stop_holds_up_nothing_else() {
    let services = |command: &str| {
        json!({
            "db": {"image": "db:1", "command": [command]},
            "web": {"image": "web:1", "command": [command]},
        })
    };
    let before = json!({"apps": {"A": app("R1", &services("1"))}});
    let world = reached(&before, |_| {});
    world.with(|state| {
        let found = state.engine.containers.get_mut("db_R1").unwrap();
        found.will_not_stop = true;
        let other = app("R1", &json!({"b": {"image": "b:1"}}));
        let target = json!({"apps": {"A": app("R2", &services("2")), "B": other}});
        next_target(state, &target);
    });
    let until = at(STEP + 300);
    look_after(&world, until, |state| {
        let runs = |name: &str| {
            let found = state.engine.containers.get(name);
            found.map(|found| found.container.status) == Some(ContainerStatus::Running)
        };
        for name in ["web_R2", "b_R1", "db_R1"] {
            assert!(runs(name), "{name}");
        }
        let board = state.board.clone().unwrap();
        board.look(|board| {
            assert_eq!(board.status, UpdateStatus::ApplyingChanges);
            let reason = board.reason.as_deref().unwrap_or_default();
            assert!(reason.contains("does not stop"), "{reason}");
            let now = v3::Now {
                uptime: state.now,
                wall_secs: 0,
            };
            let device: Value = serde_json::from_slice(&v3::device(board, now, true)).unwrap();
            let text = device.to_string();
            assert!(text.contains("does not stop"), "{text}");
        });
        // Not without end: each try has a longer wait before it.
        let tries = state.calls.iter();
        let tries = tries.filter(|call| call.what == "stop db_R1").count();
        assert!((2..12).contains(&tries), "{tries} tries");
        let found = state.engine.containers.get_mut("db_R1").unwrap();
        found.will_not_stop = false;
    });
    let wrong = look_after(&world, at(2 * STEP), wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn fd_23_a_long_stop_of_one_app_makes_nobody_blind() {
    let slow = |command: &str| json!({"s": {"image": "s:1", "command": [command], "labels": {"sim": "slow"}}});
    let mut first = app("R1", &json!({"web": {"image": "web:1", "networks": ["n"]}}));
    first["networks"] = json!({"n": {}});
    let mut other = app("R1", &json!({}));
    other["networks"] = json!({"spare": {}});
    let apps = |slow| json!({"apps": {"A": first, "B": slow, "C": other}});
    let world = reached(&apps(app("R1", &slow("1"))), |_| {});
    let target = apps(app("R2", &slow("2")));
    world.with(|state| {
        next_target(state, &target);
        state.at(at(STEP + 20), |state| {
            state.prune_by_hand();
            state.disconnect_by_hand("web_R1");
        });
    });
    look_after(&world, at(STEP + 22), |state| {
        let board = state.board.clone().unwrap();
        assert!(board.look(|board| board.active > 0), "it stops still");
        assert_eq!(times(state, "create network spare_C"), 1);
        assert_eq!(times(state, "create web_R1"), 1);
    });
    let wrong = look_after(&world, at(3 * STEP), wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn fd_23_somebody_who_cleans_up_costs_one_look() {
    let target = json!({"apps": {"A": app("R1", &json!({"web": {"image": "web:1"}}))}});
    let world = reached(&target, |_| {});
    world.with(|state| {
        next_target(state, &target);
        // Counts the looks, too.
        state.at(at(STEP + 99), |state| {
            let refusal = ("list containers".to_owned(), Kind::Failed, 100);
            state.refusals.push(refusal);
        });
        for event in 0..100 {
            let at = at(STEP + 100) + Duration::from_millis(9 * event);
            state.at(at, |state| state.engine.tell("image", "untag", "sha256:1"));
        }
    });
    let looks = look_after(&world, at(STEP + 103), |state| 100 - state.refusals[0].2);
    assert_eq!(looks, 1);
}

#[test]
fn fd_27_nobody_hands_over_while_nobody_can_see_to_whom() {
    let services = |command: &str| {
        let labels = json!({"io.balena.update.strategy": "hand-over"});
        json!({"web": {"image": "web:1", "command": [command], "labels": labels}})
    };
    let world = reached(&json!({"apps": {"A": app("R1", &services("1"))}}), |_| {});
    world.with(|state| {
        next_target(state, &json!({"apps": {"A": app("R2", &services("2"))}}));
        state.at(at(STEP + 20), |state| state.engine.set_down(true));
        state.at(at(STEP + 25), |state| {
            assert!(state.engine.containers.contains_key("web_R2"));
            state.remove_by_hand("web_R2");
        });
        state.at(at(STEP + 200), |state| state.engine.set_down(false));
    });
    let wrong = look_after(&world, at(2 * STEP), |state| {
        assert_eq!(times(state, "start web_R2"), 2);
        wrong(state)
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn d_40_an_override_of_the_target_acts_at_once_also_while_a_plan_runs() {
    let services = |command: &str| json!({"web": {"image": "web:1", "command": [command]}});
    let slow = |command: &str| json!({"s": {"image": "s:1", "command": [command], "labels": {"sim": "slow"}}});
    let apps = |release: &str, command: &str| json!({"A": app(release, &services(command)), "B": app(release, &slow(command))});
    let world = reached(&json!({"apps": apps("R1", "1")}), |_| {});
    let (stopped, told) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    world.with(|state| {
        next_target(state, &json!({"apps": apps("R2", "2")}));
        state
            .dirs
            .theirs
            .insert("/run/helios/update-locks/A/web".to_owned());
        let config = json!({"SUPERVISOR_OVERRIDE_LOCK": "1"});
        let target = json!({"config": config, "apps": apps("R2", "2")});
        state.at(at(STEP + 20), move |state| {
            set_target(state, document::device(&target));
        });
        let notes = stopped.clone();
        let note = move |state: &mut State| *notes.lock().unwrap() = Some(state.now);
        state.upon.push(("stop web_R1".to_owned(), Box::new(note)));
        let notes = told.clone();
        let note = move |state: &mut State| *notes.lock().unwrap() = Some(state.now);
        state
            .upon
            .push(("target 3 is told".to_owned(), Box::new(note)));
    });
    look_after(&world, at(STEP + 200), |state| {
        let board = state.board.clone().unwrap();
        assert_eq!(
            board.look(|board| board.active),
            1,
            "the other one stops still"
        );
    });
    let (told, stopped) = (told.lock().unwrap().unwrap(), *stopped.lock().unwrap());
    let stopped = stopped.expect("the lock is overridden");
    assert!(told > at(STEP + 20) && stopped - told < Duration::from_secs(5));
}

#[test]
fn se_w_08_nothing_of_a_target_is_begun_once_it_is_cancelled() {
    let services = |command: &str| {
        json!({
            "a": {"image": "a:1", "command": [command], "labels": {"sim": "slow"}},
            "b": {"image": "a:1", "command": [command], "depends_on": ["a"]},
            "c": {"image": "a:1", "command": [command]},
        })
    };
    let world = reached(&json!({"apps": {"A": app("R1", &services("1"))}}), |_| {});
    let before = Arc::new(Mutex::new(0));
    world.with(|state| {
        for (secs, release, command) in [(20, "R2", "2"), (60, "R3", "3")] {
            let short = app(release, &services(command));
            let body = document::app("A", &short).to_string().into_bytes();
            state
                .edits
                .push_back((at(STEP + secs), "A".to_owned(), body));
        }
        let options = Options {
            force: false,
            cancel: true,
        };
        state.wishes.push_back((at(STEP + 61), options));
        let before = before.clone();
        state.at(at(STEP + 62), move |state| {
            *before.lock().unwrap() = state.calls.len();
        });
    });
    look_after(&world, at(2 * STEP), |state| {
        let (before, after) = state.calls.split_at(*before.lock().unwrap());
        assert!(before.iter().any(|call| call.what == "create a_R2"));
        let begun = after.iter().filter(|call| {
            let is_new = call.what.starts_with("create ") || call.what.starts_with("start ");
            is_new && call.what.ends_with("_R2")
        });
        assert_eq!(begun.count(), 0, "{after:?}");
        for name in ["a_R3", "b_R3", "c_R3"] {
            let found = &state.engine.containers[name].container;
            assert_eq!(found.status, ContainerStatus::Running, "{name}");
        }
        assert_eq!(state.engine.containers.len(), 3);
        let board = state.board.clone().unwrap();
        assert_eq!(board.look(|board| board.status), UpdateStatus::Done);
    });
}

#[test]
fn fd_14_an_old_container_goes_only_while_its_successor_is_there() {
    let services = |command: &str| json!({"web": {"image": "web:1", "command": [command]}});
    let world = reached(&json!({"apps": {"A": app("R1", &services("1"))}}), |_| {});
    world.with(|state| {
        next_target(state, &json!({"apps": {"A": app("R2", &services("2"))}}));
        let remove = |state: &mut State| state.remove_by_hand("web_R2");
        state
            .upon
            .push(("start web_R2".to_owned(), Box::new(remove)));
    });
    look_after(&world, at(2 * STEP), |state| {
        let place = |what: &str| state.calls.iter().rposition(|call| call.what == what);
        assert_eq!(times(state, "start web_R2"), 2);
        assert!(place("start web_R2") < place("remove web_R1"));
        assert_eq!(wrong(state), [""; 0]);
    });
}

#[test]
fn fd_35_releases_that_a_kill_left_on_record_go() {
    let target = json!({"apps": {"A": app("R1", &json!({"web": {"image": "web:1"}}))}});
    let world = reached(&target, |_| {});
    look_after(&world, at(STEP + 100), |state| {
        for release in ["R0", "R00"] {
            let path = format!("apps/A/releases/{release}/installed");
            state.disk.documents.insert(path, b"true".to_vec());
        }
    });
    world.with(|state| next_target(state, &target));
    // The same target, with the next agent.
    let wrong = look_after(&world, at(2 * STEP), wrong);
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn fd_09_what_somebody_loads_after_a_failed_pull_is_not_ours() {
    let target = json!({"apps": {"A": app("R1", &json!({"web": {"image": "web:1"}}))}});
    fastrand::seed(1);
    let world = World::new(1);
    let uri = ImageUri::parse("web:1").unwrap();
    let loaded = uri.clone();
    world.with(|state| {
        state.faults.breaks = 1.0;
        set_target(state, document::device(&target));
        state.at(at(100), move |state| state.engine.add_image(&loaded));
        state.at(at(STEP), |state| {
            set_target(state, document::device(&json!({"apps": {}})));
        });
    });
    look_after(&world, at(2 * STEP), |state| {
        assert!(times(state, "start web_R1") == 1, "it came to be used");
        assert!(state.engine.containers.is_empty(), "and is not any more");
        assert!(state.engine.images.contains_key(&uri));
    });
}

#[test]
fn fd_10_a_damaged_layer_goes_with_the_last_image_that_has_it() {
    let target = json!({"apps": {"A": app("R1", &json!({
        "a": {"image": "a:1"},
        "b": {"image": "b:1", "depends_on": ["a"]},
        "c": {"image": "c:1"},
    }))}});
    let uri = |name: &str| ImageUri::parse(name).unwrap();
    let world = reached(&target, |state| {
        state.engine.family = [uri("a:1"), uri("b:1"), uri("own:1")].into();
        // Somebody loaded this one by hand; it has not that layer any more.
        state.engine.add_image(&uri("own:1"));
        state.engine.damaged = [uri("a:1"), uri("b:1")].into();
        let touch = |state: &mut State| state.violation("what is not damaged is pulled again");
        state
            .upon
            .push(("remove image c:1".to_owned(), Box::new(touch)));
    });
    world.with(|state| next_target(state, &target));
    look_after(&world, at(2 * STEP), |state| {
        assert_eq!(state.engine.damaged, [].into(), "it is still held");
        assert!(state.engine.images.contains_key(&uri("own:1")));
        assert_eq!(wrong(state), [""; 0]);
        assert!(
            state.calls.is_empty(),
            "it was so before: {:?}",
            state.calls
        );
    });
}

#[test]
fn fd_41_an_agent_that_is_a_service_of_the_target_leaves_itself_alone() {
    let services = |command: &str| {
        json!({
            "agent": {"image": "agent:1", "command": [command], "networks": ["n"]},
            "web": {"image": "web:1", "command": [command], "networks": ["n"]},
        })
    };
    let target = |release: &str, command: &str| {
        let mut app = app(release, &services(command));
        app["networks"] = json!({"n": {"internal": command == "2"}});
        json!({"apps": {"A": app}})
    };
    let world = reached(&target("R1", "1"), |_| {});
    let before = world.with(|state| {
        let found = state.engine.containers["agent_R1"].clone();
        state.own = Some(found.container.id.clone());
        next_target(state, &target("R2", "2"));
        found.container
    });
    look_after(&world, at(2 * STEP), |state| {
        assert_eq!(state.engine.containers["agent_R1"].container, before);
        assert_eq!(times(state, "start web_R2"), 1);
        let names: Vec<_> = state.engine.containers.keys().map(|name| &**name).collect();
        assert_eq!(names, ["agent_R1", "web_R2"]);
        let board = state.board.clone().unwrap();
        assert_eq!(board.look(|board| board.status), UpdateStatus::Done);
        let report: Value = serde_json::from_slice(state.backend.report.as_ref().unwrap()).unwrap();
        let told = &report[DEVICE]["apps"]["A"]["releases"]["R2"];
        assert_eq!(told["update_status"], "done", "{told}");
        assert_eq!(told["services"]["agent"]["status"], "Running", "{told}");
    });
    // It is also left alone when it leaves the release, or its app the target.
    let gone = app("R3", &json!({"web": {"image": "web:1"}}));
    for (step, apps) in [(3, json!({"A": gone})), (4, json!({}))] {
        world.with(|state| next_target(state, &json!({"apps": apps})));
        look_after(&world, at(step * STEP), |state| {
            assert_eq!(state.engine.containers["agent_R1"].container, before);
            let board = state.board.clone().unwrap();
            assert_eq!(board.look(|board| board.status), UpdateStatus::Done);
        });
    }
}

#[test]
fn d_09_the_supervisor_s_own_app_is_left_alone_and_reported_as_running() {
    // Of amd64.
    const OWN: &str = "52e35121417640b1b28a680504e4039b";
    let web = app("R1", &json!({"web": {"image": "web:1"}}));
    let own = app("S2", &json!({"main": {"image": "supervisor:2"}}));
    let world = World::new(1);
    world.with(|state| {
        state.inherit("main_S1", OWN, "main", None);
        set_target(
            state,
            document::device(&json!({"apps": {"A": web, OWN: own}})),
        );
    });
    look_after(&world, at(STEP), |state| {
        assert_eq!(times(state, "start web_R1"), 1);
        let main = &state.engine.containers["main_S1"].container;
        assert_eq!(main.status, ContainerStatus::Running);
        assert_eq!(state.engine.containers.len(), 2);
        let is_pulled = |uri: &ImageUri| uri.as_str().contains("supervisor");
        assert!(!state.engine.pulled.iter().any(is_pulled));
        let report: Value = serde_json::from_slice(state.backend.report.as_ref().unwrap()).unwrap();
        let told = &report[DEVICE]["apps"][OWN]["releases"]["S2"];
        assert_eq!(told["services"]["main"]["status"], "Running", "{told}");
    });
    // Neither does it go when the target does not name it.
    world.with(|state| {
        next_target(state, &json!({"apps": {"A": web}}));
        state.calls.clear();
    });
    look_after(&world, at(2 * STEP), |state| {
        assert_eq!(state.engine.containers.len(), 2);
        let board = state.board.clone().unwrap();
        assert_eq!(board.look(|board| board.status), UpdateStatus::Done);
    });
}

#[test]
fn fd_19_a_paused_container_makes_way_like_one_that_runs() {
    let services = |command: &str| json!({"web": {"image": "web:1", "command": [command]}});
    let old = json!({"old": {"image": "web:1"}, "web": {"image": "web:1", "command": ["1"]}});
    let world = reached(&json!({"apps": {"A": app("R1", &old)}}), |_| {});
    world.with(|state| {
        next_target(state, &json!({"apps": {"A": app("R2", &services("2"))}}));
        state.pause_by_hand("old_R1");
        state.pause_by_hand("web_R1");
    });
    look_after(&world, at(2 * STEP), |state| {
        for name in ["old_R1", "web_R1"] {
            assert_eq!(times(state, &format!("stop {name}")), 1, "{name}");
        }
        assert_eq!(wrong(state), [""; 0]);
    });
    // One that is wanted goes on.
    world.with(|state| state.pause_by_hand("web_R2"));
    look_after(&world, at(3 * STEP), |state| {
        let found = &state.engine.containers["web_R2"].container;
        assert_eq!(found.status, ContainerStatus::Running);
    });
}

#[test]
fn issue_5_what_depends_on_others_stops_before_them() {
    let services = |running: bool| {
        app(
            "R1",
            &json!({
                "db": {"image": "db:1", "running": running},
                "api": {"image": "api:1", "running": running, "depends_on": ["db"]},
                "web": {"image": "web:1", "running": running, "depends_on": ["api"]},
            }),
        )
    };
    let all = json!({"apps": {"A": services(true)}});
    for next in [json!({}), json!({"A": services(false)})] {
        let world = reached(&all, |_| {});
        world.with(|state| next_target(state, &json!({"apps": next})));
        look_after(&world, at(2 * STEP), |state| {
            let stops = state.calls.iter().map(|call| &*call.what);
            let stops: Vec<_> = stops.filter(|what| what.starts_with("stop ")).collect();
            assert_eq!(stops, ["stop web_R1", "stop api_R1", "stop db_R1"]);
            assert_eq!(wrong(state), [""; 0]);
        });
    }
}
