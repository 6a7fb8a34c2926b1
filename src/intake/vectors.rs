//! Every shared vector of `tests/fixtures/target`, by the matching rules of its README.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{Facts, device_target_for};
use crate::engine::container::objects::{network_body, volume_body};
use crate::engine::container::{Backend, CreateBody, Extra, SupervisorApi, create_body_with};
use crate::model::target::{AppRelease, DeviceTarget, ReleaseTarget};
use crate::model::{AppUuid, NetworkName, ReleaseUuid, ServiceConfig, VolumeName};
use crate::world::engine::{ApiVersion, HostFacts, NewContainer};

const APP: &str = "5f2c1d0e9b8a47c6a1d3e5f708192a3b";
const RELEASE: &str = "9d41c0a7e2b84f6c8f13a5b6d7c8e9f0";
const IMAGE: &str = "registry2.example.net/v2/4be1f09a7c3d42e8b6a50d1c9f8e7a62@sha256:3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c3d8c";
const DEVICE: &str = "7c1e5b20f4a94d0b8e6f3a2d9c0b1a58";

/// How the outcome differs from the vector's.
enum Instead {
    /// The whole target is refused there; here only the app is, with the same text.
    OnlyTheApp,
    /// Refused there, accepted here.
    Accepted,
    /// As the vector says, but for the member at this JSON pointer of `expect`.
    Without(&'static str),
    /// As the vector says, but for the order of mounts.
    MountsInAnyOrder,
}

/// Vectors that are not followed to the letter, each with its reason.
#[rustfmt::skip]
const EXCEPTIONS: &[(&str, Instead, &str)] = &[
    ("app-id-string-rejected", Instead::OnlyTheApp, "D-16: a bad app entry rejects that app"),
    ("app-two-releases-rejected", Instead::OnlyTheApp, "D-16: a bad app entry rejects that app"),
    ("hostapp-two-rejected", Instead::OnlyTheApp, "D-16: both host apps are rejected, user apps go on"),
    ("hostapp-without-release-rejected", Instead::OnlyTheApp, "D-16: a bad app entry rejects that app"),
    ("contract-unknown-type-refuses-target", Instead::OnlyTheApp, "D-39, issue 4: rejects that app only"),
    ("legacy-service-name-rejected", Instead::OnlyTheApp, "D-14: rejects that app"),
    ("legacy-app-class-rejected", Instead::Accepted, "D-15: helios's leniency holds"),
    ("legacy-config-value-number-rejected", Instead::Accepted, "D-15: helios's leniency holds"),
    ("legacy-device-name-newline-rejected", Instead::Accepted, "D-15: helios's leniency holds"),
    ("legacy-env-name-rejected", Instead::Accepted, "D-15: helios's leniency holds"),
    ("legacy-label-name-rejected", Instead::Accepted, "D-15: helios's leniency holds"),
    ("legacy-port-bare-publishes-same-port", Instead::Without("/engine/HostConfig/PortBindings"), "D-13: an ephemeral host port"),
    ("label-supervisor-api-host", Instead::Without("/engine/Hostname"), "the engine itself gives such a container the host's name"),
    ("label-balena-socket", Instead::MountsInAnyOrder, "all mounts are ordered by target (2.22)"),
];

#[test]
fn ts_9_every_vector() {
    let mut failures = Vec::new();
    let mut ids = BTreeSet::new();
    for (id, vector) in all() {
        if let Err(failure) = follow(&id, vector) {
            failures.push(format!("{id}: {failure}"));
        }
        ids.insert(id);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert_eq!(ids.len(), 269);
    for (id, _, _) in EXCEPTIONS {
        assert!(ids.contains(*id), "{id} is no vector");
    }
}

pub(super) fn all() -> Vec<(String, Value)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/target");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "json") {
            let vector: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            assert_eq!(vector["id"].as_str(), path.file_stem().unwrap().to_str());
            all.push((vector["id"].as_str().unwrap().to_owned(), vector));
        }
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// Checks one vector, or that it really is an exception of the kind that is listed.
fn follow(id: &str, mut vector: Value) -> Result<(), String> {
    let Some((_, instead, _)) = EXCEPTIONS.iter().find(|(name, ..)| *name == id) else {
        return check(&vector, &vector["expect"], false);
    };
    if check(&vector, &vector["expect"], false).is_ok() {
        return Err("needs no exception".to_owned());
    }
    let mut expect = vector["expect"].take();
    match instead {
        Instead::Accepted => {
            expect["accept"] = json!(true);
            check(&vector, &expect, false)
        }
        Instead::Without(pointer) => {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            expect
                .pointer_mut(parent)
                .unwrap()
                .as_object_mut()
                .unwrap()
                .remove(key)
                .unwrap();
            check(&vector, &expect, false)
        }
        Instead::MountsInAnyOrder => check(&vector, &expect, true),
        Instead::OnlyTheApp => {
            let target = read(&vector).map_err(|reason| format!("all refused: {reason}"))?;
            let text = expect["error_contains"].as_str().unwrap();
            let outcomes = outcomes(&target);
            let mut reasons = outcomes
                .values()
                .filter_map(|outcome| outcome.strip_prefix("rejected "))
                .peekable();
            if reasons.peek().is_some() && reasons.all(|reason| contains(reason, text)) {
                Ok(())
            } else {
                Err(format!("{outcomes:?}"))
            }
        }
    }
}

fn contains(text: &str, part: &str) -> bool {
    text.to_lowercase().contains(&part.to_lowercase())
}

/// The whole document of a vector, whatever its kind.
pub(super) fn document_of(vector: &Value) -> Value {
    json!({ DEVICE: device(vector) })
}

/// Makes all bodies of an app for one version of the engine's API.
pub(super) fn bodies_on(target: &DeviceTarget, uuid: &AppUuid, api: u16) -> Result<(), String> {
    engine_of(target, uuid, None, api).map(drop)
}

fn read(vector: &Value) -> Result<DeviceTarget, String> {
    let body = document_of(vector).to_string();
    let facts = Facts {
        arch: Some("aarch64".to_owned()),
        device_type: Some("raspberrypi4-64".to_owned()),
        os: Some("balenaOS 6.4.2+rev1".to_owned()),
        kernel: Some("6.6.31".to_owned()),
        supervisor_version: None,
    };
    device_target_for(body.as_bytes(), DEVICE, &facts)
        .map(|intake| intake.value)
        .map_err(|refusal| refusal.to_string())
}

fn device(vector: &Value) -> Value {
    let input = &vector["input"];
    let release = match vector["kind"].as_str().unwrap() {
        "device" => return input.clone(),
        "release" => input.clone(),
        _ => release(vector),
    };
    json!({ "name": "bench-07", "config": {}, "apps": { APP: {
        "id": 4711, "name": "greenhouse", "class": "fleet", "releases": { RELEASE: release },
    } } })
}

/// A release around one composition.
fn release(vector: &Value) -> Value {
    let context = &vector["context"];
    let declared = |key: &str| -> Map<String, Value> {
        let names = context[key].as_array().into_iter().flatten();
        names
            .map(|name| (name.as_str().unwrap().to_owned(), json!({})))
            .collect()
    };
    let or_empty = |key: &str| match &context[key] {
        Value::Null => json!({}),
        value => value.clone(),
    };
    let mut services = json!({ "main": {
        "id": 31, "image": IMAGE, "composition": vector["input"],
        "labels": or_empty("labels"), "environment": or_empty("environment"),
    } });
    for name in context["container_ids"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
    {
        services[name] = json!({ "id": 32, "image": IMAGE });
    }
    json!({
        "services": services,
        "networks": declared("networks"),
        "volumes": declared("volumes"),
    })
}

/// App uuid to `accepted`, `host`, or `rejected` with the reasons.
fn outcomes(target: &DeviceTarget) -> BTreeMap<String, String> {
    let mut outcomes = BTreeMap::new();
    for (uuid, app) in &target.apps {
        let outcome = match &app.release {
            AppRelease::None | AppRelease::Wanted(..) => "accepted".to_owned(),
            AppRelease::Rejected(rejection) => format!("rejected {}", rejection.reasons),
        };
        outcomes.insert(uuid.to_string(), outcome);
    }
    for (uuid, rejection) in &target.refused_hosts {
        outcomes.insert(uuid.to_string(), format!("rejected {}", rejection.reasons));
    }
    if let Some(host) = &target.host {
        outcomes.insert(host.app.to_string(), "host".to_owned());
    }
    outcomes
}

fn check(vector: &Value, expect: &Value, any_order: bool) -> Result<(), String> {
    let rules = Rules {
        supervisor: vector["basis"] == "supervisor",
        any_order,
    };
    let target = read(vector);
    let accept = expect["accept"].as_bool().unwrap();
    let is_device = vector["kind"] == "device";
    let refused = match &target {
        Err(reason) => Some(reason.clone()),
        Ok(_) if is_device => None,
        Ok(target) => outcomes(target)[APP]
            .strip_prefix("rejected ")
            .map(str::to_owned),
    };
    match (refused, accept) {
        (Some(reason), true) => return Err(format!("refused: {reason}")),
        (None, false) => return Err("accepted".to_owned()),
        (Some(reason), false) => {
            let text = expect["error_contains"].as_str().unwrap();
            return contains(&reason, text)
                .then_some(())
                .ok_or_else(|| format!("`{text}` is not in: {reason}"));
        }
        (None, true) => {}
    }
    let target = target?;
    if is_device {
        return check_apps(&target, &expect["apps"], &rules);
    }
    let engine = engine(&target, vector)?;
    if vector["kind"] == "release" {
        if let Some(wanted) = expect.get("engine") {
            check_release(&engine, wanted, &rules)?;
        }
    } else if let Some(wanted) = expect.get("engine") {
        rules.matches(&engine.containers["main"], wanted, "main")?;
    }
    if let Some(connect) = expect.get("connect") {
        rules.matches(&json!(engine.connect["main"]), connect, "connect")?;
    }
    check_dependencies(&target, expect)
}

fn check_dependencies(target: &DeviceTarget, expect: &Value) -> Result<(), String> {
    let services = match &target.apps[APP].release {
        AppRelease::Wanted(_, release) => &release.services,
        _ => return Err("no release".to_owned()),
    };
    for (name, wanted) in expect["depends_on"].as_object().into_iter().flatten() {
        let got = serde_json::to_value(&services[name.as_str()].depends_on).unwrap();
        if got != *wanted {
            return Err(format!("{name} depends on {got}, wanted {wanted}"));
        }
    }
    if let Some(wanted) = expect.get("depends_on_names") {
        let got: Vec<&str> = services["main"]
            .depends_on
            .keys()
            .map(|name| &**name)
            .collect();
        if json!(got) != *wanted {
            return Err(format!("depends on {got:?}, wanted {wanted}"));
        }
    }
    Ok(())
}

fn check_apps(target: &DeviceTarget, wanted: &Value, rules: &Rules) -> Result<(), String> {
    let Some(wanted) = wanted.as_object() else {
        return Ok(());
    };
    let outcomes = outcomes(target);
    if !outcomes.keys().eq(wanted.keys().collect::<BTreeSet<_>>()) {
        return Err(format!("apps {outcomes:?}"));
    }
    for (uuid, want) in wanted {
        let outcome = &outcomes[uuid];
        let status = want["status"].as_str().unwrap();
        if !outcome.starts_with(status) {
            return Err(format!("{uuid}: {outcome}"));
        }
        let reason = want["reason_contains"].as_str().unwrap_or_default();
        if !contains(outcome, reason) {
            return Err(format!("{uuid}: `{reason}` is not in: {outcome}"));
        }
        match status {
            "accepted" => check_accepted(target, uuid, want, rules)?,
            "host" => {
                let host = target.host.as_ref().unwrap();
                let got = json!({
                    "status": "host", "release": host.release.as_str(), "image": host.image,
                    "board_rev": &*host.board_rev, "updater": host.updater,
                });
                rules.matches(&got, want, uuid)?;
            }
            _ => {
                let release = match target.apps.get(uuid.as_str()).map(|app| &app.release) {
                    Some(AppRelease::Rejected(rejection)) => rejection.release.clone(),
                    _ => target.refused_hosts[uuid.as_str()].release.clone(),
                };
                let got = json!({ "release": release.as_deref() });
                rules.matches(&got, &json!({ "release": want["release"] }), uuid)?;
            }
        }
    }
    Ok(())
}

fn check_accepted(
    target: &DeviceTarget,
    uuid: &str,
    want: &Value,
    rules: &Rules,
) -> Result<(), String> {
    let (releases, services): (Vec<&str>, Vec<&str>) = match &target.apps[uuid].release {
        AppRelease::Wanted(release, content) => (
            vec![release],
            content.services.keys().map(|name| &**name).collect(),
        ),
        _ => Default::default(),
    };
    for (got, key) in [(releases, "releases"), (services, "services")] {
        if let Some(want) = want.get(key)
            && json!(got) != *want
        {
            return Err(format!("{uuid}: {key} are {got:?}"));
        }
    }
    match want.get("engine") {
        Some(wanted) => check_release(&engine_of(target, uuid, None, 51)?, wanted, rules),
        None => Ok(()),
    }
}

/// All bodies of a release.
struct Engine {
    containers: BTreeMap<String, Value>,
    connect: BTreeMap<String, Vec<String>>,
    networks: BTreeMap<String, Value>,
    volumes: BTreeMap<String, Value>,
}

fn engine(target: &DeviceTarget, vector: &Value) -> Result<Engine, String> {
    let ids = vector["context"]["container_ids"].as_object();
    engine_of(target, APP, ids, 51)
}

fn engine_of(
    target: &DeviceTarget,
    uuid: &str,
    ids: Option<&Map<String, Value>>,
    api: u16,
) -> Result<Engine, String> {
    let uuid = AppUuid::new(uuid);
    let app = &target.apps[&uuid];
    let empty = ReleaseTarget::default();
    let (release, content) = match &app.release {
        AppRelease::Wanted(release, content) => (release.clone(), &**content),
        _ => (ReleaseUuid::new(""), &empty),
    };
    let network = |name: &NetworkName| format!("{name}_{uuid}");
    let volume = |name: &VolumeName| format!("{name}_{uuid}");
    let container = |service: &str| match ids {
        Some(ids) => ids[service].as_str().unwrap().to_owned(),
        None => service.to_owned(),
    };
    let host = HostFacts {
        uuid: DEVICE.to_owned(),
        device_name: Some("bench-07".to_owned()),
        device_type: Some("raspberrypi4-64".to_owned()),
        arch: "aarch64".to_owned(),
        os_version: Some("balenaOS 6.4.2+rev1".to_owned()),
        os_build: Some("9f8e7d6".to_owned()),
        kernel: None,
        runtime_dir: "/run/helios".to_owned(),
        supervised: true,
    };
    let extra = Extra {
        backend: Some(Backend {
            url: "https://api.example.net",
            key: "devkey-0001",
        }),
        supervisor: Some(SupervisorApi {
            key: "made-for-it",
            port: 48484,
            gateway: Some("10.114.104.1"),
        }),
        engine_socket: None,
    };
    let mut engine = Engine {
        containers: BTreeMap::new(),
        connect: BTreeMap::new(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
    };
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    for (name, service) in &content.services {
        let config = ServiceConfig::from_json(&service.config).unwrap();
        assert_eq!(config.to_json(), &*service.config);
        let new = NewContainer {
            name: "main_1",
            app: &uuid,
            app_id: app.id,
            app_name: app.name.as_deref(),
            release: &release,
            service: name,
            service_id: service.id,
            image: &service.image,
            image_config: None,
            config: &config,
            config_json: &service.config,
            depends_on: &service.depends_on,
            network: &network,
            volume: &volume,
            container: &container,
            host: &host,
        };
        let CreateBody { body, connect, .. } = create_body_with(&new, ApiVersion(api), &extra)?;
        engine.containers.insert(name.to_string(), parsed(&body));
        let connect = connect.into_iter().map(|(name, _)| name).collect();
        engine.connect.insert(name.to_string(), connect);
    }
    for (name, config) in &content.networks {
        let body = network_body(&network(name), &uuid, name, config, true).unwrap();
        engine.networks.insert(name.to_string(), parsed(&body));
    }
    for (name, config) in &content.volumes {
        let body = volume_body(&volume(name), &uuid, name, config, true).unwrap();
        engine.volumes.insert(name.to_string(), parsed(&body));
    }
    Ok(engine)
}

fn check_release(engine: &Engine, wanted: &Value, rules: &Rules) -> Result<(), String> {
    for (key, bodies) in [
        ("containers", &engine.containers),
        ("networks", &engine.networks),
        ("volumes", &engine.volumes),
    ] {
        let Some(wanted) = wanted.get(key) else {
            continue;
        };
        if wanted.as_object().unwrap().is_empty() && !bodies.is_empty() {
            return Err(format!("there are {key}"));
        }
        rules.matches(&json!(bodies), wanted, key)?;
    }
    match wanted.get("connect") {
        Some(wanted) => rules.matches(&json!(engine.connect), wanted, "connect"),
        None => Ok(()),
    }
}

/// The README's matching rules.
struct Rules {
    supervisor: bool,
    any_order: bool,
}

impl Rules {
    fn matches(&self, got: &Value, want: &Value, at: &str) -> Result<(), String> {
        let fail = || Err(format!("at {at}: got {got}, wanted {want}"));
        let key = at.rsplit('.').next().unwrap_or_default();
        let others = (key == "Mounts").then(|| without_own(got));
        let got = others.as_ref().unwrap_or(got);
        match want {
            Value::Null => {
                let unset = got.is_null() || *got == json!([]) || *got == json!({});
                let zero = *got == json!(0) || *got == json!("") || *got == json!(false);
                if unset || (zero && self.supervisor) {
                    Ok(())
                } else {
                    fail()
                }
            }
            Value::Object(want) => self.object(got, want, at, key),
            Value::Array(want) if matches!(key, "Env" | "Binds") => self.entries(got, want, at),
            Value::Array(want) => {
                let got = got.as_array().cloned().unwrap_or_default();
                let in_bindings = at.contains(".PortBindings.");
                let as_set = matches!(key, "ExtraHosts" | "Ulimits") || in_bindings;
                if got.len() != want.len() {
                    return fail();
                }
                if as_set || (key == "Mounts" && self.any_order) {
                    return self.set(got, want, at);
                }
                for (index, (got, want)) in got.iter().zip(want).enumerate() {
                    self.matches(got, want, &format!("{at}[{index}]"))?;
                }
                Ok(())
            }
            _ if got == want => Ok(()),
            _ => fail(),
        }
    }

    fn object(
        &self,
        got: &Value,
        want: &Map<String, Value>,
        at: &str,
        key: &str,
    ) -> Result<(), String> {
        let all = [
            "PortBindings",
            "ExposedPorts",
            "Annotations",
            "Sysctls",
            "Tmpfs",
        ];
        let keys = |map: Option<&Map<String, Value>>| -> BTreeSet<String> {
            map.into_iter()
                .flatten()
                .map(|(key, _)| key.clone())
                .collect()
        };
        if all.contains(&key) && keys(got.as_object()) != keys(Some(want)) {
            return Err(format!("at {at}: got {got}"));
        }
        for (key, want) in want {
            let mut part = got[key].clone();
            if key == "Binds" && self.supervisor {
                part = binds(got);
            }
            self.matches(&part, want, &format!("{at}.{key}"))?;
        }
        Ok(())
    }

    fn entries(&self, got: &Value, want: &[Value], at: &str) -> Result<(), String> {
        let got: Vec<&str> = got
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        for want in want.iter().map(|want| want.as_str().unwrap()) {
            let good = if let Some(want) = want.strip_prefix('!') {
                !got.contains(&want)
            } else if let Some(start) = want.strip_suffix('*') {
                got.iter()
                    .any(|got| got.len() > start.len() && got.starts_with(start))
            } else {
                got.contains(&want)
            };
            if !good {
                return Err(format!("at {at}: {want} in {got:?}"));
            }
        }
        Ok(())
    }

    fn set(&self, mut got: Vec<Value>, want: &[Value], at: &str) -> Result<(), String> {
        let each = format!("{at}[]");
        for want in want {
            let found = got
                .iter()
                .position(|got| self.matches(got, want, &each).is_ok());
            let found = found.ok_or_else(|| format!("at {at}: no {want} in {got:?}"))?;
            got.remove(found);
        }
        Ok(())
    }
}

/// The mounts that are not the agent's own.
fn without_own(mounts: &Value) -> Value {
    let own = |mount: &&Value| mount["Target"] != "/tmp/balena" && mount["Target"] != "/tmp/resin";
    let others = mounts.as_array().into_iter().flatten().filter(own);
    Value::Array(others.cloned().collect())
}

/// `Binds` of a host configuration, with its bind mounts in the same form.
fn binds(host: &Value) -> Value {
    let mut binds = host["Binds"].as_array().cloned().unwrap_or_default();
    for mount in host["Mounts"].as_array().into_iter().flatten() {
        if mount["Type"] == "bind" {
            let text = |key: &str| mount[key].as_str().unwrap();
            let end = if mount["ReadOnly"] == true { ":ro" } else { "" };
            binds.push(json!(format!("{}:{}{end}", text("Source"), text("Target"))));
        }
    }
    Value::Array(binds)
}
