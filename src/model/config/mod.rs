//! What a service is asked to be.

use serde::{Deserialize, Serialize};

/// A service's configuration as requested.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceConfig {}
