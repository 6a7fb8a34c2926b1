//! `helios check`: judges a document offline (D-33).

use std::process::ExitCode;

/// Runs the command with the words behind `check`.
#[must_use]
pub fn main(_words: &[String]) -> ExitCode {
    ExitCode::from(2)
}
