//! Updates the host's OS: the driver of [`plan::host`](crate::plan::host) (state-engine 6).
//!
//! It outlives the applies, and so does the updater's unit: whoever is killed meanwhile finds it
//! again (W-22).

use std::sync::Arc;

use futures_lite::future;

use crate::plan::board::Lane;
use crate::plan::work::{Cancel, Tools};

#[cfg(feature = "hostapp")]
mod steps;
#[cfg(feature = "hostapp")]
mod updates;

/// Keeps the host at its target until it is time to stop; an update that is under way then goes
/// on without this agent.
pub async fn lane(tools: Tools, stop: Arc<Cancel>) {
    #[cfg(feature = "hostapp")]
    if let Some(machine) = tools.machine.clone() {
        let asked = crate::flows::power::run(&tools);
        return future::or(updates::run((tools.clone(), machine), stop), asked).await;
    }
    future::or(stop.wait(), refuse(&tools)).await;
}

/// There is nothing to update a host with: says so, for ever.
async fn refuse(tools: &Tools) {
    let mut seen = 0;
    loop {
        tools.board.change_if(|board| {
            let is_wanted = board.host.lane == Some(Lane::Working);
            if is_wanted {
                let why = "this build updates no host".into();
                board.host.lane = Some(Lane::Blocked(why));
            }
            is_wanted
        });
        seen = tools.board.newer(seen).await;
    }
}
