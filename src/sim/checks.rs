//! What must never happen, and what must be so in the end.

use std::sync::Arc;
use std::time::Duration;

use helios::model::current::Container;
use helios::model::status::{ContainerStatus, UpdateStatus};
use helios::model::target::{AppRelease, Condition, DeviceTarget, ReleaseTarget, ServiceTarget};
use helios::model::{AppUuid, ImageUri, ServiceConfig, ServiceName};
use serde_json::Value;

use super::engine::Found;
use super::life::DEVICE;
use super::world::State;
use crate::base::map::Map;

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
    let mine = all.filter(move |found| {
        !found.is_foreign && found.app == *app && *found.container.service == *service
    });
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
        let uri = &service.image;
        // What somebody removed a moment ago may not be noticed yet.
        let removed = state.engine.removed.get(uri);
        service.strategy.kills_first()
            || state.engine.images.contains_key(uri)
            || removed.is_some_and(|at| state.now - *at < noticed_after(state))
    })
}

/// An event, a look at everything, and the end of the call before them; a look may hang as
/// long as the agent waits for an answer.
fn noticed_after(state: &State) -> Duration {
    let hangs = state.faults.hangs > 0.0;
    Duration::from_secs(if hangs { 300 } else { 5 })
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
    let replaces = |one: &Container| one.id != container.id && is_right(one, service);
    let is_there = |one: &Container| replaces(one) && one.status == ContainerStatus::Running;
    if of_service(state, key).any(|one| is_newer(one) || is_there(one)) {
        return Ok(());
    }
    // It is no update: the same container starts again (GAP-26).
    if is_right(container, service) && has_new_dependency(state, found, service) {
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
    if !found.container.is_up() {
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

/// A container is removed by the agent.
pub fn on_remove(state: &mut State, name: &str) {
    on_touch(state, name, "removed");
}

/// FD-06: not what runs without its lock. FD-41: not what is somebody else's.
fn on_touch(state: &mut State, name: &str, what: &str) {
    let found = state.engine.containers[name].clone();
    if found.is_foreign {
        state.violation(format!("'{name}' is {what} and not ours"));
    }
    if state.own.as_ref() == Some(&found.container.id) {
        state.violation(format!("'{name}' is {what} and the agent itself"));
    }
    let dir = format!(
        "/run/helios/update-locks/{}/{}",
        found.app, found.container.service
    );
    let runs = found.container.is_up();
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

/// The lock that a service holds is disregarded (FD-04, FD-05).
pub fn on_override(state: &mut State, dir: &str) {
    let targets = accepted(state);
    let overrides = targets.iter().any(|target| target.knobs.override_lock);
    let mut all = state.engine.containers.values();
    let runs = all.any(|found| {
        let runs = found.container.is_up();
        runs && dir.ends_with(&format!("/{}/{}", found.app, found.container.service))
    });
    if runs && !overrides && !state.may_force {
        state.violation(format!("lock {dir} is disregarded without a reason"));
    }
}

/// A report arrives: one release that the backend does not know spoils it (R-REP-5).
pub fn on_report(state: &mut State, body: &[u8]) {
    let Ok(report) = serde_json::from_slice::<Value>(body) else {
        return state.violation("a report is no JSON");
    };
    let apps = report[DEVICE]["apps"].as_object();
    let releases = apps.into_iter().flat_map(|apps| apps.values());
    let named: Vec<_> = releases
        .filter_map(|app| app["releases"].as_object())
        .flat_map(|releases| releases.keys().cloned())
        .collect();
    for release in named {
        if !state.backend.releases.contains(&release) {
            state.violation(format!("release '{release}' is reported and unknown"));
        }
    }
}

/// What runs and is wanted goes on running: a service that both the last target and the one
/// before it have is down for no longer than a stop and a start take (D-16, D-20, FD-14).
pub fn on_moment(state: &mut State) {
    if !state.is_calm {
        return;
    }
    let targets = accepted(state);
    let [former, now] = &targets[..] else {
        return;
    };
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for (uuid, name, service) in services(now) {
        let is_steady =
            |service: &ServiceTarget| service.running && !service.strategy.kills_first();
        let was = services(former).find(|(app, other, _)| *app == uuid && *other == name);
        let once =
            has_label(service, "once") || was.is_some_and(|(.., was)| has_label(was, "once"));
        let had = state.board.as_ref().is_some_and(|board| {
            board.look(|board| {
                board
                    .device
                    .apps
                    .get(uuid)
                    .is_some_and(|app| app.installed.is_some())
            })
        });
        let network_changes =
            was.is_some_and(|(.., was)| changes_network((former, was), (now, service), uuid));
        if once
            || network_changes
            || !had
            || !is_steady(service)
            || !was.is_some_and(|(.., was)| is_steady(was))
        {
            continue;
        }
        let key = (uuid.clone(), name.clone());
        let mut all = of_service(state, (uuid, name));
        if all.any(|found| found.status == ContainerStatus::Running) {
            up.push(key);
        } else if state.has_run.contains(&key) {
            down.push(key);
        }
    }
    let is_known = |key: &(AppUuid, ServiceName)| up.contains(key) || down.contains(key);
    state.has_run.retain(is_known);
    state.has_run.extend(up);
    state.down_since.retain(|key, _| down.contains(key));
    for key in down {
        let since = *state.down_since.entry(key.clone()).or_insert(state.now);
        if state.now - since > DOWN_MAX {
            state.violation(format!(
                "service '{}' of '{}' is down since {since:?}",
                key.1, key.0
            ));
            state.down_since.insert(key, state.now);
        }
    }
}

/// Whether a network that a service uses has to be made again, for which all go that use it.
fn changes_network(
    (former, was): (&DeviceTarget, &ServiceTarget),
    (now, service): (&DeviceTarget, &ServiceTarget),
    uuid: &AppUuid,
) -> bool {
    let networks = |target: &DeviceTarget| match &target.apps.get(uuid)?.release {
        AppRelease::Wanted(_, release) => Some(release.networks.clone()),
        _ => None,
    };
    let (before, after) = (networks(former), networks(now));
    let of = |all: &Option<Map<_, _>>, name| all.as_ref()?.get(name).cloned();
    let used = was.uses.networks.iter().chain(&service.uses.networks);
    used.into_iter()
        .any(|name| of(&before, name) != of(&after, name))
}

/// A stop and a start, and the looks between them.
const DOWN_MAX: Duration = Duration::from_secs(8);

fn services(
    target: &DeviceTarget,
) -> impl Iterator<Item = (&AppUuid, &ServiceName, &ServiceTarget)> {
    target.apps.iter().flat_map(|(uuid, app)| {
        let release = match &app.release {
            AppRelease::Wanted(_, release) => Some(release),
            AppRelease::None | AppRelease::Rejected(_) => None,
        };
        let services = release.into_iter().flat_map(|release| &release.services);
        services.map(move |(name, service)| (uuid, name, service))
    })
}

/// Whether a service behaves in this way.
fn has_label(service: &ServiceTarget, behaviour: &str) -> bool {
    let config = ServiceConfig::from_json(&service.config).unwrap();
    config
        .labels
        .get("sim")
        .is_some_and(|label| label == behaviour)
}

/// What is not as the target says when everything had its time; empty is good.
pub fn in_the_end(state: &State, target: &DeviceTarget) -> Vec<String> {
    let mut wrong = Vec::new();
    let board = state.board.clone().expect("an agent lives");
    let (status, reason) = board.look(|board| (board.status, board.reason.clone()));
    let fails = services(target).any(|(uuid, name, _)| match &target.apps[uuid].release {
        AppRelease::Wanted(_, release) => waits_for_ever(state, uuid, (name, release)),
        _ => false,
    });
    let expected = if fails {
        UpdateStatus::Aborted
    } else {
        UpdateStatus::Done
    };
    if status != expected {
        wrong.push(format!("the status is {}: {reason:?}", status.as_str()));
    }
    if state.quiet_since != Some((state.disk.writes, state.calls.len())) {
        wrong.push("something is done or written though nothing changes".to_owned());
    }
    if !state.dirs.ours.is_empty() {
        wrong.push(format!("locks are left: {:?}", state.dirs.ours));
    }
    for (name, found) in &state.engine.containers {
        if !found.is_foreign && wanted(target, found).is_none() {
            wrong.push(format!("container '{name}' is left"));
        }
    }
    for (uuid, app) in &target.apps {
        if let AppRelease::Wanted(release, target) = &app.release {
            check_app(state, uuid, target, &mut wrong);
            let report = state.backend.report.as_deref().unwrap_or(b"null");
            let report: Value = serde_json::from_slice(report).unwrap();
            let told = &report[DEVICE]["apps"][uuid.as_str()]["releases"][release.as_str()];
            let mut names = target.services.keys();
            let fails = names.any(|name| waits_for_ever(state, uuid, (name, target)));
            if !fails {
                check_documents(state, uuid, release, &mut wrong);
            }
            let expected = if fails { "aborted" } else { "done" };
            if told["update_status"] != expected {
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

/// Whether a service cannot start: the job it waits for has failed for good (GAP-20), or it
/// waits for such a one.
fn waits_for_ever(
    state: &State,
    uuid: &AppUuid,
    (name, release): (&ServiceName, &ReleaseTarget),
) -> bool {
    let wanted = &release.services[name];
    let mut all = of_service(state, (uuid, name));
    // What ran before it goes on running.
    if all.any(|one| one.status == ContainerStatus::Running && is_right(one, wanted)) {
        return false;
    }
    let required = release.services[name].depends_on.iter();
    let mut required = required.filter(|(_, how)| how.required);
    required.any(|(other, how)| {
        let failed = |one: &Container| {
            one.status == ContainerStatus::Stopped && one.exit_code.is_some_and(|code| code != 0)
        };
        let is_job = how.condition == Condition::Completed;
        is_job && of_service(state, (uuid, other)).any(failed)
            || waits_for_ever(state, uuid, (other, release))
    })
}

fn wanted<'t>(target: &'t DeviceTarget, found: &Found) -> Option<&'t ServiceTarget> {
    match &target.apps.get(&found.app)?.release {
        AppRelease::Wanted(_, release) => release.services.get(&found.container.service),
        _ => None,
    }
}

/// Of an app's releases only the one that runs is written down (state-engine 8.2).
fn check_documents(state: &State, uuid: &AppUuid, release: &str, wrong: &mut Vec<String>) {
    let prefix = format!("apps/{uuid}/releases/");
    let names = state.disk.documents.keys();
    let others = names
        .filter_map(|name| name.strip_prefix(&prefix)?.split('/').next())
        .filter(|name| *name != release);
    for other in others {
        wrong.push(format!(
            "release '{other}' of app '{uuid}' is still written down"
        ));
    }
}

fn check_app(state: &State, uuid: &AppUuid, release: &ReleaseTarget, wrong: &mut Vec<String>) {
    for (name, service) in &release.services {
        let mut all: Vec<_> = of_service(state, (uuid, name.as_str())).collect();
        let waits = waits_for_ever(state, uuid, (name, release));
        if waits && all.iter().any(|one| is_right(one, service)) {
            all.retain(|one| is_right(one, service));
        }
        let [one] = all[..] else {
            wrong.push(format!("service '{name}' has {} containers", all.len()));
            continue;
        };
        if !is_right(one, service) {
            wrong.push(format!("service '{name}' is not what was asked for"));
        }
        let may_run = service.running && !has_label(service, "once");
        let runs = one.status == ContainerStatus::Running;
        if runs && !may_run || !runs && may_run && !waits {
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
