//! Target to containers, through the local API of an unmanaged agent.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, service};
use crate::support::{Agent, Options, Scratch, alone, image, until};

fn start(dir: &Scratch) -> Agent {
    Agent::start(&dir.0, &Options::default())
}

fn three(changed: &str) -> Value {
    json!({
        "services": {
            "web": service(1, json!({"networks": ["front"], "depends_on": ["db"]})),
            "worker": service(2, json!({"networks": ["front"], "environment": {"A": changed}})),
            "db": service(3, json!({"volumes": ["data:/data"], "networks": ["front"]})),
        },
        "networks": {"front": {}},
        "volumes": {"data": {}},
    })
}

#[test]
fn an_app_is_installed_updated_and_removed() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", three("1")));
    agent.wait_for("done");
    for name in ["web", "worker", "db"] {
        assert!(mine.is_running(name), "{name}");
    }
    assert_eq!(mine.service("web").unwrap()["Name"], "/web_r1");
    assert_eq!(mine.volumes(), [format!("data_{}", mine.0)]);
    let before = (mine.id("web"), mine.id("worker"), mine.id("db"));

    // A new release in which one service changes keeps the other two (O-11).
    agent.set(&mine.0, &app("r2", three("2")));
    agent.wait_for("done");
    assert_eq!((mine.id("web"), mine.id("db")), (before.0, before.2));
    assert_ne!(mine.id("worker"), before.1);
    assert_eq!(mine.service("web").unwrap()["Name"], "/web_r2");
    assert_eq!(
        mine.containers().len(),
        3,
        "nothing of the old release is left"
    );
    let shown = agent.get(&format!("/v3/device/apps/{}", mine.0));
    assert_eq!(shown["releases"]["r2"]["installed"], true);
    assert_eq!(
        shown["releases"]["r2"]["services"]["web"]["oci"]["status"],
        "running"
    );

    agent.remove(&mine.0);
    agent.wait_for("done");
    assert!(
        mine.containers().is_empty() && mine.networks().is_empty() && mine.volumes().is_empty()
    );
    assert_eq!(
        agent
            .call("GET", &format!("/v3/device/apps/{}", mine.0), None)
            .0,
        404
    );
}

#[test]
fn fd_18_fd_34_the_same_target_changes_nothing_also_after_a_kill() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = app("r1", three("1"));
    agent.set(&mine.0, &body);
    agent.wait_for("done");
    let before = mine.containers();
    agent.set(&mine.0, &body);
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), before.len());
    let started = |name: &str| mine.service(name).unwrap()["State"]["StartedAt"].clone();
    let (id, at) = (mine.id("web"), started("web"));

    agent.kill();
    let agent = start(&dir);
    agent.wait_for_log("is at its target");
    agent.wait_for("done");
    assert_eq!((mine.id("web"), started("web")), (id.clone(), at));
    let shown = agent.get(&format!("/v3/device/apps/{}", mine.0));
    assert_eq!(shown["id"], 12);

    // What is missing after the next kill is made again: the target was kept.
    agent.kill();
    call("DELETE", &format!("/containers/{id}?force=true"), None);
    let agent = start(&dir);
    until("the removed container", || {
        mine.is_running("web").then_some(())
    });
    agent.wait_for("done");
}

#[test]
fn what_is_killed_or_removed_by_hand_comes_back() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", three("1")));
    agent.wait_for("done");
    call(
        "POST",
        &format!("/containers/{}/kill", mine.id("worker")),
        None,
    );
    until("the killed container", || {
        mine.is_running("worker").then_some(())
    });
    let removed = mine.id("db");
    call("DELETE", &format!("/containers/{removed}?force=true"), None);
    until("the removed container", || {
        (mine.is_running("db") && mine.id("db") != removed).then_some(())
    });
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), 3);
}

