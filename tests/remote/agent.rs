//! The agent itself against the fault panel of the development backend. It needs no engine:
//! what is looked at is what it says, what it keeps, and that it recovers by itself.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use helios::http::client::{Client, Endpoint, Request};
use serde_json::{Value, json};

use crate::serve::{KEY, PATIENT, Scratch, UUID};

/// The development backend, running.
pub struct DevBackend {
    child: Child,
    pub address: String,
}

impl DevBackend {
    pub fn start() -> DevBackend {
        let beside = Path::new(env!("CARGO_BIN_EXE_helios")).parent().unwrap();
        let program = beside.join("examples/backend");
        let mut child = Command::new(&program)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("{}: {err}; cargo build --examples", program.display()));
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line.trim().rsplit('/').next().unwrap().to_owned();
        DevBackend { child, address }
    }

    pub fn control(&self, method: &str, route: &str, body: &Value) -> Value {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let endpoint = Endpoint::Tcp {
            host: host.into(),
            port: port.parse().unwrap(),
        };
        let target = format!("/_control/{route}");
        call(endpoint, method, &target, Some(body))
    }
}

impl Drop for DevBackend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn call(endpoint: Endpoint, method: &str, target: &str, body: Option<&Value>) -> Value {
    let text = body.map(Value::to_string);
    let client = Client::new(endpoint, PATIENT);
    let headers: &[(&str, &str)] = &[("content-type", "application/json")];
    let body = text.as_ref().map(|text| text.as_bytes());
    let request = Request {
        method,
        target,
        headers,
        body,
        ..Request::default()
    };
    let (status, bytes) = async_io::block_on(async {
        let mut response = client.send(request).await.unwrap();
        (response.status(), response.bytes(16 << 20).await.unwrap())
    });
    assert!((200..300).contains(&status), "{method} {target}: {status}");
    serde_json::from_slice(&bytes).unwrap_or(Value::Null)
}

struct Agent {
    child: Child,
    dir: Scratch,
}

impl Agent {
    fn start(backend: &DevBackend, dir: Scratch) -> Agent {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.0.join("log"))
            .unwrap();
        let url = format!("http://{}", backend.address);
        let mut command = Command::new(env!("CARGO_BIN_EXE_helios"));
        command
            .env_clear()
            .env("HOME", &dir.0)
            .env("XDG_RUNTIME_DIR", dir.0.join("run"))
            .env("RUST_LOG", "warn,helios=info")
            .env(
                "DOCKER_HOST",
                format!("unix://{}/no-engine", dir.0.display()),
            )
            .args([
                "--uuid",
                UUID,
                "--remote-api-key",
                KEY,
                "--remote-api-endpoint",
                &url,
            ])
            .args([
                "--remote-poll-min-interval-ms",
                "20",
                "--remote-poll-interval-ms",
                "400",
            ])
            .args([
                "--remote-poll-max-jitter-ms",
                "20",
                "--remote-request-timeout-ms",
                "1500",
            ])
            .arg("--local-api-address")
            .arg(dir.0.join("api.sock"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let child = command.spawn().unwrap();
        Agent { child, dir }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.0.join("log")).unwrap_or_default()
    }

    fn status(&self) -> Value {
        let endpoint = Endpoint::Unix(self.dir.0.join("api.sock"));
        call(endpoint, "GET", "/v3/status?detail=true", None)
    }

