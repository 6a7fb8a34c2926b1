//! Environment, labels and annotations (target-state 2.4, 2.9).

use super::{Node, Refusal, ServiceConfig, scalar};
use crate::base::map::Map;

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "annotations" => into.annotations = pairs(node)?,
        "environment" => into.environment = environment(node)?,
        "labels" => into.labels = pairs(node)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A map of strings, or a list of `key=value`.
pub(in crate::intake) fn pairs(node: Node<'_, '_>) -> Result<Map<String, String>, Refusal> {
    if node.is_object() {
        return node.map(|node| node.string());
    }
    if !node.is_list() {
        return Err(node.unexpected("an object or a list of strings"));
    }
    let mut pairs = Vec::new();
    node.each_element(|node| {
        let text = node.str()?;
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        pairs.push((key.to_owned(), value.to_owned()));
        Ok(())
    })?;
    Ok(pairs.into())
}

/// Variables of a composition: a map, or a list of `NAME=value`.
fn environment(node: Node<'_, '_>) -> Result<Map<String, Option<String>>, Refusal> {
    if node.is_object() {
        return variables(node);
    }
    if !node.is_list() {
        return Err(node.unexpected("an object or a list of strings"));
    }
    let mut variables = Vec::new();
    node.each_element(|node| {
        let text = node.str()?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (&*text, None),
        };
        check_variable(name, value.as_deref(), node)?;
        variables.push((name.to_owned(), value));
        Ok(())
    })?;
    Ok(variables.into())
}

/// What no engine takes. Names are otherwise free (D-15).
fn check_variable(name: &str, value: Option<&str>, node: Node<'_, '_>) -> Result<(), Refusal> {
    if name.is_empty() {
        return Err(node.refuse("a variable has no name"));
    }
    if name.contains(['=', '\0']) {
        return Err(node.refuse("the name of a variable has `=` or a zero byte in it"));
    }
    if value.is_some_and(|value| value.contains('\0')) {
        return Err(node.refuse("the value of a variable has a zero byte in it"));
    }
    Ok(())
}

/// Variables as a map.
pub(in crate::intake) fn variables(
    node: Node<'_, '_>,
) -> Result<Map<String, Option<String>>, Refusal> {
    let mut variables = Map::new();
    node.each_member(|name, node| {
        let value = node.nullable(scalar)?;
        check_variable(name, value.as_deref(), node)?;
        variables.insert(name.to_owned(), value);
        Ok(())
    })?;
    Ok(variables)
}
