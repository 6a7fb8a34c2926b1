//! What the stand-in does by itself: it polls, applies and reports (remote-api 3.4, 6, 7.3).

use std::sync::Arc;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;
use helios::base::lock::lock;
use helios::http::client::{Client, Endpoint, Request, Timeouts};
use helios::http::url::Url;
use serde_json::{Value, json};

use crate::state::{Settings, Shared, now_ms};

/// As the real one says it.
const AGENT: &str = "Supervisor/19.0.5 (Linux; Stand-in 1.0.0; prod)";
/// A target document.
const DOCUMENT_BYTES_MAX: usize = 8 << 20;
/// The real one's limit of each phase of a request.
const PHASE: Duration = Duration::from_secs(59);

/// Never ends.
pub async fn run(shared: Arc<Shared>, settings: Arc<Settings>) {
    let Ok(url) = Url::parse(settings.endpoint()) else {
        println!("the API endpoint is none; nothing is polled");
        return future::pending().await;
    };
    let endpoint = Endpoint::Tcp {
        host: url.host().to_owned(),
        port: url.port(),
    };
    let timeouts = Timeouts {
        resolve: PHASE,
        connect: PHASE,
        tls: PHASE,
        head: PHASE,
        idle: PHASE,
        total: None,
    };
    let agent = Agent {
        client: Client::new(endpoint, timeouts),
        base: url.path().to_owned(),
        bearer: format!("Bearer {}", settings.device_api_key),
        shared,
        settings,
    };
    future::zip(agent.polls(), future::zip(agent.applies(), agent.reports())).await;
}

struct Agent {
    client: Client,
    base: String,
    bearer: String,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
}

impl Agent {
    /// The first poll comes with the start, the next after the interval or when it is asked.
    async fn polls(&self) {
        let mut asked = (false, false);
        let mut failures = 0;
        loop {
            let interval = self.settings.app_update_poll_interval.ms();
            let wait = if self.poll(asked).await {
                failures = 0;
                interval
            } else {
                failures = (failures + 1).min(16);
                let wait = self.settings.backoff.ms() * 2u32.pow(failures - 1);
                wait.min(interval)
            };
            let time = async {
                Timer::after(wait).await;
                (false, false)
            };
            let told = async { self.shared.polls.recv().await.unwrap_or_default() };
            asked = future::or(told, time).await;
            Timer::after(Duration::from_millis(self.shared.quirks().fetch_delay_ms)).await;
        }
    }

    /// Whether it got an answer that counts.
    async fn poll(&self, (force, cancel): (bool, bool)) -> bool {
        let known = lock(&self.shared.state).target.clone();
        let etag = known.and_then(|(etag, _)| etag);
        let target = format!("{}/device/v3/{}/state", self.base, self.settings.uuid);
        let mut headers = self.headers();
        if let Some(etag) = &etag {
            headers.push(("if-none-match", etag));
        }
        let request = Request {
            method: "GET",
            target: &target,
            headers: &headers,
            ..Request::default()
        };
        let mut record = json!({"at": now_ms(), "etag": etag});
        let ok = match self.client.send(request).await {
            Err(error) => {
                record["error"] = json!(error.to_string());
                false
            }
            Ok(mut response) => {
                let status = response.status();
                let fresh = response.header("etag").map(str::to_owned);
                let body = response.bytes(DOCUMENT_BYTES_MAX).await;
                (record["status"], record["got"]) = (json!(status), json!(fresh));
                match (status, body) {
                    (200, Ok(body)) if serde_json::from_slice::<Value>(&body).is_ok() => {
                        lock(&self.shared.state).target = Some((fresh, body));
                        // A fresh document always cancels what is being applied.
                        let _ = self.shared.apply.try_send(());
                        true
                    }
                    // Only here does `cancel` count.
                    (304, Ok(_)) => {
                        if force || cancel {
                            let _ = self.shared.apply.try_send(());
                        }
                        true
                    }
                    _ => false,
                }
            }
        };
        lock(&self.shared.state).polls.push(record);
        ok
    }

