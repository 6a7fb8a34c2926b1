//! Scenarios of state-engine 11.10 and 11.11 that need a real engine; the others are in
//! `tests/fixtures/scenarios`.

use std::fs;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, publish, service};
use crate::support::{Agent, Options, Scratch, alone, until};

fn start(dir: &Scratch) -> Agent {
    Agent::start(&dir.0, &Options::default())
}

fn of(image: &str, more: Value) -> Value {
    let mut service = service(1, more);
    service["image"] = image.into();
    service
}

#[test]
fn int_01_a_fresh_device() {
    let (_alone, dir) = (alone(), Scratch::new());
    let agent = start(&dir);
    let device = agent.get("/v3/device");
    assert_eq!(device["uuid"].as_str().unwrap().len(), 32, "{device}");
    assert_eq!(agent.call("GET", "/ping", None).0, 200);
    let (status, _) = agent.call("GET", "/v3/device/apps/unknown", None);
    assert_eq!(status, 404);
}

#[test]
fn int_02_an_empty_app_comes_and_goes() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let path = format!("/v3/device/apps/{}", mine.0);
    agent.set(&mine.0, &json!({"id": 7, "name": "x"}));
    agent.wait_for("done");
    let want = json!({"id": 7, "name": "x", "locked": false, "lockfiles": [], "releases": {}});
    assert_eq!(agent.get(&path), want);
    agent.remove(&mine.0);
    agent.wait_for("done");
    assert_eq!(agent.call("GET", &path, None).0, 404);
}

/// The release of INT-03. The size of a tmpfs is only in the long form (target-state 2.22).
fn three_services(image: &str) -> Value {
    let web = json!({
        "ports": ["18080-18081:8080"],
        "networks": {"front": {"aliases": ["www"]}, "back": null},
        "environment": ["A=1", "B=two words"],
        "labels": {"org.acme": "x"},
        "read_only": true,
        "volumes": [{"type": "tmpfs", "target": "/scratch", "tmpfs": {"size": 1_048_576, "mode": 448}}],
        "tmpfs": ["/run:mode=755"],
        "sysctls": {"net.ipv4.ip_unprivileged_port_start": 80},
        "security_opt": ["no-new-privileges:true", "seccomp=unconfined"],
        "restart": "on-failure:3",
    });
    let db = json!({
        "volumes": [
            "data:/data",
            {"type": "volume", "source": "data", "target": "/more", "read_only": true},
            "/sys:/host/sys:ro",
        ],
        "restart": "unless-stopped",
    });
    let host = json!({"network_mode": "host", "restart": "no"});
    json!({
        "services": {"web": of(image, web), "db": of(image, db), "host": of(image, host)},
        "networks": {"front": {}, "back": {}},
        "volumes": {"data": {}},
    })
}

fn texts(list: &Value) -> Vec<&str> {
    let list = list.as_array().map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(Value::as_str).collect()
}

#[test]
fn int_03_three_services_with_what_compose_has() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (agent, image) = (start(&dir), publish("int-03"));
    agent.set(&mine.0, &app("r1", three_services(&image)));
    agent.wait_for("done");

    let web = mine.service("web").unwrap();
    let networks = &web["NetworkSettings"]["Networks"];
    let name = |network: &str| format!("{network}_{}", mine.0);
    for network in ["front", "back"] {
        let aliases = &networks[name(network)]["Aliases"];
        assert!(texts(aliases).contains(&"web"), "{network}: {aliases}");
    }
    assert!(texts(&networks[name("front")]["Aliases"]).contains(&"www"));
    let env = texts(&web["Config"]["Env"]);
    assert!(
        env.contains(&"A=1") && env.contains(&"B=two words"),
        "{env:?}"
    );
    assert_eq!(web["Config"]["Labels"]["org.acme"], "x");
    let host = &web["HostConfig"];
    assert_eq!(host["ReadonlyRootfs"], true);
    assert_eq!(host["Sysctls"]["net.ipv4.ip_unprivileged_port_start"], "80");
    assert_eq!(host["RestartPolicy"]["Name"], "on-failure");
    assert_eq!(host["RestartPolicy"]["MaximumRetryCount"], 3);
    let options = texts(&host["SecurityOpt"]);
    assert!(
        options
            .iter()
            .any(|option| option.starts_with("no-new-privileges"))
    );
    assert!(options.contains(&"seccomp=unconfined"), "{options:?}");
    let mounts = host["Mounts"].as_array().unwrap();
    let scratch = mounts.iter().find(|mount| mount["Target"] == "/scratch");
    assert_eq!(scratch.unwrap()["TmpfsOptions"]["SizeBytes"], 1_048_576);
    assert_eq!(host["Tmpfs"]["/run"], "mode=755");
    let bound = &web["NetworkSettings"]["Ports"]["8080/tcp"][0]["HostPort"];
    let port: u16 = bound.as_str().unwrap().parse().unwrap();
    assert!((18080..=18081).contains(&port), "{port}");
    TcpStream::connect(("127.0.0.1", port)).unwrap();

    let db = mine.service("db").unwrap();
    assert_eq!(db["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    let networks = db["NetworkSettings"]["Networks"].as_object().unwrap();
    assert_eq!(networks.keys().collect::<Vec<_>>(), [&name("default")]);
    let mounts = db["Mounts"].as_array().unwrap();
    let mount = |at: &str| {
        mounts
            .iter()
            .find(|mount| mount["Destination"] == at)
            .unwrap()
    };
    assert_eq!(
        (&mount("/data")["Name"], &mount("/data")["RW"]),
        (&json!(name("data")), &json!(true))
    );
    assert_eq!(
        (&mount("/more")["Name"], &mount("/more")["RW"]),
        (&json!(name("data")), &json!(false))
    );
    assert_eq!(
        (&mount("/host/sys")["Source"], &mount("/host/sys")["RW"]),
        (&json!("/sys"), &json!(false))
    );
    let on_host = mine.service("host").unwrap();
    assert_eq!(on_host["HostConfig"]["NetworkMode"], "host");
    assert_eq!(mine.networks().len(), 3);
    let shown = agent.get(&format!("/v3/device/apps/{}", mine.0));
    let release = &shown["releases"]["r1"];
    for service in ["web", "db", "host"] {
        let shown = &release["services"][service];
        assert_eq!(
            (&shown["oci"]["status"], &shown["started"]),
            (&json!("running"), &json!(true))
        );
    }
    let names: Vec<_> = release["networks"].as_object().unwrap().keys().collect();
    assert_eq!(names, ["back", "default", "front"]);

    agent.remove(&mine.0);
    until("the clean-up", || {
        let (status, _) = call("GET", &format!("/images/{image}/json"), None);
        (status == 404).then_some(())
    });
    assert!(mine.containers().is_empty() && mine.networks().is_empty());
}

#[test]
fn int_04_what_may_not_be_asked_for_makes_no_app() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let path = format!("/v3/device/apps/{}", mine.0);
    for more in [
        json!({"volumes": ["/root:/x"]}),
        json!({"security_opt": ["label=disable"]}),
        json!({"sysctls": {"vm.swappiness": 1}}),
    ] {
        let body = app(
            "r1",
            json!({"services": {"main": service(1, more.clone())}}),
        );
        let (status, said) = agent.call("POST", &path, Some(&body));
        assert!((400..500).contains(&status), "{more}: {status} {said}");
        assert_eq!(agent.call("GET", &path, None).0, 404, "{more}");
    }
    assert_eq!(agent.status(), "done");
}

