//! Volumes, binds and temporary file systems (target-state 2.20, 2.22, 4.2, D-38).

use super::wire::{self, HostConfig};
use super::{API_CREATE_MOUNTPOINT, API_SUBPATH, ENGINE_SOCKET, Encoder};
use crate::model::config::{LOCK_TARGETS, Mount, Propagation, TmpfsOptions};

/// The volume of firmware that all apps share (target-state 3.4).
const EXTRA_FIRMWARE: &str = "extra-firmware";

/// A path of the host, made by the engine if it is missing.
struct Bind {
    source: String,
    target: String,
    read_only: bool,
}

pub(super) fn encode<'a>(encoder: &Encoder<'a>, host: &mut HostConfig<'a>) -> Result<(), String> {
    for (path, options) in &encoder.config.tmpfs {
        host.tmpfs.insert(path, tmpfs(options));
    }
    // With its target, so that all of them can be ordered by it.
    let mut mounts: Vec<(String, Sent)> = Vec::new();
    for mount in &encoder.config.volumes {
        mounts.push((mount.target().to_owned(), sent(encoder, mount)?));
    }
    let taken = |target: &str| {
        let volumes = encoder.config.volumes.iter();
        let tmpfs = encoder.config.tmpfs.keys().map(String::as_str);
        let mut all = volumes.map(Mount::target).chain(tmpfs);
        all.any(|taken| taken.trim_end_matches('/') == target)
    };
    for bind in features(encoder) {
        // What the document mounts there itself is what it wants.
        if !taken(&bind.target) {
            mounts.push((bind.target.clone(), made(encoder, bind)?));
        }
    }
    let target = format!("/{EXTRA_FIRMWARE}");
    if encoder.feature(EXTRA_FIRMWARE) && !taken(&target) {
        let volume = volume(target.clone(), EXTRA_FIRMWARE.to_owned());
        mounts.push((target, Sent::Mount(volume)));
    }
    for target in LOCK_TARGETS {
        let new = encoder.new;
        let bind = Bind {
            source: format!(
                "{}/update-locks/{}/{}",
                new.host.runtime_dir, new.app, new.service
            ),
            target: target.to_owned(),
            read_only: false,
        };
        mounts.push((target.to_owned(), made(encoder, bind)?));
    }
    mounts.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    for (_, sent) in mounts {
        match sent {
            Sent::Mount(mount) => host.mounts.push(mount),
            Sent::Bind(bind) => host.binds.push(bind),
        }
    }
    Ok(())
}

/// In which list a mount goes.
enum Sent {
    /// `HostConfig.Mounts`.
    Mount(wire::Mount),
    /// `HostConfig.Binds`.
    Bind(String),
}

fn sent(encoder: &Encoder<'_>, mount: &Mount) -> Result<Sent, String> {
    Ok(match mount {
        Mount::Volume {
            target,
            source,
            read_only,
            nocopy,
            subpath,
        } => {
            if subpath.is_some() && encoder.api < API_SUBPATH {
                return Err(format!(
                    "volumes: the subpath of the volume at {target} needs engine API \
                     {API_SUBPATH}, this one has {}",
                    encoder.api
                ));
            }
            let options = *nocopy || subpath.is_some();
            Sent::Mount(wire::Mount {
                read_only: Some(*read_only),
                volume_options: options.then(|| wire::VolumeOptions {
                    no_copy: *nocopy,
                    subpath: subpath.clone(),
                }),
                ..volume(target.clone(), (encoder.new.volume)(source))
            })
        }
        Mount::Bind {
            target,
            source,
            read_only,
            propagation,
            create_host_path,
        } => {
            let bind = Bind {
                source: source.clone(),
                target: target.clone(),
                read_only: *read_only,
            };
            bound(encoder, bind, *propagation, *create_host_path)?
        }
        Mount::Tmpfs { target, size, mode } => {
            let options = size.is_some() || mode.is_some();
            Sent::Mount(wire::Mount {
                tmpfs_options: options.then_some(wire::TmpfsOptions {
                    size_bytes: *size,
                    mode: *mode,
                }),
                ..plain("tmpfs", target.clone(), None)
            })
        }
    })
}

