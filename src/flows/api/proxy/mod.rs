//! What is none of ours is passed on: the legacy supervisor's calls to the backend, and
//! everybody else's to the legacy supervisor (remote-api 7, local-api 1.9). Nothing is
//! buffered: a piece is read when the one before it was taken.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use futures_lite::future;

use super::{given_keys, same};
use crate::base::hash;
use crate::base::lock::lock;
use crate::base::uptime::Uptime;
use crate::flows::legacy::desk::{Desk, Fetched};
use crate::flows::legacy::transfer::without_apps;
use crate::http::body::Body;
use crate::http::client::{Client, Piece, Request, Response, Source};
use crate::http::gzip::BadGzip;
use crate::http::head::{Fields, decimal, put_field};
use crate::http::server::{BodyError, Error, ErrorKind, Exchange};
use crate::limits;
use crate::world::clock::Clock;
use crate::world::legacy::Legacy;

pub mod caller;
pub mod coded;
pub mod fields;

use caller::{Errand, bearer, errand};
use fields::{end_to_end, has_passed};

const ALLOWED: &str = "GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS";

/// A server that requests are passed on to.
pub struct Upstream {
    /// Its client, with the time limits of R-PRX-4.
    pub client: Client,
    /// What each of its paths begins with (R-URL-2).
    pub base: String,
}

/// Stands between the legacy supervisor and everybody else.
pub struct Proxy {
    /// This device's uuid.
    pub uuid: String,
    /// This device's key at the backend, once it is known (second).
    pub account: Arc<OnceLock<(String, String)>>,
    /// What the legacy supervisor gets as its target.
    pub desk: Arc<Desk>,
    /// The backend, if there is one.
    pub cloud: Option<Upstream>,
    /// The legacy supervisor.
    pub legacy: Upstream,
    /// The same, where we ask ourselves.
    pub supervisor: Arc<dyn Legacy>,
    /// For how long a verdict counts.
    pub clock: Arc<dyn Clock>,
    /// Our name in `Via`.
    via: String,
    /// Requests that are being passed on.
    passing: AtomicUsize,
    /// Somebody was refused before: that is said once, and not whenever somebody likes.
    has_refused: AtomicBool,
    /// Its last verdict on a key: the key's hash, the verdict, and until when it counts.
    verdict: Mutex<Option<(u64, bool, Uptime)>>,
}

/// What differs from one request that is passed on to another.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    None,
    /// Its sender takes the seconds of `Retry-After` for milliseconds (R-PRX-7).
    NoRetryAfter,
}

impl Proxy {
    /// A proxy of the device `uuid`.
    #[must_use]
    pub fn new(
        uuid: &str,
        desk: Arc<Desk>,
        (cloud, legacy): (Option<Upstream>, Upstream),
        supervisor: Arc<dyn Legacy>,
        clock: Arc<dyn Clock>,
    ) -> Proxy {
        Proxy {
            via: format!("helios-{:016x}", hash::short(uuid.as_bytes())),
            uuid: uuid.to_owned(),
            account: Arc::default(),
            desk,
            cloud,
            legacy,
            supervisor,
            clock,
            passing: AtomicUsize::new(0),
            has_refused: AtomicBool::new(false),
            verdict: Mutex::default(),
        }
    }

    /// The same, with where the device's key will be found.
    #[must_use]
    pub fn with_account(mut self, account: Arc<OnceLock<(String, String)>>) -> Proxy {
        self.account = account;
        self
    }

    /// Whether the legacy supervisor takes the key that this request comes with (R-SEC-3).
    pub async fn admits(&self, exchange: &Exchange<'_>) -> bool {
        let Some(key) = given_keys(exchange).next() else {
            return false;
        };
        let (now, mark) = (self.clock.now(), hash::short(key.as_bytes()));
        if let Some((known, verdict, until)) = *lock(&self.verdict)
            && known == mark
            && now < until
        {
            return verdict;
        }
        match self.supervisor.accepts(&key).await {
            Ok(verdict) => {
                let until = now + limits::LEGACY_KEY_MEMORY;
                *lock(&self.verdict) = Some((mark, verdict, until));
                verdict
            }
            Err(error) => {
                log::debug!("a key cannot be judged: {error}");
                false
            }
        }
    }

    /// Answers a request that is none of ours.
    pub async fn pass(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        match exchange.method() {
            "TRACE" => return say(exchange, 405, "The method is not allowed").await,
            "OPTIONS" if exchange.path() == "*" || exchange.header("max-forwards") == Some("0") => {
                return exchange.respond(200, &[("Allow", ALLOWED)], b"").await;
            }
            _ => {}
        }
        if has_passed(exchange.fields(), &self.via) {
            log::warn!("a request came back to us and is refused: the proxy calls itself");
            return say(exchange, 508, "The request goes round in circles").await;
        }
        let (method, path) = (exchange.method(), exchange.path());
        match errand(exchange.fields(), method, path, &self.uuid) {
            Errand::Legacy => self.forward(exchange, &self.legacy, Care::None, None).await,
            Errand::Target => self.target(exchange).await,
            errand => self.outwards(exchange, errand).await,
        }
    }

