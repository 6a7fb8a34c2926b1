//! Definitions of networks and volumes (target-state 3.1, 3.2).

use std::collections::BTreeMap;

use super::Refusal;
use super::compose::environment::pairs;
use super::node::Node;
use crate::model::network::{Ipam, Pool};
use crate::model::{NetworkConfig, VolumeConfig};

/// Whether IPv6 is on, said in place of `enable_ipv6`.
const OPTION_IPV6: &str = "com.docker.network.enable_ipv6";
/// Has no effect.
const OPTION_IPV4: &str = "com.docker.network.enable_ipv4";

/// A network definition.
pub(super) fn network(node: Node<'_, '_>) -> Result<NetworkConfig, Refusal> {
    let mut config = NetworkConfig::default();
    let mut ipv6 = None;
    node.each_member(|key, node| {
        match key {
            "driver" => set(&mut config.driver, node)?,
            "driver_opts" => config.driver_opts = texts(node)?,
            "enable_ipv6" => ipv6 = node.nullable(|node| node.bool())?,
            "internal" => config.internal = node.bool()?,
            "labels" => config.labels = pairs(node)?,
            "ipam" => config.ipam = node.nullable(ipam)?.unwrap_or_default(),
            "config_only" => config.config_only = node.bool()?,
            _ => {}
        }
        Ok(())
    })?;
    config.driver_opts.remove(OPTION_IPV4);
    let option = config.driver_opts.remove(OPTION_IPV6);
    config.enable_ipv6 = ipv6.unwrap_or_else(|| option.as_deref() == Some("true"));
    Ok(config)
}

fn ipam(node: Node<'_, '_>) -> Result<Ipam, Refusal> {
    let mut ipam = Ipam::default();
    node.each_member(|key, node| {
        match key {
            "driver" => set(&mut ipam.driver, node)?,
            "config" => ipam.config = node.list(pool)?,
            "options" => ipam.options = node.nullable(texts)?.unwrap_or_default(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(ipam)
}

fn pool(node: Node<'_, '_>) -> Result<Pool, Refusal> {
    let text = |node: Node<'_, '_>| node.nullable(|node| node.string());
    let mut pool = Pool::default();
    node.each_member(|key, node| {
        match key {
            "subnet" => pool.subnet = text(node)?,
            "gateway" => pool.gateway = text(node)?,
            "ip_range" => pool.ip_range = text(node)?,
            "aux_addresses" => {
                pool.aux_addresses = node.nullable(texts)?.unwrap_or_default();
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(pool)
}

/// A volume definition.
pub(super) fn volume(node: Node<'_, '_>) -> Result<VolumeConfig, Refusal> {
    let mut config = VolumeConfig::default();
    node.each_member(|key, node| {
        match key {
            "driver" => set(&mut config.driver, node)?,
            "driver_opts" => config.driver_opts = texts(node)?,
            "labels" => config.labels = pairs(node)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(config)
}

/// A string in place of the default, unless it is null.
fn set(place: &mut String, node: Node<'_, '_>) -> Result<(), Refusal> {
    if let Some(text) = node.nullable(|node| node.string())? {
        *place = text;
    }
    Ok(())
}

fn texts(node: Node<'_, '_>) -> Result<BTreeMap<String, String>, Refusal> {
    node.map(|node| node.string())
}
