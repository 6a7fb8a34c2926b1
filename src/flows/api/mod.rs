//! The local API (local-api 1): one request in, one answer out.

use std::borrow::Cow;
use std::sync::Arc;

use futures_lite::future;

use crate::base::percent::query_pairs;
use crate::flows::contract_facts;
use crate::flows::poll::Trigger;
use crate::flows::power::{self, Refused};
use crate::flows::seek::seeker::Options;
use crate::flows::seek::{Mailbox, local};
use crate::http::server::{Answering, BodyError, Exchange, Handler, Peer};
use crate::intake::{self, AppRefusal};
use crate::limits;
use crate::model::AppUuid;
use crate::model::status::UpdateStatus;
use crate::model::target::AppTarget;
use crate::plan::board::Board;
use crate::plan::work::Tools;
use crate::world::capabilities::Capabilities;
use crate::world::engine::HostFacts;
use crate::world::system::Power;

pub mod answer;
#[cfg(feature = "legacy")]
pub mod proxy;
pub mod route;
pub mod v3;

use answer::{Answer, Wrong};
use route::{Route, route};
use v3::Now;

/// What the API needs.
pub struct Api {
    /// Board, clock and store.
    pub tools: Tools,
    /// Where edits of the target go.
    pub mailbox: Arc<Mailbox>,
    /// How to ask for a poll; `None` without a backend.
    pub trigger: Option<Arc<Trigger>>,
    /// The key that guards addresses other than loopback (D-27).
    pub key: Option<String>,
    /// Whether a caller on loopback came in through a loopback address.
    pub has_loopback: bool,
    /// Whether user apps are this agent's; else those of the legacy supervisor (D-08).
    pub has_user_apps: bool,
    /// Looks at what this machine offers.
    pub capabilities: Arc<dyn Capabilities>,
    /// Takes what is none of ours, beside a legacy supervisor.
    #[cfg(feature = "legacy")]
    pub proxy: Option<Box<proxy::Proxy>>,
}

impl Handler for Api {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        #[cfg(feature = "legacy")]
        if let Some(proxy) = &self.proxy
            && is_theirs(exchange.method(), exchange.path())
        {
            // Judged there (D-27), and a future of its own: streams are many.
            return Box::pin(proxy.pass(exchange));
        }
        Box::pin(async move {
            let answer = self.answer(exchange).await;
            let fields: Vec<_> = answer
                .fields
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            exchange.respond(answer.status, &fields, &answer.body).await
        })
    }
}

impl Api {
    async fn answer(&self, exchange: &mut Exchange<'_>) -> Answer {
        let route = route(exchange.method(), exchange.path());
        let accept = exchange.header("accept").map(str::to_owned);
        let accept = accept.as_deref();
        let is_v3 = exchange.path().starts_with("/v3");
        if route != Route::Ping
            && !self.admits(exchange)
            && !self.is_admitted(&route, exchange).await
        {
            return if is_v3 {
                Answer::problem(401, accept, "the local API key is missing or wrong", &[])
            } else {
                Answer::empty(401)
            };
        }
        match route {
            Route::Ping => Answer::text("OK"),
            Route::Unknown if is_v3 => Answer::problem(404, accept, "no such path", &[]),
            Route::Unknown => Answer::empty(404),
            Route::WrongMethod(allow) if is_v3 => {
                Answer::problem(405, accept, "the method is not allowed here", &[])
                    .with("allow", allow)
            }
            Route::WrongMethod(allow) => Answer::empty(405).with("allow", allow),
            Route::BadUuid => {
                Answer::problem(400, accept, "Invalid URL: Invalid UTF-8 in `uuid`", &[])
            }
            Route::Update => self.update(exchange).await,
            Route::Status | Route::Device | Route::App(_) => {
                self.read(&route, exchange.query(), accept).await
            }
            Route::Capabilities => {
                let rows = self.capabilities.look().await;
                Answer::json(200, answer::capabilities(&rows))
            }
            Route::Power(power) => self.power(power, exchange).await,
            Route::SetApp(_) | Route::RemoveApp(_) if !self.has_user_apps => {
                let detail = "user apps are left to the legacy supervisor: see --user-apps";
                Answer::problem(409, accept, detail, &[])
            }
            Route::SetApp(uuid) => {
                let set = self.set_app(&uuid, exchange, accept).await;
                set.unwrap_or_else(|refused| refused)
            }
            Route::RemoveApp(uuid) => {
                let removed = self.remove_app(&uuid, exchange.query(), accept).await;
                removed.unwrap_or_else(|refused| refused)
            }
        }
    }

    /// Whether the caller may use the native routes (D-27).
    fn admits(&self, exchange: &Exchange<'_>) -> bool {
        match exchange.peer() {
            Peer::Unix => return true,
            Peer::Loopback if self.has_loopback => return true,
            Peer::Loopback | Peer::Other => {}
        }
        let Some(key) = &self.key else { return false };
        given_keys(exchange).any(|given| same(&given, key))
    }

