//! What must never happen, and what must be so in the end.

use std::sync::Arc;

use helios::model::current::Container;
use helios::model::status::{ContainerStatus, UpdateStatus};
use helios::model::target::{AppRelease, DeviceTarget, ReleaseTarget, ServiceTarget};
use helios::model::{AppUuid, ImageUri, ServiceConfig};
use serde_json::Value;

use super::engine::Found;
use super::life::DEVICE;
use super::world::State;

/// Notes which target the agent that lives now acts on. One before it may still be worked
/// on: a call that is under way is finished.
fn accepted(state: &mut State) -> Vec<Arc<DeviceTarget>> {
    let board = state.board.clone();
    let now = board.and_then(|board| board.look(|board| board.target.clone()));
    if let Some(now) = now
        && state.accepted.last() != Some(&now)
    {
        state.accepted.push(now);
    }
    let skip = state.accepted.len().saturating_sub(2);
    state.accepted[skip..].to_vec()
}

/// The containers of a service.
fn of_service<'a>(
    state: &'a State,
    (app, service): (&'a AppUuid, &'a str),
) -> impl Iterator<Item = &'a Container> {
    let all = state.engine.containers.values();
    let mine = all.filter(move |found| found.app == *app && *found.container.service == *service);
    mine.map(|found| &found.container)
}

fn is_right(container: &Container, target: &ServiceTarget) -> bool {
    let identity = container.identity.as_ref();
    identity
        .is_some_and(|identity| identity.config == target.config && identity.image == target.image)
}

fn has_images(state: &State, release: &ReleaseTarget) -> bool {
    let mut services = release.services.values();
    services.all(|service| {
        service.strategy.kills_first() || state.engine.images.contains_key(&service.image)
    })
}

/// Whether a target is a reason to stop what runs (D-16, D-20).
fn justifies(state: &State, target: &DeviceTarget, found: &Found) -> Result<(), &'static str> {
    let container = &found.container;
    let Some(app) = target.apps.get(&found.app) else {
        return Ok(());
    };
    let release = match &app.release {
        AppRelease::None => return Ok(()),
        AppRelease::Rejected(_) => return Err("its release is rejected"),
        AppRelease::Wanted(_, release) => release,
    };
    let Some(service) = release.services.get(&container.service) else {
        return if has_images(state, release) {
            Ok(())
        } else {
            Err("images of the release are missing")
        };
    };
    if service.strategy.kills_first() || !service.running {
        return Ok(());
    }
    let key = (&found.app, container.service.as_str());
    let is_newer =
        |one: &Container| one.created > container.created && one.status == ContainerStatus::Running;
    if of_service(state, key).any(is_newer) {
        return Ok(());
    }
    if !has_images(state, release) {
        return Err("images of the release are missing");
    }
    let is_stale = |name: &Arc<str>| {
        let known = state.engine.networks.get(name);
        let wanted = known.and_then(|(_, name, _)| release.networks.get(name));
        known.is_some_and(|(.., network)| network.config.as_ref() != wanted)
    };
    if container.networks.iter().any(is_stale) {
        return Ok(());
    }
    if is_right(container, service) && has_new_dependency(state, found, service) {
        return Ok(());
    }
    let replaces = |one: &Container| one.id != container.id && is_right(one, service);
    if of_service(state, key).any(replaces) {
        return Ok(());
    }
    Err("its successor is not made")
}

/// Whether what it depends on was made again since it started, and it asked to be restarted
/// then (GAP-26).
fn has_new_dependency(state: &State, found: &Found, service: &ServiceTarget) -> bool {
    let asked = service.depends_on.iter().filter(|(_, how)| how.restart);
    let asked: Vec<_> = asked.map(|(name, _)| name).collect();
    let all = state.engine.containers.values();
    all.into_iter().any(|one| {
        one.app == found.app && asked.contains(&&one.container.service) && one.made > found.started
    })
}

/// A container is stopped by the agent.
pub fn on_stop(state: &mut State, name: &str, what: &str) {
    let targets = accepted(state);
    let found = state.engine.containers[name].clone();
    if found.container.status != ContainerStatus::Running {
        return;
    }
    on_touch(state, name, what);
    let why: Vec<_> = targets
        .iter()
        .map(|target| justifies(state, target, &found))
        .collect();
    if !targets.is_empty() && why.iter().all(Result::is_err) {
        state.violation(format!("'{name}' is {what}: {why:?}"));
    }
}

