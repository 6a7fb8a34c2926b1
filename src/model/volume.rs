//! What a volume is asked to be (target-state 3.2).

use crate::base::json::members;
use crate::base::map::Map;

/// A volume as requested. Its JSON is the identity label and the API's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeConfig {
    /// `local` unless the document says otherwise.
    pub driver: String,
    /// Options of the driver.
    pub driver_opts: Map<String, String>,
    /// The document's labels; a change of them alone changes nothing (D-12).
    pub labels: Map<String, String>,
}

members!(VolumeConfig {
    driver always, driver_opts, labels,
});

impl Default for VolumeConfig {
    fn default() -> Self {
        VolumeConfig {
            driver: "local".to_owned(),
            driver_opts: Map::new(),
            labels: Map::new(),
        }
    }
}

impl VolumeConfig {
    /// Whether data kept in one would be found in the other.
    #[must_use]
    pub fn same_place(&self, other: &VolumeConfig) -> bool {
        self.driver == other.driver && self.driver_opts == other.driver_opts
    }
}
