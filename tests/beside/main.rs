//! The agent beside a legacy supervisor (remote-api 6 to 10): the real program, the stand-in
//! for that one (`tests/legacy`), the development backend, and servers and clients that say
//! exactly the bytes they are told. No engine is needed: user apps are the other one's.
#![allow(clippy::unwrap_used)]

mod bytes;
mod hands;
mod passes;
mod refuses;
mod serves;
mod world;
