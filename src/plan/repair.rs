//! Images that are there and cannot be used, for one after a power cut (FD-10).
//!
//! An engine that finds a layer missing still answers a pull with "up to date". Only when
//! nothing holds the image any more is the layer fetched again.

use std::sync::Arc;

use super::sweep;
use super::work::{Busy, Tools, Work};
use crate::model::status::ContainerStatus;
use crate::model::{ImageUri, ServiceName};
use crate::world::engine::{EngineError, Kind, ListedImage};

impl Work {
    /// Sees to it that `image` is pulled afresh if that is why `done` failed. A container that
    /// cannot start for it, `failed`, goes too: it holds the image. Who calls this waits for
    /// its next try then, which makes it once a step of the back-off.
    pub(super) async fn repair(
        &self,
        (service, image): (&ServiceName, &ImageUri),
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
        let is_again = self.failures(&self.service_part(service)) > 0;
        discard(&self.tools, image, &error.said, is_again).await;
    }
}

/// Takes the names off a damaged image that this agent gave it by pulling, never by force, so
/// that it is pulled again. What somebody loaded by hand stays. With `wide`, since that did not
/// help, also off those that share a layer with it.
pub(super) async fn discard(tools: &Tools, image: &ImageUri, why: &str, wide: bool) {
    log::warn!("image '{image}' is damaged and is pulled afresh: {why}");
    let listed = match tools.engine.images().await {
        Ok(listed) => listed,
        Err(error) => return log::warn!("{error}"),
    };
    let found = listed.iter().find(|found| found.names.contains(image));
    // Asked for while it is there.
    let sharing = match found.filter(|_| wide) {
        Some(found) => sharing(tools, &listed, found).await,
        None => Vec::new(),
    };
    let own = found.map(|found| found.names.as_slice());
    take_off(tools, own.unwrap_or_else(|| std::slice::from_ref(image))).await;
    // The images' lane looks for itself whether it is there after all.
    tools
        .board
        .change(|board| board.device.images.remove(image));
    for other in sharing {
        let mut ours = Vec::with_capacity(other.names.len());
        for name in &other.names {
            if sweep::is_ours(tools, name).await {
                log::warn!("image '{name}' shares a layer with it and is pulled afresh, too");
                ours.push(name.clone());
            }
        }
        if !ours.is_empty() {
            remove_unstarted(tools, &other.id).await;
            take_off(tools, &ours).await;
        }
    }
}

/// Takes names off an image, those that are ours.
async fn take_off(tools: &Tools, names: &[ImageUri]) {
    for name in names {
        if !sweep::is_ours(tools, name).await {
            continue;
        }
        match tools.engine.remove_image(name).await {
            Ok(()) => tools.board.change(|board| {
                board.device.images.remove(name);
            }),
            Err(error) => log::warn!("{error}"),
        }
    }
}

/// Removes our containers that were made of an image and never ran: they hold it, and are made
/// again.
async fn remove_unstarted(tools: &Tools, image_id: &str) {
    let names: Vec<Arc<str>> = tools.board.look(|board| {
        let apps = board.device.apps.values();
        let all = apps.flat_map(|app| &app.containers);
        let unstarted = all.filter(|(_, found)| {
            found.status == ContainerStatus::Created && *found.image_id == *image_id
        });
        unstarted.map(|(name, _)| name.clone()).collect()
    });
    for name in names {
        // Whoever works on it finds out for himself.
        if tools.board.look(|board| board.busy.contains(&name)) {
            continue;
        }
        let _busy = Busy::mark(tools, &name);
        log::warn!("removing container '{name}': its image shares a damaged layer");
        let removed = tools.engine.remove(&name).await;
        let seen = tools.refresh(&name).await;
        if let Err(error) = removed.and(seen) {
            log::warn!("{error}");
        }
    }
}

/// Other images that begin with the layer that this one begins with: an engine keeps it,
/// damaged as it is, as long as one of them has it. Those of which nothing can be read share
/// what is wrong.
async fn sharing<'a>(
    tools: &Tools,
    listed: &'a [ListedImage],
    damaged: &ListedImage,
) -> Vec<&'a ListedImage> {
    let mut lowest = Vec::with_capacity(listed.len());
    for found in listed {
        lowest.push(match tools.engine.diff_ids(&found.id).await {
            Ok(layers) => {
                let first = layers.into_iter().next();
                Some(first.unwrap_or_else(|| found.id.to_string()))
            }
            Err(error) if error.kind == Kind::Unreachable => return Vec::new(),
            Err(_) => None,
        });
    }
    let own = listed.iter().position(|found| found.id == damaged.id);
    let own = own.and_then(|at| lowest[at].as_ref());
    let all = listed.iter().zip(&lowest);
    all.filter(|(found, layer)| found.id != damaged.id && layer.as_ref() == own)
        .map(|(found, _)| found)
        .collect()
}
