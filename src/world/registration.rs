//! Making a device known to the backend.

use std::time::Duration;

use super::Pending;
use crate::model::identity::Record;

/// What a request to register came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The backend has the device as it was asked to.
    AsAsked,
    /// It has it with another key than the one it was asked for (R-REG-7).
    WithKey(String),
    /// It made another device than the one it was asked for (R-REG-7).
    Another,
    /// It has a device with this uuid already.
    UuidTaken,
    /// It has this key already.
    KeyTaken,
}

/// What the backend says to a device that it may know (R-REG-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirmed {
    /// It is known, with this key.
    Ours,
    /// There is no such device, or nothing is said of it.
    Unknown,
    /// The key is not that device's.
    OtherKey,
}

/// Whether the same request may succeed later (R-REG-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// With back-off, and not before what the server asks for.
    Later(Option<Duration>),
    /// When somebody has changed something: at a slow, fixed period (FD-45).
    Slowly,
    /// Not with these arguments.
    Never,
}

/// A request that brought nothing.
#[derive(Debug)]
pub struct Trouble {
    /// What to do about it.
    pub retry: Retry,
    /// A sentence for the log, without secrets.
    pub said: String,
}

/// The backend, to whoever has a provisioning key (remote-api 1).
pub trait Registration: Send + Sync {
    /// Asks for a device with this uuid and this key (remote-api 1.1).
    fn register<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<Registered, Trouble>>;

    /// Asks for the device's target, with the device's key and without a condition.
    fn confirm<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<Confirmed, Trouble>>;

    /// Gives a registered device the record's key (remote-api 1.6); `false` when the
    /// provisioning key may not do that.
    fn give_key<'a>(&'a self, record: &'a Record) -> Pending<'a, Result<bool, Trouble>>;
}