/// A container is renamed by the agent.
pub fn on_rename(state: &mut State, name: &str) {
    on_touch(state, name, "renamed");
}

/// FD-06: not what runs without its lock. FD-41: not what is somebody else's.
fn on_touch(state: &mut State, name: &str, what: &str) {
    let found = state.engine.containers[name].clone();
    if found.container.identity.is_none() {
        state.violation(format!("'{name}' is {what} and not ours"));
    }
    let dir = format!(
        "/run/helios/update-locks/{}/{}",
        found.app, found.container.service
    );
    let runs = found.container.status == ContainerStatus::Running;
    if runs && !state.dirs.ours.contains(&dir) {
        state.violation(format!("'{name}' is {what} without its update lock"));
    }
}

/// An image is removed by the agent (FD-09).
pub fn on_remove_image(state: &mut State, uri: &ImageUri) {
    if state.engine.images.contains_key(uri) && !state.engine.pulled.contains(uri) {
        state.violation(format!("image '{uri}' is removed and not ours"));
    }
}

/// A volume is removed by the agent (D-12).
pub fn on_remove_volume(state: &mut State, name: &str) {
    let targets = accepted(state);
    let app = state
        .engine
        .volumes
        .get(name)
        .map(|found| found.app.clone());
    let Some(Some(app)) = app else {
        return state.violation(format!("volume '{name}' is removed and not ours"));
    };
    if targets.iter().all(|target| target.apps.contains_key(&app)) {
        state.violation(format!(
            "volume '{name}' is removed, and its app is in the target"
        ));
    }
}

/// What is not as the target says when everything had its time; empty is good.
pub fn in_the_end(state: &mut State, target: &DeviceTarget) -> Vec<String> {
    let mut wrong = Vec::new();
    let board = state.board.clone().expect("an agent lives");
    let (status, reason) = board.look(|board| (board.status, board.reason.clone()));
    if status != UpdateStatus::Done {
        wrong.push(format!("the status is {}: {reason:?}", status.as_str()));
    }
    if !state.dirs.ours.is_empty() {
        wrong.push(format!("locks are left: {:?}", state.dirs.ours));
    }
    for (name, found) in &state.engine.containers {
        if found.container.identity.is_some() && wanted(target, found).is_none() {
            wrong.push(format!("container '{name}' is left"));
        }
    }
    for (uuid, app) in &target.apps {
        if let AppRelease::Wanted(release, target) = &app.release {
            check_app(state, uuid, target, &mut wrong);
            let report = state.backend.report.as_deref().unwrap_or(b"null");
            let report: Value = serde_json::from_slice(report).unwrap();
            let told = &report[DEVICE]["apps"][uuid.as_str()]["releases"][release.as_str()];
            if told["update_status"] != "done" {
                wrong.push(format!("the last report says of app '{uuid}': {told}"));
            }
        }
    }
    let used = helios::plan::sweep::wanted(target);
    for uri in &state.engine.pulled {
        let is_there = state.engine.images.contains_key(uri);
        if is_there && !used.contains(uri) && !state.disk.is_forgotten(uri) {
            wrong.push(format!("image '{uri}' is left"));
        }
    }
    wrong
}

fn wanted<'t>(target: &'t DeviceTarget, found: &Found) -> Option<&'t ServiceTarget> {
    match &target.apps.get(&found.app)?.release {
        AppRelease::Wanted(_, release) => release.services.get(&found.container.service),
        _ => None,
    }
}

fn check_app(state: &State, uuid: &AppUuid, release: &ReleaseTarget, wrong: &mut Vec<String>) {
    for (name, service) in &release.services {
        let all: Vec<_> = of_service(state, (uuid, name.as_str())).collect();
        let [one] = all[..] else {
            wrong.push(format!("service '{name}' has {} containers", all.len()));
            continue;
        };
        if !is_right(one, service) {
            wrong.push(format!("service '{name}' is not what was asked for"));
        }
        let config = ServiceConfig::from_json(&service.config).unwrap();
        let once = config
            .labels
            .get("sim")
            .is_some_and(|label| label == "once");
        let runs = one.status == ContainerStatus::Running;
        if runs == once {
            wrong.push(format!("service '{name}' is {:?}", one.status));
        }
    }
    for name in release.networks.keys() {
        let mut all = state.engine.networks.values();
        if !all.any(|(app, known, _)| app == uuid && known == name) {
            wrong.push(format!("network '{name}' is missing"));
        }
    }
}
