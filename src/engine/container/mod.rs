//! What the engine is asked for when a container is made (target-state 2, state-engine 4.3).
//!
//! Pure: model in, JSON text out. One file a theme, under the names that the
//! themes have in `model::config` and `intake::compose`.

use serde::Deserialize;

use crate::base::map::Map;
use crate::model::ServiceConfig;
use crate::model::config::environment::{is_on, label, modern_label};
use crate::world::engine::{ApiVersion, NewContainer};

mod environment;
mod healthcheck;
pub mod labels;
mod mounts;
mod networks;
pub mod objects;
mod ports;
mod process;
mod resources;
mod security;
mod wire;

/// Everything to be said to the engine about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateBody {
    /// The body of `POST /containers/create`.
    pub body: String,
    /// Engine names of the networks to be connected afterwards, in order, each with the
    /// `EndpointConfig` of `POST /networks/{name}/connect`.
    pub connect: Vec<(String, String)>,
    /// What was left out because this engine, or this agent, cannot do it: one line each,
    /// naming the field (D-22).
    pub warnings: Vec<String>,
}

/// What some feature labels need (target-state 4.2), and [`NewContainer`] does not have.
/// A label whose part is `None` has no effect, which is said in a warning.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a> {
    /// For `balena-api`.
    pub backend: Option<Backend<'a>>,
    /// For `supervisor-api`.
    pub supervisor: Option<SupervisorApi<'a>>,
    /// The engine's socket on the host, for `balena-socket`; `None`: [`ENGINE_SOCKET`].
    pub engine_socket: Option<&'a str>,
}

/// The backend, as told to containers.
#[derive(Clone, Copy)]
pub struct Backend<'a> {
    /// The API's base URL.
    pub url: &'a str,
    /// The device's own key.
    pub key: &'a str,
}

/// The agent's own API, as told to containers.
#[derive(Clone, Copy)]
pub struct SupervisorApi<'a> {
    /// The key made for this app and service.
    pub key: &'a str,
    /// Where the API listens.
    pub port: u16,
    /// The address of the network `supervisor0` on the host; `None`: only the loopback address.
    pub gateway: Option<&'a str>,
}

/// Where engines listen unless told otherwise.
pub const ENGINE_SOCKET: &str = "/var/run/docker.sock";
/// The network that services with the label `supervisor-api` share (target-state 3.4).
pub const SUPERVISOR_NETWORK: &str = "supervisor0";

// What came with which engine API (target-state 2.1).

const API_CREATE_MOUNTPOINT: ApiVersion = ApiVersion(42);
const API_ANNOTATIONS: ApiVersion = ApiVersion(43);
const API_START_INTERVAL: ApiVersion = ApiVersion(44);
const API_ENDPOINT_MAC: ApiVersion = ApiVersion(44);
const API_SUBPATH: ApiVersion = ApiVersion(45);
const API_GW_PRIORITY: ApiVersion = ApiVersion(48);
/// From here on there is no container-wide MAC address.
const API_NO_CONTAINER_MAC: ApiVersion = ApiVersion(52);

/// What the themes work with.
struct Encoder<'a> {
    new: &'a NewContainer<'a>,
    config: &'a ServiceConfig,
    api: ApiVersion,
    extra: &'a Extra<'a>,
    /// Labels of the document in `io.balena` spelling.
    labels: Map<String, &'a str>,
    /// Labels of the image, as they are.
    image_labels: Map<String, String>,
    warnings: Vec<String>,
}

impl Encoder<'_> {
    /// Whether the feature label is on; the document's counts before the image's
    /// (target-state 4.1).
    fn feature(&self, name: &str) -> bool {
        let key = format!("io.balena.features.{name}");
        let value = self.labels.get(&key).copied();
        value
            .or_else(|| label(&self.image_labels, &key))
            .is_some_and(is_on)
    }

    /// Whether the engine knows `field`, which came with `since`; else says so.
    fn knows(&mut self, since: ApiVersion, field: &str) -> bool {
        let known = self.api >= since;
        if !known {
            self.warnings.push(format!(
                "{field} is left out: it needs engine API {since}, this one has {}",
                self.api
            ));
        }
        known
    }

    /// A namespace mode: that of another service by its container.
    fn mode(&self, mode: &str) -> String {
        match mode.strip_prefix("service:") {
            Some(service) => format!("container:{}", (self.new.container)(service)),
            None => mode.to_owned(),
        }
    }
}

/// The bodies that make `new` on an engine that speaks `api`.
///
/// # Errors
///
/// With the reason, when the engine cannot do something that must not be left out (D-22).
pub fn create_body(new: &NewContainer<'_>, api: ApiVersion) -> Result<CreateBody, String> {
    create_body_with(new, api, &Extra::default())
}

/// As [`create_body`], with what further feature labels need.
///
/// # Errors
///
/// As [`create_body`].
pub fn create_body_with(
    new: &NewContainer<'_>,
    api: ApiVersion,
    extra: &Extra<'_>,
) -> Result<CreateBody, String> {
    let mut encoder = Encoder {
        new,
        config: new.config,
        api,
        extra,
        labels: modern_labels(&new.config.labels),
        image_labels: image_labels(new.image_config),
        warnings: Vec::new(),
    };
    let mut body = wire::Body {
        image: new.image.as_str(),
        labels: labels::encode(new, &encoder.labels),
        ..wire::Body::default()
    };
    process::encode(&encoder, &mut body);
    environment::encode(&mut encoder, &mut body);
    healthcheck::encode(&mut encoder, &mut body);
    ports::encode(&encoder, &mut body);
    resources::encode(&encoder, &mut body.host_config);
    security::encode(&encoder, &mut body.host_config);
    mounts::encode(&encoder, &mut body.host_config)?;
    let connect = networks::encode(&mut encoder, &mut body);
    let json = |error: serde_json::Error| error.to_string();
    let connect = connect
        .into_iter()
        .map(|(name, endpoint)| Ok((name, serde_json::to_string(&endpoint)?)))
        .collect::<Result<_, _>>()
        .map_err(json)?;
    let body = serde_json::to_string(&body).map_err(json)?;
    Ok(CreateBody {
        body,
        connect,
        warnings: encoder.warnings,
    })
}

/// The labels in what is known of an image; anything odd in it is no label.
fn image_labels(config: Option<&str>) -> Map<String, String> {
    #[derive(Default, Deserialize)]
    struct Image {
        #[serde(default)]
        labels: Option<Map<String, String>>,
    }
    let read = config.map(crate::base::json::from_str::<Image>);
    let image = read.and_then(Result::ok).unwrap_or_default();
    image.labels.unwrap_or_default()
}

/// Labels with old names under their new ones, which win if both are there (target-state 4.1).
fn modern_labels(labels: &Map<String, String>) -> Map<String, &str> {
    let mut modern: Map<String, &str> = Map::new();
    for (key, value) in labels {
        if let Some(key) = modern_label(key)
            && !labels.contains_key(&key)
        {
            modern.insert(key, value);
        } else if modern_label(key).is_none() {
            modern.insert(key.clone(), value);
        }
    }
    modern
}

#[cfg(test)]
mod tests;
