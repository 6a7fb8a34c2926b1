//! The update locks of all apps at once: for what changes the whole device (W-14, local-api 2.7).
//!
//! They are marked apart from those of the apps' own updates ([`Host::held`]), which would give
//! them back when they are done.
//!
//! [`Host::held`]: super::host::Host::held

use std::sync::Arc;

use super::board::Board;
use super::host::UPDATE;
use super::locks::lock_dir;
use super::work::Tools;
use crate::world::engine::EngineError;
use crate::world::host::LockRefused;

/// Why they are not ours.
#[derive(Debug)]
pub enum Refusal {
    /// Something else changes the device.
    Busy,
    /// Somebody holds one.
    Lock(LockRefused),
    /// Nobody knows which there are.
    Engine(EngineError),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Busy => write!(f, "{UPDATE} is under way"),
            Refusal::Lock(refused) => write!(f, "{refused}"),
            Refusal::Engine(error) => write!(f, "{error}"),
        }
    }
}

/// Takes the update locks of every container that an agent of this family made. From now on
/// nothing of any app is stopped, until [`release`]. With `force` services' locks are
/// disregarded.
///
/// # Errors
/// When one is refused: then none is held, and apps go on.
pub async fn take(tools: &Tools, force: bool) -> Result<(), Refusal> {
    let begin = |board: &mut Board| !std::mem::replace(&mut board.host.is_exclusive, true);
    if !tools.board.change_if(begin) {
        return Err(Refusal::Busy);
    }
    // Read anew: what was remembered may be gone, and a lock of what is gone holds nobody up.
    let taken = match tools.engine.containers().await {
        Ok(containers) => {
            let own = tools.board.look(|board| board.marks.clone());
            let mut dirs: Vec<(Arc<str>, bool)> = Vec::new();
            for (app, (_, found)) in containers
                .iter()
                .filter(|(_, (_, found))| !own.is_own(found))
            {
                let dir = lock_dir(&tools.facts.runtime_dir, app, found);
                match dirs.iter_mut().find(|(known, _)| *known == dir) {
                    Some((_, runs)) => *runs |= found.is_up(),
                    None => dirs.push((dir, found.is_up())),
                }
            }
            take_all(tools, &dirs, force).map_err(Refusal::Lock)
        }
        Err(error) => Err(Refusal::Engine(error)),
    };
    if taken.is_err() {
        release(tools);
    }
    taken
}

fn take_all(tools: &Tools, dirs: &[(Arc<str>, bool)], force: bool) -> Result<(), LockRefused> {
    for (dir, runs) in dirs {
        // A stopped service cannot hold a lock (FD-04).
        let replaced = tools.host.lock(dir, force || !runs)?;
        if let Some(path) = replaced {
            let why = match runs {
                true => "override was asked for",
                false => "its service does not run",
            };
            log::warn!("update lock '{path}' is disregarded: {why}");
        }
        tools
            .board
            .change(|board| board.host.held.push(dir.clone()));
    }
    Ok(())
}

/// Gives them back, as far as apps do not hold them as well.
pub fn release(tools: &Tools) {
    let mut held = Vec::new();
    tools.board.change_if(|board| {
        held = std::mem::take(&mut board.host.held);
        let apps = board.locks.iter().flat_map(|(_, locks)| &locks.held);
        let apps: Vec<_> = apps.cloned().collect();
        held.retain(|dir| !apps.contains(dir));
        std::mem::take(&mut board.host.is_exclusive)
    });
    held.iter().for_each(|dir| tools.host.unlock(dir));
}
