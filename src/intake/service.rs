//! One service of a release: composition and service level together (target-state 1.2, 2.5).

use std::net::IpAddr;
use std::time::Duration;

use super::compose::{self, environment::variables};
use super::contract;
use super::node::{Members, Node, shown};
use super::{Reading, Refusal};
use crate::base::map::{Map, Set};
use crate::limits;
use crate::model::config::environment::is_on;
use crate::model::config::{Attachments, Endpoint};
use crate::model::target::{ServiceTarget, Strategy, Uses};
use crate::model::{ImageUri, NetworkName, ServiceConfig, ServiceName, VolumeName};

/// Label of the composition that says what kind of image it is (target-state 4.4).
const IMAGE_CLASS: &str = "io.balena.image.class";
/// Label of the service level: an unmet contract only drops this service.
const OPTIONAL: &str = "io.balena.features.optional";
/// Its old spelling.
const OPTIONAL_OLD: &str = "io.resin.features.optional";

/// Label: the image that installs the OS.
pub(super) const UPDATER: &str = "io.balena.private.updater";
/// Label: the board revision that the installed OS reports.
pub(super) const BOARD_REV: &str = "io.balena.private.hostapp.board-rev";
/// The network of services that name none (target-state 3.3).
pub(super) const DEFAULT_NETWORK: &str = "default";

/// A service as read, before the release's cross-checks, and what these need of its
/// configuration, which is text by then: a target has many, and one is taken apart at a time.
pub(super) struct Draft {
    pub target: ServiceTarget,
    pub networks: Vec<NetworkName>,
    pub volumes: Set<VolumeName>,
    /// Addresses it wants for itself.
    pub addresses: Vec<(NetworkName, IpAddr)>,
    /// Services that lend it a namespace.
    pub shares: Vec<ServiceName>,
    /// It names no network, and was given the default one.
    pub joins_default: bool,
    /// What the labels say of the OS, if the composition says that it is one (target-state 1.5).
    pub hostapp: Option<HostApp>,
    /// Whether the service is to be left out of the target (target-state 4.5).
    pub dropped: bool,
}

/// Labels of a host app's service.
pub(super) struct HostApp {
    pub updater: Option<String>,
    pub board_rev: Option<String>,
}

impl Draft {
    fn new(mut config: ServiceConfig, is_hostapp: bool, target: ServiceTarget) -> Draft {
        let label = |name: &str| config.labels.get(name).cloned();
        let hostapp = is_hostapp.then(|| HostApp {
            updater: label(UPDATER),
            board_rev: label(BOARD_REV),
        });
        let networks = config.used_networks().cloned().collect();
        let joins_default = config.network_mode.is_none() && config.networks.is_empty();
        if joins_default {
            let default = (NetworkName::new(DEFAULT_NETWORK), Endpoint::default());
            config.networks = Attachments(vec![default]);
        }
        Draft {
            networks,
            volumes: config.used_volumes().cloned().collect(),
            addresses: addresses(&config),
            shares: config.shared_services().map(ServiceName::new).collect(),
            joins_default,
            hostapp,
            dropped: false,
            target: target.with_config(&config),
        }
    }
}

/// Static addresses of endpoints; that they are addresses is checked already.
fn addresses(config: &ServiceConfig) -> Vec<(NetworkName, IpAddr)> {
    let all = config.networks.0.iter().flat_map(|(network, endpoint)| {
        let given = [&endpoint.ipv4_address, &endpoint.ipv6_address];
        let parsed = given
            .into_iter()
            .flatten()
            .filter_map(|text| text.parse().ok());
        parsed.map(|address| (network.clone(), address))
    });
    all.collect()
}

/// Reads one service. `None` if something is wrong with it, which is then in `faults`.
pub(super) fn read(
    node: Node<'_, '_>,
    reading: &mut Reading<'_>,
    faults: &mut Vec<Refusal>,
) -> Option<Draft> {
    let before = faults.len();
    let members = match node.members() {
        Ok(members) => members,
        Err(fault) => {
            faults.push(fault);
            return None;
        }
    };
    let id = required(node, &members, "id", faults, id);
    let image = required(node, &members, "image", faults, image);
    let running = optional(node, &members, "running", faults, |node| {
        node.nullable(|node| node.bool())
    });
    let labels = optional(node, &members, "labels", faults, |node| {
        node.map(|node| node.string())
    });
    let environment = optional(node, &members, "environment", faults, variables);
    let path = node.path.key("composition");
    let composition = match members.get("composition") {
        Some(raw) => compose::read(Node::new(raw, &path), faults),
        None => compose::Composition::default(),
    };
    let labels = labels.unwrap_or_default();
    let is_optional = [OPTIONAL, OPTIONAL_OLD]
        .iter()
        .find_map(|name| labels.get(*name))
        .is_some_and(|value| is_on(value));
    let unmet = optional(node, &members, "contract", faults, |node| {
        contract::unmet(node, reading.facts, &mut reading.warnings)
    });
    let unmet = unmet.flatten();
    if let Some(fault) = &unmet
        && !is_optional
    {
        faults.push(fault.clone());
    }
    reading
        .warnings
        .extend(without_effect(&path.to_string(), &composition.ignored));
    if faults.len() > before {
        return None;
    }
    let class = composition.config.labels.get(IMAGE_CLASS);
    let is_hostapp = class.is_some_and(|class| class == "hostapp");
    let mut config = composition.config;
    config.labels.extend(labels);
    config.environment.extend(environment.unwrap_or_default());
    let target = ServiceTarget {
        id: id?,
        image: image?,
        config: "".into(),
        uses: Uses::default(),
        depends_on: composition.depends_on,
        running: running.flatten().unwrap_or(true),
        strategy: strategy(&config.labels),
    };
    let mut draft = Draft::new(config, is_hostapp, target);
    draft.dropped = unmet.is_some();
    if let Err(fault) = reading.keep(draft.target.config.len(), node) {
        faults.push(fault);
        return None;
    }
    Some(draft)
}