#[test]
fn fd_14_a_replacement_that_does_not_start_brings_the_old_container_back() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let one = |composition| app("r1", json!({"services": {"main": service(1, composition)}}));
    agent.set(&mine.0, &one(json!({})));
    agent.wait_for("done");
    let old = mine.id("main");
    agent.set(&mine.0, &one(json!({"command": ["/nonexistent"]})));
    agent.wait_for_log("runs again");
    let is_running = |id: &str| {
        call("GET", &format!("/containers/{id}/json"), None).1["State"]["Running"] == true
    };
    assert!(is_running(&old), "the old container runs again");
    assert_eq!(agent.status(), "applying changes");
    let detail = agent.get(&format!("/v3/device/apps/{}?detail=true", mine.0));
    let said = detail["releases"]["r1"]["services"]["main"]["detail"]["last_error"].as_str();
    assert!(
        said.is_some_and(|said| said.contains("nonexistent")),
        "{detail}"
    );
    // A good target makes it whole.
    agent.set(&mine.0, &one(json!({"environment": {"A": "1"}})));
    agent.wait_for("done");
    assert!(mine.is_running("main"));
    assert_eq!(mine.containers().len(), 1);
}

#[test]
fn fd_23_d_16_an_image_that_cannot_be_pulled_holds_up_only_what_needs_it() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let mut bad = service(2, json!({}));
    bad["image"] = json!(format!("{}-nowhere", image()));
    let release = |more: &str| {
        json!({"services": {
            "good": service(1, json!({"environment": {"A": more}})), "bad": bad.clone(),
        }})
    };
    agent.set(&mine.0, &app("r1", release("1")));
    until("the good service", || mine.is_running("good").then_some(()));
    assert_eq!(agent.status(), "applying changes");
    let first = mine.id("good");
    // In an update nothing old stops before all images are there; it heals meanwhile.
    agent.set(&mine.0, &app("r1", release("2")));
    agent.wait_for_log("next try");
    call("POST", &format!("/containers/{first}/kill"), None);
    let state =
        || call("GET", &format!("/containers/{first}/json"), None).1["State"]["Running"] == true;
    until("the old container", || state().then_some(()));
    agent.set(
        &mine.0,
        &app(
            "r1",
            json!({"services": {"good": service(1, json!({"environment": {"A": "2"}}))}}),
        ),
    );
    agent.wait_for("done");
    assert_ne!(mine.id("good"), first);
}

#[test]
fn fd_43_dependencies_gate_as_compose_says() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let on = |name: &str, condition: &str| json!({"depends_on": {name: {"condition": condition}}});
    let healthy = json!({"healthcheck": {"test": ["CMD", "true"], "interval": "1s", "retries": 3}});
    let once = json!({"command": ["true"], "restart": "no"});
    let body = json!({"services": {
        "db": service(1, healthy), "web": service(2, on("db", "service_healthy")),
        "init": service(3, once), "app": service(4, on("init", "service_completed_successfully")),
    }});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    assert!(mine.is_running("web") && mine.is_running("app"));
    let at = |name: &str, key: &str| {
        mine.service(name).unwrap()["State"][key]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(
        at("app", "StartedAt") > at("init", "FinishedAt"),
        "after it has ended"
    );
    assert_eq!(
        mine.service("db").unwrap()["State"]["Health"]["Status"],
        "healthy"
    );
    assert!(
        !mine.is_running("init"),
        "what has finished is not started again"
    );

    // Both change: the new one waits for what fails, and the old one goes on.
    let mut after = on("init", "service_completed_successfully");
    after["environment"] = json!({"A": "2"});
    let failing = json!({"services": {
        "init": service(3, json!({"command": ["false"], "restart": "no"})),
        "app": service(4, after),
    }});
    let old = mine.id("app");
    agent.set(&mine.0, &app("r2", failing));
    agent.wait_for("aborted");
    let why = agent.get("/v3/status?detail=true")["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        why.contains("init") && why.contains("ended with an error"),
        "{why}"
    );
    let state = call("GET", &format!("/containers/{old}/json"), None).1;
    assert_eq!(state["State"]["Running"], true, "the old one goes on");
}

