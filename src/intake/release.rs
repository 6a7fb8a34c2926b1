//! One release: names, cross-checks, the default network (target-state 1.3, 3.3).

use super::compose::PLAIN;
use super::node::{Node, shown};
use super::service::{self, DEFAULT_NETWORK, Draft};
use super::{Reading, Refusal, network};
use crate::base::map::Map;
use crate::model::target::ReleaseTarget;
use crate::model::{NetworkConfig, NetworkName, ServiceName, VolumeConfig, VolumeName};

/// Services of one release. A device runs some dozens at most.
const SERVICES_MAX: usize = 1000;
/// Faults that are named, rather than all of a release that has nothing right.
const FAULTS_MAX: usize = 20;

/// A release as read.
#[derive(Default)]
pub(super) struct Release {
    pub services: Map<ServiceName, Draft>,
    pub networks: Map<NetworkName, NetworkConfig>,
    pub volumes: Map<VolumeName, VolumeConfig>,
}

impl Release {
    /// What the model keeps of it.
    pub(super) fn into_target(self) -> ReleaseTarget {
        let services = self.services.into_iter();
        ReleaseTarget {
            services: services.map(|(name, draft)| (name, draft.target)).collect(),
            networks: self.networks,
            volumes: self.volumes,
        }
    }
}

/// Reads a release with all its rules. Failures are in `faults`.
pub(super) fn read(
    node: Node<'_, '_>,
    reading: &mut Reading<'_>,
    faults: &mut Vec<Refusal>,
) -> Release {
    let mut release = Release::default();
    let members = match node.members() {
        Ok(members) => members,
        Err(fault) => {
            faults.push(fault);
            return release;
        }
    };
    for (part, raw) in &members {
        let path = node.path.key(part);
        let all = Node::new(raw, &path);
        let is_part = matches!(&**part, "services" | "networks" | "volumes");
        if is_part && let Err(fault) = all.members().and_then(|all| count(node, part, all.len())) {
            faults.push(fault);
            continue;
        }
        let mut each = |read: &mut dyn FnMut(&str, Node<'_, '_>, &mut Vec<Refusal>)| {
            let _ = all.each_member(|name, node| {
                if faults.len() < FAULTS_MAX {
                    match check_name(name, node) {
                        Ok(()) => read(name, node, faults),
                        Err(fault) => faults.push(fault),
                    }
                }
                Ok(())
            });
        };
        match &**part {
            "services" => each(&mut |name, node, faults| {
                let draft = service::read(node, reading, faults);
                let name = ServiceName::new(name);
                release.services.extend(draft.map(|draft| (name, draft)));
            }),
            "networks" => each(&mut |name, node, faults| match network::network(node) {
                Ok(config) => drop(release.networks.insert(name.into(), config)),
                Err(fault) => faults.push(fault),
            }),
            "volumes" => each(&mut |name, node, faults| match network::volume(node) {
                Ok(config) => drop(release.volumes.insert(name.into(), config)),
                Err(fault) => faults.push(fault),
            }),
            _ => {}
        }
    }
    // With parts missing the checks between them would only add noise.
    if faults.is_empty() {
        release.cross_check(node, faults);
    }
    release
}

fn count(node: Node<'_, '_>, part: &str, len: usize) -> Result<(), Refusal> {
    if len > SERVICES_MAX {
        return Err(node
            .path
            .key(part)
            .refuse(format!("more than {SERVICES_MAX} entries")));
    }
    Ok(())
}

/// Names that engines take (D-14).
fn check_name(name: &str, node: Node<'_, '_>) -> Result<(), Refusal> {
    let good = name.len() <= 255
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'));
    if good {
        return Ok(());
    }
    Err(node.refuse(format!(
        "`{}` is no valid name: it takes a letter or digit, then letters, digits, _ . and -, \
         at most 255 in all",
        shown(name)
    )))
}

