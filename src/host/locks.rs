//! Update locks and hand-over files in directories that services share with the agent
//! (target-state 7, state-engine 5.1, D-38).
//!
//! A lock of ours is a file with two known bytes that this process holds a `flock` on. The
//! bytes tell it from a service's, the `flock` from what a killed agent left (FD-03).

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt,
};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::base::random;
use crate::world::host::{Host, LockRefused, Vitals};

/// The lock files of a directory, today's name first (target-state 7.2).
const FILES: [&str; 2] = ["updates.lock", "resin-updates.lock"];
/// What a new service leaves when it took over, today's name first (target-state 7.1).
const HAND_OVER: [&str; 2] = ["handover-complete", "resin-kill-me"];
/// What is in a lock file of ours.
const TAG: [u8; 2] = [0x02, 0x63];
/// Where lock directories are below the runtime directory: ours, and the legacy supervisor's.
const PLACES: [&str; 2] = ["update-locks", "balena-supervisor/services"];
/// The beginning of the name of a lock file that is not published yet.
const UNPUBLISHED: &str = "tmp-";
/// A name that changes hands under us so often is left to the next try.
const TRIES: usize = 4;

/// The directories below the runtime directory.
#[derive(Debug)]
pub struct SharedDirs {
    /// The host's name of the runtime directory.
    host: PathBuf,
    /// Ours.
    own: PathBuf,
    held: Mutex<Vec<(String, Vec<Lock>)>>,
}

/// One lock file that is ours as long as the file is open.
#[derive(Debug)]
struct Lock {
    path: PathBuf,
    file: File,
}

/// Whose a lock file is.
enum Owner {
    Nobody,
    /// Ours: it was left by a process that is gone.
    Left(File),
    /// Another agent's that is alive.
    Agent,
    Service,
}

impl SharedDirs {
    /// The directory that the host calls `host` and this process `own`. Locks that a
    /// killed agent left there are removed (FD-03).
    #[must_use]
    pub fn open(host: &Path, own: &Path) -> SharedDirs {
        for dir in PLACES.iter().flat_map(|place| two_levels(&own.join(place))) {
            remove_left(&dir);
        }
        SharedDirs {
            host: host.to_owned(),
            own: own.to_owned(),
            held: Mutex::default(),
        }
    }

