//! This machine: its clocks, what it is, the directories it shares with services, and its
//! service manager.

pub mod clock;
pub mod facts;
pub mod locks;
pub mod own;
#[cfg(any(feature = "hostapp", feature = "legacy"))]
pub mod systemd;
#[cfg(feature = "hostapp")]
pub mod updater;
pub mod vitals;
