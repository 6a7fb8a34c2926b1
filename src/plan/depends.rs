//! What a service waits for (target-state 2.10). Pure.

use super::rules::{PartName, Situation, Wait, has_to_run, stage, successor};
use super::stage::Step;
use crate::base::map::Map;
use crate::model::current::Container;
use crate::model::status::{ContainerStatus, Health};
use crate::model::target::{Condition, Dependency, ReleaseTarget, ServiceTarget};
use crate::model::{ReleaseUuid, ServiceName};

/// The first required dependency that is not met (target-state 2.10).
#[must_use]
pub(super) fn dependencies(
    situation: &Situation<'_>,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Option<Wait> {
    let required = target
        .depends_on
        .iter()
        .filter(|(_, dependency)| dependency.required);
    required
        .map(|(name, how)| dependency(situation, name, *how, release))
        .find(Option::is_some)?
}

fn dependency(
    situation: &Situation<'_>,
    name: &ServiceName,
    how: Dependency,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Option<Wait> {
    let pending = Some(Wait::Dependency(name.clone()));
    let failed = |why| Some(Wait::Failed(name.clone(), why));
    let Some(target) = release.1.services.get(name) else {
        return pending;
    };
    let Some((_, found)) = successor(situation, name, target, release) else {
        return pending;
    };
    let (status, exit) = (found.status, found.exit_code.unwrap_or(0));
    match how.condition {
        Condition::Started if status == ContainerStatus::Created => pending,
        Condition::Started => None,
        Condition::Healthy => match (found.health, status) {
            (Health::Healthy, _) => None,
            (Health::Unhealthy, _) => failed("is unhealthy"),
            (Health::None, ContainerStatus::Running) => failed("has no health check"),
            _ => pending,
        },
        Condition::Completed => match status {
            ContainerStatus::Stopped if exit == 0 => None,
            ContainerStatus::Stopped if !has_to_run(found, situation.marks) => {
                failed("ended with an error")
            }
            _ => pending,
        },
    }
}

/// Of the services whose next step is to stop, those that wait until another one has stopped
/// that depends on them, and which: compose's order, backwards. One that failed to stop is not
/// waited for (FD-20), and neither is anybody in a circle.
#[must_use]
pub(super) fn stop_later(situation: &Situation<'_>) -> Map<ServiceName, ServiceName> {
    let is_to_stop = |service: &ServiceName, target: Option<&ServiceTarget>| {
        // What has to be made first may need what others give up.
        let is_next = situation
            .release
            .zip(target)
            .is_none_or(|(release, target)| {
                !target.running && stage(situation, service, target, release).step != Step::Missing
            });
        is_next && !(situation.waits)(&PartName::Service(service))
    };
    let present = situation.present();
    let going = present.filter(|(service, target, _)| is_to_stop(service, *target));
    let stopping: Vec<_> = going
        .flat_map(|(.., all)| all.iter().map(|(_, found)| *found))
        .filter(|found| found.is_up() && !situation.marks.is_own(found))
        .collect();
    let mut later = Map::new();
    for found in &stopping {
        let needs = |other: &&&Container| {
            other.service != found.service && other.depends_on.contains_key(&found.service)
        };
        if let Some(first) = stopping.iter().find(needs) {
            later.insert(found.service.clone(), first.service.clone());
        }
    }
    let is_later = |found: &&Container| later.contains_key(&found.service);
    if stopping.iter().all(is_later) {
        later.clear();
    }
    later
}

/// The services, dependencies first; intake has refused cycles.
#[must_use]
pub(super) fn in_dependency_order(release: &ReleaseTarget) -> Vec<(&ServiceName, &ServiceTarget)> {
    let all: Vec<_> = release.services.iter().collect();
    let at = |name: &ServiceName| all.binary_search_by(|(known, _)| (*known).cmp(name)).ok();
    let mut order = Vec::with_capacity(all.len());
    let mut seen = vec![false; all.len()];
    // An explicit stack: a chain of a thousand services must not be one of calls.
    let mut stack = Vec::new();
    for first in 0..all.len() {
        stack.push((first, false));
        while let Some((number, expanded)) = stack.pop() {
            if expanded {
                order.push(all[number]);
            } else if !std::mem::replace(&mut seen[number], true) {
                stack.push((number, true));
                let needs = all[number].1.depends_on.keys().filter_map(at);
                stack.extend(needs.filter(|need| !seen[*need]).map(|need| (need, false)));
            }
        }
    }
    order
}
