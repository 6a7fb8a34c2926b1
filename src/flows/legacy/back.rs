//! Gives user apps back to the legacy supervisor after this agent ran them (D-08): what it made
//! for them goes, by the ordinary way and under update locks; volumes stay.

use std::sync::Arc;

use futures_lite::future;

use super::desk::Desk;
use crate::flows::seek::seeker::Options;
use crate::flows::seek::{self, Mailbox, events, local};
use crate::intake;
use crate::model::NetworkName;
use crate::model::status::UpdateStatus;
use crate::model::target::DeviceTarget;
use crate::plan::board::{Board, Part};
use crate::plan::work::{Cancel, Tools};

/// Says that user apps were this agent's. Written before the first of them is made.
const DOCUMENT: &str = "user-apps";
const WHY: &str = "user apps go back to the legacy supervisor";

/// Writes down that there will be something to give back.
pub async fn remember(tools: &Tools) {
    if !matches!(tools.store.get(DOCUMENT).await, Ok(Some(_)))
        && let Err(error) = tools.store.put(DOCUMENT, b"on").await
    {
        log::warn!("{error}");
    }
}

/// Gives them back, if there are any; `false`: it was stopped. What was begun goes on at the
/// next start. Nothing goes before there is a target to be handed on, with which the legacy
/// supervisor starts its own.
pub async fn give(desk: &Desk, tools: &Tools, mailbox: Arc<Mailbox>, stop: &Cancel) -> bool {
    let is_listed = tools.store.list("apps").await;
    let were_ours = matches!(tools.store.get(DOCUMENT).await, Ok(Some(_)));
    if !were_ours && is_listed.is_ok_and(|apps| apps.is_empty()) {
        return true;
    }
    let stopped = async {
        stop.wait().await;
        false
    };
    let offered = async {
        desk.offered(0).await;
        true
    };
    if !future::or(offered, stopped).await {
        return false;
    }
    log::info!("{WHY}: what this agent made for them is removed, their volumes stay");
    desk.say(
        &tools.board,
        tools.clock.now(),
        (UpdateStatus::ApplyingChanges, WHY),
    );
    // It is to find them where they are.
    forget_images(tools).await;
    let cancel = true;
    let options = Options {
        cancel,
        ..Options::default()
    };
    mailbox.remote(DeviceTarget::default(), options);
    if !until_gone(desk, tools, mailbox, stop).await {
        return false;
    }
    local::forget(tools).await;
    if let Err(error) = tools.store.delete(DOCUMENT).await {
        log::warn!("{error}");
    }
    tools.board.change(clear);
    log::info!("user apps are the legacy supervisor's");
    true
}

/// Runs what seeks a target without apps until nothing is left, or it is stopped.
async fn until_gone(desk: &Desk, tools: &Tools, mailbox: Arc<Mailbox>, stop: &Cancel) -> bool {
    let inner = Arc::new(Cancel::default());
    let gone = async {
        let (mut seen, mut asked, mut is_forced) = (0, 0, false);
        while !tools.board.look(is_gone) {
            let change = async { seen = tools.board.newer(seen).await };
            let wish = async { asked = desk.offered(asked).await };
            future::or(change, wish).await;
            if desk.is_forced() && !std::mem::replace(&mut is_forced, true) {
                mailbox.again(Options {
                    force: true,
                    cancel: false,
                });
            }
        }
        true
    };
    let stopped = async {
        stop.wait().await;
        false
    };
    let ended = async {
        let is_done = future::or(gone, stopped).await;
        inner.set();
        is_done
    };
    let watch = async {
        events::run(tools.clone()).await;
        future::pending().await
    };
    let seek = seek::run(tools.clone(), mailbox.clone(), inner.clone());
    future::zip(ended, future::or(seek, watch)).await.0
}

/// Whether nothing of ours is left but an app that this agent is a part of, and networks that
/// somebody else holds. An app is on the board until its lane has ended.
fn is_gone(board: &Board) -> bool {
    let mut apps = board.device.apps.iter();
    board.is_read
        && !board.is_preparing
        && apps.all(|(uuid, app)| {
            let is_held = |name: &NetworkName| {
                let part = Part::Network(uuid.clone(), name.clone());
                board.troubles.contains_key(&part)
            };
            let mut containers = app.containers.values();
            let has_own = containers.any(|found| board.marks.is_own(found));
            let has_held = !app.networks.is_empty() && app.networks.keys().all(is_held);
            has_own || intake::is_supervisor(uuid) || app.containers.is_empty() && has_held
        })
}

/// What was pulled is not clean-up's any more.
async fn forget_images(tools: &Tools) {
    for name in tools.store.list("pulled").await.unwrap_or_default() {
        if let Err(error) = tools.store.delete(&format!("pulled/{name}")).await {
            log::warn!("{error}");
        }
    }
}

/// User apps are none of ours, and the board knows nothing of them.
fn clear(board: &mut Board) {
    board.target = None;
    board.authorized = None;
    board.is_complete = false;
    board.lanes.clear();
    board.troubles.clear();
    board.device.apps.clear();
    board.device.images.clear();
    board.marks.legacy.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::backoff::Backoff;
    use crate::model::current::{App, Network};
    use crate::plan::board::Trouble;
    use std::time::Duration;

    #[test]
    fn d_08_given_back_means_that_nothing_of_ours_is_left() {
        let mut board = Board {
            is_read: true,
            ..Board::default()
        };
        assert!(is_gone(&board));
        board.is_preparing = true;
        assert!(!is_gone(&board), "not read yet");
        board.is_preparing = false;
        let network = Network {
            id: "n".into(),
            oci_name: "n_a1".into(),
            config: None,
        };
        let mut app = App::default();
        board.device.apps.insert("a1".into(), app.clone());
        assert!(!is_gone(&board), "its lane has not ended");
        app.networks.insert("n".into(), network);
        board.device.apps.insert("a1".into(), app);
        assert!(!is_gone(&board));
        let trouble = Trouble {
            said: "in use".into(),
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(1)),
            retry_at: Default::default(),
        };
        board
            .troubles
            .insert(Part::Network("a1".into(), "n".into()), trouble);
        assert!(is_gone(&board), "somebody else holds it");
        clear(&mut board);
        assert!(board.device.apps.is_empty() && board.troubles.is_empty());
    }
}
