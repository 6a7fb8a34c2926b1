//! The vocabulary: plain data that every other room speaks.
//!
//! # Invariants
//!
//! * No I/O, no async, no clock, no logging, no rule about what a user may ask.
//! * A value of a type here is proof that its check was made, in `intake`.
//! * What is kept for long is small: a service's configuration is one string of
//!   canonical JSON (D-11), parsed where a call needs it.

pub mod capability;
pub mod config;
pub mod current;
pub mod identity;
pub mod ids;
pub mod image;
pub mod network;
pub mod status;
pub mod target;
pub mod volume;

pub use config::ServiceConfig;
pub use ids::{AppUuid, NetworkName, ReleaseUuid, ServiceName, VolumeName};
pub use image::ImageUri;
pub use network::NetworkConfig;
pub use volume::VolumeConfig;
