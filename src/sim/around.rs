//! Backend, disk, and the directories that services share with the agent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use helios::model::ImageUri;
use helios::world::Pending;
use helios::world::host::{Host, LockRefused};
use helios::world::remote::{Polled, Remote, RemoteError, RemoteKind};
use helios::world::store::{Store, StoreError};

use super::world::{State, World};

/// What the backend has and was told.
#[derive(Default)]
pub struct Backend {
    /// The target document, and its number.
    pub target: Option<(u64, Arc<[u8]>)>,
    /// The number that the agent that lives now was told last.
    pub told: u64,
    /// The document that agents keep for their next start.
    pub kept: Option<Vec<u8>>,
    /// The last report.
    pub report: Option<Vec<u8>>,
    /// How often it was asked.
    pub polls: u64,
    /// Releases that it ever named: it knows no others.
    pub releases: BTreeSet<String>,
}

/// Documents that survive an agent.
#[derive(Default)]
pub struct Disk {
    pub documents: BTreeMap<String, Vec<u8>>,
    /// Nothing fits any more.
    pub is_full: bool,
    pub writes: u64,
    /// What could not be written, and was not since.
    unwritten: BTreeSet<Vec<u8>>,
    /// What of that nobody knows any more: the agent that tried is gone.
    forgotten: BTreeSet<Vec<u8>>,
}

impl Disk {
    /// An agent is gone, and with it what it could not write.
    pub fn forget(&mut self) {
        let unwritten = std::mem::take(&mut self.unwritten);
        self.forgotten.extend(unwritten);
    }

    /// Whether no agent can know that one pulled this image.
    pub fn is_forgotten(&self, uri: &ImageUri) -> bool {
        self.forgotten.contains(uri.as_str().as_bytes())
    }
}

/// Locks and hand-over files by directory.
#[derive(Default)]
pub struct Dirs {
    /// Directories whose lock a service holds.
    pub theirs: BTreeSet<String>,
    /// Directories whose lock the agent holds.
    pub ours: BTreeSet<String>,
    /// Directories in which a new container said that it took over.
    pub handed_over: BTreeSet<String>,
}

impl Dirs {
    /// Whether the agent holds a lock of an app.
    fn has_app(&self, app: &str) -> bool {
        self.ours.iter().any(|dir| app_of(dir) == app)
    }
}

/// The app that a lock directory belongs to.
fn app_of(dir: &str) -> String {
    dir.rsplit('/').nth(1).unwrap_or_default().to_owned()
}

/// What is free while the disk is not full.
const DISK_BYTES: u64 = 1 << 30;

fn later(said: &str) -> RemoteError {
    RemoteError {
        kind: RemoteKind::Later(None),
        said: said.to_owned(),
    }
}

impl World {
    async fn exchange(&self) -> Result<(), RemoteError> {
        let wait = self.with(|state| state.millis(200));
        self.sleep(wait).await;
        let chance = self.with(|state| state.faults.remote);
        if self.with(|state| state.chance(chance)) {
            self.sleep(Duration::from_secs(10)).await;
            return Err(later("the backend does not answer"));
        }
        Ok(())
    }

    /// A change of the disk takes its time. Whoever gives up waiting for it does not undo it,
    /// unless he is gone.
    async fn write(
        &self,
        effect: impl FnOnce(&mut State) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut writing = Writing {
            world: self,
            effect: Some(effect),
        };
        let wait = self.with(|state| state.millis(20));
        self.sleep(wait).await;
        let effect = writing.effect.take().expect("nobody took it");
        self.with(effect)
    }
}

/// A change of the disk that is under way.
struct Writing<'w, F: FnOnce(&mut State) -> Result<(), StoreError>> {
    world: &'w World,
    effect: Option<F>,
}

impl<F: FnOnce(&mut State) -> Result<(), StoreError>> Drop for Writing<'_, F> {
    fn drop(&mut self) {
        let Some(effect) = self.effect.take() else {
            return;
        };
        self.world.with(|state| {
            if !state.is_ending || state.rng.bool() {
                let _ = effect(state);
            }
        });
    }
}

