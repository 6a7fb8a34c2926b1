//! Updates of the host's OS (state-engine 6, 11.10), with a stand-in for systemd that really runs
//! the updater, which comes out of an image of the registry.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::bus::Bus;
use crate::support::engine::{App, app, call, publish_from, service};
use crate::support::{Agent, Backend, Options, Scratch, alone, image, unique, until};

/// What the updater does: it says what it was told, waits where a test asks for that, and ends
/// with the code that the test wants.
const SCRIPT: &str = "#!/bin/sh\n\
    echo \"$PWD $*\" >>../ran\n\
    while [ -e ../hold ]; do sleep 0.1; done\n\
    exit \"$(cat ../code 2>/dev/null || echo 0)\"\n";

/// A device, its backend and its host.
struct Device {
    uuid: String,
    dir: Scratch,
    backend: Backend,
    bus: Bus,
    mine: App,
    updater: String,
    /// What its host runs.
    os: &'static str,
}

impl Device {
    fn new() -> Device {
        Device::with(&[])
    }

    /// With these options of the stand-in.
    fn with(options: &[&'static str]) -> Device {
        let make = format!(
            "mkdir /app; printf '%s' '{}' >/app/entry.sh; chmod 755 /app/entry.sh",
            SCRIPT.replace('\\', "\\\\")
        );
        let dir = Scratch::new();
        fs::create_dir(dir.0.join("run")).unwrap();
        Device {
            uuid: unique(),
            dir,
            backend: Backend::start(),
            bus: Bus::start(options),
            mine: App::new(),
            updater: publish_from(&image(), "hup", &make),
            os: "balenaOS 6.1@b0",
        }
    }

    fn agent(&self) -> Agent {
        let url = self.backend.url();
        let state = self.dir.0.join("state-partition");
        let args = vec![
            "--uuid",
            &self.uuid,
            "--remote-api-endpoint",
            &url,
            "--remote-api-key",
            "secret-key",
            "--remote-poll-min-interval-ms",
            "100",
            "--host-os-version",
            self.os,
            "--host-state-dir",
            state.to_str().unwrap(),
        ];
        let bus = Some(self.bus.address());
        Agent::start(
            &self.dir.0,
            &Options {
                args,
                bus,
                retry_ms: Some(100),
                ..Options::default()
            },
        )
    }

    /// An app, and this release of the host; its board revision is its name.
    fn target(&self, host: Option<&str>) {
        let main = json!({"services": {"main": service(7, json!({}))}});
        let mut apps = json!({ &self.mine.0: app("aa11", main) });
        if let Some(release) = host {
            let labels = json!({
                "io.balena.image.class": "hostapp",
                "io.balena.private.updater": self.updater,
                "io.balena.private.hostapp.board-rev": release,
            });
            let hostapp = json!({"id": 4, "image": "registry2.example.org/v2/os:latest", "composition": {"labels": labels}});
            apps["happ9"] = json!({"id": 9, "name": "os", "is_host": true, "releases": {
                release: {"id": 3, "services": {"hostapp": hostapp}},
            }});
        }
        let target = json!({ &self.uuid: {"name": "a-device", "config": {}, "apps": apps} });
        self.backend.set_target(&target);
    }

    fn run_dir(&self, name: &str) -> PathBuf {
        self.dir.0.join("run").join(name)
    }

    fn lock(&self) -> PathBuf {
        self.run_dir(&format!("update-locks/{}/main/updates.lock", self.mine.0))
    }

    fn breadcrumb(&self) -> PathBuf {
        self.run_dir("balenahup-b1-breadcrumb")
    }

    /// What updaters were told, a line each.
    fn ran(&self) -> Vec<String> {
        let text = fs::read_to_string(self.run_dir("ran")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The app of the target runs, and nothing is left to do: before its first target a device is
    /// done as well.
    fn settled(&self, agent: &Agent) {
        until("the app", || self.mine.is_running("main").then_some(()));
        agent.wait_for("done");
    }

    fn wait_for_run(&self, times: usize) {
        until("the updater", || (self.ran().len() >= times).then_some(()));
    }

    fn wait_for_reboot(&self) {
        until("the reboot", || {
            self.bus.log().contains("Reboot").then_some(())
        });
    }

    fn reported(&self, what: &str, check: impl Fn(&Value) -> bool) {
        until(what, || {
            let reports = self.backend.reports();
            let mut apps = reports
                .iter()
                .map(|report| &report[&self.uuid]["apps"]["happ9"]);
            apps.any(&check).then_some(())
        });
    }

    /// The machine starts anew, and comes up with this.
    fn reboot(&mut self, agent: Agent, os: &'static str) -> Agent {
        agent.kill();
        self.bus.down();
        self.bus.up();
        self.os = os;
        let _ = fs::remove_file(self.breadcrumb());
        self.agent()
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        call("DELETE", &format!("/images/{}", self.updater), None);
    }
}

fn reason(agent: &Agent, part: &str) {
    until(&format!("a reason with '{part}'"), || {
        let reason = agent.get("/v3/status?detail=true")["reason"].to_string();
        reason.contains(part).then_some(())
    });
}

fn release(agent: &Agent) -> Value {
    agent.get("/v3/device?detail=true")["host"]["releases"]["b1"].clone()
}

fn has_image(name: &str) -> bool {
    call("GET", &format!("/images/{name}/json"), None).0 == 200
}

#[test]
fn int_06_d_18_w_26_a_host_is_updated_under_locks_and_starts_anew() {
    let _alone = alone();
    let mut it = Device::new();
    it.target(Some("b1"));
    fs::write(it.run_dir("hold"), "").unwrap();
    let agent = it.agent();
    it.wait_for_run(1);
    let told = format!(
        "{} --app-uuid happ9 --release-commit b1 --target-image-uri registry2.example.org/v2/os:latest",
        it.run_dir("balenahup").display()
    );
    assert_eq!(it.ran(), [told]);
    assert!(it.mine.is_running("main"), "apps come first (GAP-25)");
    assert!(it.lock().exists(), "under the locks of all apps (W-14)");
    assert_eq!(agent.status(), "applying changes");
    it.reported("its report", |app| {
        app["releases"]["b1"]["update_status"] == "applying changes"
            && app["releases"]["b1"]["services"]["hostapp"]["status"] == "Installing"
            && app["release_uuid"].is_null()
    });
    let found = release(&agent);
    assert_eq!(
        (&found["status"], &found["install_attempts"]),
        (&json!("created"), &json!(1))
    );
    assert_eq!(found["updater"], *it.updater);

    fs::remove_file(it.run_dir("hold")).unwrap();
    it.wait_for_reboot();
    assert!(it.breadcrumb().exists());
    assert_eq!(release(&agent)["status"], "installed");
    assert!(it.lock().exists(), "until the reboot");
    assert_eq!(agent.status(), "applying changes");
    reason(&agent, "starting anew");
    let log = it.bus.log();
    assert_eq!(log.matches("start os-update.service").count(), 1, "{log}");
    assert_eq!(log.matches("Reboot").count(), 1, "{log}");

    let agent = it.reboot(agent, "balenaOS 6.2@b1");
    agent.wait_for("done");
    assert_eq!(release(&agent)["status"], "running");
    it.reported("the new release", |app| {
        app["release_uuid"] == "b1" && app["releases"]["b1"]["update_status"] == "done"
    });
    until("the clean-up", || (!has_image(&it.updater)).then_some(()));
    assert!(!it.run_dir("balenahup").exists() && !it.lock().exists());
    assert_eq!(call("GET", "/containers/balenahup/json", None).0, 404);
    assert_eq!(it.ran().len(), 1);
}

#[test]
fn int_07_host_04_an_updater_that_fails_is_tried_three_times() {
    let _alone = alone();
    let it = Device::new();
    it.target(Some("b1"));
    fs::write(it.run_dir("code"), "42").unwrap();
    let agent = it.agent();
    agent.wait_for("aborted");
    reason(&agent, "3 attempts failed");
    reason(&agent, "exit code 42");
    assert_eq!(it.ran().len(), 3);
    assert!(!it.breadcrumb().exists() && !it.lock().exists());
    assert!(it.mine.is_running("main"));
    let found = release(&agent);
    assert_eq!(
        (&found["status"], &found["install_attempts"]),
        (&json!("created"), &json!(3))
    );
    assert_eq!(
        found["detail"]["last_error"],
        "the updater failed: exit code 42"
    );
    it.reported("its report", |app| {
        app["releases"]["b1"]["update_status"] == "aborted"
    });
    // Not once more with the next agent.
    agent.kill();
    let agent = it.agent();
    agent.wait_for("aborted");
    reason(&agent, "3 attempts failed");
    assert_eq!(it.ran().len(), 3);
    // What is left of the host's part does not keep apps from their target.
    it.target(None);
    agent.call("POST", "/v1/update", None);
    agent.wait_for("done");
    assert!(!it.bus.log().contains("Reboot"));
}

#[test]
fn w_22_fd_40_an_agent_that_is_killed_finds_its_updater_again() {
    let _alone = alone();
    let it = Device::new();
    it.target(Some("b1"));
    fs::write(it.run_dir("hold"), "").unwrap();
    for text in ["pulling the updater", "is installed now, attempt 1"] {
        let agent = it.agent();
        agent.wait_for_log(text);
        agent.kill();
    }
    let agent = it.agent();
    it.wait_for_run(1);
    agent.kill();
    let agent = it.agent();
    agent.wait_for_log("an updater that runs already is waited for");
    agent.kill();
    fs::remove_file(it.run_dir("hold")).unwrap();
    // It ends while there is no agent.
    let agent = it.agent();
    it.wait_for_reboot();
    reason(&agent, "starting anew");
    let log = it.bus.log();
    assert_eq!(log.matches("start os-update.service").count(), 1, "{log}");
    assert_eq!(it.ran().len(), 1);
    let attempts = release(&agent)["install_attempts"].as_u64().unwrap();
    assert!(
        attempts <= 2,
        "{attempts}: one may have been counted and not made"
    );
}

#[test]
fn w_14_d_18_a_service_s_lock_and_the_host_s_own_doubts_are_waited_for() {
    let _alone = alone();
    let it = Device::new();
    it.target(None);
    let agent = it.agent();
    it.settled(&agent);
    fs::write(it.lock(), "mine").unwrap();
    let doubts = it.dir.0.join("state-partition");
    fs::create_dir(&doubts).unwrap();
    let doubts = doubts.join("rollback-health-breadcrumb");
    fs::write(&doubts, "").unwrap();
    it.target(Some("b1"));
    agent.call("POST", "/v1/update", None);
    reason(&agent, "makes sure that its last update is good");
    fs::remove_file(doubts).unwrap();
    reason(&agent, it.lock().to_str().unwrap());
    assert_eq!(agent.status(), "applying changes");
    assert!(it.ran().is_empty());
    let waits = release(&agent)["detail"]["waits_for"].to_string();
    assert!(waits.contains("updates.lock"), "{waits}");
    // A user who may do so overrides it.
    agent.call("POST", "/v1/update", Some(&json!({"force": true})));
    it.wait_for_reboot();
    assert_eq!(it.ran().len(), 1);
}

#[test]
fn issue_8_without_a_bus_apps_go_on_and_with_it_the_host_does_too() {
    let _alone = alone();
    let mut it = Device::new();
    it.bus.down();
    it.target(Some("b1"));
    let agent = it.agent();
    agent.wait_for("aborted");
    reason(&agent, "there is no D-Bus");
    assert!(it.mine.is_running("main"));
    // And goes away in the middle of it, with all that it knew.
    it.bus.up();
    fs::write(it.run_dir("hold"), "").unwrap();
    it.wait_for_run(1);
    it.bus.down();
    fs::remove_file(it.run_dir("hold")).unwrap();
    it.bus.up();
    it.wait_for_reboot();
    reason(&agent, "starting anew");
    let attempts = release(&agent)["install_attempts"].as_u64().unwrap();
    assert!((2..=3).contains(&attempts), "{attempts}");
}

#[test]
fn se_6_5_an_image_that_is_no_updater_is_said_and_costs_no_attempt() {
    let _alone = alone();
    let mut it = Device::new();
    call("DELETE", &format!("/images/{}", it.updater), None);
    it.updater = publish_from(&image(), "hup", "mkdir /app; echo x >/app/other");
    it.target(Some("b1"));
    let agent = it.agent();
    reason(&agent, "it has no /app/entry.sh");
    assert_eq!(agent.status(), "applying changes");
    assert_eq!(release(&agent)["install_attempts"], 0);
    assert!(it.mine.is_running("main") && !it.lock().exists());
    assert_eq!(it.bus.log(), "");
}

/// Each thing that the host offers is in the log, in `helios doctor` (`process.rs`) and in the API,
/// and so is what comes and goes.
#[test]
fn issue_8_what_the_host_offers_is_said_and_served() {
    let _alone = alone();
    let mut it = Device::new();
    it.bus.down();
    let agent = it.agent();
    agent.wait_for_log("INFO  what this machine offers:");
    agent.wait_for_log("  container engine    ok    ");
    agent.wait_for_log("  systemd over D-Bus  none  ");
    let found = agent.get("/v3/device/capabilities");
    let bus = &found["systemd"];
    assert_eq!(bus["available"], false);
    assert!(
        bus["reason"].as_str().unwrap().contains("cannot be opened"),
        "{bus}"
    );
    assert!(
        bus["follows"]
            .as_str()
            .unwrap()
            .contains("nothing of the host"),
        "{bus}"
    );
    let engine = &found["engine"];
    assert_eq!(engine["available"], true);
    let (version, api) = (
        engine["version"].as_str().unwrap(),
        engine["api"].as_str().unwrap(),
    );
    let detail = engine["detail"].as_str().unwrap();
    assert!(
        detail.contains(version) && detail.ends_with(&format!("API {api}")),
        "{engine}"
    );
    assert_eq!(call("GET", "/version", None).1["Version"], version);
    let info = call("GET", "/info", None).1;
    assert_eq!(found["images"]["driver"], info["Driver"]);
    assert_eq!(found["images"]["directory"], info["DockerRootDir"]);
    assert_eq!(found["control_groups"]["version"], info["CgroupVersion"]);
    let free = found["room"]["free_bytes"].as_str().unwrap();
    assert!(free.parse::<u64>().unwrap() > 0);
    let os = &found["os"];
    assert_eq!(
        (&os["name"], &os["version"], &os["board_revision"]),
        (&json!("balenaOS"), &json!("6.1"), &json!("b0"))
    );
    let runtime = it.dir.0.join("run");
    assert_eq!(found["runtime"]["directory"], runtime.to_str().unwrap());
    for name in [
        "machine",
        "boot",
        "journal",
        "device_type",
        "state",
        "identity",
        "host_state",
    ] {
        assert!(found[name]["available"].is_boolean(), "{name}: {found}");
    }
    assert_eq!(agent.call("POST", "/v3/device/capabilities", None).0, 405);
    // There when somebody looks next.
    it.bus.up();
    let bus = agent.get("/v3/device/capabilities")["systemd"].take();
    assert_eq!(bus["available"], true);
    assert_eq!(bus["logind"], "true");
    let begun = agent.log().matches("what this machine offers").count();
    assert_eq!(begun, 1, "one table");
}

/// Asks for what becomes of the host; the answer's status and text.
fn ask(agent: &Agent, path: &str, body: Option<Value>) -> (u16, String) {
    let (status, said) = agent.call("POST", path, body.as_ref());
    (status, said.to_string())
}

#[test]
fn ac_13_v1_14_v1_16_the_host_is_told_to_start_anew_and_to_go_off() {
    let _alone = alone();
    let it = Device::new();
    it.target(None);
    let agent = it.agent();
    it.settled(&agent);
    assert_eq!(
        ask(&agent, "/v1/reboot", None),
        (202, r#"{"Data":"OK","Error":null}"#.to_owned())
    );
    assert!(it.lock().exists(), "under the locks of all apps");
    it.wait_for_reboot();
    // Until the host has gone there is nothing else.
    let (status, said) = ask(&agent, "/v1/shutdown", Some(json!({"force": false})));
    assert_eq!(status, 423, "{said}");
    // But by force, as long as this one has not come.
    let force = Some(json!({"force": true}));
    assert_eq!(ask(&agent, "/v1/shutdown", force).0, 202);
    until("the other wish", || {
        (it.bus.log() == "Reboot\nPowerOff\n").then_some(())
    });
    assert!(it.lock().exists());
    assert!(it.mine.is_running("main"), "the OS stops what runs");
    agent.kill();
    let agent = it.agent();
    it.settled(&agent);
    assert_eq!(ask(&agent, "/v3/device/shutdown", None).0, 202);
    until("the end", || {
        (it.bus.log() == "Reboot\nPowerOff\nPowerOff\n").then_some(())
    });
}

#[test]
fn ac_15_v1_15_locks_an_update_of_the_host_and_no_bus_are_in_the_way() {
    let _alone = alone();
    let mut it = Device::new();
    it.target(None);
    let agent = it.agent();
    it.settled(&agent);
    fs::write(it.lock(), "mine").unwrap();
    let (status, said) = ask(&agent, "/v1/reboot", Some(json!({})));
    assert!(
        status == 423 && said.contains(it.lock().to_str().unwrap()),
        "{said}"
    );
    let (status, said) = ask(&agent, "/v3/device/reboot", None);
    assert!(status == 423 && said.contains("detail"), "{said}");
    assert_eq!(
        fs::read_to_string(it.lock()).unwrap(),
        "mine",
        "it is left alone"
    );
    assert_eq!(ask(&agent, "/v1/reboot", Some(json!({"force": 7}))).0, 400);
    fs::remove_file(it.lock()).unwrap();
    let doubts = it.dir.0.join("state-partition");
    fs::create_dir(&doubts).unwrap();
    fs::write(doubts.join("rollback-altboot-breadcrumb"), "").unwrap();
    let waits = r#"{"Data":"","Error":"Waiting for Host OS update to finish"}"#;
    assert_eq!(ask(&agent, "/v1/reboot", None), (423, waits.to_owned()));
    assert_eq!(it.bus.log(), "");
    // By force nothing of that counts.
    fs::write(it.lock(), "mine").unwrap();
    assert_eq!(
        ask(&agent, "/v1/reboot", Some(json!({"force": "true"}))).0,
        202
    );
    it.wait_for_reboot();
    agent.kill();
    it.bus.down();
    let agent = it.agent();
    let (status, said) = ask(&agent, "/v1/reboot", Some(json!({"force": true})));
    assert!(
        status == 500 && said.contains("there is no D-Bus"),
        "{said}"
    );
}

#[test]
fn ac_13_a_host_that_refuses_goes_on_and_so_do_its_apps() {
    let _alone = alone();
    let it = Device::with(&["--refuse"]);
    it.target(None);
    let agent = it.agent();
    it.settled(&agent);
    for power in ["reboot", "shutdown"] {
        assert_eq!(ask(&agent, &format!("/v1/{power}"), None).0, 202);
        until("the locks", || (!it.lock().exists()).then_some(()));
    }
    let log = agent.log();
    let said = log.matches("ERROR the host goes on: ").count();
    assert!(said == 2 && log.contains("Permission denied"), "{log}");
    // Apps are changed again.
    let first = it.mine.id("main");
    call("DELETE", &format!("/containers/{first}?force=true"), None);
    until("the service", || {
        let found = it.mine.service("main")?;
        (found["Id"] != *first && it.mine.is_running("main")).then_some(())
    });
}

#[test]
fn v1_15_an_updater_that_runs_and_an_engine_that_is_away_are_in_the_way_unless_forced() {
    let _alone = alone();
    let it = Device::new();
    it.target(Some("b1"));
    fs::write(it.run_dir("hold"), "").unwrap();
    let agent = it.agent();
    it.wait_for_run(1);
    for path in ["/v1/reboot", "/v3/device/shutdown"] {
        let (status, said) = ask(&agent, path, None);
        let is_said = said.contains("an update or a reboot of the host is under way");
        assert!(status == 423 && is_said, "{path} {said}");
    }
    assert_eq!(ask(&agent, "/v3/device/reboot?force=true", None).0, 202);
    it.wait_for_reboot();
    fs::remove_file(it.run_dir("hold")).unwrap();
    agent.kill();

    // Nobody knows which locks there are.
    let dir = Scratch::new();
    let agent = Agent::start(
        &dir.0,
        &Options {
            engine: Some("unix:///nonexistent/engine.sock".to_owned()),
            bus: Some(it.bus.address()),
            ..Options::default()
        },
    );
    let (status, said) = ask(&agent, "/v1/shutdown", None);
    assert!(status == 500 && said.contains("cannot"), "{said}");
    assert!(!it.bus.log().contains("PowerOff"));
    let force = Some(json!({"force": true}));
    assert_eq!(ask(&agent, "/v1/shutdown", force).0, 202);
    until("the end", || {
        it.bus.log().contains("PowerOff").then_some(())
    });
}
