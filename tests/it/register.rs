//! Registration, seen from outside: a scripted backend, and no engine (remote-api 10.1).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::{Value, json};

use crate::support::{Agent, Options, Scratch, program, until};

const KEY: &str = "provisioning-key-of-fleet-1";

/// One request.
#[derive(Debug, Clone)]
struct Seen {
    /// Method and path with query.
    what: String,
    key: String,
    body: Value,
}

impl Seen {
    fn is_register(&self) -> bool {
        self.what == "POST /device/register"
    }

    /// The answer to a registration that succeeds.
    fn echo(&self) -> Reply {
        let (uuid, key) = (&self.body["uuid"], &self.body["api_key"]);
        reply(201, &json!({"id": 1, "uuid": uuid, "api_key": key}))
    }

    /// The device's target.
    fn target(&self) -> Reply {
        let uuid = self.what.split('/').nth(3).unwrap();
        reply(200, &json!({uuid: {"name": "n", "config": {}, "apps": {}}}))
    }
}

enum Reply {
    /// Status, fields and body.
    Answer(u16, String, String),
    /// Takes the request and closes.
    Nothing,
}

fn reply(status: u16, body: &Value) -> Reply {
    Reply::Answer(
        status,
        "Content-Type: application/json\r\n".into(),
        body.to_string(),
    )
}

fn text(status: u16, body: &str) -> Reply {
    Reply::Answer(status, "Content-Type: text/html\r\n".into(), body.into())
}

/// A backend that answers as its script says, until it is dropped.
struct Mock {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    ended: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Mock {
    /// `script` gets a request and how many of its kind (method and path) came before.
    fn start(script: impl Fn(&Seen, usize) -> Reply + Send + Sync + 'static) -> Mock {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let ended: Arc<AtomicBool> = Arc::default();
        let (script, all, is_ended) = (Arc::new(script), seen.clone(), ended.clone());
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if is_ended.load(Ordering::SeqCst) {
                    return;
                }
                let (script, all) = (script.clone(), all.clone());
                std::thread::spawn(move || {
                    let Some(request) = read(&stream) else { return };
                    let before = {
                        let mut all = all.lock().unwrap();
                        let before = all.iter().filter(|one| one.what == request.what);
                        let before = before.count();
                        all.push(request.clone());
                        before
                    };
                    if let Reply::Answer(status, fields, body) = script(&request, before) {
                        let length = match status {
                            304 => String::new(),
                            _ => format!("Content-Length: {}\r\n", body.len()),
                        };
                        let head =
                            format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{fields}");
                        let _ = (&stream).write_all(format!("{head}\r\n{body}").as_bytes());
                    }
                });
            }
        });
        Mock {
            url,
            seen,
            ended,
            accepting: Some(accepting),
        }
    }

    fn posts(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|one| one.is_register())
            .cloned()
            .collect()
    }

    fn count(&self, what: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|one| one.what.starts_with(what)).count()
    }
}

impl Drop for Mock {
    /// Threads that stay would be in the way of tests that fork (power.rs says how).
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        let at = self.url.strip_prefix("http://").map(TcpStream::connect);
        if let (Some(Ok(_)), Some(accepting)) = (at, self.accepting.take()) {
            let _ = accepting.join();
        }
    }
}

/// A backend that keeps to the rules and remembers whom it registered.
pub struct Memory {
    mock: Mock,
    devices: Arc<Mutex<Vec<(String, String)>>>,
}

impl Memory {
    pub fn start() -> Memory {
        let devices: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let known = devices.clone();
        let mock = Mock::start(move |seen, _| {
            let mut known = known.lock().unwrap();
            let find = |uuid: &str| known.iter().find(|(one, _)| one == uuid).cloned();
            if seen.is_register() {
                let text = |name: &str| seen.body[name].as_str().unwrap().to_owned();
                let (uuid, key) = (text("uuid"), text("api_key"));
                if find(&uuid).is_some() {
                    return text_of_conflict();
                }
                known.push((uuid, key));
                return seen.echo();
            }
            match find(seen.what.split('/').nth(3).unwrap_or_default()) {
                None => text(304, ""),
                Some((_, key)) if key == seen.key => seen.target(),
                Some(_) => text(401, ""),
            }
        });
        Memory { mock, devices }
    }

    pub fn url(&self) -> String {
        self.mock.url.clone()
    }

    /// Uuid and key of each.
    pub fn devices(&self) -> Vec<(String, String)> {
        self.devices.lock().unwrap().clone()
    }
}

