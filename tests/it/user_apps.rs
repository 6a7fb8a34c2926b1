//! User apps from a legacy supervisor to this agent and back (D-08), on the real engine. What
//! the legacy supervisor does there is done by this test, as that one does it: it knows its
//! objects by its label, makes what its target says, and removes the rest.

use helios::base::percent::percent_encode_segment;
use helios::http::client::Endpoint;
use serde_json::{Value, json};

use crate::support::engine::{self, App, app, call, service};
use crate::support::free_port;
use crate::support::{Agent, Backend, Options, Scratch, alone, http, image, unique, until};

const KEY: &str = "secret-key";
const CONFIG: &str = "io.balena.private.config";
const SUPERVISED: &str = "io.balena.supervised";
const SUBNET: &str = "10.213.77.0/24";

/// Leaves a mark in the volume, once.
const MARKS: &str =
    "test -e /data/mark || { date >/data/new; mv /data/new /data/mark; }; exec sleep infinity";

/// Both sides, and what they share.
struct Both {
    uuid: String,
    app: App,
    backend: Backend,
    dir: Scratch,
    agent: Option<Agent>,
    /// A port on which nobody answers: the other side comes by itself.
    legacy: String,
    /// Ids of containers and networks that the legacy side has made and not removed.
    made: Vec<(&'static str, String)>,
    /// Its last target.
    target: Option<Value>,
}

impl Both {
    fn new() -> Both {
        let encoded = percent_encode_segment(&image());
        call("POST", &format!("/images/create?fromImage={encoded}"), None);
        let both = Both {
            uuid: unique(),
            app: App::new(),
            backend: Backend::start(),
            dir: Scratch::new(),
            agent: None,
            legacy: format!("http://127.0.0.1:{}", free_port()),
            made: Vec::new(),
            target: None,
        };
        both.set_target("aa11");
        both
    }

    fn set_target(&self, release: &str) {
        let main = json!({"volumes": ["data:/data"], "networks": {"n": {}}});
        let body = json!({
            "services": {"main": service(7, main)}, "volumes": {"data": {}},
            "networks": {"n": {"ipam": {"config": [{"subnet": SUBNET}]}}},
        });
        let apps = json!({&self.app.0: app(release, body)});
        let target = json!({&self.uuid: {"name": "d", "config": {}, "apps": apps}});
        self.backend.set_target(&target);
    }

    fn start(&mut self, mode: &str) {
        let url = self.backend.url();
        let args = vec![
            "--uuid",
            &self.uuid,
            "--remote-api-endpoint",
            &url,
            "--remote-api-key",
            KEY,
            "--remote-poll-min-interval-ms",
            "100",
            "--remote-poll-interval-ms",
            "60000",
            "--legacy-api-endpoint",
            &self.legacy,
            "--legacy-api-key",
            "k",
            "--user-apps",
            mode,
        ];
        let options = Options {
            args,
            ..Options::default()
        };
        self.agent = Some(Agent::start(&self.dir.0, &options));
    }

    fn agent(&self) -> &Agent {
        self.agent.as_ref().unwrap()
    }

    /// Kills the agent and starts it again.
    fn restart(&mut self, mode: &str) {
        self.agent.take().unwrap().kill();
        self.start(mode);
    }

    fn containers(&self, is_ours: bool) -> Vec<Value> {
        let all = self.app.containers().into_iter();
        all.filter(|found| found["Labels"].get(CONFIG).is_some() == is_ours)
            .collect()
    }

    fn is_running(&self, is_ours: bool) -> bool {
        let all = self.containers(is_ours);
        all.iter().any(|found| found["State"] == "running")
    }

    /// The volume's labels, and what the container that runs sees in it: what the first one
    /// left there.
    fn volume(&self) -> (Value, Vec<u8>) {
        let found = call("GET", "/volumes/12_data", None).1;
        until("the mark", || {
            let all = self.app.containers();
            let runs = all.iter().find(|found| found["State"] == "running")?;
            let id = runs["Id"].as_str()?;
            let path = format!("/containers/{id}/archive?path=/data/mark");
            let (status, tar) = http(engine::endpoint(), "GET", &path, &[], None);
            (status == 200).then(|| (found["Labels"].clone(), tar))
        })
    }

