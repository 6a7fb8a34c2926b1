//! Registering with a provisioning key (remote-api 1); implements
//! [`world::registration`](crate::world::registration).

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::patience::Patience;
use super::{poll_path, wish};
use crate::base::mask::{MASK, masked};
use crate::base::percent::percent_encode_segment;
use crate::http::client::{Client, Endpoint, Request, Response, Roots, Timeouts};
use crate::http::url::Url;
use crate::limits;
use crate::model::identity::Record;
use crate::world::Pending;
use crate::world::clock::Clock;
use crate::world::registration::{Confirmed, Registered, Registration, Retry, Trouble};

/// What the backend is told of the device, where it is known (R-REG-11).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct About {
    /// `balenaOS 6.5.39`.
    pub os_version: Option<String>,
    /// `dev` or `prod`.
    pub os_variant: Option<String>,
    /// All of them, separated by spaces.
    pub mac_address: Option<String>,
    /// The version that this agent stands in for.
    pub supervisor_version: Option<String>,
}

/// The backend, to whoever has a provisioning key.
pub struct Registrar {
    client: Client,
    /// Whom to trust behind a redirect to https.
    roots: Box<Roots>,
    url: Url,
    /// The provisioning key.
    key: String,
    about: About,
    patience: Patience,
}

impl Registrar {
    /// A client that registers at `url` with a provisioning `key`.
    #[must_use]
    pub fn new(
        url: &Url,
        (endpoint, timeouts): (Endpoint, Timeouts),
        roots: Box<Roots>,
        key: &str,
        about: About,
    ) -> Registrar {
        Registrar {
            client: Client::new(endpoint, timeouts),
            roots,
            url: url.clone(),
            key: key.to_owned(),
            about,
            patience: Patience::default(),
        }
    }

    /// With a clock, so that nobody is asked in vain while that is not set (FD-30).
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Registrar {
        let patience = Patience(Some(clock));
        Registrar { patience, ..self }
    }

    async fn send(
        &self,
        (method, target): (&str, &str),
        key: &str,
        body: Option<&[u8]>,
    ) -> Result<Response, Trouble> {
        let bearer = format!("Bearer {key}");
        let headers = [
            ("authorization", bearer.as_str()),
            ("accept", "application/json"),
            ("content-type", "application/json"),
        ];
        let request = Request {
            method,
            target,
            headers: &headers[..if body.is_some() { 3 } else { 2 }],
            body,
            ..Request::default()
        };
        // A request that makes something is not sent elsewhere (S-REG-20, R-HTTP-8).
        let sent = loop {
            let sent = match method {
                "GET" => self.client.get(request, &*self.roots).await,
                _ => self.client.send(request).await,
            };
            match sent {
                Err(error) if self.patience.has_helped(&error).await => {}
                other => break other,
            }
        };
        sent.map_err(|error| later(error.to_string()))
    }

    async fn ask_to_register(&self, record: &Record) -> Result<Registered, Trouble> {
        let body = asked(record, &self.about);
        let target = format!("{}/device/register", self.url.path());
        let body = Some(body.as_bytes());
        let mut response = self.send(("POST", &target), &self.key, body).await?;
        let said = body_of(&mut response).await;
        match response.status() {
            200..300 => echo(record, &said?),
            409 => Ok(conflict(&said.unwrap_or_default())),
            _ => Err(self.refusal(&response, &said.unwrap_or_default(), record)),
        }
    }

    async fn ask_whose_it_is(&self, record: &Record) -> Result<Confirmed, Trouble> {
        let target = poll_path(&self.url, &record.uuid);
        let key = &record.remote.api_key;
        let mut response = self.send(("GET", &target), key, None).await?;
        match response.status() {
            200 => {
                let said = response.bytes(limits::TARGET_BYTES_MAX).await;
                let said = said.map_err(|error| later(error.to_string()))?;
                if is_target_of(&said, &record.uuid) {
                    Ok(Confirmed::Ours)
                } else {
                    let what = "the answer is not this device's target: is somebody between?";
                    Err(later(what.into()))
                }
            }
            304 => Ok(Confirmed::Unknown),
            status => {
                let said = body_of(&mut response).await?;
                if status == 401 && is_own(&said) {
                    return Ok(Confirmed::OtherKey);
                }
                Err(self.refusal(&response, &said, record))
            }
        }
    }

