//! Docker and its kin over `http`; implements [`world::engine`](crate::world::engine).
//!
//! # Invariants
//!
//! * Wire types are private to the file that speaks them, and short-lived: what
//!   stays is the model.
//! * One object that cannot be read is skipped with a warning; it never costs the
//!   others their reading (W-25). What is gone between a list and a look is gone.
//! * The API version is negotiated when the engine answers first, and again after
//!   it was away (D-22).

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::base::json::fields;
use crate::http::client::{Client, Endpoint, Request, Response, Timeouts};
use crate::limits;
use crate::model::ImageUri;
use container::{Backend, Extra};
use elements::Elements;

use crate::world::engine::{ApiVersion, EngineError, EngineInfo, Kind};

#[cfg(feature = "hostapp")]
mod archive;
pub mod container;
mod containers;
mod elements;
mod events;
#[cfg(feature = "legacy")]
mod exec;
#[cfg(feature = "legacy")]
mod frames;
mod images;
pub mod labels;
mod networks;
mod pull;
mod volumes;

pub use images::Storage;

/// The newest API version that this client was written against.
const API_NEWEST: ApiVersion = ApiVersion(51);
/// The oldest one it knows to work with.
const API_OLDEST: ApiVersion = ApiVersion(40);

/// Gives the value of `X-Registry-Auth` for an image, if its registry gets one (D-25).
pub type RegistryAuth = Box<dyn Fn(&ImageUri) -> Option<String> + Send + Sync>;

/// A client of one engine.
pub struct Docker {
    client: Client,
    api: Mutex<Option<ApiVersion>>,
    auth: RegistryAuth,
    /// Whether objects get the label by which other agents of the family find theirs (D-08).
    supervised: bool,
    /// URL and key of the backend, for containers that ask for them (target-state 4.2).
    backend: Arc<OnceLock<(String, String)>>,
    /// The engine's own socket, for the same.
    socket: Option<String>,
}

/// What a refusal looks like.
#[derive(Default)]
struct Refused {
    message: String,
}

fields!(Refused { message needed });

impl Docker {
    /// A client of the engine at `endpoint`. Connects when it is asked something.
    #[must_use]
    pub fn new(endpoint: Endpoint, auth: RegistryAuth, supervised: bool) -> Docker {
        let call = limits::ENGINE_CALL_TIMEOUT;
        let timeouts = Docker::timeouts(call, call);
        let socket = match &endpoint {
            Endpoint::Unix(path) => Some(path.to_string_lossy().into_owned()),
            _ => None,
        };
        Docker {
            client: Client::new(endpoint, timeouts),
            api: Mutex::new(None),
            auth,
            supervised,
            backend: Arc::default(),
            socket,
        }
    }

    /// The same, for containers that are told where the backend is and the device's key when
    /// their label `balena-api` asks for it (target-state 4.2), once there is one.
    #[must_use]
    pub fn with_backend(self, backend: Arc<OnceLock<(String, String)>>) -> Docker {
        Docker { backend, ..self }
    }

