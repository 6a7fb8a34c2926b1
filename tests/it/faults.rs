//! An engine that is absent, dies or answers nonsense.

use serde_json::json;

use crate::support::engine::{App, app, call, service};
use crate::support::proxy::Proxy;
use crate::support::{Agent, Options, Scratch, alone, until};

fn start(dir: &Scratch, engine: &str) -> Agent {
    Agent::start(
        &dir.0,
        &Options {
            engine: Some(engine.to_owned()),
            ..Options::default()
        },
    )
}

#[test]
fn fd_27_an_engine_that_comes_late_is_waited_for() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let proxy = Proxy::start(&dir.0);
    proxy.cut();
    let agent = start(&dir, &proxy.url);
    agent.wait_for_log("the engine does not answer");
    assert_eq!(
        agent.call("GET", "/v3/device", None).0,
        503,
        "nothing is known yet (D-34)"
    );
    agent.set(
        &mine.0,
        &app("r1", json!({"services": {"main": service(1, json!({}))}})),
    );
    until("the reason", || {
        let why = agent.get("/v3/status?detail=true");
        why["reason"]
            .as_str()?
            .contains("engine does not answer")
            .then_some(())
    });
    assert_eq!(agent.status(), "applying changes");
    proxy.mend();
    agent.wait_for("done");
    assert!(mine.is_running("main"));
}

#[test]
fn fd_27_an_engine_that_dies_in_mid_apply_is_survived() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let proxy = Proxy::start(&dir.0);
    let agent = start(&dir, &proxy.url);
    agent.get("/v3/device");
    let services: serde_json::Map<_, _> = (0..12)
        .map(|n| (format!("s{n:02}"), service(n, json!({}))))
        .collect();
    agent.set(&mine.0, &app("r1", json!({"services": services})));
    until("the first container", || {
        (!mine.containers().is_empty()).then_some(())
    });
    proxy.cut();
    agent.wait_for_log("the engine does not answer");
    proxy.mend();
    agent.wait_for("done");
    let found = mine.containers();
    assert_eq!(
        found
            .iter()
            .filter(|found| found["State"] == "running")
            .count(),
        12
    );
    assert_eq!(found.len(), 12, "nothing is there twice");
}

#[test]
fn an_engine_that_answers_500_is_told_of_and_waited_for() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let proxy = Proxy::start(&dir.0);
    // What failed for want of an engine does not wait for its next try, ten minutes off.
    let options = Options {
        engine: Some(proxy.url.clone()),
        retry_ms: Some(600_000),
        ..Options::default()
    };
    let mut agent = Agent::start(&dir.0, &options);
    agent.get("/v3/device");
    proxy.answer_500();
    agent.set(
        &mine.0,
        &app("r1", json!({"services": {"main": service(1, json!({}))}})),
    );
    agent.wait_for_log("out of order");
    assert!(agent.is_alive());
    assert_eq!(agent.status(), "applying changes");
    proxy.mend();
    agent.wait_for("done");
    assert!(mine.is_running("main"));
}

#[test]
fn issue_5_a_container_removed_by_force_is_back_before_any_next_try() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let options = Options {
        retry_ms: Some(600_000),
        ..Options::default()
    };
    let agent = Agent::start(&dir.0, &options);
    let services = json!({"main": service(1, json!({"restart": "always"}))});
    agent.set(&mine.0, &app("r1", json!({"services": services})));
    agent.wait_for("done");
    // Its process ends first, and that is told first: by then the engine refuses to start it.
    for _ in 0..3 {
        let old = mine.id("main");
        let path = format!("/containers/{old}?force=true");
        assert_eq!(call("DELETE", &path, None).0, 204);
        until("another container", || {
            let found = mine.service("main")?;
            (found["Id"] != old && found["State"]["Running"] == true).then_some(())
        });
    }
}
