//! One app of a target (target-state 1.2), and one app of the local API (local-api 1.6).

use std::sync::Arc;

use serde_json::value::RawValue;

use super::contract::Facts;
use super::host::is_supervisor;
use super::node::{Node, Path};
use super::release::{self, Release};
use super::service::{id, optional, required};
use super::{AppRefusal, Intake, Reading, Refusal, lines, scan};
use crate::model::ReleaseUuid;
use crate::model::target::{AppRelease, AppTarget, Rejection};

/// An app as read: whatever of it could be read.
pub(super) struct App {
    pub id: u32,
    pub name: Option<Arc<str>>,
    pub is_host: bool,
    /// The one release that it names.
    pub release: Option<ReleaseUuid>,
    /// What that release consists of.
    pub content: Release,
    pub faults: Vec<Refusal>,
}

/// Reads one app with its release.
pub(super) fn read(node: Node<'_, '_>, reading: &mut Reading<'_>) -> App {
    let mut app = App {
        id: 0,
        name: None,
        is_host: false,
        release: None,
        content: Release::default(),
        faults: Vec::new(),
    };
    let faults = &mut app.faults;
    let members = match node.members() {
        Ok(members) => members,
        Err(fault) => {
            faults.push(fault);
            return app;
        }
    };
    app.id = required(node, &members, "id", faults, id).unwrap_or_default();
    app.name = required(node, &members, "name", faults, |node| node.str()).map(Arc::from);
    let is_host = optional(node, &members, "is_host", faults, |node| node.bool());
    app.is_host = is_host.unwrap_or_default();
    let path = node.path.key("releases");
    let releases = match members.get("releases") {
        Some(raw) => Node::new(raw, &path).members(),
        None => return app,
    };
    match releases {
        Err(fault) => faults.push(fault),
        Ok(releases) if releases.len() > 1 => {
            faults.push(path.refuse("target releases should only contain one release per app"))
        }
        Ok(releases) => {
            for (uuid, raw) in &releases {
                let path = path.key(uuid);
                let node = Node::new(raw, &path);
                if let Err(fault) = check_uuid(uuid, node) {
                    faults.push(fault);
                    continue;
                }
                app.release = Some(ReleaseUuid::new(uuid));
                app.content = release::read(node, reading, faults);
            }
        }
    }
    app
}

impl App {
    /// What the model keeps of a user app.
    pub(super) fn into_target(self) -> AppTarget {
        let release = match self.release {
            _ if !self.faults.is_empty() => {
                AppRelease::Rejected(rejection(self.release, &self.faults))
            }
            None => AppRelease::None,
            Some(uuid) => AppRelease::Wanted(uuid, Arc::new(self.content.into_target())),
        };
        AppTarget {
            id: self.id,
            name: self.name,
            release,
        }
    }
}

/// What the model keeps of `faults`.
pub(super) fn rejection(release: Option<ReleaseUuid>, faults: &[Refusal]) -> Rejection {
    Rejection {
        release,
        reasons: lines(faults).into(),
    }
}

/// Uuids are any text (target-state 1.2) that stays one piece of a path on the host and of
/// a name on the engine.
pub(super) fn check_uuid(uuid: &str, node: Node<'_, '_>) -> Result<(), Refusal> {
    let bad = uuid.is_empty()
        || uuid.len() > 255
        || uuid == "."
        || uuid == ".."
        || uuid.chars().any(|c| c == '/' || c.is_control());
    if bad {
        return Err(node.refuse("the uuid is empty, too long, or has a slash or control character"));
    }
    Ok(())
}

/// Reads one app of the local API (local-api 1.6): `uuid` is from the request's path, `body`
/// is the app. Contracts are only checked for their form, as the caller has no [`Facts`].
///
/// # Errors
///
/// When the body is not JSON, or anything in it is not as it must be.
pub fn app_target(uuid: &str, body: &[u8]) -> Result<Intake<AppTarget>, AppRefusal> {
    app_target_for(uuid, body, &Facts::default())
}

/// As [`app_target`], with contracts checked against what is known of the device.
///
/// # Errors
///
/// As [`app_target`].
pub fn app_target_for(
    uuid: &str,
    body: &[u8],
    facts: &Facts,
) -> Result<Intake<AppTarget>, AppRefusal> {
    scan::check(body).map_err(|reason| AppRefusal::Shape(vec![Path::Root.refuse(reason)]))?;
    let raw = document(body)?;
    let node = Node::new(raw, &Path::Root);
    check_uuid(uuid, node).map_err(|fault| AppRefusal::Shape(vec![fault]))?;
    if is_supervisor(uuid) {
        let fault = node.refuse("this is the supervisor's own app");
        return Err(AppRefusal::Shape(vec![fault]));
    }
    let mut reading = Reading::new(facts, node);
    let app = read(node, &mut reading);
    if !app.faults.is_empty() {
        return Err(AppRefusal::Shape(app.faults));
    }
    Ok(Intake {
        value: app.into_target(),
        warnings: reading.warnings,
        passed_over: Vec::new(),
    })
}

/// The whole document as one value; its syntax is right from here on.
pub(super) fn document(body: &[u8]) -> Result<&RawValue, AppRefusal> {
    let text = std::str::from_utf8(body).map_err(|error| {
        let before = &body[..error.valid_up_to()];
        let line_start = before
            .iter()
            .rposition(|b| *b == b'\n')
            .map_or(0, |at| at + 1);
        AppRefusal::Syntax {
            message: "not UTF-8".to_owned(),
            line: before.iter().filter(|byte| **byte == b'\n').count() + 1,
            column: before.len() - line_start + 1,
        }
    })?;
    crate::base::json::from_str(text).map_err(|error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        AppRefusal::Syntax {
            message: message.strip_suffix(&place).unwrap_or(&message).to_owned(),
            line: error.line(),
            column: error.column(),
        }
    })
}
