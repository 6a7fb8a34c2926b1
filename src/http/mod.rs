//! HTTP/1.1, client and server; knows no JSON and no engine.
//!
//! | file | what it is |
//! |---|---|
//! | [`head`] | bytes to request and response heads; pure |
//! | [`body`] | where a body ends; pure |
//! | [`gzip`] | a content coding, decoded as it arrives; pure |
//! | [`url`] | the little of URLs we use; pure |
//! | [`redirect`] | where a `Location` leads; pure |
//! | `conn` | one connection over any byte stream |
//! | `stream` | the byte streams there are, and how they are opened |
//! | [`proxy`] | the way through an HTTP proxy |
//! | [`tls`] | rustls as a byte stream |
//! | [`client`], `response`, `pool` | exchanges with a server, with time limits |
//! | [`server`], `exchange` | accept, answer, limits, drain on stop |
//! | `tunnel` | what becomes of a connection that has left HTTP |
//!
//! # Invariants
//!
//! * A message has one framing or it is refused. Two answers to "where does the
//!   body end" is how one request gets smuggled inside another.
//! * Everything a peer sends is bounded before it is kept, in bytes
//!   ([`crate::limits`]) and in time.
//! * A connection is used again only when the message before it ended where its
//!   framing said, with nothing left over that we did not expect.
//! * A connection holds one buffer. At rest it is small, or not there at all.
//! * Requests are judged strictly, responses by what servers really send (D-41).

pub mod body;
pub mod client;
mod conn;
mod error;
mod exchange;
pub mod gzip;
pub mod head;
mod pool;
pub mod proxy;
pub mod redirect;
mod response;
pub mod server;
mod stream;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
pub mod tls;
mod tunnel;
pub mod url;

pub use error::{Error, ErrorKind};
