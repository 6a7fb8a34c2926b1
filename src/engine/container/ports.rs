//! Published ports.

use super::Encoder;
use super::wire::{Body, Empty, PortBinding};

pub(super) fn encode<'a>(encoder: &Encoder<'a>, body: &mut Body<'a>) {
    for mapping in &encoder.config.ports {
        let port = format!("{}/{}", mapping.target, mapping.protocol.as_str());
        let bindings = &mut body.host_config.port_bindings;
        bindings.or_default(port.clone()).push(PortBinding {
            host_ip: mapping.host_ip.map(|address| address.to_string()),
            host_port: mapping.published.map(|port| port.to_string()),
        });
        body.exposed_ports.insert(port, Empty {});
    }
}