    async fn change_key(&self, record: &Record) -> Result<bool, Trouble> {
        let base = self.url.path();
        let uuid = percent_encode_segment(&record.uuid);
        let target = format!("{base}/v7/device?$select=id&$filter=uuid%20eq%20'{uuid}'");
        let mut response = self.send(("GET", &target), &self.key, None).await?;
        let said = body_of(&mut response).await?;
        match response.status() {
            200 => {}
            401 | 403 if is_own(&said) => return Ok(false),
            _ => return Err(self.refusal(&response, &said, record)),
        }
        let found: Value = serde_json::from_slice(&said).map_err(|error| unreadable(&error))?;
        let Some(rows) = found["d"].as_array() else {
            return Err(later("the backend's answer is no list of devices".into()));
        };
        // None that this key may see.
        let Some(id) = rows.first().and_then(|row| row["id"].as_u64()) else {
            return Ok(false);
        };
        let target = format!("{base}/api-key/device/{id}/device-key");
        let body = format!("{{\"apiKey\":{}}}", quoted(&record.remote.api_key));
        let body = Some(body.as_bytes());
        let mut response = self.send(("POST", &target), &self.key, body).await?;
        let said = body_of(&mut response).await?;
        match response.status() {
            // The key, as a JSON string: nobody else's page ends the registration well.
            200 if serde_json::from_slice::<String>(&said).is_ok() => Ok(true),
            200 => Err(later(
                "the backend's answer to the new key is no key".into(),
            )),
            401 | 403 if is_own(&said) => Ok(false),
            _ => Err(self.refusal(&response, &said, record)),
        }
    }

    /// What an answer that is none of those looked for means (remote-api 1.3, R-REG-6).
    fn refusal(&self, response: &Response, body: &[u8], record: &Record) -> Trouble {
        let status = response.status();
        let (retry, what) = match status {
            301 | 302 | 303 | 307 | 308 => {
                let to = response.header("location").unwrap_or("nowhere");
                // A query may hold a key.
                let to = to.split('?').next().unwrap_or_default();
                let what = format!("points to {to}: --remote-api-endpoint should be that server");
                (Retry::Slowly, what)
            }
            408 | 425 | 429 | 500..=599 => {
                (Retry::Later(wish(response)), "cannot do it now".to_owned())
            }
            _ => refused(status, body, record),
        };
        let keys = [&self.key, &record.remote.api_key];
        let excerpt = excerpt(body, &keys.map(String::as_str));
        Trouble {
            retry,
            said: format!("the backend answers {status} and {what}{excerpt}"),
        }
    }
}

/// The refusals that are the backend's last word, and those that an operator can lift.
fn refused(status: u16, body: &[u8], record: &Record) -> (Retry, String) {
    // Its own words are a JSON string; what stands between us and it talks HTML.
    let own: Option<String> = serde_json::from_slice(body).ok();
    let fleet = record.fleet.unwrap_or_default();
    let device_type = record.device_type.as_deref().unwrap_or_default();
    match (status, own) {
        (400, Some(_)) => (
            Retry::Never,
            "takes a value of the registration for malformed".to_owned(),
        ),
        (400..=404, None) if !is_own(body) => (
            Retry::Slowly,
            "does not say so in its own words (is something between, or --remote-api-endpoint \
             another server?)"
                .to_owned(),
        ),
        (401, _) if !body.is_empty() => (
            Retry::Slowly,
            "does not know the provisioning key (never made, expired or withdrawn)".to_owned(),
        ),
        (401, _) => (
            Retry::Slowly,
            format!(
                "says that the provisioning key is not one of fleet {fleet}, or that there is no such fleet"
            ),
        ),
        (403, _) => (
            Retry::Slowly,
            "does not want this device (an OS version older than the fleet allows is one reason)"
                .to_owned(),
        ),
        (404, Some(said)) if said.starts_with("Unknown device type") => (
            Retry::Never,
            format!("has no device type '{device_type}' (--provisioning-device-type)"),
        ),
        (404, _) => (
            Retry::Slowly,
            "has nothing at that place: is --remote-api-endpoint the address of the API?"
                .to_owned(),
        ),
        _ => (Retry::Slowly, "refuses the registration".to_owned()),
    }
}

/// The body of remote-api 1.1; what is longer than the backend takes is cut.
fn asked(record: &Record, about: &About) -> String {
    let (uuid, key) = (quoted(&record.uuid), quoted(&record.remote.api_key));
    let fleet = record.fleet.unwrap_or_default();
    let device_type = quoted(record.device_type.as_deref().unwrap_or_default());
    let mut body = format!(
        "{{\"uuid\":{uuid},\"application\":{fleet},\"device_type\":{device_type},\"api_key\":{key}"
    );
    let more = [
        ("os_version", &about.os_version, 70),
        ("os_variant", &about.os_variant, 20),
        ("mac_address", &about.mac_address, 900),
        ("supervisor_version", &about.supervisor_version, 20),
    ];
    for (name, value, max) in more {
        if let Some(value) = value {
            let value = quoted(cut(value, max));
            let _ = write!(body, ",\"{name}\":{value}");
        }
    }
    body.push('}');
    body
}

/// A JSON string.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default()
}

/// Whether the backend itself says it: nothing, or JSON. What stands between talks HTML
/// (remote-api 1.3, 0.7 row 10).
fn is_own(body: &[u8]) -> bool {
    body.is_empty() || serde_json::from_slice::<&RawValue>(body).is_ok()
}

