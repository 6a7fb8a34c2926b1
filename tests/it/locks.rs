//! Update locks and update strategies on a real engine (target-state 7).

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, service};
use crate::support::{Agent, Options, Scratch, alone, image, until};

fn start(dir: &Scratch) -> Agent {
    Agent::start(&dir.0, &Options::default())
}

/// Where a service's container has its lock directory on this host.
fn lock_dir(mine: &App, name: &str) -> PathBuf {
    let found = mine.service(name).unwrap();
    let mounts = found["Mounts"].as_array().unwrap();
    let mount = mounts
        .iter()
        .find(|mount| mount["Destination"] == "/tmp/balena");
    mount.unwrap()["Source"].as_str().unwrap().into()
}

fn two(changed: &str) -> Value {
    json!({"services": {
        "web": service(1, json!({"environment": {"A": changed}})),
        "db": service(2, json!({})),
    }})
}

fn is_running(id: &str) -> bool {
    call("GET", &format!("/containers/{id}/json"), None).1["State"]["Running"] == true
}

#[test]
fn fd_06_a_lock_holds_back_stops_and_nothing_else() {
    let (_alone, dir, mine, other) = (alone(), Scratch::new(), App::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    let locks = lock_dir(&mine, "db");
    fs::write(locks.join("resin-updates.lock"), "").unwrap();
    let before = (mine.id("web"), mine.id("db"));

    let mut more = two("2");
    more["services"]["new"] = service(3, json!({}));
    agent.set(&mine.0, &app("r2", more));
    agent.wait_for_log("is held by a service");
    until("the service without a predecessor", || {
        mine.is_running("new").then_some(())
    });
    // Other apps do not wait.
    agent.set(
        &other.0,
        &app("r1", json!({"services": {"main": service(1, json!({}))}})),
    );
    until("the other app", || other.is_running("main").then_some(()));
    until("the reason", || {
        let reason = agent.get("/v3/status?detail=true")["reason"].to_string();
        reason.contains("db/resin-updates.lock").then_some(())
    });
    assert_eq!(agent.status(), "applying changes");
    let detail = agent.get(&format!("/v3/device/apps/{}?detail=true", mine.0));
    let waits = &detail["releases"]["r2"]["services"]["web"]["detail"]["waits_for"];
    assert!(waits.to_string().contains("resin-updates.lock"), "{waits}");
    for id in [&before.0, &before.1] {
        assert!(is_running(id), "nothing is stopped");
        let name = call("GET", &format!("/containers/{id}/json"), None).1["Name"].to_string();
        assert!(name.contains("r1"), "nothing is renamed: {name}");
    }
    assert!(!locks.join("updates.lock").exists(), "none of ours is left");

    fs::remove_file(locks.join("resin-updates.lock")).unwrap();
    agent.wait_for("done");
    assert_eq!(mine.id("db"), before.1, "what did not change goes on");
    assert_eq!(mine.service("db").unwrap()["Name"], "/db_r2");
    assert_ne!(mine.id("web"), before.0);
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0, "no lock of ours");
}

#[test]
fn fd_05_an_override_acts_at_once() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    // The next look at the lock is minutes away.
    let agent = Agent::start(
        &dir.0,
        &Options {
            retry_ms: Some(600_000),
            ..Options::default()
        },
    );
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    let lock = lock_dir(&mine, "web").join("updates.lock");
    fs::write(&lock, "").unwrap();
    let body = app("r1", two("2"));
    agent.set(&mine.0, &body);
    agent.wait_for_log("is held by a service");
    let forced = format!("/v3/device/apps/{}?force=true", mine.0);
    assert_eq!(agent.call("POST", &forced, Some(&body)).0, 202);
    agent.wait_for("done");
    assert!(
        agent
            .log()
            .contains("is disregarded: override was asked for")
    );
    assert!(!lock.exists(), "overriding removes it");
    // It was for that update only.
    fs::write(&lock, "").unwrap();
    agent.set(&mine.0, &app("r1", two("3")));
    until("the next refusal", || {
        (agent.log().matches("is held by a service").count() >= 2).then_some(())
    });
}

#[test]
fn fd_04_a_stopped_service_cannot_hold_a_lock() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = |changed: &str| {
        let mut body = two(changed);
        let once = json!({"command": ["true"], "restart": "no"});
        body["services"]["once"] = service(3, once);
        app("r1", body)
    };
    agent.set(&mine.0, &body("1"));
    agent.wait_for("done");
    until("the end of the one-shot", || {
        (!mine.is_running("once")).then_some(())
    });
    let lock = lock_dir(&mine, "once").join("updates.lock");
    fs::write(&lock, "").unwrap();
    let old = mine.id("web");
    agent.set(&mine.0, &body("2"));
    agent.wait_for("done");
    assert_ne!(mine.id("web"), old);
    assert!(
        agent
            .log()
            .contains("is disregarded: its service does not run")
    );
    assert!(!lock.exists());
}

