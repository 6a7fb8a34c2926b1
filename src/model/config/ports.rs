//! Published ports.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::base::json::members;

/// One container port on one host port (target-state 2.16). Ordered as the engine is told.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortMapping {
    /// The port in the container.
    pub target: u16,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the host; `None`: one that the engine picks.
    pub published: Option<u16>,
    /// The address on the host; `None`: all of them.
    pub host_ip: Option<IpAddr>,
}

members!(PortMapping {
    target always, protocol always, published, host_ip,
});

/// What a port speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl Protocol {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}
