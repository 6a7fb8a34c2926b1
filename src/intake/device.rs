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
    let mut reading = Reading {
        intake: Intake {
            value: target,
            warnings: Vec::new(),
            passed_over: Vec::new(),
        },
        hosts: Vec::new(),
    };
    node.member(&members, "apps", |apps| {
        apps.each_member(|uuid, node| {
            reading.app(uuid, node, facts);
            Ok(())
        })
    })?;
    Ok(reading.finish(&node.path.key("apps")))
}

/// A target on its way.
struct Reading {
    intake: Intake<DeviceTarget>,
    hosts: Vec<(AppUuid, App)>,
}

impl Reading {
    /// Puts one app where it belongs.
    fn app(&mut self, uuid: &str, node: Node<'_, '_>, facts: &Facts) {
        let Intake {
            value: target,
            warnings,
            passed_over,
        } = &mut self.intake;
        if let Err(fault) = check_uuid(uuid, node) {
            warnings.push(format!("an app is passed over: {fault}"));
            passed_over.push(fault);
        } else if host::is_supervisor(uuid) {
            match host::supervisor(uuid, node) {
                Ok(supervisor) => target.supervisor = supervisor,
                Err(fault) => warnings.push(format!("the supervisor's own app: {fault}")),
            }
        } else {
            let app = app::read(node, facts, warnings);
            if app.is_host {
                self.hosts.push((AppUuid::new(uuid), app));
            } else {
                let app = app.into_target(node);
                target.apps.insert(AppUuid::new(uuid), app);
            }
        }
    }

    /// Decides about host apps: one at most.
    fn finish(mut self, apps: &Path<'_>) -> Intake<DeviceTarget> {
        let too_many = self.hosts.len() > 1;
        let target = &mut self.intake.value;
        for (uuid, mut app) in self.hosts {
            let path = apps.key(&uuid);
            if too_many {
                app.faults = vec![path.refuse("the target has more than one hostapp")];
            }
            let release = app.release.clone();
            match host::target(&uuid, app, &path) {
                Ok(host) => target.host = Some(host),
                Err(faults) => {
                    let rejection = rejection(release, &faults);
                    target.refused_hosts.insert(uuid, rejection);
                }
            }
        }
        self.intake
    }
}