#[test]
fn fd_03_locks_of_a_killed_agent_block_nothing() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    let locks = lock_dir(&mine, "web");
    // It takes its time to stop, and the agent is killed meanwhile, with the locks held.
    let slow =
        json!({"command": ["sh", "-c", "trap '' TERM; sleep 1000"], "stop_grace_period": "20s"});
    agent.set(
        &mine.0,
        &app("r1", json!({"services": {"web": service(1, slow)}})),
    );
    agent.wait_for("done");
    agent.set(&mine.0, &app("r1", two("2")));
    until("the lock of ours", || {
        locks.join("updates.lock").exists().then_some(())
    });
    agent.kill();
    assert!(locks.join("updates.lock").exists());
    let agent = start(&dir);
    agent.wait_for("done");
    assert_eq!(fs::read_dir(&locks).unwrap().count(), 0);
    assert!(mine.is_running("web"));
}

#[test]
fn fd_03_a_service_that_goes_in_mid_update_leaves_no_lock() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    // 'edge' goes to make room for its network; 'web' needs the locks once more after that.
    let body = |changed: &str, internal: bool| {
        let mut body = two(changed);
        body["services"]["web"]["composition"]["depends_on"] = json!(["db"]);
        body["services"]["db"]["environment"] = json!({"A": changed});
        body["services"]["edge"] = service(3, json!({"networks": ["border"]}));
        body["networks"] = json!({"border": {"internal": internal}});
        app("r1", body)
    };
    agent.set(&mine.0, &body("1", false));
    agent.wait_for("done");
    let locks = lock_dir(&mine, "edge");
    agent.set(&mine.0, &body("2", true));
    agent.wait_for("done");
    until("the locks to go", || {
        (fs::read_dir(&locks).unwrap().count() == 0).then_some(())
    });
}

fn with_strategy(strategy: &str, image: &str, composition: Value) -> Value {
    let mut main = service(1, composition);
    main["image"] = json!(image);
    main["labels"] = json!({
        "io.balena.update.strategy": strategy,
        "io.balena.update.handover-timeout": "3600000",
    });
    json!({"services": {"main": main}})
}

#[test]
fn ts_7_1_kill_and_delete_strategies_stop_before_the_download() {
    let (_alone, dir) = (alone(), Scratch::new());
    let agent = start(&dir);
    let nowhere = format!("{}-nowhere", image());
    for (strategy, goes) in [
        ("download-then-kill", false),
        ("kill-then-download", true),
        ("delete-then-download", true),
    ] {
        let mine = App::new();
        agent.set(
            &mine.0,
            &app("r1", with_strategy(strategy, &image(), json!({}))),
        );
        agent.wait_for("done");
        let old = mine.id("main");
        agent.set(
            &mine.0,
            &app("r2", with_strategy(strategy, &nowhere, json!({}))),
        );
        if goes {
            until("the old container to go", || {
                mine.containers().is_empty().then_some(())
            });
        }
        until("the failed download", || {
            let status = agent.get("/v3/status?detail=true");
            let reason = status["reason"].to_string();
            reason.contains("nowhere").then_some(())
        });
        assert_eq!(is_running(&old), !goes, "{strategy}");
        // Going back is an update like any other.
        agent.set(
            &mine.0,
            &app("r1", with_strategy(strategy, &image(), json!({}))),
        );
        agent.wait_for("done");
        assert!(mine.is_running("main"), "{strategy}");
        agent.remove(&mine.0);
        agent.wait_for("done");
    }
}

#[test]
fn ts_7_1_hand_over_runs_both_until_the_new_one_says_so() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = |changed: &str| {
        let changed = json!({"environment": {"A": changed}});
        app("r1", with_strategy("hand-over", &image(), changed))
    };
    agent.set(&mine.0, &body("1"));
    agent.wait_for("done");
    let old = mine.id("main");
    let dir = lock_dir(&mine, "main");
    // What an earlier one left means nothing.
    fs::write(dir.join("handover-complete"), "").unwrap();
    agent.set(&mine.0, &body("2"));
    until("both to run", || {
        let all = mine.containers();
        let running = all.iter().filter(|found| found["State"] == "running");
        (running.count() == 2).then_some(())
    });
    assert!(is_running(&old));
    assert_eq!(agent.status(), "applying changes");
    fs::write(dir.join("handover-complete"), "").unwrap();
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), 1);
    assert_ne!(mine.id("main"), old);
    assert!(agent.log().contains("took over"));
}
