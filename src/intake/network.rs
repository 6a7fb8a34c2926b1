//! Definitions of networks and volumes (target-state 3.1, 3.2).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Refusal;
use super::compose::environment::pairs;
use super::node::Node;
use crate::base::map::Map;
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
            "driver" => {
                set(&mut config.driver, node)?;
                if matches!(&*config.driver, "host" | "null") {
                    return Err(node.refuse("engines make no second network of this kind"));
                }
            }
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
    check_pool(&mut pool).map_err(|(key, reason)| node.path.key(key).refuse(reason))?;
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
    if matches!(&*config.driver, "" | "local") {
        let options = node.path.key("driver_opts");
        check_local(&config.driver_opts)
            .map_err(|(key, reason)| options.key(key).refuse(reason))?;
    }
    Ok(config)
}

/// What the driver `local` of every engine refuses of its options.
fn check_local(options: &Map<String, String>) -> Result<(), (&str, &'static str)> {
    #[rustfmt::skip]
    const NEEDS: &[(&str, &[&str])] =
        &[("device", &["type"]), ("type", &["device"]), ("o", &["device", "type"]), ("size", &[])];
    for key in options.keys() {
        let Some((_, needs)) = NEEDS.iter().find(|(known, _)| known == key) else {
            return Err((key, "the driver local has no such option"));
        };
        if needs.iter().any(|need| !options.contains_key(*need)) {
            return Err((key, "the driver local needs device and type together"));
        }
    }
    Ok(())
}

/// A string in place of the default, unless it is null.
fn set(place: &mut String, node: Node<'_, '_>) -> Result<(), Refusal> {
    if let Some(text) = node.nullable(|node| node.string())? {
        *place = text;
    }
    Ok(())
}

fn texts(node: Node<'_, '_>) -> Result<Map<String, String>, Refusal> {
    node.map(|node| node.string())
}

/// Whether the subnets of a network have room for an address. A network without any of the
/// address's family leaves it to the engine.
pub(super) fn may_have(config: &NetworkConfig, address: IpAddr) -> bool {
    let subnets = config.ipam.config.iter();
    let mut subnets = subnets
        .filter_map(|pool| Subnet::parse(pool.subnet.as_deref()?)?.contains(address))
        .peekable();
    subnets.peek().is_none() || subnets.any(|inside| inside)
}

/// A range of addresses such as `10.1.0.0/16`.
#[derive(Clone, Copy)]
struct Subnet {
    address: IpAddr,
    /// Bits that all its addresses have in common.
    bits: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Subnet> {
        let (address, bits) = text.split_once('/')?;
        let address: IpAddr = address.parse().ok()?;
        let digits = bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = bits.parse().ok().filter(|_| digits)?;
        let all = if address.is_ipv4() { 32 } else { 128 };
        (bits <= all).then_some(Subnet { address, bits })
    }

    /// The first address that has the bits, as newer engines want it written.
    fn first(self) -> IpAddr {
        match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - self.bits).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - self.bits).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        }
    }

    /// `None` for an address of the other family.
    fn contains(self, address: IpAddr) -> Option<bool> {
        let same = Subnet { address, ..self };
        (self.address.is_ipv4() == address.is_ipv4()).then(|| self.first() == same.first())
    }

    fn has(self, text: &str) -> bool {
        text.parse()
            .is_ok_and(|address| self.contains(address) == Some(true))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.bits)
    }
}

