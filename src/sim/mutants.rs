//! Agents that are broken on purpose: each check of this simulation is shown to notice the
//! mistake that it is there for. A mutant is an agent whose calls are bent on their way to
//! the world.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;
use helios::model::current::{Container, Network};
use helios::model::status::ContainerStatus;
use helios::model::{AppUuid, ImageUri, NetworkConfig, NetworkName, VolumeConfig, VolumeName};
use helios::world::Pending;
use helios::world::engine::{
    Engine, EngineError, EngineEvent, EngineInfo, Events, FoundVolume, ImageFacts, ListedImage,
    NewContainer, Owned,
};
use helios::world::host::{Host, LockRefused, Vitals};
use helios::world::remote::{Polled, Remote, RemoteError};
use helios::world::store::{Store, StoreError};

use super::histories::history;
use super::life::Given;
use super::world::World;

/// What is wrong with an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    StopsBeforeItMakes,
    RemovesUnusedVolumes,
    RemovesImagesOfOthers,
    RemovesContainersOfOthers,
    CallsTwice,
    PullsTwice,
    NeverStarts,
    TakesItsTime,
    KeepsLocks,
    OverridesLocks,
    NeverReports,
    ReportsWhatNobodyKnows,
    ForgetsItsImages,
    WritesWithEachPoll,
    DropsWhatItReads,
}

/// The world as such an agent bends it.
#[derive(Clone)]
struct Bent {
    world: World,
    mistake: Mistake,
}

impl Bent {
    fn is(&self, mistake: Mistake) -> bool {
        self.mistake == mistake
    }

    /// Names of containers like that.
    fn names(&self, like: impl Fn(&super::engine::Found) -> bool) -> Vec<Arc<str>> {
        self.world.with(|state| {
            let all = state.engine.containers.iter();
            let found = all.filter(|(_, found)| like(found));
            found.map(|(name, _)| name.clone()).collect()
        })
    }
}

