//! One service of a release: composition and service level together (target-state 1.2, 2.5).

use std::collections::BTreeMap;

use super::Refusal;
use super::compose::{self, environment::variables};
use super::contract::{self, Facts};
use super::node::{Members, Node, shown};
use crate::model::config::environment::is_on;
use crate::model::target::{Dependency, ServiceTarget};
use crate::model::{ImageUri, ServiceConfig, ServiceName};

/// Label of the composition that says what kind of image it is (target-state 4.4).
const IMAGE_CLASS: &str = "io.balena.image.class";
/// Label of the service level: an unmet contract only drops this service.
const OPTIONAL: &str = "io.balena.features.optional";
/// Its old spelling.
const OPTIONAL_OLD: &str = "io.resin.features.optional";

/// A service as read, before the release's cross-checks.
pub(super) struct Draft {
    pub id: u32,
    pub image: ImageUri,
    pub config: ServiceConfig,
    pub depends_on: BTreeMap<ServiceName, Dependency>,
    pub running: bool,
    /// Whether the composition says that this is the OS image (target-state 1.5).
    pub is_hostapp: bool,
    /// Whether the service is to be left out of the target (target-state 4.5).
    pub dropped: bool,
}

impl Draft {
    /// What the model keeps of it.
    pub(super) fn into_target(self) -> ServiceTarget {
        ServiceTarget {
            id: self.id,
            image: self.image,
            config: self.config.to_json().into(),
            depends_on: self.depends_on,
            running: self.running,
        }
    }
}

/// Reads one service. `None` if something is wrong with it, which is then in `faults`.
pub(super) fn read(
    node: Node<'_, '_>,
    facts: &Facts,
    faults: &mut Vec<Refusal>,
    warnings: &mut Vec<String>,
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
        contract::unmet(node, facts, warnings)
    });
    let unmet = unmet.flatten();
    if let Some(fault) = &unmet
        && !is_optional
    {
        faults.push(fault.clone());
    }
    warnings.extend(without_effect(&path.to_string(), &composition.ignored));
    if faults.len() > before {
        return None;
    }
    let is_hostapp = composition
        .config
        .labels
        .get(IMAGE_CLASS)
        .map(String::as_str)
        == Some("hostapp");
    let mut config = composition.config;
    config.labels.extend(labels);
    config.environment.extend(environment.unwrap_or_default());
    Some(Draft {
        id: id?,
        image: image?,
        config,
        depends_on: composition.depends_on,
        running: running.flatten().unwrap_or(true),
        is_hostapp,
        dropped: unmet.is_some(),
    })
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
