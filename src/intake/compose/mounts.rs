//! Volumes, binds and temporary file systems (target-state 2.20, 2.22).

use super::refused::clean_path;
use super::{Node, Refusal, ServiceConfig, one_or_many};
use crate::intake::node::{Members, shown};
use crate::model::VolumeName;
use crate::model::config::{LOCK_TARGETS, Mount, Propagation, TmpfsOptions};

/// Paths of the host that a composition may ask for, compared as they are.
const BIND_SOURCES: &[&str] = &[
    "/var/run/docker.sock",
    "/run/dbus",
    "/sys",
    "/proc",
    "/lib/modules",
    "/lib/firmware",
    "/var/log/journal",
    "/run/log/journal",
    "/etc/machine-id",
];

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "tmpfs" => {
            let entries = one_or_many(node)?;
            let mounts = entries.iter().map(|entry| tmpfs(entry));
            let mounts = mounts.collect::<Result<_, _>>();
            into.tmpfs = mounts.map_err(|reason| node.refuse(reason))?;
        }
        "volumes" => {
            let mut mounts = node.list(mount)?;
            mounts.sort_unstable_by(|a, b| a.target().cmp(b.target()));
            into.volumes = mounts;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn mount(node: Node<'_, '_>) -> Result<Mount, Refusal> {
    if node.is_string() {
        let text = node.str()?;
        return short(&text).map_err(|reason| node.refuse(format!("`{}`: {reason}", shown(&text))));
    }
    if node.is_object() {
        return long(node);
    }
    Err(node.unexpected("a string or an object"))
}

/// `SOURCE:TARGET[:MODE]`.
fn short(text: &str) -> Result<Mount, String> {
    let mut parts = text.splitn(3, ':');
    let (source, target) = (parts.next().unwrap_or_default(), parts.next());
    let Some(target) = target else {
        return Err("an anonymous volume cannot be used, it has no source".to_owned());
    };
    if source.is_empty() || target.is_empty() {
        return Err("source and target must not be empty".to_owned());
    }
    let mut read_only = false;
    for word in parts.next().unwrap_or_default().split(',') {
        match word {
            "" | "z" | "Z" => {}
            "ro" => read_only = true,
            "rw" => read_only = false,
            other => return Err(format!("unknown option `{other}`")),
        }
    }
    check_target(target)?;
    let target = target.to_owned();
    if source.starts_with('/') {
        check_bind_source(source)?;
        return Ok(Mount::Bind {
            target,
            source: source.to_owned(),
            read_only,
            propagation: Propagation::Private,
            create_host_path: true,
        });
    }
    if source.starts_with('.') {
        return Err("a relative path cannot be a source".to_owned());
    }
    Ok(Mount::Volume {
        target,
        source: VolumeName::new(source),
        read_only,
        nocopy: false,
        subpath: None,
    })
}

/// What every engine refuses when the container is made.
fn check_target(target: &str) -> Result<(), String> {
    if target.is_empty() {
        return Err("the target must not be empty".to_owned());
    }
    if !target.starts_with('/') || clean_path(target) == "/" {
        return Err(format!(
            "the target {} is no absolute path below /",
            shown(target)
        ));
    }
    Ok(())
}

/// Takes out what would lie where the agent's own mounts are (target-state 5.1), and
/// returns the targets: left in, no container would ever be as it was asked for.
pub(super) fn drop_reserved(config: &mut ServiceConfig) -> Vec<String> {
    let mut dropped = Vec::new();
    let mut stays = |target: &str| {
        let target = clean_path(target);
        let is_reserved = LOCK_TARGETS.contains(&&*target);
        dropped.extend(is_reserved.then_some(target));
        !is_reserved
    };
    config.volumes.retain(|mount| stays(mount.target()));
    config.tmpfs.retain(|target, _| stays(target));
    dropped
}

/// A path at which two things would be mounted; engines refuse that as well.
pub(super) fn mounted_twice(config: &ServiceConfig) -> Option<String> {
    let volumes = config.volumes.iter().map(Mount::target);
    let all = volumes.chain(config.tmpfs.keys().map(String::as_str));
    let mut all: Vec<String> = all.map(clean_path).collect();
    all.sort_unstable();
    let twice = all.windows(2).find(|two| two[0] == two[1])?;
    twice.first().cloned()
}

fn check_bind_source(source: &str) -> Result<(), String> {
    if BIND_SOURCES.contains(&source) {
        return Ok(());
    }
    Err(format!(
        "bind mount source '{}' is not in the allowed list",
        shown(source)
    ))
}

fn long(node: Node<'_, '_>) -> Result<Mount, Refusal> {
    let members = node.members()?;
    let missing = |what: &str| node.refuse(format!("missing field `{what}`"));
    let text = |key: &str| node.member(&members, key, |node| node.string());
    let kind = text("type")?.ok_or_else(|| missing("type"))?;
    let target = text("target")?.ok_or_else(|| missing("target"))?;
    check_target(&target).map_err(|reason| node.refuse(reason))?;
    let read_only = node
        .member(&members, "read_only", |node| node.bool())?
        .unwrap_or(false);
    // Options of the other kinds are checked as well, and have no effect.
    let (nocopy, subpath) = volume_options(node, &members)?;
    let (propagation, create_host_path) = bind_options(node, &members)?;
    let (size, mode) = tmpfs_options(node, &members)?;
    match &*kind {
        "volume" => Ok(Mount::Volume {
            target,
            source: text("source")?
                .ok_or_else(|| missing("source"))
                .map(VolumeName::from)?,
            read_only,
            nocopy,
            subpath,
        }),
        "bind" => {
            let source = text("source")?.ok_or_else(|| missing("source"))?;
            check_bind_source(&source).map_err(|reason| node.refuse(reason))?;
            Ok(Mount::Bind {
                target,
                source,
                read_only,
                propagation,
                create_host_path,
            })
        }
        "tmpfs" => Ok(Mount::Tmpfs { target, size, mode }),
        "image" | "npipe" | "cluster" => {
            Err(node.refuse(format!("mounts of type `{kind}` are not supported")))
        }
        other => Err(node.refuse(format!("`{}` is no type of a mount", shown(other)))),
    }
}

fn volume_options<'d>(
    node: Node<'d, '_>,
    members: &Members<'d>,
) -> Result<(bool, Option<String>), Refusal> {
    let options = node.member(members, "volume", |node| {
        node.nullable(|node| {
            let members = node.members()?;
            let nocopy =
                node.member(&members, "nocopy", |node| node.nullable(|node| node.bool()))?;
            let subpath = node.member(&members, "subpath", super::opt_string)?;
            Ok((nocopy.flatten().unwrap_or(false), subpath.flatten()))
        })
    })?;
    Ok(options.flatten().unwrap_or((false, None)))
}

