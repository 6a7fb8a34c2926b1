//! What keeps containers apart (target-state 2.1, 2.18, 2.19).

use super::{Node, Refusal, ServiceConfig, opt_string, scalar};
use crate::base::map::Map;
use crate::intake::node::shown;
use crate::model::config::Cgroup;

/// Security options that a composition may ask for.
const SECURITY_OPTIONS: &[&str] = &[
    "no-new-privileges",
    "no-new-privileges=true",
    "apparmor=unconfined",
    "seccomp=unconfined",
];

/// What every container has unless told otherwise. Not every engine knows the word.
const PRIVATE: &str = "private";

/// Kernel parameters that belong to a namespace, and so to one container.
const SYSCTL_PREFIXES: &[&str] = &["net.", "fs.mqueue.", "kernel.shm", "kernel.msg"];

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "cap_add" => into.cap_add = capabilities(node)?,
        "cap_drop" => into.cap_drop = capabilities(node)?,
        "cgroup" => into.cgroup = node.nullable(cgroup)?.unwrap_or_default(),
        "group_add" => into.group_add = node.nullable(groups)?.unwrap_or_default(),
        "ipc" => into.ipc = node.nullable(namespace)?,
        "pid" => into.pid = node.nullable(namespace)?.filter(|mode| mode != PRIVATE),
        "privileged" => into.privileged = node.bool()?,
        "read_only" => into.read_only = node.bool()?,
        "security_opt" => {
            let options = node.nullable(|node| node.list(security_option))?;
            into.security_opt = options.unwrap_or_default();
        }
        "sysctls" => into.sysctls = node.nullable(sysctls)?.unwrap_or_default(),
        "userns_mode" => into.userns_mode = opt_string(node)?,
        "uts" => into.uts = opt_string(node)?.filter(|mode| mode != PRIVATE),
        _ => return Ok(false),
    }
    Ok(true)
}

/// Names of capabilities as they may look; which there are is for the engine to say.
fn capabilities(node: Node<'_, '_>) -> Result<Vec<String>, Refusal> {
    let list = node.nullable(|node| {
        node.list(|node| {
            let name = node.string()?;
            let good = name
                .bytes()
                .all(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            if name.is_empty() || !good {
                return Err(node.refuse(format!("`{}` is no capability", shown(&name))));
            }
            Ok(name)
        })
    })?;
    Ok(list.unwrap_or_default())
}

fn cgroup(node: Node<'_, '_>) -> Result<Cgroup, Refusal> {
    let word = node.str()?;
    match &*word {
        "private" => Ok(Cgroup::Private),
        "host" => Ok(Cgroup::Host),
        other => Err(node.refuse(format!(
            "`{}` is no cgroup namespace, which is private or host",
            shown(other)
        ))),
    }
}

/// A namespace mode, unchecked as in legacy, but `service:NAME` without blanks behind the colon.
fn namespace(node: Node<'_, '_>) -> Result<String, Refusal> {
    let mode = node.str()?;
    Ok(match mode.strip_prefix("service:") {
        Some(service) => format!("service:{}", service.trim_start()),
        None => mode.into_owned(),
    })
}

/// Names and numbers of groups.
fn groups(node: Node<'_, '_>) -> Result<Vec<String>, Refusal> {
    node.list(|node| {
        if node.is_number() {
            return node.int().map(|group| group.to_string());
        }
        if node.is_string() {
            return node.string();
        }
        Err(node.unexpected("a string or an integer"))
    })
}

fn security_option(node: Node<'_, '_>) -> Result<String, Refusal> {
    let text = node.str()?;
    let option = text.replacen(':', "=", 1);
    if SECURITY_OPTIONS.contains(&&*option) {
        return Ok(option);
    }
    Err(node.refuse(format!(
        "security option `{}` is not allowed; allowed are {}",
        shown(&text),
        SECURITY_OPTIONS.join(", ")
    )))
}

fn sysctls(node: Node<'_, '_>) -> Result<Map<String, String>, Refusal> {
    let mut sysctls = Vec::new();
    if node.is_object() {
        node.each_member(|key, node| {
            check_sysctl(key).map_err(|reason| node.refuse(reason))?;
            sysctls.push((key.to_owned(), scalar(node)?));
            Ok(())
        })?;
    } else if node.is_list() {
        node.each_element(|node| {
            let text = node.str()?;
            let (key, value) = text
                .split_once('=')
                .ok_or_else(|| node.refuse(format!("sysctl `{}` has no value", shown(&text))))?;
            check_sysctl(key).map_err(|reason| node.refuse(reason))?;
            sysctls.push((key.to_owned(), value.to_owned()));
            Ok(())
        })?;
    } else {
        return Err(node.unexpected("a list of strings or an object"));
    }
    Ok(sysctls.into())
}

fn check_sysctl(key: &str) -> Result<(), String> {
    if key == "kernel.sem" || SYSCTL_PREFIXES.iter().any(|prefix| key.starts_with(prefix)) {
        return Ok(());
    }
    Err(format!(
        "sysctl `{}` is not namespaced; allowed are net.*, fs.mqueue.*, kernel.shm*, \
         kernel.msg* and kernel.sem",
        shown(key)
    ))
}
