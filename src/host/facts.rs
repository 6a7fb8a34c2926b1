//! What the machine is.

use std::path::Path;

/// The architecture in the backend's words (target-state 5.2).
#[must_use]
pub fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "i386",
        "aarch64" => "aarch64",
        "arm" => "armv7hf",
        other => other,
    }
}

/// The kernel's release, as `uname -r` says it.
#[must_use]
pub fn kernel() -> Option<String> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    Some(release.trim().to_owned()).filter(|release| !release.is_empty())
}

/// Bytes that are free to an ordinary user on the file system of `dir` (FD-07).
#[must_use]
pub fn free_bytes(dir: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

/// The beginning of the id of the container that this program runs in, if it runs in
/// one: an engine names a container's host after it. The agent never acts on itself
/// (FD-41).
#[must_use]
pub fn own_container() -> Option<String> {
    let in_container = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let name = name.trim();
    let is_id = name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    (in_container && is_id).then(|| name.to_owned())
}