    /// Whether it comes with this device's own key (D-26).
    fn is_device(&self, exchange: &Exchange<'_>) -> bool {
        let known = self.account.get().map(|(_, key)| key);
        let given = bearer(exchange.fields());
        matches!((known, given), (Some(known), Some(given)) if same(given, known))
    }

    /// The target, for the legacy supervisor (R-INT-1 to R-INT-5).
    async fn target(&self, exchange: &mut Exchange<'_>) -> Result<(), Error> {
        if self.desk.is_empty() {
            return later(exchange, limits::PROXY_NO_TARGET_RETRY_SECS).await;
        }
        if !self.is_device(exchange) {
            return self
                .refuse(exchange, "this device's key asked for its target")
                .await;
        }
        let known = exchange.header("if-none-match").map(str::to_owned);
        match self.desk.fetch(known.as_deref()).await {
            Fetched::Nothing => later(exchange, limits::PROXY_NO_TARGET_RETRY_SECS).await,
            Fetched::Unchanged(etag) => exchange.respond(304, &[("ETag", &etag)], b"").await,
            Fetched::Document(etag, document) => {
                let kind = ("Content-Type", "application/json");
                let fields = [kind, ("ETag", &etag)];
                exchange.respond(200, &fields, &document).await
            }
        }
    }

    /// What the legacy supervisor asks of the backend.
    async fn outwards(&self, exchange: &mut Exchange<'_>, errand: Errand) -> Result<(), Error> {
        let Some(cloud) = &self.cloud else {
            return later(exchange, limits::PROXY_NO_CLOUD_RETRY_SECS).await;
        };
        let (admitted, care) = match errand {
            Errand::Report => (self.is_device(exchange), Care::NoRetryAfter),
            // Whose key it is, the backend knows; ours is never added (R-SEC-2).
            _ => (exchange.header("authorization").is_some(), Care::None),
        };
        if !admitted {
            return self
                .refuse(exchange, "a key called as the legacy supervisor")
                .await;
        }
        if errand == Errand::Report && self.desk.is_ours() {
            return Box::pin(self.report(exchange, cloud)).await;
        }
        self.forward(exchange, cloud, care, None).await
    }

    /// Its report, without the apps: those are ours to report (D-24).
    async fn report(&self, exchange: &mut Exchange<'_>, cloud: &Upstream) -> Result<(), Error> {
        let coding = exchange.header("content-encoding").unwrap_or_default();
        let is_coded = match &*coding.to_ascii_lowercase() {
            "" | "identity" => false,
            "gzip" | "x-gzip" => true,
            _ => {
                log::warn!("a report of the legacy supervisor is refused: neither plain nor gzip");
                let known = [("Accept-Encoding", "gzip")];
                return exchange.respond(415, &known, b"").await;
            }
        };
        let max = limits::PROXY_REPORT_BYTES_MAX;
        let body = match exchange.body(max).await {
            // As with the backend the limit is that of what it means.
            Ok(body) if is_coded => coded::plain(&body, max),
            Ok(body) => Ok(Some(body)),
            Err(BodyError::TooLarge) => Ok(None),
            Err(BodyError::Broken) => Err(BadGzip),
        };
        let body = match body {
            Ok(Some(body)) => body,
            Ok(None) => return say(exchange, 413, "The report is too long").await,
            Err(BadGzip) => {
                return say(exchange, 400, "The body is cut short or malformed").await;
            }
        };
        match without_apps(&body, &self.uuid) {
            Ok(Some(rest)) => {
                drop(body);
                self.forward(exchange, cloud, Care::NoRetryAfter, Some(rest.as_bytes()))
                    .await
            }
            Ok(None) => exchange.respond(200, &[], b"").await,
            Err(_) => say(exchange, 400, "The report is no JSON").await,
        }
    }

    async fn refuse(&self, exchange: &mut Exchange<'_>, what: &str) -> Result<(), Error> {
        let level = match self.has_refused.swap(true, Relaxed) {
            true => log::Level::Debug,
            false => log::Level::Warn,
        };
        log::log!(level, "somebody without {what} and was refused");
        say(exchange, 401, "Unauthorized").await
    }