    fn stop(mut self) -> Scratch {
        let _ = self.child.kill();
        let _ = self.child.wait();
        std::mem::replace(&mut self.dir, Scratch::new())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks until it is so: it happens in other processes, which tell nobody.
fn until(what: &str, mut check: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !check() {
        assert!(
            begun.elapsed() < Duration::from_secs(90),
            "waited too long for {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn target(release: &str) -> Value {
    json!({UUID: {"name": "a-device", "config": {}, "apps": {"8a1f0c2be35f4d55a2b4f0d3c1e2a9b7": {
        "id": 1, "name": "hello", "releases": {release: {"services": {
            "main": {"id": 1, "image": "busybox"}}}}}}}})
}

const AGAIN: &str = "poll: the backend answers again";

/// "For each one clear log line, no lost target, recovery by itself."
#[test]
fn s_net_each_fault_is_one_line_and_the_agent_recovers_by_itself() {
    let backend = DevBackend::start();
    backend.control("PUT", "target", &target("aa11"));
    let agent = Agent::start(&backend, Scratch::new());
    let kept = || {
        let dir = std::fs::read_dir(agent.dir.0.join(".cache/helios")).ok()?;
        let files = dir
            .flatten()
            .filter_map(|file| std::fs::read_to_string(file.path()).ok());
        files.last()
    };
    until("the target", || {
        kept().is_some_and(|text| text.contains("aa11"))
    });
    let good = kept().unwrap();
    #[rustfmt::skip]
    let faults = [
        ("500", json!({"status": 500}), "answers 500"),
        ("429 with seconds", json!({"status": 429, "retry_after": 0}), "answers 429"),
        ("429 with a date", json!({"status": 429, "retry_after_date": 0}), "answers 429"),
        ("401", json!({"status": 401}), "the key is not good"),
        ("unknown device", json!({"status": 200, "body": "[]"}), "cannot be read"),
        ("redirect", json!({"status": 302, "headers": {"Location": "ftp://other/"}}), "points to ftp://other/"),
        ("cut head", json!({"cut": 20}), "closed too early"),
        ("no answer at all", json!({"cut": 0}), "closed too early"),
        ("garbage", json!({"garbage": 5000}), ""),
        ("too long a length", json!({"status": 200, "body": "{}", "length": 5}), "closed too early"),
        ("captive portal", json!({"status": 200, "body": "<html></html>"}), "not JSON"),
        ("a coding nobody offered", json!({"status": 200, "body": "{}", "headers": {"Content-Encoding": "zstd"}}), "content coding"),
        ("no gzip", json!({"status": 200, "body": "{}", "headers": {"Content-Encoding": "gzip"}}), "gzip"),
        ("silence", json!({"silent": true}), "silent"),
        ("slow bytes", json!({"slow_ms": 40}), "silent"),
    ];
    for (what, mut fault, says) in faults {
        let before = agent.log().len();
        fault["route"] = json!("poll");
        // Three times the same is one line.
        fault["times"] = json!(3);
        backend.control("PUT", "fail", &fault);
        let since = || agent.log()[before..].to_owned();
        if what == "unknown device" {
            // A document that is none: it is the target that is refused, not the poll.
            until(what, || since().contains(says));
        } else {
            until(what, || since().contains(AGAIN));
            let log = since();
            let lines: Vec<_> = log
                .lines()
                .filter(|line| line.contains("poll: ") && !line.contains(AGAIN))
                .collect();
            assert!(
                lines.iter().all(|line| line.contains(says)),
                "{what}: {lines:?}"
            );
            assert_eq!(
                lines.len(),
                if what == "garbage" {
                    lines.len().max(1)
                } else {
                    1
                },
                "{what}: {log}"
            );
        }
        assert!(!since().contains(KEY));
        until("the end of it", || agent.status()["backend"].is_null());
    }
    assert_eq!(kept().unwrap()["{".len()..][..20], good["{".len()..][..20]);
    assert!(kept().unwrap().contains("aa11"), "the last target is kept");
    // And it is still the same agent, which takes the next target.
    backend.control("PUT", "target", &target("bb22"));
    until("the next target", || kept().unwrap().contains("bb22"));
}

/// R-POLL-6 and a device that comes back, S-NET-02.
#[test]
fn r_poll_6_s_net_02_a_deleted_device_is_said_and_shown_and_outages_end() {
    let mut backend = DevBackend::start();
    backend.control("PUT", "target", &target("aa11"));
    backend.control(
        "PUT",
        &format!("devices/{UUID}"),
        &json!({"state": "deleted"}),
    );
    let agent = Agent::start(&backend, Scratch::new());
    let text = "does not know this device (deleted or frozen)";
    until("the word", || agent.log().contains(text));
    until("the status", || {
        agent.status()["backend"]
            .as_str()
            .is_some_and(|why| why.contains(text))
    });
    backend.control(
        "PUT",
        &format!("devices/{UUID}"),
        &json!({"state": "normal"}),
    );
    until("its return", || agent.log().contains(AGAIN));
    // The backend goes, and comes back at the same place.
    let _ = backend.child.kill();
    let _ = backend.child.wait();
    until("the outage", || !agent.status()["backend"].is_null());
    let beside = Path::new(env!("CARGO_BIN_EXE_helios"))
        .parent()
        .unwrap()
        .join("examples/backend");
    backend.child = Command::new(beside)
        .args(["--listen", &backend.address])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // It knows nothing: the device is unknown until its target is there again.
    until("the backend", || {
        std::net::TcpStream::connect(&backend.address).is_ok()
    });
    backend.control("PUT", "target", &target("cc33"));
    until("the return", || agent.log().matches(AGAIN).count() >= 2);
}

/// A device that has its target, and is deleted: conditional polls are answered as ever.
#[test]
fn r_poll_6_ra_w_14_a_device_that_is_deleted_later_is_said_and_what_runs_goes_on() {
    let backend = DevBackend::start();
    backend.control("PUT", "target", &target("aa11"));
    let agent = Agent::start(&backend, Scratch::new());
    let text = "does not know this device (deleted or frozen)";
    let asked = |status: u64| {
        let log = backend.control("GET", "log", &Value::Null);
        let log = log.as_array().unwrap().iter();
        log.filter(|one| one["status"] == status).count()
    };
    until("unchanged polls", || asked(200) > 0 && asked(304) > 0);
    assert!(!agent.log().contains(text));
    for state in ["deleted", "frozen"] {
        let before = agent.log().len();
        let since = || agent.log()[before..].to_owned();
        let device = format!("devices/{UUID}");
        backend.control("PUT", &device, &json!({"state": state}));
        until(state, || since().contains(text));
        let shown = |is: bool| {
            let status = agent.status();
            status["backend"]
                .as_str()
                .is_some_and(|why| why.contains(text))
                == is
        };
        until("the status", || shown(true));
        backend.control("PUT", &device, &json!({"state": "normal"}));
        until("its return", || since().contains(AGAIN) && shown(false));
        assert_eq!(since().matches(text).count(), 1, "said once");
    }
    let again = agent.log().matches("a target came in").count();
    assert_eq!(again, 0, "the same target is no news");
}

/// Nowhere to keep it: what comes is the target all the same, and that is said once.
#[test]
fn s_poll_08_a_target_that_cannot_be_kept_is_still_the_target() {
    let (backend, dir) = (DevBackend::start(), Scratch::new());
    backend.control("PUT", "target", &target("aa11"));
    std::fs::create_dir_all(dir.0.join(".cache")).unwrap();
    // A file where the directory should be stops even root.
    std::fs::write(dir.0.join(".cache/helios"), "").unwrap();
    let agent = Agent::start(&backend, dir);
    let said = "the target is not kept for the next start";
    until("the word", || agent.log().contains(said));
    // Each is taken, and asked for with its own condition from then on.
    for release in ["bb22", "cc33"] {
        backend.control("DELETE", "log", &Value::Null);
        backend.control("PUT", "target", &target(release));
        let log = || backend.control("GET", "log", &Value::Null);
        until(release, || {
            let log = log();
            let mut polls = log.as_array().unwrap().iter().map(|one| &one["status"]);
            polls.any(|status| *status == 200) && polls.any(|status| *status == 304)
        });
    }
    let times = agent.log().matches(said).count();
    assert_eq!(times, 1, "{}", agent.log());
    // Where the disk is back, it is kept again.
    std::fs::remove_file(agent.dir.0.join(".cache/helios")).unwrap();
    backend.control("PUT", "target", &target("dd44"));
    until("its return", || {
        agent.log().contains("is kept for the next start again")
    });
}

/// S-POLL-07, R-POLL-9: the next start with the cache, with a damaged one, and with another key.
#[test]
fn s_poll_02_s_poll_07_a_damaged_cache_is_said_and_not_asked_with() {
    let backend = DevBackend::start();
    backend.control("PUT", "target", &target("aa11"));
    let agent = Agent::start(&backend, Scratch::new());
    let cached = |dir: &Scratch| {
        let dir = std::fs::read_dir(dir.0.join(".cache/helios")).ok()?;
        dir.flatten()
            .map(|file| file.path())
            .find(|path| path.extension().is_some_and(|kind| kind == "json"))
    };
    until("the target", || cached(&agent.dir).is_some());
    let dir = agent.stop();
    let file = cached(&dir).unwrap();
    let good = std::fs::read_to_string(&file).unwrap();
    let (same, _) = good.split_once("\"fetched\"").unwrap();
    let is_made = || std::fs::read_to_string(&file).is_ok_and(|text| text.starts_with(same));
    let again = |dir: Scratch, says: &str| {
        let _ = std::fs::remove_file(dir.0.join("log"));
        backend.control("DELETE", "log", &Value::Null);
        let agent = Agent::start(&backend, dir);
        until(says, || agent.log().contains(says));
        let first = || backend.control("GET", "log", &Value::Null)[0]["status"].as_u64();
        until("a poll", || first().is_some());
        // Whatever was there: a good one takes its place.
        if first() == Some(200) {
            until("a new one", is_made);
        }
        (first().unwrap(), agent.stop())
    };
    let (status, dir) = again(dir, "taking up the last accepted target");
    assert_eq!(status, 304);
    std::fs::write(&file, good.replace("hello", "hallo")).unwrap();
    let (status, dir) = again(dir, "the cached target cannot be read: it is damaged");
    assert_eq!(status, 200);
    std::fs::write(&file, good.replace("\"whose\":\"", "\"whose\":\"0")).unwrap();
    let (status, dir) = again(dir, "another key");
    assert_eq!(status, 200);
    // Of a version that is to come: what it has beside is of no concern, what it lacks is.
    let (start, rest) = good.split_once("\"value\"").unwrap();
    std::fs::write(&file, format!("{start}\"version\":9,\"value\"{rest}")).unwrap();
    let (status, dir) = again(dir, "taking up the last accepted target");
    assert_eq!(status, 304);
    std::fs::write(&file, format!("{start}\"version\":9,\"document\"{rest}")).unwrap();
    let (status, dir) = again(dir, "it holds no target");
    assert_eq!(status, 200);
    // One that says that it is not for us is set aside, and the poll makes another.
    let later = format!("{start}\"format\":2,\"value\"{rest}");
    std::fs::write(&file, &later).unwrap();
    let (status, dir) = again(dir, "a later version of this program wrote it");
    assert_eq!(status, 200);
    let aside = std::fs::read_to_string(file.with_extension("json.unreadable"));
    assert_eq!(aside.unwrap(), later);
    // Whole, and of no use: it must not be asked with either (R-POLL-7).
    let other = r#"{"etag": "W/\"x\"", "value": {"other": {}}}"#;
    std::fs::write(&file, other).unwrap();
    let (status, _dir) = again(dir, "the cached target is not used");
    assert_eq!(status, 200);
}
