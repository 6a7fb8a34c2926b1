//! The old supervisor's local API (remote-api 9.2, 9.3).

use serde::Deserialize;

use crate::base::percent::percent_encode_segment;
use crate::http::client::{Client, Endpoint, Request, Response, Timeouts};
use crate::http::url::Url;
use crate::limits;
use crate::world::Pending;
use crate::world::legacy::{Legacy, LegacyError, LegacyKind, Told};

/// Its API, and the key with which it is asked.
pub struct Supervisor {
    client: Client,
    base: String,
    authorization: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "appState")]
    app_state: String,
}

impl Supervisor {
    /// The one at this URL, which is plain http.
    #[must_use]
    pub fn new(url: &Url, key: &str) -> Supervisor {
        let endpoint = Endpoint::Tcp {
            host: url.host().to_owned(),
            port: url.port(),
        };
        let limit = limits::LEGACY_CALL_TIMEOUT;
        let timeouts = Timeouts {
            resolve: limit,
            connect: limit,
            tls: limit,
            head: limit,
            idle: limit,
            // R-TRG-1.
            total: Some(limit),
        };
        Supervisor {
            client: Client::new(endpoint, timeouts),
            base: url.path().to_owned(),
            authorization: format!("Bearer {key}"),
        }
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Response, LegacyError> {
        let headers = [
            ("authorization", self.authorization.as_str()),
            ("content-type", "application/json"),
        ];
        let request = Request {
            method,
            target: &format!("{}{path}", self.base),
            headers: &headers[..if body.is_some() { 2 } else { 1 }],
            body,
            ..Request::default()
        };
        let sent = self.client.send(request).await;
        sent.map_err(|error| later(error.to_string()))
    }
}

fn later(said: String) -> LegacyError {
    let kind = LegacyKind::Later;
    LegacyError { kind, said }
}

/// Anything but success (R-TRG-3 to R-TRG-5).
fn refused(status: u16) -> LegacyError {
    let (kind, said) = match status {
        401 | 403 => (
            LegacyKind::Unauthorized,
            "it refuses the key of --legacy-api-key".to_owned(),
        ),
        423 => (LegacyKind::Locked, "update locks are set".to_owned()),
        _ => (
            LegacyKind::Later,
            format!("it answers with status {status}"),
        ),
    };
    LegacyError { kind, said }
}

impl Legacy for Supervisor {
    fn update(&self, force: bool, cancel: bool) -> Pending<'_, Result<Told, LegacyError>> {
        Box::pin(async move {
            let body = format!("{{\"force\":{force},\"cancel\":{cancel}}}");
            let response = self.send("POST", "/v1/update", Some(body.as_bytes()));
            let response = response.await?;
            let status = response.status();
            response.discard().await;
            match status {
                202 => Ok(Told::Deferred),
                200..=299 => Ok(Told::Accepted),
                _ => Err(refused(status)),
            }
        })
    }

    fn is_applied(&self) -> Pending<'_, Result<bool, LegacyError>> {
        Box::pin(async move {
            let mut response = self.send("GET", "/v2/state/status", None).await?;
            let status = response.status();
            if !matches!(status, 200..=299) {
                response.discard().await;
                return Err(refused(status));
            }
            let body = response.bytes(limits::LEGACY_BODY_BYTES_MAX).await;
            let body = body.map_err(|error| later(error.to_string()))?;
            let status: Status = serde_json::from_slice(&body)
                .map_err(|_| later("its status is not what it should be".to_owned()))?;
            Ok(status.app_state == "applied")
        })
    }

    fn accepts<'a>(&'a self, key: &'a str) -> Pending<'a, Result<bool, LegacyError>> {
        Box::pin(async move {
            // Not as a field: what a query decodes to need not be fit for one.
            let target = format!(
                "{}/v2/version?apikey={}",
                self.base,
                percent_encode_segment(key)
            );
            let request = Request {
                method: "GET",
                target: &target,
                ..Request::default()
            };
            let sent = self.client.send(request).await;
            let response = sent.map_err(|error| later(error.to_string()))?;
            let status = response.status();
            response.discard().await;
            match status {
                200..=299 => Ok(true),
                401 | 403 => Ok(false),
                _ => Err(refused(status)),
            }
        })
    }
}
