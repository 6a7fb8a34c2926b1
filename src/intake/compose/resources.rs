//! Limits and devices (target-state 2.6, 2.11, 2.21).

use super::process::duration;
use super::units;
use super::{Node, Refusal, ServiceConfig, opt_int, opt_string, strings};
use crate::base::map::Map;
use crate::intake::node::shown;
use crate::model::config::{Device, Ulimit};

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "cgroup_parent" => into.cgroup_parent = opt_string(node)?,
        // As legacy: anything else has no effect.
        "cpu_quota" => match cpu_quota(node) {
            Some(quota) => into.cpu_quota = quota,
            None => return Ok(node.is_null()),
        },
        "cpu_rt_period" => into.cpu_rt_period = microseconds(node)?,
        "cpu_rt_runtime" => into.cpu_rt_runtime = microseconds(node)?,
        "cpu_shares" => into.cpu_shares = opt_int(node)?.unwrap_or_default(),
        "cpus" => into.nano_cpus = node.nullable(nano_cpus)?.unwrap_or_default(),
        "cpuset" => into.cpuset = opt_string(node)?,
        "device_cgroup_rules" => into.device_cgroup_rules = strings(node)?,
        "devices" => into.devices = node.nullable(devices)?.unwrap_or_default(),
        "mem_limit" => into.mem_limit = node.nullable(bytes)?.unwrap_or_default(),
        "mem_reservation" => into.mem_reservation = node.nullable(bytes)?.unwrap_or_default(),
        "oom_kill_disable" => into.oom_kill_disable = truthy(node),
        "oom_score_adj" => into.oom_score_adj = opt_int(node)?,
        "pids_limit" => into.pids_limit = opt_int(node)?,
        "shm_size" => into.shm_size = node.nullable(bytes)?,
        "ulimits" => {
            into.ulimits = node.nullable(ulimits)?.unwrap_or_default();
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn cpu_quota(node: Node<'_, '_>) -> Option<i64> {
    if node.is_string() {
        let text = node.str().ok()?;
        let digits = text.strip_prefix('-').unwrap_or(&text);
        let good = digits.bytes().all(|byte| byte.is_ascii_digit());
        return good.then(|| text.parse().ok()).flatten();
    }
    node.int().ok()
}

/// As a script would take it: all but false, 0, the empty string and null.
fn truthy(node: Node<'_, '_>) -> bool {
    if node.is_string() {
        return node.str().is_ok_and(|text| !text.is_empty());
    }
    if let Ok(number) = node.float() {
        return number != 0.0;
    }
    node.bool().unwrap_or_else(|_| !node.is_null())
}

fn microseconds(node: Node<'_, '_>) -> Result<i64, Refusal> {
    let period = node.nullable(|node| duration(node, 1_000))?;
    Ok(period.unwrap_or_default() / 1_000)
}

/// CPUs in billionths.
fn nano_cpus(node: Node<'_, '_>) -> Result<i64, Refusal> {
    /// 2^63, which is exact.
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    let number = node.float()?;
    if number < 0.0 {
        return Err(node.refuse("the number of CPUs is negative"));
    }
    let nano = (number * 1e9).round();
    if !(0.0..LIMIT).contains(&nano) {
        return Err(node.refuse("the number of CPUs is too large"));
    }
    #[allow(clippy::cast_possible_truncation)] // a whole number in range
    Ok(nano as i64)
}

fn bytes(node: Node<'_, '_>) -> Result<i64, Refusal> {
    if node.is_string() {
        let text = node.str()?;
        return units::bytes(&text)
            .ok_or_else(|| node.refuse(format!("`{}` is no size in bytes", shown(&text))));
    }
    if node.is_number() {
        return node.int();
    }
    Err(node.unexpected("a size in bytes"))
}

fn devices(node: Node<'_, '_>) -> Result<Vec<Device>, Refusal> {
    let mut devices = node.list(|node| {
        let text = node.str()?;
        device(&text).map_err(|reason| node.refuse(format!("`{}`: {reason}", shown(&text))))
    })?;
    devices.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(devices)
}

/// `HOST:CONTAINER[:PERMISSIONS]`.
fn device(text: &str) -> Result<Device, &'static str> {
    if !text.starts_with('/') {
        return Err("a device is a path on the host; CDI names are not supported");
    }
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, permissions) = match parts[..] {
        [source, target] => (source, target, "rwm"),
        [source, target, permissions] => (source, target, permissions),
        _ => return Err("a device is HOST:CONTAINER[:PERMISSIONS]"),
    };
    if !target.starts_with('/') {
        return Err("the path in the container must start with /");
    }
    let once = |c: char| permissions.matches(c).count() <= 1;
    let known = permissions.chars().all(|c| matches!(c, 'r' | 'w' | 'm'));
    if permissions.is_empty() || !known || !['r', 'w', 'm'].into_iter().all(once) {
        return Err("permissions are some of r, w and m, each once");
    }
    Ok(Device {
        source: source.to_owned(),
        target: target.to_owned(),
        permissions: permissions.to_owned(),
    })
}

/// What Linux can limit for a process (getrlimit(2)).
#[rustfmt::skip]
const ULIMITS: &[&str] = &[
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss", "rtprio",
    "rttime", "sigpending", "stack",
];

/// What the kernel refuses here keeps a container from starting.
fn ulimits(node: Node<'_, '_>) -> Result<Map<String, Ulimit>, Refusal> {
    let mut limits = Map::new();
    node.each_member(|name, node| {
        if !ULIMITS.contains(&name) {
            return Err(node.refuse(format!("`{}` is no limit of Linux", shown(name))));
        }
        let limit = ulimit(node)?;
        // Any negative number is "unlimited".
        if limit.hard >= 0 && (limit.soft > limit.hard || limit.soft < 0) {
            return Err(node.refuse("the soft limit is above the hard one"));
        }
        limits.insert(name.to_owned(), limit);
        Ok(())
    })?;
    Ok(limits)
}

fn ulimit(node: Node<'_, '_>) -> Result<Ulimit, Refusal> {
    if node.is_number() {
        let limit = node.int()?;
        return Ok(Ulimit {
            soft: limit,
            hard: limit,
        });
    }
    if !node.is_object() {
        return Err(node.unexpected("an integer or an object"));
    }
    let members = node.members()?;
    let limit = |key: &str| {
        node.member(&members, key, |node| node.int())?
            .ok_or_else(|| node.refuse(format!("missing field `{key}`")))
    };
    Ok(Ulimit {
        soft: limit("soft")?,
        hard: limit("hard")?,
    })
}
