//! Published ports (target-state 2.16).

use std::net::IpAddr;

use super::{Node, Refusal, ServiceConfig};
use crate::intake::node::shown;
use crate::model::config::{PortMapping, Protocol};

/// Mappings of one service. Ranges make many of few bytes; an engine starts a
/// process for each.
const MAPPINGS_MAX: usize = 16 * 1024;

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    if key != "ports" {
        return Ok(false);
    }
    let mut mappings = Vec::new();
    node.each_element(|node| {
        let entry = entry(node)?;
        if mappings.len() + entry.count() > MAPPINGS_MAX {
            return Err(node.refuse(format!("more than {MAPPINGS_MAX} ports")));
        }
        entry.expand(&mut mappings).map_err(|()| {
            node.refuse(format!(
                "host ports {} cannot be paired with container ports {}",
                Entry::text(entry.host),
                Entry::text(Some(entry.container)),
            ))
        })
    })?;
    mappings.sort_unstable();
    mappings.dedup();
    into.ports = mappings;
    Ok(true)
}

/// First and last port, both included.
type Range = (u16, u16);

/// One element of the list.
struct Entry {
    container: Range,
    host: Option<Range>,
    address: Option<IpAddr>,
    protocol: Protocol,
}

impl Entry {
    /// How many mappings it makes, at most.
    fn count(&self) -> usize {
        let len = |(first, last): Range| usize::from(last - first) + 1;
        len(self.container).max(self.host.map_or(0, len))
    }

    fn text(range: Option<Range>) -> String {
        match range {
            Some((first, last)) if first != last => format!("{first}-{last}"),
            Some((first, _)) => first.to_string(),
            None => String::new(),
        }
    }

    /// Pairs the ports; one container port takes any host range, a range one of its length.
    fn expand(&self, into: &mut Vec<PortMapping>) -> Result<(), ()> {
        let mut push = |target, published| {
            into.push(PortMapping {
                target,
                protocol: self.protocol,
                published,
                host_ip: self.address,
            });
        };
        let (first, last) = self.container;
        match self.host {
            None => (first..=last).for_each(|port| push(port, None)),
            Some((from, to)) if first == last => {
                (from..=to).for_each(|host| push(first, Some(host)));
            }
            Some((from, to)) if to - from == last - first => {
                (first..=last)
                    .zip(from..=to)
                    .for_each(|(port, host)| push(port, Some(host)));
            }
            Some(_) => return Err(()),
        }
        Ok(())
    }
}

fn entry(node: Node<'_, '_>) -> Result<Entry, Refusal> {
    if node.is_string() {
        let text = node.str()?;
        return short(&text).map_err(|reason| node.refuse(format!("`{}`: {reason}", shown(&text))));
    }
    if node.is_object() {
        return long(node);
    }
    if node.is_number() {
        return Ok(Entry {
            container: port_or_range(node)?,
            host: None,
            address: None,
            protocol: Protocol::Tcp,
        });
    }
    Err(node.unexpected("a string, an integer or an object"))
}

/// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, read from the right.
fn short(text: &str) -> Result<Entry, String> {
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, word)) => (rest, protocol(word)?),
        None => (text, Protocol::Tcp),
    };
    let (rest, container) = match rest.rsplit_once(':') {
        Some((rest, container)) => (Some(rest), range(container)?),
        None => (None, range(rest)?),
    };
    let (address_text, host) = match rest.map(|rest| (rest, rest.rsplit_once(':'))) {
        None => (None, None),
        Some((_, Some((address, "")))) => (Some(address), None),
        Some((_, Some((address, host)))) => (Some(address), Some(range(host)?)),
        Some((host, None)) => (None, Some(range(host)?)),
    };
    Ok(Entry {
        container,
        host,
        address: address_text.map(address).transpose()?.flatten(),
        protocol,
    })
}

