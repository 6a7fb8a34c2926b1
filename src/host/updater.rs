//! Where the host's updater is kept, and the files by which updates are known
//! (state-engine 6.5, local-api 2.7).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Component, Path, PathBuf};

use super::facts::STATE_DIRS;
use crate::base::tar::{Entry, Kind, Piece, Tar};
use crate::limits::{UPDATER_BYTES_MAX, UPDATER_FILES_MAX};

/// The name of its directory and of its container.
pub const NAME: &str = "balenahup";
/// Its program, in its directory.
pub const PROGRAM: &str = "entry.sh";
/// The directory of its image.
pub const INSIDE: &str = "/app";
/// The names by which balenaOS says that an update is not over.
const TRIALS: [&str; 2] = ["rollback-health-breadcrumb", "rollback-altboot-breadcrumb"];

/// The directories it is about.
#[derive(Debug, Clone)]
pub struct Place {
    /// The runtime directory.
    pub own: PathBuf,
    /// The host's name of it.
    pub host: PathBuf,
    /// The host's state partition, where somebody said where it is.
    pub state: Option<PathBuf>,
}

impl Place {
    /// The updater's directory, as the host calls it.
    #[must_use]
    pub fn directory(&self) -> String {
        self.host.join(NAME).to_string_lossy().into_owned()
    }