#[test]
fn gap_26_who_asked_for_it_restarts_with_what_it_depends_on() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let on = |restart: bool| {
        let how = json!({"condition": "service_started", "restart": restart});
        json!({"depends_on": {"db": how}})
    };
    let body = |changed: &str| {
        json!({"services": {
            "db": service(1, json!({"environment": {"A": changed}})),
            "follows": service(2, on(true)),
            "stays": service(3, on(false)),
        }})
    };
    agent.set(&mine.0, &app("r1", body("1")));
    agent.wait_for("done");
    let at = |name: &str| {
        let found = mine.service(name).unwrap();
        (
            found["Id"].to_string(),
            found["State"]["StartedAt"].to_string(),
        )
    };
    let before = (at("db"), at("follows"), at("stays"));
    agent.set(&mine.0, &app("r1", body("2")));
    agent.wait_for("done");
    let after = (at("db"), at("follows"), at("stays"));
    assert_ne!(after.0.0, before.0.0, "made again");
    assert_eq!(after.1.0, before.1.0, "the same container");
    assert!(after.1.1 > after.0.1, "started after what it depends on");
    assert_eq!(after.2, before.2);
}

#[test]
fn fd_21_of_two_networks_of_one_name_one_remains() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = app("r1", json!({"services": {"main": service(1, json!({}))}}));
    agent.set(&mine.0, &body);
    agent.wait_for("done");
    agent.kill();
    let found = &mine.networks()[0];
    let again = json!({
        "Name": found["Name"], "Labels": found["Labels"], "CheckDuplicate": false,
    });
    let (status, answer) = call("POST", "/networks/create", Some(&again));
    if status != 201 {
        // Engines from 25 on never make a second one.
        assert_eq!(status, 409, "{answer}");
        return;
    }
    assert_eq!(mine.networks().len(), 2);
    let id = mine.id("main");
    let agent = start(&dir);
    until("one network to go", || {
        (mine.networks().len() == 1).then_some(())
    });
    agent.wait_for("done");
    assert_eq!((mine.id("main"), mine.is_running("main")), (id, true));
}

/// A route of this machine, until it is dropped.
struct Route(String);

impl Route {
    fn add(subnet: &str) -> Route {
        ip(&["add", subnet, "dev", "lo"]);
        Route(subnet.to_owned())
    }
}

impl Drop for Route {
    fn drop(&mut self) {
        ip(&["del", &self.0, "dev", "lo"]);
    }
}

fn ip(args: &[&str]) {
    let done = Command::new("ip").arg("route").args(args).status();
    assert!(done.unwrap().success(), "ip route {args:?}");
}

fn subnet(network: &Value) -> String {
    let subnet = &network["IPAM"]["Config"][0]["Subnet"];
    subnet.as_str().unwrap_or_default().to_owned()
}

#[test]
fn fd_22_a_default_network_keeps_clear_of_what_this_machine_routes() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    // What the engine would choose next.
    let probes = ["a", "b", "c"].map(|name| format!("probe-{name}-{}", mine.0));
    for name in &probes {
        let made = call("POST", "/networks/create", Some(&json!({"Name": name})));
        assert_eq!(made.0, 201, "{}", made.1);
    }
    let taken = probes.map(|name| {
        let found = call("GET", &format!("/networks/{name}"), None).1;
        assert_eq!(call("DELETE", &format!("/networks/{name}"), None).0, 204);
        subnet(&found)
    });
    let _routes: Vec<_> = taken.iter().map(|subnet| Route::add(subnet)).collect();
    let agent = start(&dir);
    let body = json!({"services": {"main": service(1, json!({}))}});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    let networks = mine.networks();
    let [network] = &networks[..] else {
        panic!("{networks:?}");
    };
    let found = subnet(network);
    assert!(!found.is_empty() && !taken.contains(&found), "{found}");
}

#[test]
fn d_12_a_volume_stays_when_it_leaves_the_release() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", json!({
        "services": {"main": service(1, json!({"volumes": ["data:/data"]}))}, "volumes": {"data": {}}})));
    agent.wait_for("done");
    agent.set(
        &mine.0,
        &app("r2", json!({"services": {"main": service(1, json!({}))}})),
    );
    agent.wait_for("done");
    assert_eq!(mine.volumes(), [format!("data_{}", mine.0)]);
}

#[test]
fn a_changed_network_is_made_again_with_its_services() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = |internal: bool| {
        app(
            "r1",
            json!({
        "services": {"main": service(1, json!({"networks": ["net"]}))},
        "networks": {"net": {"internal": internal}}}),
        )
    };
    agent.set(&mine.0, &body(false));
    agent.wait_for("done");
    agent.set(&mine.0, &body(true));
    agent.wait_for("done");
    assert_eq!(mine.networks().len(), 1);
    assert_eq!(mine.networks()[0]["Internal"], true);
    assert!(mine.is_running("main"));
}

