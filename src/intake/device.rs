//! The target of a device (target-state 1): one app's fault stays that app's (D-16).

use super::app::{self, App, check_uuid, document, rejection};
use super::contract::Facts;
use super::node::{Node, Path};
use super::{AppRefusal, Intake, Refusal, host, knobs, scan};
use crate::model::AppUuid;
use crate::model::target::DeviceTarget;

/// Reads the body of `GET /device/v3/{uuid}/state`. Contracts are only checked for their
/// form; [`device_target_for`] checks them against the device.
///
/// # Errors
///
/// When the whole target cannot be used. What is wrong with one app is in that app.
pub fn device_target(body: &[u8], uuid: &str) -> Result<Intake<DeviceTarget>, Refusal> {
    device_target_for(body, uuid, &Facts::default())
}

/// As [`device_target`], with what is known of the device for the contracts of services
/// (target-state 4.5, D-39).
///
/// # Errors
///
/// As [`device_target`].
pub fn device_target_for(
    body: &[u8],
    uuid: &str,
    facts: &Facts,
) -> Result<Intake<DeviceTarget>, Refusal> {
    scan::check(body).map_err(|reason| Path::Root.refuse(reason))?;
    let raw = document(body).map_err(|refusal| match refusal {
        AppRefusal::Syntax { .. } => Path::Root.refuse(format!("not JSON: {refusal}")),
        AppRefusal::Shape(_) => Path::Root.refuse(refusal.to_string()),
    })?;
    let node = Node::new(raw, &Path::Root);
    let devices = node.members()?;
    let Some(device) = devices.get(uuid) else {
        return Err(node.refuse("the document has no entry for this device"));
    };
    // Paths start inside the device's entry: there is only one, and its key says nothing.
    read(Node::new(device, &Path::Root), facts)
}

/// Reads the value under a device's uuid.
pub(super) fn read(node: Node<'_, '_>, facts: &Facts) -> Result<Intake<DeviceTarget>, Refusal> {
    let members = node.members()?;
    let name = node
        .member(&members, "name", |node| node.str())?
        .ok_or_else(|| node.refuse("missing field `name`"))?;
    let mut target = DeviceTarget {
        name: Some((&*name).into()),
        ..DeviceTarget::default()
    };
    if let Some(config) = members.get("config") {
        target.knobs = knobs::read(Node::new(config, &node.path.key("config")));
    }
    let mut warnings = Vec::new();
    let mut hosts: Vec<(AppUuid, App)> = Vec::new();
    node.member(&members, "apps", |apps| {
        apps.each_member(|uuid, node| {
            read_app(uuid, node, facts, &mut target, &mut hosts, &mut warnings);
            Ok(())
        })
    })?;
    let apps = node.path.key("apps");
    let too_many = hosts.len() > 1;
    for (uuid, mut app) in hosts {
        let path = apps.key(&uuid);
        if too_many {
            app.faults = vec![path.refuse("the target has more than one hostapp")];
        }
        let release = app.release.clone();
        match host::target(&uuid, app, &path) {
            Ok(host) => target.host = Some(host),
            Err(faults) => {
                target
                    .refused_hosts
                    .insert(uuid, rejection(release, &faults));
            }
        }
    }
    Ok(Intake {
        value: target,
        warnings,
    })
}

/// Puts one app where it belongs.
fn read_app(
    uuid: &str,
    node: Node<'_, '_>,
    facts: &Facts,
    target: &mut DeviceTarget,
    hosts: &mut Vec<(AppUuid, App)>,
    warnings: &mut Vec<String>,
) {
    if let Err(fault) = check_uuid(uuid, node) {
        warnings.push(format!("an app is passed over: {fault}"));
        return;
    }
    if host::is_supervisor(uuid) {
        match host::supervisor(uuid, node) {
            Ok(supervisor) => target.supervisor = supervisor,
            Err(fault) => warnings.push(format!("the supervisor's own app: {fault}")),
        }
        return;
    }
    let app = app::read(node, facts, warnings);
    if app.is_host {
        hosts.push((AppUuid::new(uuid), app));
    } else {
        target
            .apps
            .insert(AppUuid::new(uuid), app.into_target(node));
    }
}