fn bind_options<'d>(
    node: Node<'d, '_>,
    members: &Members<'d>,
) -> Result<(Propagation, bool), Refusal> {
    let propagation = |node: Node<'_, '_>| {
        let word = node.str()?;
        Propagation::parse(&word)
            .ok_or_else(|| node.refuse(format!("`{}` is no propagation", shown(&word))))
    };
    let options = node.member(members, "bind", |node| {
        node.nullable(|node| {
            let members = node.members()?;
            let propagation =
                node.member(&members, "propagation", |node| node.nullable(propagation))?;
            let create = node.member(&members, "create_host_path", |node| {
                node.nullable(|node| node.bool())
            })?;
            Ok((
                propagation.flatten().unwrap_or_default(),
                create.flatten().unwrap_or(true),
            ))
        })
    })?;
    Ok(options.flatten().unwrap_or((Propagation::Private, true)))
}

fn tmpfs_options<'d>(
    node: Node<'d, '_>,
    members: &Members<'d>,
) -> Result<(Option<i64>, Option<u32>), Refusal> {
    let options = node.member(members, "tmpfs", |node| {
        node.nullable(|node| {
            let members = node.members()?;
            let size = node.member(&members, "size", super::opt_int)?;
            let mode = node.member(&members, "mode", |node| {
                node.nullable(|node| node.int_as::<u32>())
            })?;
            Ok((size.flatten(), mode.flatten()))
        })
    })?;
    Ok(options.flatten().unwrap_or((None, None)))
}

/// `PATH[:OPTIONS]` of the field `tmpfs`.
fn tmpfs(entry: &str) -> Result<(String, TmpfsOptions), String> {
    let (path, options) = entry.split_once(':').unwrap_or((entry, ""));
    check_target(path)?;
    let mut read = TmpfsOptions::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let bad = || format!("unknown tmpfs option `{}`", shown(option));
        let (name, value) = option.split_once('=').ok_or_else(bad)?;
        let number = |radix| {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| u32::from_str_radix(value, radix).ok())
                .flatten()
                .ok_or_else(|| format!("tmpfs option `{}` is no number", shown(option)))
        };
        match name {
            "mode" => read.mode = Some(number(8)?),
            "uid" => read.uid = Some(number(10)?),
            "gid" => read.gid = Some(number(10)?),
            _ => return Err(bad()),
        }
    }
    Ok((path.to_owned(), read))
}
