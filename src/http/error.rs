//! What went wrong with an exchange.

use std::fmt;

/// Decide by [`Error::kind`], show with `Display`, never match on text.
///
/// The text names hosts and reasons, never targets, headers or bodies: those
/// may hold keys.
#[derive(Debug)]
pub struct Error {
    /// What callers branch on.
    pub kind: ErrorKind,
    text: String,
}

/// What kind of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The name has no address, or nobody could say.
    Resolve,
    /// No address took the connection.
    Connect,
    /// The other side could not prove who it is, or does not speak TLS.
    Tls,
    /// The other side's certificate is not valid yet, by our clock: that may be what is wrong.
    NotYet,
    /// A time limit passed.
    Timeout,
    /// The message ended before it was complete: retryable (R-HTTP-2).
    Closed,
    /// The other side does not keep to the protocol.
    BadMessage,
    /// More than the caller, or a limit, allows.
    TooLarge,
    /// The server is stopping, or the exchange was given up.
    Canceled,
    /// We were asked to send something that no HTTP message can carry.
    Invalid,
}

impl Error {
    /// An error of this kind; `text` is a sentence without secrets.
    pub fn new(kind: ErrorKind, text: impl Into<String>) -> Error {
        let text = text.into();
        Error { kind, text }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
