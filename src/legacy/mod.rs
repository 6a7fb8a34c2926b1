//! The old supervisor. One day this room is deleted as a whole.

pub mod client;
pub mod guard;
pub mod settings;
pub mod takeover;
