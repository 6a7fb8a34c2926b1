//! Target to engine and back: what was asked for is what the engine has, and asking
//! again changes nothing (issue 4, D-10, D-11, D-22, FD-18).
//!
//! Containers are made and not run, so that no field needs a machine that has what it names.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::compose;
use crate::support::engine::{App, app};
use crate::support::proxy::Proxy;
use crate::support::{Agent, Options, Scratch, alone, image, until};

/// Random compositions in all; `HELIOS_COMPOSITIONS` makes more, `HELIOS_SEED` others.
const COMPOSITIONS: usize = 150;
/// Services of one app.
const BATCH: usize = 60;

/// Why an engine may refuse what intake could not know: it depends on the machine, the
/// kernel or the engine's build.
#[rustfmt::skip]
const ONLY_THE_ENGINE_KNOWS: &[(&str, &str)] = &[
    ("Range of CPUs is from", "how many the machine has"),
    ("Requested CPUs are not available", "which the machine has"),
    ("runtime", "which are installed"),
    ("bind source path does not exist", "which paths the machine has, with create_host_path false"),
    ("unknown capability", "which its kernel has"),
    ("No such container: none", "which containers of others there are"),
    ("Minimum memory limit allowed", "target-state 2.6 has a limit of 717 bytes"),
    ("needs engine API 1.45", "D-22: a subpath is not left out"),
    ("user specified IP address is supported only", "a vector gives one to a network without subnets"),
    ("hostname and the UTS mode", "a vector has both"),
];

/// Whether an engine may refuse with these words.
fn is_known(said: &str) -> bool {
    let podman: &[_] = if podman::is_it() {
        podman::REFUSES
    } else {
        &[]
    };
    let mut known = ONLY_THE_ENGINE_KNOWS.iter().chain(podman);
    known.any(|(text, _)| said.contains(text))
}

/// An agent whose requests to the engine are seen.
struct Setup {
    dir: Scratch,
    proxy: Proxy,
    options: Options<'static>,
}

impl Setup {
    fn new() -> Setup {
        Setup::with_retry(None)
    }

    /// With a first wait after a failure, ms: none comes when it is long.
    fn with_retry(retry_ms: Option<u32>) -> Setup {
        let dir = Scratch::new();
        let proxy = Proxy::start(&dir.0);
        let options = Options {
            engine: Some(proxy.url.clone()),
            retry_ms,
            ..Options::default()
        };
        Setup {
            dir,
            proxy,
            options,
        }
    }

    /// A new process, which has read the engine.
    fn agent(&self) -> Agent {
        let agent = Agent::start(&self.dir.0, &self.options);
        agent.get("/v3/device");
        agent
    }

    /// Changes since there were so many.
    fn changes_since(&self, before: usize) -> Vec<String> {
        let all = self.proxy.changes().into_iter().skip(before);
        all.map(|change| change.what).collect()
    }
}

/// A composition, and what stands beside it in the service.
struct Case {
    name: String,
    service: Value,
}

impl Case {
    fn new(name: String, composition: Value) -> Case {
        Case {
            name,
            service: json!({"composition": composition}),
        }
    }
}

/// One release around the cases, none of which is to run.
fn release(cases: &[&Case]) -> Value {
    let (mut networks, mut volumes) = compose::declared();
    for (declared, key) in [(&mut networks, "networks"), (&mut volumes, "volumes")] {
        for name in cases
            .iter()
            .flat_map(|case| names(&case.service["needs"][key]))
        {
            declared[name] = json!({});
        }
    }
    let other = Case::new("other".to_owned(), json!({}));
    let services: Map<String, Value> = cases
        .iter()
        .copied()
        .chain([&other])
        .zip(1..)
        .map(|(case, id)| {
            let mut service = case.service.clone();
            service.as_object_mut().unwrap().remove("needs");
            service["id"] = json!(id);
            service["image"] = json!(image());
            service["running"] = json!(false);
            (case.name.clone(), service)
        })
        .collect();
    json!({"services": services, "networks": networks, "volumes": volumes})
}

fn names(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
}

/// Whether intake takes a case at all.
fn is_accepted(case: &Case) -> bool {
    let document = app("r1", release(&[case])).to_string();
    helios::intake::app_target("a", document.as_bytes()).is_ok()
}

/// Makes all cases; returns those that the engine refused, with its words.
fn made(agent: &Agent, mine: &App, cases: &[&Case]) -> BTreeMap<String, String> {
    agent.set(&mine.0, &app("r1", release(cases)));
    let path = format!("/v3/device/apps/{}?detail=true", mine.0);
    until("a first try of every service", || {
        let (_, shown) = agent.call("GET", &path, None);
        let services = shown["releases"]["r1"]["services"].as_object()?;
        let mut refused = BTreeMap::new();
        for (name, service) in services {
            if service["oci"].is_null() {
                let said = service["detail"]["last_error"].as_str()?;
                refused.insert(name.clone(), said.to_owned());
            }
        }
        (services.len() == cases.len() + 1).then_some(refused)
    })
}

