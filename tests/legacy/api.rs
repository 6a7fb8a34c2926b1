//! The stand-in's own API: what of the real one's (local-api 2) others ask for.

use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;
use helios::base::lock::lock;
use helios::base::percent::query_pairs;
use helios::http::server::{Answering, Error, Exchange, Handler};
use serde_json::{Value, json};

use crate::state::{Settings, Shared, now_ms};

/// A request's body; the real one takes 100 KiB.
const BODY_BYTES_MAX: usize = 100 * 1024;
/// Between two lines of the log that is followed.
const LOG_INTERVAL: Duration = Duration::from_millis(200);

pub struct Api {
    pub settings: Arc<Settings>,
    pub shared: Arc<Shared>,
}

impl Handler for Api {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(self.answer(exchange))
    }
}

impl Api {
    async fn answer(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        let (method, path) = (exchange.method().to_owned(), exchange.path().to_owned());
        let fields: Vec<_> = exchange
            .fields()
            .map(|(name, value)| json!([name, value].map(String::from_utf8_lossy)))
            .collect();
        let query = exchange.query().to_owned();
        let is_open = matches!(&*path, "/ping" | "/v1/healthy");
        let admitted = is_open || self.admits(exchange);
        let body = exchange.body(BODY_BYTES_MAX).await.unwrap_or_default();
        lock(&self.shared.state).seen.push(json!({
            "at": now_ms(), "method": method, "path": path, "query": query, "fields": fields,
            "body": String::from_utf8_lossy(&body),
        }));
        let quirks = self.shared.quirks();
        if quirks.hang.contains(&path) {
            future::pending::<()>().await;
        }
        if quirks.nonsense.contains(&path) {
            return send(exchange, 200, "text/html", "<html>what?</html>").await;
        }
        if let Some(status) = quirks.status.get(&path) {
            let body = json!({"status": "failed", "message": "it was told to"});
            return reply(exchange, *status, &body).await;
        }
        if !admitted {
            return send(exchange, 401, "text/html", "Unauthorized").await;
        }
        match (&*method, &*path) {
            ("GET" | "HEAD", "/ping" | "/v1/healthy") => {
                send(exchange, 200, "text/html", "OK").await
            }
            ("POST", "/v1/update") => self.update(exchange, &body).await,
            ("GET", "/v2/local/logs") => logs(exchange).await,
            ("POST", "/v1/apps/echo") => {
                let body = String::from_utf8_lossy(&body).into_owned();
                send(exchange, 200, "application/octet-stream", &body).await
            }
            ("GET", _) => match self.document(&path) {
                Some(document) => reply(exchange, 200, &document).await,
                None => send(exchange, 404, "text/html", "Cannot GET that").await,
            },
            _ => send(exchange, 404, "text/html", "Cannot do that").await,
        }
    }

    /// Whether the caller has its key (local-api 3.2).
    fn admits(&self, exchange: &Exchange<'_>) -> bool {
        let secret = &*self.settings.api_secret;
        let field = exchange.header("authorization").unwrap_or_default();
        let (scheme, key) = field.split_once(' ').unwrap_or_default();
        let known = ["bearer", "apikey"].iter();
        let in_field = known.clone().any(|it| it.eq_ignore_ascii_case(scheme)) && key == secret;
        in_field
            || query_pairs(exchange.query()).any(|(name, key)| name == "apikey" && key == secret)
    }

    fn document(&self, path: &str) -> Option<Value> {
        let state = lock(&self.shared.state);
        let app_state = if state.is_applying {
            "applying"
        } else {
            "applied"
        };
        Some(match path {
            "/v1/device" => json!({
                "api_port": self.settings.listen_port.get(), "ip_address": "192.0.2.1",
                "os_version": "Stand-in 1.0.0", "mac_address": "02:00:00:00:00:01",
                "supervisor_version": "19.0.5", "update_pending": state.is_applying,
                "update_failed": false, "update_downloaded": false, "status": "Idle",
                "commit": null, "download_progress": null,
            }),
            "/v2/state/status" => json!({
                "status": "success", "appState": app_state, "overallDownloadProgress": null,
                "containers": [], "images": [], "release": null,
            }),
            "/v2/version" => json!({"status": "success", "version": "19.0.5"}),
            "/v2/device/name" => json!({"status": "success", "deviceName": "stand-in"}),
            "/v2/containerId" => json!({"status": "success", "services": {}}),
            "/v2/device/vpn" => {
                json!({"status": "success", "vpn": {"enabled": true, "connected": true}})
            }
            "/v2/applications/state" => json!({}),
            _ => return None,
        })
    }

    /// Answers before it fetches anything (remote-api 9.3).
    async fn update(&self, exchange: &mut Exchange<'_>, body: &[u8]) -> Result<(), Error> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let flag = |name: &str| body[name].as_bool().unwrap_or(false);
        let (force, cancel) = (flag("force"), flag("cancel"));
        if !force && !self.settings.instant_updates {
            return send(exchange, 202, "text/html", "Accepted").await;
        }
        let _ = self.shared.poll.try_send((force, cancel));
        exchange.respond(204, &[], b"").await
    }
}

/// A log that is followed until the reader has enough.
async fn logs(exchange: &mut Exchange<'_>) -> Result<(), Error> {
    exchange.stream(200, &[]).await?;
    for line in 0u64.. {
        let line = format!(
            "{{\"message\":\"line {line}\",\"timestamp\":{}}}\n",
            now_ms()
        );
        exchange.write(line.as_bytes()).await?;
        Timer::after(LOG_INTERVAL).await;
    }
    Ok(())
}

pub async fn reply(exchange: &mut Exchange<'_>, status: u16, body: &Value) -> Result<(), Error> {
    let kind = "application/json; charset=utf-8";
    send(exchange, status, kind, &body.to_string()).await
}

pub async fn send(
    exchange: &mut Exchange<'_>,
    status: u16,
    kind: &str,
    body: &str,
) -> Result<(), Error> {
    let fields = [("Content-Type", kind), ("X-Powered-By", "Express")];
    exchange.respond(status, &fields, body.as_bytes()).await
}
