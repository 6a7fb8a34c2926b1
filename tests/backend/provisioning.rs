//! Registration and the exchange of keys as the real backend does them (remote-api 1.1 to
//! 1.3, 1.6), apart from how answers are written and where devices are kept.
//!
//! There is one fleet to begin with, number 1, whose provisioning key is `provisioning-key`;
//! `user-key` is a key of a user, who may do everything. The keys of the recorded exchanges
//! with the real one are good too.

use std::collections::{BTreeMap, BTreeSet};

use helios::base::random;
use serde_json::{Map, Value, json};

/// Larger bodies are 413.
const BODY_BYTES_MAX: usize = 512 * 1024;
/// Slugs and aliases of device types that exist.
const DEVICE_TYPES: &[&str] = &[
    "generic-aarch64",
    "generic-amd64",
    "generic-armv7ahf",
    "genericx86-64-ext",
    "intel-nuc",
    "qemux86-64",
    "raspberry-pi",
    "raspberrypi3",
    "raspberrypi3-64",
    "raspberrypi4-64",
    "raspberrypi5",
];
/// Older systems are not taken.
const OS_VERSION_MIN: [u64; 3] = [2, 11, 0];

/// Who may register devices.
pub struct Provisioning {
    /// Fleet by provisioning key.
    pub fleets: BTreeMap<String, u64>,
    /// Keys that were ever given to a device: their rows outlive it.
    keys: BTreeSet<String>,
}

impl Default for Provisioning {
    fn default() -> Provisioning {
        Provisioning {
            fleets: BTreeMap::from([
                ("provisioning-key".into(), 1),
                ("ProvisioningKeyWeatherFleet00001".into(), 1),
            ]),
            keys: BTreeSet::new(),
        }
    }
}

/// The devices that there are.
pub trait Devices {
    /// Its number and key; `None` when nothing has this uuid.
    fn find(&self, uuid: &str) -> Option<(u64, Option<String>)>;
    /// The uuid of a number.
    fn uuid_of(&self, id: u64) -> Option<String>;
    /// Makes a device, or gives one another key; its number.
    fn set_key(&mut self, uuid: &str, key: &str) -> u64;
}

