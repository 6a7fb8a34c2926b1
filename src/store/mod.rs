//! Small files that survive power cuts; implements [`world::store`](crate::world::store).
//!
//! Laid out as upstream does (state-engine 8.3), so that its documents are found:
//! `contents/0/{path}` holds what counts, `staging/` what is being written.
//!
//! # Invariants
//!
//! * A document is written beside its place, synced, and renamed over it, and
//!   its directory is synced: after a power cut the old or the new one is there.
//! * Nothing is written that is there already (FD-33).
//! * What is there already may not be on disk yet, if a former sync failed or its process
//!   was killed: the first time that a directory is met in a run it is synced.
//! * A sync may take seconds on worn flash. It runs on a thread of its own that
//!   ends with it (D-03).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use crate::base::lock;
use crate::base::thread::on_thread;
use crate::base::{hash, random, wall};
use crate::limits;
use crate::world::Pending;
use crate::world::store::{Store, StoreError};

/// Held, together with others of its kind, by every agent that uses a directory.
pub const AGENT_LOCK: &str = "agent.lock";

/// Takes a lock beside the documents below `root`, for as long as the file is open; shared
/// with others who share it, or alone. `None`: somebody else holds it.
///
/// # Errors
/// When the directory or the file cannot be made.
pub fn hold(root: &Path, name: &str, is_shared: bool) -> io::Result<Option<File>> {
    private_dir(root)?;
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let file = options.truncate(false).open(root.join(name))?;
    let taken = if is_shared {
        file.try_lock_shared()
    } else {
        file.try_lock()
    };
    match taken {
        Ok(()) => Ok(Some(file)),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

/// Documents below one directory.
#[derive(Debug, Clone)]
pub struct Files {
    contents: PathBuf,
    staging: PathBuf,
    met: Arc<Mutex<AllMet>>,
}

/// The directories that were met in this run, the latest last. One that is forgotten is synced
/// once more when it is met again.
#[derive(Debug, Default)]
struct AllMet {
    /// Meetings so far.
    count: u64,
    dirs: Vec<Met>,
}

/// What this run did in a directory.
#[derive(Debug)]
struct Met {
    /// Hash of its path.
    dir: u64,
    /// The meeting of its last change that was made or begun, or its first one.
    changed: u64,
    /// What that was when it was last synced; `None` before the first sync.
    synced: Option<u64>,
}

impl AllMet {
    /// What is known of a directory, and the number of this meeting.
    fn meet(&mut self, dir: u64) -> (&mut Met, u64) {
        self.count += 1;
        let known = self.dirs.iter().position(|met| met.dir == dir);
        let met = known.map(|at| self.dirs.remove(at)).unwrap_or(Met {
            dir,
            // Never that of one which was forgotten: somebody may be syncing it right now.
            changed: self.count,
            synced: None,
        });
        if self.dirs.len() == limits::STORE_DIRS_MET {
            self.dirs.remove(0);
        }
        (self.dirs.push_mut(met), self.count)
    }
}

impl Files {
    /// Opens the store, making its directories and clearing what a former run
    /// left half written. Only for the one process that owns the store.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn open(root: &Path) -> io::Result<Files> {
        let files = Files::shared(root)?;
        for left in fs::read_dir(&files.staging)?.flatten() {
            // Whatever is still there belongs to a writer that is gone.
            let _ = fs::remove_file(left.path());
        }
        Ok(files)
    }

    /// Opens a store that another process may be writing to right now.
    ///
    /// # Errors
    /// When the directories cannot be made.
    pub fn shared(root: &Path) -> io::Result<Files> {
        let files = Files::below(root);
        for dir in [&files.contents, &files.staging] {
            private_dir(dir)?;
        }
        Ok(files)
    }

    /// The same, and its directories are only made when something is written.
    #[must_use]
    pub fn below(root: &Path) -> Files {
        Files {
            contents: root.join("contents/0"),
            staging: root.join("staging"),
            met: Arc::default(),
        }
    }

    /// Clears what killed writers left half written, where others may be writing right now:
    /// theirs is younger than [`limits::STAGED_AGE_MAX`]. Best effort.
    pub fn clear_old(&self) {
        let Ok(left) = fs::read_dir(&self.staging) else {
            return;
        };
        for left in left.flatten() {
            // A clock that was set meanwhile makes it older, or younger than now.
            let is_young = rustix::fs::stat(left.path()).is_ok_and(|found| {
                let age = wall::secs().abs_diff(found.st_mtime);
                age <= limits::STAGED_AGE_MAX.as_secs()
            });
            if !is_young {
                let _ = fs::remove_file(left.path());
            }
        }
    }

    /// Makes a document unless there is one; of two who try at once one wins, and both
    /// read the same afterwards.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_new(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(path)?;
        let dir = place.parent().unwrap_or(&self.contents);
        private_dir(dir)?;
        private_dir(&self.staging)?;
        let staged = self.staging.join(random::hex(32)?);
        self.changed(dir);
        let linked = stage(&staged, bytes).and_then(|()| fs::hard_link(&staged, &place));
        self.changed(dir);
        let _ = fs::remove_file(&staged);
        match linked {
            Ok(()) => self.sync_up_to_root(dir),
            // Whoever made it may have been killed before its own sync.
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => self.sync_up_to_root(dir),
            // A file system without links: the last one wins there.
            Err(_) => self.write(path, bytes),
        }
    }

    /// The file of a document.
    ///
    /// # Errors
    /// When the path could lead out of the store.
    pub fn place(&self, path: &str) -> io::Result<PathBuf> {
        let normal = Path::new(path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        if path.is_empty() || !normal || path.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "invalid path"));
        }
        Ok(self.contents.join(path))
    }

    /// The bytes of a document, `None` when there is none. Does not wait for a disk's sync.
    ///
    /// # Errors
    /// When it is there and cannot be read, or is longer than a document may be.
    pub fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match File::open(self.place(path)?) {
            Ok(file) => {
                let mut bytes = Vec::new();
                let max = limits::DOCUMENT_BYTES_MAX as u64;
                file.take(max + 1).read_to_end(&mut bytes)?;
                if bytes.len() as u64 > max {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "too long"));
                }
                Ok(Some(bytes))
            }
            Err(err) if is_absent(&err) => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Replaces a document and waits for the disk. For start-up and for threads.
    ///
    /// # Errors
    /// When the disk refuses; the former document is still there then.
    pub fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(path)?;
        let dir = place.parent().unwrap_or(&self.contents);
        if self.has(path, bytes) {
            return self.sync_up_to_root(dir);
        }
        private_dir(dir)?;
        private_dir(&self.staging)?;
        let staged = self.staging.join(random::hex(32)?);
        self.changed(dir);
        let written = stage(&staged, bytes).and_then(|()| fs::rename(&staged, &place));
        self.changed(dir);
        if written.is_err() {
            let _ = fs::remove_file(&staged);
        }
        written?;
        self.sync_up_to_root(dir)
    }

    fn has(&self, path: &str, bytes: &[u8]) -> bool {
        let known = self.read(path).ok().flatten();
        known.is_some_and(|known| known == bytes)
    }

    fn met<R>(&self, dir: &Path, see: impl FnOnce(&mut Met, u64) -> R) -> R {
        let dir = hash::short(dir.as_os_str().as_encoded_bytes());
        let mut all = lock::lock(&self.met);
        let (met, number) = all.meet(dir);
        see(met, number)
    }

    /// Something in this directory was changed, or is about to be.
    fn changed(&self, dir: &Path) {
        self.met(dir, |met, number| met.changed = number);
    }

    fn is_synced(&self, dir: &Path) -> bool {
        self.met(dir, |met, _| met.synced == Some(met.changed))
    }

    /// What was made, renamed or removed in a directory is only so for certain after this; and
    /// a new directory once its parent is synced. Does nothing where nothing was changed.
    fn sync_up_to_root(&self, from: &Path) -> io::Result<()> {
        for dir in from.ancestors() {
            let changed = self.met(dir, |met, _| met.changed);
            if !self.is_synced(dir) {
                sync(dir)?;
                self.met(dir, |met, _| met.synced = Some(changed));
            }
            if dir == self.contents {
                break;
            }
        }
        Ok(())
    }

    /// Removes a document, or everything below a path that ends with `/`. What is not
    /// there counts as removed.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let place = self.place(path.strip_suffix('/').unwrap_or(path))?;
        let removed = match path.strip_suffix('/') {
            Some(_) => fs::remove_dir_all(&place),
            None => fs::remove_file(&place),
        };
        self.gone(&place, removed)
    }

    /// After something was taken away from its place, which is synced: it would come back after
    /// a power cut. So may what an earlier run took away.
    fn gone(&self, place: &Path, done: io::Result<()>) -> io::Result<()> {
        let dir = place.parent().unwrap_or(&self.contents);
        match done {
            Ok(()) => self.changed(dir),
            Err(err) if is_absent(&err) => {}
            Err(err) => return Err(err),
        }
        match self.sync_up_to_root(dir) {
            Err(err) if is_absent(&err) => Ok(()),
            other => other,
        }
    }

    fn names(&self, path: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.place(path)?) {
            Ok(entries) => entries,
            Err(err) if is_absent(&err) => return Ok(Vec::new()),
            Err(err) => return Err(err),
        };
        let names = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// Where a document goes that cannot be read.
    ///
    /// # Errors
    /// When the path could lead out of the store.
    pub fn aside(&self, path: &str) -> io::Result<PathBuf> {
        let place = self.place(path)?;
        let name = place
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        Ok(place.with_file_name(format!(".{}.unreadable", name.unwrap_or_default())))
    }

    /// Puts a document there, in place of the one before it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside(&self, path: &str) -> io::Result<()> {
        self.set_aside_as(path, &self.aside(path)?)
    }

    /// The same, to a place in the same directory.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn set_aside_as(&self, path: &str, aside: &Path) -> io::Result<()> {
        let place = self.place(path)?;
        self.gone(&place, fs::rename(&place, aside))
    }
}

