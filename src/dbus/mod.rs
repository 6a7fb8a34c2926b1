//! D-Bus, as much of it as a client of systemd and logind needs (D-Bus specification 0.41).
//!
//! # Invariants
//!
//! * [`wire`] and [`message`] are pure, and bounded whatever the bytes: no message is larger
//!   than [`DBUS_MESSAGE_BYTES_MAX`](crate::limits::DBUS_MESSAGE_BYTES_MAX), nothing nests
//!   deeper than the specification allows.
//! * A [`Connection`] is opened when something is asked and dropped with the answer: at rest
//!   there is none, and there is never a thread.
//! * Dropping a future of a connection loses nothing of what was read or is to be written.

pub mod address;
mod connection;
pub mod message;
pub mod wire;

pub(crate) use connection::within;
pub use connection::{BusError, BusErrorKind, Connection, RequestedName};
pub use message::{Kind, Message};