    /// Beside a legacy supervisor an update can also be asked for with a key of that one's.
    async fn is_admitted(&self, route: &Route, exchange: &Exchange<'_>) -> bool {
        #[cfg(feature = "legacy")]
        if let (Route::Update, Some(proxy)) = (route, &self.proxy) {
            return proxy.admits(exchange).await;
        }
        let _ = (route, exchange);
        false
    }

    fn now(&self) -> Now {
        Now {
            uptime: self.tools.clock.now(),
            wall_secs: self.tools.clock.wall_secs(),
        }
    }

    async fn read(&self, route: &Route, query: &str, accept: Option<&str>) -> Answer {
        let detail = match answer::flags(query_pairs(query), &["detail"]) {
            Ok(flags) => flags[0],
            Err(detail) => return Answer::problem(400, accept, &detail, &[]),
        };
        if *route != Route::Status && !self.is_read().await {
            let detail = "the engine was not read yet";
            let seconds = limits::FIRST_READ_RETRY_AFTER_SECS.to_string();
            return Answer::problem(503, accept, detail, &[]).with("retry-after", seconds);
        }
        let now = self.now();
        let body = self.tools.board.look(|board| match route {
            Route::Status => Some(v3::status(board, now, detail)),
            Route::App(uuid) => v3::app(board, now, detail, uuid),
            _ => Some(v3::device(board, now, detail)),
        });
        match body {
            Some(body) => Answer::json(200, body),
            None => Answer::problem(404, accept, "there is no such app", &[]),
        }
    }

    /// Waits a little for the first look at the engine (D-34).
    async fn is_read(&self) -> bool {
        let late = self.tools.clock.now() + limits::FIRST_READ_WAIT;
        let read = async {
            loop {
                let seen = self.tools.board.version();
                if self.tools.board.look(|board| board.is_read) {
                    return true;
                }
                self.tools.board.newer(seen).await;
            }
        };
        let timeout = async {
            self.tools.clock.sleep_until(late).await;
            false
        };
        future::or(read, timeout).await
    }

    async fn set_app(
        &self,
        uuid: &str,
        exchange: &mut Exchange<'_>,
        accept: Option<&str>,
    ) -> Result<Answer, Answer> {
        let options = options(exchange.query(), accept)?;
        if !answer::is_json(exchange.header("content-type")) {
            let detail = "Expected request with `Content-Type: application/json`";
            return Err(Answer::problem(415, accept, detail, &[]));
        }
        let body =
            exchange
                .body(limits::API_BODY_BYTES_MAX)
                .await
                .map_err(|error| match error {
                    BodyError::TooLarge => {
                        let detail = "Failed to buffer the request body: length limit exceeded";
                        Answer::problem(413, accept, detail, &[])
                    }
                    BodyError::Broken => Answer::problem(400, accept, "the body is cut short", &[]),
                })?;
        let app = read_app(uuid, &body, &self.tools.facts, accept)?;
        let uuid = AppUuid::new(uuid);
        self.keep(&uuid, Some(&body)).await;
        self.mailbox.edit(&uuid, Some(app), options);
        Ok(Answer::empty(202))
    }

    async fn remove_app(
        &self,
        uuid: &str,
        query: &str,
        accept: Option<&str>,
    ) -> Result<Answer, Answer> {
        let options = options(query, accept)?;
        let known = |board: &Board| {
            let target = board
                .target
                .as_ref()
                .is_some_and(|target| target.apps.contains_key(uuid));
            target || board.device.apps.contains_key(uuid)
        };
        if !self.tools.board.look(known) {
            return Err(Answer::problem(404, accept, "there is no such app", &[]));
        }
        let uuid = AppUuid::new(uuid);
        self.keep(&uuid, None).await;
        self.mailbox.edit(&uuid, None, options);
        Ok(Answer::empty(202))
    }

    /// An edit that cannot be written down is still applied; a restart would lose it.
    async fn keep(&self, uuid: &AppUuid, body: Option<&[u8]>) {
        if let Err(error) = local::keep(&self.tools, uuid, body).await {
            log::warn!("the edit of app '{uuid}' will not survive a restart: {error}");
        }
    }

