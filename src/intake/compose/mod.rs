//! A service's composition (target-state 2), one file a theme.
//!
//! Every theme has a `read` that takes the fields it knows and says whether it
//! knew this one. Adding a field is one line there, one in the model and one in
//! `engine::container`.

use super::Refusal;
use super::node::{Node, shown};
use crate::base::map::Map;
use crate::model::config::RestartPolicy;
use crate::model::target::Dependency;
use crate::model::{ServiceConfig, ServiceName};

mod depends_on;
pub(super) mod environment;
mod healthcheck;
mod mounts;
mod networks;
mod ports;
mod process;
mod refused;
mod resources;
mod security;
mod units;

pub(super) use depends_on::PLAIN;

/// Fields without an effect of their own that need no warning: the image is the
/// service's, `build` was done elsewhere, `storage_opt` as legacy (target-state 2.1).
const SILENT: &[&str] = &["build", "image", "running", "storage_opt"];

/// What a composition says.
pub(super) struct Composition {
    /// The configuration, without the service level's labels and environment.
    pub config: ServiceConfig,
    /// What the service waits for.
    pub depends_on: Map<ServiceName, Dependency>,
    /// Fields that have no effect.
    pub ignored: Vec<String>,
}

impl Default for Composition {
    fn default() -> Composition {
        Composition {
            config: ServiceConfig {
                restart_policy: RestartPolicy::Always,
                ..ServiceConfig::default()
            },
            depends_on: Map::new(),
            ignored: Vec::new(),
        }
    }
}

/// Reads a composition; what is wrong in one field does not hide what is wrong in the next.
pub(super) fn read(node: Node<'_, '_>, faults: &mut Vec<Refusal>) -> Composition {
    let mut composition = Composition::default();
    let all = node.each_member(|key, node| {
        if let Err(fault) = field(key, node, &mut composition) {
            faults.push(fault);
        }
        Ok(())
    });
    if let Err(fault) = all {
        faults.push(fault);
    }
    for target in mounts::drop_reserved(&mut composition.config) {
        composition
            .ignored
            .push(format!("the mount at {target}, where the agent's own is"));
    }
    let config = &composition.config;
    if let Some(path) = mounts::mounted_twice(config) {
        faults.push(node.refuse(format!(
            "volumes and tmpfs: two of them at {}",
            shown(&path)
        )));
    }
    for (field, reason) in refused::faults(config) {
        faults.push(node.path.key(field).refuse(reason));
    }
    if config.network_mode.is_some() && !config.networks.is_empty() {
        faults
            .push(node.refuse("the service declares mutually exclusive network_mode and networks"));
    }
    composition
}

fn field(key: &str, node: Node<'_, '_>, into: &mut Composition) -> Result<(), Refusal> {
    if key == "depends_on" {
        into.depends_on = depends_on::read(node)?;
        return Ok(());
    }
    let config = &mut into.config;
    let known = process::read(key, node, config)?
        || environment::read(key, node, config)?
        || mounts::read(key, node, config)?
        || networks::read(key, node, config)?
        || ports::read(key, node, config)?
        || resources::read(key, node, config)?
        || security::read(key, node, config)?
        || healthcheck::read(key, node, config)?;
    if !known && !SILENT.contains(&key) && !key.starts_with("x-") {
        into.ignored.push(key.to_owned());
    }
    Ok(())
}

/// A string that the kernel may get to see, which ends one at the first zero byte.
fn text(node: Node<'_, '_>) -> Result<String, Refusal> {
    let text = node.string()?;
    if text.contains('\0') {
        return Err(node.refuse("there is a zero byte in it"));
    }
    Ok(text)
}

/// A string, or nothing for null.
fn opt_string(node: Node<'_, '_>) -> Result<Option<String>, Refusal> {
    node.nullable(text)
}

/// An integer, or nothing for null.
fn opt_int(node: Node<'_, '_>) -> Result<Option<i64>, Refusal> {
    node.nullable(|node| node.int())
}

/// A list of strings; null is an empty one.
fn strings(node: Node<'_, '_>) -> Result<Vec<String>, Refusal> {
    let list = node.nullable(|node| node.list(text))?;
    Ok(list.unwrap_or_default())
}

/// A string or a list of strings; null is an empty list.
fn one_or_many(node: Node<'_, '_>) -> Result<Vec<String>, Refusal> {
    if node.is_string() {
        return Ok(vec![text(node)?]);
    }
    if node.is_null() || node.is_list() {
        return strings(node);
    }
    Err(node.unexpected("a string or a list of strings"))
}

/// A number without exponent and without zeros that say nothing; its digits stay as they are.
fn plain(number: &str) -> String {
    let (sign, number) = match number.strip_prefix('-') {
        Some(number) => ("-", number),
        None => ("", number),
    };
    let (number, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    // A float's exponent has three digits, and so has one that the digits make up for.
    let exponent: isize = exponent.parse().unwrap_or(0);
    let point = exponent.saturating_add(isize::try_from(whole.len()).unwrap_or(0));
    let missing = |count: isize| "0".repeat(usize::try_from(count).unwrap_or(0));
    let digits = format!("{}{digits}", missing(1 - point));
    let count = isize::try_from(digits.len()).unwrap_or(isize::MAX);
    let digits = format!("{digits}{}", missing(point.saturating_sub(count)));
    let (whole, fraction) = digits.split_at(usize::try_from(point.max(1)).unwrap_or(0));
    let fraction = fraction.trim_end_matches('0');
    let whole = match whole.trim_start_matches('0') {
        "" => "0",
        whole => whole,
    };
    match fraction {
        "" => format!("{sign}{whole}"),
        fraction => format!("{sign}{whole}.{fraction}"),
    }
}

/// A string, number or boolean as text: strings verbatim (D-10), numbers in plain decimal.
fn scalar(node: Node<'_, '_>) -> Result<String, Refusal> {
    if node.is_string() {
        return node.string();
    }
    if let Ok(flag) = node.bool() {
        return Ok(flag.to_string());
    }
    if node.is_integer() {
        let digits = node.number()?;
        return Ok(if digits == "-0" { "0" } else { digits }.to_owned());
    }
    if node.is_number() {
        // What no float can be is refused, however it is written.
        return match node.float()? {
            0.0 => Ok("0".to_owned()),
            _ => Ok(plain(node.number()?)),
        };
    }
    Err(node.unexpected("a string, number or boolean"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a document says in numbers, services get in plain decimal (target-state 2.9).
    #[test]
    fn numbers_are_plain() {
        let cases = [
            ("1.50", "1.5"),
            ("1e3", "1000"),
            ("1.0", "1"),
            ("-1.25E-2", "-0.0125"),
            ("12.5e+1", "125"),
            ("0.001e2", "0.1"),
            ("1e21", "1000000000000000000000"),
            ("0.30000000000000004", "0.30000000000000004"),
        ];
        for (number, want) in cases {
            assert_eq!(plain(number), want, "{number}");
        }
        let mut random = fastrand::Rng::with_seed(3);
        for _ in 0..10_000 {
            let most = 10_u64.pow(random.u32(1..15));
            let digits = random.u64(1..most);
            let written = format!("{digits}e{}", random.i32(-30..30));
            let float: f64 = written.parse().unwrap();
            assert_eq!(plain(&written), float.to_string(), "{written}");
            assert_eq!(plain(&float.to_string()), float.to_string());
        }
    }
}
