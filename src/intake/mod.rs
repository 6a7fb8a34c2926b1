//! Untrusted documents in, model out.
//!
//! # Invariants
//!
//! * Pure: no I/O, no clock, no logging. What is worth a log line is returned.
//! * The only reader of documents from outside. Every check, every permitted
//!   spelling and every cross-check lives here; a value of a `model` type is
//!   proof that its check was made.
//! * A refusal names the path in the document and the kind of value, never a
//!   value that may be a secret.
//! * No input makes it panic, and what it builds is bounded by `scan`'s limits.

use std::fmt;

use crate::limits::CONFIG_BYTES_MAX;

mod app;
mod compose;
mod contract;
mod device;
mod host;
mod knobs;
#[cfg(test)]
mod mutations;
mod network;
mod node;
mod release;
mod scan;
mod service;
#[cfg(test)]
mod vectors;

pub use app::{app_target, app_target_for};
pub use contract::{Facts, SUPERVISOR_VERSION};
pub use device::{device_target, device_target_for};
pub use host::is_supervisor;

/// Why something of a document cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the document: `apps.UUID.releases.UUID.services.main.composition.ports[2]`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.reason)
        } else {
            write!(f, "{}: {}", self.path, self.reason)
        }
    }
}

impl std::error::Error for Refusal {}

/// A document that was read, and what should be said about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Intake<T> {
    /// What it says.
    pub value: T,
    /// One line each: a service with its fields that have no effect here, a fact
    /// that could not be checked, an entry that was passed over.
    pub warnings: Vec<String>,
    /// Apps whose key cannot be one; each is in `warnings` as well.
    pub passed_over: Vec<Refusal>,
}

/// Why a local app document is refused (local-api 1.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AppRefusal {
    /// It is not JSON.
    Syntax {
        /// What the parser says; no text of the document.
        message: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1.
        column: usize,
    },
    /// It is JSON and not an app. Never empty.
    Shape(Vec<Refusal>),
}

impl fmt::Display for AppRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AppRefusal::Syntax {
                message,
                line,
                column,
            } => write!(f, "{message} at line {line} column {column}"),
            AppRefusal::Shape(refusals) => f.write_str(&lines(refusals)),
        }
    }
}

/// What accompanies the reading of one document.
struct Reading<'f> {
    facts: &'f Facts,
    warnings: Vec<String>,
    /// Bytes of configurations that may still be made. Short forms can stand for a lot.
    bytes_left: usize,
}

impl<'f> Reading<'f> {
    fn new(facts: &'f Facts, node: node::Node<'_, '_>) -> Reading<'f> {
        Reading {
            facts,
            warnings: Vec::new(),
            bytes_left: node.len().max(CONFIG_BYTES_MAX),
        }
    }

    /// Accounts for a configuration that is kept.
    fn keep(&mut self, bytes: usize, node: node::Node<'_, '_>) -> Result<(), Refusal> {
        let left = self.bytes_left.checked_sub(bytes);
        self.bytes_left = left.ok_or_else(|| {
            node.refuse(
                "the configurations of all services are too large: \
                 short forms in them stand for too much",
            )
        })?;
        Ok(())
    }
}

/// One line a refusal.
fn lines(refusals: &[Refusal]) -> String {
    let lines: Vec<String> = refusals.iter().map(Refusal::to_string).collect();
    lines.join("\n")
}
