//! Images that this agent pulled and nobody needs any more (FD-09).
//!
//! What was pulled is written down, so that images which somebody loaded by hand
//! are never touched, and marks survive a restart.

use std::collections::BTreeSet;

use super::work::Tools;
use crate::base::hash;
use crate::model::ImageUri;
use crate::model::target::{AppRelease, DeviceTarget};

fn document(uri: &ImageUri) -> String {
    format!("pulled/{}", hash::sha256_hex(uri.as_str().as_bytes()))
}

/// Writes down that this image is ours to remove one day.
pub async fn remember(tools: &Tools, uri: &ImageUri) {
    if let Err(error) = tools
        .store
        .put(&document(uri), uri.as_str().as_bytes())
        .await
    {
        log::warn!("image '{uri}' will not be cleaned up: {error}");
    }
}

/// Whether this agent pulled it.
pub(super) async fn is_ours(tools: &Tools, uri: &ImageUri) -> bool {
    matches!(tools.store.get(&document(uri)).await, Ok(Some(_)))
}

/// Every image that the target names.
#[must_use]
pub fn wanted(target: &DeviceTarget) -> BTreeSet<ImageUri> {
    let releases = target.apps.values().filter_map(|app| match &app.release {
        AppRelease::Wanted(_, release) => Some(release),
        AppRelease::None | AppRelease::Rejected(_) => None,
    });
    let services = releases.flat_map(|release| release.services.values());
    services.map(|service| service.image.clone()).collect()
}

/// Removes what was pulled by this agent and is used by no container and no target.
/// Best effort: what stays is tried again after the next apply.
pub async fn sweep(tools: &Tools, target: &DeviceTarget) {
    let names = match tools.store.list("pulled").await {
        Ok(names) => names,
        Err(error) => return log::warn!("images are not cleaned up: {error}"),
    };
    let mut used = wanted(target);
    tools.board.look(|board| {
        let containers = board
            .device
            .apps
            .values()
            .flat_map(|app| app.containers.values());
        used.extend(containers.filter_map(|found| Some(found.identity.as_ref()?.image.clone())));
    });
    for name in names {
        let path = format!("pulled/{name}");
        let Ok(Some(bytes)) = tools.store.get(&path).await else {
            continue;
        };
        let uri = std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| ImageUri::parse(text).ok());
        let Some(uri) = uri else {
            let _ = tools.store.delete(&path).await;
            continue;
        };
        if !used.contains(&uri) {
            remove(tools, &uri, &path).await;
        }
    }
}

async fn remove(tools: &Tools, uri: &ImageUri, path: &str) {
    log::info!("removing image '{uri}': no target and no container uses it");
    match tools.engine.remove_image(uri).await {
        Ok(()) => {
            tools.board.change(|board| board.device.images.remove(uri));
            let _ = tools.store.delete(path).await;
        }
        Err(error) => log::debug!("{error}"),
    }
}
