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
    let mut check = Healthcheck::default();
    let mut disabled = false;
    node.each_member(|key, node| {
        match key {
            "test" => check.test = test(node)?,
            "disable" => disabled = node.bool()?,
            "interval" => check.interval = period(node)?,
            "timeout" => check.timeout = period(node)?,
            "start_period" => check.start_period = period(node)?,
            "start_interval" => check.start_interval = period(node)?,
            "retries" => {
                check.retries = opt_int(node)?;
                if check.retries.is_some_and(|retries| retries < 0) {
                    return Err(node.refuse("the number of retries is negative"));
                }
            }
            _ => {}
        }
        Ok(())
    })?;
    if disabled {
        check.test = Some(vec!["NONE".to_owned()]);
    }
    Ok(check)
}

/// A time in nanoseconds. Engines take none below a millisecond, but 0 for "as in the image".
fn period(node: Node<'_, '_>) -> Result<Option<i64>, Refusal> {
    let period = node.nullable(|node| duration(node, 1))?;
    if period.is_some_and(|ns| ns != 0 && ns < 1_000_000) {
        return Err(node.refuse("shorter than a millisecond; bare numbers are nanoseconds"));
    }
    Ok(period)
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
