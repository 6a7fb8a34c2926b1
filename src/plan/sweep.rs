//! Images that this agent pulled and nobody needs any more (FD-09).
//!
//! What was pulled is written down, so that images which somebody loaded by hand
//! are never touched, and marks survive a restart.

use super::board::Board;
use super::work::Tools;
use crate::base::hash;
use crate::base::map::Set;
use crate::model::ImageUri;
use crate::model::target::{AppRelease, DeviceTarget};
use crate::world::engine::Kind;
use crate::world::store::StoreError;

/// What this agent pulled, one document an image.
const PULLED: &str = "pulled";
/// The same, while a legacy supervisor may have a use for it (D-08).
const LENT: &str = "lent";

fn document(uri: &ImageUri) -> String {
    format!("{PULLED}/{}", hash::sha256_hex(uri.as_str().as_bytes()))
}

/// What was pulled is not clean-up's any more, until a legacy supervisor has looked what it
/// has a use for.
pub async fn lend(tools: &Tools) {
    rename(tools, PULLED, LENT).await;
}

/// What was lent is clean-up's again.
pub async fn take_back(tools: &Tools) {
    rename(tools, LENT, PULLED).await;
}

/// Each is there under one of the names at least, whatever happens meanwhile.
async fn rename(tools: &Tools, from: &str, to: &str) {
    for name in tools.store.list(from).await.unwrap_or_default() {
        let (old, new) = (format!("{from}/{name}"), format!("{to}/{name}"));
        let moved = async {
            if let Some(bytes) = tools.store.get(&old).await? {
                tools.store.put(&new, &bytes).await?;
            }
            tools.store.delete(&old).await
        };
        if let Err(error) = moved.await {
            log::warn!("{error}");
        }
    }
}

/// A legacy supervisor has settled with a target that names these images. They are its own
/// now, and so is what a container still uses; the rest of what was lent is removed.
pub async fn drop_lent(tools: &Tools, wanted: &Set<ImageUri>) -> Left {
    let mut left = Left::Nothing;
    let names = match tools.store.list(LENT).await {
        Ok(names) => names,
        Err(error) => {
            log::warn!("images are not cleaned up: {error}");
            return Left::Failed;
        }
    };
    for name in names {
        let path = format!("{LENT}/{name}");
        let Some(uri) = named(tools, &path).await else {
            continue;
        };
        if tools.board.look(|board| used(board).contains(&uri)) {
            left = left.max(Left::InUse);
            continue;
        }
        let is_its = wanted.contains(&uri)
            || match remove(tools, &uri, &path).await {
                Left::Nothing => continue,
                Left::InUse => true,
                Left::Failed => false,
            };
        if !is_its || tools.store.delete(&path).await.is_err() {
            left = Left::Failed;
        }
    }
    left
}

/// The image of such a document.
async fn named(tools: &Tools, path: &str) -> Option<ImageUri> {
    let bytes = tools.store.get(path).await.ok()??;
    let text = std::str::from_utf8(&bytes).ok();
    let uri = text.and_then(|text| ImageUri::parse(text).ok());
    if uri.is_none() {
        log::warn!("document '{path}' names no image and is set aside");
        let _ = tools.store.quarantine(path).await;
    }
    uri
}

/// Writes down that this image is ours to remove one day. What cannot be written is tried
/// again with each sweep.
pub async fn remember(tools: &Tools, uri: &ImageUri) {
    if let Err(error) = write(tools, uri).await {
        log::warn!("image '{uri}' is not clean-up's yet: {error}");
        tools.board.change(|board| {
            if !board.unmarked.contains(uri) {
                board.unmarked.push(uri.clone());
            }
        });
    }
}

/// An image that was written down as ours and did not come is nobody's.
pub(super) async fn forget(tools: &Tools, uri: &ImageUri) {
    tools.board.change_if(|board| {
        board.unmarked.retain(|one| one != uri);
        false
    });
    if let Err(error) = tools.store.delete(&document(uri)).await {
        log::warn!("{error}");
    }
}