    async fn applies(&self) {
        let mut next = self.shared.applies.recv().await;
        while next.is_ok() {
            lock(&self.shared.state).is_applying = true;
            let quirks = self.shared.quirks();
            let apply = async {
                Timer::after(Duration::from_millis(quirks.apply_ms)).await;
                while self.shared.quirks().never_settles {
                    Timer::after(Duration::from_millis(50)).await;
                }
                None
            };
            let newer = async { Some(self.shared.applies.recv().await) };
            next = match future::or(newer, apply).await {
                Some(newer) => newer,
                None => {
                    lock(&self.shared.state).is_applying = false;
                    let _ = self.shared.report.try_send(());
                    self.shared.applies.recv().await
                }
            };
        }
    }

    async fn reports(&self) {
        let mut sent = Value::Null;
        let mut failures = 0;
        let _ = self.shared.report.try_send(());
        while self.shared.reports.recv().await.is_ok() {
            loop {
                let report = self.report();
                if report == sent {
                    break;
                }
                let wait = match self.send(&report).await {
                    (true, _) => {
                        (sent, failures) = (report, 0);
                        self.settings.report_interval.ms()
                    }
                    // Seconds, taken for milliseconds (W-24).
                    (false, Some(wish)) => Duration::from_millis(wish),
                    (false, None) => {
                        failures = (failures + 1).min(16);
                        let wait = self.settings.backoff.ms() * 2u32.pow(failures - 1);
                        wait.min(self.settings.app_update_poll_interval.ms())
                    }
                };
                Timer::after(wait).await;
            }
        }
    }

    fn report(&self) -> Value {
        let mut device = json!({
            "api_port": self.settings.listen_port.get(), "api_secret": self.settings.api_secret,
            "os_version": "Stand-in 1.0.0", "os_variant": "prod", "status": "Idle",
            "supervisor_version": "19.0.5", "provisioning_progress": null,
            "provisioning_state": "", "mac_address": "02:00:00:00:00:01",
        });
        // It never sends an empty `apps`.
        let apps = lock(&self.shared.state).apps.clone();
        if let Some(apps) = apps.filter(|apps| apps.as_object().is_some_and(|it| !it.is_empty())) {
            device["apps"] = apps;
        }
        let mut report = json!({});
        report[&*self.settings.uuid] = device;
        report
    }

    /// Whether it was accepted, and else what `Retry-After` said.
    async fn send(&self, report: &Value) -> (bool, Option<u64>) {
        let target = format!("{}/device/v3/state", self.base);
        let mut headers = self.headers();
        headers.push(("content-type", "application/json"));
        let body = report.to_string();
        let request = Request {
            method: "PATCH",
            target: &target,
            headers: &headers,
            body: Some(body.as_bytes()),
            ..Request::default()
        };
        let mut record = json!({"at": now_ms()});
        let answer = match self.client.send(request).await {
            Err(error) => {
                record["error"] = json!(error.to_string());
                (false, None)
            }
            Ok(response) => {
                let status = response.status();
                let after = response.header("retry-after").map(str::to_owned);
                response.discard().await;
                (record["status"], record["retry_after"]) = (json!(status), json!(after));
                let wish = after.and_then(|after| after.parse().ok());
                (status == 200, wish)
            }
        };
        lock(&self.shared.state).reports.push(record);
        answer
    }

    /// What its HTTP library adds to every request (remote-api 6).
    fn headers(&self) -> Vec<(&str, &str)> {
        vec![
            ("user-agent", AGENT),
            ("authorization", &self.bearer),
            ("accept", "application/json"),
            ("accept-language", "*"),
            ("sec-fetch-mode", "cors"),
            ("accept-encoding", "gzip, deflate"),
        ]
    }
}
