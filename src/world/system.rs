//! The host's service manager, and its power.

use std::fmt;
use std::time::Duration;

use super::Pending;

/// A failed request. Decide by `kind`, show with `Display`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemError {
    /// What to do about it.
    pub kind: SystemErrorKind,
    /// A sentence.
    pub said: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemErrorKind {
    /// There is no service manager that can be asked: no bus, or nobody on it.
    Absent,
    /// There is no such unit.
    NoSuchUnit,
    /// A unit of that name runs already.
    Exists,
    /// The unit was asked to start and did not.
    Failed,
    /// It has not ended in its time.
    TimedOut,
    /// No answer; what was asked may have been done.
    Unreachable,
    /// The manager said no.
    Refused,
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.said)
    }
}

impl std::error::Error for SystemError {}

/// A command that the service manager is to run as a unit of its own (state-engine 9.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transient<'a> {
    /// The unit's name: `os-update.service`.
    pub unit: &'a str,
    /// What it is, for people who look at their units.
    pub description: &'a str,
    /// The program, by its path on the host, and its arguments.
    pub command: &'a [String],
    /// Where it runs.
    pub directory: &'a str,
    /// The manager ends it when it runs longer.
    pub limit: Duration,
}

/// How a unit ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// With exit code 0.
    Well,
    /// In any other way, as a few words: `exit code 42`.
    Badly(String),
}

/// A unit that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenUnit {
    /// Program and arguments.
    pub command: Vec<String>,
    /// `None`: it runs.
    pub ended: Option<Ended>,
}

/// What a unit may be asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Starts it; nothing if it runs.
    Start,
    /// Stops it; nothing if it does not run.
    Stop,
    /// Stops it, if it runs, and starts it.
    Restart,
}

/// What becomes of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It starts anew.
    Reboot,
    /// It is switched off.
    Off,
}

/// The host's service manager (state-engine 9). Everything has a time limit; nothing is held
/// between two requests.
pub trait System: Send + Sync {
    /// Why it cannot be asked right now, if that is seen without asking.
    fn absent(&self) -> Option<String>;

    /// The unit, if there is one by that name.
    fn unit<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<SeenUnit>, SystemError>>;

    /// Starts a command as a unit and awaits its end. The unit stays to be looked at, until
    /// [`System::forget`]. Dropping the future leaves it running.
    fn run<'a>(&'a self, command: &'a Transient<'a>) -> Pending<'a, Result<Ended, SystemError>>;

    /// Awaits the end of a unit that runs, `limit` at most; then it is stopped.
    fn wait<'a>(
        &'a self,
        name: &'a str,
        limit: Duration,
    ) -> Pending<'a, Result<Ended, SystemError>>;

    /// Stops a transient unit, if it runs, and makes the manager forget it and its failure.
    fn forget<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>>;

    /// Starts, stops or restarts a unit and awaits that it is done (state-engine 9.3).
    ///
    /// A stop that ends in another way than `done` is done too; a start is not.
    fn job<'a>(&'a self, verb: Verb, name: &'a str) -> Pending<'a, Result<(), SystemError>>;

    /// Reboots the host or switches it off; everything on it is asked to end first.
    fn power(&self, power: Power) -> Pending<'_, Result<(), SystemError>>;

    /// What tells this start of the machine from every other.
    fn boot_id(&self) -> Option<String>;
}
