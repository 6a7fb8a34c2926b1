//! The fake engine answers as a real one does: the same conversation with both.

use std::process::Command;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use helios::base::percent::percent_encode_segment;
use helios::http::client::{Client, Endpoint, Request, Timeouts};
use serde_json::{Value, json};

use super::support::engine::publish;
use super::support::fake::Fake;
use super::support::{
    Agent, Backend, Options, PATIENCE, Scratch, alone, engine, http, unique, until,
};

/// What the agent wants to hear of (`src/engine/events.rs`).
const WANTED: &str = "{\"type\":[\"container\",\"network\",\"volume\",\"image\"],\"event\":[\
    \"start\",\"die\",\"stop\",\"kill\",\"destroy\",\"remove\",\"rename\",\"pause\",\"unpause\",\
    \"delete\",\"untag\"]}";

/// One conversation with one engine, and what was said.
struct Conversation {
    engine: Endpoint,
    /// Is in every name.
    unique: String,
    said: Vec<String>,
}

impl Conversation {
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value, String) {
        let body = body.map(Value::to_string);
        let headers: &[(&str, &str)] = &[("content-type", "application/json")];
        let bytes = body.as_ref().map(|body| body.as_bytes());
        let (status, said) = http(self.engine.clone(), method, path, headers, bytes);
        let value = serde_json::from_slice(&said).unwrap_or(Value::Null);
        (status, value, String::from_utf8_lossy(&said).into_owned())
    }

    /// Notes the status and, of each place in the answer, what kind of value is there;
    /// or the value itself where the place begins with `=`.
    fn say(&mut self, method: &str, path: &str, body: Option<&Value>, see: &[&str]) {
        let (status, value, _) = self.call(method, path, body);
        let mut line = format!("{method} {path}: {status}");
        for place in see {
            let exact = place.strip_prefix('=');
            let found = value.pointer(exact.unwrap_or(place));
            let shown = match found {
                Some(found) if exact.is_some() => found.to_string(),
                Some(found) => kind(found).to_owned(),
                None => "absent".to_owned(),
            };
            line.push_str(&format!(" {place} {shown}"));
        }
        self.said.push(line.replace(&self.unique, "U"));
    }

    /// A container's inspection, in what the agent reads of it.
    fn inspect(&mut self, name: &str, networks: &[&str]) {
        let mut see = vec![
            "/Id",
            "=/Name",
            "/Image",
            "/Created",
            "=/RestartCount",
            "=/State/Status",
            "=/State/ExitCode",
            "=/State/Health",
            "=/Config/Labels/a",
            "=/Config/Image",
            "=/HostConfig/RestartPolicy/Name",
            "/HostConfig/RestartPolicy/MaximumRetryCount",
            "=/HostConfig/NetworkMode",
            "=/Mounts/0/Type",
            "=/Mounts/0/Name",
            "/Mounts/0/Source",
            "=/Mounts/0/Destination",
        ];
        let networks: Vec<_> = networks
            .iter()
            .map(|name| format!("/NetworkSettings/Networks/{name}"))
            .collect();
        see.extend(networks.iter().map(String::as_str));
        self.say("GET", &format!("/containers/{name}/json"), None, &see);
    }

    /// Pulls, and notes which of the words that tell progress were heard.
    fn pull(&mut self, image: &str) {
        let path = format!("/images/create?fromImage={}", percent_encode_segment(image));
        let (status, _, text) = self.call("POST", &path, None);
        // What lies between is left out by an engine in a hurry.
        let words = ["Pulling fs layer", "Pull complete"];
        let words = words.map(|word| text.contains(&format!("\"status\":\"{word}\"")));
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let ends = lines.iter().rev().take(2).map(|line| {
            let status = line["status"].as_str().unwrap_or_default();
            status.split(':').next().unwrap_or_default().to_owned()
        });
        let ends: Vec<_> = ends.collect();
        self.said.push(format!("pull: {status} {words:?} {ends:?}"));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Everything that is asked, in order, and what came of it. `image` is on no engine yet.
fn converse(engine: Endpoint, unique: &str, image: &str) -> Vec<String> {
    let events = listen(engine.clone(), unique.to_owned());
    let said = Vec::new();
    let mut talk = Conversation {
        engine,
        unique: unique.to_owned(),
        said,
    };
    let talk = &mut talk;
    start_up(talk);
    images(talk, image);
    storage(talk);
    containers(talk, image);
    endings(talk, image);
    clean_up(talk, image);
    let mut said = std::mem::take(&mut talk.said);
    said.extend(events.join().unwrap());
    said
}

fn start_up(talk: &mut Conversation) {
    talk.say(
        "GET",
        "/version",
        None,
        &[
            "/ApiVersion",
            "/Version",
            "=/Components/0/Name",
            "/Platform/Name",
        ],
    );
    talk.say("GET", "/info", None, &["/DockerRootDir"]);
    talk.say("GET", "/v1.40/_ping", None, &[]);
    talk.say("GET", "/v1.99/info", None, &["/message"]);
    talk.say("GET", "/v1.40/nonsense", None, &["/message"]);
}

fn images(talk: &mut Conversation, image: &str) {
    let (repository, tag) = image.rsplit_once(':').unwrap();
    let made = json!({"Image": image});
    let other = format!("helios-test/other-{}", talk.unique);
    talk.say("GET", &format!("/images/{image}/json"), None, &["/message"]);
    talk.say(
        "POST",
        &format!("/containers/create?name=x{}", talk.unique),
        Some(&made),
        &["/message"],
    );
    talk.pull(
        &format!("{repository}-nothing:{tag}").replace("/helios-test/", "/helios-test/nothing-"),
    );
    talk.pull(image);
    talk.say(
        "GET",
        &format!("/images/{image}/json"),
        None,
        &["/Id", "/RepoTags/0", "/RepoDigests/0", "=/Config/Cmd"],
    );
    talk.pull(image);
    let to = format!("repo={}&tag=1", percent_encode_segment(&other));
    talk.say("POST", &format!("/images/{image}/tag?{to}"), None, &[]);
    talk.say("POST", &format!("/images/{image}/tag?{to}"), None, &[]);
    talk.say(
        "POST",
        &format!("/images/{other}-not:1/tag?{to}"),
        None,
        &["/message"],
    );
    talk.say(
        "DELETE",
        &format!("/images/{other}:1"),
        None,
        &["/0/Untagged", "/1"],
    );
    talk.say("DELETE", &format!("/images/{other}:1"), None, &["/message"]);
}

fn storage(talk: &mut Conversation) {
    let u = talk.unique.clone();
    let filter = percent_encode_segment(&format!("{{\"label\":[\"u={u}\"]}}"));
    let network = json!({"Name": format!("net-{u}"), "CheckDuplicate": true, "Driver": "bridge",
        "Labels": {"u": u}, "Options": {}, "IPAM": {"Driver": "default", "Config": [], "Options": {}}});
    talk.say("POST", "/networks/create", Some(&network), &["/Id"]);
    talk.say("POST", "/networks/create", Some(&network), &["/message"]);
    talk.say(
        "GET",
        &format!("/networks?filters={filter}"),
        None,
        &["/0/Id", "=/0/Name", "=/0/Labels", "/1"],
    );
    let second = json!({"Name": format!("net2-{u}"), "CheckDuplicate": true});
    talk.say("POST", "/networks/create", Some(&second), &["/Id"]);
    talk.say(
        "GET",
        &format!("/networks/net2-{u}"),
        None,
        &["/Id", "=/Name", "=/Labels", "=/Driver"],
    );
    let volume = json!({"Name": format!("vol-{u}"), "Driver": "local", "DriverOpts": {}, "Labels": {"u": u}});
    for _ in 0..2 {
        talk.say(
            "POST",
            "/volumes/create",
            Some(&volume),
            &["=/Name", "=/Driver", "=/Labels"],
        );
    }
    talk.say(
        "GET",
        &format!("/volumes?filters={filter}"),
        None,
        &["=/Volumes/0/Name", "=/Volumes/0/Labels", "/Volumes/1"],
    );
}

/// As the agent makes one (`src/engine/container`).
fn body(talk: &Conversation, image: &str) -> Value {
    let u = &talk.unique;
    json!({
        "Image": image, "Labels": {"a": "b", "u": u}, "Env": ["A=b"], "Tty": false,
        "Cmd": ["sleep", "infinity"], "StopSignal": "SIGKILL",
        "HostConfig": {
            "Mounts": [{"Type": "volume", "Source": format!("vol-{u}"), "Target": "/data", "ReadOnly": false}],
            "NetworkMode": format!("net-{u}"), "RestartPolicy": {"Name": "always"},
            "Privileged": false, "ReadonlyRootfs": false, "CgroupnsMode": "host",
        },
        "NetworkingConfig": {"EndpointsConfig": {format!("net-{u}"): {"Aliases": ["main"]}}},
    })
}

fn containers(talk: &mut Conversation, image: &str) {
    let u = talk.unique.clone();
    let (net, net2) = (format!("net-{u}"), format!("net2-{u}"));
    let (main, other) = (
        format!("/containers/main-{u}"),
        format!("/containers/other-{u}"),
    );
    let create = format!("/containers/create?name=main-{u}");
    let filter = percent_encode_segment(&format!("{{\"label\":[\"u={u}\"]}}"));
    let made = body(talk, image);
    talk.say("POST", &create, Some(&made), &["/Id", "/Warnings"]);
    talk.say("POST", &create, Some(&made), &["/message"]);
    talk.inspect(&format!("main-{u}"), &[&net]);
    talk.say(
        "GET",
        &format!("/containers/json?filters={filter}"),
        None,
        &["/0"],
    );
    let see = ["/0/Id", "=/0/Names/0", "=/0/Labels/a", "=/0/State", "/1"];
    talk.say(
        "GET",
        &format!("/containers/json?all=true&filters={filter}"),
        None,
        &see,
    );
    talk.say(
        "POST",
        &format!("/networks/{net2}/connect"),
        Some(&json!({"Container": format!("main-{u}"),
        "EndpointConfig": {"Aliases": ["main"]}})),
        &[],
    );
    talk.say("POST", &format!("{main}/start"), None, &[]);
    talk.say("POST", &format!("{main}/start"), None, &[]);
    talk.inspect(&format!("main-{u}"), &[&net, &net2]);
    let lost = format!("/networks/not-{u}/connect");
    let who = json!({"Container": format!("main-{u}")});
    talk.say("POST", &lost, Some(&who), &["/message"]);
    talk.say("POST", &format!("{main}/pause"), None, &[]);
    talk.say("POST", &format!("{main}/start"), None, &["/message"]);
    talk.inspect(&format!("main-{u}"), &[&net]);
    talk.say("POST", &format!("{main}/unpause"), None, &[]);

    // One that cannot start.
    let mut lost = body(talk, image);
    lost["HostConfig"]["NetworkMode"] = json!(format!("not-{u}"));
    lost["NetworkingConfig"] = Value::Null;
    talk.say(
        "POST",
        &format!("/containers/create?name=other-{u}"),
        Some(&lost),
        &["/Id"],
    );
    let who = json!({"Container": format!("other-{u}")});
    talk.say(
        "POST",
        &format!("/networks/not2-{u}/connect"),
        Some(&who),
        &["/message"],
    );
    talk.say("POST", &format!("{other}/start"), None, &["/message"]);
    talk.say("POST", &format!("{other}/stop"), None, &[]);
    talk.say(
        "POST",
        &format!("{main}/rename?name=other-{u}"),
        None,
        &["/message"],
    );

    // What is in use.
    talk.say("DELETE", &format!("{main}?v=true"), None, &["/message"]);
    talk.say("DELETE", &format!("/volumes/vol-{u}"), None, &["/message"]);
    talk.say("DELETE", &format!("/networks/{net}"), None, &["/message"]);
    talk.say("DELETE", &format!("/images/{image}"), None, &["/message"]);
    talk.say("DELETE", &format!("{other}?v=true"), None, &[]);

    talk.say("POST", &format!("{main}/rename?name=old-{u}"), None, &[]);
    talk.say("GET", &format!("{main}/json"), None, &["/message"]);
    let old = format!("/containers/old-{u}");
    for _ in 0..2 {
        talk.say("POST", &format!("{old}/stop"), None, &[]);
    }
    talk.inspect(&format!("old-{u}"), &[&net, &net2]);
    talk.say("POST", &format!("{old}/kill"), None, &["/message"]);
    talk.say("DELETE", &format!("/networks/{net2}"), None, &[]);
    talk.say("DELETE", &format!("/volumes/vol-{u}"), None, &["/message"]);
    for _ in 0..2 {
        talk.say("DELETE", &format!("{old}?v=true"), None, &["/message"]);
    }
    for verb in ["start", "stop", "rename?name=x"] {
        talk.say("POST", &format!("{old}/{verb}"), None, &["/message"]);
    }
}

/// A container that ends at once has had its two more tries; what it is like then is compared.
const ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Containers that end by themselves, and namespaces that are lent.
fn endings(talk: &mut Conversation, image: &str) {
    let u = talk.unique.clone();
    let mut made = body(talk, image);
    made["Cmd"] = json!(["sh", "-c", "exit 3"]);
    made["HostConfig"]["RestartPolicy"] = json!({"Name": "on-failure", "MaximumRetryCount": 2});
    let ends = format!("/containers/ends-{u}");
    talk.say(
        "POST",
        &format!("/containers/create?name=ends-{u}"),
        Some(&made),
        &["/Id"],
    );
    talk.say("POST", &format!("{ends}/start"), None, &[]);
    let begun = Instant::now();
    while begun.elapsed() < ENDS_WITHIN {
        let found = talk.call("GET", &format!("{ends}/json"), None).1;
        if found["State"]["Status"] == "exited" && found["RestartCount"] == 2 {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    talk.inspect(&format!("ends-{u}"), &[]);
    let mut guest = body(talk, image);
    guest["HostConfig"]["NetworkMode"] = json!(format!("container:ends-{u}"));
    guest["NetworkingConfig"] = Value::Null;
    let create = format!("/containers/create?name=guest-{u}");
    talk.say("POST", &create, Some(&guest), &["/Id"]);
    talk.say(
        "POST",
        &format!("/containers/guest-{u}/start"),
        None,
        &["/message"],
    );
    talk.say(
        "DELETE",
        &format!("/containers/guest-{u}?force=true"),
        None,
        &[],
    );
    talk.say("DELETE", &ends, None, &[]);
}

fn clean_up(talk: &mut Conversation, image: &str) {
    let u = talk.unique.clone();
    for _ in 0..2 {
        talk.say("DELETE", &format!("/networks/net-{u}"), None, &["/message"]);
    }
    talk.say(
        "DELETE",
        &format!("/images/{image}"),
        None,
        &["/0/Untagged", "/1/Untagged"],
    );
    talk.say("DELETE", &format!("/images/{image}"), None, &["/message"]);
    for _ in 0..2 {
        talk.say("DELETE", &format!("/volumes/vol-{u}"), None, &["/message"]);
    }
}

/// The events of this conversation, up to the end of its volume.
fn listen(engine: Endpoint, unique: String) -> JoinHandle<Vec<String>> {
    let (ready, begun) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let timeouts = Timeouts {
            resolve: PATIENCE,
            tls: PATIENCE,
            connect: PATIENCE,
            head: PATIENCE,
            idle: PATIENCE,
            total: None,
        };
        let client = Client::new(engine, timeouts);
        let target = format!("/events?filters={}", percent_encode_segment(WANTED));
        async_io::block_on(async {
            let request = Request {
                method: "GET",
                target: &target,
                headers: &[],
                body: None,
                ..Request::default()
            };
            let mut response = client.send(request).await.unwrap();
            ready.send(response.status()).unwrap();
            let (mut line, mut told) = (Vec::new(), Vec::new());
            while response.line(1 << 20, &mut line).await.unwrap() {
                let event: Value = serde_json::from_slice(&line).unwrap();
                let (what, action) = (&event["Type"], &event["Action"]);
                let (id, name) = (&event["Actor"]["ID"], &event["Actor"]["Attributes"]["name"]);
                let is_image = what == "image" && id.is_string();
                let named = [id, name]
                    .into_iter()
                    .filter_map(Value::as_str)
                    .find(|one| one.contains(&unique));
                if named.is_some() || is_image {
                    let named = named.unwrap_or_default().replace(&unique, "U");
                    told.push(format!("{what} {action} {named}"));
                }
                if what == "volume" && action == "destroy" && named.is_some() {
                    break;
                }
            }
            // The end of a process and of the call that stopped it are told in either order.
            for at in 1..told.len() {
                if told[at - 1].contains(" \"stop\" ") && told[at].contains(" \"die\" ") {
                    told.swap(at - 1, at);
                }
            }
            told
        })
    });
    assert_eq!(begun.recv_timeout(PATIENCE).unwrap(), 200);
    thread
}

#[test]
fn the_fake_engine_answers_as_a_real_one() {
    let _alone = alone();
    let (scratch, unique) = (Scratch::new(), unique());
    let image = publish("fake");
    let fake = Fake::start(&scratch.0);
    let real = converse(engine::endpoint(), &unique, &image);
    let fake = converse(fake.endpoint.clone(), &unique, &image);
    let pairs = real.iter().zip(&fake).filter(|(real, fake)| real != fake);
    let pairs: Vec<_> = pairs
        .map(|(real, fake)| format!("real: {real}\nfake: {fake}"))
        .collect();
    assert!(
        pairs.is_empty(),
        "they answer differently:\n{}",
        pairs.join("\n")
    );
    assert_eq!(fake.len(), real.len());
}

/// A service of an image that only the fake engine can pull.
fn service(id: u32, composition: Value) -> Value {
    json!({"id": id, "image": "registry.test/it:1", "composition": composition})
}

#[test]
fn an_agent_does_its_main_job_on_the_fake_engine() {
    let scratch = Scratch::new();
    let fake = Fake::start(&scratch.0);
    let options = Options {
        engine: Some(fake.url.clone()),
        ..Options::default()
    };
    let agent = Agent::start(&scratch.0, &options);
    let app = |release: &str, role: &str| {
        let mut data = service(1, json!({"volumes": ["data:/data"], "networks": ["net"]}));
        data["environment"] = json!({"ROLE": role});
        let services = json!({"data": data, "ends": service(2, json!({"command": ["true"], "restart": "no"}))});
        let body = json!({"services": services, "networks": {"net": {}}, "volumes": {"data": {}}});
        engine::app(release, body)
    };
    let running = || {
        let (status, listed) = http(fake.endpoint.clone(), "GET", "/containers/json", &[], None);
        assert_eq!(status, 200);
        let listed: Value = serde_json::from_slice(&listed).unwrap();
        let listed = listed.as_array().unwrap().iter();
        listed
            .map(|one| one["Names"][0].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    agent.set("a1", &app("r1", "one"));
    agent.wait_for("done");
    assert_eq!(running(), ["/data_r1"]);
    agent.set("a1", &app("r2", "two"));
    agent.wait_for("done");
    assert_eq!(running(), ["/data_r2"]);
    // What somebody stops is seen by its event, and healed.
    let path = "/containers/data_r2?force=true";
    assert_eq!(
        http(fake.endpoint.clone(), "DELETE", path, &[], None).0,
        204
    );
    until("the removed service", || {
        (running() == ["/data_r2"]).then_some(())
    });
    agent.remove("a1");
    agent.wait_for("done");
    assert!(running().is_empty());
}

/// A day of new releases, in short (issue 5, Numbers): `scripts/bench churn` does the whole of it with the static build,
/// whose heap is another one. Also what a real engine is too slow for: a release as soon as the former one is done
/// finds every read of the engine that is under way.
#[test]
fn issue_5_churn_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let (fake, backend, device) = (Fake::start(&scratch.0), Backend::start(), unique());
    let url = backend.url();
    backend.set_target(&json!({device.as_str(): {"name": "churn", "config": {}, "apps": {}}}));
    #[rustfmt::skip]
    let args = [
        "--uuid", &device, "--remote-api-endpoint", &url, "--remote-api-key", "key",
        "--remote-poll-min-interval-ms", "1", "--remote-poll-max-jitter-ms", "1",
    ];
    let options = Options {
        args: args.to_vec(),
        engine: Some(fake.url.clone()),
        ..Options::default()
    };
    // Pages of a program that was just linked count as the agent's own until they are written.
    let program = std::fs::File::open(env!("CARGO_BIN_EXE_helios")).unwrap();
    program.sync_all().unwrap();
    let agent = Agent::start(&scratch.0, &options);
    let python = std::env::var("HELIOS_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let churn = Command::new(python)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/bench/churn.py"))
        .arg(format!("unix://{}", scratch.0.join("api.sock").display()))
        .args([
            &url,
            &fake.url,
            &agent.pid().to_string(),
            &device,
            "240",
            "120",
        ])
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&churn.stdout);
    assert!(
        churn.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&churn.stderr)
    );
    let kib: Vec<u64> = said
        .split(' ')
        .take(2)
        .map(|word| word.parse().unwrap())
        .collect();
    assert!(
        kib[1] <= kib[0] + 64,
        "private KiB after 120 releases, after 240, and the rest: {said}"
    );
    let log = agent.log();
    let refused: Vec<_> = log
        .lines()
        .filter(|line| line.contains("already exists"))
        .collect();
    assert!(refused.is_empty(), "a network was made twice: {refused:?}");
}
