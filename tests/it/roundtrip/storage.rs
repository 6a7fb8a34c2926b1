//! Networks and volumes, each definition in an app of its own.

use serde_json::{Value, json};

use super::readback::plain;
use super::{Setup, is_known, podman};
use crate::compose;
use crate::support::engine::{App, app, call};
use crate::support::{alone, until};

/// Why an engine may refuse what intake could not know.
#[rustfmt::skip]
const ONLY_THE_ENGINE_KNOWS: &[(&str, &str)] = &[
    ("ipv4 pool is empty", "which address managers there are"),
    ("none0", "which interfaces the machine has"),
    ("Pool overlaps", "which other networks there are"),
    ("find an available, non-overlapping IPv6", "which addresses it gives out by itself"),
];

struct Case {
    mine: App,
    kind: &'static str,
    definition: Value,
}

impl Case {
    fn document(&self) -> Value {
        app("r1", json!({self.kind: {"it": self.definition}}))
    }

    fn is_accepted(&self) -> bool {
        let document = self.document().to_string();
        helios::intake::app_target("a", document.as_bytes()).is_ok()
    }

    /// What the engine has, if it has it.
    fn found(&self) -> Option<Value> {
        let path = match self.kind {
            "networks" => format!("/networks/it_{}", self.mine.0),
            _ => format!("/volumes/it_{}", self.mine.0),
        };
        let (status, found) = call("GET", &path, None);
        (status == 200).then_some(found)
    }

    /// Why the engine has it not.
    fn refusal(&self, log: &str) -> Option<String> {
        let of_app = format!("of app '{}': cannot create", self.mine.0);
        let line = log.lines().find(|line| line.contains(&of_app))?;
        Some(line.to_owned())
    }
}

#[test]
fn issue_4_each_definition_of_a_network_and_of_a_volume() {
    let (_alone, setup) = (alone(), Setup::with_retry(Some(600_000)));
    let agent = setup.agent();
    let networks = compose::networks()
        .into_iter()
        .map(|body| ("networks", body));
    let volumes = compose::volumes().into_iter().map(|body| ("volumes", body));
    let mut cases: Vec<Case> = networks
        .chain(volumes)
        .map(|(kind, definition)| Case {
            mine: App::new(),
            kind,
            definition,
        })
        .filter(Case::is_accepted)
        .collect();
    let mut faults = Vec::new();
    for case in &cases {
        agent.set(&case.mine.0, &case.document());
    }
    cases.retain(|case| {
        let refused = until("a first try", || match case.found() {
            Some(_) => Some(None),
            None => case.refusal(&agent.log()).map(Some),
        });
        if let Some(said) = &refused {
            let mut known = ONLY_THE_ENGINE_KNOWS.iter();
            if !known.any(|(text, _)| said.contains(text)) && !is_known(said) {
                faults.push(format!("{said}\n    {}", case.definition));
            }
            agent.remove(&case.mine.0);
        }
        refused.is_none()
    });
    agent.wait_for("done");
    let changes = setup.proxy.changes();
    for case in &cases {
        let name = json!(format!("it_{}", case.mine.0));
        let sent = changes.iter().find(|change| change.body["Name"] == name);
        let found = case.found().unwrap();
        let differences = differences(&sent.unwrap().body, &found);
        faults.extend(differences.map(|fault| format!("{fault}\n    {}", case.definition)));
    }
    let before = setup.proxy.changes().len();
    for case in &cases {
        agent.set(&case.mine.0, &case.document());
    }
    agent.wait_for("done");
    agent.stop();
    setup.agent().wait_for("done");
    let again = setup.changes_since(before).into_iter();
    faults.extend(again.map(|what| format!("a second apply changes: {what}")));
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

/// A network that is only a configuration has a driver of its own; not every engine says
/// whether it looked for another of the name.
fn is_its_own(key: &str, sent: &Value) -> bool {
    key == "CheckDuplicate" || key == "Driver" && sent["ConfigOnly"] == true
}

/// Members that the engine does not have as they were sent.
fn differences(sent: &Value, found: &Value) -> impl Iterator<Item = String> {
    let members = sent.as_object().unwrap().iter();
    members
        .filter_map(|(key, value)| {
            // Volumes have another word for their options when they are read.
            let read = if key == "DriverOpts" { "Options" } else { key };
            let agrees = is_its_own(key, sent) || has(value, &found[read]);
            (!agrees).then(|| format!("{key}: sent {value}, found {}", found[read]))
        })
        .filter(|fault| !(podman::is_it() && podman::shows_otherwise(fault)))
}

/// Engines add to what they were told, and never take away from it.
fn has(sent: &Value, found: &Value) -> bool {
    match (plain(sent), found) {
        (Value::Null, _) => true,
        (Value::Object(sent), _) => sent
            .iter()
            .all(|(key, value)| has(value, &found[key.as_str()])),
        (Value::Array(sent), Value::Array(found)) => {
            let there = |sent: &Value| found.iter().any(|found| has(sent, found));
            sent.iter().all(there)
        }
        (sent, found) => sent == *found,
    }
}
