//! The program that updates the host's OS, where it is kept, and what it leaves
//! (state-engine 6.5).

use std::sync::Arc;

use super::Pending;
use super::system::System;
use crate::model::ImageUri;

/// What an update of the host needs of the machine.
#[derive(Clone)]
pub struct Machine {
    /// Its service manager.
    pub system: Arc<dyn System>,
    /// Its updater.
    pub updater: Arc<dyn Updater>,
}

/// The updater's directory, below the runtime directory.
pub trait Updater: Send + Sync {
    /// Puts the program of an image that is on the engine in place of the one that is there.
    ///
    /// # Errors
    /// What went wrong, as a sentence.
    fn unpack<'a>(&'a self, image: &'a ImageUri) -> Pending<'a, Result<(), String>>;

    /// The directory, as the host calls it.
    fn directory(&self) -> String;

    /// Removes the program and whatever was needed to get it. Best effort.
    fn clear(&self) -> Pending<'_, ()>;

    /// Leaves the breadcrumb: this release is installed, in this start of the machine.
    ///
    /// # Errors
    /// What the system said.
    fn mark(&self, release: &str, boot: &str) -> Result<(), String>;

    /// Whether there is a breadcrumb of this start of the machine. One that does not say of
    /// which start it is counts once, as one of this (W-30).
    fn is_marked(&self, release: &str, boot: &str) -> bool;

    /// Removes it.
    fn unmark(&self, release: &str);

    /// The file by which the host says that it has not made sure yet that the OS it runs is a
    /// good one: a reboot would count as its failure (local-api 2.7, FD-40).
    fn trial(&self) -> Option<String>;
}
