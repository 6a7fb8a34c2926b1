//! What the legacy supervisor gets as its target, and whether it came for it (R-INT-1 to
//! R-INT-5). The document itself stays in the backend's cache on disk.

use std::sync::{Arc, OnceLock};

use crate::base::hash;
use crate::base::latest::Latest;
use crate::base::lock::lock;
use crate::base::uptime::Uptime;
use crate::flows::poll::Taker;
use crate::flows::seek::seeker::Options;
use crate::model::status::UpdateStatus;
use crate::plan::board::Board;
use crate::plan::host;
use crate::world::Pending;
use crate::world::remote::Remote;

/// Where a target is laid out for the legacy supervisor, and where it comes to fetch it.
#[derive(Default)]
pub struct Desk {
    /// Where the document can be read again.
    remote: OnceLock<Arc<dyn Remote>>,
    offers: Latest<Option<Offer>>,
    shown: std::sync::Mutex<Shown>,
    /// What the device's status is by the legacy supervisor's word.
    said: std::sync::Mutex<(UpdateStatus, Option<Arc<str>>)>,
    /// User apps are this agent's, and so is the status.
    is_ours: bool,
    /// Changes when the legacy supervisor has applied what is laid out.
    applied: Latest<()>,
}

/// A target for the legacy supervisor. Its document is another one than before, or the
/// same once more.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// The hash of the document, where there is a new one.
    pub hash: Option<u64>,
    /// The document, where it could not be written down.
    pub(super) held: Option<Arc<[u8]>>,
    /// What is wished with it.
    pub options: Options,
}

#[derive(Default)]
struct Shown {
    /// The document's hash; none while there is nothing to be fetched.
    hash: Option<u64>,
    held: Option<Arc<[u8]>>,
    /// What was fetched last.
    fetched: Option<u64>,
}

/// What whoever comes for the target gets.
#[derive(Debug, PartialEq, Eq)]
pub enum Fetched {
    /// There is none yet.
    Nothing,
    /// The one that it has; with its ETag.
    Unchanged(String),
    /// The document, and its ETag.
    Document(String, Vec<u8>),
}

impl Desk {
    /// A desk; `is_ours`: user apps are this agent's (D-08).
    #[must_use]
    pub fn new(is_ours: bool) -> Desk {
        Desk {
            is_ours,
            ..Desk::default()
        }
    }

    /// Whether user apps are this agent's (D-08).
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Hands in a document that is none of the backend's, to be held here. The same as before
    /// is news only where it is to be forced.
    pub(super) fn lay(&self, document: Arc<[u8]>, options: Options) {
        let hash = hash::short(&document);
        if self.shown() == Some(hash) && !options.force {
            return;
        }
        self.offers.change(|offers| {
            let before = offers.take().map(|offer| offer.options);
            *offers = Some(Offer {
                hash: Some(hash),
                held: Some(document),
                options: before.unwrap_or_default().or(options),
            });
        });
    }

    /// Says where documents are kept. Once.
    pub fn set_remote(&self, remote: Arc<dyn Remote>) {
        let _ = self.remote.set(remote);
    }

    /// Hands in a new document. It was given to the cache before; where that failed, it is
    /// held here.
    async fn offer(&self, document: &Arc<[u8]>, options: Options) {
        let hash = hash::short(document);
        let cached = self.cached().await;
        let is_cached = cached.is_some_and(|cached| hash::short(&cached) == hash);
        let held = (!is_cached).then(|| document.clone());
        self.came_in();
        self.offers.change(|offers| {
            let before = offers.take().map(|offer| offer.options);
            *offers = Some(Offer {
                hash: Some(hash),
                held,
                options: before.unwrap_or_default().or(options),
            });
        });
    }

    /// From now on nothing is done, whoever asks before the driver has looked at it (D-17).
    fn came_in(&self) {
        *lock(&self.said) = (
            UpdateStatus::ApplyingChanges,
            Some("a target came in".into()),
        );
    }

    /// Ends when something was handed in since the one of this number, whose number it returns;
    /// it stays where it is.
    pub(super) async fn offered(&self, seen: u64) -> u64 {
        self.offers.newer(seen).await
    }

    /// Whether what was handed in and waits is to be forced.
    pub(super) fn is_forced(&self) -> bool {
        let forced = |offer: &Option<Offer>| offer.as_ref().is_some_and(|it| it.options.force);
        self.offers.look(forced)
    }

    /// What was handed in since this was asked last. For one taker.
    pub(super) async fn next(&self) -> Offer {
        self.offers.take().await
    }

    /// Lays this one out.
    pub(super) fn show(&self, offer: Offer) {
        let mut shown = lock(&self.shown);
        if let Some(hash) = offer.hash {
            (shown.hash, shown.held) = (Some(hash), offer.held);
        }
    }