    /// One round of the legacy supervisor. Nothing that it made may go but by its own hand.
    fn step(&mut self) {
        for (kind, id) in &self.made {
            let path = match *kind {
                "container" => format!("/containers/{id}/json"),
                _ => format!("/networks/{id}"),
            };
            assert_eq!(
                call("GET", &path, None).0,
                200,
                "{kind} {id} was taken away"
            );
        }
        let both = self.is_running(true) && self.is_running(false);
        assert!(!both, "two containers of one service run");
        let bearer = format!("Bearer {KEY}");
        let headers = [
            ("user-agent", "Supervisor/19.0.5 (Linux; x; prod)"),
            ("authorization", &bearer),
            ("content-type", "application/json"),
        ];
        let socket = self.agent().dir.join("api.sock");
        let ask = |method: &str, path: &str, body: Option<&[u8]>| {
            http(Endpoint::Unix(socket.clone()), method, path, &headers, body)
        };
        let (status, body) = ask("GET", &format!("/device/v3/{}/state", self.uuid), None);
        if status == 200 {
            self.target = Some(serde_json::from_slice(&body).unwrap());
        } else {
            assert_eq!(status, 503);
        }
        let of_it = json!({"aa11": {"update_status": "rejected", "services": {}}});
        let apps = json!({&self.app.0: {"releases": of_it}});
        let report = json!({&self.uuid: {"api_port": 4242, "apps": apps}});
        let report = report.to_string();
        let (status, said) = ask("PATCH", "/device/v3/state", Some(report.as_bytes()));
        assert_eq!(status, 200, "{said:?}");
        self.apply();
    }

    /// Makes its target so, one release of one app.
    fn apply(&mut self) {
        let Some(target) = &self.target else { return };
        let release = &target[&self.uuid]["apps"][&self.app.0]["releases"];
        let Some(release) = release.as_object().and_then(|all| all.values().next()) else {
            panic!("an app without a release loses its volumes: {target}");
        };
        assert!(release["volumes"]["data"].is_object(), "{release}");
        let is_wanted = release["services"]["main"].is_object();
        let mine = self.containers(false);
        match (is_wanted, mine.is_empty()) {
            (true, true) => self.make(),
            (false, false) => {
                for (kind, id) in std::mem::take(&mut self.made) {
                    let path = match kind {
                        "container" => format!("/containers/{id}?force=true"),
                        _ => format!("/networks/{id}"),
                    };
                    assert_eq!(call("DELETE", &path, None).0, 204, "{kind} {id}");
                }
            }
            _ => {}
        }
    }

    fn make(&mut self) {
        let labels = json!({SUPERVISED: "true", "io.balena.app-uuid": self.app.0});
        let volume = json!({"Name": "12_data", "Labels": labels});
        assert_eq!(call("POST", "/volumes/create", Some(&volume)).0, 201);
        let network = json!({
            "Name": format!("{}_n", self.app.0), "Labels": {SUPERVISED: "true"},
            "IPAM": {"Config": [{"Subnet": SUBNET}]},
        });
        let (status, made) = call("POST", "/networks/create", Some(&network));
        assert_eq!(status, 201, "ours is still there: {made}");
        let id = |made: &Value| made["Id"].as_str().unwrap().to_owned();
        let network = id(&made);
        let mut labels = labels;
        labels["io.balena.service-name"] = json!("main");
        let body = json!({
            "Image": image(), "Cmd": ["sh", "-c", MARKS], "StopSignal": "SIGKILL",
            "Labels": labels,
            "HostConfig": {"NetworkMode": &network, "Binds": ["12_data:/data"]},
        });
        let (status, made) = call("POST", "/containers/create?name=main_1_2_aa11", Some(&body));
        assert_eq!(status, 201, "{made}");
        let container = id(&made);
        let path = format!("/containers/{container}/start");
        assert_eq!(call("POST", &path, None).0, 204);
        self.made = vec![("container", container), ("network", network)];
    }

    /// How many reports had its word on the app.
    fn told_by_legacy(&self) -> usize {
        let all = self.backend.reports();
        let all = all
            .iter()
            .map(|report| &report[&self.uuid]["apps"][&self.app.0]);
        all.filter(|app| app["releases"]["aa11"]["update_status"] == "rejected")
            .count()
    }

    /// Steps until it is so.
    fn until(&mut self, what: &str, check: impl Fn(&Both) -> bool) {
        until(what, || {
            self.step();
            check(self).then_some(())
        });
    }