#[test]
fn gap_24_se_w_02_d_10_environment_values_stay_text() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let env = json!({
        "A": "007", "B": "1.0", "C": "nan", "D": "12e4567", "E": "", "F": "15",
        "G": "0042", "H": "+5", "I": "123456789012345678901234", "J": "1e3",
    });
    agent.set(
        &mine.0,
        &app(
            "r1",
            json!({"services": {"main": service(1, json!({"environment": &env}))}}),
        ),
    );
    agent.wait_for("done");
    let found = mine.service("main").unwrap()["Config"]["Env"].clone();
    let found: Vec<&str> = found
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (name, value) in env.as_object().unwrap() {
        let want = format!("{name}={}", value.as_str().unwrap());
        assert!(found.contains(&&*want), "{want} in {found:?}");
    }
    assert!(mine.is_running("main"), "it converges");
    let shown = agent.get(&format!("/v3/device/apps/{}", mine.0));
    let shown = &shown["releases"]["r1"]["services"]["main"]["config"]["environment"];
    assert_eq!((&shown["A"], &shown["F"]), (&json!("007"), &json!(15)));
}

#[test]
fn w_11_edits_of_several_apps_in_quick_succession_all_count() {
    let (_alone, dir) = (alone(), Scratch::new());
    let apps = [App::new(), App::new(), App::new(), App::new()];
    let agent = start(&dir);
    for mine in &apps {
        let path = format!("/v3/device/apps/{}", mine.0);
        let body = app(
            &mine.0[..8],
            json!({"services": {"main": service(1, json!({}))}}),
        );
        assert_eq!(agent.call("POST", &path, Some(&body)).0, 202);
    }
    agent.wait_for("done");
    for mine in &apps {
        assert!(mine.is_running("main"));
    }
}

#[test]
fn many_services_go_through_windows() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let services: serde_json::Map<_, _> = (0..20)
        .map(|n| (format!("s{n:02}"), service(n, json!({}))))
        .collect();
    agent.set(&mine.0, &app("r1", json!({"services": services})));
    agent.wait_for("done");
    assert_eq!(
        mine.containers()
            .iter()
            .filter(|found| found["State"] == "running")
            .count(),
        20
    );
}

#[test]
fn running_false_makes_a_container_and_does_not_run_it() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = |running: bool| {
        let mut main = service(1, json!({}));
        main["running"] = json!(running);
        app("r1", json!({"services": {"main": main}}))
    };
    agent.set(&mine.0, &body(false));
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), 1);
    assert!(!mine.is_running("main"));
    agent.set(&mine.0, &body(true));
    agent.wait_for("done");
    assert!(mine.is_running("main"));
    agent.set(&mine.0, &body(false));
    agent.wait_for("done");
    assert!(!mine.is_running("main"));
}

#[test]
fn d_17_the_same_target_in_mid_apply_neither_interrupts_nor_sticks() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.get("/v3/device");
    let services: serde_json::Map<_, _> = (0..12)
        .map(|n| (format!("s{n:02}"), service(n, json!({}))))
        .collect();
    let body = app("r1", json!({"services": services}));
    agent.set(&mine.0, &body);
    until("the first container", || {
        (!mine.containers().is_empty()).then_some(())
    });
    agent.set(&mine.0, &body);
    assert_eq!(agent.status(), "applying changes");
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), 12);
}

#[test]
fn d_21_what_somebody_kills_runs_again_and_what_has_finished_does_not() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = json!({"services": {
        "once": service(1, json!({"restart": "no"})),
        "over": service(2, json!({"restart": "no", "command": ["true"]})),
    }});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    // A new agent has done nothing to them lately: what it sees is somebody else's doing.
    agent.kill();
    let agent = start(&dir);
    agent.wait_for_log("engine: ");
    agent.wait_for("done");
    let finished = |name: &str| mine.service(name).unwrap()["State"]["FinishedAt"].clone();
    let over = finished("over");
    call(
        "POST",
        &format!("/containers/{}/kill", mine.id("once")),
        None,
    );
    until("the killed container", || {
        mine.is_running("once").then_some(())
    });
    agent.wait_for("done");
    assert_eq!(finished("over"), over, "it ended by itself and stays so");
}