    /// Removes the updater's directory.
    ///
    /// # Errors
    /// What the system said.
    pub fn clear(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.own.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Begins to fill the directory anew.
    ///
    /// # Errors
    /// What the system said.
    pub fn unpack(&self) -> io::Result<Unpacking> {
        self.clear()?;
        let root = self.own.join(NAME);
        let mut made = DirBuilder::new();
        made.recursive(true).mode(0o755).create(&root)?;
        Ok(Unpacking {
            root,
            tar: Tar::default(),
            file: None,
            files: 0,
            bytes: 0,
        })
    }

    fn breadcrumb(&self, release: &str) -> PathBuf {
        self.own.join(format!("{NAME}-{release}-breadcrumb"))
    }

    /// Leaves the breadcrumb of a release for this start of the machine.
    ///
    /// # Errors
    /// What the system said.
    pub fn mark(&self, release: &str, boot: &str) -> io::Result<()> {
        fs::write(self.breadcrumb(release), boot)
    }

    /// Whether there is one of this start. An empty one is another agent's: it counts, and from
    /// now on it says of which start it is.
    #[must_use]
    pub fn is_marked(&self, release: &str, boot: &str) -> bool {
        match fs::read_to_string(self.breadcrumb(release)) {
            // What cannot be dated would count for ever, and the host would never stop rebooting.
            Ok(text) if text.trim().is_empty() => self.mark(release, boot).is_ok(),
            Ok(text) => text.trim() == boot,
            Err(_) => false,
        }
    }

    /// Removes it.
    pub fn unmark(&self, release: &str) {
        // Missing is as good as removed, and one that stays counts for one start only.
        let _ = fs::remove_file(self.breadcrumb(release));
    }

    /// The file by which the host says that its last update is not over.
    #[must_use]
    pub fn trial(&self) -> Option<String> {
        let known: Vec<&Path> = match &self.state {
            Some(dir) => vec![dir],
            None => STATE_DIRS.iter().map(Path::new).collect(),
        };
        let mut files = known
            .iter()
            .flat_map(|dir| TRIALS.map(|name| dir.join(name)));
        let found = files.find(|file| file.symlink_metadata().is_ok())?;
        Some(found.to_string_lossy().into_owned())
    }
}

/// The program on its way into its directory.
#[derive(Debug)]
pub struct Unpacking {
    root: PathBuf,
    tar: Tar,
    file: Option<File>,
    files: usize,
    bytes: u64,
}

impl Unpacking {
    /// Takes what has arrived of the image's directory.
    ///
    /// # Errors
    /// When that is no tar stream, is too large, or cannot be written.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let odd = |error: crate::base::tar::BadTar| error.0.to_owned();
        while let Some(piece) = self.tar.next(&mut bytes).map_err(odd)? {
            match piece {
                Piece::Entry(entry) => {
                    self.file = None;
                    let made = self.make(&entry);
                    made.map_err(|error| format!("'{}': {error}", entry.path))?;
                }
                Piece::Data(data) => {
                    if let Some(file) = &mut self.file {
                        file.write_all(data).map_err(|error| error.to_string())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// All of it has arrived.
    ///
    /// # Errors
    /// When it is cut short, or has no program.
    pub fn end(self) -> Result<(), String> {
        if !self.tar.is_over() {
            return Err("it is cut short".to_owned());
        }
        let program = fs::symlink_metadata(self.root.join(PROGRAM));
        match program.is_ok_and(|found| found.is_file()) {
            true => Ok(()),
            false => Err(format!("it has no {INSIDE}/{PROGRAM}")),
        }
    }

    fn make(&mut self, entry: &Entry) -> io::Result<()> {
        let Some(path) = self.below(&entry.path)? else {
            return Ok(());
        };
        self.files += 1;
        let size = match entry.kind {
            Kind::File(size) => size,
            _ => 0,
        };
        self.bytes = self.bytes.saturating_add(size);
        if self.files > UPDATER_FILES_MAX || self.bytes > UPDATER_BYTES_MAX {
            return Err(io::Error::other("the updater is too large"));
        }
        let mode = entry.mode & 0o777;
        match &entry.kind {
            Kind::Directory => match DirBuilder::new().mode(mode | 0o700).create(&path) {
                // Made for what is in it.
                Err(_) if is_real_dir(&path) => Ok(()),
                made => made,
            },
            Kind::File(_) => {
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(mode);
                self.file = Some(options.open(path)?);
                Ok(())
            }
            Kind::Symlink(to) => std::os::unix::fs::symlink(to, path),
            Kind::Link(to) => match self.below(to)? {
                Some(to) => fs::hard_link(to, path),
                None => Err(io::Error::other("it links to what is not there")),
            },
            Kind::Other => Ok(()),
        }
    }

    /// Where a path of the stream is, `None` for the directory itself. Nothing is ever made
    /// behind a link.
    fn below(&self, path: &str) -> io::Result<Option<PathBuf>> {
        let odd = || io::Error::other("its path leads out of the updater");
        let parts = Path::new(path).components();
        let mut parts =
            parts.filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
        let inside = INSIDE.trim_start_matches('/');
        if parts.next() != Some(Component::Normal(inside.as_ref())) {
            return Err(odd());
        }
        let mut found = self.root.clone();
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return Ok(None);
        }
        while let Some(part) = parts.next() {
            let Component::Normal(name) = part else {
                return Err(odd());
            };
            found.push(name);
            if parts.peek().is_none() || is_real_dir(&found) {
                continue;
            }
            DirBuilder::new().mode(0o755).create(&found)?;
        }
        Ok(Some(found))
    }
}

fn is_real_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    struct Dir(PathBuf);

    impl Dir {
        fn new(name: &str) -> Dir {
            let dir =
                std::env::temp_dir().join(format!("helios-hup-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("run")).unwrap();
            Dir(dir)
        }

        fn place(&self) -> Place {
            Place {
                own: self.0.join("run"),
                host: "/tmp/host".into(),
                state: Some(self.0.join("state")),
            }
        }

        /// A tar stream of `app`, made by the script.
        fn tar(&self, script: &str) -> Vec<u8> {
            let script = format!("set -e; mkdir -p made/app; cd made; {script}; tar -cf - app");
            let made = Command::new("sh")
                .args(["-c", &script])
                .current_dir(&self.0)
                .output();
            let made = made.unwrap();
            assert!(made.status.success(), "{made:?}");
            made.stdout
        }

        fn unpack(&self, stream: &[u8]) -> Result<(), String> {
            let mut unpacking = self.place().unpack().unwrap();
            stream
                .chunks(1000)
                .try_for_each(|piece| unpacking.take(piece))?;
            unpacking.end()
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const GOOD: &str = "printf '#!/bin/sh\\nexit 0\\n' > app/entry.sh; chmod 755 app/entry.sh; \
        mkdir app/lib; head -c 5000 /dev/zero > app/lib/data; ln -s lib/data app/soft; \
        ln app/lib/data app/hard";

    #[test]
    fn se_6_5_the_program_is_unpacked_in_place_of_the_former() {
        let dir = Dir::new("unpack");
        let root = dir.0.join("run").join(NAME);
        fs::create_dir_all(root.join("old")).unwrap();
        dir.unpack(&dir.tar(GOOD)).unwrap();
        assert!(!root.join("old").exists());
        assert_eq!(
            fs::metadata(root.join(PROGRAM))
                .unwrap()
                .permissions()
                .mode()
                & 0o777,
            0o755
        );
        for name in ["lib/data", "soft", "hard"] {
            assert_eq!(fs::read(root.join(name)).unwrap(), [0; 5000], "{name}");
        }
        assert_eq!(dir.place().directory(), "/tmp/host/balenahup");
        dir.place().clear().unwrap();
        assert!(!root.exists());
        dir.place().clear().unwrap();
    }

    #[test]
    fn se_6_5_what_is_no_updater_is_refused() {
        let dir = Dir::new("refused");
        let why = dir.unpack(&dir.tar("touch app/other")).unwrap_err();
        assert!(why.contains("/app/entry.sh"), "{why}");
        let good = dir.tar(GOOD);
        let why = dir.unpack(&good[..good.len() / 2]).unwrap_err();
        assert!(why.contains("cut short"), "{why}");
        assert!(dir.unpack(b"nonsense").is_err());
        // A directory that is a link is no place for files.
        let outside = dir.0.join("outside");
        fs::create_dir(&outside).unwrap();
        let script = format!(
            "rm -rf app; mkdir app; ln -s {} app/lib; tar -cf a app; rm app/lib; mkdir app/lib; touch app/lib/x; \
             tar -rf a app/lib/x; rm app/lib/x; rmdir app/lib; cat a >&2",
            outside.display()
        );
        let whole = format!("cd {}/made; {script}", dir.0.display());
        let made = Command::new("sh").args(["-c", &whole]).output().unwrap();
        let why = dir.unpack(&made.stderr).unwrap_err();
        assert!(why.contains("app/lib/x"), "{why}");
        assert!(!outside.join("x").exists());
        let up = Command::new("sh")
            .args([
                "-c",
                "cd \"$0\"; mkdir -p made/app; tar -cPf - made/app/../../run",
                dir.0.to_str().unwrap(),
            ])
            .output()
            .unwrap();
        assert!(dir.unpack(&up.stdout).is_err());
    }

    #[test]
    fn w_30_a_breadcrumb_counts_for_one_start_of_the_machine() {
        let dir = Dir::new("crumb");
        let place = dir.place();
        let file = dir.0.join("run/balenahup-h1-breadcrumb");
        assert!(!place.is_marked("h1", "boot1"));
        place.mark("h1", "boot1").unwrap();
        assert!(file.exists());
        assert!(place.is_marked("h1", "boot1") && !place.is_marked("h1", "boot2"));
        assert!(!place.is_marked("h2", "boot1"));
        place.unmark("h1");
        place.unmark("h1");
        assert!(!place.is_marked("h1", "boot1"));
        fs::write(&file, "").unwrap();
        assert!(place.is_marked("h1", "boot2"), "another agent's");
        assert!(!place.is_marked("h1", "boot3"), "and only once");
    }

    #[test]
    fn ac_15_a_host_that_is_not_sure_of_its_system_says_so() {
        let dir = Dir::new("trial");
        assert_eq!(dir.place().trial(), None);
        for name in TRIALS {
            fs::create_dir_all(dir.0.join("state")).unwrap();
            let file = dir.0.join("state").join(name);
            fs::write(&file, "").unwrap();
            assert_eq!(dir.place().trial().as_deref(), file.to_str());
            fs::remove_file(&file).unwrap();
        }
    }
}
