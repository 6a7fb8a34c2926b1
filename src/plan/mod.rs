//! Jobs and rules for the planner.
//!
//! # How an app converges
//!
//! [`rules`] look at what is and what should be and say what may be done now,
//! for at most [`WINDOW_MAX`](crate::limits::WINDOW_MAX) parts of the app, and
//! how far. [`window`] hands that to the planner, as one small number a part,
//! and runs the plan. [`converge`] repeats it until nothing is left.
//!
//! # Invariants
//!
//! * The planner's state is numbers (planner-memory.md): it copies its target
//!   into every action. Configurations are looked up where a call needs them.
//! * A part that fails waits by itself (D-19); the others go on (FD-23).
//! * Nothing that runs is stopped before all images of its release are there
//!   and its own successor is made (D-16, D-20).
//! * What cannot be known for certain is read again, not remembered.

pub mod board;
pub mod converge;
mod depends;
pub mod device_locks;
pub mod drift;
mod goals;
pub mod host;
pub mod images;
mod locks;
pub mod names;
mod problem;
pub mod read;
mod reason;
mod repair;
mod room;
pub mod rules;
mod service;
pub mod stage;
mod storage;
pub mod sweep;
#[cfg(test)]
pub(crate) mod tests;
pub mod window;
pub mod work;
