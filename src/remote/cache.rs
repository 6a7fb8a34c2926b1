//! The last target on disk, so that the next start needs no network (FD-25, R-POLL-9).
//!
//! One file a poll URL, as upstream names it (state-engine 8.2): a JSON object with
//! the ETag, a checksum and the document. Upstream's, without checksum, is read too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::base::hash;
use crate::limits;

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    #[serde(default)]
    etag: Option<String>,
    #[serde(borrow)]
    value: &'a RawValue,
    /// SHA-256 of the value's bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

/// Where the answer of this poll URL is kept.
pub(super) fn file(dir: &Path, poll_url: &str) -> PathBuf {
    dir.join(format!("{}.json", hash::sha256_hex(poll_url.as_bytes())))
}

/// The ETag and the document. What cannot be read counts as absent.
pub(super) fn read(file: &Path) -> Option<(Option<String>, Vec<u8>)> {
    let mut bytes = Vec::new();
    let opened = File::open(file).ok()?;
    opened
        .take(limits::DOCUMENT_BYTES_MAX as u64)
        .read_to_end(&mut bytes)
        .ok()?;
    let entry: Entry<'_> = match serde_json::from_slice(&bytes) {
        Ok(entry) => entry,
        Err(error) => {
            log::warn!("the cached target cannot be read and is not used: {error}");
            return None;
        }
    };
    let value = entry.value.get().as_bytes();
    if entry
        .sha256
        .is_some_and(|sum| sum != hash::sha256_hex(value))
    {
        log::warn!("the cached target is damaged and is not used");
        return None;
    }
    Some((entry.etag, value.to_vec()))
}

/// Replaces the file; after a power cut the old or the new one is there.
pub(super) fn write(file: &Path, etag: Option<&str>, document: &[u8]) -> io::Result<()> {
    let value: &RawValue = serde_json::from_slice(document)?;
    let entry = Entry {
        etag: etag.map(str::to_owned),
        value,
        sha256: Some(hash::sha256_hex(value.get().as_bytes())),
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
        serde_json::to_writer(io::BufWriter::new(&mut out), &entry)?;
        out.flush()?;
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
    fn what_is_written_is_read() {
        let dir = scratch("round");
        let file = file(&dir, "http://h/device/v3/u/state");
        assert_eq!(read(&file), None);
        write(&file, Some("W/\"1\""), b"{\"u\": {}}").unwrap();
        assert_eq!(
            read(&file),
            Some((Some("W/\"1\"".into()), b"{\"u\": {}}".to_vec()))
        );
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn upstream_s_form_is_read_and_damage_is_noticed() {
        let dir = scratch("damage");
        fs::create_dir_all(&dir).unwrap();
        let file = dir.join("x.json");
        fs::write(&file, b"{\"etag\": null, \"value\": {\"a\": 1}}").unwrap();
        assert_eq!(read(&file), Some((None, b"{\"a\": 1}".to_vec())));
        write(&file, None, b"{\"a\":1}").unwrap();
        let text = fs::read_to_string(&file)
            .unwrap()
            .replace("\"a\":1", "\"a\":2");
        fs::write(&file, text).unwrap();
        assert_eq!(read(&file), None, "the checksum does not fit");
        fs::write(&file, b"{\"etag\": nu").unwrap();
        assert_eq!(read(&file), None);
        fs::remove_dir_all(dir).unwrap();
    }
}