/// What every engine refuses of a pool; its subnet is written as all engines take it.
fn check_pool(pool: &mut Pool) -> Result<(), (&'static str, &'static str)> {
    let Some(text) = &pool.subnet else {
        return Err(("subnet", "missing: engines take no pool without one"));
    };
    let Some(subnet) = Subnet::parse(text) else {
        return Err(("subnet", "expected a subnet, such as 10.1.0.0/16"));
    };
    let outside = "it is not in the subnet";
    // Engines take an empty text for none.
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    if given(&pool.gateway).is_some_and(|text| !subnet.has(&text)) {
        return Err(("gateway", outside));
    }
    let range_fits = |text: &str| {
        let range = Subnet::parse(text)?;
        Some(range.bits >= subnet.bits && subnet.contains(range.address) == Some(true))
    };
    if given(&pool.ip_range).is_some_and(|text| range_fits(&text) != Some(true)) {
        return Err(("ip_range", outside));
    }
    if pool.aux_addresses.values().any(|text| !subnet.has(text)) {
        return Err(("aux_addresses", outside));
    }
    pool.subnet = Some(subnet.to_string());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issue_4_which_addresses_a_subnet_has() {
        #[rustfmt::skip]
        let cases = [
            ("10.1.0.0/16", "10.1.2.3", Some(true)), ("10.1.0.0/16", "10.2.0.1", Some(false)), ("0.0.0.0/0", "192.0.2.1", Some(true)),
            ("192.0.2.1/32", "192.0.2.1", Some(true)), ("10.0.0.0/33", "10.0.0.1", None), ("fd00::/64", "fd00::1", Some(true)),
            ("fd00::/64", "fd00:0:0:1::1", Some(false)), ("::/0", "fd00::1", Some(true)), ("fd00::/64", "10.0.0.1", None),
            ("10.0.0.0", "10.0.0.1", None), ("x/8", "10.0.0.1", None), ("10.0.0.0/-1", "10.0.0.1", None), ("fd00::/129", "fd00::1", None),
        ];
        for (subnet, address, want) in cases {
            let parsed = Subnet::parse(subnet);
            let got = parsed.and_then(|parsed| parsed.contains(address.parse().unwrap()));
            assert_eq!(got, want, "{address} in {subnet}");
        }
    }

    #[test]
    fn issue_4_what_a_pool_may_say() {
        let pool = |text: &str| {
            let raw = crate::base::json::from_str(text).unwrap();
            let read = network(Node::new(raw, &crate::intake::node::Path::Root));
            read.map(|config| config.ipam.config[0].subnet.clone())
                .map_err(|fault| fault.path)
        };
        let of = |pools: &str| pool(&format!(r#"{{"ipam":{{"config":[{{{pools}}}]}}}}"#));
        #[rustfmt::skip]
        let cases: &[(&str, Result<&str, &str>)] = &[
            (r#""subnet":"10.1.2.3/16""#, Ok("10.1.0.0/16")), (r#""subnet":"fd00::5/64","gateway":"fd00::1""#, Ok("fd00::/64")),
            (r#""subnet":"10.1.0.0/16","gateway":"","ip_range":"""#, Ok("10.1.0.0/16")),
            (r#""subnet":"10.1.0.0/16","gateway":"10.1.0.1","ip_range":"10.1.5.0/24","aux_addresses":{"a":"10.1.9.9"}"#, Ok("10.1.0.0/16")),
            ("", Err("subnet")), (r#""gateway":"10.1.0.1""#, Err("subnet")), (r#""subnet":"10.1.0.0""#, Err("subnet")),
            (r#""subnet":"10.1.0.0/16","gateway":"10.2.0.1""#, Err("gateway")), (r#""subnet":"10.1.0.0/16","gateway":"x""#, Err("gateway")),
            (r#""subnet":"10.1.0.0/16","ip_range":"10.0.0.0/8""#, Err("ip_range")), (r#""subnet":"10.1.0.0/16","aux_addresses":{"a":"::1"}"#, Err("aux_addresses")),
        ];
        for (text, want) in cases {
            let want = want.map(|subnet| Some(subnet.to_owned()));
            let want = want.map_err(|key| format!("ipam.config[0].{key}"));
            assert_eq!(of(text), want, "{text}");
        }
        for driver in ["host", "null"] {
            assert_eq!(
                pool(&format!(r#"{{"driver":"{driver}"}}"#)).unwrap_err(),
                "driver"
            );
        }
    }

    #[test]
    fn issue_4_options_of_the_driver_local() {
        #[rustfmt::skip]
        let cases = [
            (r#"{"driver_opts":{"type":"tmpfs","device":"tmpfs","o":"size=1m"}}"#, ""), (r#"{"driver_opts":{"size":"5"}}"#, ""),
            (r#"{"driver":"other","driver_opts":{"x":"y"}}"#, ""), (r#"{"driver_opts":{"type":"tmpfs"}}"#, "driver_opts.type"),
            (r#"{"driver_opts":{"device":"/x"}}"#, "driver_opts.device"), (r#"{"driver_opts":{"o":"bind"}}"#, "driver_opts.o"),
            (r#"{"driver":"","driver_opts":{"x":"y"}}"#, "driver_opts.x"),
        ];
        for (text, want) in cases {
            let raw = crate::base::json::from_str(text).unwrap();
            let read = volume(Node::new(raw, &crate::intake::node::Path::Root));
            assert_eq!(
                read.map_or_else(|fault| fault.path, |_| String::new()),
                want,
                "{text}"
            );
        }
    }
}
