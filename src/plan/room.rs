//! Whether there is room for an image, by its manifest (FD-07).
//!
//! A pull takes the download and what that unpacks to. The manifest says how large the first
//! is; the second is counted as if nothing were compressed, so what is said here is the least
//! that is needed. Layers that an image on the engine begins with are there already: an engine
//! shares a layer only when all below it are the same, too.

use std::sync::{Mutex, MutexGuard};

use super::work::Tools;
use crate::base::lock::lock;
use crate::limits;
use crate::model::ImageUri;
use crate::world::engine::EngineError;
use crate::world::registry::{Layer, Weight};

/// What is known of room beside what the disk says.
#[derive(Default)]
pub(super) struct Room(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Bytes that pulls under way may still take.
    promised: u64,
    /// Images that did not fit, and what each needs: their registries are not asked again for
    /// every look at the disk.
    too_large: Vec<(ImageUri, u64)>,
}

/// Room that a pull has for as long as it runs.
pub(super) struct Promise<'r>(&'r Room, u64);

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.0.known().promised -= self.1;
    }
}

impl Room {
    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.0)
    }

    /// Asks registries again.
    pub(super) fn forget(&self) {
        self.known().too_large.clear();
    }

    /// Room for a pull when the engine has `free` bytes; or why there is too little.
    pub(super) async fn promise(
        &self,
        tools: &Tools,
        uri: &ImageUri,
        free: u64,
    ) -> Result<Promise<'_>, String> {
        let reserve = tools.disk_reserve;
        let room = |known: &Known| free.saturating_sub(reserve.saturating_add(known.promised));
        let (before, known) = {
            let known = self.known();
            let found = known.too_large.iter().find(|(known, _)| known == uri);
            (room(&known), found.map(|(_, bytes)| *bytes))
        };
        let needed = match known.filter(|needed| *needed > before) {
            Some(needed) => needed,
            None => needed(tools, uri, before).await,
        };
        let mut known = self.known();
        let (room, promised) = (room(&known), known.promised);
        let was_too_large = known.too_large.iter().any(|(known, _)| known == uri);
        known.too_large.retain(|(known, _)| known != uri);
        if needed <= room {
            known.promised += needed;
            return Ok(Promise(self, needed));
        }
        if known.too_large.len() < limits::TOO_LARGE_MAX {
            known.too_large.push((uri.clone(), needed));
        }
        let why = format!(
            "it needs at least {needed} bytes to be downloaded and unpacked, and of the {free} \
             bytes that the engine has free {reserve} are the reserve and {promised} are for \
             other pulls"
        );
        if !was_too_large {
            log::warn!("image '{uri}' is not pulled: {why}");
        }
        Err(why)
    }
}

/// The bytes that a pull needs at least; 0 where nobody can say.
async fn needed(tools: &Tools, uri: &ImageUri, room: u64) -> u64 {
    let Some(registry) = &tools.registry else {
        return 0;
    };
    let weight = match registry.weigh(uri, &tools.facts.arch, room / 2).await {
        Ok(weight) => weight,
        Err(why) => {
            log::debug!("the size of image '{uri}' is not known: {why}");
            return 0;
        }
    };
    match missing(tools, &weight).await {
        Ok(bytes) => bytes.saturating_mul(2),
        Err(error) => {
            log::debug!("{error}");
            0
        }
    }
}

/// What of an image's download the engine does not have.
async fn missing(tools: &Tools, weight: &Weight) -> Result<u64, EngineError> {
    let mut most = 0;
    if !weight.layers.is_empty() {
        for image in tools.engine.images().await? {
            // One that cannot be read shares nothing.
            let layers = tools.engine.diff_ids(&image.id).await.unwrap_or_default();
            most = most.max(shared(&weight.layers, &layers));
        }
    }
    Ok(weight.bytes.saturating_sub(most))
}

/// Bytes of the layers that both begin with.
fn shared(layers: &[Layer], there: &[String]) -> u64 {
    let both = layers.iter().zip(there);
    let same = both.take_while(|(layer, there)| layer.diff_id == **there);
    same.fold(0, |sum, (layer, _)| sum.saturating_add(layer.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_07_only_layers_on_the_same_ground_are_shared() {
        let layer = |name: &str, bytes| Layer {
            diff_id: name.into(),
            bytes,
        };
        let layers = [layer("a", 1), layer("b", 10), layer("c", 100)];
        #[rustfmt::skip]
        let cases = [
            (&["a", "b", "c"][..], 111),
            (&["a", "b", "x", "c"], 11),
            (&["a", "x"], 1),
            (&["b", "c"], 0),
            (&[], 0),
        ];
        for (there, want) in cases {
            let there: Vec<_> = there.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(shared(&layers, &there), want, "{there:?}");
        }
    }
}
