//! The backend over `http`; implements [`world::remote`](crate::world::remote).
//!
//! # Invariants
//!
//! * The key is in a header and nowhere else: no log line, no error, no file name.
//! * A target is not kept in memory. The last one that could be read is in its
//!   cache file.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::base::hash;
use crate::base::percent::percent_encode_segment;
use crate::http::client::{Client, Endpoint, ErrorKind, Request, Response, Roots, Timeouts};
use crate::http::url::Url;
use crate::world::Pending;
use crate::world::clock::Clock;
use crate::world::remote::{Polled, Remote, RemoteError, RemoteKind};

mod cache;
pub mod manifest;
mod patience;
pub mod proxy;
pub mod register;
pub mod registry;
mod report;
mod retry_after;
mod target;

use patience::Patience;

/// One device's view of the backend.
pub struct Backend {
    client: Client,
    /// Whom to trust behind a redirect to https.
    roots: Box<Roots>,
    /// The endpoint's own path, which every route is below (R-URL-2).
    base: String,
    uuid: String,
    authorization: String,
    cache: PathBuf,
    /// The beginning of the key's hash: what is cached is for this device alone.
    whose: String,
    /// What goes with the next conditional request.
    known: Mutex<Known>,
    patience: Patience,
    /// The last document could be written down.
    is_kept: AtomicBool,
}

/// What is remembered of the last good poll.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Known {
    etag: Option<String>,
    /// Hash of the document, to tell a change from a new ETag (R-POLL-8).
    hash: Option<u64>,
}

impl Backend {
    /// A client for the device `uuid` with its `key`. `cache_dir` keeps the last target.
    #[must_use]
    pub fn new(
        url: &Url,
        endpoint: Endpoint,
        timeouts: Timeouts,
        (uuid, key): (&str, &str),
        cache_dir: &std::path::Path,
    ) -> Backend {
        let scheme = url.scheme();
        let poll_url = format!("{scheme}://{}{}", url.authority(), poll_path(url, uuid));
        Backend {
            client: Client::new(endpoint, timeouts),
            roots: Box::new(|| Err("a redirect leads to https".into())),
            base: url.path().to_owned(),
            uuid: uuid.to_owned(),
            authorization: format!("Bearer {key}"),
            cache: cache::file(cache_dir, &poll_url),
            whose: hash::sha256_hex(key.as_bytes())[..16].to_owned(),
            known: Mutex::new(Known::default()),
            patience: Patience::default(),
            is_kept: AtomicBool::new(true),
        }
    }

    /// With a way to find out whom to trust, should a redirect lead to https.
    #[must_use]
    pub fn with_roots(self, roots: Box<Roots>) -> Backend {
        Backend { roots, ..self }
    }

    /// With a clock, so that nobody is asked in vain while that is not set (FD-30).
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Backend {
        let patience = Patience(Some(clock));
        Backend { patience, ..self }
    }

    async fn exchange(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Response, RemoteError> {
        let mut fields = vec![("authorization", self.authorization.as_str())];
        fields.extend_from_slice(headers);
        let request = Request {
            method,
            target,
            headers: &fields,
            body,
            ..Request::default()
        };
        // Only what changes nothing is repeated elsewhere (R-HTTP-8).
        let response = loop {
            let response = match method {
                "GET" => self.client.get(request, &*self.roots).await,
                _ => self.client.send(request).await,
            };
            match response {
                Err(error) if self.patience.has_helped(&error).await => {}
                other => break other,
            }
        };
        response.map_err(|error| {
            let kind = match error.kind {
                ErrorKind::TooLarge => RemoteKind::Unreadable,
                _ => RemoteKind::Later(None),
            };
            RemoteError {
                kind,
                said: error.to_string(),
            }
        })
    }
}

fn poll_path(url: &Url, uuid: &str) -> String {
    format!(
        "{}/device/v3/{}/state",
        url.path(),
        percent_encode_segment(uuid)
    )
}

/// How long the server wants to be left alone: the first that can be read (R-POLL-2).
fn wish(response: &Response) -> Option<Duration> {
    let mut all = response.fields().all("retry-after");
    let now = crate::base::wall::secs();
    all.find_map(|value| {
        let value = std::str::from_utf8(value).ok()?;
        retry_after::parse(value, response.header("date"), now)
    })
}

/// What an answer that is no success means (remote-api 2.6, 3.3, R-POLL-3).
fn refusal(response: &Response) -> RemoteError {
    let status = response.status();
    let said = |what: &str| format!("the backend answers {status}{what}");
    let wish = || wish(response);
    match status {
        401 => RemoteError {
            kind: RemoteKind::Unauthorized,
            said: said(": the key is not good for this device"),
        },
        300..=399 => {
            let to = response.header("location").unwrap_or("nowhere");
            // A query may hold a key.
            let to = to.split('?').next().unwrap_or_default();
            let what = format!(" and points to {to}: the endpoint should be that one");
            RemoteError {
                kind: RemoteKind::Refused(status),
                said: said(&what),
            }
        }
        408 | 425 | 429 | 500..=599 => RemoteError {
            kind: RemoteKind::Later(wish()),
            said: said(""),
        },
        _ => RemoteError {
            kind: RemoteKind::Refused(status),
            said: said(""),
        },
    }
}

impl Remote for Backend {
    fn cached(&self) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(self.read_cached())
    }

    fn forget(&self) {
        self.forget_target();
    }

    fn doubt(&self) {
        self.forget_condition();
    }

    fn poll(&self) -> Pending<'_, Result<Polled, RemoteError>> {
        Box::pin(self.ask_for_target())
    }

    fn keep<'a>(&'a self, document: &'a [u8]) -> Pending<'a, ()> {
        Box::pin(self.keep_target(document))
    }

    fn report<'a>(&'a self, body: &'a [u8]) -> Pending<'a, Result<(), RemoteError>> {
        Box::pin(self.send_report(body))
    }
}
