//! helios: the agent that keeps an edge device at the state its owner wants.
//!
//! # The rooms
//!
//! | room | what it is |
//! |---|---|
//! | [`base`] | things std lacks; knows nothing of this program |
//! | [`model`] | the vocabulary: plain data |
//! | [`intake`] | untrusted documents in, model out; pure |
//! | [`world`] | what the flows need from outside, as traits |
//! | [`http`] | HTTP/1.1, client and server; knows no JSON and no engine |
//! | `dbus` | D-Bus, the client's side; knows no systemd |
//! | [`engine`] | Docker and its kin over `http` |
//! | [`remote`] | the backend over `http` |
//! | [`store`] | small files that survive power cuts |
//! | [`host`] | this machine: clocks, directories, facts |
//! | `legacy` | the old supervisor: taking over from it, and handing back |
//! | [`plan`] | jobs and rules for the planner |
//! | [`flows`] | api, poll, seek, report: each a driver and a machine |
//!
//! Lower rooms do not know higher ones; `tidy` checks the walls. The whole of
//! `flows` and `plan` runs against any implementation of `world`.

pub mod args;
pub mod base;
#[cfg(feature = "legacy")]
mod beside;
pub mod check;
pub mod clients;
pub mod config;
#[cfg(feature = "tls")]
pub mod crypto;
#[cfg(any(feature = "hostapp", feature = "legacy"))]
pub mod dbus;
pub mod doctor;
mod drive;
pub mod engine;
pub mod flows;
pub mod host;
mod hostup;
pub mod http;
pub mod identity;
pub mod intake;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod limits;
mod listen;
pub mod log;
pub mod model;
pub mod plan;
pub mod remote;
pub mod run;
mod service;
#[cfg(test)]
mod sim;
pub mod start;
pub mod store;
mod survey;
#[cfg(feature = "legacy")]
pub mod takeover;
#[cfg(test)]
mod tidy;
pub mod volumes;
pub mod world;

// Some tests are shared with targets outside this crate, which know it by its name.
#[cfg(test)]
extern crate self as helios;
