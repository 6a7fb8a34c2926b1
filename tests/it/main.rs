//! Tests from outside: the real program, its sockets and files, a real engine and
//! a real registry. `scripts/test` starts those and names them in the environment;
//! without them the tests fail.
#![allow(clippy::unwrap_used)]

mod api;
mod apply;
mod budget;
mod compose;
mod differ;
mod fake;
mod faults;
#[cfg(feature = "hostapp")]
mod hostup;
mod image;
mod images;
#[cfg(feature = "legacy")]
mod legacy_takeover;
mod locks;
mod poll;
mod power;
mod process;
mod quick_start;
mod register;
mod registry;
mod roundtrip;
mod scenarios;
mod service;
mod start;
mod states;
mod support;
#[cfg(feature = "hostapp")]
mod units;
#[cfg(feature = "legacy")]
mod user_apps;
mod volumes;
