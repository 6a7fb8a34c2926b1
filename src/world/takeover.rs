//! What taking over from a legacy supervisor, and handing back to it, needs from outside.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Pending;

/// The two settings that lead a legacy supervisor past this agent (remote-api 8.3); `None`
/// where it has none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What it takes for the backend.
    #[serde(rename = "apiEndpointOverride")]
    pub endpoint: Option<String>,
    /// Where it listens.
    #[serde(rename = "listenPortOverride")]
    pub port: Option<String>,
}

/// One start of a container: differs from any other one of it and of its successors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start(pub String);

/// What a command in a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit code.
    pub code: i64,
    /// What it printed.
    pub stdout: Vec<u8>,
    /// And where to.
    pub stderr: Vec<u8>,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What to do about it.
    pub kind: TroubleKind,
    /// What could not be done, and why.
    pub said: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TroubleKind {
    /// It is so now and then while machines and containers start: asking again helps.
    Passing,
    /// Nothing was done, and asking again is of no use.
    Lasting,
    /// The time was up: whether it is done is not known.
    TimedOut,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for Trouble {}

/// A legacy supervisor, its machine, and what this agent has there. Every step is bounded in
/// time (R-TKO-6).
pub trait Supervisor: Send + Sync {
    /// The present start of a container by its name; `None` when there is no such container.
    fn start_of<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<Start>, Trouble>>;
    /// The settings in its database.
    fn settings<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Settings, Trouble>>;
    /// Changes both at once: after a power cut both are there, or neither is.
    fn set<'a>(&'a self, name: &'a str, settings: &'a Settings)
    -> Pending<'a, Result<(), Trouble>>;
    /// Restarts it; what it then reads is what [`Supervisor::set`] wrote.
    fn restart<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), Trouble>>;
    /// Whether it answers where it listens with the settings of a takeover.
    fn answers(&self) -> Pending<'_, bool>;
    /// Removes what this agent runs for user apps, but no data; how many containers.
    fn remove_ours(&self) -> Pending<'_, Result<usize, Trouble>>;
    /// Makes the mark of a restart that is due; `false` when it is there already. It is gone
    /// after a boot, and so is the need.
    fn mark(&self) -> Result<bool, Trouble>;
    /// Whether there is one.
    fn is_marked(&self) -> bool;
    /// Removes it.
    fn unmark(&self) -> Result<(), Trouble>;
}