fn is_absent(err: &io::Error) -> bool {
    matches!(
        err.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Makes a directory, and all above it that are missing, to last.
fn private_dir(dir: &Path) -> io::Result<()> {
    let missing = dir.ancestors().take_while(|dir| !dir.is_dir());
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    missing
        .iter()
        .filter_map(|made| made.parent())
        .try_for_each(sync)
}

fn sync(dir: &Path) -> io::Result<()> {
    match File::open(dir)?.sync_all() {
        // Some file systems have nothing to sync there, and say so.
        Err(err) if err.kind() == io::ErrorKind::InvalidInput => Ok(()),
        other => other,
    }
}

fn stage(staged: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(staged)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn failed(path: &str, err: &io::Error) -> StoreError {
    StoreError {
        path: path.to_owned(),
        said: err.to_string(),
    }
}

impl Store for Files {
    fn get<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move { self.read(path).map_err(|err| failed(path, &err)) })
    }

    fn put<'a>(&'a self, path: &'a str, bytes: &'a [u8]) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let is_synced = |place: PathBuf| place.parent().is_some_and(|dir| self.is_synced(dir));
            if self.has(path, bytes) && self.place(path).is_ok_and(is_synced) {
                return Ok(());
            }
            let (files, place, copy) = (self.clone(), path.to_owned(), bytes.to_owned());
            let written = on_thread(move || files.write(&place, &copy)).await;
            written.map_err(|err| failed(path, &err))
        })
    }

    fn delete<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move { self.remove(path).map_err(|err| failed(path, &err)) })
    }

    fn list<'a>(&'a self, path: &'a str) -> Pending<'a, Result<Vec<String>, StoreError>> {
        Box::pin(async move { self.names(path).map_err(|err| failed(path, &err)) })
    }

    fn quarantine<'a>(&'a self, path: &'a str) -> Pending<'a, Result<(), StoreError>> {
        Box::pin(async move { self.set_aside(path).map_err(|err| failed(path, &err)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::block_on;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("helios-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn what_is_put_is_found_private_and_listed() {
        let root = scratch("store");
        let store = Files::open(&root).unwrap();
        block_on(async {
            assert_eq!(store.get("apps/a/name").await.unwrap(), None);
            store.put("apps/a/name", b"\"x\"").await.unwrap();
            store.put("apps/b/name", b"1").await.unwrap();
            assert_eq!(store.get("apps/a/name").await.unwrap().unwrap(), b"\"x\"");
            assert_eq!(store.list("apps").await.unwrap(), ["a", "b"]);
            assert_eq!(store.list("nothing").await.unwrap(), Vec::<String>::new());
            store.delete("apps/a/").await.unwrap();
            store.delete("apps/a/").await.unwrap();
            assert_eq!(store.list("apps").await.unwrap(), ["b"]);
        });
        let file = root.join("contents/0/apps/b/name");
        assert_eq!(
            fs::metadata(file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn fd_33_the_same_bytes_are_not_written_again() {
        let root = scratch("same");
        let store = Files::open(&root).unwrap();
        let inode = || fs::metadata(root.join("contents/0/x")).unwrap().ino();
        store.write("x", b"1").unwrap();
        let first = inode();
        store.write("x", b"1").unwrap();
        assert_eq!(inode(), first);
        store.write("x", b"2").unwrap();
        assert_ne!(inode(), first);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn of_two_who_make_a_document_the_first_wins() {
        let root = scratch("new");
        let (one, two) = (Files::open(&root).unwrap(), Files::shared(&root).unwrap());
        one.write_new("key", b"1").unwrap();
        two.write_new("key", b"2").unwrap();
        assert_eq!(two.read("key").unwrap().unwrap(), b"1");
        assert_eq!(fs::read_dir(root.join("staging")).unwrap().count(), 0);
        fs::remove_dir_all(root).unwrap();
    }

    /// What a killed or failing writer left in its place is synced by the next who wants it
    /// there, once (R-REG-1).
    #[test]
    fn r_reg_1_what_is_there_already_is_synced_the_first_time() {
        let root = scratch("synced");
        let dir = root.join("contents/0/a");
        let is_synced = |files: &Files| files.is_synced(&dir) && files.is_synced(&files.contents);
        Files::open(&root).unwrap().write("a/x", b"1").unwrap();
        for way in 0..4 {
            let files = Files::open(&root).unwrap();
            assert!(!is_synced(&files), "another run knows nothing");
            match way {
                0 => files.write("a/x", b"1").unwrap(),
                1 => files.write_new("a/x", b"2").unwrap(),
                2 => block_on(files.put("a/x", b"1")).unwrap(),
                _ => files.remove("a/y").unwrap(),
            }
            assert!(is_synced(&files), "way {way}");
            files.changed(&dir);
            assert!(!is_synced(&files));
            block_on(files.put("a/x", b"1")).unwrap();
            assert!(is_synced(&files), "after a sync that failed");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn issue_9_what_is_known_of_directories_has_a_limit() {
        let root = scratch("met");
        let files = Files::open(&root).unwrap();
        let dir = |number: usize| root.join(format!("contents/0/a/{number}"));
        let end = 3 * limits::STORE_DIRS_MET;
        for number in 0..end {
            files.write(&format!("a/{number}/x"), b"1").unwrap();
        }
        let known = || lock::lock(&files.met).dirs.len();
        assert_eq!(known(), limits::STORE_DIRS_MET);
        // Those that are met again and again stay.
        for one in [&files.contents, &root.join("contents/0/a"), &dir(end - 1)] {
            assert!(files.is_synced(one), "{}", one.display());
        }
        // Whoever syncs one that is forgotten meanwhile, once or twice, has not synced what is
        // changed then.
        let forget = || (1..end).for_each(|number| files.changed(&dir(number)));
        let before = files.met(&dir(0), |met, _| met.changed);
        forget();
        files.changed(&dir(0));
        files.met(&dir(0), |met, _| met.synced = Some(before));
        assert!(!files.is_synced(&dir(0)));
        forget();
        files.met(&dir(0), |met, _| met.synced = Some(before));
        assert!(!files.is_synced(&dir(0)));
        files.write("a/0/x", b"1").unwrap();
        assert!(files.is_synced(&dir(0)));
        assert_eq!(known(), limits::STORE_DIRS_MET);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn old_leftovers_go_beside_a_writer_that_is_at_work() {
        let root = scratch("old");
        let files = Files::open(&root).unwrap();
        let file = |name: &str, at: std::time::SystemTime| {
            let file = File::create(root.join("staging").join(name)).unwrap();
            file.set_modified(at).unwrap();
        };
        let (now, old) = (std::time::SystemTime::now(), 2 * limits::STAGED_AGE_MAX);
        file("young", now);
        file("old", now - old);
        file("ahead", now + old);
        files.clear_old();
        let left = fs::read_dir(root.join("staging")).unwrap().flatten();
        let left: Vec<_> = left.map(|left| left.file_name()).collect();
        assert_eq!(left, ["young"]);
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn paths_cannot_leave_the_store() {
        let root = scratch("paths");
        let store = Files::open(&root).unwrap();
        for path in ["", "../x", "/etc/passwd", "a/../../x", "./x"] {
            assert!(store.read(path).is_err(), "{path}");
            assert!(store.write(path, b"").is_err(), "{path}");
        }
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn fd_32_unreadable_documents_are_set_aside() {
        let root = scratch("aside");
        let store = Files::open(&root).unwrap();
        store.write("x", b"{").unwrap();
        block_on(store.quarantine("x")).unwrap();
        assert_eq!(store.read("x").unwrap(), None);
        assert_eq!(
            fs::read(root.join("contents/0/.x.unreadable")).unwrap(),
            b"{"
        );
        fs::remove_dir_all(root).unwrap();
    }

    /// A length that 31 bits do not hold is read as what it is. The file is sparse.
    #[test]
    fn issue_9_a_file_over_2_gib_is_too_long() {
        let root = scratch("wide");
        let store = Files::open(&root).unwrap();
        store.write("x", b"").unwrap();
        let place = root.join("contents/0/x");
        let (file, length) = (File::options().write(true).open(&place), (3 << 30) + 1);
        file.unwrap().set_len(length).unwrap();
        assert_eq!(fs::metadata(place).unwrap().len(), length);
        assert_eq!(store.read("x").unwrap_err().to_string(), "too long");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn locks_are_shared_or_not_and_go_with_the_file() {
        let root = scratch("turns");
        let take = |is_shared| hold(&root, "x", is_shared).unwrap();
        let (one, two) = (take(true), take(true));
        assert!(one.is_some() && two.is_some() && take(false).is_none());
        drop((one, two));
        let alone = take(false);
        assert!(alone.is_some() && take(true).is_none() && take(false).is_none());
        assert!(hold(&root, "y", false).unwrap().is_some(), "another one");
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn leftovers_of_a_killed_writer_go_at_the_next_start() {
        let root = scratch("left");
        Files::open(&root).unwrap();
        fs::write(root.join("staging/abc"), b"half").unwrap();
        Files::open(&root).unwrap();
        assert_eq!(fs::read_dir(root.join("staging")).unwrap().count(), 0);
        fs::remove_dir_all(root).unwrap();
    }
}
