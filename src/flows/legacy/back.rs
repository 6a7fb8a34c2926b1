//! Gives user apps back to the legacy supervisor after this agent ran them (D-08): what it made
//! for them goes, by the ordinary way and under update locks; volumes stay. Images stay until it
//! has applied its target: what it found of them is its own, what nobody uses is removed.

use std::sync::Arc;

use futures_lite::future;

use super::desk::Desk;
use crate::base::map::Set;
use crate::flows::contract_facts;
use crate::flows::seek::seeker::Options;
use crate::flows::seek::{self, Mailbox, events, local};
use crate::intake;
use crate::limits;
use crate::model::status::UpdateStatus;
use crate::model::target::{AppRelease, DeviceTarget};
use crate::model::{ImageUri, NetworkName};
use crate::plan::board::{Board, Part};
use crate::plan::sweep::{self, Left};
use crate::plan::work::{Cancel, Tools};

/// Says that user apps were this agent's. Written before the first of them is made.
const DOCUMENT: &str = "user-apps";
const WHY: &str = "user apps go back to the legacy supervisor";

/// Writes down that there will be something to give back.
pub async fn remember(tools: &Tools) {
    sweep::take_back(tools).await;
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
    // It is to find its images where they are.
    sweep::lend(tools).await;
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

/// Removes the images that came by this agent and that the legacy supervisor has no use for,
/// each time that it has applied its target, and again where that failed. Ends when there is none left.
pub async fn clean(desk: &Desk, tools: &Tools) {
    let (mut seen, mut left) = (0, Left::InUse);
    while left != Left::Nothing {
        let again = async {
            match left {
                Left::Failed => {
                    tools
                        .clock
                        .sleep_until(tools.clock.now() + limits::COMPARE_INTERVAL)
                        .await
                }
                _ => future::pending().await,
            }
            seen
        };
        seen = future::or(desk.applied(seen), again).await;
        left = match images_of(desk, tools).await {
            Some(wanted) => sweep::drop_lent(tools, &wanted).await,
            None => Left::InUse,
        };
    }
}

/// Every image of the legacy supervisor's target; `None`: not all of it can be read here.
async fn images_of(desk: &Desk, tools: &Tools) -> Option<Set<ImageUri>> {
    let document = desk.document().await?;
    let (uuid, facts) = (&tools.facts.uuid, contract_facts(&tools.facts));
    let read = intake::device_target_for(&document, uuid, &facts).ok()?;
    let mut apps = read.value.apps.values();
    let is_refused = apps.any(|app| matches!(app.release, AppRelease::Rejected(_)));
    (read.passed_over.is_empty() && !is_refused).then(|| sweep::wanted(&read.value))
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

    use crate::flows::legacy::{self, Handing};
    use crate::flows::poll::Taker as _;
    use crate::flows::tests::{document, live, tools};
    use crate::sim::world::World;
    use crate::world::Pending;
    use crate::world::clock::Clock as _;
    use crate::world::legacy::{Legacy, LegacyError, Told};
    use serde_json::json;

    /// It fetches its target whenever it is asked how far it is.
    struct Willing(Arc<Desk>);

    impl Legacy for Willing {
        fn update(&self, _: bool, _: bool) -> Pending<'_, Result<Told, LegacyError>> {
            Box::pin(async { Ok(Told::Accepted) })
        }

        fn is_applied(&self) -> Pending<'_, Result<bool, LegacyError>> {
            Box::pin(async {
                self.0.fetch(None).await;
                Ok(true)
            })
        }

        fn accepts<'a>(&'a self, _: &'a str) -> Pending<'a, Result<bool, LegacyError>> {
            Box::pin(async { Ok(true) })
        }
    }

    /// The images that are left, and how many of them are written down as ours or as lent, after
    /// the legacy supervisor has applied a target with these services.
    fn left(services: &serde_json::Value) -> (Vec<String>, usize) {
        let world = World::new(1);
        let (tools, desk) = (tools(&world), Arc::new(Desk::new(false)));
        desk.set_remote(Arc::new(world.clone()));
        let uris = ["web:1", "old:1", "registry.example/inherited:1"];
        let uris = uris.map(|name| ImageUri::parse(name).unwrap());
        world.with(|state| {
            state.inherit("its_container", "A", "web", None);
            state
                .engine
                .add_image(&ImageUri::parse("loaded:1").unwrap());
            for uri in &uris {
                state.engine.add_image(uri);
                state.engine.pulled.insert(uri.clone());
            }
        });
        let handing = Handing {
            legacy: Arc::new(Willing(desk.clone())),
            desk: desk.clone(),
            tools: tools.clone(),
            settle_limit: None,
        };
        let app = json!({"id": 1, "name": "f", "releases": {"r1": {"services": services}}});
        let document = document(&json!({"a": app}));
        let flow = async {
            for uri in &uris {
                sweep::remember(&tools, uri).await;
            }
            sweep::lend(&tools).await;
            // A change of mind, and another one.
            remember(&tools).await;
            assert_eq!(tools.store.list("pulled").await.unwrap().len(), 3);
            sweep::lend(&tools).await;
            desk.take(&document, Options::default()).await;
            future::zip(legacy::run(handing), clean(&desk, &tools)).await;
        };
        live(&world, flow, world.now() + Duration::from_secs(60), |_| {});
        world.with(|state| {
            let documents = state.disk.documents.keys();
            let is_listed =
                |name: &&String| name.starts_with("pulled/") || name.starts_with("lent/");
            let listed = documents.filter(is_listed).count();
            let images = state.engine.images.keys();
            let mut images: Vec<_> = images.map(ToString::to_string).collect();
            images.sort();
            (images, listed)
        })
    }

    #[test]
    fn d_08_images_that_nobody_uses_go_once_it_has_applied_its_target() {
        let web = json!({"id": 1, "image": "web:1"});
        let (images, listed) = left(&json!({"web": web}));
        let want = ["loaded:1", "registry.example/inherited:1", "web:1"];
        assert_eq!((images, listed), (want.map(str::to_owned).to_vec(), 0));
        // What it wants is not known: nothing goes.
        let (images, listed) = left(&json!({"web": {"id": 1}}));
        assert_eq!((images.len(), listed), (4, 3));
    }

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
