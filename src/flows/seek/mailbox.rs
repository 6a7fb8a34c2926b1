//! Where targets are handed in.

use std::sync::Arc;

use super::seeker::Options;
use crate::base::latest::Latest;
use crate::base::map::Set;
use crate::model::AppUuid;
use crate::model::status::UpdateStatus;
use crate::model::target::{AppRelease, AppTarget, DeviceTarget};
use crate::plan::board::Board;
use crate::plan::work::Tools;

/// Where targets are handed in. Accepting one puts it on the board at once, so
/// that whoever was told "accepted" sees it, and that edits add up (W-11).
pub struct Mailbox {
    /// What was handed in since the driver looked last.
    pending: Latest<Option<(Options, bool)>>,
    tools: Tools,
}

impl Mailbox {
    /// A mailbox for the board of `tools`.
    #[must_use]
    pub fn new(tools: Tools) -> Mailbox {
        Mailbox {
            pending: Latest::new(None),
            tools,
        }
    }

    /// The backend's target. It names every app; local edits end with it.
    pub fn remote(&self, target: DeviceTarget, options: Options) {
        let was_overriding = self.tools.board.look(|board| {
            let known = board.target.as_ref();
            known.is_some_and(|target| target.knobs.override_lock)
        });
        // It acts at once (FD-05), on what runs already if that is all that is new.
        let overrides = target.knobs.override_lock && !was_overriding;
        let options = Options {
            cancel: options.cancel || overrides,
            force: options.force || overrides,
        };
        let changed = self.accept(|board| {
            authorize(board, &target);
            board.is_complete = true;
            board.deleted.clear();
            target
        });
        self.request(options, changed);
    }

    /// A target that was read from disk at the start: the backend's, if it is known,
    /// and the same with local edits.
    pub fn stored(
        &self,
        from_remote: Option<DeviceTarget>,
        target: DeviceTarget,
        deleted: Set<AppUuid>,
    ) {
        let changed = self.accept(|board| {
            if let Some(remote) = &from_remote {
                authorize(board, remote);
            }
            board.is_complete = from_remote.is_some();
            board.deleted = deleted;
            target
        });
        self.request(Options::default(), changed);
    }

    /// Replaces one app's target, or removes the app.
    pub fn edit(&self, uuid: &AppUuid, app: Option<AppTarget>, options: Options) {
        let changed = self.accept(|board| {
            let mut target = board.target.as_deref().cloned().unwrap_or_default();
            match app {
                Some(app) => {
                    board.deleted.remove(uuid);
                    target.apps.insert(uuid.clone(), app);
                }
                None => {
                    board.deleted.insert(uuid.clone());
                    target.apps.remove(uuid);
                }
            }
            target
        });
        self.request(options, changed);
    }

    /// The known target once more: read the engine, forget waiting times.
    pub fn again(&self, options: Options) {
        if self.tools.board.look(|board| board.target.is_some()) {
            self.request(options, false);
        }
    }

    /// A document that is no target at all: what runs goes on (target-state 1.3).
    pub fn refused(&self, why: &str) {
        let now = self.tools.clock.now();
        self.tools.board.change(|board| {
            board.refused = Some(why.into());
            board.set_status(now, UpdateStatus::Rejected, board.refused.clone());
        });
    }

    fn accept(&self, set: impl FnOnce(&mut Board) -> DeviceTarget) -> bool {
        let now = self.tools.clock.now();
        self.tools.board.change(|board| {
            let target = set(board);
            let known = board.target.as_deref();
            let is_same = known.is_some_and(|known| is_same_work(known, &target));
            if known != Some(&target) {
                // A changed target resets every waiting time (D-19).
                board.troubles.clear();
                board.target = Some(Arc::new(target));
            }
            board.is_preparing = true;
            board.refused = None;
            // Before the caller answers its client (D-17).
            board.set_status(
                now,
                UpdateStatus::ApplyingChanges,
                Some("a target came in".into()),
            );
            !is_same
        })
    }

    /// What was handed in since the driver looked last, and whether the target changed.
    pub(super) async fn next(&self) -> (Options, bool) {
        self.pending.take().await
    }

    fn request(&self, options: Options, changed: bool) {
        self.pending.change(|pending| {
            let (before, was_changed) = pending.unwrap_or_default();
            *pending = Some((before.or(options), was_changed || changed));
        });
    }
}

/// Whether a target asks for what is being done already. An override that ended is not that.
fn is_same_work(known: &DeviceTarget, target: &DeviceTarget) -> bool {
    let DeviceTarget {
        name,
        knobs,
        apps,
        host,
        refused_hosts,
        supervisor,
    } = known;
    (name, apps, host) == (&target.name, &target.apps, &target.host)
        && (refused_hosts, supervisor) == (&target.refused_hosts, &target.supervisor)
        && (target.knobs.override_lock || !knobs.override_lock)
}

/// Notes what the backend may be told about.
fn authorize(board: &mut Board, target: &DeviceTarget) {
    let supervisor = target.supervisor.as_ref();
    let host = target.host.as_ref();
    let apps = target.apps.keys().chain(supervisor.map(|app| &app.app));
    let apps = apps.chain(host.map(|host| &host.app));
    board.authorized = Some(apps.cloned().collect());
    let releases = target.apps.values().filter_map(|app| match &app.release {
        AppRelease::None => None,
        AppRelease::Wanted(uuid, _) => Some(uuid),
        AppRelease::Rejected(rejection) => rejection.release.as_ref(),
    });
    if board.known_releases.len() > KNOWN_RELEASES_MAX {
        // Those that still run go on being reported.
        let apps = &board.device.apps;
        board.known_releases.retain(|release| {
            let mut all = apps.values().flat_map(|app| app.containers.values());
            all.any(|container| container.release == *release)
        });
    }
    let own = supervisor.map(|app| &app.release).into_iter();
    let own = own.chain(host.map(|host| &host.release));
    board.known_releases.extend(releases.chain(own).cloned());
}

/// Releases that are remembered as known to the backend; then only those that run.
const KNOWN_RELEASES_MAX: usize = 64;