fn text_of_conflict() -> Reply {
    text(409, "\"uuid\" must be unique.")
}

fn read(stream: &TcpStream) -> Option<Seen> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let what = line.rsplit_once(' ')?.0.to_owned();
    let (mut length, mut key) = (0, String::new());
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "authorization" => key = value.trim().strip_prefix("Bearer ")?.to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    Some(Seen { what, key, body })
}

/// The real backend as far as it matters here: registers, and knows whom it registered.
fn honest(seen: &Seen, _: usize) -> Reply {
    if seen.is_register() {
        seen.echo()
    } else if seen.what.starts_with("GET /device/v3/") {
        seen.target()
    } else {
        text(200, "")
    }
}

const RETRY: [&str; 2] = ["--remote-poll-min-interval-ms", "20"];

fn registers(url: &str) -> Vec<&str> {
    let args = [
        "--remote-api-endpoint",
        url,
        "--provisioning-key",
        KEY,
        "--provisioning-fleet",
        "1",
        "--provisioning-device-type",
        "generic-amd64",
    ];
    args.into_iter().chain(RETRY).collect()
}

fn start(dir: &Scratch, args: Vec<&str>) -> Agent {
    let engine = Some("unix:///nonexistent/engine.sock".to_owned());
    let options = Options {
        args,
        engine,
        ..Options::default()
    };
    Agent::start(&dir.0, &options)
}

fn documents(dir: &Scratch) -> PathBuf {
    dir.0.join(".config/helios/contents/0")
}

fn identity(dir: &Scratch) -> Option<Value> {
    let bytes = std::fs::read(documents(dir).join("provisioning")).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// The candidates that are on disk.
fn candidates(dir: &Scratch) -> Vec<Value> {
    let entries = std::fs::read_dir(documents(dir)).into_iter().flatten();
    let names = entries.flatten().filter(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with("provisioning.") && name.len() > 70
    });
    names
        .map(|entry| serde_json::from_slice(&std::fs::read(entry.path()).unwrap()).unwrap())
        .collect()
}

fn registered(dir: &Scratch) -> Value {
    until("the identity", || identity(dir))
}

/// Everything that ever came out of the agent and everything beside the identity.
fn assert_no_key_is_shown(agent: &Agent, keys: &[&str]) {
    let log = agent.log();
    for key in keys {
        assert!(!log.contains(key), "a key is in the log: {log}");
    }
}

#[test]
fn s_reg_01_registers_once_and_needs_no_arguments_afterwards() {
    let (mock, dir) = (Mock::start(honest), Scratch::new());
    let agent = start(&dir, registers(&mock.url));
    let stored = registered(&dir);
    agent.wait_for_log("this device is registered");
    let posts = mock.posts();
    assert_eq!(posts.len(), 1);
    let (uuid, key) = (&stored["uuid"], &stored["remote"]["api_key"]);
    assert_eq!(posts[0].key, KEY);
    let mut body = posts[0].body.clone();
    // Where it has any (R-REG-11).
    let _ = body.as_object_mut().unwrap().remove("mac_address");
    let want =
        json!({"uuid": uuid, "application": 1, "device_type": "generic-amd64", "api_key": key});
    assert_eq!(body, want);
    let mode = |name: &str| {
        let meta = std::fs::metadata(documents(&dir).join(name)).unwrap();
        meta.permissions().mode() & 0o777
    };
    assert_eq!(
        (mode("provisioning"), mode("provisioning.backup")),
        (0o600, 0o600)
    );
    assert_eq!(candidates(&dir), Vec::<Value>::new());
    let key = key.as_str().unwrap();
    assert_no_key_is_shown(&agent, &[KEY, key]);
    let place = documents(&dir).join("provisioning");
    agent.wait_for_log(place.to_str().unwrap());
    // It polls with its own key, without another start.
    let poll = format!("GET /device/v3/{}/state", uuid.as_str().unwrap());
    until("the poll", || (mock.count(&poll) > 0).then_some(()));
    assert_eq!(agent.stop(), Some(0));

    let polls = mock.count(&poll);
    let agent = start(&dir, RETRY.to_vec());
    until("the next poll", || {
        (mock.count(&poll) > polls).then_some(())
    });
    let polled = mock.seen.lock().unwrap();
    assert!(
        polled
            .iter()
            .filter(|one| one.what == poll)
            .all(|one| one.key == key)
    );
    drop(polled);
    assert_eq!(mock.posts().len(), 1);
    assert_eq!(identity(&dir), Some(stored));
    assert!(agent.log().contains(place.to_str().unwrap()));
}

