//! What a network is asked to be (target-state 3.1).

use serde::Serialize;

use crate::base::json::fields;
use crate::base::map::Map;

/// A network as requested. Its JSON is the identity label and the API's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NetworkConfig {
    /// `bridge` unless the document says otherwise.
    pub driver: String,
    /// Options of the driver.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub driver_opts: Map<String, String>,
    /// Whether the engine gives out IPv6 addresses.
    pub enable_ipv6: bool,
    /// Without a way out.
    pub internal: bool,
    /// The document's labels.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub labels: Map<String, String>,
    /// Address management.
    pub ipam: Ipam,
    /// A network that only lends its settings (beyond upstream).
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub config_only: bool,
}

fields!(NetworkConfig {
    driver,
    driver_opts,
    enable_ipv6,
    internal,
    labels,
    ipam,
    config_only,
});

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
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ipam {
    /// `default` unless the document says otherwise.
    pub driver: String,
    /// Declared pools.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<Pool>,
    /// Options of the driver.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub options: Map<String, String>,
}

fields!(Ipam {
    driver,
    config,
    options,
});

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
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// In CIDR form.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subnet: Option<String>,
    /// The bridge's own address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// The part of the subnet that containers get.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_range: Option<String>,
    /// Addresses that are taken.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub aux_addresses: Map<String, String>,
}

fields!(Pool {
    subnet,
    gateway,
    ip_range,
    aux_addresses,
});
