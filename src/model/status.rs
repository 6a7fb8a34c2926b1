//! How far things are, in the words of the API and of the backend.

use serde::{Deserialize, Serialize};

/// Where the device as a whole is on its way to the target (state-engine 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum UpdateStatus {
    /// The target is reached; also before there is one.
    #[default]
    #[serde(rename = "done")]
    Done,
    /// On the way, waiting for a retry or a lock included.
    #[serde(rename = "applying changes")]
    ApplyingChanges,
    /// The target document could not be read.
    #[serde(rename = "rejected")]
    Rejected,
    /// Something of the target cannot be done.
    #[serde(rename = "aborted")]
    Aborted,
    /// Cut off by a newer target.
    #[serde(rename = "interrupted")]
    Interrupted,
}

impl UpdateStatus {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            UpdateStatus::Done => "done",
            UpdateStatus::ApplyingChanges => "applying changes",
            UpdateStatus::Rejected => "rejected",
            UpdateStatus::Aborted => "aborted",
            UpdateStatus::Interrupted => "interrupted",
        }
    }
}

/// What a container does right now (state-engine 1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerStatus {
    /// Made and never started.
    Created,
    /// Running, or being restarted by the engine.
    Running,
    /// A stop of ours is under way.
    Stopping,
    /// Exited, paused or being removed.
    Stopped,
    /// The engine gave it up.
    Dead,
}

/// What a container's health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// There is no check.
    #[default]
    None,
    /// Too early to tell.
    Starting,
    /// The last check passed.
    Healthy,
    /// Too many checks failed in a row.
    Unhealthy,
}