    /// The legacy side runs the app, and nothing of ours is there.
    fn is_back(&self) -> bool {
        let ours = |network: &Value| network["Labels"].get(CONFIG).is_some();
        self.is_running(false)
            && self.containers(true).is_empty()
            && !self.app.networks().iter().any(ours)
    }
}

impl Drop for Both {
    fn drop(&mut self) {
        self.agent = None;
        for (kind, id) in &self.made {
            call("DELETE", &format!("/{kind}s/{id}?force=true"), None);
        }
        for found in self.app.containers() {
            let id = found["Id"].as_str().unwrap_or_default();
            call("DELETE", &format!("/containers/{id}?force=true"), None);
        }
        call("DELETE", "/volumes/12_data", None);
    }
}

#[test]
fn d_08_d_24_user_apps_go_over_and_come_back_and_nobody_loses_anything() {
    let _alone = alone();
    let mut it = Both::new();
    it.start("auto");
    it.until("the legacy's own", |it| it.is_running(false));
    let volume = it.volume();
    assert!(it.containers(true).is_empty());
    assert!(it.agent.take().unwrap().stop().is_some());

    let told = it.told_by_legacy();
    it.start("on");
    it.until("ours", |it| it.is_running(true) && it.made.is_empty());
    it.until("done", |it| it.agent().status() == "done");
    let ours = it.containers(true);
    assert_eq!(ours.len(), 1);
    let labels = &ours[0]["Labels"];
    assert!(
        labels.get(SUPERVISED).is_none(),
        "invisible to it: {labels}"
    );
    // In any order, beside the directory of its update lock.
    let mounts = ours[0]["Mounts"].as_array().unwrap();
    let has_volume = mounts.iter().any(|mount| mount["Name"] == "12_data");
    assert!(has_volume, "{mounts:?}");
    assert_eq!(it.volume(), volume);
    // Both halves of the report arrive, each once.
    until("the reports", || {
        let all = it.backend.reports();
        let of = |report: &Value| report[&it.uuid].clone();
        let runs = |report: &Value| {
            let app = &of(report)["apps"][&it.app.0]["releases"]["aa11"];
            app["services"]["main"]["status"] == "Running"
        };
        let port = |report: &Value| of(report)["api_port"] == 4242;
        (all.iter().any(runs) && all.iter().any(port)).then_some(())
    });
    // An update flows through ours alone.
    it.set_target("bb22");
    assert_eq!(it.agent().call("POST", "/v1/update", None).0, 202);
    it.until("the update", |it| {
        let all = it.containers(true);
        all.len() == 1 && all[0]["Names"][0] == "/main_bb22" && it.agent().status() == "done"
    });
    assert!(it.made.is_empty());
    assert_eq!(it.told_by_legacy(), told, "its apps are not reported");
    assert!(it.agent.take().unwrap().stop().is_some());

    it.start("off");
    it.until("the legacy's own again", Both::is_back);
    assert_eq!(it.volume(), volume);
    assert_eq!(it.agent().get("/v3/device")["apps"], json!({}));
    // The next start finds nothing to give back.
    it.restart("off");
    it.until("the same", Both::is_back);
    assert_eq!(it.agent().log().matches("what this agent made").count(), 1);
}

#[test]
fn d_08_a_kill_at_each_step_of_the_way_there_and_back_changes_nothing() {
    let _alone = alone();
    let mut it = Both::new();
    it.start("off");
    it.until("the legacy's own", |it| it.is_running(false));
    let volume = it.volume();
    // At once; and each time one more step was seen.
    it.restart("on");
    it.restart("on");
    it.until("the target without services", |it| {
        let target = it.target.as_ref();
        target.is_some_and(|target| !target.to_string().contains("\"main\""))
    });
    it.restart("on");
    it.until("the legacy's own gone", |it| it.made.is_empty());
    it.restart("on");
    it.until("ours", |it| it.is_running(true));
    it.restart("on");
    it.until("done", |it| it.agent().status() == "done");
    assert_eq!(it.volume(), volume);
    // A change of mind in the middle, both ways.
    it.restart("off");
    it.restart("on");
    it.until("ours again", |it| it.is_running(true) && it.made.is_empty());
    it.restart("off");
    it.agent().wait_for_log("what this agent made");
    it.restart("off");
    until("ours gone", || it.containers(true).is_empty().then_some(()));
    it.restart("off");
    it.until("the legacy's own again", Both::is_back);
    assert_eq!(it.volume(), volume);
}
