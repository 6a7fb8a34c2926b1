//! The last target on disk, so that the next start needs no network (FD-25, R-POLL-9).
//!
//! One file a poll URL, as upstream names it (state-engine 8.2): a JSON object with the
//! ETag, the document, its checksum, whose key it was fetched with and when. Upstream's
//! has the first two alone and is read too. One that cannot be read is set aside, with a
//! line in the log: the next poll, without a condition, makes another (FD-32).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;

use crate::base::hash;
use crate::base::json::{fields, written};
use crate::limits;

/// The highest number of a form that is read. This one goes without: upstream's has none.
const FORMAT: u32 = 1;

#[derive(Default)]
struct Entry<'a> {
    format: Option<u32>,
    etag: Option<String>,
    /// Always there in this form.
    value: Option<&'a RawValue>,
    /// SHA-256 of the value's bytes.
    sha256: Option<String>,
    /// The beginning of the key's hash.
    whose: Option<String>,
    /// Seconds since the epoch, for whoever looks at the file.
    fetched: Option<i64>,
}

fields!(Entry<'de> { format, etag, value, sha256, whose, fetched });

written!(Entry<'_> {
    format, etag always, value always, sha256, whose, fetched,
});

/// Where the answer of this poll URL is kept.
pub(super) fn file(dir: &Path, poll_url: &str) -> PathBuf {
    dir.join(format!("{}.json", hash::sha256_hex(poll_url.as_bytes())))
}

/// Where a file goes that cannot be read, in place of the one before it.
fn aside(file: &Path) -> PathBuf {
    file.with_extension("json.unreadable")
}

/// The ETag and the document. What was fetched with another key than `whose` counts as absent,
/// and so does what cannot be read, which is set aside.
pub(super) fn read(file: &Path, whose: &str) -> Option<Kept> {
    let found = match load(file) {
        Ok(bytes) => understand(&bytes, whose),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(error.to_string()),
        Err(error) => {
            // The next start may be luckier.
            log::warn!("the cached target cannot be read and is not used: {error}");
            return None;
        }
    };
    found.unwrap_or_else(|why| {
        let aside = aside(file);
        let moved = match fs::rename(file, &aside) {
            Ok(()) => format!("set aside as {}", aside.display()),
            Err(error) => format!("left where it is: {error}"),
        };
        log::warn!("the cached target cannot be read: {why}; it is asked for anew, and {moved}");
        None
    })
}

fn load(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut limited = File::open(file)?.take(limits::DOCUMENT_BYTES_MAX as u64);
    limited.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// An ETag, and a document.
type Kept = (Option<String>, Vec<u8>);

/// `Ok(None)` for one that is good, and somebody else's.
fn understand(bytes: &[u8], whose: &str) -> Result<Option<Kept>, String> {
    let entry: Entry<'_> = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if let Some(later) = entry.format.filter(|format| *format > FORMAT) {
        let why = "a later version of this program wrote it";
        return Err(format!("{why} (its format is {later}, {FORMAT} is read)"));
    }
    let value = entry.value.ok_or("it holds no target")?.get().as_bytes();
    let sum = entry.sha256.as_ref();
    if sum.is_some_and(|sum| *sum != hash::sha256_hex(value)) {
        return Err("it is damaged".to_owned());
    }
    if entry.whose.is_some_and(|known| known != whose) {
        log::warn!("the cached target was fetched with another key and is not used");
        return Ok(None);
    }
    Ok(Some((entry.etag, value.to_vec())))
}

