//! The control routes, for tests and for curious users; see the table in `main`.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::fault::Faults;
use crate::state::{Standing, State};
use crate::wire::Answer;

#[derive(Deserialize)]
struct DeviceChange {
    #[serde(default)]
    state: Standing,
    key: Option<String>,
}

pub fn answer(state: &mut State, method: &str, route: &str, body: &[u8]) -> Answer {
    let done = |done: Result<(), serde_json::Error>| match done {
        Ok(()) => Answer::empty(204),
        Err(error) => Answer::text(400, &format!("{error}\n")),
    };
    let (route, name) = route.split_once('/').unwrap_or((route, ""));
    match (method, route) {
        ("PUT", "target") => done(set_targets(state, body)),
        ("GET", "target") => Answer::json(200, &state.targets),
        ("GET", "reports") => Answer::json(200, &state.reports),
        ("DELETE", "reports") => {
            state.reports.clear();
            Answer::empty(204)
        }
        ("GET", "requests") => Answer::json(200, &state.requests),
        ("GET", "log") => Answer::json(200, &state.log),
        ("DELETE", "log") => {
            state.log.clear();
            Answer::empty(204)
        }
        ("PUT", "fail") => done(serde_json::from_slice::<Faults>(body).map(|faults| {
            state.faults = faults.list();
        })),
        ("PUT", "fleets") => done(serde_json::from_slice(body).map(|fleets| {
            state.provisioning.fleets = fleets;
        })),
        ("GET", "fail") => Answer::json(200, &format!("{:?}", state.faults)),
        ("PUT", "devices") if !name.is_empty() => {
            done(serde_json::from_slice::<DeviceChange>(body).map(|change| {
                let device = state.device(name);
                device.standing = change.state;
                if change.key.is_some() {
                    device.key = change.key;
                }
            }))
        }
        ("DELETE", "releases") => {
            state.releases.retain(|(_, release), _| release != name);
            Answer::empty(204)
        }
        _ => Answer::text(404, "no such control route\n"),
    }
}

fn set_targets(state: &mut State, body: &[u8]) -> Result<(), serde_json::Error> {
    state.targets = serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(body)?;
    for (uuid, target) in state.targets.clone() {
        state.learn(&uuid, &target);
    }
    Ok(())
}
