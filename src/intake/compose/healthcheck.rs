//! The health check (target-state 2.13).

use super::process::duration;
use super::{Node, Refusal, ServiceConfig, opt_int};
use crate::model::config::Healthcheck;

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    if key != "healthcheck" {
        return Ok(false);
    }
    // One without any setting leaves everything to the image.
    into.healthcheck = node
        .nullable(healthcheck)?
        .filter(|check| *check != Healthcheck::default());
    Ok(true)
}

fn healthcheck(node: Node<'_, '_>) -> Result<Healthcheck, Refusal> {
    let nanoseconds = |node: Node<'_, '_>| node.nullable(|node| duration(node, 1));
    let mut check = Healthcheck::default();
    let mut disabled = false;
    node.each_member(|key, node| {
        match key {
            "test" => check.test = test(node)?,
            "disable" => disabled = node.bool()?,
            "interval" => check.interval = nanoseconds(node)?,
            "timeout" => check.timeout = nanoseconds(node)?,
            "start_period" => check.start_period = nanoseconds(node)?,
            "start_interval" => check.start_interval = nanoseconds(node)?,
            "retries" => check.retries = opt_int(node)?,
            _ => {}
        }
        Ok(())
    })?;
    if disabled {
        check.test = Some(vec!["NONE".to_owned()]);
    }
    Ok(check)
}

/// A string is for the shell, a list is as it is, an empty one is not set.
fn test(node: Node<'_, '_>) -> Result<Option<Vec<String>>, Refusal> {
    if node.is_string() {
        return Ok(Some(vec!["CMD-SHELL".to_owned(), node.string()?]));
    }
    if node.is_null() {
        return Ok(None);
    }
    if !node.is_list() {
        return Err(node.unexpected("a string or a list of strings"));
    }
    let list = node.list(|node| node.string())?;
    Ok(Some(list).filter(|list| !list.is_empty()))
}
