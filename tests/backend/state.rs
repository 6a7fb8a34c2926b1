//! What the backend knows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use helios::model::ImageUri;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fault::Fault;
use crate::provisioning::Provisioning;

/// Reports and requests that are kept; the oldest go first.
const KEPT_MAX: usize = 100_000;

/// Everything; one lock holds it.
pub struct State {
    pub devices: BTreeMap<String, Device>,
    /// Target text by device uuid.
    pub targets: BTreeMap<String, Box<RawValue>>,
    /// Every release that a target named, with its images: the ones that exist.
    pub releases: BTreeMap<Release, BTreeSet<String>>,
    pub reports: Vec<Box<RawValue>>,
    /// How often each route was asked.
    pub requests: BTreeMap<String, u64>,
    pub log: Vec<Logged>,
    pub faults: Vec<Fault>,
    /// Who may register devices.
    pub provisioning: Provisioning,
    pub begun: Instant,
}

/// App uuid and release uuid.
pub type Release = (String, String);

/// One request, for whoever wants to know when they came.
#[derive(Serialize)]
pub struct Logged {
    /// Since the start.
    pub ms: u128,
    pub request: String,
    pub status: u16,
}

pub struct Device {
    pub id: u64,
    /// The first key that a device of the target comes with.
    pub key: Option<String>,
    pub standing: Standing,
    /// Images that it reported: their status may be left out.
    pub installed: BTreeSet<String>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    #[default]
    Normal,
    Deleted,
    Frozen,
}

impl Device {
    pub fn new(id: u64) -> Device {
        Device {
            id,
            key: None,
            standing: Standing::Normal,
            installed: BTreeSet::new(),
        }
    }
}

impl State {
    pub fn new() -> State {
        State {
            devices: BTreeMap::new(),
            targets: BTreeMap::new(),
            releases: BTreeMap::new(),
            reports: Vec::new(),
            requests: BTreeMap::new(),
            log: Vec::new(),
            faults: Vec::new(),
            provisioning: Provisioning::default(),
            begun: Instant::now(),
        }
    }

    /// The device of that uuid, which is made if there is none.
    pub fn device(&mut self, uuid: &str) -> &mut Device {
        let id = self.devices.len() as u64 + 1;
        self.devices
            .entry(uuid.to_owned())
            .or_insert_with(|| Device::new(id))
    }

    /// Whether `key` is the device's; the first one that a device of the target comes with
    /// becomes it, so that a target can be set before an agent is started.
    pub fn may(&mut self, uuid: &str, key: Option<&str>) -> bool {
        let (Some(device), Some(key)) = (self.devices.get_mut(uuid), key) else {
            return false;
        };
        device.key.get_or_insert_with(|| key.to_owned()) == key
    }

    /// Whether the key is anybody's.
    pub fn is_key(&self, key: &str) -> bool {
        self.devices
            .values()
            .any(|device| device.key.as_deref() == Some(key))
    }

    /// Notes what a target names: apps, releases, images.
    pub fn learn(&mut self, uuid: &str, target: &RawValue) {
        self.device(uuid).standing = Standing::Normal;
        let Ok(target) = serde_json::from_str::<Value>(target.get()) else {
            return;
        };
        for (app, found) in members(&target["apps"]) {
            for (release, found) in members(&found["releases"]) {
                let images = self
                    .releases
                    .entry((app.clone(), release.clone()))
                    .or_default();
                let services = members(&found["services"]).map(|(_, service)| &service["image"]);
                images.extend(services.filter_map(|image| image.as_str().map(located)));
            }
        }
    }

    pub fn log(&mut self, request: String, status: u16) {
        *self.requests.entry(request.clone()).or_default() += 1;
        if self.log.len() < KEPT_MAX {
            let ms = self.begun.elapsed().as_millis();
            self.log.push(Logged {
                ms,
                request,
                status,
            });
        }
    }

    pub fn keep(&mut self, report: Box<RawValue>) {
        if self.reports.len() >= KEPT_MAX {
            self.reports.remove(0);
        }
        self.reports.push(report);
    }
}

/// The members of an object; none of anything else.
pub fn members(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// An image's location as agents report it: with the digest, never with a tag.
pub fn located(image: &str) -> String {
    match ImageUri::parse(image) {
        Ok(uri) => match uri.digest() {
            Some(digest) => format!("{}@{digest}", uri.repository()),
            None => uri.repository().to_owned(),
        },
        Err(_) => image.to_owned(),
    }
}
