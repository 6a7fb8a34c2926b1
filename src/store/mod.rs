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
//! * A sync may take seconds on worn flash. It runs on a thread of its own that
//!   ends with it (D-03).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use crate::base::random;
use crate::base::thread::on_thread;
use crate::limits;
use crate::world::Pending;
use crate::world::store::{Store, StoreError};

/// Documents below one directory.
#[derive(Debug, Clone)]
pub struct Files {
    contents: PathBuf,
    staging: PathBuf,
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
        let linked = stage(&staged, bytes).and_then(|()| fs::hard_link(&staged, &place));
        let _ = fs::remove_file(&staged);
        match linked {
            Err(err) if err.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            // A file system without links: the last one wins there.
            Err(_) => self.write(path, bytes),
            Ok(()) => self.sync_up_to_root(dir),
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
        if self
            .read(path)
            .ok()
            .flatten()
            .is_some_and(|old| old == bytes)
        {
            return Ok(());
        }
        let dir = place.parent().unwrap_or(&self.contents);
        private_dir(dir)?;
        private_dir(&self.staging)?;
        let staged = self.staging.join(random::hex(32)?);
        let written = stage(&staged, bytes).and_then(|()| fs::rename(&staged, &place));
        if written.is_err() {
            let _ = fs::remove_file(&staged);
        }
        written?;
        self.sync_up_to_root(dir)
    }

    /// A new directory is only there for certain once its parent is synced.
    fn sync_up_to_root(&self, from: &Path) -> io::Result<()> {
        for dir in from.ancestors() {
            sync(dir)?;
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
        match removed {
            Err(err) if is_absent(&err) => Ok(()),
            Err(err) => Err(err),
            // It would come back after a power cut.
            Ok(()) => place.parent().map_or(Ok(()), sync),
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
        names.sort();
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
        let place = self.place(path)?;
        match fs::rename(&place, self.aside(path)?) {
            Err(err) if is_absent(&err) => Ok(()),
            Err(err) => Err(err),
            Ok(()) => place.parent().map_or(Ok(()), sync),
        }
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

/// What was made, renamed or removed in a directory is only so for certain after this.
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
            if self
                .read(path)
                .ok()
                .flatten()
                .is_some_and(|old| old == bytes)
            {
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
