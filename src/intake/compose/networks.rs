//! Networks, names and addresses (target-state 2.12, 2.14, 2.15).

use super::refused::host_address;
use super::{Node, Refusal, ServiceConfig, one_or_many, opt_string, strings};
use crate::base::map::Map;
use crate::intake::node::shown;
use crate::model::NetworkName;
use crate::model::config::{Attachments, Endpoint};

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "dns" => into.dns = one_or_many(node)?,
        "dns_opt" => into.dns_opt = strings(node)?,
        "dns_search" => into.dns_search = one_or_many(node)?,
        "extra_hosts" => into.extra_hosts = node.nullable(extra_hosts)?.unwrap_or_default(),
        "mac_address" => into.mac_address = opt_string(node)?,
        "network_mode" => into.network_mode = node.nullable(network_mode)?,
        "networks" => into.networks = networks(node)?,
        _ => return Ok(false),
    }
    Ok(true)
}

fn extra_hosts(node: Node<'_, '_>) -> Result<Map<String, String>, Refusal> {
    let checked = |node: Node<'_, '_>, address: &str| match host_address(address) {
        Ok(address) => Ok(address.to_owned()),
        Err(reason) => Err(node.refuse(reason)),
    };
    if node.is_object() {
        return node.map(|node| checked(node, &node.str()?));
    }
    if !node.is_list() {
        return Err(node.unexpected("a list of strings or an object"));
    }
    let mut hosts = Vec::new();
    node.each_element(|node| {
        let text = node.str()?;
        let (name, address) = text.split_once([':', '=']).ok_or_else(|| {
            node.refuse(format!("`{}` has no address behind the name", shown(&text)))
        })?;
        hosts.push((name.to_owned(), checked(node, address)?));
        Ok(())
    })?;
    Ok(hosts.into())
}

fn network_mode(node: Node<'_, '_>) -> Result<String, Refusal> {
    let text = node.str()?;
    if matches!(&*text, "none" | "host" | "bridge") {
        return Ok(text.into_owned());
    }
    if let Some(service) = text.strip_prefix("service:") {
        let service = service.trim_start();
        if !service.is_empty() {
            return Ok(format!("service:{service}"));
        }
    }
    Err(node.refuse(format!(
        "network_mode `{}` is not supported; it can be none, host, bridge or service:NAME",
        shown(&text)
    )))
}

/// In the order in which they are connected.
fn networks(node: Node<'_, '_>) -> Result<Attachments, Refusal> {
    let mut list: Vec<(i32, NetworkName, Endpoint)> = Vec::new();
    if node.is_list() {
        node.each_element(|node| {
            let name = node.str()?;
            if !list.iter().any(|(_, known, _)| **known == *name) {
                list.push((0, NetworkName::new(&name), Endpoint::default()));
            }
            Ok(())
        })?;
    } else if node.is_object() {
        node.each_member(|name, node| {
            let (priority, endpoint) = node.nullable(endpoint)?.unwrap_or_default();
            list.push((priority, NetworkName::new(name), endpoint));
            Ok(())
        })?;
    } else {
        return Err(node.unexpected("a list of names or an object"));
    }
    list.sort_by_key(|(priority, _, _)| std::cmp::Reverse(*priority));
    let list = list.into_iter().map(|(_, name, endpoint)| (name, endpoint));
    Ok(Attachments(list.collect()))
}

fn endpoint(node: Node<'_, '_>) -> Result<(i32, Endpoint), Refusal> {
    let mut endpoint = Endpoint::default();
    let mut priority = 0;
    node.each_member(|key, node| {
        match key {
            "aliases" => endpoint.aliases = node.list(|node| node.string())?,
            "ipv4_address" => endpoint.ipv4_address = opt_string(node)?,
            "ipv6_address" => endpoint.ipv6_address = opt_string(node)?,
            "link_local_ips" => endpoint.link_local_ips = strings(node)?,
            "mac_address" => endpoint.mac_address = opt_string(node)?,
            "driver_opts" => {
                let options = node.nullable(|node| node.map(|node| node.string()))?;
                endpoint.driver_opts = options.unwrap_or_default();
            }
            "gw_priority" => {
                endpoint.gw_priority = node.nullable(|node| node.int_as::<i32>())?;
            }
            "priority" => {
                let read = node.nullable(|node| node.int_as::<i32>())?;
                priority = read.unwrap_or_default();
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((priority, endpoint))
}
