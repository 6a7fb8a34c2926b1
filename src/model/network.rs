//! What a network is asked to be (target-state 3.1).

use crate::base::json::members;
use crate::base::map::Map;

/// A network as requested. Its JSON is the identity label and the API's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConfig {
    /// `bridge` unless the document says otherwise.
    pub driver: String,
    /// Options of the driver.
    pub driver_opts: Map<String, String>,
    /// Whether the engine gives out IPv6 addresses.
    pub enable_ipv6: bool,
    /// Without a way out.
    pub internal: bool,
    /// The document's labels.
    pub labels: Map<String, String>,
    /// Address management.
    pub ipam: Ipam,
    /// A network that only lends its settings (beyond upstream).
    pub config_only: bool,
}

members!(NetworkConfig {
    driver always, driver_opts, enable_ipv6 always, internal always, labels, ipam always,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ipam {
    /// `default` unless the document says otherwise.
    pub driver: String,
    /// Declared pools.
    pub config: Vec<Pool>,
    /// Options of the driver.
    pub options: Map<String, String>,
}

members!(Ipam {
    driver always, config, options,
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
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pool {
    /// In CIDR form.
    pub subnet: Option<String>,
    /// The bridge's own address.
    pub gateway: Option<String>,
    /// The part of the subnet that containers get.
    pub ip_range: Option<String>,
    /// Addresses that are taken.
    pub aux_addresses: Map<String, String>,
}

members!(Pool {
    subnet,
    gateway,
    ip_range,
    aux_addresses,
});
