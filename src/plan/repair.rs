//! Images that are there and cannot be used, for one after a power cut (FD-10).
//!
//! An engine that finds a layer missing still answers a pull with "up to date". Only when
//! nothing holds the image any more is the layer fetched again.

use super::sweep;
use super::work::{Tools, Work};
use crate::model::ImageUri;
use crate::world::engine::{EngineError, Kind};

impl Work {
    /// Sees to it that `image` is pulled afresh if that is why `done` failed. A container that
    /// cannot start for it, `failed`, goes too: it holds the image. Who calls this waits for
    /// its next try then, which makes it once a step of the back-off.
    pub(super) async fn repair(
        &self,
        image: &ImageUri,
        failed: Option<&str>,
        done: &Result<(), EngineError>,
    ) {
        let Err(error) = done else { return };
        if error.kind != Kind::Damaged {
            return;
        }
        if let Some(name) = failed {
            log::warn!("removing container '{name}': its image is damaged");
            let removed = self.tools.engine.remove(name).await;
            let seen = self.refresh(name).await;
            if let Err(error) = removed.and(seen) {
                log::warn!("{error}");
            }
        }
        discard(&self.tools, image, &error.said).await;
    }
}

/// Takes the names off a damaged image that this agent gave it by pulling, never by force, so
/// that it is pulled again. What somebody loaded by hand stays.
pub(super) async fn discard(tools: &Tools, image: &ImageUri, why: &str) {
    log::warn!("image '{image}' is damaged and is pulled afresh: {why}");
    let listed = match tools.engine.images().await {
        Ok(listed) => listed,
        Err(error) => return log::warn!("{error}"),
    };
    let found = listed.into_iter().find(|found| found.names.contains(image));
    let mut names = found.map(|found| found.names).unwrap_or_default();
    if !names.contains(image) {
        names.push(image.clone());
    }
    for name in names {
        if sweep::is_ours(tools, &name).await
            && let Err(error) = tools.engine.remove_image(&name).await
        {
            log::warn!("{error}");
        }
    }
    // The images' lane looks for itself whether it is there after all.
    tools
        .board
        .change(|board| board.device.images.remove(image));
}