impl Release {
    fn cross_check(&mut self, node: Node<'_, '_>, faults: &mut Vec<Refusal>) {
        let services = node.path.key("services");
        let names: Vec<ServiceName> = self.services.keys().cloned().collect();
        for (name, draft) in self.services.iter_mut() {
            let path = services.key(name);
            let path = path.key("composition");
            let unknown = |field: &str, kind: &str, other: &str| {
                path.key(field).refuse(format!(
                    "service '{name}' refers to undefined {kind} {}",
                    shown(other)
                ))
            };
            for network in &draft.networks {
                if !self.networks.contains_key(network) {
                    faults.push(unknown("networks", "network", network));
                }
            }
            for (network, address) in &draft.addresses {
                let config = self.networks.get(network);
                if config.is_some_and(|config| !network::may_have(config, *address)) {
                    faults.push(
                        path.key("networks")
                            .key(network)
                            .refuse(format!("{address} is in none of the network's subnets")),
                    );
                }
            }
            for volume in &draft.volumes {
                if !self.volumes.contains_key(volume) {
                    faults.push(unknown("volumes", "volume", volume));
                }
            }
            let depends_on = &mut draft.target.depends_on;
            for other in &draft.shares {
                depends_on.or_insert_with(other.clone(), || PLAIN);
            }
            for other in depends_on.keys() {
                // In name order, as the map that they come from.
                if names.binary_search(other).is_err() {
                    faults.push(path.key("depends_on").refuse(format!(
                        "service '{name}' depends on undefined service {}",
                        shown(other)
                    )));
                }
            }
            if faults.len() >= FAULTS_MAX {
                return;
            }
        }
        if faults.is_empty()
            && let Some(name) = self.first_in_a_cycle()
        {
            let path = services.key(&name);
            let path = path.key("composition");
            faults.push(
                path.key("depends_on")
                    .refuse(format!("circular dependency detected for service '{name}'")),
            );
        }
        if faults.is_empty() {
            self.drop_optional(node, faults);
            self.settle_default_network();
        }
    }

    /// The default network is made for those that join it. A declaration alone makes it too
    /// (target-state 3.3), but not where every service has a `network_mode`: stored
    /// compositions may declare it then as well, and its range may be that of the host's
    /// LAN (FD-22). Other networks were named by somebody, and may be a bridge for the host.
    fn settle_default_network(&mut self) {
        let mut services = self.services.values();
        if services.clone().any(|draft| draft.joins_default) {
            self.networks.or_default(DEFAULT_NETWORK.into());
        } else if !self.services.is_empty() && services.all(|draft| draft.networks.is_empty()) {
            self.networks.remove(DEFAULT_NETWORK);
        }
    }

    /// A service that waits for itself, if there is one.
    fn first_in_a_cycle(&self) -> Option<ServiceName> {
        // Take away what waits for nothing that is left, until nothing changes.
        let mut waiting: Map<&ServiceName, usize> = Map::new();
        let mut dependents: Map<&ServiceName, Vec<&ServiceName>> = Map::new();
        for (name, draft) in &self.services {
            waiting.insert(name, draft.target.depends_on.len());
            for other in draft.target.depends_on.keys() {
                dependents.or_default(other).push(name);
            }
        }
        let mut free: Vec<&ServiceName> = Vec::new();
        free.extend(
            waiting
                .iter()
                .filter(|(_, n)| **n == 0)
                .map(|(name, _)| *name),
        );
        while let Some(name) = free.pop() {
            for dependent in dependents.get(name).into_iter().flatten() {
                if let Some(left) = waiting.get_mut(dependent) {
                    *left -= 1;
                    if *left == 0 {
                        free.push(dependent);
                    }
                }
            }
        }
        let mut left = waiting.into_iter().filter(|(_, left)| *left > 0);
        left.next().map(|(name, _)| name.clone())
    }

    /// Takes out optional services whose contract is unmet; nothing waits for them.
    fn drop_optional(&mut self, node: Node<'_, '_>, faults: &mut Vec<Refusal>) {
        let dropped: Vec<ServiceName> = self
            .services
            .iter()
            .filter(|(_, draft)| draft.dropped)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dropped {
            self.services.remove(&name);
            for (other, draft) in self.services.iter_mut() {
                draft.target.depends_on.remove(&name);
                if draft.shares.contains(&name) {
                    faults.push(node.refuse(format!(
                        "service '{other}' uses a namespace of service '{name}', which is left \
                         out because its contract is not met"
                    )));
                }
            }
        }
    }
}