    async fn forward(
        &self,
        exchange: &mut Exchange<'_>,
        to: &Upstream,
        care: Care,
        body: Option<&[u8]>,
    ) -> Result<(), Error> {
        let Some(_passing) = Passing::begin(&self.passing) else {
            return later(exchange, limits::PROXY_BUSY_RETRY_SECS).await;
        };
        // On its own: what it needs is let go of before a long answer is passed on.
        let response = match Box::pin(self.ask(exchange, to, body)).await {
            Ok(Some(response)) => response,
            // Nobody is there to be answered.
            Ok(None) => return Err(Error::new(ErrorKind::Canceled, "the client is gone")),
            Err(Failure::Client(error)) => {
                say(exchange, 400, "The body is cut short or malformed").await?;
                return Err(error);
            }
            Err(Failure::Server(error)) => {
                log::debug!("passing on {}: {error}", exchange.path());
                let (status, why) = failure(&error);
                return say(exchange, status, why).await;
            }
        };
        if response.status() == 101 {
            return switch(exchange, response).await;
        }
        relay(exchange, response, care).await
    }

    /// Sends the request, with this body or the client's own; `None` when the client went away
    /// meanwhile.
    async fn ask(
        &self,
        exchange: &mut Exchange<'_>,
        to: &Upstream,
        body: Option<&[u8]>,
    ) -> Result<Option<Response>, Failure> {
        let method = exchange.method().to_owned();
        let target = match (to.base.as_str(), exchange.target()) {
            ("", target) => target.into_owned(),
            (base, target) => format!("{base}{target}"),
        };
        let lines = self.lines(exchange, body.is_some());
        let is_whole = body.is_some() || exchange.framing() == Body::None;
        let upgrade = (is_whole && exchange.is_upgrade()).then(|| exchange.header("upgrade"));
        let upgrade = upgrade.flatten().map(str::to_owned);
        let mut headers = Vec::new();
        if let Some(upgrade) = upgrade.as_deref() {
            headers.extend([("Connection", "upgrade"), ("Upgrade", upgrade)]);
        }
        if exchange.expects_continue() {
            headers.push(("Expect", "100-continue"));
        }
        let request = Request {
            method: &method,
            target: &target,
            headers: &headers,
            lines: Some(&lines),
            body,
            ..Request::default()
        };
        if is_whole {
            let gone = async {
                exchange.gone().await;
                None
            };
            let sent = async { Some(to.client.send(request).await) };
            let sent = future::or(sent, gone).await.transpose();
            return sent.map_err(Failure::Server);
        }
        let length = match exchange.framing() {
            Body::Length(length) => Some(length),
            _ => None,
        };
        let mut body = RequestBody {
            exchange,
            is_broken: false,
        };
        let sent = to.client.send_from(request, length, &mut body).await;
        match sent {
            Ok(response) => Ok(Some(response)),
            Err(error) if body.is_broken => Err(Failure::Client(error)),
            Err(error) => Err(Failure::Server(error)),
        }
    }

    /// The request's field lines as they are passed on; `is_ours`: with a body of ours, which
    /// has no coding.
    fn lines(&self, exchange: &Exchange<'_>, is_ours: bool) -> Vec<u8> {
        let is_counted = exchange.method() == "OPTIONS";
        let hops = is_counted.then(|| exchange.header("max-forwards"));
        let hops: Option<u32> = hops.flatten().and_then(|hops| hops.parse().ok());
        let without: &[&str] = match (hops, is_ours) {
            (Some(_), _) => &["expect", "max-forwards"],
            (None, true) => &["expect", "content-encoding"],
            (None, false) => &["expect"],
        };
        let mut lines = end_to_end(exchange.fields(), without);
        if let Some(hops) = hops {
            put_field(&mut lines, "Max-Forwards", hops.saturating_sub(1));
        }
        let version = if exchange.is_http10() { "1.0" } else { "1.1" };
        put_field(&mut lines, "Via", format_args!("{version} {}", self.via));
        lines
    }
}

/// One of the requests that are passed on at once.
struct Passing<'p>(&'p AtomicUsize);

impl Passing<'_> {
    fn begin(count: &AtomicUsize) -> Option<Passing<'_>> {
        let passing = Passing(count);
        let others = count.fetch_add(1, Relaxed);
        (others < limits::PROXY_REQUESTS_MAX).then_some(passing)
    }
}

impl Drop for Passing<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Whose fault it is.
enum Failure {
    Client(Error),
    Server(Error),
}

/// A client's body on its way, and whether it broke.
struct RequestBody<'e, 'c> {
    exchange: &'e mut Exchange<'c>,
    is_broken: bool,
}

impl Source for RequestBody<'_, '_> {
    fn next(&mut self) -> Piece<'_> {
        Box::pin(async {
            let next = self.exchange.chunk().await;
            self.is_broken = next.is_err();
            let broken = |_| Error::new(ErrorKind::Closed, "a client did not send its whole body");
            next.map_err(broken)
        })
    }
}