fn made(encoder: &Encoder<'_>, bind: Bind) -> Result<Sent, String> {
    bound(encoder, bind, Propagation::Private, true)
}

/// Engines before API 1.42 refuse a bind in `Mounts` whose source is missing; they make
/// it for an entry of `Binds`, as all engines do (engine/README.md).
fn bound(
    encoder: &Encoder<'_>,
    bind: Bind,
    propagation: Propagation,
    create: bool,
) -> Result<Sent, String> {
    if !create || encoder.api >= API_CREATE_MOUNTPOINT {
        let options = create || propagation != Propagation::Private;
        return Ok(Sent::Mount(wire::Mount {
            read_only: Some(bind.read_only),
            bind_options: options.then_some(wire::BindOptions {
                propagation: propagation.as_str(),
                create_mountpoint: create,
            }),
            ..plain("bind", bind.target, Some(bind.source))
        }));
    }
    if bind.source.contains(':') || bind.target.contains(':') {
        return Err(format!(
            "volumes: a path with a colon ({}) needs engine API {API_CREATE_MOUNTPOINT}, \
             this one has {}",
            bind.target, encoder.api
        ));
    }
    let mut text = format!("{}:{}:", bind.source, bind.target);
    text.push_str(if bind.read_only { "ro" } else { "rw" });
    text.push(',');
    text.push_str(propagation.as_str());
    Ok(Sent::Bind(text))
}

/// The binds of feature labels (target-state 4.2).
fn features(encoder: &Encoder<'_>) -> Vec<Bind> {
    #[rustfmt::skip]
    const FIXED: &[(&str, &str, &str, bool)] = &[
        ("dbus", "/run/dbus", "/host/run/dbus", false),
        ("kernel-modules", "/lib/modules", "/lib/modules", false),
        ("firmware", "/lib/firmware", "/lib/firmware", false),
        ("sysfs", "/sys", "/sys", false),
        ("procfs", "/proc", "/proc", false),
        ("journal-logs", "/var/log/journal", "/var/log/journal", true),
        ("journal-logs", "/run/log/journal", "/run/log/journal", true),
        ("journal-logs", "/etc/machine-id", "/etc/machine-id", true),
    ];
    let bind = |source: &str, target: &str, read_only| Bind {
        source: source.to_owned(),
        target: target.to_owned(),
        read_only,
    };
    let mut binds: Vec<Bind> = FIXED
        .iter()
        .filter(|(feature, ..)| encoder.feature(feature))
        .map(|(_, source, target, read_only)| bind(source, target, *read_only))
        .collect();
    if encoder.feature("balena-socket") {
        let socket = encoder.extra.engine_socket.unwrap_or(ENGINE_SOCKET);
        let other = "/var/run/balena.sock";
        binds.push(bind(socket, "/host/run/balena-engine.sock", false));
        binds.push(bind(socket, socket, false));
        if socket != other {
            binds.push(bind(socket, other, false));
        }
    }
    binds
}

fn volume(target: String, source: String) -> wire::Mount {
    wire::Mount {
        read_only: Some(false),
        ..plain("volume", target, Some(source))
    }
}

fn plain(kind: &'static str, target: String, source: Option<String>) -> wire::Mount {
    wire::Mount {
        kind,
        target,
        source,
        read_only: None,
        volume_options: None,
        bind_options: None,
        tmpfs_options: None,
    }
}

/// The options of an entry of `tmpfs`.
fn tmpfs(options: &TmpfsOptions) -> String {
    let options = [
        options.mode.map(|mode| format!("mode={mode:o}")),
        options.uid.map(|uid| format!("uid={uid}")),
        options.gid.map(|gid| format!("gid={gid}")),
    ];
    options.into_iter().flatten().collect::<Vec<_>>().join(",")
}