    /// Asked in the legacy supervisor's form, or in that of the third API (local-api 2.4).
    async fn power(&self, power: Power, exchange: &mut Exchange<'_>) -> Answer {
        let is_v3 = exchange.path().starts_with("/v3");
        let accept = exchange.header("accept").map(str::to_owned);
        let answer = |status, said: &str| match (is_v3, said) {
            (true, "") => Answer::empty(status),
            (true, said) => Answer::problem(status, accept.as_deref(), said, &[]),
            (false, "") => Answer::json(status, br#"{"Data":"OK","Error":null}"#.to_vec()),
            (false, said) => {
                let body = serde_json::json!({"Data": "", "Error": said});
                Answer::json(status, body.to_string().into_bytes())
            }
        };
        let body = exchange.body(limits::API_BODY_BYTES_MAX).await;
        let body = body.map_err(|_| "the body is too large or cut short".to_owned());
        let asked = body.and_then(|body| answer::update_body(&body));
        let flags = answer::flags(query_pairs(exchange.query()), &["force"]);
        let force = match (asked, flags) {
            (Ok((asked, _)), Ok(flags)) => asked || flags[0],
            (Err(why), _) | (_, Err(why)) => return answer(400, &why),
        };
        match power::ask(&self.tools, power, force).await {
            Ok(()) => answer(202, ""),
            Err(Refused::Locked(why)) => answer(423, &why),
            Err(Refused::Failed(why)) => answer(500, &why),
        }
    }

    /// `POST /v1/update` (D-17).
    async fn update(&self, exchange: &mut Exchange<'_>) -> Answer {
        let failed = |status, message: &str| {
            let body = serde_json::json!({"status": "failed", "message": message});
            Answer::json(status, body.to_string().into_bytes())
        };
        let body = match exchange.body(limits::API_BODY_BYTES_MAX).await {
            Ok(body) => body,
            Err(BodyError::TooLarge) => return failed(413, "the body is too large"),
            Err(BodyError::Broken) => return failed(400, "the body is cut short"),
        };
        match answer::update_body(&body) {
            Err(message) => failed(400, &message),
            Ok((force, cancel)) => {
                if let Some(trigger) = &self.trigger {
                    let now = self.tools.clock.now();
                    self.tools.board.change(|board| {
                        board.is_asking = true;
                        let why = Some("the backend is asked for the target".into());
                        board.set_status(now, UpdateStatus::ApplyingChanges, why);
                    });
                    trigger.pull(Options { force, cancel });
                }
                Answer::empty(202)
            }
        }
    }
}

/// Whether a request is the legacy supervisor's where there is one: that one also knows the
/// first API, and its apps.
#[cfg(feature = "legacy")]
fn is_theirs(method: &str, path: &str) -> bool {
    match route(method, path) {
        Route::Unknown => true,
        Route::Power(_) | Route::WrongMethod(_) => ["/v1/reboot", "/v1/shutdown"].contains(&path),
        _ => false,
    }
}

fn options(query: &str, accept: Option<&str>) -> Result<Options, Answer> {
    let flags = answer::flags(query_pairs(query), &["force", "cancel"])
        .map_err(|detail| Answer::problem(400, accept, &detail, &[]))?;
    Ok(Options {
        force: flags[0],
        cancel: flags[1],
    })
}

/// Reads the body of a POST; warnings go to the log.
fn read_app(
    uuid: &str,
    body: &[u8],
    host: &HostFacts,
    accept: Option<&str>,
) -> Result<AppTarget, Answer> {
    match intake::app_target_for(uuid, body, &contract_facts(host)) {
        Ok(read) => {
            for warning in &read.warnings {
                log::warn!("app '{uuid}': {warning}");
            }
            Ok(read.value)
        }
        Err(AppRefusal::Syntax {
            message,
            line,
            column,
        }) => {
            let detail = format!(
                "Failed to parse the request body as JSON: {message} at line {line} column {column}"
            );
            Err(Answer::problem(400, accept, &detail, &[]))
        }
        Err(AppRefusal::Shape(refusals)) => {
            let first = refusals
                .first()
                .map(ToString::to_string)
                .unwrap_or_default();
            let detail =
                format!("Failed to deserialize the JSON body into the target type: {first}");
            let wrong = refusals.into_iter();
            let wrong: Vec<_> = wrong
                .map(|one| Wrong {
                    path: one.path,
                    message: one.reason,
                })
                .collect();
            Err(Answer::problem(422, accept, &detail, &wrong))
        }
    }
}

/// The keys that a request comes with (local-api 3.2).
fn given_keys<'e>(exchange: &'e Exchange<'_>) -> impl Iterator<Item = Cow<'e, str>> {
    let field = exchange.header("authorization").and_then(|value| {
        let (scheme, key) = value.split_once(' ')?;
        let known = ["bearer", "apikey"].iter();
        let is_known = known.clone().any(|one| one.eq_ignore_ascii_case(scheme));
        is_known.then_some(Cow::Borrowed(key))
    });
    let query = query_pairs(exchange.query());
    let asked = query.filter_map(|(name, value)| (name == "apikey").then_some(value));
    field.into_iter().chain(asked)
}

/// Takes the same time whatever the difference.
fn same(given: &str, key: &str) -> bool {
    let pairs = given.bytes().zip(key.bytes());
    let differ = pairs.fold(given.len() ^ key.len(), |sum, (a, b)| {
        sum | usize::from(a ^ b)
    });
    differ == 0
}
