//! `GET /device/v3/{uuid}/state` (remote-api 2.2, 2.6).

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::state::{Standing, State};
use crate::wire::{Answer, Call};

/// What a device that has no target is told.
const NOTHING: &str =
    r#"{"name":"","apps":{},"config":{"RESIN_SUPERVISOR_POLL_INTERVAL":"600000"}}"#;

pub fn answer(state: &mut State, uuid: &str, call: &Call) -> Answer {
    match state.devices.get(uuid).map(|device| device.standing) {
        Some(Standing::Normal) => {}
        // Unknown, deleted or frozen: 304 without condition and without ETag.
        _ => return Answer::empty(304),
    }
    if !state.may(uuid, call.key().as_deref()) {
        return Answer::empty(401);
    }
    let nothing = || RawValue::from_string(NOTHING.to_owned()).ok();
    let Some(device) = state.targets.get(uuid).cloned().or_else(nothing) else {
        return Answer::empty(500);
    };
    let answer = Answer::json(200, &BTreeMap::from([(uuid, device)]));
    let tag = |answer: &Answer| {
        let found = answer.fields.iter().find(|(name, _)| name == "ETag");
        found.map(|(_, tag)| tag.clone()).unwrap_or_default()
    };
    let etag = tag(&answer);
    let matches = |wanted: &str| {
        let is_it = |one: &str| {
            let one = one.trim();
            one == "*" || one.trim_start_matches("W/") == etag.trim_start_matches("W/")
        };
        wanted.split(',').any(is_it)
    };
    let is_fresh = call
        .field("cache-control")
        .is_some_and(|wish| wish.contains("no-cache"));
    if !is_fresh && call.field("if-none-match").is_some_and(matches) {
        return Answer::empty(304).with("ETag", etag);
    }
    if call.method == "HEAD" {
        return answer;
    }
    let accepted = call.field("accept-encoding").unwrap_or_default();
    answer.coded_for(accepted)
}
