//! Watches the engine, so that what happens behind our back is seen at once.
//!
//! An event is only a hint where to look: the container is inspected, and the
//! lanes see the change on the board.

use std::sync::Arc;

use futures_lite::future;

use crate::base::uptime::Uptime;
use crate::limits;
use crate::plan::board::Board;
use crate::plan::read;
use crate::plan::work::Tools;
use crate::world::engine::{EngineError, EngineEvent, Kind};

/// Runs until it is dropped; an engine that goes away is waited for (FD-27).
pub async fn run(tools: Tools) {
    loop {
        let error = match watch(&tools).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        let why: Arc<str> = error.to_string().into();
        let is_new = tools.board.change_if(|board| {
            let was_down = board.engine_down.is_some();
            board.engine_down = Some(why);
            !was_down
        });
        if is_new {
            log::warn!(
                "the engine does not answer: {error}; trying again every {} s",
                limits::ENGINE_RETRY.as_secs()
            );
        }
        tools
            .clock
            .sleep_until(tools.clock.now() + limits::ENGINE_RETRY)
            .await;
    }
}

/// Ends only with an error.
async fn watch(tools: &Tools) -> Result<std::convert::Infallible, EngineError> {
    let mut events = tools.engine.events().await?;
    let info = tools.engine.info().await?;
    log::info!("engine: {} {}, API {}", info.name, info.version, info.api);
    let engine = format!("{} {} {}", info.name, info.version, info.api);
    tools
        .board
        .change(|board| board.engine = Some(engine.into()));
    // What happened while nobody listened is found by looking at everything.
    if tools.board.look(|board| board.is_read) {
        read::device(tools).await?;
    }
    tools.board.change(|board| {
        if board.engine_down.take().is_some() {
            // What failed for want of an engine need not wait (FD-27).
            for trouble in board.troubles.values_mut() {
                trouble.retry_at = Uptime::default();
            }
        }
    });
    let mut is_owed = false;
    loop {
        // Never dropped halfway: what it has read of an event would be lost with it.
        let mut next = events.next();
        let event = loop {
            let quiet = async {
                if !is_owed {
                    future::pending::<()>().await;
                }
                until_quiet(tools).await;
                None
            };
            let event = future::or(async { Some((&mut next).await) }, quiet).await;
            if let Some(event) = event {
                break event?;
            }
            // Rare, never about one thing only, and mostly our own doing while plans run.
            is_owed = false;
            looked(read::device(tools).await)?;
        };
        log::debug!("engine: {} {} {}", event.what, event.action, event.id);
        if is_about_one(&event) {
            looked(container(tools, &event).await)?;
        } else {
            is_owed |= is_about_many(tools, &event);
        }
    }
}

/// An engine that does not answer ends the watch; what else is wrong with a look is only said.
fn looked(seen: Result<(), EngineError>) -> Result<(), EngineError> {
    match seen {
        Err(error) if error.kind == Kind::Unreachable => Err(error),
        Err(error) => {
            log::warn!("{error}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether it is enough to look at one container. What an update changed is compared with
/// all that is known (D-11).
fn is_about_one(event: &EngineEvent) -> bool {
    &*event.what == "container" && &*event.action != "update"
}

/// Whether everything is looked at for its sake. Our own pulls look for themselves, and what
/// plans connect is what their containers were made with.
fn is_about_many(tools: &Tools, event: &EngineEvent) -> bool {
    tools
        .board
        .look(|board| match (&*event.what, &*event.action) {
            ("image", "pull") => board.pulls.is_empty(),
            ("network", "connect" | "disconnect") => board.active == 0,
            // A container with it starts or ends: nothing that its own events do not say.
            ("volume", "mount" | "unmount") => false,
            ("container" | "image" | "network" | "volume", _) => true,
            _ => false,
        })
}

/// Ends when no plan runs.
async fn until_quiet(tools: &Tools) {
    let mut seen = tools.board.version();
    while tools.board.look(|board| board.active > 0) {
        seen = tools.board.newer(seen).await;
    }
}

async fn container(tools: &Tools, event: &EngineEvent) -> Result<(), EngineError> {
    // A kill is told before the end that it brings: only a start ends a disturbance.
    if matches!(&*event.action, "start" | "unpause" | "destroy") {
        tools.board.change_if(|board| {
            board.marks.disturbed.remove(&*event.id);
            board.marks.outdated.remove(&*event.id);
            false
        });
    }
    let now = tools.clock.now();
    let known = tools.board.look(|board| known(board, &event.id, now));
    let Some((app, name, ours)) = known else {
        return Ok(());
    };
    match ours {
        // Who does it looks afterwards.
        Ours::Now => return Ok(()),
        Ours::JustNow => return tools.refresh(&event.id).await,
        Ours::No => {}
    }
    if matches!(&*event.action, "kill" | "stop" | "die" | "destroy") {
        log::info!(
            "container '{name}' of app '{app}': {} behind our back",
            event.action
        );
    }
    if matches!(&*event.action, "kill" | "stop") {
        // Somebody stops it: its restart policy does not explain that (D-21).
        tools.board.change_if(|board| {
            board.marks.disturbed.insert(event.id.clone());
            false
        });
    }
    tools.refresh(&event.id).await
}

/// Whether an event may be of our own making.
enum Ours {
    Now,
    JustNow,
    No,
}

/// The app and name of a container by its id, and whether an action of ours is on it.
fn known(board: &Board, id: &str, now: Uptime) -> Option<(String, String, Ours)> {
    board.device.apps.iter().find_map(|(app, found)| {
        let (name, _) = found
            .containers
            .iter()
            .find(|(_, found)| *found.id == *id)?;
        let ours = match (board.busy.contains(name), board.was_busy(name, now)) {
            (true, _) => Ours::Now,
            (false, true) => Ours::JustNow,
            (false, false) => Ours::No,
        };
        Some((app.to_string(), name.to_string(), ours))
    })
}
