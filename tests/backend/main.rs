//! The development backend: what an agent needs of the real one, on a laptop.
//!
//! It serves the target with an ETag, accepts registrations and reports, and has
//! control routes for tests and for curious users:
//!
//! | route | does |
//! |---|---|
//! | `PUT /_control/target` | sets the target document; its keys are the devices |
//! | `GET /_control/target` | shows it |
//! | `GET /_control/reports` | all accepted reports, oldest first |
//! | `DELETE /_control/reports` | forgets them |
//! | `GET /_control/requests` | how often each route was asked |
//! | `PUT /_control/fail` | `{"status":503,"times":2}`: the next requests of devices get that |
//!
//! Usage: `cargo run --example backend -- [--listen 127.0.0.1:8090]`

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use helios::base::hash;
use helios::http::server::{Answering, BodyError, Exchange, Handler, Listener, Server};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Reports that are kept; the oldest go first.
const REPORTS_MAX: usize = 10_000;
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The real backend's limit on reports (remote-api 3.3).
const REPORT_BYTES_MAX: usize = 512 * 1024;

#[derive(Default)]
struct State {
    /// Key by device uuid; the first key a device of the target comes with is its key.
    devices: BTreeMap<String, Device>,
    /// Target text by device uuid.
    targets: BTreeMap<String, Box<RawValue>>,
    reports: Vec<Box<RawValue>>,
    requests: BTreeMap<String, u64>,
    fail: Fail,
}

struct Device {
    id: u64,
    key: Option<String>,
}

#[derive(Deserialize, Default)]
struct Fail {
    status: u16,
    times: u32,
}

struct Backend(Mutex<State>);