impl Remote for World {
    fn cached(&self) -> Pending<'_, Option<Vec<u8>>> {
        let kept = self.with(|state| state.backend.kept.clone());
        Box::pin(async move { kept })
    }

    fn poll(&self) -> Pending<'_, Result<Polled, RemoteError>> {
        Box::pin(async {
            self.exchange().await?;
            self.with(|state| {
                state.backend.polls += 1;
                let Some((number, document)) = state.backend.target.clone() else {
                    return Err(later("there is no target yet"));
                };
                if state.backend.told == number {
                    return Ok(Polled::Unchanged);
                }
                state.backend.told = number;
                state.happens(&format!("target {number} is told"));
                Ok(Polled::Changed(document))
            })
        })
    }

    fn keep<'a>(&'a self, document: &'a [u8]) -> Pending<'a, ()> {
        self.with(|state| {
            if !state.disk.is_full {
                state.backend.kept = Some(document.to_vec());
            }
        });
        Box::pin(async {})
    }

    fn report<'a>(&'a self, body: &'a [u8]) -> Pending<'a, Result<(), RemoteError>> {
        Box::pin(async move {
            self.exchange().await?;
            self.with(|state| {
                super::checks::on_report(state, body);
                state.backend.report = Some(body.to_vec());
            });
            Ok(())
        })
    }
}

impl Store for World {
    fn get<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Vec<u8>>, StoreError>> {
        let found = self.with(|state| state.disk.documents.get(path).cloned());
        Box::pin(async move { Ok(found) })
    }

    fn put<'a>(&'a self, path: &'a str, bytes: &'a [u8]) -> Pending<'a, Result<(), StoreError>> {
        let put = move |state: &mut State| {
            let chance = state.faults.disk;
            if state.disk.is_full || state.chance(chance) {
                state.disk.unwritten.insert(bytes.to_vec());
                return Err(StoreError {
                    path: path.to_owned(),
                    said: "no space left on device".to_owned(),
                });
            }
            state.disk.writes += 1;
            state.disk.unwritten.remove(bytes);
            state.disk.forgotten.remove(bytes);
            state.disk.documents.insert(path.to_owned(), bytes.to_vec());
            Ok(())
        };
        Box::pin(async move {
            let known = self.with(|state| state.disk.documents.get(path).cloned());
            if known.is_some_and(|known| known == bytes) {
                return Ok(());
            }
            self.write(put).await
        })
    }

    fn delete<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        let is_dir = path.ends_with('/');
        let hit = move |name: &String| name == path || is_dir && name.starts_with(path);
        Box::pin(async move {
            if !self.with(|state| state.disk.documents.keys().any(hit)) {
                return Ok(());
            }
            let delete = move |state: &mut State| {
                state.disk.documents.retain(|name, _| !hit(name));
                Ok(())
            };
            self.write(delete).await
        })
    }

    fn list<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        let names = self.with(|state| {
            let prefix = format!("{}/", path.trim_end_matches('/'));
            let below = state.disk.documents.keys();
            let names = below.filter_map(|name| name.strip_prefix(&prefix)?.split('/').next());
            let visible = names.filter(|name| !name.starts_with('.'));
            visible.map(str::to_owned).collect::<BTreeSet<_>>()
        });
        Box::pin(async move { Ok(names.into_iter().collect()) })
    }

    fn quarantine<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        self.with(|state| state.disk.documents.remove(path));
        Box::pin(async { Ok(()) })
    }
}

impl Host for World {
    fn make_dir(&self, _dir: &str) {}

    fn free_bytes(&self, _dir: &str) -> Option<u64> {
        let is_full = self.with(|state| state.disk.is_full);
        Some(if is_full { 0 } else { DISK_BYTES })
    }

    fn lock(&self, dir: &str, force: bool) -> Result<Option<String>, LockRefused> {
        self.with(|state| {
            let path = format!("{dir}/updates.lock");
            let is_theirs = state.dirs.theirs.contains(dir);
            let app = app_of(dir);
            if is_theirs && !force {
                state.call(&format!("lock {app}"), false);
                let said = "held by a service".to_owned();
                return Err(LockRefused { path, said });
            }
            if is_theirs {
                super::checks::on_override(state, dir);
            }
            state.dirs.theirs.remove(dir);
            if !state.dirs.has_app(&app) {
                state.call(&format!("lock {app}"), true);
            }
            state.dirs.ours.insert(dir.to_owned());
            Ok(is_theirs.then_some(path))
        })
    }

    fn unlock(&self, dir: &str) {
        self.with(|state| {
            let app = app_of(dir);
            if state.dirs.ours.remove(dir) && !state.dirs.has_app(&app) {
                state.call(&format!("unlock {app}"), true);
            }
        });
    }

    fn is_handed_over(&self, dir: &str) -> bool {
        self.with(|state| state.dirs.handed_over.contains(dir))
    }

    fn clear_hand_over(&self, dir: &str) {
        self.with(|state| state.dirs.handed_over.remove(dir));
    }
}
