//! The form of a scenario (`tests/fixtures/scenarios/README.md`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::life::DEVICE;

/// One scenario.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub id: String,
    pub about: String,
    /// Which decision overrules the specification, and in what.
    pub ruling: Option<String>,
    /// Images that somebody loaded before.
    #[serde(default)]
    pub images: Vec<String>,
    /// Every pull breaks off.
    #[serde(default)]
    pub no_pulls: bool,
    /// Objects that another agent made.
    #[serde(default)]
    pub placed: Placed,
    /// Targets that are applied one after the other before it begins.
    #[serde(default)]
    pub before: Vec<Value>,
    /// What the last of these ends with.
    pub before_status: Option<String>,
    /// What happens while no agent lives.
    #[serde(default)]
    pub meanwhile: Vec<Deed>,
    /// The agent is killed before the target comes, or lives on; both are played when this
    /// is not said.
    pub restart: Option<bool>,
    pub target: Value,
    /// What happens so many seconds after the target came.
    #[serde(default)]
    pub then: Vec<(u64, Deed)>,
    pub expect: Expect,
}

/// Objects of another agent: engine name, and whose they are.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub struct Placed {
    /// Engine name: app and name in its release.
    #[serde(default)]
    pub networks: BTreeMap<String, (String, String)>,
    /// Engine name: the app of its label, if it has one.
    #[serde(default)]
    pub volumes: BTreeMap<String, Option<String>>,
}

/// Something that the agent does not do.
#[derive(Deserialize, Clone)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Deed {
    /// Somebody stops a container.
    Stop(String),
    /// The engine gives a container up.
    Dies(String),
    /// Somebody takes a reference from an image.
    Untag(String),
    /// A service takes its update lock: `app/service`.
    Lock(String),
    /// It gives the lock back.
    Unlock(String),
    /// An app comes in at the local API: its uuid and what it is to be.
    Edit(String, Value),
    /// The target of the backend changes.
    Target(Value),
}

/// What must come out.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Chains `a, b -> c -> d`: each of these calls once, and no other.
    #[serde(default)]
    pub calls: Vec<String>,
    /// Calls that may be made any number of times, or not at all.
    #[serde(default)]
    pub repeated: Vec<String>,
    /// Engine name: what it does.
    pub containers: BTreeMap<String, String>,
    #[serde(default)]
    pub networks: Vec<String>,
    #[serde(default)]
    pub volumes: Vec<String>,
    #[serde(default)]
    pub images: Vec<String>,
    /// `done` when this is not said.
    pub status: Option<String>,
    /// A part of the reason for another status.
    pub reason: Option<String>,
    /// Members of the last report's apps; that all releases are done when this is not said.
    pub report: Option<Value>,
    /// Members of the device as the local API shows it.
    pub device: Option<Value>,
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scenarios")
}

/// The scenario of this id.
pub fn read(id: &str) -> Scenario {
    let path = dir().join(format!("{}.json", id.to_lowercase()));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let read: Result<Scenario, _> = serde_json::from_slice(&bytes);
    let scenario = read.unwrap_or_else(|error| panic!("{path:?}: {error}"));
    assert_eq!(scenario.id, id, "{path:?}");
    assert!(!scenario.about.is_empty(), "{path:?}");
    scenario
}

/// The ids of all documents.
pub fn all() -> Vec<String> {
    let names = std::fs::read_dir(dir()).unwrap().flatten();
    let names = names.map(|entry| entry.file_name().into_string().unwrap());
    let mut ids: Vec<_> = names
        .filter_map(|name| Some(name.strip_suffix(".json")?.to_uppercase()))
        .collect();
    ids.sort();
    ids
}

/// A target as the backend sends it.
pub fn device(target: &Value) -> Vec<u8> {
    let name = target
        .get("name")
        .cloned()
        .unwrap_or_else(|| json!("device"));
    let apps = target["apps"].as_object().unwrap();
    let apps: Map<_, _> = apps
        .iter()
        .map(|(uuid, short)| (uuid.clone(), app(uuid, short)))
        .collect();
    let config = target.get("config").cloned().unwrap_or_else(|| json!({}));
    let document = json!({DEVICE: {"name": name, "config": config, "apps": apps}});
    document.to_string().into_bytes()
}

/// One app of it.
pub fn app(uuid: &str, short: &Value) -> Value {
    let mut members = short.as_object().unwrap().clone();
    let release = members.remove("release");
    let id = members.remove("id").unwrap_or_else(|| json!(number(uuid)));
    let name = members.remove("name").unwrap_or_else(|| json!(uuid));
    let mut releases = Map::new();
    if let Some(release) = release {
        if let Some(services) = members.get_mut("services").and_then(Value::as_object_mut) {
            for (name, short) in services {
                *short = service(name, short);
            }
        }
        members.entry("services").or_insert(json!({}));
        let release = release.as_str().unwrap().to_owned();
        releases.insert(release, Value::Object(members));
    } else {
        assert!(members.is_empty(), "{members:?}");
    }
    json!({"id": id, "name": name, "releases": releases})
}

fn service(name: &str, short: &Value) -> Value {
    let mut composition = short.as_object().unwrap().clone();
    let mut whole = Map::new();
    whole.insert("id".to_owned(), json!(number(name)));
    for member in ["image", "id", "running"] {
        if let Some(value) = composition.remove(member) {
            whole.insert(member.to_owned(), value);
        }
    }
    if !composition.contains_key("networks") && !composition.contains_key("network_mode") {
        composition.insert("network_mode".to_owned(), json!("none"));
    }
    whole.insert("composition".to_owned(), Value::Object(composition));
    Value::Object(whole)
}

/// A number for what has a name.
fn number(name: &str) -> u32 {
    name.bytes()
        .fold(1, |sum, byte| sum * 31 % 9973 + u32::from(byte))
}