struct Answer {
    status: u16,
    fields: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn empty(status: u16) -> Answer {
        Answer {
            status,
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    fn json(status: u16, body: impl Serialize) -> Answer {
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let kind = ("content-type", "application/json; charset=utf-8".to_owned());
        Answer {
            status,
            fields: vec![kind],
            body,
        }
    }

    fn text(status: u16, text: &str) -> Answer {
        let kind = ("content-type", "text/plain; charset=utf-8".to_owned());
        Answer {
            status,
            fields: vec![kind],
            body: text.as_bytes().to_vec(),
        }
    }
}

impl Handler for Backend {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(async move {
            let body = exchange.body(BODY_BYTES_MAX).await;
            let answer = match body {
                Ok(body) => self.answer(exchange, &body),
                Err(BodyError::TooLarge) => Answer::text(413, "too large"),
                Err(BodyError::Broken) => Answer::empty(400),
            };
            let fields: Vec<_> = answer
                .fields
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            exchange.respond(answer.status, &fields, &answer.body).await
        })
    }
}

fn bearer<'e>(exchange: &'e Exchange<'_>) -> Option<&'e str> {
    exchange
        .header("authorization")?
        .strip_prefix("Bearer ")
        .filter(|key| !key.is_empty())
}

impl Backend {
    fn answer(&self, exchange: &Exchange<'_>, body: &[u8]) -> Answer {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (method, path) = (exchange.method(), exchange.path().trim_end_matches('/'));
        if let Some(route) = path.strip_prefix("/_control/") {
            return control(&mut state, method, route, body);
        }
        *state
            .requests
            .entry(format!("{method} {path}"))
            .or_default() += 1;
        if state.fail.times > 0 {
            state.fail.times -= 1;
            return Answer::empty(state.fail.status);
        }
        let state_of = path
            .strip_prefix("/device/v3/")
            .and_then(|rest| rest.strip_suffix("/state"));
        match (method, path, state_of) {
            ("POST", "/device/register", _) => register(&mut state, bearer(exchange), body),
            ("PATCH", "/device/v3/state", _) => report(&mut state, bearer(exchange), body),
            ("GET" | "HEAD", _, Some(uuid)) => {
                let wanted = exchange.header("if-none-match");
                target(&mut state, uuid, bearer(exchange), wanted)
            }
            ("GET", "/ping", _) => Answer::text(200, "OK"),
            _ => Answer::text(404, "Not Found"),
        }
    }
}

fn control(state: &mut State, method: &str, route: &str, body: &[u8]) -> Answer {
    match (method, route) {
        ("PUT", "target") => match serde_json::from_slice(body) {
            Ok(targets) => {
                state.targets = targets;
                for uuid in state.targets.keys() {
                    let id = state.devices.len() as u64 + 1;
                    state
                        .devices
                        .entry(uuid.clone())
                        .or_insert(Device { id, key: None });
                }
                Answer::empty(204)
            }
            Err(error) => Answer::text(400, &error.to_string()),
        },
        ("GET", "target") => Answer::json(200, &state.targets),
        ("GET", "reports") => Answer::json(200, &state.reports),
        ("DELETE", "reports") => {
            state.reports.clear();
            Answer::empty(204)
        }
        ("GET", "requests") => Answer::json(200, &state.requests),
        ("PUT", "fail") => match serde_json::from_slice(body) {
            Ok(fail) => {
                state.fail = fail;
                Answer::empty(204)
            }
            Err(error) => Answer::text(400, &error.to_string()),
        },
        _ => Answer::text(404, "no such control route"),
    }
}

/// Whether `key` is the device's; the first one that a device of the target comes with
/// becomes it, so that a target can be set before an agent is started.
fn may(state: &mut State, uuid: &str, key: Option<&str>) -> bool {
    let (Some(device), Some(key)) = (state.devices.get_mut(uuid), key) else {
        return false;
    };
    device.key.get_or_insert_with(|| key.to_owned()) == key
}

/// `GET /device/v3/{uuid}/state` (remote-api 2.2, 2.6).
fn target(state: &mut State, uuid: &str, key: Option<&str>, wanted: Option<&str>) -> Answer {
    if !state.devices.contains_key(uuid) {
        // Unknown, deleted or frozen: 304 without condition and without ETag.
        return Answer::empty(304);
    }
    if !may(state, uuid, key) {
        return Answer::empty(401);
    }
    let nothing = || RawValue::from_string("{\"name\":\"\",\"config\":{},\"apps\":{}}".to_owned());
    let Some(device) = state.targets.get(uuid).cloned().or_else(|| nothing().ok()) else {
        return Answer::empty(500);
    };
    let mut answer = Answer::json(200, BTreeMap::from([(uuid, device)]));
    let digest = hash::sha256_hex(&answer.body);
    let etag = format!("W/\"{:x}-{}\"", answer.body.len(), &digest[..27]);
    let matches = |wanted: &str| {
        wanted
            .split(',')
            .any(|one| one.trim() == etag || one.trim() == "*")
    };
    if wanted.is_some_and(matches) {
        answer = Answer::empty(304);
    }
    answer.fields.push(("etag", etag));
    answer
}

/// `POST /device/register` (remote-api 1.2, 1.3).
fn register(state: &mut State, key: Option<&str>, body: &[u8]) -> Answer {
    #[derive(Deserialize)]
    struct Register {
        uuid: String,
        application: serde_json::Value,
        device_type: String,
        api_key: Option<String>,
    }
    if key.is_none() {
        return Answer::empty(401);
    }
    let Ok(asked) = serde_json::from_slice::<Register>(body) else {
        return Answer::empty(400);
    };
    let hex = asked
        .uuid
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let good = hex && matches!(asked.uuid.len(), 32 | 62) && asked.application.is_u64();
    if !good || asked.device_type.is_empty() {
        return Answer::empty(400);
    }
    if state
        .devices
        .get(&asked.uuid)
        .is_some_and(|device| device.key.is_some())
    {
        return Answer::text(409, "\"uuid\" must be unique.");
    }
    let id = state.devices.len() as u64 + 1;
    let made = asked.api_key.filter(|key| !key.is_empty());
    let key = made.unwrap_or_else(|| hash::sha256_hex(asked.uuid.as_bytes())[..32].to_owned());
    let device = state
        .devices
        .entry(asked.uuid.clone())
        .or_insert(Device { id, key: None });
    device.key = Some(key.clone());
    let id = device.id;
    Answer::json(
        201,
        serde_json::json!({"id": id, "uuid": asked.uuid, "api_key": key}),
    )
}

/// `PATCH /device/v3/state` (remote-api 3.3).
fn report(state: &mut State, key: Option<&str>, body: &[u8]) -> Answer {
    if body.len() > REPORT_BYTES_MAX {
        return Answer::text(413, "request entity too large");
    }
    let Ok(report) = serde_json::from_slice::<serde_json::Value>(body) else {
        return Answer::text(400, "malformed JSON");
    };
    let Some(devices) = report.as_object().filter(|devices| !devices.is_empty()) else {
        return Answer::empty(401);
    };
    for (uuid, device) in devices {
        if !state.devices.contains_key(uuid) || !may(state, uuid, key) {
            return Answer::empty(401);
        }
        if let Some(refused) = refused(state, uuid, device) {
            return refused;
        }
    }
    if let Ok(raw) = RawValue::from_string(String::from_utf8_lossy(body).into_owned()) {
        if state.reports.len() >= REPORTS_MAX {
            state.reports.remove(0);
        }
        state.reports.push(raw);
    }
    Answer::empty(200)
}

const UPDATE_STATUSES: &[&str] = &[
    "rejected",
    "aborted",
    "downloading",
    "downloaded",
    "applying changes",
    "done",
];

/// What the real backend would refuse of a device's report: words and types that it does
/// not know, and releases that it never named.
fn refused(state: &State, uuid: &str, device: &serde_json::Value) -> Option<Answer> {
    let named = state.targets.get(uuid).map_or("", |target| target.get());
    let apps = device.get("apps")?.as_object();
    let Some(apps) = apps else {
        return Some(Answer::empty(400));
    };
    for app in apps.values() {
        let Some(releases) = app
            .get("releases")
            .and_then(|releases| releases.as_object())
        else {
            return Some(Answer::empty(400));
        };
        for (release, report) in releases {
            let status = report
                .get("update_status")
                .and_then(|status| status.as_str());
            if !status.is_some_and(|status| UPDATE_STATUSES.contains(&status)) {
                return Some(Answer::empty(400));
            }
            let services = report
                .get("services")
                .and_then(|services| services.as_object());
            for service in services.into_iter().flat_map(|services| services.values()) {
                let image = service
                    .get("image")
                    .is_some_and(serde_json::Value::is_string);
                let progress = service.get("download_progress");
                let whole = progress.is_none_or(|value| value.is_null() || value.is_u64());
                if !image || !whole {
                    return Some(Answer::empty(400));
                }
            }
            // A release of a former target is known too; without a record of those this
            // backend only refuses what it cannot have named at all.
            if named.is_empty() && !release.is_empty() {
                return Some(Answer::empty(401));
            }
        }
    }
    None
}

fn main() -> ExitCode {
    match listen() {
        Ok(listener) => {
            println!("backend on http://{}", listener.local_addr());
            let _ = std::io::stdout().flush();
            let backend = Arc::new(Backend(Mutex::new(State::default())));
            let server = Server::new(vec![listener], backend);
            async_io::block_on(server.run(std::future::pending(), Duration::ZERO));
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("backend: {why}");
            ExitCode::from(2)
        }
    }
}

fn listen() -> Result<Listener, String> {
    let mut address = "127.0.0.1:8090".to_owned();
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--listen" => address = words.next().ok_or("--listen needs an address")?,
            _ => {
                return Err(format!(
                    "unknown argument '{word}'; known is --listen IP:PORT"
                ));
            }
        }
    }
    let address: SocketAddr = address
        .parse()
        .map_err(|_| format!("'{address}' is no IP address with a port"))?;
    Listener::bind_tcp(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}
