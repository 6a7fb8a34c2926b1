//! One release: names, cross-checks, the default network (target-state 1.3, 3.3).

use std::collections::BTreeMap;

use super::compose::PLAIN;
use super::contract::Facts;
use super::node::{Node, shown};
use super::service::{self, Draft};
use super::{Refusal, network};
use crate::model::config::Endpoint;
use crate::model::target::ReleaseTarget;
use crate::model::{NetworkConfig, NetworkName, ServiceName, VolumeConfig, VolumeName};

/// Services of one release. A device runs some dozens at most.
const SERVICES_MAX: usize = 1000;
/// Bytes of all configurations of one release; short forms can stand for a lot.
const CONFIGS_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The network of services that name none.
const DEFAULT_NETWORK: &str = "default";

/// A release as read.
#[derive(Default)]
pub(super) struct Release {
    pub services: BTreeMap<ServiceName, Draft>,
    pub networks: BTreeMap<NetworkName, NetworkConfig>,
    pub volumes: BTreeMap<VolumeName, VolumeConfig>,
}

impl Release {
    /// What the model keeps of it.
    pub(super) fn into_target(self, node: Node<'_, '_>) -> Result<ReleaseTarget, Refusal> {
        let mut services = BTreeMap::new();
        let mut bytes = 0;
        for (name, draft) in self.services {
            let target = draft.into_target();
            bytes += target.config.len();
            if bytes > CONFIGS_BYTES_MAX {
                return Err(node.refuse(format!(
                    "the configurations of its services have more than {CONFIGS_BYTES_MAX} bytes"
                )));
            }
            services.insert(name, target);
        }
        Ok(ReleaseTarget {
            services,
            networks: self.networks,
            volumes: self.volumes,
        })
    }
}

/// Reads a release with all its rules. Failures are in `faults`.
pub(super) fn read(
    node: Node<'_, '_>,
    facts: &Facts,
    faults: &mut Vec<Refusal>,
    warnings: &mut Vec<String>,
) -> Release {
    let mut release = Release::default();
    let members = match node.members() {
        Ok(members) => members,
        Err(fault) => {
            faults.push(fault);
            return release;
        }
    };
    // Rather than fault by fault through a release that has nothing right.
    const FAULTS_MAX: usize = 100;
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
                let draft = service::read(node, facts, faults, warnings);
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
        for name in &names {
            let path = services.key(name);
            let path = path.key("composition");
            let Some(draft) = self.services.get_mut(name) else {
                continue;
            };
            let config = &draft.config;
            let unknown = |field: &str, kind: &str, other: &str| {
                path.key(field).refuse(format!(
                    "service '{name}' refers to undefined {kind} {}",
                    shown(other)
                ))
            };
            for network in config.used_networks() {
                if !self.networks.contains_key(network) {
                    faults.push(unknown("networks", "network", network));
                }
            }
            for volume in config.used_volumes() {
                if !self.volumes.contains_key(volume) {
                    faults.push(unknown("volumes", "volume", volume));
                }
            }
            for other in config.shared_services() {
                let other = ServiceName::new(other);
                draft.depends_on.entry(other).or_insert(PLAIN);
            }
            for other in draft.depends_on.keys() {
                if !names.contains(other) {
                    faults.push(path.key("depends_on").refuse(format!(
                        "service '{name}' depends on undefined service {}",
                        shown(other)
                    )));
                }
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
            self.drop_optional();
            self.join_default_network();
        }
    }

    /// A service that waits for itself, if there is one.
    fn first_in_a_cycle(&self) -> Option<ServiceName> {
        // Take away what waits for nothing that is left, until nothing changes.
        let mut waiting: BTreeMap<&ServiceName, usize> = BTreeMap::new();
        let mut dependents: BTreeMap<&ServiceName, Vec<&ServiceName>> = BTreeMap::new();
        for (name, draft) in &self.services {
            waiting.insert(name, draft.depends_on.len());
            for other in draft.depends_on.keys() {
                dependents.entry(other).or_default().push(name);
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
            waiting.remove(name);
            for dependent in dependents.get(name).into_iter().flatten() {
                if let Some(left) = waiting.get_mut(dependent) {
                    *left -= 1;
                    if *left == 0 {
                        free.push(dependent);
                    }
                }
            }
        }
        waiting.into_keys().next().cloned()
    }

    /// Takes out optional services whose contract is unmet; nothing waits for them.
    fn drop_optional(&mut self) {
        let dropped: Vec<ServiceName> = self
            .services
            .iter()
            .filter(|(_, draft)| draft.dropped)
            .map(|(name, _)| name.clone())
            .collect();
        for name in dropped {
            self.services.remove(&name);
            for draft in self.services.values_mut() {
                draft.depends_on.remove(&name);
            }
        }
    }

    /// Services that name no network get the default one, which is declared if need be.
    fn join_default_network(&mut self) {
        for draft in self.services.values_mut() {
            let config = &mut draft.config;
            if config.network_mode.is_none() && config.networks.is_empty() {
                let name = NetworkName::new(DEFAULT_NETWORK);
                self.networks.entry(name.clone()).or_default();
                config.networks.0.push((name, Endpoint::default()));
            }
        }
    }
}
