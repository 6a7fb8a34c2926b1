//! Which networks a container is attached to, and how.

use std::fmt;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::base::json::{Blank, members};
use crate::base::map::Map;
use crate::model::NetworkName;

/// Networks in the order in which they are connected. A map in JSON, order kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attachments(pub Vec<(NetworkName, Endpoint)>);

impl Attachments {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Blank for Attachments {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Serialize for Attachments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, endpoint) in &self.0 {
            map.serialize_entry(name.as_str(), endpoint)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Attachments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Attachments, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Attachments;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of networks")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attachments, A::Error> {
                let mut list = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    list.push(entry);
                }
                Ok(Attachments(list))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

/// How a container is attached to one network (target-state 2.14).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// Further names of the container there.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4_address: Option<String>,
    /// A fixed address.
    pub ipv6_address: Option<String>,
    /// Further addresses.
    pub link_local_ips: Vec<String>,
    /// The hardware address.
    pub mac_address: Option<String>,
    /// Options of the network's driver.
    pub driver_opts: Map<String, String>,
    /// The highest one's gateway is the container's.
    pub gw_priority: Option<i32>,
}

members!(Endpoint {
    aliases,
    ipv4_address,
    ipv6_address,
    link_local_ips,
    mac_address,
    driver_opts,
    gw_priority,
});
