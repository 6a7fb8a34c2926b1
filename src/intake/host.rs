//! The host app and the supervisor's own app (target-state 1.5, 4.6).

use super::Refusal;
use super::app::App;
use super::node::{Node, Path, shown};
use super::service::{BOARD_REV, UPDATER};
use crate::base::map::Map;
use crate::model::target::{HostTarget, SupervisorApp};
use crate::model::{AppUuid, ImageUri, ReleaseUuid, ServiceName};

/// The apps that the supervisor itself is released as, by architecture (target-state 4.6).
const SUPERVISOR_APPS: &[&str] = &[
    "900de4f3cbac4b9bbd232885a35e407b", // aarch64
    "52e35121417640b1b28a680504e4039b", // amd64
    "2e66a95795c149959c69472a8c2f92b8", // armv7hf
    "531b357e155c480cbec0fdd33041a1f5", // i386
    "6822565f766e413e96d9bebe2227cdcc", // rpi
];

/// Whether this is the supervisor's own app.
#[must_use]
pub fn is_supervisor(uuid: &str) -> bool {
    SUPERVISOR_APPS.contains(&uuid)
}

/// What the OS update needs of a host app.
pub(super) fn target(uuid: &str, app: App, path: &Path<'_>) -> Result<HostTarget, Vec<Refusal>> {
    if !app.faults.is_empty() {
        return Err(app.faults);
    }
    let fault = |reason: String| vec![path.refuse(reason)];
    let Some(release) = app.release else {
        return Err(fault("the hostapp has no release".to_owned()));
    };
    let mut services = app.content.services.into_values();
    let found = services.find_map(|draft| Some((draft.target.image, draft.hostapp?)));
    let Some((image, labels)) = found else {
        return Err(fault(
            "no service of the hostapp has composition label io.balena.image.class = hostapp"
                .to_owned(),
        ));
    };
    let missing = |name: &str| fault(format!("the hostapp has no label {name}"));
    let updater = labels.updater.ok_or_else(|| missing(UPDATER))?;
    let updater = ImageUri::parse(&updater)
        .map_err(|reason| fault(format!("label {UPDATER} of the hostapp: {reason}")))?;
    let board_rev = labels.board_rev.ok_or_else(|| missing(BOARD_REV))?.into();
    Ok(HostTarget {
        app: AppUuid::new(uuid),
        release,
        image,
        updater,
        board_rev,
    })
}

/// The supervisor's own app: what is reported of it, read as far as it can be.
pub(super) fn supervisor(uuid: &str, node: Node<'_, '_>) -> Result<Option<SupervisorApp>, Refusal> {
    let mut found = None;
    let app = node.members()?;
    node.member(&app, "releases", |releases| {
        releases.each_member(|release, node| {
            let mut services = Map::new();
            let members = node.members()?;
            node.member(&members, "services", |all| {
                all.each_member(|name, node| {
                    let members = node.members()?;
                    let image = node.member(&members, "image", |node| {
                        ImageUri::parse(&node.str()?)
                            .map_err(|reason| node.refuse(format!("{reason} in {}", shown(name))))
                    })?;
                    services.extend(image.map(|image| (ServiceName::new(name), image)));
                    Ok(())
                })
            })?;
            found = Some(SupervisorApp {
                app: AppUuid::new(uuid),
                release: ReleaseUuid::new(release),
                services,
            });
            Ok(())
        })
    })?;
    Ok(found)
}