#[test]
fn s_reg_02_s_reg_03_s_reg_10_after_a_crash_the_same_device_is_asked_for_and_found() {
    let mock = Mock::start(|seen, before| match (seen.is_register(), before) {
        // Registered, and the answer is lost.
        (true, 0) => {
            std::thread::park();
            Reply::Nothing
        }
        (true, _) => text(409, "\"uuid\" must be unique."),
        (false, _) => honest(seen, before),
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    until("the request", || (mock.posts().len() == 1).then_some(()));
    agent.kill();
    assert_eq!(identity(&dir), None);
    let agent = start(&dir, registers(&mock.url));
    let stored = registered(&dir);
    agent.wait_for_log("this device is registered");
    let posts = mock.posts();
    assert_eq!(posts.len(), 2);
    assert_eq!(posts[0].body, posts[1].body);
    assert_eq!(stored["remote"]["api_key"], posts[0].body["api_key"]);
    assert_eq!(candidates(&dir), Vec::<Value>::new());
}

#[test]
fn s_reg_11_a_taken_key_is_replaced_and_kept_before_it_is_used() {
    let mock = Mock::start(|seen, before| match (seen.is_register(), before) {
        (true, 0) => reply(409, &json!("\"key\" must be unique.")),
        (true, _) => seen.echo(),
        (false, 0) => text(304, ""),
        (false, _) => honest(seen, before),
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    let stored = registered(&dir);
    let posts = mock.posts();
    let [first, second] = &posts[..] else {
        panic!("{posts:?}")
    };
    assert_eq!(first.body["uuid"], second.body["uuid"]);
    assert_ne!(first.body["api_key"], second.body["api_key"]);
    assert_eq!(stored["remote"]["api_key"], second.body["api_key"]);
    assert_no_key_is_shown(&agent, &[second.body["api_key"].as_str().unwrap()]);
}

#[test]
fn s_reg_12_another_key_is_replaced_by_whoever_may() {
    let mock = Mock::start(|seen, before| match seen.what.as_str() {
        _ if seen.is_register() => text(409, "\"uuid\" must be unique."),
        "POST /api-key/device/53/device-key" => reply(200, &seen.body["apiKey"]),
        what if what.starts_with("GET /v7/device?$select=id&$filter=uuid%20eq%20'") => {
            reply(200, &json!({"d": [{"id": 53}]}))
        }
        _ if before == 0 => text(401, ""),
        _ => honest(seen, before),
    });
    let dir = Scratch::new();
    let _agent = start(&dir, registers(&mock.url));
    let stored = registered(&dir);
    let seen = mock.seen.lock().unwrap();
    let given = seen
        .iter()
        .find(|one| one.what.ends_with("/device-key"))
        .unwrap();
    assert_eq!(given.key, KEY);
    assert_eq!(given.body["apiKey"], stored["remote"]["api_key"]);
}

#[test]
fn s_reg_13_a_uuid_of_somebody_else_ends_it_and_stays() {
    let mock = Mock::start(|seen, _| match seen.is_register() {
        true => text(409, "\"uuid\" must be unique."),
        false => text(401, ""),
    });
    let (dir, uuid) = (Scratch::new(), "0123456789abcdef0123456789abcdef");
    let mut args = registers(&mock.url);
    args.extend(["--uuid", uuid]);
    let agent = start(&dir, args);
    agent.wait_for_log("belongs to a device with another key");
    agent.wait_for_log("runs unmanaged until");
    assert_eq!((identity(&dir), mock.posts().len()), (None, 1));
    assert_eq!(candidates(&dir)[0]["uuid"], uuid);
    assert_eq!(agent.status(), "done", "the local API answers");
}

/// Every row of remote-api 1.3 that a well-formed request can get: the sentence, and
/// whether it is the last word.
#[test]
fn s_reg_14_fd_45_each_refusal_has_its_sentence_and_no_loop() {
    #[rustfmt::skip]
    let rows = [
        (400, json!("Device type must be a valid string").to_string(), "malformed: \"Device type must", true),
        (400, String::new(), "refuses the registration", false),
        (400, "<html>Bad\n<b>Request</b>".into(), "another server?): <html>Bad <b>Request", false),
        (401, r#"{"error":"API key required"}"#.into(), "does not know the provisioning key", false),
        (401, String::new(), "not one of fleet 1", false),
        (403, json!("no").to_string(), "does not want this device", false),
        (404, json!("Unknown device type generic-amd64").to_string(), "no device type 'generic-amd64'", true),
        (404, String::new(), "is --remote-api-endpoint the address of the API?", false),
        (404, "nothing here".into(), "another server?): nothing here", false),
        (413, "<html>".into(), "answers 413 and refuses", false),
    ];
    for (status, body, want, is_last) in rows {
        let said = body.clone();
        let mock = Mock::start(move |_, _| text(status, &said));
        let dir = Scratch::new();
        let agent = start(&dir, registers(&mock.url));
        agent.wait_for_log(want);
        let end = if is_last {
            "runs unmanaged until"
        } else {
            "again every 60 min"
        };
        agent.wait_for_log(end);
        assert!(agent.log().contains(&format!("answers {status}")));
        assert_eq!((mock.posts().len(), identity(&dir)), (1, None), "{status}");
        assert_no_key_is_shown(&agent, &[KEY]);
        let shown = agent.get("/v3/status?detail=true")["backend"].clone();
        let shown = shown.as_str().unwrap_or_default();
        assert!(
            shown.starts_with("this device is not registered: ") && shown.contains(want),
            "{status}: {shown}"
        );
        // Whoever asks for a poll gets an answer, and it does not last for ever (D-17).
        assert_eq!(agent.call("POST", "/v1/update", None).0, 202);
        if !is_last {
            // The operator has put it right and says so.
            until("the next try", || (mock.posts().len() == 2).then_some(()));
            assert_eq!(mock.posts()[0].body, mock.posts()[1].body);
        }
        agent.wait_for("done");
        assert_eq!(agent.stop(), Some(0));
    }
}

#[test]
fn s_reg_14_a_key_in_a_refusal_stays_out_of_the_log_and_its_text_is_short() {
    let mock = Mock::start(|seen, _| {
        let own = seen.body["api_key"].as_str().unwrap();
        text(
            403,
            &format!("{KEY} {own} \u{1b}[31m{}", "x".repeat(60_000)),
        )
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    agent.wait_for_log("again every 60 min");
    let own = mock.posts()[0].body["api_key"].as_str().unwrap().to_owned();
    assert_no_key_is_shown(&agent, &[KEY, &own, "\u{1b}"]);
    assert!(agent.log().len() < 8000);
}

#[test]
fn s_reg_15_s_net_12_what_may_pass_is_tried_again_until_it_does() {
    let mock = Mock::start(|seen, before| match (seen.is_register(), before) {
        (true, 0 | 1) => text(503, ""),
        (true, 2) => Reply::Nothing,
        (true, 3) => text(429, ""),
        _ => honest(seen, before),
    });
    let dir = Scratch::new();
    let _agent = start(&dir, registers(&mock.url));
    registered(&dir);
    let posts = mock.posts();
    assert_eq!(posts.len(), 5);
    assert!(posts.iter().all(|post| post.body == posts[0].body));
}

/// Only the backend's own word says that a uuid is somebody else's: what stands between, and
/// answers in its place, is waited for.
#[test]
fn s_reg_13_r_reg_5_whoever_stands_between_does_not_end_it() {
    let page = "<html>login</html>";
    let mock = Mock::start(move |seen, before| {
        let what = seen.what.as_str();
        match (what.starts_with("GET /v7/"), before) {
            _ if seen.is_register() => text(409, "\"uuid\" must be unique."),
            _ if what.starts_with("POST /api-key/") => match before {
                0 => text(401, page),
                1 => text(200, page),
                2 => text(404, ""),
                _ => text(401, ""),
            },
            (true, 0) => text(401, page),
            (true, 1) => text(404, ""),
            (true, 2) => text(200, page),
            (true, 3) => reply(200, &json!({"portal": true})),
            (true, _) => reply(200, &json!({"d": [{"id": 53}]})),
            (false, 0) => text(401, page),
            (false, _) => text(401, ""),
        }
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    // One for each of the answers but the last.
    let end = until("the end", || {
        let _ = agent.call("POST", "/v1/update", None);
        let log = agent.log();
        log.contains("runs unmanaged until").then_some(log)
    });
    assert!(end.contains("belongs to a device with another key"));
    let count = |what: &str| mock.count(what);
    assert_eq!(count("GET /device/"), 2);
    assert_eq!(count("POST /api-key/"), 4);
    assert_eq!(
        count("GET /v7/"),
        8,
        "once more for each try of the exchange"
    );
    assert_eq!((mock.posts().len(), identity(&dir)), (1, None));
}

#[test]
fn s_reg_17_another_uuid_in_the_answer_is_refused() {
    let mock = Mock::start(|_, _| {
        reply(
            201,
            &json!({"id": 1, "uuid": "f".repeat(32), "api_key": "k"}),
        )
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    agent.wait_for_log("registered another uuid");
    agent.wait_for_log("runs unmanaged until");
    assert_eq!((identity(&dir), mock.posts().len()), (None, 1));
}

#[test]
fn s_reg_18_another_key_in_the_answer_is_taken() {
    let mock = Mock::start(|seen, before| match seen.is_register() {
        true => reply(
            201,
            &json!({"id": 1, "uuid": seen.body["uuid"], "api_key": "theirs"}),
        ),
        false => honest(seen, before),
    });
    let dir = Scratch::new();
    let _agent = start(&dir, registers(&mock.url));
    assert_eq!(registered(&dir)["remote"]["api_key"], "theirs");
    until("the poll", || {
        let seen = mock.seen.lock().unwrap();
        seen.iter().any(|one| one.key == "theirs").then_some(())
    });
}

#[test]
fn s_reg_19_s_net_27_an_answer_that_cannot_be_read_settles_nothing() {
    for body in [
        "",
        "<html>Log in to the hotel</html>",
        "{\"id\": 1, \"uuid\":",
    ] {
        let said = body.to_owned();
        let mock = Mock::start(move |seen, before| match (seen.is_register(), before) {
            (true, 0) => text(if said.contains("hotel") { 200 } else { 201 }, &said),
            (true, _) => text(409, "\"uuid\" must be unique."),
            // Nor is the hotel the backend when it is asked whose device this is.
            (false, 0) => text(200, &said),
            (false, _) => honest(seen, before),
        });
        let dir = Scratch::new();
        let agent = start(&dir, registers(&mock.url));
        let stored = registered(&dir);
        agent.wait_for_log("is somebody between?");
        let posts = mock.posts();
        assert_eq!(posts.len(), 2, "{body}");
        assert_eq!(stored["remote"]["api_key"], posts[0].body["api_key"]);
    }
}

#[test]
fn s_reg_20_a_redirect_is_not_followed_and_named() {
    let mock = Mock::start(|_, _| {
        let fields = "Location: https://api.example.test/device/register?apikey=x\r\n";
        Reply::Answer(301, fields.into(), String::new())
    });
    let dir = Scratch::new();
    let agent = start(&dir, registers(&mock.url));
    agent.wait_for_log("points to https://api.example.test/device/register:");
    assert_eq!(mock.seen.lock().unwrap().len(), 1);
}

#[test]
fn s_reg_21_a_given_identity_is_used_and_the_store_left_alone() {
    let (mock, dir) = (Mock::start(honest), Scratch::new());
    std::fs::create_dir_all(documents(&dir)).unwrap();
    let text = json!({"uuid": "a".repeat(32), "fleet": 1, "device_type": "x", "remote":
        {"api_endpoint": "http://127.0.0.1:1/", "api_key": "stored"}});
    std::fs::write(documents(&dir).join("provisioning"), text.to_string()).unwrap();
    let uuid = "b".repeat(32);
    let mut args = registers(&mock.url);
    args.extend(["--uuid", &uuid, "--remote-api-key", "given"]);
    let agent = start(&dir, args);
    let poll = format!("GET /device/v3/{uuid}/state");
    until("the poll", || (mock.count(&poll) > 0).then_some(()));
    assert!(agent.log().contains("the stored identity is ignored"));
    assert_eq!(mock.posts().len(), 0);
    let names = std::fs::read_dir(documents(&dir)).unwrap().count();
    assert_eq!((names, identity(&dir)), (1, Some(text)));
}

#[test]
fn s_reg_22_nothing_is_sent_before_it_is_written_down() {
    let (mock, dir) = (Mock::start(honest), Scratch::new());
    let way = dir.0.join(".config");
    std::fs::write(&way, "a file is in the way").unwrap();
    let agent = start(&dir, registers(&mock.url));
    agent.wait_for_log("nothing is sent before it is written down");
    assert_eq!(mock.seen.lock().unwrap().len(), 0);
    // Somebody makes room, and it goes on by itself.
    std::fs::remove_file(&way).unwrap();
    registered(&dir);
}

#[test]
fn s_reg_23_without_a_backend_there_is_no_registration() {
    let dir = Scratch::new();
    let agent = start(&dir, Vec::new());
    assert_eq!(agent.status(), "done");
    agent.wait_for_log("running unmanaged");
    assert!(!documents(&dir).exists());
}

/// A process that ends with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn s_reg_24_two_agents_on_one_store_are_one_device() {
    let mock = Mock::start(|seen, before| match (seen.is_register(), before) {
        (true, 1..) => text(409, "\"uuid\" must be unique."),
        _ => honest(seen, before),
    });
    let dir = Scratch::new();
    let start_another = || {
        let mut command = program();
        command
            .env("HOME", &dir.0)
            .env("XDG_RUNTIME_DIR", dir.0.join("run"));
        command.env("DOCKER_HOST", "unix:///nonexistent/engine.sock");
        command
            .args(registers(&mock.url))
            .stderr(std::process::Stdio::null());
        Ended(command.spawn().unwrap())
    };
    let others: Vec<_> = (0..3).map(|_| start_another()).collect();
    let agent = start(&dir, registers(&mock.url));
    let stored = registered(&dir);
    // However late it came, it is that device.
    let poll = format!("GET /device/v3/{}/state", stored["uuid"].as_str().unwrap());
    until("the polls of all", || (mock.count(&poll) > 3).then_some(()));
    drop((agent, others));
    for post in mock.posts() {
        assert_eq!(post.body["uuid"], stored["uuid"]);
        assert_eq!(post.body["api_key"], stored["remote"]["api_key"]);
    }
}

#[test]
fn s_reg_25_upstream_s_identity_is_used_as_it_is() {
    let (mock, dir) = (Mock::start(honest), Scratch::new());
    std::fs::create_dir_all(documents(&dir)).unwrap();
    let uuid = "c".repeat(32);
    let text = serde_json::to_string_pretty(&json!({"uuid": uuid, "fleet": 3,
        "device_type": "raspberrypi3", "remote": {"api_endpoint": format!("{}/", mock.url),
        "api_key": "upstream-key", "request": {"timeout": 59000, "poll_interval": 900000,
        "poll_min_interval": 10000, "poll_max_jitter": 60000}}}))
    .unwrap();
    let file = documents(&dir).join("provisioning");
    std::fs::write(&file, &text).unwrap();
    let agent = start(&dir, Vec::new());
    let poll = format!("GET /device/v3/{uuid}/state");
    until("the poll", || (mock.count(&poll) > 0).then_some(()));
    assert_eq!(mock.seen.lock().unwrap()[0].key, "upstream-key");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
    agent.wait_for_log(file.to_str().unwrap());
}

#[test]
fn s_reg_07_d_30_a_damaged_identity_without_a_copy_ends_the_start() {
    let (mock, dir) = (Mock::start(honest), Scratch::new());
    std::fs::create_dir_all(documents(&dir)).unwrap();
    std::fs::write(documents(&dir).join("provisioning"), "").unwrap();
    let ends = || {
        let mut command = program();
        let out = command
            .env("HOME", &dir.0)
            .args(registers(&mock.url))
            .output();
        let out = out.unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        (out.status.code(), said)
    };
    for _ in 0..2 {
        let (code, said) = ends();
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("provisioning.unreadable"), "{said}");
    }
    assert_eq!(mock.seen.lock().unwrap().len(), 0);
    assert!(Path::exists(
        &documents(&dir).join("provisioning.unreadable")
    ));
}

#[test]
fn s_net_01_a_backend_that_is_not_there_yet_is_waited_for() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let dir = Scratch::new();
    let url = format!("http://{address}");
    let agent = start(&dir, registers(&url));
    agent.wait_for_log("cannot connect to");
    agent.wait_for_log("it is tried again");
    assert_eq!(agent.status(), "done", "the local API answers meanwhile");
    assert_eq!(
        agent.stop(),
        Some(0),
        "a registration does not hold up the end"
    );
    assert_eq!(candidates(&dir).len(), 1);
}

#[test]
fn s_net_34_d_36_the_backend_is_found_through_the_proxy_of_the_environment() {
    const BACKEND: &str = "http://backend.example.test";
    let mock = Mock::start(|seen, before| {
        let mut seen = seen.clone();
        seen.what = seen.what.replacen(BACKEND, "", 1);
        honest(&seen, before)
    });
    let dir = Scratch::new();
    let mut command = program();
    command.env("HOME", &dir.0).env("HTTP_PROXY", &mock.url);
    command.env("DOCKER_HOST", "unix:///nonexistent/engine.sock");
    command
        .args(registers(BACKEND))
        .stderr(std::process::Stdio::null());
    let _agent = Ended(command.spawn().unwrap());
    let stored = registered(&dir);
    let uuid = stored["uuid"].as_str().unwrap();
    let poll = format!("GET {BACKEND}/device/v3/{uuid}/state");
    until("the poll", || (mock.count(&poll) > 0).then_some(()));
    let seen = mock.seen.lock().unwrap();
    assert_eq!(seen[0].what, format!("POST {BACKEND}/device/register"));
}

#[test]
fn s_net_34_a_proxy_that_is_none_ends_the_start_with_its_variable() {
    let dir = Scratch::new();
    let mut command = program();
    command
        .env("HOME", &dir.0)
        .env("HTTPS_PROXY", "socks5://u:s3cret@p");
    let out = command.args(registers("https://h")).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(
        said.contains("HTTPS_PROXY") && !said.contains("s3cret"),
        "{said}"
    );
}

#[test]
fn s_net_09_s_net_24_a_backend_that_falls_silent_is_asked_again() {
    let mock = Mock::start(|seen, before| match (seen.is_register(), before) {
        // It has the request, and nothing is heard of it any more.
        (true, 0) => {
            std::thread::park();
            Reply::Nothing
        }
        (true, _) => text_of_conflict(),
        (false, _) => honest(seen, before),
    });
    let dir = Scratch::new();
    let mut args = registers(&mock.url);
    args.extend(["--remote-request-timeout-ms", "300"]);
    let agent = start(&dir, args);
    registered(&dir);
    assert!(agent.log().contains("silent for too long"));
    let posts = mock.posts();
    assert_eq!(posts[0].body, posts[1].body);
}

#[test]
fn s_net_03_fd_28_a_name_without_an_address_is_looked_up_again() {
    let dir = Scratch::new();
    let agent = start(&dir, registers("http://no-such-host.invalid"));
    agent.wait_for_log("cannot find the address of no-such-host.invalid");
    let tries = || agent.log().matches("cannot find the address").count();
    until("the next try", || (tries() > 1).then_some(()));
    assert_eq!(agent.status(), "done");
}

/// Nothing is remembered of an address that led nowhere, nor of one that did (FD-28).
#[test]
fn s_net_04_fd_28_a_name_that_moves_is_followed() {
    let mock = Mock::start(honest);
    let port = mock.url.rsplit_once(':').unwrap().1;
    let dir = Scratch::new();
    let hosts = dir.0.join("hosts");
    // The same file, so that it is seen where it is mounted.
    let is_at = |address| std::fs::write(&hosts, format!("{address} backend.test\n")).unwrap();
    is_at("127.0.0.2");
    let url = format!("http://backend.test:{port}");
    let options = Options {
        args: registers(&url),
        engine: Some("unix:///nonexistent/engine.sock".to_owned()),
        sees: Some((hosts.clone(), "/etc/hosts")),
        ..Options::default()
    };
    let agent = Agent::start(&dir.0, &options);
    agent.wait_for_log("cannot connect to backend.test");
    assert!(mock.posts().is_empty());
    is_at("127.0.0.1");
    registered(&dir);
    // Away, and back: polls go on, too.
    is_at("127.0.0.2");
    let again = "poll: the backend answers again";
    assert_eq!(agent.call("POST", "/v1/update", None).0, 202);
    agent.wait_for_log("poll: cannot connect to backend.test");
    assert!(!agent.log().contains(again));
    is_at("127.0.0.1");
    agent.wait_for_log(again);
    assert_eq!(agent.stop(), Some(0));
}

/// The same against the development backend, which refuses what the real one refuses.
mod development {
    use super::*;
    use crate::support::{Backend, http};
    use helios::http::client::Endpoint;

    fn call(backend: &Backend, method: &str, target: &str, key: &str, body: &str) -> (u16, String) {
        let (host, port) = backend.address.rsplit_once(':').unwrap();
        let endpoint = Endpoint::Tcp {
            host: host.into(),
            port: port.parse().unwrap(),
        };
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let (status, bytes) = http(endpoint, method, target, &headers, Some(body.as_bytes()));
        (status, String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn s_reg_26_the_rows_of_remote_api_1_3() {
        let backend = Backend::start();
        let post = |key: &str, body: &Value| {
            let body = match body {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            call(&backend, "POST", "/device/register", key, &body)
        };
        let good = json!({"uuid": "a".repeat(32), "application": 1,
            "device_type": "generic-amd64", "api_key": "k1"});
        let with = |name: &str, value: Value| {
            let mut body = good.clone();
            body["uuid"] = json!("b".repeat(32));
            body["api_key"] = json!("k2");
            body[name] = value;
            body
        };
        let without = |name: &str| {
            let mut body = with("uuid", json!("b".repeat(32)));
            body.as_object_mut().unwrap().remove(name);
            body
        };
        let key = "provisioning-key";
        let (status, echo) = post(key, &good);
        let echo: Value = serde_json::from_str(&echo).unwrap();
        assert_eq!(
            (status, &echo["uuid"], &echo["api_key"]),
            (201, &good["uuid"], &json!("k1"))
        );
        let long = "x".repeat(513 * 1024);
        #[rustfmt::skip]
        let rows = [
            (key, json!("{"), 400, "<"),
            (key, json!(format!("{{\"a\": \"{long}\"}}")), 413, "<"),
            ("nobody", good.clone(), 401, "{\"error\":\"API key required\"}"),
            (key, with("uuid", json!(5)), 400, ""),
            (key, with("user", json!("x")), 400, "\"User ID"),
            (key, without("application"), 400, "\"Application ID"),
            (key, without("device_type"), 400, "\"Device type"),
            (key, without("uuid"), 400, "\"UUID"),
            (key, good.clone(), 409, "\"uuid\" must be unique."),
            (key, with("api_key", json!("k1")), 409, "\"\\\"key\\\" must be unique."),
            (key, with("device_type", json!("no-such-type")), 404, "\"Unknown device type no-such-type\""),
            (key, with("uuid", json!("ABC")), 400, "\""),
            (key, with("application", json!(2)), 401, ""),
            (key, with("os_version", json!("balenaOS 2.10.9")), 403, "\""),
            (key, with("os_version", json!("no version")), 403, "\""),
            (key, with("supervisor_version", json!("1".repeat(21))), 400, "\""),
        ];
        for (key, body, status, begins) in rows {
            let (got, said) = post(key, &body);
            assert_eq!(got, status, "{body}: {said}");
            assert!(
                said.starts_with(begins) && (said.is_empty() == begins.is_empty()),
                "{said}"
            );
        }
        assert_eq!(post(key, &with("application", json!("1"))).0, 201);
        // The exchange of keys: a provisioning key may not, a user's may (remote-api 1.6).
        let look = format!(
            "/v7/device?$select=id&$filter=uuid%20eq%20'{}'",
            "a".repeat(32)
        );
        assert_eq!(call(&backend, "GET", &look, key, "").0, 401);
        let (status, found) = call(&backend, "GET", &look, "user-key", "");
        assert_eq!(
            (status, found),
            (200, format!("{{\"d\":[{{\"id\":{}}}]}}", echo["id"]))
        );
        let give = format!("/api-key/device/{}/device-key", echo["id"]);
        assert_eq!(
            call(&backend, "POST", &give, key, r#"{"apiKey":"k3"}"#).0,
            401
        );
        let (status, said) = call(&backend, "POST", &give, "user-key", r#"{"apiKey":"k3"}"#);
        assert_eq!((status, &*said), (200, "\"k3\""));
    }

    #[test]
    fn s_reg_01_s_reg_12_registers_polls_and_recovers_a_lost_key() {
        let (backend, dir) = (Backend::start(), Scratch::new());
        let mut args = registers("");
        let url = backend.url();
        (args[1], args[3]) = (&url, "provisioning-key");
        let agent = start(&dir, args.clone());
        let stored = registered(&dir);
        let uuid = stored["uuid"].as_str().unwrap();
        let poll = format!("GET /device/v3/{uuid}/state");
        until("the poll", || (backend.requests(&poll) > 0).then_some(()));
        assert_eq!(agent.stop(), Some(0));
        // Everything is lost but the uuid, which somebody wrote down.
        std::fs::remove_dir_all(documents(&dir)).unwrap();
        args.extend(["--uuid", uuid]);
        let agent = start(&dir, args.clone());
        agent.wait_for_log("belongs to a device with another key");
        assert_eq!(agent.stop(), Some(0));
        args[3] = "user-key";
        let agent = start(&dir, args);
        let found = registered(&dir);
        assert_eq!(found["uuid"], uuid);
        assert_ne!(found["remote"]["api_key"], stored["remote"]["api_key"]);
        let polls = backend.requests(&poll);
        assert_eq!(agent.call("POST", "/v1/update", None).0, 202);
        until("the next poll", || {
            (backend.requests(&poll) > polls).then_some(())
        });
        // As a word: ports and UUIDs may have these digits.
        let log = agent.log();
        let mut words = log.split(|mark: char| !mark.is_ascii_alphanumeric());
        assert!(!words.any(|word| word == "401"), "the new key counts");
    }
}
