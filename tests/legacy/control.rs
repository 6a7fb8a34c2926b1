//! The routes by which tests tell the stand-in what to do, and see what it did.

use std::sync::Arc;
use std::time::Duration;

use helios::base::lock::lock;
use helios::base::percent::query_pairs;
use helios::http::server::{Answering, Error, Exchange, Handler};
use serde_json::{Value, json};

use crate::api::{reply, send};
use crate::state::Shared;

pub struct Control(pub Arc<Shared>);

impl Handler for Control {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(self.answer(exchange))
    }
}

impl Control {
    async fn answer(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        let (method, path) = (exchange.method().to_owned(), exchange.path().to_owned());
        let ms = query_pairs(exchange.query()).find(|(name, _)| name == "ms");
        let ms = ms.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
        let body = exchange.body(1 << 20).await.unwrap_or_default();
        let shared = &self.0;
        match (&*method, &*path) {
            ("PUT", "/quirks") => match serde_json::from_slice(&body) {
                Ok(quirks) => lock(&shared.state).quirks = quirks,
                Err(error) => {
                    return send(exchange, 400, "text/plain", &error.to_string()).await;
                }
            },
            ("PUT", "/apps") => {
                lock(&shared.state).apps = serde_json::from_slice(&body).ok();
                let _ = shared.report.try_send(());
            }
            ("POST", "/restart") => {
                let _ = shared.restart.try_send(Duration::from_millis(ms));
            }
            ("POST", "/poll") => {
                let _ = shared.poll.try_send((false, false));
            }
            ("GET", _) => {
                let Some(document) = self.document(&path) else {
                    return send(exchange, 404, "text/plain", "no such route").await;
                };
                return reply(exchange, 200, &document).await;
            }
            _ => return send(exchange, 404, "text/plain", "no such route").await,
        }
        exchange.respond(200, &[], b"").await
    }

    fn document(&self, path: &str) -> Option<Value> {
        let state = lock(&self.0.state);
        Some(match path {
            "/seen" => json!(state.seen),
            "/polls" => json!(state.polls),
            "/reports" => json!(state.reports),
            "/target" => {
                let target = state.target.as_ref();
                json!(target.map(|(_, document)| String::from_utf8_lossy(document)))
            }
            _ => return None,
        })
    }
}
