//! This machine: its clocks and what it is.

pub mod clock;
pub mod facts;