fn echo(record: &Record, said: &[u8]) -> Result<Registered, Trouble> {
    let echo: Value = serde_json::from_slice(said).map_err(|error| unreadable(&error))?;
    let text = |name: &str| echo[name].as_str().unwrap_or_default();
    let (uuid, api_key) = (text("uuid"), text("api_key"));
    // It becomes a header's value: what would end the header is no key.
    if uuid.is_empty() || api_key.is_empty() || !api_key.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Err(later(
            "the backend's answer holds no usable uuid and key".into(),
        ));
    }
    Ok(match () {
        () if uuid != record.uuid => Registered::Another,
        () if api_key != record.remote.api_key => Registered::WithKey(api_key.to_owned()),
        () => Registered::AsAsked,
    })
}

/// Only the status is certain; the text tells which of the two is taken (remote-api 1.3).
fn conflict(body: &[u8]) -> Registered {
    let said = String::from_utf8_lossy(body);
    if said.contains("key\\\"") || said.contains("\"key\"") {
        Registered::KeyTaken
    } else {
        Registered::UuidTaken
    }
}

/// Whether this is a JSON object that begins with the device's uuid: a portal that answers
/// everything with 200 is not the backend (S-NET-27).
fn is_target_of(body: &[u8], uuid: &str) -> bool {
    let Ok(document) = serde_json::from_slice::<&RawValue>(body) else {
        return false;
    };
    let rest = document.get().strip_prefix('{').map(str::trim_start);
    let rest = rest.and_then(|rest| rest.strip_prefix('"'));
    rest.and_then(|rest| rest.strip_prefix(uuid))
        .is_some_and(|rest| rest.starts_with('"'))
}

async fn body_of(response: &mut Response) -> Result<Vec<u8>, Trouble> {
    let body = response.bytes(limits::REGISTER_BODY_BYTES_MAX).await;
    body.map_err(|error| later(error.to_string()))
}

fn later(said: String) -> Trouble {
    Trouble {
        retry: Retry::Later(None),
        said,
    }
}

/// Whether the device was made is not known: asking again tells (S-REG-19).
fn unreadable(error: &serde_json::Error) -> Trouble {
    later(format!(
        "the backend's answer cannot be read, so that it is not known whether it counts: {error}"
    ))
}

/// At most so many bytes, which the backend counts as characters at most.
fn cut(text: &str, max: usize) -> &str {
    let end = text.char_indices().map(|(at, c)| at + c.len_utf8());
    let end = end.take_while(|end| *end <= max).last();
    &text[..end.unwrap_or(0)]
}

/// The beginning of a refusal's text, in one line, without keys (R-REG-6, R-REG-9).
fn excerpt(body: &[u8], keys: &[&str]) -> String {
    let text = String::from_utf8_lossy(body);
    let mut text = masked(&text);
    for key in keys.iter().filter(|key| !key.is_empty()) {
        text = text.replace(*key, MASK);
    }
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let line = words.filter(|word| !word.is_empty()).collect::<Vec<_>>();
    let line: String = line
        .join(" ")
        .chars()
        .take(limits::REGISTER_EXCERPT_CHARS)
        .collect();
    if line.is_empty() {
        return line;
    }
    format!(": {line}")
}

impl Registration for Registrar {
    fn register<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<Registered, Trouble>> {
        Box::pin(self.ask_to_register(record))
    }

    fn confirm<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<Confirmed, Trouble>> {
        Box::pin(self.ask_whose_it_is(record))
    }

    fn give_key<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<bool, Trouble>> {
        Box::pin(self.change_key(record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::identity::RecordRemote;

    fn record() -> Record {
        Record {
            uuid: "u".into(),
            fleet: Some(3),
            device_type: Some("t".into()),
            remote: RecordRemote {
                api_endpoint: "http://h/".into(),
                api_key: "k".into(),
                request: Default::default(),
            },
        }
    }

    #[test]
    fn r_reg_11_what_is_known_is_told_within_the_limits() {
        let about = About {
            os_version: Some(format!("balena\"OS {}", "\u{e9}".repeat(70))),
            ..About::default()
        };
        let body: Value = crate::base::json::from_str(&asked(&record(), &about)).unwrap();
        let os = body["os_version"].as_str().unwrap();
        assert!(os.starts_with("balena\"OS \u{e9}") && os.len() <= 70);
        assert_eq!(body["application"], 3);
        assert_eq!(body.as_object().unwrap().len(), 5);
    }

    #[test]
    fn s_net_27_only_the_device_s_own_target_confirms_it() {
        for (body, want) in [
            ("{\"u\": {}}", true),
            (" { \"u\" : {}}", true),
            ("{\"u2\": {}}", false),
            ("{}", false),
            ("[\"u\"]", false),
            ("{\"u\": {}", false),
            ("<html>u</html>", false),
        ] {
            assert_eq!(is_target_of(body.as_bytes(), "u"), want, "{body}");
        }
    }

    #[test]
    fn ra_1_3_which_of_the_two_is_taken() {
        for (body, want) in [
            ("\"uuid\" must be unique.", Registered::UuidTaken),
            ("\"\\\"key\\\" must be unique.\"", Registered::KeyTaken),
            ("", Registered::UuidTaken),
        ] {
            assert_eq!(conflict(body.as_bytes()), want, "{body}");
        }
    }
}
