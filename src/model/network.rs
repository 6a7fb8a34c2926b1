//! What a network is asked to be (target-state 3.1).

use serde::{Deserialize, Serialize};

use crate::base::map::Map;

/// A network as requested. Its JSON is the identity label and the API's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkConfig {
    /// `bridge` unless the document says otherwise.
    pub driver: String,
    /// Options of the driver.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub driver_opts: Map<String, String>,
    /// Whether the engine gives out IPv6 addresses.
    #[serde(default)]
    pub enable_ipv6: bool,
    /// Without a way out.
    #[serde(default)]
    pub internal: bool,
    /// The document's labels.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String, String>,
    /// Address management.
    #[serde(default)]
    pub ipam: Ipam,
    /// A network that only lends its settings (beyond upstream).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub config_only: bool,
}

impl Default for NetworkConfig {
    fn default() -> Self {
        NetworkConfig {
            driver: "bridge".to_owned(),
            driver_opts: Map::new(),
            enable_ipv6: false,
            internal: false,
            labels: Map::new(),
            ipam: Ipam::default(),
            config_only: false,
        }
    }
}

/// Address management of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ipam {
    /// `default` unless the document says otherwise.
    pub driver: String,
    /// Declared pools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Pool>,
    /// Options of the driver.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, String>,
}

impl Default for Ipam {
    fn default() -> Self {
        Ipam {
            driver: "default".to_owned(),
            config: Vec::new(),
            options: Map::new(),
        }
    }
}

/// One declared address pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// In CIDR form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The bridge's own address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The part of the subnet that containers get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses that are taken.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub aux_addresses: Map<String, String>,
}