    /// The hash of the document that is laid out.
    pub(super) fn shown(&self) -> Option<u64> {
        lock(&self.shown).hash
    }

    /// Whether the document that is laid out was fetched.
    pub(super) fn is_fetched(&self) -> bool {
        let shown = lock(&self.shown);
        shown.hash.is_some() && shown.fetched == shown.hash
    }

    /// Whether there is anything to be fetched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown().is_none()
    }

    /// Fetches the target, unless `known`, the value of an `If-None-Match`, names it.
    pub async fn fetch(&self, known: Option<&str>) -> Fetched {
        let Some(hash) = self.shown() else {
            return Fetched::Nothing;
        };
        if known.is_some_and(|known| names(known, hash)) {
            lock(&self.shown).fetched = Some(hash);
            return Fetched::Unchanged(etag(hash));
        }
        let Some(document) = self.document().await else {
            log::warn!("the target for the legacy supervisor cannot be read any more");
            return Fetched::Nothing;
        };
        // A newer one may have been written meanwhile: that is the one it gets.
        let hash = hash::short(&document);
        let mut shown = lock(&self.shown);
        (shown.hash, shown.fetched) = (Some(hash), Some(hash));
        drop(shown);
        Fetched::Document(etag(hash), document)
    }

    /// The document that is laid out, or a newer one.
    pub(super) async fn document(&self) -> Option<Vec<u8>> {
        let held = lock(&self.shown).held.clone();
        match held {
            Some(held) => Some(held.to_vec()),
            None => self.cached().await,
        }
    }

    /// The legacy supervisor has applied what is laid out.
    pub(super) fn is_applied(&self) {
        self.applied.change(|()| ());
    }

    /// Ends when it has, after the time of this number; the number of this time.
    pub(super) async fn applied(&self, seen: u64) -> u64 {
        self.applied.newer(seen).await
    }

    pub(super) async fn cached(&self) -> Option<Vec<u8>> {
        self.remote.get()?.cached().await
    }

    /// What the device's status is from now on.
    pub(super) fn say(&self, board: &Latest<Board>, now: Uptime, what: (UpdateStatus, &str)) {
        if self.is_ours {
            return log::debug!("the legacy supervisor: {} {}", what.0.as_str(), what.1);
        }
        let (status, why) = what;
        let why = Some(why).filter(|why| !why.is_empty()).map(Arc::from);
        *lock(&self.said) = (status, why);
        self.show_status(board, now);
    }

    /// Puts it on the board; nobody waits for the backend any more.
    fn show_status(&self, board: &Latest<Board>, now: Uptime) {
        board.change_if(|board| std::mem::take(&mut board.is_asking));
        self.show_parts(board, now);
    }

    /// The legacy supervisor's part, and the host's (D-18).
    fn show_parts(&self, board: &Latest<Board>, now: Uptime) {
        let (mut status, mut why) = lock(&self.said).clone();
        let mut became = None;
        board.change_if(|board| {
            if board.is_asking {
                return false;
            }
            let is_busy = status == UpdateStatus::ApplyingChanges;
            let was_busy = std::mem::replace(&mut board.host.is_beside_busy, is_busy);
            if status == UpdateStatus::Done
                && let Some(of_host) = host::status(board)
            {
                (status, why) = (of_host.0, Some(of_host.1));
            }
            let before = board.status;
            let is_other = board.set_status(now, status, why.clone());
            became = (is_other && before != status).then_some(status);
            is_other || was_busy != is_busy
        });
        if let Some(status) = became {
            let why = why.map(|why| format!(": {why}")).unwrap_or_default();
            log::info!("status: {}{why}", status.as_str());
        }
    }
}

impl Taker for Desk {
    fn take<'a>(&'a self, document: &'a Arc<[u8]>, options: Options) -> Pending<'a, ()> {
        Box::pin(self.offer(document, options))
    }

    fn again(&self, options: Options) {
        self.came_in();
        self.offers.change(|offers| {
            let offer = offers.get_or_insert_default();
            offer.options = offer.options.or(options);
        });
    }

    fn answered(&self, board: &Latest<Board>, now: Uptime) {
        self.show_status(board, now);
    }

    fn changed(&self, board: &Latest<Board>, now: Uptime) {
        self.show_parts(board, now);
    }
}

fn etag(hash: u64) -> String {
    format!("\"{hash:016x}\"")
}

/// Whether an `If-None-Match` names it (RFC 9110 13.1.2).
fn names(known: &str, hash: u64) -> bool {
    let etag = etag(hash);
    let mut tags = known.split(',').map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_int_1_an_if_none_match_is_a_list() {
        let tag = etag(10);
        assert_eq!(tag, "\"000000000000000a\"");
        for known in [&tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
            assert!(names(known, 10), "{known}");
        }
        for known in ["", "\"x\"", "000000000000000a", &etag(11)] {
            assert!(!names(known, 10), "{known}");
        }
    }
}