fn long(node: Node<'_, '_>) -> Result<Entry, Refusal> {
    let members = node.members()?;
    let container = node
        .member(&members, "target", port_or_range)?
        .ok_or_else(|| node.refuse("missing field `target`"))?;
    let host = node.member(&members, "published", |node| node.nullable(port_or_range))?;
    let address = node.member(&members, "host_ip", |node| {
        node.nullable(|node| address(&node.str()?).map_err(|reason| node.refuse(reason)))
    })?;
    let protocol = node.member(&members, "protocol", |node| {
        node.nullable(|node| protocol(&node.str()?).map_err(|reason| node.refuse(reason)))
    })?;
    Ok(Entry {
        container,
        host: host.flatten(),
        address: address.flatten().flatten(),
        protocol: protocol.flatten().unwrap_or(Protocol::Tcp),
    })
}

fn port_or_range(node: Node<'_, '_>) -> Result<Range, Refusal> {
    if node.is_string() {
        return range(&node.str()?).map_err(|reason| node.refuse(reason));
    }
    if node.is_integer() {
        return range(node.number()?).map_err(|reason| node.refuse(reason));
    }
    Err(node.unexpected("a port or a range of ports"))
}

/// `A` or `A-B`.
fn range(text: &str) -> Result<Range, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("the range `{}` is reversed", shown(text)));
    }
    Ok((first, last))
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.filter(|port| *port > 0)
        .ok_or_else(|| format!("`{}` is no port, which is 1 to 65535", shown(text)))
}

fn protocol(word: &str) -> Result<Protocol, String> {
    match word {
        "tcp" => Ok(Protocol::Tcp),
        "udp" => Ok(Protocol::Udp),
        other => Err(format!(
            "`{}` is no protocol, which is tcp or udp",
            shown(other)
        )),
    }
}

/// A host address; the one that stands for all is none.
fn address(text: &str) -> Result<Option<IpAddr>, String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|inner| inner.strip_suffix(']'));
    let address: Result<IpAddr, _> = match inner {
        Some(inner) => inner.parse().map(IpAddr::V6),
        None => text.parse(),
    };
    match address {
        Ok(IpAddr::V4(address)) if address.is_unspecified() => Ok(None),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(format!("`{}` is no IP address", shown(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<String, String> {
        let entry = short(text)?;
        let mut mappings = Vec::new();
        entry
            .expand(&mut mappings)
            .map_err(|()| "pairing".to_owned())?;
        let one = |m: &PortMapping| {
            let host = m
                .published
                .map_or_else(|| "-".to_owned(), |p| p.to_string());
            let ip = m.host_ip.map_or_else(String::new, |ip| format!("{ip} "));
            format!("{ip}{host}>{}/{}", m.target, m.protocol.as_str())
        };
        Ok(mappings.iter().map(one).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn ts_2_16_short_ports() {
        #[rustfmt::skip]
        let cases: &[(&str, Option<&str>)] = &[
            ("80", Some("->80/tcp")),
            ("80/udp", Some("->80/udp")),
            ("8080:80", Some("8080>80/tcp")),
            ("1-2", Some("->1/tcp ->2/tcp")),
            ("8-9:80", Some("8>80/tcp 9>80/tcp")),
            ("8-9:80-81", Some("8>80/tcp 9>81/tcp")),
            ("127.0.0.1::80", Some("127.0.0.1 ->80/tcp")),
            ("0.0.0.0:8:80", Some("8>80/tcp")),
            ("[::1]:8:80", Some("::1 8>80/tcp")),
            ("::1:8:80/udp", Some("::1 8>80/udp")),
            (":::8:80", Some(":: 8>80/tcp")),
            ("fe80:0::1:8:80", Some("fe80::1 8>80/tcp")),
            ("", None), (":80", None), ("::80", None), ("a:80", None), ("80:a", None), ("+80", None),
            ("80/tcp/udp", None), ("80/TCP", None), ("80/", None), ("0", None), ("65536", None),
            ("2-1", None), ("8-9:80-82", None), ("8:80-81", None), (" 80", None), ("1-", None),
            ("127.0.0.1:80", None), ("[127.0.0.1]:8:80", None), ("[]:8:80", None), ("8:", None),
        ];
        for (text, want) in cases {
            assert_eq!(all(text).ok().as_deref(), *want, "{text}");
        }
    }
}
