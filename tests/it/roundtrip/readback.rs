//! What inspect says beside what was sent: every member that was sent is there.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// One line for every member of a create body that the engine does not have as it was sent.
pub fn differences(sent: &Value, found: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut compare = |name: &str, sent: &Value, found: &Value| {
        if !agrees(name, sent, found) {
            faults.push(format!("{name}: sent {sent}, found {found}"));
        }
    };
    for (name, value) in members(sent) {
        match name.as_str() {
            "HostConfig" => {
                for (name, value) in members(value) {
                    compare(name, value, &found["HostConfig"][name.as_str()]);
                }
            }
            "NetworkingConfig" => {
                for (network, endpoint) in members(&value["EndpointsConfig"]) {
                    let found = &found["NetworkSettings"]["Networks"][network.as_str()];
                    for (name, value) in members(endpoint) {
                        compare(&format!("endpoint {name}"), value, &found[name.as_str()]);
                    }
                }
            }
            // Older engines keep it where newer ones do not look for it.
            "MacAddress" if found["Config"]["MacAddress"].is_null() => {}
            name => compare(name, value, &found["Config"][name]),
        }
    }
    faults
}

fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn agrees(name: &str, sent: &Value, found: &Value) -> bool {
    let sent = &plain(sent);
    match name {
        // An empty command is none, and the image's is used; no limit has many spellings.
        "Cmd" if sent.is_null() => true,
        "PidsLimit" if sent.as_i64() < Some(0) => plain(found).is_null() || found == sent,
        // Nothing in particular was asked for.
        _ if sent.is_null() => true,
        // The image has some of its own.
        "Env" => texts(found).is_superset(&texts(sent)),
        "Labels" | "Healthcheck" | "ExposedPorts" => has(sent, found),
        "CapAdd" | "CapDrop" => capabilities(sent) == capabilities(found),
        // Sharing the host's or another's namespaces, and privileges, switch labels off.
        "SecurityOpt" => texts(found).is_superset(&texts(sent)),
        "WorkingDir" => trimmed(sent) == trimmed(found),
        "endpoint Aliases" => texts(found).is_superset(&texts(sent)),
        _ => plain(sent) == plain(found),
    }
}

fn trimmed(path: &Value) -> Option<&str> {
    path.as_str().map(|path| path.trim_end_matches('/'))
}

fn texts(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().unwrap_or_default().to_owned())
        .collect()
}

fn has(sent: &Value, found: &Value) -> bool {
    members(sent).all(|(key, value)| plain(value) == plain(&found[key.as_str()]))
}

/// Engines spell them in full.
fn capabilities(value: &Value) -> BTreeSet<String> {
    texts(value)
        .into_iter()
        .map(|name| {
            let name = name.to_uppercase();
            if name == "ALL" || name.starts_with("CAP_") {
                name
            } else {
                format!("CAP_{name}")
            }
        })
        .collect()
}

/// Without members that say nothing: null, false, zero, empty.
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept: Map<String, Value> = map
                .iter()
                .map(|(key, value)| (key.clone(), plain(value)))
                .filter(|(_, value)| !value.is_null())
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        Value::Array(list) if list.is_empty() => Value::Null,
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Bool(false) => Value::Null,
        Value::String(text) if text.is_empty() => Value::Null,
        Value::Number(number) if number.as_i64() == Some(0) => Value::Null,
        other => json!(other),
    }
}
