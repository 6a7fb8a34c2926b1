//! Realistic apps in the form in which the cloud delivers them: accepted, and the bodies
//! for the engine as they were reviewed (issue 4). See `tests/fixtures/apps/README.md`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use helios::check::{Context, Kind, Options, check};
use serde_json::Value;

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/apps")
}

/// Every app's document, by name.
fn apps() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".json").unwrap_or_default();
        if !stem.is_empty() && stem != "context" && !stem.ends_with(".expected") {
            found.push((stem.to_owned(), fs::read(dir().join(&name)).unwrap()));
        }
    }
    found.sort();
    found
}

/// Where two documents differ: pointer and both values, the first few.
fn differences(at: &str, expected: &Value, found: &Value, out: &mut Vec<String>) {
    match (expected, found) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                // As in a pointer (RFC 6901).
                let at = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&at, a, b, out),
                    (Some(a), None) => out.push(format!("{at}: expected {a}, found nothing")),
                    (None, b) => out.push(format!("{at}: expected nothing, found {}", b.unwrap())),
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{at}/{index}"), a, b, out);
            }
        }
        (a, b) if a == b => {}
        (a, b) => out.push(format!("{at}: expected {a}, found {b}")),
    }
}

#[test]
fn issue_4_realistic_apps_make_the_bodies_that_were_reviewed() {
    let context = fs::read(dir().join("context.json")).unwrap();
    let options = Options {
        engine: true,
        kind: Kind::Device,
        context: serde_json::from_slice::<Context>(&context).unwrap(),
    };
    let renew = std::env::var_os("HELIOS_RENEW").is_some();
    let apps = apps();
    assert!(apps.len() >= 20, "only {} apps", apps.len());
    let mut faults = Vec::new();
    for (name, document) in &apps {
        let (verdict, code) = check(&options, document);
        assert_eq!(code, 0, "{name}: {verdict}");
        let path = dir().join(format!("{name}.expected.json"));
        if renew {
            fs::write(&path, &verdict).unwrap();
            continue;
        }
        let expected = fs::read_to_string(&path).unwrap_or_else(|_| "null".to_owned());
        let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let mut found = Vec::new();
        differences("", &parsed(&expected), &parsed(&verdict), &mut found);
        if found.is_empty() && expected != verdict {
            found.push(": the same values, written in another way".to_owned());
        }
        faults.extend(found.iter().take(5).map(|fault| format!("{name}{fault}")));
    }
    assert!(!renew, "the expected files are written anew: review them");
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Fields of a composition (target-state 2.1).
#[rustfmt::skip]
const FIELDS: &[&str] = &[
    "annotations", "cap_add", "cap_drop", "cgroup", "cgroup_parent", "command", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime",
    "cpu_shares", "cpus", "cpuset", "depends_on", "device_cgroup_rules", "devices", "dns", "dns_opt", "dns_search", "domainname",
    "entrypoint", "environment", "extra_hosts", "group_add", "healthcheck", "hostname", "image", "init", "ipc", "labels", "mac_address",
    "mem_limit", "mem_reservation", "network_mode", "networks", "oom_kill_disable", "oom_score_adj", "pid", "pids_limit", "ports",
    "privileged", "read_only", "restart", "running", "runtime", "security_opt", "shm_size", "stop_grace_period", "stop_signal",
    "storage_opt", "sysctls", "tmpfs", "tty", "ulimits", "user", "userns_mode", "uts", "volumes", "working_dir",
];

/// What the labels `io.balena.features.*` switch on (target-state 4.2).
#[rustfmt::skip]
const FEATURES: &[&str] = &[
    "balena-api", "balena-socket", "dbus", "extra-firmware", "firmware", "gpu", "host-os.board-rev", "journal-logs", "kernel-modules",
    "procfs", "supervisor-api", "sysfs",
];

/// Fields and labels without a use in these apps would be without a reviewed body.
#[test]
fn issue_4_realistic_apps_use_every_field() {
    let mut used = BTreeSet::new();
    let mut switched: BTreeSet<&str> = BTreeSet::new();
    for (_, document) in apps() {
        let document: Value = serde_json::from_slice(&document).unwrap();
        fields(&document, &mut used);
        switched.extend(FEATURES.iter().filter(|name| {
            let label = format!("\"io.balena.features.{name}\":\"1\"");
            document.to_string().contains(&label)
        }));
    }
    let unused: Vec<_> = FIELDS
        .iter()
        .filter(|field| !used.contains(**field))
        .collect();
    assert!(unused.is_empty(), "{unused:?}");
    assert_eq!(switched.len(), FEATURES.len(), "{switched:?}");
}

/// The list above is what intake knows: each of it, and nothing else.
#[test]
fn issue_4_the_fields_are_those_that_intake_knows() {
    let options = Options {
        kind: Kind::Service,
        ..Options::default()
    };
    for field in FIELDS {
        let (verdict, _) = check(&options, format!("{{\"{field}\":null}}").as_bytes());
        assert!(!verdict.contains("without effect"), "{field}: {verdict}");
    }
    let unlisted: Vec<String> = known_to_the_source()
        .into_iter()
        .filter(|field| field != "build" && !FIELDS.contains(&field.as_str()))
        .collect();
    assert!(unlisted.is_empty(), "{unlisted:?}");
}

/// The words that the `read` of each theme compares a field's name with.
fn known_to_the_source() -> BTreeSet<String> {
    let themes = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/intake/compose");
    let mut known = BTreeSet::new();
    for entry in fs::read_dir(themes).unwrap() {
        let text = fs::read_to_string(entry.unwrap().path()).unwrap();
        let from = text.find("pub(super) fn read(").unwrap_or(text.len());
        let read = text[from..].split("\n}\n").next().unwrap();
        for line in read.lines().map(str::trim) {
            let word = line
                .strip_prefix("if key != ")
                .or_else(|| Some(line.split_once(" => ")?.0));
            let quoted = word.and_then(|word| word.strip_prefix('"')?.split('"').next());
            known.extend(quoted.map(str::to_owned));
        }
    }
    assert!(
        known.len() > 50,
        "the source is written otherwise: {known:?}"
    );
    known
}

fn fields(value: &Value, used: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                if key == "composition" {
                    used.extend(inner.as_object().unwrap().keys().cloned());
                }
                fields(inner, used);
            }
        }
        Value::Array(list) => list.iter().for_each(|inner| fields(inner, used)),
        _ => {}
    }
}
