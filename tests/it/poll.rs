//! The backend's side: polls, reports, rejected targets.

use serde_json::{Value, json};

use crate::support::engine::{App, app, service};
use crate::support::{Agent, Backend, Options, Scratch, alone, unique, until};

struct Managed {
    uuid: String,
    backend: Backend,
    agent: Agent,
    dir: Scratch,
}

fn start(backend: Backend, uuid: &str, dir: Scratch) -> Managed {
    let url = backend.url();
    let args = vec![
        "--uuid",
        uuid,
        "--remote-api-endpoint",
        &url,
        "--remote-api-key",
        "secret-key",
        "--remote-poll-min-interval-ms",
        "100",
        "--remote-poll-interval-ms",
        "60000",
    ];
    let agent = Agent::start(
        &dir.0,
        &Options {
            args,
            ..Options::default()
        },
    );
    Managed {
        uuid: uuid.to_owned(),
        backend,
        agent,
        dir,
    }
}

fn target(uuid: &str, apps: Value) -> Value {
    json!({uuid: {"name": "a-device", "config": {}, "apps": apps}})
}

/// The newest report about an app that satisfies `check`.
fn reported(backend: &Backend, uuid: &str, app: &str, check: impl Fn(&Value) -> bool) -> Value {
    until("the report", || {
        let last = backend.reports().pop()?;
        let found = last[uuid]["apps"][app].clone();
        check(&found).then_some(found)
    })
}

#[test]
fn int_09_a_target_is_polled_applied_and_reported() {
    let (_alone, mine, uuid) = (alone(), App::new(), unique());
    let backend = Backend::start();
    let body = |value: &str| {
        app(
            "aa11",
            json!({"services": {
        "main": service(7, json!({"environment": {"A": value}}))}}),
        )
    };
    backend.set_target(&target(&uuid, json!({&mine.0: body("1")})));
    let it = start(backend, &uuid, Scratch::new());
    it.agent.wait_for_log("is at its target");
    it.agent.wait_for("done");
    assert!(mine.is_running("main"));
    let found = reported(&it.backend, &uuid, &mine.0, |app| {
        app["release_uuid"] == "aa11"
    });
    let release = &found["releases"]["aa11"];
    assert_eq!(release["update_status"], "done");
    assert_eq!(release["services"]["main"]["status"], "Running");
    let image = release["services"]["main"]["image"].as_str().unwrap();
    assert!(!image.ends_with(":1"), "no tag (R-REP-11): {image}");
    assert_eq!(it.agent.get("/v3/device")["name"], "a-device");

    // Unchanged: a conditional request, a 304, and nothing is done.
    let (polls, id) = (
        it.backend.requests(&format!("GET /device/v3/{uuid}/state")),
        mine.id("main"),
    );
    // The answer takes longer than the look at the status.
    it.backend.delay("poll", 2000);
    assert_eq!(it.agent.call("POST", "/v1/update", None).0, 202);
    assert_eq!(
        it.agent.status(),
        "applying changes",
        "before the 202 left (D-17)"
    );
    it.agent.wait_for("done");
    assert!(it.backend.requests(&format!("GET /device/v3/{uuid}/state")) > polls);
    assert_eq!(mine.id("main"), id);

    // Changed: applied at once.
    it.backend
        .set_target(&target(&uuid, json!({&mine.0: body("2")})));
    assert_eq!(
        it.agent
            .call("POST", "/v1/update", Some(&json!({"force": false})))
            .0,
        202
    );
    until("the new container", || {
        (mine.service("main").is_some() && mine.id("main") != id).then_some(())
    });
    it.agent.wait_for("done");

    // An app that leaves the target goes.
    it.backend.set_target(&target(&uuid, json!({})));
    it.agent.call("POST", "/v1/update", None);
    until("the app to go", || {
        mine.containers().is_empty().then_some(())
    });
    assert!(
        !it.agent.log().contains("secret-key"),
        "the key is in the log"
    );
    assert_eq!(it.agent.stop(), Some(0));
}

#[test]
fn int_08_d_16_s_poll_28_a_bad_release_rejects_its_app_and_is_reported() {
    let (_alone, good, bad, uuid) = (alone(), App::new(), App::new(), unique());
    let backend = Backend::start();
    let fine = |release: &str| {
        app(
            release,
            json!({"services": {"main": service(7, json!({}))}}),
        )
    };
    backend.set_target(&target(&uuid, json!({&bad.0: fine("bb11")})));
    let it = start(backend, &uuid, Scratch::new());
    until("the first release", || bad.is_running("main").then_some(()));
    let id = bad.id("main");
    let broken = app(
        "bb22",
        json!({"services": {"main": service(7, json!({"command": "echo 'open"}))}}),
    );
    it.backend.set_target(&target(
        &uuid,
        json!({&bad.0: broken, &good.0: fine("cc11")}),
    ));
    it.agent.call("POST", "/v1/update", None);
    until("the good app", || good.is_running("main").then_some(()));
    it.agent.wait_for("aborted");
    assert_eq!(bad.id("main"), id, "what runs is kept");
    let shown = it.agent.get(&format!("/v3/device/apps/{}", bad.0));
    assert_eq!(shown["rejected_release"], "bb22");
    it.agent.wait_for_log("composition.command");
    let found = reported(&it.backend, &uuid, &bad.0, |app| {
        !app["releases"]["bb22"].is_null()
    });
    assert_eq!(
        found["releases"]["bb22"],
        json!({"update_status": "rejected", "services": {}})
    );
    assert_eq!(
        found["releases"]["bb11"]["services"]["main"]["status"],
        "Running"
    );
}

