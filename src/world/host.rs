//! The machine beside its clocks: directories that services share with the agent, and the
//! room on its disks.

use std::fmt;

/// An update lock that cannot be taken (target-state 7.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockRefused {
    /// The lock file, as the host calls it.
    pub path: String,
    /// Why: `held by a service`, or what the system said.
    pub said: String,
}

impl fmt::Display for LockRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "update lock '{}' is {}", self.path, self.said)
    }
}

/// What a machine measures of itself (remote-api 3.4). `None` and empty: it cannot.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Ticks that its processors worked, and ticks in all, since it started.
    pub cpu_ticks: Option<(u64, u64)>,
    /// MiB in use, caches aside, and MiB in all.
    pub memory: Option<(u64, u64)>,
    /// The same of the disk that holds the data.
    pub storage: Option<(u64, u64)>,
    /// Degrees Celsius.
    pub cpu_temp: Option<i64>,
    /// The board's serial number.
    pub cpu_id: Option<String>,
    /// Its supply is too weak.
    pub is_undervolted: bool,
    /// Hardware addresses, space between them.
    pub mac_address: String,
    /// Addresses that others may reach it at, space between them.
    pub ip_address: String,
}

/// Directories of the host that services see at `/tmp/balena` (D-38). `dir` is always the
/// host's name of one; a directory that this agent cannot see has no locks and no news.
///
/// Nothing here waits: the directories are in memory.
pub trait Host: Send + Sync {
    /// Makes the directory, so that a service of any user can put files there. Best
    /// effort: where it fails the engine makes it.
    fn make_dir(&self, dir: &str);

    /// Takes both update locks of a directory. What is held already is taken again at
    /// once. With `force` a service's lock file is replaced, another agent's never.
    /// Returns the lock file that was replaced, if there was one.
    ///
    /// # Errors
    /// When somebody else holds one; nothing is taken then.
    fn lock(&self, dir: &str, force: bool) -> Result<Option<String>, LockRefused>;

    /// Gives the locks of a directory back; they may not be held.
    fn unlock(&self, dir: &str);

    /// Whether a service has said that it took over from its predecessor (target-state 7.1).
    fn is_handed_over(&self, dir: &str) -> bool;

    /// Removes what a former hand-over left.
    fn clear_hand_over(&self, dir: &str);

    /// Bytes that are free to an ordinary user where `dir` is; `None` when this agent
    /// cannot see it (FD-07).
    fn free_bytes(&self, dir: &str) -> Option<u64>;

    /// Measures the machine. Takes a millisecond; nothing of it is kept.
    fn vitals(&self) -> Vitals {
        Vitals::default()
    }
}