#[test]
fn d_20_a_container_that_cannot_be_made_leaves_the_old_one_and_its_name() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let one = |more: Value| app("r1", json!({"services": {"main": service(1, more)}}));
    agent.set(&mine.0, &one(json!({})));
    agent.wait_for("done");
    let old = mine.id("main");
    agent.set(&mine.0, &one(json!({"runtime": "no-such-runtime"})));
    agent.wait_for_log("its new container was not made");
    until("the old name", || {
        let found = call("GET", &format!("/containers/{old}/json"), None).1;
        (found["Name"] == "/main_r1" && found["State"]["Running"] == true).then_some(())
    });
    agent.set(&mine.0, &one(json!({})));
    agent.wait_for("done");
    assert_eq!(mine.id("main"), old, "it was never touched");
}

#[test]
fn w_32_a_name_that_somebody_has_is_left_to_them() {
    let (_alone, dir, mine, other) = (alone(), Scratch::new(), App::new(), App::new());
    let agent = start(&dir);
    agent.set(
        &other.0,
        &app("r1", json!({"services": {"main": service(1, json!({}))}})),
    );
    agent.wait_for("done");
    // Without the labels by which the agent knows its own.
    let release = super::support::unique();
    let theirs = format!("main_{release}");
    let body = json!({"Image": image(), "Labels": {"io.balena.app-uuid": other.0}});
    let (made, answer) = call(
        "POST",
        &format!("/containers/create?name={theirs}"),
        Some(&body),
    );
    assert_eq!(made, 201, "{answer}");
    agent.set(
        &mine.0,
        &app(
            &release,
            json!({"services": {"main": service(1, json!({}))}}),
        ),
    );
    agent.wait_for("done");
    let name = mine.service("main").unwrap()["Name"].clone();
    assert_eq!(name, format!("/{theirs}_{}", mine.0));
    let (found, _) = call("GET", &format!("/containers/{theirs}/json"), None);
    assert_eq!(found, 200, "it is still there");
}

#[test]
fn se_w_13_a_container_that_is_half_made_is_removed_again() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    // An address of one's own needs a subnet of one's own: connecting the second fails.
    let networks = json!({"one": {"priority": 9}, "two": {"ipv4_address": "192.0.2.7"}});
    agent.set(
        &mine.0,
        &app(
            "r1",
            json!({
                "services": {"main": service(1, json!({"networks": networks}))},
                "networks": {"one": {}, "two": {}},
            }),
        ),
    );
    agent.wait_for_log("cannot connect a container to network");
    agent.wait_for_log("next try");
    until("the half of it to go", || {
        mine.containers().is_empty().then_some(())
    });
    assert_eq!(agent.status(), "applying changes");
}

#[test]
fn fd_32_an_agent_that_lost_its_state_leaves_apps_it_was_not_told_of_alone() {
    let (_alone, dir) = (alone(), Scratch::new());
    let (first, second) = (App::new(), App::new());
    let body = |release: &str| {
        app(
            release,
            json!({"services": {"main": service(1, json!({}))}}),
        )
    };
    let agent = start(&dir);
    agent.set(&first.0, &body("r1"));
    agent.wait_for("done");
    let id = first.id("main");
    agent.kill();
    std::fs::remove_dir_all(dir.0.join(".local")).unwrap();
    let agent = start(&dir);
    agent.set(&second.0, &body("r2"));
    agent.wait_for("done");
    assert!(second.is_running("main") && first.is_running("main"));
    assert_eq!(first.id("main"), id);
    agent.remove(&first.0);
    until("the removed app to go", || {
        first.containers().is_empty().then_some(())
    });
    assert!(second.is_running("main"));
}

