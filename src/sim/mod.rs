//! A simulated world: the real flows against an engine, a backend and a disk that are
//! maps, with faults drawn from a seed (examples 1.5).
//!
//! One seed is one history. Time jumps from deadline to deadline, nothing is random but
//! the seed, and nothing outside the process is touched.
//!
//! | file | what it is |
//! |---|---|
//! | [`world`] | clock, timers, random numbers, what has happened |
//! | [`engine`] | containers, images, networks and volumes as the engine keeps them |
//! | [`happens`] | what becomes of them by itself, and by people's hands |
//! | [`calls`] | what agents ask of the engine, and its faults |
//! | [`around`] | backend, disk and the directories of services |
//! | [`life`] | one life of an agent, from start to kill |
//! | [`machine`] | the OS below, its service manager and its updater |
//! | [`pulls`] | what is being pulled |
//! | [`documents`] | targets, drawn at random |
//! | [`checks`] | what must never happen, and what must be so in the end |
//! | [`logged`] | what the agent logs |
//! | [`mutants`] | agents that are broken on purpose |
//! | [`histories`] | seeds; `HELIOS_SEEDS=7..8` prints all that happened in the seventh |
//! | [`cases`] | situations that take more than a document |
//! | `beside` | user apps that come over from a legacy supervisor |
//! | [`hostup`] | updates of the OS below |
//! | [`scenarios`] | situations of the specification, each a document |

pub mod around;
pub mod calls;
pub mod checks;
pub mod documents;
pub mod engine;
pub mod happens;
pub mod life;
pub mod logged;
pub mod machine;
pub mod pulls;
pub mod world;

#[cfg(feature = "legacy")]
mod beside;
mod cases;
mod histories;
mod hostup;
mod mutants;
mod scenarios;
