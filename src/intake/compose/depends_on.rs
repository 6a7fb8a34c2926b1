//! What a service waits for (target-state 2.10).

use super::{Node, Refusal, ServiceName};
use crate::base::map::Map;
use crate::intake::node::shown;
use crate::model::target::{Condition, Dependency};

/// What a name alone means.
pub(in crate::intake) const PLAIN: Dependency = Dependency {
    condition: Condition::Started,
    restart: false,
    required: true,
};

pub(super) fn read(node: Node<'_, '_>) -> Result<Map<ServiceName, Dependency>, Refusal> {
    let mut dependencies = Vec::new();
    if node.is_list() {
        node.each_element(|node| {
            dependencies.push((ServiceName::new(&node.str()?), PLAIN));
            Ok(())
        })?;
    } else if node.is_object() {
        node.each_member(|name, node| {
            dependencies.push((ServiceName::new(name), dependency(node)?));
            Ok(())
        })?;
    } else {
        return Err(node.unexpected("a list of names or an object"));
    }
    Ok(dependencies.into())
}

fn dependency(node: Node<'_, '_>) -> Result<Dependency, Refusal> {
    let members = node.members()?;
    let condition = node.member(&members, "condition", condition)?;
    let restart = node.member(&members, "restart", |node| node.bool())?;
    let required = node.member(&members, "required", |node| node.bool())?;
    Ok(Dependency {
        condition: condition.unwrap_or(PLAIN.condition),
        restart: restart.unwrap_or(PLAIN.restart),
        required: required.unwrap_or(PLAIN.required),
    })
}

fn condition(node: Node<'_, '_>) -> Result<Condition, Refusal> {
    let word = node.str()?;
    match &*word {
        "service_started" => Ok(Condition::Started),
        "service_healthy" => Ok(Condition::Healthy),
        "service_completed_successfully" => Ok(Condition::Completed),
        other => Err(node.refuse(format!("`{}` is no condition", shown(other)))),
    }
}
