//! The backend's side without an engine: recorded exchanges of the real backend, replayed to
//! the agent's client and held against the development backend, and faults of the transport.
#![allow(clippy::unwrap_used)]

mod agent;
#[cfg(feature = "tls")]
mod clock;
mod conform;
mod faults;
mod ids;
mod recorded;
mod replay;
mod serve;
#[cfg(feature = "tls")]
mod wire;
