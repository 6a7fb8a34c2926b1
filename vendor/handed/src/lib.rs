//! Takes the sockets that a service manager hands to a program (sd_listen_fds(3)).
//!
//! They come as bare numbers, which the compiler cannot know to be open and nobody else's. A
//! crate of its own for that reason.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// The first that is handed over; those before it are the standard streams.
const FIRST: RawFd = 3;
/// No manager hands over more.
const COUNT_MAX: RawFd = 64;

/// What was handed to this very process, in the manager's order; nothing the second time.
/// None of it reaches a child. Call it before anything is opened that may be left open.
pub fn sockets() -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let env = |name| std::env::var(name).ok();
    let count = count(env("LISTEN_PID").as_deref(), env("LISTEN_FDS").as_deref());
    if count == 0 || TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    (FIRST..FIRST + count).filter_map(take).collect()
}

/// How many are for the process with this id.
fn count(pid: Option<&str>, count: Option<&str>) -> RawFd {
    let is_ours = pid.and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let count = count.and_then(|count| count.parse().ok()).unwrap_or(0);
    if is_ours { count.clamp(0, COUNT_MAX) } else { 0 }
}

fn take(number: RawFd) -> Option<OwnedFd> {
    std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).ok()?;
    // SAFETY: it is open, as was just seen. The manager opened it for this process, which says so
    // by its id, and nobody else here takes it: this is done once for each number.
    let socket = unsafe { OwnedFd::from_raw_fd(number) };
    let kept = rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC);
    kept.ok().map(|()| socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_for_this_process() {
        let own = std::process::id().to_string();
        assert_eq!(count(Some(&own), Some("2")), 2);
        for (pid, fds) in [
            (None, Some("2")),
            (Some("1"), Some("2")),
            (Some(&*own), None),
            (Some(&*own), Some("-1")),
            (Some(&*own), Some("many")),
        ] {
            assert_eq!(count(pid, fds), 0, "{pid:?} {fds:?}");
        }
        assert_eq!(count(Some(&own), Some("9999")), COUNT_MAX);
        assert!(sockets().is_empty(), "nobody hands a test anything");
    }

    #[test]
    fn what_is_not_open_is_not_taken() {
        assert!(take(RawFd::MAX).is_none());
    }
}
