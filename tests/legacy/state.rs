//! What the stand-in is told and what it remembers.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use async_channel::{Receiver, Sender};
use helios::base::lock::lock;
use serde::Deserialize;
use serde_json::{Value, json};

/// Its settings, by the names that the real one's database has (remote-api 8.3), and times
/// that tests make shorter.
#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// The backend.
    pub api_endpoint: String,
    /// Where it goes instead, once it is taken over. Empty is none.
    pub api_endpoint_override: String,
    pub uuid: String,
    pub device_api_key: String,
    /// The key of its own API.
    pub api_secret: String,
    /// The port of its own API, on all addresses.
    pub listen_port: Number,
    /// Its port once it is taken over, on `override_address` alone. Empty is none.
    pub listen_port_override: Number,
    pub override_address: String,
    /// Between two polls, in milliseconds.
    pub app_update_poll_interval: Number,
    /// Between two reports, in milliseconds.
    pub report_interval: Number,
    /// The first wait after a failure, in milliseconds; it doubles.
    pub backoff: Number,
    /// Whether updates are applied as soon as they are asked for.
    pub instant_updates: bool,
}

/// A number, or its text: databases hold text.
#[derive(Deserialize, Clone)]
#[serde(untagged)]
pub enum Number {
    Number(u64),
    Text(String),
}

impl Number {
    pub fn get(&self) -> Option<u64> {
        match self {
            Number::Number(number) => Some(*number),
            Number::Text(text) => text.parse().ok(),
        }
    }

    pub fn ms(&self) -> Duration {
        Duration::from_millis(self.get().unwrap_or_default())
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            api_endpoint: String::new(),
            api_endpoint_override: String::new(),
            uuid: String::new(),
            device_api_key: String::new(),
            api_secret: String::new(),
            listen_port: Number::Number(48484),
            listen_port_override: Number::Text(String::new()),
            override_address: "127.0.0.1".into(),
            app_update_poll_interval: Number::Number(900_000),
            report_interval: Number::Number(10_000),
            backoff: Number::Number(15_000),
            instant_updates: true,
        }
    }
}

impl Settings {
    /// Where it asks.
    pub fn endpoint(&self) -> &str {
        let endpoint = match &*self.api_endpoint_override {
            "" => &self.api_endpoint,
            instead => instead,
        };
        endpoint.trim_end_matches('/')
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let (host, port) = match self.listen_port_override.get() {
            Some(port) => (&*self.override_address, Some(port)),
            None => ("0.0.0.0", self.listen_port.get()),
        };
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or("the port is none")?;
        let host = host
            .parse()
            .map_err(|_| format!("'{host}' is no address"))?;
        Ok(SocketAddr::new(host, port))
    }
}

/// What it does wrong.
#[derive(Deserialize, Default, Clone)]
#[serde(default, deny_unknown_fields)]
pub struct Quirks {
    /// Paths of its API that are never answered.
    pub hang: Vec<String>,
    /// Paths that are answered with what is no JSON, and status 200.
    pub nonsense: Vec<String>,
    /// A path, and the status it is answered with.
    pub status: std::collections::BTreeMap<String, u16>,
    /// What it applies stays "applying" for ever.
    pub never_settles: bool,
    /// What it applies takes so long.
    pub apply_ms: u64,
    /// It waits so long before it polls, once it was asked to.
    pub fetch_delay_ms: u64,
}

/// What all its parts know.
pub struct Shared {
    pub state: Mutex<State>,
    pub restart: Sender<Duration>,
    pub restarts: Receiver<Duration>,
    /// Asks for a poll: force, cancel.
    pub poll: Sender<(bool, bool)>,
    pub polls: Receiver<(bool, bool)>,
    /// Asks for an apply.
    pub apply: Sender<()>,
    pub applies: Receiver<()>,
    /// Asks for a report.
    pub report: Sender<()>,
    pub reports: Receiver<()>,
}

impl Default for Shared {
    fn default() -> Shared {
        let (restart, restarts) = async_channel::unbounded();
        let (poll, polls) = async_channel::unbounded();
        let (apply, applies) = async_channel::unbounded();
        let (report, reports) = async_channel::unbounded();
        Shared {
            state: Mutex::default(),
            restart,
            restarts,
            poll,
            polls,
            apply,
            applies,
            report,
            reports,
        }
    }
}

/// What it remembers.
#[derive(Default)]
pub struct State {
    pub quirks: Quirks,
    /// What it was asked: over all restarts.
    pub seen: Vec<Value>,
    pub polls: Vec<Value>,
    pub reports: Vec<Value>,
    /// The document it got last, and its ETag.
    pub target: Option<(Option<String>, Vec<u8>)>,
    pub is_applying: bool,
    /// What it reports, if anything.
    pub apps: Option<Value>,
}

impl Shared {
    pub fn quirks(&self) -> Quirks {
        lock(&self.state).quirks.clone()
    }

    /// A restart forgets what it was doing, and the ETag; not what tests want to know.
    pub fn forget_life(&self) {
        while self.polls.try_recv().is_ok() || self.applies.try_recv().is_ok() {}
        let mut state = lock(&self.state);
        state.is_applying = false;
        if let Some((etag, _)) = &mut state.target {
            *etag = None;
        }
    }
}

/// Milliseconds since the epoch.
pub fn now_ms() -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json!(u64::try_from(now.unwrap_or_default().as_millis()).unwrap_or_default())
}