#[test]
fn ts_2_15_who_shares_a_namespace_follows_the_container_that_lends_it() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let body = |release: &str, changed: &str| {
        let services = json!({
            "a-client": service(1, json!({"network_mode": "service:vpn", "pid": "service:vpn"})),
            "vpn": service(2, json!({"environment": {"A": changed}})),
        });
        app(release, json!({"services": services}))
    };
    let lender_of = |mode: &str| {
        let client = mine.service("a-client").unwrap();
        let mode = client["HostConfig"][mode].as_str().unwrap().to_owned();
        mode.strip_prefix("container:").unwrap().to_owned()
    };
    agent.set(&mine.0, &body("r1", "1"));
    agent.wait_for("done");
    assert!(mine.is_running("a-client"));
    assert_eq!(lender_of("NetworkMode"), mine.id("vpn"));
    assert_eq!(lender_of("PidMode"), mine.id("vpn"));

    // Only the lender changes.
    let (client, vpn) = (mine.id("a-client"), mine.id("vpn"));
    agent.set(&mine.0, &body("r1", "2"));
    agent.wait_for("done");
    assert_ne!(mine.id("vpn"), vpn);
    assert_ne!(mine.id("a-client"), client);
    assert_eq!(lender_of("NetworkMode"), mine.id("vpn"));
    assert!(mine.is_running("a-client") && mine.is_running("vpn"));

    // Another release of the same content changes names only.
    let before = (mine.id("a-client"), mine.id("vpn"));
    agent.set(&mine.0, &body("r2", "2"));
    agent.wait_for("done");
    assert_eq!((mine.id("a-client"), mine.id("vpn")), before);
}

#[test]
fn ts_5_1_a_mount_at_the_lock_directory_does_not_keep_a_service_from_its_target() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let main = service(1, json!({"volumes": ["data:/tmp/balena", "data:/data"]}));
    let body = json!({"services": {"main": main}, "volumes": {"data": {}}});
    agent.set(&mine.0, &app("r1", body));
    agent.wait_for("done");
    assert!(mine.is_running("main"));
    agent.wait_for_log("without effect here: the mount at /tmp/balena");
}

#[test]
fn d_11_what_somebody_changed_is_made_again_and_nothing_else_is() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    agent.set(&mine.0, &app("r1", three("1")));
    agent.wait_for("done");
    let before = (mine.id("web"), mine.id("worker"), mine.id("db"));
    let update = json!({"CpuShares": 512});
    let path = format!("/containers/{}/update", before.1);
    assert_eq!(call("POST", &path, Some(&update)).0, 200);
    until("the changed container to be made again", || {
        let id = mine.service("worker")?["Id"].as_str()?.to_owned();
        (id != before.1).then_some(())
    });
    agent.wait_for("done");
    assert_eq!(
        (mine.id("web"), mine.id("db")),
        (before.0.clone(), before.2)
    );
    assert!(
        agent
            .log()
            .contains("somebody changed it since it was made")
    );

    // What happened while nobody looked is found by the next agent.
    agent.kill();
    let networks = mine.networks();
    let front = networks[0]["Id"].as_str().unwrap();
    let leave = json!({"Container": before.0, "Force": true});
    let path = format!("/networks/{front}/disconnect");
    assert_eq!(call("POST", &path, Some(&leave)).0, 200);
    let mut agent = start(&dir);
    until("the disconnected container to be made again", || {
        let id = mine.service("web")?["Id"].as_str()?.to_owned();
        (id != before.0).then_some(())
    });
    agent.wait_for("done");
    assert_eq!(mine.containers().len(), 3);

    // A record of another engine, or none, is no reason to do anything.
    let ids = (mine.id("web"), mine.id("worker"), mine.id("db"));
    for content in [
        None,
        Some("{\"engine\":\"other\",\"containers\":{}}"),
        Some("nonsense"),
    ] {
        let stored = until("the record", || find(&dir.0, "fingerprints"));
        agent.stop();
        match content {
            None => std::fs::remove_file(stored).unwrap(),
            Some(content) => std::fs::write(stored, content).unwrap(),
        }
        agent = start(&dir);
        agent.wait_for("done");
        let now = (mine.id("web"), mine.id("worker"), mine.id("db"));
        assert_eq!(now, ids, "{content:?}");
    }
}

/// The one file of that name below `dir`.
fn find(dir: &std::path::Path, name: &str) -> Option<std::path::PathBuf> {
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            if entry.file_name() == name {
                return Some(entry.path());
            }
            if entry.file_type().unwrap().is_dir() {
                open.push(entry.path());
            }
        }
    }
    None
}