/// The update strategy that the labels ask for; what means nothing is the default
/// (target-state 4.3).
fn strategy(labels: &Map<String, String>) -> Strategy {
    let label = |name: &str| {
        let prefixes = ["io.balena.update.", "io.resin.update."].iter();
        prefixes
            .filter_map(|prefix| labels.get(&format!("{prefix}{name}")))
            .next()
            .map(String::as_str)
    };
    match label("strategy") {
        Some("kill-then-download") => Strategy::KillThenDownload,
        Some("delete-then-download") => Strategy::DeleteThenDownload,
        Some("hand-over") => {
            let millis = label("handover-timeout").and_then(|text| text.parse().ok());
            let given = millis.filter(|millis| *millis > 0);
            Strategy::HandOver(given.map_or(limits::HAND_OVER_DEFAULT, Duration::from_millis))
        }
        _ => Strategy::DownloadThenKill,
    }
}

/// One line for all fields of a composition that this agent does not know.
fn without_effect(path: &str, ignored: &[String]) -> Option<String> {
    let fields: Vec<_> = ignored.iter().map(|field| shown(field)).collect();
    (!fields.is_empty()).then(|| format!("{path}: without effect here: {}", fields.join(", ")))
}

/// What `read` makes of a member that must be there; a failure is kept.
pub(super) fn required<'d, T>(
    node: Node<'d, '_>,
    members: &Members<'d>,
    key: &str,
    faults: &mut Vec<Refusal>,
    read: impl FnOnce(Node<'d, '_>) -> Result<T, Refusal>,
) -> Option<T> {
    if !members.contains_key(key) {
        faults.push(node.refuse(format!("missing field `{key}`")));
        return None;
    }
    optional(node, members, key, faults, read)
}

/// What `read` makes of a member, if it is there; a failure is kept.
pub(super) fn optional<'d, T>(
    node: Node<'d, '_>,
    members: &Members<'d>,
    key: &str,
    faults: &mut Vec<Refusal>,
    read: impl FnOnce(Node<'d, '_>) -> Result<T, Refusal>,
) -> Option<T> {
    node.member(members, key, read).unwrap_or_else(|fault| {
        faults.push(fault);
        None
    })
}

/// A number of the backend's.
pub(super) fn id(node: Node<'_, '_>) -> Result<u32, Refusal> {
    if node.is_string() {
        // Digits in quotes are a usual mistake, and no secret.
        let text = node.str()?;
        return Err(node.refuse(format!(
            "expected an integer, got the string \"{}\"",
            shown(&text)
        )));
    }
    node.int_as()
}

fn image(node: Node<'_, '_>) -> Result<ImageUri, Refusal> {
    let text = node.str()?;
    ImageUri::parse(&text).map_err(|reason| node.refuse(reason.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ts_4_3_strategies_from_labels() {
        let secs = |secs| Strategy::HandOver(Duration::from_secs(secs));
        #[rustfmt::skip]
        let cases: [(&[(&str, &str)], Strategy); 8] = [
            (&[], Strategy::DownloadThenKill),
            (&[("io.balena.update.strategy", "download-then-kill")], Strategy::DownloadThenKill),
            (&[("io.balena.update.strategy", "Kill-Then-Download")], Strategy::DownloadThenKill),
            (&[("io.resin.update.strategy", "kill-then-download")], Strategy::KillThenDownload),
            (&[("io.balena.update.strategy", "delete-then-download"), ("io.resin.update.strategy", "hand-over")],
                Strategy::DeleteThenDownload),
            (&[("io.balena.update.strategy", "hand-over")], secs(60)),
            (&[("io.balena.update.strategy", "hand-over"), ("io.balena.update.handover-timeout", "-1")], secs(60)),
            (&[("io.balena.update.strategy", "hand-over"), ("io.resin.update.handover-timeout", "5000")], secs(5)),
        ];
        for (labels, want) in cases {
            let labels = labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            let labels: Map<_, _> = labels.collect();
            assert_eq!(strategy(&labels), want, "{labels:?}");
        }
    }
}