#[test]
fn a_document_that_is_no_target_changes_nothing() {
    let (_alone, mine, uuid) = (alone(), App::new(), unique());
    let backend = Backend::start();
    let body = app("dd11", json!({"services": {"main": service(7, json!({}))}}));
    backend.set_target(&target(&uuid, json!({&mine.0: body})));
    let it = start(backend, &uuid, Scratch::new());
    until("the app", || mine.is_running("main").then_some(()));
    it.backend.set_target(&json!({&uuid: {"name": 5}}));
    it.agent.call("POST", "/v1/update", None);
    it.agent.wait_for("rejected");
    it.agent.wait_for_log("name");
    assert!(mine.is_running("main"));

    // Nor does it after a restart: the last good target is the one that is kept (FD-25).
    let Managed {
        uuid,
        backend,
        agent,
        dir,
    } = it;
    agent.kill();
    let id = mine.id("main");
    crate::support::engine::call("DELETE", &format!("/containers/{id}?force=true"), None);
    let it = start(backend, &uuid, dir);
    until("the app of the last good target", || {
        mine.is_running("main").then_some(())
    });
    it.agent.wait_for("rejected");
}

#[test]
fn fd_24_fd_25_the_last_target_runs_without_the_backend() {
    let (_alone, mine, uuid) = (alone(), App::new(), unique());
    let backend = Backend::start();
    let body = app("ee11", json!({"services": {"main": service(7, json!({}))}}));
    backend.set_target(&target(&uuid, json!({&mine.0: body})));
    let it = start(backend, &uuid, Scratch::new());
    until("the app", || mine.is_running("main").then_some(()));
    it.agent.wait_for("done");
    let Managed {
        uuid,
        backend,
        agent,
        dir,
    } = it;
    agent.kill();
    crate::support::engine::call(
        "DELETE",
        &format!("/containers/{}?force=true", mine.id("main")),
        None,
    );
    // The next one talks to nobody.
    let gone = backend.url();
    drop(backend);
    let args = vec![
        "--uuid",
        &uuid,
        "--remote-api-endpoint",
        &gone,
        "--remote-api-key",
        "secret-key",
    ];
    let agent = Agent::start(
        &dir.0,
        &Options {
            args,
            ..Options::default()
        },
    );
    until("the app again", || mine.is_running("main").then_some(()));
    agent.wait_for("done");
}

#[test]
fn r_rep_4_a_backend_that_fails_gets_the_newest_state_later() {
    let (_alone, mine, uuid) = (alone(), App::new(), unique());
    let backend = Backend::start();
    let body = app("ff11", json!({"services": {"main": service(7, json!({}))}}));
    backend.set_target(&target(&uuid, json!({&mine.0: body})));
    backend.fail(503, 2);
    let it = start(backend, &uuid, Scratch::new());
    it.agent.wait_for_log("503");
    let found = reported(&it.backend, &it.uuid, &mine.0, |app| {
        app["release_uuid"] == "ff11"
    });
    assert_eq!(found["releases"]["ff11"]["update_status"], "done");
}

/// Target-state 4.2, 4.5: what a service is told and held against comes from the device.
#[test]
fn ts_4_2_ts_4_5_the_key_for_who_asks_and_contracts_app_by_app() {
    let (_alone, mine, uuid) = (alone(), App::new(), unique());
    let backend = Backend::start();
    let asks = json!({"labels": {"io.balena.features.balena-api": "1"}});
    let good = app(
        "aa11",
        json!({"services": {"asks": service(7, asks), "does-not": service(8, json!({}))}}),
    );
    let mut main = service(9, json!({}));
    main["contract"] = json!({"requires": [{"type": "sw.kernel", "version": ">=900"}]});
    let bad = app("bb22", json!({"services": {"main": main}}));
    backend.set_target(&target(&uuid, json!({&mine.0: good, "b": bad})));
    let url = backend.url();
    let it = start(backend, &uuid, Scratch::new());
    it.agent.wait_for_log("is at its target");
    it.agent
        .wait_for_log("the contract requires sw.kernel >=900");
    let env = |name: &str| {
        let found = mine.service(name).unwrap();
        let env = found["Config"]["Env"].as_array().unwrap().clone();
        env.iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for prefix in ["BALENA", "RESIN"] {
        assert!(env("asks").contains(&format!("{prefix}_API_KEY=secret-key")));
        assert!(env("asks").contains(&format!("{prefix}_API_URL={url}")));
    }
    assert!(!env("does-not").iter().any(|one| one.contains("secret-key")));
    assert!(!it.agent.log().contains("secret-key"));
    until("the rejected release", || {
        let (_, app) = it.agent.call("GET", "/v3/device/apps/b", None);
        (app["rejected_release"] == "bb22").then_some(())
    });
}
