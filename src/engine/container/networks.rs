//! Networks, names and addresses (target-state 2.12, 2.14, 2.15).

use super::wire::{self, Body, IpamConfig, NetworkingConfig};
use super::{API_ENDPOINT_MAC, API_GW_PRIORITY, API_NO_CONTAINER_MAC, Encoder, SUPERVISOR_NETWORK};
use crate::base::map::Map;
use crate::model::config::Endpoint;

/// Sets what the create body says of networks; returns the further ones.
pub(super) fn encode<'a>(
    encoder: &mut Encoder<'a>,
    body: &mut Body<'a>,
) -> Vec<(String, wire::Endpoint<'a>)> {
    let config = encoder.config;
    body.host_config.dns = &config.dns;
    body.host_config.dns_options = &config.dns_opt;
    body.host_config.dns_search = &config.dns_search;
    body.host_config.extra_hosts = config
        .extra_hosts
        .iter()
        .map(|(name, address)| format!("{name}:{address}"))
        .collect();
    let container_mac = config.mac_address.as_deref();
    if let Some(mode) = &config.network_mode {
        body.host_config.network_mode = Some(encoder.mode(mode));
        if mode != "bridge" {
            body.mac_address = container_mac.filter(|_| encoder.api < API_NO_CONTAINER_MAC);
        } else if encoder.api < API_NO_CONTAINER_MAC {
            body.mac_address = container_mac;
        } else if container_mac.is_some() {
            let endpoint = wire::Endpoint {
                mac_address: container_mac,
                ..wire::Endpoint::default()
            };
            body.networking_config = Some(only("bridge".to_owned(), endpoint));
        }
        return supervisor_network(encoder);
    }
    let mut rest = Vec::new();
    for (name, settings) in &config.networks.0 {
        let oci_name = (encoder.new.network)(name);
        let is_main = body.host_config.network_mode.is_none();
        let endpoint = endpoint(encoder, name, settings, is_main);
        if !is_main {
            rest.push((oci_name, endpoint));
            continue;
        }
        let mac = settings.mac_address.as_deref().or(container_mac);
        // Once both are known they must be equal; before, this is the only one.
        let both = container_mac.is_some() && encoder.api < API_NO_CONTAINER_MAC;
        if both || encoder.api < API_ENDPOINT_MAC {
            body.mac_address = mac;
        }
        body.host_config.network_mode = Some(oci_name.clone());
        body.networking_config = Some(only(oci_name, endpoint));
    }
    rest.extend(supervisor_network(encoder));
    rest
}

fn only(name: String, endpoint: wire::Endpoint<'_>) -> NetworkingConfig<'_> {
    NetworkingConfig {
        endpoints_config: Map::from([(name, endpoint)]),
    }
}

fn endpoint<'a>(
    encoder: &mut Encoder<'a>,
    name: &str,
    settings: &'a Endpoint,
    is_main: bool,
) -> wire::Endpoint<'a> {
    let service = encoder.new.service.as_str();
    let mut aliases: Vec<&str> = settings.aliases.iter().map(String::as_str).collect();
    if !aliases.contains(&service) {
        aliases.push(service);
    }
    let has_address = settings.ipv4_address.is_some()
        || settings.ipv6_address.is_some()
        || !settings.link_local_ips.is_empty();
    let container_mac = encoder.config.mac_address.as_deref().filter(|_| is_main);
    let mac = settings.mac_address.as_deref().or(container_mac);
    let sends_mac = mac.is_some()
        && if is_main {
            encoder.api >= API_ENDPOINT_MAC // else the container's
        } else {
            encoder.knows(API_ENDPOINT_MAC, &format!("networks.{name}.mac_address"))
        };
    wire::Endpoint {
        ipam_config: has_address.then_some(IpamConfig {
            ipv4_address: settings.ipv4_address.as_deref(),
            ipv6_address: settings.ipv6_address.as_deref(),
            link_local_ips: &settings.link_local_ips,
        }),
        aliases,
        mac_address: mac.filter(|_| sends_mac),
        driver_opts: Some(&settings.driver_opts).filter(|options| !options.is_empty()),
        gw_priority: settings
            .gw_priority
            .filter(|_| encoder.knows(API_GW_PRIORITY, &format!("networks.{name}.gw_priority"))),
    }
}

/// The network of the agent's own API, for services that ask for it (target-state 4.2).
fn supervisor_network<'a>(encoder: &Encoder<'a>) -> Vec<(String, wire::Endpoint<'a>)> {
    // Containers without a network of their own cannot be connected to one.
    let has_networks =
        !matches!(encoder.config.network_mode.as_deref(), Some(mode) if mode != "bridge");
    let offered = encoder
        .extra
        .supervisor
        .is_some_and(|api| api.gateway.is_some());
    if has_networks && offered && encoder.feature("supervisor-api") {
        let endpoint = wire::Endpoint::default();
        return vec![(SUPERVISOR_NETWORK.to_owned(), endpoint)];
    }
    Vec::new()
}