/// Status, content type and body.
pub type Said = (u16, &'static str, String);

const HTML: &str = "text/html; charset=utf-8";
const JSON: &str = "application/json; charset=utf-8";

fn empty(status: u16) -> Said {
    (status, "", String::new())
}

fn html(status: u16, what: &str) -> Said {
    (status, HTML, format!("<!DOCTYPE html><pre>{what}</pre>\n"))
}

/// A refusal in the backend's own words, which are a JSON string.
fn words(status: u16, what: &str) -> Said {
    (status, JSON, json!(what).to_string())
}

impl Provisioning {
    fn is_user(key: &str) -> bool {
        matches!(key, "user-key" | "UserLevelKey00000000000000000001")
    }

    /// `POST /device/register`: the rows of remote-api 1.3, in their order.
    pub fn register(
        &mut self,
        devices: &mut dyn Devices,
        key: Option<&str>,
        is_json: bool,
        body: &[u8],
    ) -> Said {
        if body.len() > BODY_BYTES_MAX {
            return html(413, "request entity too large");
        }
        let asked = match serde_json::from_slice(body) {
            _ if !is_json => Map::new(),
            Ok(Value::Object(asked)) => asked,
            _ => return html(400, "the body is no JSON object"),
        };
        let Some(key) = key.filter(|key| self.knows(key)) else {
            let body = json!({"error": "API key required"});
            return (401, JSON, body.to_string());
        };
        match self.check(devices, key, &asked) {
            Ok(()) => self.make(devices, &asked),
            Err(refusal) => refusal,
        }
    }

    fn knows(&self, key: &str) -> bool {
        Self::is_user(key) || self.fleets.contains_key(key)
    }

    fn check(
        &self,
        devices: &dyn Devices,
        key: &str,
        asked: &Map<String, Value>,
    ) -> Result<(), Said> {
        let is_text = |name: &str| {
            asked
                .get(name)
                .is_none_or(|value| value.is_string() || name == "api_key" && value.is_null())
        };
        let texts = [
            "uuid",
            "api_key",
            "device_type",
            "supervisor_version",
            "os_version",
            "os_variant",
            "mac_address",
        ];
        let is_number = |name: &str| {
            let is_id = |value: &Value| value.is_u64() || value.is_string();
            asked.get(name).is_none_or(is_id)
        };
        if !texts.iter().all(|name| is_text(name))
            || !is_number("user")
            || !is_number("application")
        {
            return Err(empty(400));
        }
        let text = |name: &str| asked.get(name).and_then(Value::as_str);
        let number = |name: &str| match asked.get(name) {
            Some(Value::String(text)) => text.parse::<u64>().ok(),
            Some(value) => value.as_u64(),
            None => None,
        };
        if asked.contains_key("user") && number("user").is_none() {
            return Err(words(400, "User ID has to be an integer"));
        }
        let Some(fleet) = number("application") else {
            return Err(words(400, "Application ID has to be an integer"));
        };
        let Some(device_type) = text("device_type").filter(|text| !text.is_empty()) else {
            return Err(words(400, "Device type has to be there"));
        };
        let Some(uuid) = text("uuid") else {
            return Err(words(400, "UUID has to be there"));
        };
        if devices.find(uuid).is_some_and(|(_, key)| key.is_some()) {
            return Err((409, HTML, "\"uuid\" must be unique.".into()));
        }
        if text("api_key").is_some_and(|key| self.keys.contains(key)) {
            return Err(words(409, "\"key\" must be unique."));
        }
        if !DEVICE_TYPES.contains(&device_type) {
            return Err(words(404, &format!("Unknown device type {device_type}")));
        }
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !matches!(uuid.len(), 0 | 32 | 62) || !uuid.bytes().all(is_hex) {
            return Err(words(
                400,
                "a device's uuid has 32 or 62 lower-case hex digits",
            ));
        }
        if !Self::is_user(key) && self.fleets.get(key) != Some(&fleet) {
            return Err(empty(401));
        }
        if text("os_version").is_some_and(|os| version(os).is_none_or(|it| it < OS_VERSION_MIN)) {
            return Err(words(403, "the OS is older than the fleet allows"));
        }
        for (name, max) in [
            ("os_version", 70),
            ("supervisor_version", 20),
            ("mac_address", 900),
        ] {
            if text(name).is_some_and(|text| text.chars().count() > max) {
                return Err(words(
                    400,
                    &format!("\"{name}\" has at most {max} characters"),
                ));
            }
        }
        Ok(())
    }

    fn make(&mut self, devices: &mut dyn Devices, asked: &Map<String, Value>) -> Said {
        let invented = || random::hex(16).unwrap_or_default();
        let text = |name: &str| asked.get(name).and_then(Value::as_str);
        let uuid = text("uuid").filter(|uuid| !uuid.is_empty());
        let uuid = uuid.map_or_else(invented, str::to_owned);
        let key = text("api_key").map_or_else(invented, str::to_owned);
        let id = devices.set_key(&uuid, &key);
        self.keys.insert(key.clone());
        let echo = json!({"id": id, "uuid": uuid, "api_key": key});
        (201, JSON, echo.to_string())
    }

    /// `GET /v7/device?$select=id&$filter=uuid eq '...'`, the filter decoded. A provisioning
    /// key may not read devices.
    pub fn look_up(&self, devices: &dyn Devices, key: Option<&str>, filter: &str) -> Said {
        let uuid = filter
            .strip_prefix("uuid eq '")
            .and_then(|rest| rest.strip_suffix('\''));
        let found = uuid.and_then(|uuid| devices.find(uuid));
        match (key, found) {
            (Some(key), Some((id, own))) if Self::is_user(key) || own.as_deref() == Some(key) => {
                (200, JSON, json!({"d": [{"id": id}]}).to_string())
            }
            (Some(key), None) if Self::is_user(key) => (200, JSON, json!({"d": []}).to_string()),
            _ => empty(401),
        }
    }

    /// `POST /api-key/device/{id}/device-key`.
    pub fn give_key(
        &mut self,
        devices: &mut dyn Devices,
        key: Option<&str>,
        id: &str,
        body: &[u8],
    ) -> Said {
        let device = id.parse().ok().and_then(|id| devices.uuid_of(id));
        let asked: Value = serde_json::from_slice(body).unwrap_or_default();
        let new = asked["apiKey"].as_str().filter(|key| !key.is_empty());
        match (key, device, new) {
            (Some(key), Some(uuid), Some(new)) if Self::is_user(key) => {
                devices.set_key(&uuid, new);
                self.keys.insert(new.to_owned());
                (200, JSON, json!(new).to_string())
            }
            _ => empty(401),
        }
    }
}

/// The numbers of the first version in a text such as `balenaOS 6.5.39`.
fn version(text: &str) -> Option<[u64; 3]> {
    let begins = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
    let word = text.split_whitespace().find(begins)?;
    let mut numbers = word.split(['.', '+', '-']).map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some([next()?, next()?, next()?])
}
