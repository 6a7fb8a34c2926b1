//! How the process of a container is started, ended and started again.

use serde::{Deserialize, Serialize};

/// When the engine starts a container again (target-state 2.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Never.
    #[default]
    No,
    /// Always.
    Always,
    /// After a failure.
    OnFailure {
        /// 0 or `None`: without end.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max_retries: Option<u32>,
    },
    /// Always, but not after a stop on purpose.
    UnlessStopped,
}
