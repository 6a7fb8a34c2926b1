//! This machine: its clocks, what it is, and the directories it shares with services.

pub mod clock;
pub mod facts;
pub mod locks;
pub mod own;
pub mod vitals;
