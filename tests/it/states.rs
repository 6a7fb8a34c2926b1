//! Containers in states that nobody wants them in, on a real engine.

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, service};
use crate::support::proxy::Proxy;
use crate::support::{Agent, Options, Scratch, alone, until};

fn start(dir: &Scratch) -> Agent {
    Agent::start(&dir.0, &Options::default())
}

fn two(changed: &str) -> Value {
    let more = || json!({"environment": {"A": changed}, "stop_grace_period": "1s"});
    json!({"services": {"web": service(1, more()), "db": service(2, more())}})
}

fn post(path: &str, body: Option<&Value>) {
    let (status, said) = call("POST", path, body);
    assert!((200..300).contains(&status), "{path}: {said}");
}

#[test]
fn fd_20_a_container_that_cannot_be_stopped_holds_up_nothing_else() {
    let (_alone, dir, mine, other) = (alone(), Scratch::new(), App::new(), App::new());
    let proxy = Proxy::start(&dir.0);
    let options = Options {
        engine: Some(proxy.url.clone()),
        ..Options::default()
    };
    let agent = Agent::start(&dir.0, &options);
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    let (web, db) = (mine.id("web"), mine.id("db"));
    // What an engine says of a process that even a kill does not end.
    let said = "tried to kill container, but did not receive an exit event";
    proxy.refuse(Some(("/containers/db_r1/stop", said)));
    agent.set(&mine.0, &app("r2", two("2")));
    until("the other service of the app", || {
        let found = mine.service("web")?;
        let is_new = found["Id"] != *web && found["State"]["Running"] == true;
        (is_new && mine.containers().len() == 3).then_some(())
    });
    let one = json!({"services": {"main": service(1, json!({}))}});
    agent.set(&other.0, &app("r1", one));
    until("the other app", || other.is_running("main").then_some(()));
    // Said of the service that it is about, with the next try.
    until("the trouble", || {
        let device = agent.get("/v3/device?detail=true").to_string();
        device.contains(said).then_some(())
    });
    until("the reason", || {
        let status = agent.get("/v3/status?detail=true");
        assert_eq!(status["status"], "applying changes");
        let reason = status["reason"].as_str()?;
        reason.contains("service 'db'").then_some(())
    });
    assert_eq!(
        agent.call("GET", "/ping", None).0,
        200,
        "its own health is good"
    );
    proxy.refuse(None);
    agent.wait_for("done");
    assert_ne!(mine.id("db"), db);
    assert_eq!(mine.containers().len(), 2);
}

#[test]
fn fd_19_a_paused_container_makes_way_and_one_that_is_wanted_goes_on() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    agent.kill();
    let before = (mine.id("web"), mine.id("db"));
    post(&format!("/containers/{}/pause", before.0), None);
    post(&format!("/containers/{}/pause", before.1), None);
    let agent = start(&dir);
    // One is replaced, the other leaves.
    let mut body = two("2");
    body["services"].as_object_mut().unwrap().remove("db");
    agent.set(&mine.0, &app("r2", body));
    agent.wait_for("done");
    assert_ne!(mine.id("web"), before.0);
    assert_eq!(mine.containers().len(), 1);

    post(&format!("/containers/{}/pause", mine.id("web")), None);
    until("the container to go on", || {
        let found = mine.service("web")?;
        (found["State"]["Paused"] == false).then_some(())
    });
}

#[test]
fn d_11_a_container_that_somebody_takes_off_its_network_is_made_again_at_once() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = json!({
        "services": {
            "web": service(1, json!({"networks": ["front"]})),
            "db": service(2, json!({"networks": ["front"]})),
        },
        "networks": {"front": {}},
    });
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    let before = (mine.id("web"), mine.id("db"));
    let networks = mine.networks();
    let front = networks[0]["Id"].as_str().unwrap();
    let leave = json!({"Container": before.0, "Force": true});
    post(&format!("/networks/{front}/disconnect"), Some(&leave));
    until("the container to be made again", || {
        let found = mine.service("web")?;
        (found["Id"] != *before.0 && found["State"]["Running"] == true).then_some(())
    });
    agent.wait_for("done");

    // One that came to another network, too.
    let (web, name) = (mine.id("web"), mine.0.clone());
    post(
        "/networks/create",
        Some(&json!({"Name": format!("foreign-{name}")})),
    );
    let join = json!({"Container": web});
    post(&format!("/networks/foreign-{name}/connect"), Some(&join));
    until("the container to be made again", || {
        let found = mine.service("web")?;
        (found["Id"] != *web && found["State"]["Running"] == true).then_some(())
    });
    agent.wait_for("done");
    assert_eq!(mine.id("db"), before.1);
    call("DELETE", &format!("/networks/foreign-{name}"), None);
}

#[test]
fn fd_41_an_agent_that_is_a_service_of_its_own_target_leaves_itself_alone() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", two("1")));
    agent.wait_for("done");
    agent.kill();
    // From now on it sees what it would see in the container of 'db'.
    let options = Options {
        inside: Some(mine.id("db")),
        ..Options::default()
    };
    let agent = Agent::start(&dir.0, &options);
    let (web, before) = (mine.id("web"), mine.service("db").unwrap());
    agent.set(&mine.0, &app("r2", two("2")));
    agent.wait_for("done");
    agent.wait_for_log("is left as it is: this agent runs in it");
    assert_ne!(mine.id("web"), web);
    let now = mine.service("db").unwrap();
    for place in ["/Id", "/Name", "/State"] {
        assert_eq!(now.pointer(place), before.pointer(place), "{place}");
    }
    // Nor does it go with its app.
    agent.remove(&mine.0);
    agent.wait_for("done");
    assert!(mine.is_running("db"));
}