/// Passes an answer on as it comes (R-PRX-2, R-PRX-8).
async fn relay(
    exchange: &mut Exchange<'_>,
    mut response: Response,
    care: Care,
) -> Result<(), Error> {
    let status = response.status();
    let mut without: &[&str] = &[];
    if care == Care::NoRetryAfter && matches!(status, 429 | 503) {
        if let Some(wish) = response.header("retry-after") {
            log::info!("the legacy supervisor is not told to retry after {wish} s: it would not");
        }
        without = &["retry-after"];
    }
    let lines = end_to_end(response.fields(), without);
    let length = match response.framing() {
        Body::Length(length) => Some(length),
        // What there is none of has a length all the same: the answer to a HEAD.
        Body::None => said_length(response.fields()),
        _ => None,
    };
    // What has come with the head goes with it.
    let first = match future::poll_once(response.chunk()).await {
        Some(Ok(piece)) => piece.unwrap_or_default(),
        Some(Err(error)) => {
            let (status, why) = failure(&error);
            return say(exchange, status, why).await;
        }
        None => &[],
    };
    exchange.relay(status, &lines, length, first).await?;
    drop(lines);
    loop {
        let next = {
            let piece = async { Some(response.chunk().await) };
            let gone = async {
                exchange.gone().await;
                None
            };
            future::or(piece, gone).await
        };
        match next {
            Some(Ok(Some(piece))) => exchange.write(piece).await?,
            Some(Ok(None)) => return Ok(()),
            // The client sees it break, and not end (RFC 9112 8).
            Some(Err(error)) => return Err(error),
            None => return Err(Error::new(ErrorKind::Canceled, "the client is gone")),
        }
    }
}

fn said_length(fields: Fields<'_>) -> Option<u64> {
    decimal(fields.all("content-length").next()?).ok()
}

/// Both sides leave HTTP.
async fn switch(exchange: &mut Exchange<'_>, response: Response) -> Result<(), Error> {
    let mut lines = end_to_end(response.fields(), &[]);
    let to = response.header("upgrade").unwrap_or_default();
    put_field(&mut lines, "Upgrade", to);
    let Some(tunnel) = response.into_tunnel() else {
        return say(exchange, 502, "Target connection failed: no upgrade").await;
    };
    exchange.switch(&lines, tunnel).await
}

/// What a caller is told (PX-05, D-26): no URL, and nothing that the backend's own proxy
/// would not let through (remote-api 6).
fn failure(error: &Error) -> (u16, &'static str) {
    match error.kind {
        ErrorKind::Resolve => (502, "Target connection failed: its name has no address"),
        ErrorKind::Connect => (502, "Target connection failed: nobody answers there"),
        ErrorKind::Tls | ErrorKind::NotYet => (502, "Target connection failed: it is not secure"),
        ErrorKind::Timeout => (504, "Target connection failed: it takes too long"),
        ErrorKind::Closed => (502, "Target connection failed: it was closed"),
        ErrorKind::BadMessage | ErrorKind::TooLarge => {
            (502, "Target connection failed: the answer is no HTTP")
        }
        ErrorKind::Canceled => (503, "Target connection failed: this agent is stopping"),
        ErrorKind::Invalid => (400, "Invalid target URI: it cannot be passed on"),
    }
}

async fn say(exchange: &mut Exchange<'_>, status: u16, text: &str) -> Result<(), Error> {
    let kind = [("Content-Type", "text/plain; charset=utf-8")];
    exchange.respond(status, &kind, text.as_bytes()).await
}

async fn later(exchange: &mut Exchange<'_>, seconds: u32) -> Result<(), Error> {
    let seconds: Cow<'_, str> = seconds.to_string().into();
    exchange
        .respond(503, &[("Retry-After", &seconds)], b"")
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn px_05_r_prx_6_what_we_say_passes_the_backends_filter() {
        let kinds = [
            (ErrorKind::Resolve, 502),
            (ErrorKind::Connect, 502),
            (ErrorKind::Tls, 502),
            (ErrorKind::NotYet, 502),
            (ErrorKind::Timeout, 504),
            (ErrorKind::Closed, 502),
            (ErrorKind::BadMessage, 502),
            (ErrorKind::TooLarge, 502),
            (ErrorKind::Canceled, 503),
            (ErrorKind::Invalid, 400),
        ];
        for (kind, want) in kinds {
            let (status, text) = failure(&Error::new(kind, "https://secret.example/?apikey=k"));
            assert_eq!(status, want);
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b" :'.?!,/-".contains(&byte);
            assert!(text.bytes().all(fits), "{text}");
        }
    }
}
