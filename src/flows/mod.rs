//! The four flows: *poll* asks the backend for the target, *seek* makes the
//! device that target, *report* tells the backend what is, *api* answers locally.
//! Before all that, once in a device's life, *register* makes it known.
//!
//! # Invariants
//!
//! * Each flow is a machine that decides, pure, and a driver that does not.
//! * They share the board (`plan::board`) and two mailboxes: [`seek::Mailbox`]
//!   takes targets, [`poll::Trigger`] takes requests to poll now.
//! * No flow but *register* ends by itself; all of them end when they are dropped.

use crate::intake::Facts;
use crate::world::engine::HostFacts;

pub mod api;
pub mod capabilities;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod poll;
pub mod power;
pub mod register;
pub mod report;
mod rest;
pub mod seek;
#[cfg(test)]
mod tests;

/// What contracts of services are held against (D-39).
fn contract_facts(host: &HostFacts) -> Facts {
    Facts {
        arch: Some(host.arch.clone()).filter(|arch| !arch.is_empty()),
        device_type: host.device_type.clone(),
        os: host.os_version.clone(),
        kernel: host.kernel.clone(),
        supervisor_version: None,
    }
}
