//! How the process of a container is started, ended and started again.

use serde::{Deserialize, Deserializer, Serialize};

use crate::base::json::fields;

/// When the engine starts a container again (target-state 2.17).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
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
        #[serde(skip_serializing_if = "Option::is_none")]
        max_retries: Option<u32>,
    },
    /// Always, but not after a stop on purpose.
    UnlessStopped,
}

#[derive(Default)]
struct Flat {
    name: String,
    max_retries: Option<u32>,
}

fields!(Flat { name, max_retries });

impl<'de> Deserialize<'de> for RestartPolicy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RestartPolicy, D::Error> {
        let Flat { name, max_retries } = Flat::deserialize(deserializer)?;
        Ok(match &*name {
            "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "on_failure" => RestartPolicy::OnFailure { max_retries },
            "unless_stopped" => RestartPolicy::UnlessStopped,
            _ => return Err(serde::de::Error::custom("an unknown restart policy")),
        })
    }
}
