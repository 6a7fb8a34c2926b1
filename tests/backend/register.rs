//! `POST /device/register` and the exchange of keys (remote-api 1.2, 1.3, 1.6).

use std::collections::BTreeMap;

use crate::provisioning::{Devices, Said};
use crate::state::{Device, Standing, State};
use crate::wire::{Answer, Call};

impl Devices for BTreeMap<String, Device> {
    fn find(&self, uuid: &str) -> Option<(u64, Option<String>)> {
        let found = self.get(uuid)?;
        let is_there = found.standing != Standing::Deleted;
        is_there.then(|| (found.id, found.key.clone()))
    }

    fn uuid_of(&self, id: u64) -> Option<String> {
        let found = self.iter().find(|(_, device)| device.id == id);
        found.map(|(uuid, _)| uuid.clone())
    }

    fn set_key(&mut self, uuid: &str, key: &str) -> u64 {
        let id = self.len() as u64 + 1;
        let device = self
            .entry(uuid.to_owned())
            .or_insert_with(|| Device::new(id));
        device.key = Some(key.to_owned());
        device.standing = Standing::Normal;
        device.id
    }
}

/// The answer to a request of these routes, with the name that faults know it by.
pub fn answer(state: &mut State, call: &Call, body: &[u8]) -> Option<(&'static str, Answer)> {
    let path = call.path.trim_end_matches('/');
    let (key, devices) = (call.key(), &mut state.devices);
    let key = key.as_deref();
    let it = &mut state.provisioning;
    let given = path.strip_prefix("/api-key/device/");
    let given = given.and_then(|rest| rest.strip_suffix("/device-key"));
    let (name, said) = match (call.method.as_str(), path, given) {
        ("POST", "/device/register", _) => {
            ("register", it.register(devices, key, call.is_json(), body))
        }
        ("GET", "/v7/device", _) => {
            let filter = call.asked("$filter").next().unwrap_or_default();
            ("exchange", it.look_up(devices, key, &filter))
        }
        ("POST", _, Some(id)) => ("exchange", it.give_key(devices, key, id, body)),
        _ => return None,
    };
    Some((name, written(said)))
}

fn written((status, kind, body): Said) -> Answer {
    if kind.is_empty() {
        return Answer::empty(status);
    }
    let mut answer = Answer::text(status, &body)
        .with("Content-Type", kind)
        .with("Vary", "Accept-Encoding");
    let etag = crate::wire::etag(&answer.body);
    answer.fields.push(("ETag".into(), etag));
    answer
}
