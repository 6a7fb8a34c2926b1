//! Starting the host anew and switching it off, when somebody asks for it (local-api 2.7).
//!
//! Whoever asks is answered first; the host is told a moment later. From the answer on nothing of
//! any app is stopped by this agent: the OS does that.

use futures_lite::future;

use crate::limits;
use crate::plan::device_locks::{self, Refusal};
use crate::plan::host::Wish;
use crate::plan::work::Tools;
use crate::world::system::Power;

/// Why it is not done.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// It may be done later, or by force.
    Locked(String),
    /// It cannot be done.
    Failed(String),
}

/// Takes the update locks of all apps and has the host do it in a moment. With `force` neither
/// services' locks nor an update of the host are in the way.
///
/// # Errors
/// Why nothing will happen; no lock is held then.
pub async fn ask(tools: &Tools, power: Power, force: bool) -> Result<(), Refused> {
    let Some(machine) = &tools.machine else {
        return Err(Refused::Failed("this build knows no host".to_owned()));
    };
    if let Some(why) = machine.system.absent() {
        return Err(Refused::Failed(why));
    }
    if let Some(file) = machine.updater.trial().filter(|_| !force) {
        log::info!("nothing is done to the host while there is '{file}'");
        return Err(Refused::Locked(
            "Waiting for Host OS update to finish".to_owned(),
        ));
    }
    let has_locks = match device_locks::take(tools, force).await {
        Ok(()) => true,
        Err(Refusal::Busy) if force => false,
        Err(Refusal::Engine(error)) if force => {
            log::warn!("{error}: no lock is looked at");
            false
        }
        Err(Refusal::Engine(error)) => return Err(Refused::Failed(error.to_string())),
        Err(refused) => return Err(Refused::Locked(refused.to_string())),
    };
    tools
        .board
        .change(|board| board.host.wish = Some(Wish { power, has_locks }));
    Ok(())
}

/// Does what was asked for. Never ends.
pub async fn run(tools: &Tools) {
    let Some(machine) = &tools.machine else {
        // Nobody is asked for anything.
        return future::pending().await;
    };
    let mut has_locks = false;
    loop {
        let wish = asked(tools).await;
        has_locks |= wish.has_locks;
        let wait = |so_long| tools.clock.sleep_until(tools.clock.now() + so_long);
        wait(limits::POWER_DELAY).await;
        match wish.power {
            Power::Reboot => log::warn!("rebooting the host: it was asked for"),
            Power::Off => log::warn!("shutting the host down: it was asked for"),
        }
        match machine.system.power(wish.power).await {
            Ok(()) => {
                future::or(another(tools), wait(limits::REBOOT_WAIT)).await;
            }
            Err(error) => log::error!("the host goes on: {error}"),
        }
        // Still here. Whoever asked by force meanwhile has no locks of his own.
        if tools.board.look(|board| board.host.wish.is_none()) && has_locks {
            has_locks = false;
            device_locks::release(tools);
        }
    }
}

/// The next thing that is asked for.
async fn asked(tools: &Tools) -> Wish {
    let mut seen = 0;
    loop {
        let mut wish = None;
        tools.board.change_if(|board| {
            wish = board.host.wish.take();
            wish.is_some()
        });
        match wish {
            Some(wish) => return wish,
            None => seen = tools.board.newer(seen).await,
        }
    }
}

/// Ends once something else is asked for.
async fn another(tools: &Tools) {
    let mut seen = 0;
    while tools.board.look(|board| board.host.wish.is_none()) {
        seen = tools.board.newer(seen).await;
    }
}