/// Replaces the file; after a power cut the old or the new one is there.
pub(super) fn write(
    file: &Path,
    etag: Option<&str>,
    whose: &str,
    document: &[u8],
) -> io::Result<()> {
    let value: &RawValue = serde_json::from_slice(document)?;
    let entry = Entry {
        etag: etag.map(str::to_owned),
        format: None,
        value: Some(value),
        sha256: Some(hash::sha256_hex(value.get().as_bytes())),
        whose: Some(whose.to_owned()),
        fetched: Some(crate::base::wall::secs()),
    };
    let dir = file.parent().unwrap_or_else(|| Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let staged = file.with_extension("new");
    let options = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&staged);
    let written = options.and_then(|mut out| {
        let mut buffered = io::BufWriter::new(&mut out);
        serde_json::to_writer(&mut buffered, &entry)?;
        // What is left in it would be written when it is dropped, and nobody told of a failure.
        buffered.flush()?;
        drop(buffered);
        out.sync_all()?;
        fs::rename(&staged, file)?;
        File::open(dir)?.sync_all()
    });
    if written.is_err() {
        let _ = fs::remove_file(&staged);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("helios-cache-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        dir
    }

    #[test]
    fn r_poll_9_what_is_written_is_read_by_its_owner() {
        let dir = scratch("round");
        let file = file(&dir, "http://h/device/v3/u/state");
        assert_eq!(read(&file, "me"), None);
        write(&file, Some("W/\"1\""), "me", b"{\"u\": {}}").unwrap();
        let want = Some((Some("W/\"1\"".into()), b"{\"u\": {}}".to_vec()));
        assert_eq!(read(&file, "me"), want);
        assert_eq!(read(&file, "other"), None, "the device has another key now");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn ra_w_15_a_document_without_etag_replaces_one_with() {
        let dir = scratch("etag");
        let file = file(&dir, "u");
        write(&file, Some("1"), "me", b"1").unwrap();
        write(&file, None, "me", b"2").unwrap();
        assert_eq!(read(&file, "me"), Some((None, b"2".to_vec())));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn s_poll_07_upstream_s_form_is_read_and_damage_is_noticed() {
        let dir = scratch("damage");
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("x.json");
        fs::write(&file, b"{\"etag\": null, \"value\": {\"a\": 1}}").unwrap();
        assert_eq!(read(&file, "me"), Some((None, b"{\"a\": 1}".to_vec())));
        write(&file, None, "me", b"{\"a\":1}").unwrap();
        let good = fs::read_to_string(&file).unwrap();
        fs::write(&file, good.replace("\"a\":1", "\"a\":2")).unwrap();
        assert_eq!(read(&file, "me"), None, "the checksum does not fit");
        for end in 0..good.len() {
            fs::write(&file, &good[..end]).unwrap();
            assert_eq!(read(&file, "me"), None, "cut behind {end} bytes");
        }
        for noise in [
            "[]",
            "5",
            "{\"etag\":5,\"value\":1}",
            "{\"value\":1",
            "\u{0}\u{1}",
        ] {
            fs::write(&file, noise).unwrap();
            assert_eq!(read(&file, "me"), None, "{noise}");
        }
        assert!(!file.exists(), "it is set aside");
        assert_eq!(fs::read(aside(&file)).unwrap(), b"\0\x01", "the last one");
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn s_poll_07_a_directory_in_its_place_gives_way() {
        let dir = scratch("directory");
        let file = dir.join("x.json");
        fs::create_dir_all(file.join("y")).unwrap();
        assert_eq!(read(&file, "me"), None);
        write(&file, None, "me", b"1").unwrap();
        assert_eq!(read(&file, "me"), Some((None, b"1".to_vec())));
        fs::remove_dir_all(dir).unwrap();
    }

    /// However little of a later form is ours, its number is seen.
    #[test]
    fn fd_32_what_a_later_version_wrote_is_set_aside_and_made_anew() {
        let dir = scratch("later");
        let file = file(&dir, "u");
        for later in [
            "{\"format\":2,\"value\":{\"u\":{}},\"etag\":\"1\"}",
            "{\"format\":7,\"packed\":\"H4sI\"}",
        ] {
            fs::create_dir_all(&dir).unwrap();
            fs::write(&file, later).unwrap();
            assert_eq!(read(&file, "me"), None, "{later}");
            assert_eq!(fs::read_to_string(aside(&file)).unwrap(), later);
            write(&file, None, "me", b"1").unwrap();
            assert_eq!(read(&file, "me"), Some((None, b"1".to_vec())));
        }
        let ours = "{\"format\":1,\"value\":2}";
        fs::write(&file, ours).unwrap();
        assert_eq!(read(&file, "me"), Some((None, b"2".to_vec())));
        fs::remove_dir_all(dir).unwrap();
    }
}
