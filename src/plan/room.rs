//! Whether there is room for an image, by its manifest (FD-07).
//!
//! A pull takes the download and what that unpacks to. The manifest says how large the first
//! is; the second is counted as if nothing were compressed, so what is said here is the least
//! that is needed. Layers that an image on the engine begins with are there already: an engine
//! shares a layer only when all below it are the same, too.

use std::sync::atomic::{AtomicU64, Ordering};
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
pub(super) struct Promise<'r> {
    room: &'r Room,
    needed: u64,
    /// What of it the disk does not show yet.
    left: AtomicU64,
}

impl Promise<'_> {
    /// The pull has come so far, and what is free has shrunk by that: it is not to be counted
    /// twice.
    pub(super) fn is_used(&self, percent: u8) {
        let used = u128::from(self.needed) * u128::from(percent.min(100)) / 100;
        let left = self
            .needed
            .saturating_sub(u64::try_from(used).unwrap_or(self.needed));
        let mut known = self.room.known();
        let before = self.left.swap(left, Ordering::Relaxed);
        known.promised = known.promised.saturating_sub(before).saturating_add(left);
    }
}

impl Drop for Promise<'_> {
    fn drop(&mut self) {
        self.is_used(100);
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

    /// The bytes that a pull needs at least, when the engine has `free`. That may take a
    /// while, in which others fill the disk.
    pub(super) async fn needed(&self, tools: &Tools, uri: &ImageUri, free: u64) -> u64 {
        let (room, known) = {
            let known = self.known();
            let found = known.too_large.iter().find(|(known, _)| known == uri);
            let taken = tools.disk_reserve.saturating_add(known.promised);
            (free.saturating_sub(taken), found.map(|(_, bytes)| *bytes))
        };
        match known.filter(|needed| *needed > room) {
            Some(needed) => needed,
            None => needed(tools, uri, room).await,
        }
    }

    /// Room for a pull that needs so much when the engine has `free` bytes; or why there is
    /// too little.
    pub(super) fn promise(
        &self,
        uri: &ImageUri,
        needed: u64,
        (free, reserve): (u64, u64),
    ) -> Result<Promise<'_>, String> {
        let mut known = self.known();
        let promised = known.promised;
        let room = free.saturating_sub(reserve.saturating_add(promised));
        let was_too_large = known.too_large.iter().any(|(known, _)| known == uri);
        known.too_large.retain(|(known, _)| known != uri);
        if needed <= room {
            known.promised = promised.saturating_add(needed);
            return Ok(Promise {
                room: self,
                needed,
                left: AtomicU64::new(needed),
            });
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
    fn fd_07_what_a_pull_has_taken_is_counted_once() {
        let room = Room::default();
        let uri = |name: &str| ImageUri::parse(name).unwrap();
        let (first, second) = (uri("one"), uri("two"));
        let all = (1000, 100);
        let one = room
            .promise(&first, 600, all)
            .unwrap_or_else(|why| panic!("{why}"));
        assert!(room.promise(&second, 301, all).is_err(), "600 are promised");
        // Half of it is on the disk, and no longer among what is free.
        one.is_used(50);
        let now = (700, 100);
        assert!(room.promise(&second, 301, now).is_err());
        let two = room
            .promise(&second, 300, now)
            .unwrap_or_else(|why| panic!("{why}"));
        drop(two);
        one.is_used(100);
        assert!(room.promise(&second, 300, (400, 100)).is_ok());
        drop(one);
        assert_eq!(room.known().promised, 0);
    }

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