async fn write(tools: &Tools, uri: &ImageUri) -> Result<(), StoreError> {
    let bytes = uri.as_str().as_bytes();
    tools.store.put(&document(uri), bytes).await
}

/// Writes down what could not be written before.
async fn remember_again(tools: &Tools) {
    for uri in tools.board.look(|board| board.unmarked.clone()) {
        if write(tools, &uri).await.is_ok() {
            tools
                .board
                .change(|board| board.unmarked.retain(|one| *one != uri));
        }
    }
}

/// Whether this agent pulled it.
pub(super) async fn is_ours(tools: &Tools, uri: &ImageUri) -> bool {
    matches!(tools.store.get(&document(uri)).await, Ok(Some(_)))
}

/// Every image that the target names.
#[must_use]
pub fn wanted(target: &DeviceTarget) -> Set<ImageUri> {
    let releases = target.apps.values().filter_map(|app| match &app.release {
        AppRelease::Wanted(_, release) => Some(release),
        AppRelease::None | AppRelease::Rejected(_) => None,
    });
    let services = releases.flat_map(|release| release.services.values());
    services.map(|service| service.image.clone()).collect()
}

/// What may not go now: what the accepted target names, and what containers of ours run.
fn used(board: &Board) -> Set<ImageUri> {
    let mut used = board.target.as_deref().map(wanted).unwrap_or_default();
    // One that is pulled for an older target goes when its pull has ended.
    used.extend(board.pulls.keys().cloned());
    used.extend(board.host.image.clone());
    let apps = board.device.apps.values();
    for found in apps.flat_map(|app| app.containers.values()) {
        match &found.identity {
            Some(identity) => drop(used.insert(identity.image.clone())),
            // Another agent's container says only the id of its image.
            None => {
                let id = Some(&found.image_id);
                let images = board.device.images.iter();
                let named = images.filter(|(_, image)| image.id.as_ref() == id);
                used.extend(named.map(|(uri, _)| uri.clone()));
            }
        }
    }
    used
}

/// Removes an image that this agent pulled, if nobody needs it.
pub async fn drop_image(tools: &Tools, uri: &ImageUri) {
    if is_ours(tools, uri).await && !tools.board.look(|board| used(board).contains(uri)) {
        remove(tools, uri, &document(uri)).await;
    }
}

/// What a sweep leaves behind; of several the last one counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// Nothing.
    Nothing,
    /// Images that somebody else's containers use: nobody says when that ends.
    InUse,
    /// Something that failed.
    Failed,
}

/// Removes what was pulled by this agent and is used by no container and no target (FD-09).
pub async fn sweep(tools: &Tools) -> Left {
    remember_again(tools).await;
    let names = match tools.store.list(PULLED).await {
        Ok(names) => names,
        Err(error) => {
            log::warn!("images are not cleaned up: {error}");
            return Left::Failed;
        }
    };
    let mut left = match tools.board.look(|board| board.unmarked.is_empty()) {
        true => Left::Nothing,
        false => Left::Failed,
    };
    for name in names {
        let path = format!("{PULLED}/{name}");
        let Some(uri) = named(tools, &path).await else {
            continue;
        };
        // A newer target may have come in meanwhile.
        if tools
            .board
            .look(|board| board.is_read && !used(board).contains(&uri))
        {
            left = left.max(remove(tools, &uri, &path).await);
        }
    }
    left
}

async fn remove(tools: &Tools, uri: &ImageUri, path: &str) -> Left {
    match tools.engine.remove_image(uri).await {
        Ok(()) => {
            log::info!("image '{uri}' is removed: no target and no container uses it");
            let is_wanted = tools.board.change(|board| {
                let is_wanted = used(board).contains(uri);
                if !is_wanted {
                    board.device.images.remove(uri);
                }
                is_wanted
            });
            // A target that came in meanwhile may have it pulled again by now, as ours.
            match is_wanted || tools.store.delete(path).await.is_ok() {
                true => Left::Nothing,
                false => Left::Failed,
            }
        }
        Err(error) if error.kind == Kind::Conflict => {
            log::debug!("{error}");
            Left::InUse
        }
        Err(error) => {
            log::info!("{error}");
            Left::Failed
        }
    }
}