    /// What feature labels get from this agent.
    fn extra(&self) -> Extra<'_> {
        Extra {
            backend: self.backend.get().map(|(url, key)| Backend { url, key }),
            supervisor: None,
            engine_socket: self.socket.as_deref(),
        }
    }

    fn timeouts(head: Duration, idle: Duration) -> Timeouts {
        Timeouts {
            resolve: limits::HTTP_RESOLVE_TIMEOUT,
            connect: limits::ENGINE_CONNECT_TIMEOUT,
            tls: limits::HTTP_TLS_TIMEOUT,
            head,
            idle,
            total: None,
        }
    }

    fn known_api(&self) -> Option<ApiVersion> {
        *self.api.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_api(&self, api: Option<ApiVersion>) {
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = api;
    }

    /// The version to speak; asks the engine if it is not known.
    async fn api(&self) -> Result<ApiVersion, EngineError> {
        match self.known_api() {
            Some(api) => Ok(api),
            None => Ok(self.version().await?.api),
        }
    }

    /// Who answers.
    async fn version(&self) -> Result<EngineInfo, EngineError> {
        #[derive(Default)]
        struct Version {
            version: String,
            api_version: String,
            platform: Option<Platform>,
            components: Vec<Platform>,
        }

        fields!(Version {
            "Version" => version needed, "ApiVersion" => api_version needed,
            "Platform" => platform, "Components" => components,
        });

        #[derive(Default)]
        struct Platform {
            name: String,
        }

        fields!(Platform { "Name" => name });

        let doing = "ask the engine for its version";
        let mut response = self.send("GET", "/version", None, &[], None, doing).await?;
        let version: Version = self.json(&mut response, doing).await?;
        let minor = version
            .api_version
            .strip_prefix("1.")
            .and_then(|minor| minor.parse().ok());
        let Some(theirs) = minor.map(ApiVersion) else {
            let said = format!("it speaks version '{}'", version.api_version);
            return Err(EngineError::new(Kind::Refused, doing, said));
        };
        if theirs < API_OLDEST {
            log::warn!("the engine's API {theirs} is older than {API_OLDEST}; parts may not work");
        }
        let api = theirs.min(API_NEWEST);
        self.set_api(Some(api));
        let mut names = version.platform.into_iter().chain(version.components);
        let name = names.find(|platform| !platform.name.is_empty());
        let name = name.map_or_else(|| "unknown engine".to_owned(), |platform| platform.name);
        Ok(EngineInfo {
            name,
            version: version.version,
            api,
        })
    }

    /// One call; the head of the answer is there and says yes.
    async fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        doing: &str,
    ) -> Result<Response, EngineError> {
        self.call_with(method, path, body, (&[], None), doing).await
    }

    async fn call_with(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        (headers, timeouts): (&[(&str, &str)], Option<Timeouts>),
        doing: &str,
    ) -> Result<Response, EngineError> {
        let api = self.api().await?;
        self.send(
            method,
            &format!("/v{api}{path}"),
            body,
            headers,
            timeouts,
            doing,
        )
        .await
    }

    async fn send(
        &self,
        method: &str,
        target: &str,
        body: Option<&[u8]>,
        headers: &[(&str, &str)],
        timeouts: Option<Timeouts>,
        doing: &str,
    ) -> Result<Response, EngineError> {
        let mut fields = headers.to_vec();
        if body.is_some() {
            fields.push(("content-type", "application/json"));
        }
        let request = Request {
            method,
            target,
            headers: &fields,
            body,
            timeouts,
            ..Request::default()
        };
        let mut response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => {
                // Whoever answers next may be another engine.
                self.set_api(None);
                return Err(EngineError::new(
                    Kind::Unreachable,
                    doing,
                    error.to_string(),
                ));
            }
        };
        let kind = match response.status() {
            // 304: it is so already.
            200..=299 | 304 => return Ok(response),
            404 => Kind::Gone,
            409 => Kind::Conflict,
            500..=599 => Kind::Failed,
            _ => Kind::Refused,
        };
        let status = response.status();
        let body = response
            .bytes(limits::ENGINE_BODY_BYTES_MAX)
            .await
            .unwrap_or_default();
        let said = match serde_json::from_slice::<Refused>(&body) {
            Ok(refused) => refused.message,
            Err(_) => String::from_utf8_lossy(&body).into_owned(),
        };
        let said = one_line(&said);
        let kind = if kind == Kind::Failed {
            failure(&said)
        } else {
            kind
        };
        Err(EngineError::new(kind, doing, format!("{status}: {said}")))
    }

    /// The whole body as one JSON value.
    async fn json<T: DeserializeOwned>(
        &self,
        response: &mut Response,
        doing: &str,
    ) -> Result<T, EngineError> {
        let body = response.bytes(limits::ENGINE_BODY_BYTES_MAX).await;
        let body = body.map_err(|err| unreachable(doing, &err))?;
        serde_json::from_slice(&body)
            .map_err(|err| EngineError::new(Kind::Unreachable, doing, format!("odd answer: {err}")))
    }

    /// Calls `each` with every element of an answer that is an array.
    async fn elements(
        &self,
        path: &str,
        doing: &str,
        mut each: impl FnMut(&[u8]),
    ) -> Result<(), EngineError> {
        let odd = |said| EngineError::new(Kind::Unreachable, doing, said);
        let mut response = self.call("GET", path, None, doing).await?;
        let mut elements = Elements::default();
        while let Some(piece) = response
            .chunk()
            .await
            .map_err(|err| unreachable(doing, &err))?
        {
            let fed = elements.feed(piece, limits::ENGINE_BODY_BYTES_MAX, &mut each);
            fed.map_err(|_| odd("odd answer"))?;
        }
        elements
            .is_complete()
            .then_some(())
            .ok_or_else(|| odd("the answer is cut short"))
    }

    /// A call whose answer's body says nothing.
    async fn order(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
        doing: &str,
    ) -> Result<(), EngineError> {
        self.call(method, path, body, doing).await?.discard().await;
        Ok(())
    }
}

/// What kind of failure it was, by the system's words in what the engine said.
fn failure(said: &str) -> Kind {
    if said.contains("no space left on device") || said.contains("disk quota exceeded") {
        Kind::Full
    } else {
        Kind::Failed
    }
}

/// What the engine said, fit for the log (FD-37): newer ones say several things on lines of
/// their own.
fn one_line(said: &str) -> String {
    let words = said.split(|c: char| c.is_control() || c == ' ');
    words
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

fn unreachable(doing: &str, error: &crate::http::client::Error) -> EngineError {
    EngineError::new(Kind::Unreachable, doing, error.to_string())
}

/// Success when the object is not there: that is what was wanted.
fn gone_is_done(result: Result<(), EngineError>) -> Result<(), EngineError> {
    match result {
        Err(error) if error.kind == Kind::Gone => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, failure, one_line};

    #[test]
    fn fd_08_a_full_disk_is_told_from_other_failures() {
        let said = "failed to register layer: write /x: no space left on device";
        assert_eq!(failure(said), Kind::Full);
        assert_eq!(failure("layer does not exist"), Kind::Failed);
    }

    #[test]
    fn fd_37_what_the_engine_says_is_one_line() {
        let said = "invalid config:\n* no subnet\r\n* x\u{1b}[1m  y\n";
        assert_eq!(one_line(said), "invalid config: * no subnet * x [1m y");
    }
}