/// W-01: upstream compares its own mount at a place where no engine shows it.
#[test]
fn gap_23_mounts_behind_the_lock_directory_converge() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let agent = start(&dir);
    let targets = ["/usr/data", "/var/data", "/tmp/data", "/www", "/aaa"];
    let volumes: Vec<_> = targets.iter().map(|at| format!("data:{at}")).collect();
    let main = service(1, json!({"volumes": volumes}));
    let body = app(
        "r1",
        json!({"services": {"main": main}, "volumes": {"data": {}}}),
    );
    agent.set(&mine.0, &body);
    agent.wait_for("done");
    let id = mine.id("main");
    assert!(mine.is_running("main"));
    // Read back by an agent that knows nothing but what the engine says.
    agent.kill();
    let agent = start(&dir);
    agent.set(&mine.0, &body);
    agent.wait_for("done");
    assert_eq!(mine.id("main"), id);
}

#[test]
fn gap_28_an_image_is_found_by_its_tag_after_the_engine_has_lost_that() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (agent, image) = (start(&dir), publish("gap-28"));
    let body = |value: &str| {
        let main = of(&image, json!({"environment": {"A": value}}));
        app("r1", json!({"services": {"main": main}}))
    };
    agent.set(&mine.0, &body("1"));
    agent.wait_for("done");
    let first = mine.id("main");
    agent.kill();
    let agent = start(&dir);
    agent.set(&mine.0, &body("2"));
    agent.wait_for("done");
    let second = mine.id("main");
    assert_ne!(first, second);
    // What runs is an id without a name now.
    let (status, said) = call("DELETE", &format!("/images/{image}?force=true"), None);
    assert_eq!(status, 200, "{said}");
    assert!(mine.is_running("main"));
    agent.set(&mine.0, &body("3"));
    agent.wait_for("done");
    assert_ne!(mine.id("main"), second);
    assert!(mine.is_running("main"));
    assert_eq!(call("GET", &format!("/images/{image}/json"), None).0, 200);
}

#[test]
fn gap_29_a_request_in_the_middle_of_a_blocked_update_does_not_stick() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (agent, image) = (start(&dir), publish("gap-29"));
    agent.set(
        &mine.0,
        &app("r1", json!({"services": {"main": service(1, json!({}))}})),
    );
    agent.wait_for("done");
    let first = mine.service("main").unwrap();
    let mounts = first["Mounts"].as_array().unwrap();
    let locks = mounts
        .iter()
        .find(|mount| mount["Destination"] == "/tmp/balena");
    let lock = format!(
        "{}/updates.lock",
        locks.unwrap()["Source"].as_str().unwrap()
    );
    fs::write(&lock, "").unwrap();

    let update = app("r2", json!({"services": {"main": of(&image, json!({}))}}));
    agent.set(&mine.0, &update);
    agent.wait_for_log("is held by a service");
    until("its successor", || {
        (mine.containers().len() == 2).then_some(())
    });
    let mut again = update.clone();
    again["name"] = json!("another name");
    agent.set(&mine.0, &again);
    agent.set(&mine.0, &update);
    fs::remove_file(&lock).unwrap();
    agent.wait_for("done");
    assert!(mine.is_running("main"));
    assert_ne!(mine.id("main"), first["Id"].as_str().unwrap());
    assert_eq!(mine.containers().len(), 1);
}
