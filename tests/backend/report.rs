//! `PATCH /device/v3/state` (remote-api 3.2, 3.3 and 0.7).

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::state::{Standing, State, located, members};
use crate::wire::{Answer, Call};

/// Of a report without its coding.
pub const BODY_BYTES_MAX: usize = 512 * 1024;

const UPDATE_STATUSES: &[&str] = &[
    "rejected",
    "aborted",
    "downloading",
    "downloaded",
    "applying changes",
    "done",
];
#[rustfmt::skip]
const SERVICE_STATUSES: &[&str] = &[
    "Downloading", "Downloaded", "Installing", "Installed", "Starting", "Running", "Idle",
    "Handing over", "Awaiting handover", "Stopping", "Stopped", "exited", "Deleting", "deleted",
    "Dead", "paused", "restarting", "removing", "configuring", "Unknown",
];

/// What a key of the device's object may be.
enum Type {
    Text,
    TextOrNull,
    Number,
    NumberOrNull,
    Flag,
}

#[rustfmt::skip]
const FIELDS: &[(&str, Type)] = &[
    ("status", Type::Text), ("is_online", Type::Flag), ("os_version", Type::TextOrNull),
    ("os_variant", Type::TextOrNull), ("supervisor_version", Type::Text),
    ("provisioning_progress", Type::NumberOrNull), ("provisioning_state", Type::TextOrNull),
    ("ip_address", Type::Text), ("mac_address", Type::Text), ("api_port", Type::Number),
    ("api_secret", Type::TextOrNull), ("memory_usage", Type::NumberOrNull),
    ("memory_total", Type::NumberOrNull), ("storage_usage", Type::NumberOrNull),
    ("storage_total", Type::NumberOrNull), ("storage_block_device", Type::TextOrNull),
    ("cpu_usage", Type::NumberOrNull), ("cpu_temp", Type::NumberOrNull),
    ("cpu_id", Type::TextOrNull), ("is_undervolted", Type::Flag),
];

pub fn answer(state: &mut State, call: &Call, body: &[u8]) -> Answer {
    if body.len() > BODY_BYTES_MAX {
        return Answer::html(413, "PayloadTooLargeError: request entity too large");
    }
    let empty = Value::Object(Map::new());
    let parsed = if call.is_json() {
        match serde_json::from_slice(body) {
            Ok(parsed) => parsed,
            Err(error) => return Answer::html(400, &format!("SyntaxError: {error}")),
        }
    } else {
        empty
    };
    let devices: Vec<_> = members(&parsed)
        .filter(|(_, device)| !device.is_null())
        .collect();
    let exists = |uuid: &str| {
        let found = state.devices.get(uuid);
        found.is_some_and(|device| device.standing == Standing::Normal)
    };
    if devices.is_empty() || !devices.iter().all(|(uuid, _)| exists(uuid)) {
        return Answer::empty(401);
    }
    // A device of the target is there before its key: see `State::may`.
    let key = call.key().filter(|key| {
        let new = |(uuid, _): &(&String, &Value)| state.devices[*uuid].key.is_none();
        state.is_key(key) || devices.iter().any(new)
    });
    let Some(key) = key else {
        return Answer::json(401, &serde_json::json!({"error": "API key required"}));
    };
    if !devices.iter().all(|(_, device)| is_schematic(device)) {
        return Answer::empty(400);
    }
    for (uuid, device) in &devices {
        if members(device).next().is_none() {
            continue;
        }
        if !state.may(uuid, Some(&key)) {
            return Answer::empty(401);
        }
        if let Some(status) = apps_refused(state, uuid, &device["apps"]) {
            return Answer::empty(status);
        }
        if let Some(answer) = broken(state, uuid, device) {
            return answer;
        }
    }
    if let Ok(raw) = RawValue::from_string(String::from_utf8_lossy(body).into_owned()) {
        state.keep(raw);
    }
    Answer::empty(200)
}

/// Whether every known key has a type that the schema allows. Unknown ones are dropped.
fn is_schematic(device: &Value) -> bool {
    let Value::Object(_) = device else {
        return false;
    };
    let fits = |(name, kind): &(&str, Type)| match (device.get(name), kind) {
        (None, _) => true,
        (Some(Value::Null), kind) => matches!(kind, Type::TextOrNull | Type::NumberOrNull),
        (Some(value), Type::Text | Type::TextOrNull) => value.is_string(),
        // One with a fraction is refused when it is written (0.7 row 1).
        (Some(value), Type::Number | Type::NumberOrNull) => value.is_i64() || value.is_u64(),
        (Some(value), Type::Flag) => value.is_boolean(),
    };
    FIELDS.iter().all(fits) && device.get("apps").is_none_or(are_apps)
}

fn are_apps(apps: &Value) -> bool {
    let is_text = |value: Option<&Value>| value.is_none_or(Value::is_string);
    let is_service = |service: &Value| {
        let progress = service.get("download_progress");
        service["image"].is_string()
            && is_text(service.get("status"))
            && progress.is_none_or(|value| value.is_null() || value.is_u64())
    };
    let is_release = |release: &Value| {
        let status = release.get("update_status");
        release.is_object()
            && status.is_none_or(|status| {
                status
                    .as_str()
                    .is_some_and(|status| UPDATE_STATUSES.contains(&status))
            })
            && release.get("services").is_none_or(Value::is_object)
            && members(&release["services"]).all(|(_, service)| is_service(service))
    };
    let is_app = |app: &Value| {
        app.is_object()
            && is_text(app.get("release_uuid"))
            && app.get("releases").is_none_or(Value::is_object)
            && members(&app["releases"]).all(|(_, release)| is_release(release))
    };
    apps.is_object() && members(apps).all(|(_, app)| is_app(app))
}

/// The status for apps that name a release or an image that does not exist: one of them
/// spoils the whole report.
fn apps_refused(state: &State, _uuid: &str, apps: &Value) -> Option<u16> {
    for (app, report) in members(apps) {
        let named = report["release_uuid"].as_str().into_iter();
        let releases = members(&report["releases"]).map(|(release, _)| release.as_str());
        for release in named.chain(releases) {
            let known = state.releases.get(&(app.clone(), release.to_owned()));
            let Some(images) = known else {
                return Some(401);
            };
            let has = |image: &str| {
                let image = located(image);
                images
                    .iter()
                    .any(|known| *known == image || known.split('@').next() == Some(image.as_str()))
            };
            let services = members(&report["releases"][release]["services"]);
            if !services
                .filter_map(|(_, service)| service["image"].as_str())
                .all(has)
            {
                return Some(401);
            }
        }
    }
    None
}

/// A service that was not reported before needs a status that is known (0.7 row 2).
fn broken(state: &mut State, uuid: &str, device: &Value) -> Option<Answer> {
    let apps = device.get("apps")?;
    let mut installed = BTreeSet::new();
    let known = &state.devices.get(uuid)?.installed;
    for (_, app) in members(apps) {
        for (_, release) in members(&app["releases"]) {
            for (_, service) in members(&release["services"]) {
                let image = located(service["image"].as_str().unwrap_or_default());
                let status = service["status"].as_str().unwrap_or_default();
                if !SERVICE_STATUSES.contains(&status) && !known.contains(&image) {
                    return Some(Answer::json(500, &"Server error"));
                }
                installed.insert(image);
            }
        }
    }
    state.device(uuid).installed = installed;
    None
}
