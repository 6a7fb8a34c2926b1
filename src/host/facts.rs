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

/// How long the machine is up; for ever, when that cannot be read.
#[cfg(feature = "legacy")]
#[must_use]
pub fn machine_up() -> std::time::Duration {
    let text = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let secs = text.split('.').next().and_then(|secs| secs.parse().ok());
    secs.map_or(std::time::Duration::MAX, std::time::Duration::from_secs)
}

/// Name and variant of the system that this program runs on, as it calls itself; neither
/// in a container, which has a system of its own.
#[must_use]
pub fn host_os() -> (Option<String>, Option<String>) {
    if is_contained() {
        return (None, None);
    }
    let text = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok());
    let text = text.unwrap_or_default();
    let variant = os_release(&text, "VARIANT_ID").filter(|id| id == "dev" || id == "prod");
    (os_release(&text, "PRETTY_NAME"), variant)
}

/// A value of `os-release(5)`, without its quotes.
fn os_release(text: &str, name: &str) -> Option<String> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    let value = value.trim().trim_matches(['"', '\'']);
    (!value.is_empty()).then(|| value.to_owned())
}

pub(super) fn is_contained() -> bool {
    ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists())
}

/// Where the host's state partition may be seen.
pub(super) const STATE_DIRS: [&str; 2] = ["/mnt/state", "/mnt/root/mnt/state"];
/// The same for its boot partition.
const BOOT_DIRS: [&str; 2] = ["/mnt/boot", "/mnt/root/mnt/boot"];
/// Where a journal is.
const JOURNAL_DIRS: [&str; 2] = ["/run/log/journal", "/var/log/journal"];

/// The host's state partition, if it is seen: where somebody said, else where it may be.
#[must_use]
pub fn state_partition(told: Option<&Path>) -> Option<String> {
    match told {
        Some(dir) => dir.is_dir().then(|| dir.display().to_string()),
        None => directory(&STATE_DIRS),
    }
}

/// The host's boot partition, if it is seen.
#[must_use]
pub fn boot_partition() -> Option<String> {
    directory(&BOOT_DIRS)
}

/// The journal's directory, if there is one.
#[must_use]
pub fn journal() -> Option<String> {
    directory(&JOURNAL_DIRS)
}

fn directory(places: &[&str]) -> Option<String> {
    let found = places.iter().find(|dir| Path::new(dir).is_dir());
    found.map(|dir| (*dir).to_owned())
}

/// Bytes that are free to an ordinary user on the file system of `dir` (FD-07).
#[must_use]
pub fn free_bytes(dir: &str) -> Option<u64> {
    let found = rustix::fs::statvfs(dir).ok()?;
    found.f_bavail.checked_mul(found.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ra_3_4_the_system_s_name() {
        let text = "NAME=x\nPRETTY_NAME=\"balenaOS 6.5.39\"\nVARIANT_ID=prod\nEMPTY=\"\"\n";
        let rows = [
            ("PRETTY_NAME", Some("balenaOS 6.5.39")),
            ("VARIANT_ID", Some("prod")),
            ("EMPTY", None),
            ("NAM", None),
        ];
        for (name, want) in rows {
            assert_eq!(os_release(text, name).as_deref(), want, "{name}");
        }
    }
}
