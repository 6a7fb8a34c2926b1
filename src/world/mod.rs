//! What the flows need from outside, as traits with their errors.
//!
//! # Invariants
//!
//! * No implementation here: `engine`, `remote`, `store` and `host` have those,
//!   and `sim` others.
//! * Trait objects with boxed futures. A box is nothing beside a round trip to
//!   the engine, and there is one copy of the flows' code.
//! * Dropping a future abandons the call. What the other side did by then is
//!   found by reading again.

use std::future::Future;
use std::pin::Pin;

pub mod capabilities;
pub mod clock;
pub mod engine;
pub mod host;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod registration;
pub mod registry;
pub mod remote;
pub mod store;
pub mod system;
#[cfg(feature = "legacy")]
pub mod takeover;
pub mod updater;

/// A call under way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;