    /// Our name of a directory of the host; `None` when it is outside or goes up again.
    fn own(&self, dir: &str) -> Option<PathBuf> {
        let below = Path::new(dir).strip_prefix(&self.host).ok()?;
        let is_plain = |part| matches!(part, std::path::Component::Normal(_));
        below
            .components()
            .all(is_plain)
            .then(|| self.own.join(below))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Vec<(String, Vec<Lock>)>> {
        // A list is whole whoever panicked while holding it.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Host for SharedDirs {
    fn make_dir(&self, dir: &str) {
        let Some(own) = self.own(dir) else { return };
        let made = DirBuilder::new().recursive(true).mode(0o755).create(&own);
        // Whatever user the service is, it can make files, and remove only its own.
        let open = fs::Permissions::from_mode(0o1777);
        if let Err(error) = made.and_then(|()| fs::set_permissions(&own, open)) {
            log::debug!("{}: {error}", own.display());
        }
    }

    fn lock(&self, dir: &str, force: bool) -> Result<Option<String>, LockRefused> {
        let own = self.own(dir).filter(|own| own.is_dir());
        let Some(own) = own else { return Ok(None) };
        if self.held().iter().any(|(held, _)| held == dir) {
            return Ok(None);
        }
        let mut locks = Vec::new();
        let mut replaced = None;
        for name in FILES {
            let path = own.join(name);
            let shown = || format!("{}/{name}", dir.trim_end_matches('/'));
            match take(&path, force) {
                Ok(Some((file, was_theirs))) => {
                    replaced = replaced.or_else(|| was_theirs.then(shown));
                    locks.push(Lock { path, file });
                }
                refused => {
                    locks.into_iter().for_each(Lock::release);
                    let said = refused.map_or_else(
                        |error| format!("not to be had: {error}"),
                        |_| "held by a service".to_owned(),
                    );
                    return Err(LockRefused {
                        path: shown(),
                        said,
                    });
                }
            }
        }
        self.held().push((dir.to_owned(), locks));
        Ok(replaced)
    }

    fn unlock(&self, dir: &str) {
        let mut held = self.held();
        if let Some(at) = held.iter().position(|(held, _)| held == dir) {
            let (_, locks) = held.swap_remove(at);
            locks.into_iter().for_each(Lock::release);
        }
    }

    fn is_handed_over(&self, dir: &str) -> bool {
        let own = self.own(dir);
        own.is_some_and(|own| HAND_OVER.iter().any(|name| own.join(name).exists()))
    }

    fn clear_hand_over(&self, dir: &str) {
        let Some(own) = self.own(dir) else { return };
        for name in HAND_OVER {
            // Missing is as good as removed; what stays is seen as "handed over".
            let _ = fs::remove_file(own.join(name));
        }
    }

    fn free_bytes(&self, dir: &str) -> Option<u64> {
        super::facts::free_bytes(dir)
    }

    fn vitals(&self) -> Vitals {
        super::vitals::vitals()
    }
}

impl Drop for SharedDirs {
    fn drop(&mut self) {
        let held = std::mem::take(&mut *self.held());
        let locks = held.into_iter().flat_map(|(_, locks)| locks);
        locks.for_each(Lock::release);
    }
}

impl Lock {
    fn release(self) {
        // A file of that name that is not ours any more is somebody else's lock.
        let same = |here: Metadata| {
            let file = self.file.metadata();
            file.is_ok_and(|file| (file.dev(), file.ino()) == (here.dev(), here.ino()))
        };
        if fs::symlink_metadata(&self.path).is_ok_and(same)
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!("update lock {} stays: {error}", self.path.display());
        }
    }
}

/// Takes one lock file; `true` if it replaced a service's. `None`: somebody holds it.
fn take(path: &Path, force: bool) -> io::Result<Option<(File, bool)>> {
    for _ in 0..TRIES {
        let theirs = match owner(path)? {
            Owner::Left(file) => return Ok(Some((file, false))),
            Owner::Agent => return Ok(None),
            Owner::Service if !force => return Ok(None),
            Owner::Service => true,
            Owner::Nobody => false,
        };
        let dir = path.parent().unwrap_or(path);
        let name = format!("{UNPUBLISHED}{}.lock", random::hex(8)?);
        let new = dir.join(name);
        let published = write(&new).and_then(|file| {
            if theirs {
                fs::rename(&new, path)?;
            } else {
                fs::hard_link(&new, path)?;
            }
            Ok(file)
        });
        let _ = fs::remove_file(&new);
        match published {
            Ok(file) => return Ok(Some((file, theirs))),
            // Somebody was faster: look again whose it is.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// A lock file of ours that nobody sees yet: published whole, or not at all.
fn write(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(&TAG)?;
    file.try_lock().map_err(io::Error::from)?;
    Ok(file)
}

fn owner(path: &Path) -> io::Result<Owner> {
    let absent = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    match fs::symlink_metadata(path) {
        Err(error) if absent(&error) => return Ok(Owner::Nobody),
        Err(error) => return Err(error),
        Ok(found) if found.is_dir() => {
            return Err(io::Error::other("a directory has its name"));
        }
        // A link or pipe is not followed and not read: a service made it.
        Ok(found) if !found.is_file() => return Ok(Owner::Service),
        Ok(_) => {}
    }
    let mut file = match File::open(path) {
        Err(error) if absent(&error) => return Ok(Owner::Nobody),
        opened => opened?,
    };
    let mut tag = [0; TAG.len()];
    if file.read_exact(&mut tag).is_err() || tag != TAG {
        return Ok(Owner::Service);
    }
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => Ok(Owner::Agent),
        Err(fs::TryLockError::Error(error)) => Err(error),
        // Removed by its owner since it was opened: the name may be another file by now.
        Ok(()) if file.metadata()?.nlink() == 0 => Ok(Owner::Nobody),
        Ok(()) => Ok(Owner::Left(file)),
    }
}

/// Directories two levels below `place`.
fn two_levels(place: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fn dirs(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
    }
    dirs(place).flat_map(|dir| dirs(&dir).chain([dir]))
}

/// Removes what a killed agent left in a directory.
fn remove_left(dir: &Path) {
    for name in FILES {
        let path = dir.join(name);
        if let Ok(Owner::Left(file)) = owner(&path) {
            log::info!("removing {}, left by a former run", path.display());
            Lock { path, file }.release();
        }
    }
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        // Killed before it wrote the tag, it left nothing in the file.
        let is_empty = || {
            entry
                .metadata()
                .is_ok_and(|at| at.is_file() && at.len() == 0)
        };
        if is_unpublished(&entry.file_name().to_string_lossy())
            && (is_empty() || matches!(owner(&path), Ok(Owner::Left(_))))
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// Whether `take` gives such names to files that nobody is to see yet.
fn is_unpublished(name: &str) -> bool {
    let id = name.strip_prefix(UNPUBLISHED);
    id.and_then(|id| id.strip_suffix(".lock"))
        .is_some_and(|id| id.len() == 16 && id.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        root: PathBuf,
        dirs: SharedDirs,
    }

    const DIR: &str = "/run/helios/update-locks/app/web";

    impl Place {
        fn new(name: &str) -> Place {
            let root = std::env::temp_dir().join(format!("helios-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&root);
            fs::create_dir_all(&root).unwrap();
            let dirs = SharedDirs::open(Path::new("/run/helios"), &root);
            dirs.make_dir(DIR);
            Place { root, dirs }
        }

        fn again(&self) -> SharedDirs {
            SharedDirs::open(Path::new("/run/helios"), &self.root)
        }

        fn file(&self, name: &str) -> PathBuf {
            self.root.join("update-locks/app/web").join(name)
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.root.join("update-locks/app/web")).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.root);
        }
    }

    #[test]
    fn lck_01_taken_held_given_back() {
        let place = Place::new("lock");
        assert_eq!(place.dirs.lock(DIR, false), Ok(None));
        assert_eq!(fs::read(place.file("updates.lock")).unwrap(), TAG);
        assert_eq!(place.names(), ["resin-updates.lock", "updates.lock"]);
        assert_eq!(place.dirs.lock(DIR, false), Ok(None), "it is ours already");
        let other = place.again();
        let refused = other.lock(DIR, true).unwrap_err();
        assert_eq!(refused.path, format!("{DIR}/updates.lock"));
        place.dirs.unlock(DIR);
        assert_eq!(place.names(), [""; 0]);
        place.dirs.unlock(DIR);
        assert_eq!(other.lock(DIR, false), Ok(None));
        drop(other);
        assert_eq!(place.names(), [""; 0], "nothing is left behind");
    }

    #[test]
    fn lck_01_a_services_lock_is_respected_under_both_names() {
        let place = Place::new("theirs");
        for name in FILES {
            for content in [&b""[..], b"1", b"1234"] {
                fs::write(place.file(name), content).unwrap();
                let refused = place.dirs.lock(DIR, false).unwrap_err();
                assert_eq!(refused.path, format!("{DIR}/{name}"));
                assert_eq!(place.names(), [name], "what was taken is given back");
                fs::remove_file(place.file(name)).unwrap();
            }
        }
        fs::create_dir(place.file("updates.lock")).unwrap();
        let refused = place.dirs.lock(DIR, true).unwrap_err();
        assert!(refused.said.contains("directory"), "{refused}");
    }

    #[test]
    fn lck_03_force_replaces_a_services_lock_only() {
        let place = Place::new("force");
        fs::write(place.file("resin-updates.lock"), "").unwrap();
        let replaced = place.dirs.lock(DIR, true).unwrap();
        assert_eq!(replaced, Some(format!("{DIR}/resin-updates.lock")));
        assert!(place.again().lock(DIR, true).is_err());
        place.dirs.unlock(DIR);
        assert_eq!(place.names(), [""; 0]);
    }

    #[test]
    fn lck_03_force_of_what_is_free_and_of_what_many_want() {
        let place = Place::new("force-free");
        assert_eq!(place.dirs.lock(DIR, true), Ok(None), "nothing was there");
        place.dirs.unlock(DIR);
        fs::write(place.file("updates.lock"), "a service's").unwrap();
        let all: Vec<_> = (0..8).map(|_| place.again()).collect();
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> = all
                .iter()
                .map(|dirs| scope.spawn(|| dirs.lock(DIR, true).is_ok()))
                .collect();
            let won = tries.into_iter().map(|one| one.join().unwrap());
            won.filter(|won| *won).count()
        });
        assert!(won <= 1, "{won} hold it");
    }

    #[test]
    fn lck_04_what_is_not_held_or_gone_is_given_back_all_the_same() {
        let place = Place::new("gone");
        place.dirs.unlock(DIR);
        assert_eq!(place.dirs.lock(DIR, false), Ok(None));
        assert_eq!(place.dirs.lock(DIR, false), Ok(None), "twice");
        fs::remove_file(place.file("updates.lock")).unwrap();
        place.dirs.unlock(DIR);
        assert_eq!(place.names(), [""; 0]);
        assert_eq!(place.again().lock(DIR, false), Ok(None), "it is free");
    }

    #[test]
    fn fd_03_locks_of_a_killed_agent_are_no_locks() {
        let place = Place::new("left");
        fs::write(place.file("updates.lock"), TAG).unwrap();
        assert_eq!(place.dirs.lock(DIR, false), Ok(None));
        place.dirs.unlock(DIR);
        fs::write(place.file("updates.lock"), TAG).unwrap();
        // Killed before it was published, and before anything was in it.
        fs::write(place.file("tmp-0123456789abcdef.lock"), TAG).unwrap();
        fs::write(place.file("tmp-0123456789abcde0.lock"), "").unwrap();
        let theirs = [
            "resin-updates.lock",
            "tmp-1.lock",
            "tmp-0123456789abcde1.lock",
        ];
        for (name, content) in theirs.iter().zip(["mine", "", "mine"]) {
            fs::write(place.file(name), content).unwrap();
        }
        drop(place.again());
        let stays = [
            "resin-updates.lock",
            "tmp-0123456789abcde1.lock",
            "tmp-1.lock",
        ];
        assert_eq!(place.names(), stays, "a service's stays");
    }

    #[test]
    fn lck_04_a_lock_that_changed_hands_is_not_removed() {
        let place = Place::new("hands");
        assert_eq!(place.dirs.lock(DIR, false), Ok(None));
        fs::remove_file(place.file("updates.lock")).unwrap();
        fs::write(place.file("updates.lock"), "a service's").unwrap();
        place.dirs.unlock(DIR);
        assert_eq!(place.names(), ["updates.lock"]);
    }

    #[test]
    fn d_38_only_directories_below_the_runtime_directory() {
        let place = Place::new("outside");
        for dir in ["/tmp/other", "/run/helios/../../etc", "/run/helios/none"] {
            assert_eq!(place.dirs.lock(dir, false), Ok(None), "{dir}");
            assert!(!place.dirs.is_handed_over(dir));
        }
        assert!(!place.root.join("none").exists());
    }

    #[test]
    fn ts_7_1_hand_over_files() {
        let place = Place::new("hand");
        for name in HAND_OVER {
            assert!(!place.dirs.is_handed_over(DIR));
            fs::write(place.file(name), "").unwrap();
            assert!(place.dirs.is_handed_over(DIR));
            place.dirs.clear_hand_over(DIR);
        }
    }

    #[test]
    fn lck_02_of_many_who_try_one_wins() {
        let place = Place::new("many");
        let all: Vec<_> = (0..8).map(|_| place.again()).collect();
        let won = std::thread::scope(|scope| {
            let tries: Vec<_> = all
                .iter()
                .map(|dirs| scope.spawn(|| dirs.lock(DIR, false).is_ok()))
                .collect();
            let won = tries.into_iter().map(|one| one.join().unwrap());
            won.filter(|won| *won).count()
        });
        assert!(won <= 1, "{won} hold it");
    }
}
