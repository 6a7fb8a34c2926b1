//! Watches the engine, so that what happens behind our back is seen at once.
//!
//! An event is only a hint where to look: the container is inspected, and the
//! lanes see the change on the board.

use std::sync::Arc;

use futures_lite::future;

use crate::base::uptime::Uptime;
use crate::limits;
use crate::plan::board::{Board, Part};
use crate::plan::work::Tools;
use crate::plan::{drift, read};
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
    let mut owed = Owed::default();
    loop {
        // Also when one event follows the other.
        owed.look(tools).await?;
        // Never dropped halfway: what it has read of an event would be lost with it.
        let mut next = events.next();
        let event = loop {
            let due = async {
                owed.wait(tools).await;
                None
            };
            let event = future::or(async { Some((&mut next).await) }, due).await;
            if let Some(event) = event {
                break event?;
            }
            owed.look(tools).await?;
        };
        log::debug!("engine: {} {} {}", event.what, event.action, event.id);
        match concerns(&event) {
            Concerns::One => {
                owed.containers.retain(|(id, _)| *id != event.id);
                looked(container(tools, &event).await)?;
            }
            Concerns::ItsNetworks => owed.add(tools.clock.now(), event),
            Concerns::Many => {
                if (&*event.what, &*event.action) == ("network", "destroy") {
                    tools.board.change_if(retry_networks);
                }
                let at = tools.clock.now() + limits::EVENT_LOOK_MAX;
                owed.everything.get_or_insert(at);
            }
            Concerns::Nothing => {}
        }
    }
}

/// A network went: its addresses may be what another one failed for.
fn retry_networks(board: &mut Board) -> bool {
    let mut is_any = false;
    for (part, trouble) in board.troubles.iter_mut() {
        if matches!(part, Part::Network(..)) {
            trouble.retry_at = Uptime::default();
            is_any = true;
        }
    }
    is_any
}

/// What is still to be looked at for events that came.
#[derive(Default)]
struct Owed {
    /// Containers whose networks changed, and when to look at the latest.
    containers: Vec<(Arc<str>, Uptime)>,
    /// Everything: once for all the events of a while, since somebody who cleans up makes
    /// hundreds of them.
    everything: Option<Uptime>,
    /// Plans ran at the last look, and what they work on was left to them.
    again: bool,
}

impl Owed {
    fn add(&mut self, now: Uptime, event: EngineEvent) {
        if !self.containers.iter().any(|(id, _)| *id == event.id) {
            self.containers.push((event.id, now + limits::EVENT_SETTLE));
        }
    }

    /// Ends when it is time to look at something.
    async fn wait(&self, tools: &Tools) {
        let first = self.containers.first().map(|(_, at)| *at);
        let due = first.into_iter().chain(self.everything).min();
        let time = async {
            match due {
                Some(at) => tools.clock.sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let quiet = async {
            match self.again {
                true => until_quiet(tools).await,
                false => future::pending().await,
            }
        };
        future::or(time, quiet).await;
    }

    /// Looks at what it is time for.
    async fn look(&mut self, tools: &Tools) -> Result<(), EngineError> {
        let now = tools.clock.now();
        let is_busy = tools.board.look(|board| board.active > 0);
        if self.everything.is_some_and(|at| at <= now) || self.again && !is_busy {
            *self = Owed {
                again: is_busy,
                ..Owed::default()
            };
            return looked(read::device(tools).await);
        }
        while self.containers.first().is_some_and(|(_, at)| *at <= now) {
            let (id, _) = self.containers.remove(0);
            let (what, action) = ("container".into(), "network".into());
            looked(container(tools, &EngineEvent { what, action, id }).await)?;
        }
        Ok(())
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

/// What has to be looked at after an event.
enum Concerns {
    /// This container.
    One,
    /// The networks that it hangs on.
    ItsNetworks,
    Many,
    /// Nothing that other events do not say.
    Nothing,
}

fn concerns(event: &EngineEvent) -> Concerns {
    match (&*event.what, &*event.action) {
        // Compared with all that is known of it (D-11).
        ("container", "update") => Concerns::Many,
        ("container", _) => Concerns::One,
        ("network", "connect" | "disconnect") => Concerns::ItsNetworks,
        // A container with it starts or ends.
        ("volume", "mount" | "unmount") => Concerns::Nothing,
        ("image" | "network" | "volume", _) => Concerns::Many,
        _ => Concerns::Nothing,
    }
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
        let is_news = |board: &Board| {
            let is_known = board.marks.legacy.contains_key(&event.id);
            let comes = matches!(&*event.action, "create" | "start");
            let goes = &*event.action == "destroy";
            board.marks.is_beside && (comes && !is_known || goes && is_known)
        };
        // The legacy supervisor's own, which ours wait for (D-08).
        return match tools.board.look(is_news) {
            true => tools.notice(&event.id).await,
            false => Ok(()),
        };
    };
    match ours {
        // Who does it looks afterwards.
        Ours::Now => return Ok(()),
        Ours::JustNow => return look_at(tools, &event.id).await,
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
    look_at(tools, &event.id).await
}

/// Reads a container again; what somebody changed of it is compared with what was taken
/// down (D-11).
async fn look_at(tools: &Tools, id: &str) -> Result<(), EngineError> {
    let fingerprint = || {
        tools.board.look(|board| {
            let apps = board.device.apps.values();
            let mut all = apps.flat_map(|app| app.containers.values());
            Some(all.find(|found| *found.id == *id)?.fingerprint)
        })
    };
    let before = fingerprint();
    tools.refresh(id).await?;
    if fingerprint() != before {
        drift::look(tools).await;
    }
    Ok(())
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