impl Engine for Bent {
    fn info(&self) -> Pending<'_, Result<EngineInfo, EngineError>> {
        self.world.info()
    }

    fn data_root(&self) -> Pending<'_, Result<Option<String>, EngineError>> {
        self.world.data_root()
    }

    fn containers(&self) -> Pending<'_, Result<Vec<Owned<(Arc<str>, Container)>>, EngineError>> {
        self.world.containers()
    }

    fn container<'a>(
        &'a self,
        name: &'a str,
    ) -> Pending<'a, Result<Owned<(Arc<str>, Container)>, EngineError>> {
        self.world.container(name)
    }

    fn create<'a>(&'a self, new: NewContainer<'a>) -> Pending<'a, Result<String, EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::StopsBeforeItMakes) {
                for name in self.names(|found| {
                    found.container.service == *new.service
                        && found.container.status == ContainerStatus::Running
                }) {
                    let _ = self.world.stop(&name, Duration::ZERO).await;
                }
            }
            if self.is(Mistake::RemovesUnusedVolumes) {
                let volumes = self.world.with(|state| {
                    let names = state.engine.volumes.keys();
                    let is_used = |name: &&Arc<str>| {
                        let mut all = state.engine.containers.values();
                        all.any(|found| found.container.volumes.contains(name))
                    };
                    let unused = names.filter(|name| !is_used(name));
                    unused.cloned().collect::<Vec<_>>()
                });
                for name in volumes {
                    let _ = self.world.remove_volume(&name).await;
                }
            }
            self.world.create(new).await
        })
    }

    fn start<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::NeverStarts) {
                return Ok(());
            }
            if self.is(Mistake::TakesItsTime) {
                self.world.sleep(Duration::from_secs(20)).await;
            }
            self.world.start(name).await
        })
    }

    fn stop<'a>(&'a self, name: &'a str, grace: Duration) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::CallsTwice) {
                let (one, two) = (self.world.stop(name, grace), self.world.stop(name, grace));
                return future::zip(one, two).await.0;
            }
            self.world.stop(name, grace).await
        })
    }

    fn rename<'a>(&'a self, name: &'a str, new: &'a str) -> Pending<'a, Result<(), EngineError>> {
        self.world.rename(name, new)
    }

    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::RemovesContainersOfOthers) {
                for name in self.names(|found| found.is_foreign) {
                    let _ = self.world.remove(&name).await;
                }
            }
            self.world.remove(name).await
        })
    }

    fn images(&self) -> Pending<'_, Result<Vec<ListedImage>, EngineError>> {
        self.world.images()
    }

    fn image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<ImageFacts, EngineError>> {
        self.world.image(uri)
    }

    fn pull<'a>(
        &'a self,
        uri: &'a ImageUri,
        progress: &'a (dyn Fn(u8) + Send + Sync),
    ) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::PullsTwice) {
                let (one, two) = (
                    self.world.pull(uri, progress),
                    self.world.pull(uri, progress),
                );
                return future::zip(one, two).await.0;
            }
            self.world.pull(uri, progress).await
        })
    }

    fn remove_image<'a>(&'a self, uri: &'a ImageUri) -> Pending<'a, Result<(), EngineError>> {
        Box::pin(async move {
            if self.is(Mistake::RemovesImagesOfOthers) {
                let all = self.world.with(|state| {
                    let all = state.engine.images.keys();
                    let others = all.filter(|uri| !state.engine.pulled.contains(uri));
                    others.cloned().collect::<Vec<_>>()
                });
                for uri in all {
                    let _ = self.world.remove_image(&uri).await;
                }
            }
            self.world.remove_image(uri).await
        })
    }

    fn networks(&self) -> Pending<'_, Result<Vec<Owned<(NetworkName, Network)>>, EngineError>> {
        self.world.networks()
    }

    fn create_network<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a NetworkName,
        config: &'a NetworkConfig,
    ) -> Pending<'a, Result<String, EngineError>> {
        self.world.create_network(oci_name, app, name, config)
    }

    fn remove_network<'a>(&'a self, id: &'a str) -> Pending<'a, Result<(), EngineError>> {
        self.world.remove_network(id)
    }

    fn volumes(&self) -> Pending<'_, Result<Vec<FoundVolume>, EngineError>> {
        self.world.volumes()
    }

    fn create_volume<'a>(
        &'a self,
        oci_name: &'a str,
        app: &'a AppUuid,
        name: &'a VolumeName,
        config: &'a VolumeConfig,
    ) -> Pending<'a, Result<(), EngineError>> {
        self.world.create_volume(oci_name, app, name, config)
    }

    fn remove_volume<'a>(&'a self, oci_name: &'a str) -> Pending<'a, Result<(), EngineError>> {
        self.world.remove_volume(oci_name)
    }

    fn events(&self) -> Pending<'_, Result<Box<dyn Events>, EngineError>> {
        Box::pin(async {
            let events = self.world.events().await?;
            Ok(match self.is(Mistake::DropsWhatItReads) {
                true => Box::new(Forgetful(events)),
                false => events,
            })
        })
    }
}

/// Begins to wait for an event and thinks better of it.
struct Forgetful(Box<dyn Events>);

impl Events for Forgetful {
    fn next(&mut self) -> Pending<'_, Result<EngineEvent, EngineError>> {
        Box::pin(async {
            match future::poll_once(self.0.next()).await {
                Some(event) => event,
                None => self.0.next().await,
            }
        })
    }
}

impl Host for Bent {
    fn make_dir(&self, dir: &str) {
        self.world.make_dir(dir);
    }

    fn lock(&self, dir: &str, force: bool) -> Result<Option<String>, LockRefused> {
        self.world
            .lock(dir, force || self.is(Mistake::OverridesLocks))
    }

    fn unlock(&self, dir: &str) {
        if !self.is(Mistake::KeepsLocks) {
            self.world.unlock(dir);
        }
    }

    fn is_handed_over(&self, dir: &str) -> bool {
        self.world.is_handed_over(dir)
    }

    fn clear_hand_over(&self, dir: &str) {
        self.world.clear_hand_over(dir);
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        self.world.free_bytes(dir)
    }

    fn vitals(&self) -> Vitals {
        self.world.vitals()
    }
}