/// Makes the cases, compares what the engine has with what was sent, and applies the same again.
fn round_trip(cases: &[Case]) -> Vec<String> {
    let (_alone, setup) = (alone(), Setup::with_retry(Some(600_000)));
    let mine = App::new();
    let agent = setup.agent();
    let all: Vec<&Case> = cases.iter().collect();
    let refused = made(&agent, &mine, &all);
    let good: Vec<&Case> = cases
        .iter()
        .filter(|case| !refused.contains_key(&case.name))
        .collect();
    let mut faults = Vec::new();
    for (name, said) in &refused {
        if !is_known(said) {
            let case = cases.iter().find(|case| case.name == *name);
            faults.push(format!(
                "{name}: {said}\n    {}",
                case.map_or(&Value::Null, |case| &case.service)
            ));
        }
    }
    let left = made(&agent, &mine, &good);
    faults.extend(
        left.iter()
            .map(|(name, said)| format!("{name} at last: {said}")),
    );
    agent.wait_for("done");

    let changes = setup.proxy.changes();
    for case in &good {
        let create = changes.iter().rev().find(|change| {
            change.what.starts_with("POST /containers/create")
                && change.body["Labels"]["io.balena.service-name"] == case.name.as_str()
        });
        let found = mine.service(&case.name).unwrap_or(Value::Null);
        for fault in readback::differences(&create.unwrap().body, &found) {
            if podman::is_it() && podman::shows_otherwise(&fault) {
                continue;
            }
            faults.push(format!("{}: {fault}\n    {}", case.name, case.service));
        }
    }
    let again = applied_again(agent, &mine, &good, &setup);
    faults.extend(
        again
            .into_iter()
            .map(|what| format!("a second apply changes: {what}")),
    );
    faults
}

/// Round trips of all cases, some at a time.
fn round_trips(cases: &[Case], batch: usize) {
    let faults: Vec<String> = cases.chunks(batch).flat_map(round_trip).collect();
    assert!(
        faults.is_empty(),
        "{} of {}:\n{}",
        faults.len(),
        cases.len(),
        faults.join("\n")
    );
}

/// Every change when the same target is given once more, and once more to a new process.
fn applied_again(agent: Agent, mine: &App, good: &[&Case], setup: &Setup) -> Vec<String> {
    let before = setup.proxy.changes().len();
    assert_eq!(made(&agent, mine, good), BTreeMap::new());
    agent.wait_for("done");
    agent.stop();
    let agent = setup.agent();
    agent.wait_for("done");
    assert_eq!(made(&agent, mine, good), BTreeMap::new());
    agent.wait_for("done");
    setup.changes_since(before)
}

#[test]
fn issue_4_each_value_of_each_field() {
    let cases = compose::each().into_iter().zip(0..);
    let cases: Vec<Case> = cases
        .map(|(composition, n)| Case::new(format!("e{n:03}"), composition))
        .filter(is_accepted)
        .collect();
    assert!(cases.len() > 200, "only {} are accepted", cases.len());
    round_trips(&cases, 2 * BATCH);
}

#[test]
fn issue_4_random_compositions() {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|text| text.parse::<u64>().ok())
    };
    let wanted =
        number("HELIOS_COMPOSITIONS").map_or(COMPOSITIONS, |n| usize::try_from(n).unwrap());
    let mut rng = fastrand::Rng::with_seed(number("HELIOS_SEED").unwrap_or(4));
    let mut cases = Vec::new();
    let mut seen = BTreeSet::new();
    for n in 0.. {
        let composition = compose::random(&mut rng);
        let case = Case::new(format!("r{n:05}"), composition.clone());
        if is_accepted(&case) {
            seen.extend(composition.as_object().unwrap().keys().cloned());
            cases.push(case);
        }
        if cases.len() >= wanted {
            break;
        }
    }
    assert!(
        seen.len() >= compose::fields().len() - 1,
        "{} fields are used",
        seen.len()
    );
    round_trips(&cases, BATCH);
}

/// Every vector of one service that is accepted.
#[test]
fn issue_4_the_vectors_of_services() {
    let cases: Vec<Case> = vectors::all("service")
        .map(vectors::case)
        .filter(is_accepted)
        .collect();
    assert!(cases.len() > 95, "only {} are accepted", cases.len());
    round_trips(&cases, 2 * BATCH);
}

/// Every vector of a release or a device that is accepted, app by app.
#[test]
fn issue_4_the_vectors_of_releases_and_devices() {
    let apps: Vec<Value> = vectors::all("release")
        // It gives an address to a network without subnets, which newer engines refuse.
        .filter(|vector| vector["id"] != "networks-endpoint-settings")
        .map(|vector| app("r1", vector["input"].clone()))
        .chain(vectors::all("device").flat_map(|vector| vectors::apps(&vector)))
        .filter_map(vectors::runnable)
        .collect();
    assert!(apps.len() > 20, "only {} are accepted", apps.len());
    each_applied_again(apps);
}

/// The apps of `tests/fixtures/apps`.
#[test]
fn issue_4_realistic_apps() {
    let apps: Vec<Value> = vectors::realistic().filter_map(vectors::runnable).collect();
    assert!(apps.len() >= 20, "only {} are accepted", apps.len());
    each_applied_again(apps);
}

fn each_applied_again(apps: Vec<Value>) {
    let (_alone, setup) = (alone(), Setup::new());
    for document in apps {
        let (mine, agent) = (App::new(), setup.agent());
        let apply = || {
            agent.set(&mine.0, &document);
            agent.wait_for("done");
            setup.proxy.changes().len()
        };
        let before = apply();
        apply();
        agent.stop();
        let agent = setup.agent();
        agent.wait_for("done");
        let again = setup.changes_since(before);
        assert_eq!(again, Vec::<String>::new(), "applying it again: {document}");
        agent.remove(&mine.0);
        agent.wait_for("done");
    }
}

mod podman;
mod readback;
mod storage;
mod vectors;
