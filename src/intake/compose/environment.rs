//! Environment, labels and annotations (target-state 2.4, 2.9).

use std::collections::BTreeMap;

use super::{Node, Refusal, ServiceConfig, scalar};

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
pub(in crate::intake) fn pairs(node: Node<'_, '_>) -> Result<BTreeMap<String, String>, Refusal> {
    if node.is_object() {
        return node.map(|node| node.string());
    }
    if !node.is_list() {
        return Err(node.unexpected("an object or a list of strings"));
    }
    let mut pairs = BTreeMap::new();
    node.each_element(|node| {
        let text = node.str()?;
        let (key, value) = text.split_once('=').unwrap_or((&text, ""));
        pairs.insert(key.to_owned(), value.to_owned());
        Ok(())
    })?;
    Ok(pairs)
}

/// Variables of a composition: a map, or a list of `NAME=value`.
fn environment(node: Node<'_, '_>) -> Result<BTreeMap<String, Option<String>>, Refusal> {
    if node.is_object() {
        return variables(node);
    }
    if !node.is_list() {
        return Err(node.unexpected("an object or a list of strings"));
    }
    let mut variables = BTreeMap::new();
    node.each_element(|node| {
        let text = node.str()?;
        match text.split_once('=') {
            Some((name, value)) => variables.insert(name.to_owned(), Some(value.to_owned())),
            None => variables.insert(text.into_owned(), None),
        };
        Ok(())
    })?;
    Ok(variables)
}

/// Variables as a map.
pub(in crate::intake) fn variables(
    node: Node<'_, '_>,
) -> Result<BTreeMap<String, Option<String>>, Refusal> {
    node.map(|node| node.nullable(scalar))
}