impl Remote for Bent {
    fn cached(&self) -> Pending<'_, Option<Vec<u8>>> {
        self.world.cached()
    }

    fn poll(&self) -> Pending<'_, Result<Polled, RemoteError>> {
        Box::pin(async {
            if self.is(Mistake::WritesWithEachPoll) {
                let count = self.world.with(|state| state.backend.polls.to_string());
                let _ = Store::put(&self.world, "polls", count.as_bytes()).await;
            }
            self.world.poll().await
        })
    }

    fn keep<'a>(&'a self, document: &'a [u8]) -> Pending<'a, ()> {
        self.world.keep(document)
    }

    fn report<'a>(&'a self, body: &'a [u8]) -> Pending<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            match self.mistake {
                Mistake::NeverReports => Ok(()),
                Mistake::ReportsWhatNobodyKnows => {
                    let text = String::from_utf8_lossy(body).replace("oner", "onex");
                    self.world.report(text.as_bytes()).await
                }
                _ => self.world.report(body).await,
            }
        })
    }
}

impl Store for Bent {
    fn get<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Vec<u8>>, StoreError>> {
        self.world.get(path)
    }

    fn put<'a>(&'a self, path: &'a str, bytes: &'a [u8]) -> Pending<'a, Result<(), StoreError>> {
        self.world.put(path, bytes)
    }

    fn delete<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        self.world.delete(path)
    }

    fn list<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        if self.is(Mistake::ForgetsItsImages) && path == "pulled" {
            return Box::pin(async { Ok(Vec::new()) });
        }
        self.world.list(path)
    }

    fn quarantine<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        self.world.quarantine(path)
    }
}

/// So many histories are tried before a mistake counts as unnoticed.
const SEEDS: u64 = 100;

/// Asserts that some history of an agent with this mistake has these words in its verdict.
fn is_noticed(mistake: Mistake, words: &str) {
    let given = |world: &World| {
        let bent = Arc::new(Bent {
            world: world.clone(),
            mistake,
        });
        Given {
            engine: bent.clone(),
            store: bent.clone(),
            host: bent.clone(),
            remote: bent,
        }
    };
    let mut seeds = 1..=SEEDS;
    let noticed = seeds.any(|seed| {
        let wrong = history(seed, given);
        wrong.iter().any(|line| line.contains(words))
    });
    assert!(noticed, "nobody notices an agent that {mistake:?}");
}

macro_rules! noticed {
    ($($name:ident: $mistake:ident, $words:literal;)*) => {$(
        #[test]
        fn $name() {
            is_noticed(Mistake::$mistake, $words);
        }
    )*};
}

noticed! {
    d_20_a_stop_before_the_successor_is_made_is_noticed: StopsBeforeItMakes, "its successor is not made";
    d_12_a_volume_that_is_removed_is_noticed: RemovesUnusedVolumes, "and its app is in the target";
    fd_09_an_image_of_others_that_is_removed_is_noticed: RemovesImagesOfOthers, "is removed and not ours";
    fd_41_a_container_of_others_that_is_removed_is_noticed: RemovesContainersOfOthers, "removed and not ours";
    two_calls_at_once_are_noticed: CallsTwice, "two changing calls at once";
    two_pulls_of_one_image_are_noticed: PullsTwice, "is pulled twice at once";
    d_18_what_is_not_reached_is_noticed: NeverStarts, "the status is";
    fd_14_a_long_gap_is_noticed: TakesItsTime, "is down since";
    fd_03_a_lock_that_is_left_is_noticed: KeepsLocks, "locks are left";
    fd_05_an_override_without_a_reason_is_noticed: OverridesLocks, "is disregarded without a reason";
    r_rep_4_a_missing_last_report_is_noticed: NeverReports, "the last report says";
    r_rep_5_a_release_that_nobody_knows_is_noticed: ReportsWhatNobodyKnows, "is reported and unknown";
    fd_33_a_write_for_nothing_is_noticed: WritesWithEachPoll, "though nothing changes";
    fd_09_an_image_that_is_left_is_noticed: ForgetsItsImages, "is left";
    an_event_that_is_half_read_is_noticed: DropsWhatItReads, "is thrown away";
}
