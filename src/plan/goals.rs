//! How far each service may go now. Pure.
//!
//! The statements here are those of D-16, D-20, FD-06 and the update strategies
//! (target-state 7.1).

use super::depends::{dependencies, in_dependency_order};
use super::names::{container_name, container_name_long};
use super::rules::{
    Agenda, PartName, Situation, Wait, add, has_to_run, is_stale, lender, stage, successor,
};
use super::stage::{Stage, Step};
use crate::base::map::Map;
use crate::model::current::Network;
use crate::model::status::ContainerStatus;
use crate::model::target::{ReleaseTarget, ServiceTarget, Strategy, Uses};
use crate::model::{NetworkName, ReleaseUuid, ServiceName};

/// Services of the release, dependencies first.
pub(super) fn add_services(
    situation: &Situation<'_>,
    later: &Map<ServiceName, ServiceName>,
    all_images: bool,
    agenda: &mut Agenda,
) {
    let Some((uuid, release)) = situation.release else {
        return;
    };
    for (service, target) in in_dependency_order(release) {
        let stage = stage(situation, service, target, (uuid, release));
        if stage == Stage::DONE {
            continue;
        }
        if agenda.is_full() && !situation.reasons {
            // It has its turn when there is room, with all that follow.
            agenda
                .waiting
                .insert(format!("service '{service}'"), Wait::Order);
            return;
        }
        if let Some(first) = later.get(service) {
            let wait = Wait::Dependent(first.clone());
            agenda.waiting.insert(format!("service '{service}'"), wait);
            continue;
        }
        let goal = goal(
            situation,
            service,
            target,
            (uuid, release),
            (stage, all_images),
        );
        let needed = agenda.needs_locks;
        let goal =
            goal.and_then(|goal| under_locks(situation, service, (uuid, stage), goal, agenda));
        match goal {
            Ok((to, held_back)) => {
                let change = (Some(stage.to_byte()), to.map(Stage::to_byte));
                let before = agenda.len();
                add(situation, agenda, PartName::Service(service), change);
                if agenda.len() == before {
                    // It waits by itself (D-19): it needs no locks for that.
                    agenda.needs_locks = needed;
                }
                if let (Some(wait), true) = (held_back, agenda.len() > before) {
                    agenda.waiting.insert(format!("service '{service}'"), wait);
                }
            }
            Err(wait) => {
                agenda.waiting.insert(format!("service '{service}'"), wait);
            }
        }
    }
}

/// Whether every image of the release is there, but for those that are not downloaded
/// before an old container is gone (D-16).
pub(super) fn all_images(situation: &Situation<'_>) -> bool {
    let wanted = situation.release.into_iter();
    let mut wanted = wanted.flat_map(|(_, release)| release.services.values());
    wanted.all(|service| service.strategy.kills_first() || (situation.has_image)(&service.image))
}

/// How far a service may go (`None`: its containers have to go first), and what holds it
/// there.
type Goal = (Option<Stage>, Option<Wait>);

/// The same under update locks: whoever holds one keeps every container of the app from
/// being stopped, renamed or removed, and nothing else (FD-06).
fn under_locks(
    situation: &Situation<'_>,
    service: &ServiceName,
    (release, stage): (&ReleaseUuid, Stage),
    (to, held_back): Goal,
    agenda: &mut Agenda,
) -> Result<Goal, Wait> {
    let has = |name: String| situation.app.containers.contains_key(&*name);
    let takes_name = stage.step == Step::Missing
        && (has(container_name(service, release))
            || has(container_name_long(service, release, situation.uuid)));
    let touches = to.is_none_or(|to| {
        let revives = to.others_run && !stage.others_run;
        let renames = matches!(stage.step, Step::Misnamed | Step::MisnamedSettled);
        let stops = stage.others || runs(situation, service);
        !revives && (takes_name || renames || to.step == Step::Settled && stops)
    });
    let Some(path) = situation.locked.filter(|_| touches) else {
        agenda.needs_locks |= touches && runs(situation, service);
        return Ok((to, held_back));
    };
    let wait = Wait::Locked(path.into());
    if to.is_none() || stage.step != Step::Missing || takes_name {
        return Err(wait);
    }
    Ok((
        Some(Stage {
            step: Step::Ready,
            ..stage
        }),
        Some(wait),
    ))
}

/// Whether a container of the service runs.
fn runs(situation: &Situation<'_>, service: &ServiceName) -> bool {
    let mut all = situation.containers.of(service).iter();
    all.any(|(_, found)| found.is_up())
}

/// How far a service may go now, whoever holds locks; or why it may not move.
fn goal(
    situation: &Situation<'_>,
    service: &ServiceName,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
    (stage, all_images): (Stage, bool),
) -> Result<Goal, Wait> {
    let makes_room = target.strategy.kills_first() && stage.step == Step::Missing && stage.others;
    if makes_room && !(situation.has_image)(&target.image) {
        return goes_first(situation, target, release.1);
    }
    let is_settled = matches!(stage.step, Step::Settled | Step::MisnamedSettled);
    let good = successor(situation, service, target, release).map(|(_, good)| good.status);
    let has_run = good.is_some_and(|status| status != ContainerStatus::Created);
    let is_held = target.running && !all_images && !is_settled && !has_run;
    if is_held && old_has_to_run(situation, service, stage) {
        // The update has not begun for this service: what ran before goes on running.
        let revived = Stage {
            others_run: true,
            ..stage
        };
        return Ok((Some(revived), Some(Wait::OtherImages)));
    }
    if stage.step == Step::Missing {
        if hangs_on_stale_network(situation, service, release.1) {
            // The network cannot change while this container is attached to it.
            return if all_images {
                Ok((None, None))
            } else {
                Err(Wait::OtherImages)
            };
        }
        can_be_made(situation, target, release)?;
    }
    // Already doing what it should: what is left is its name and the remains of others.
    let hands_over = matches!(target.strategy, Strategy::HandOver(_)) && stage.others_run;
    if is_settled {
        if hands_over && !(situation.handed_over)(service) {
            return Err(Wait::HandOver);
        }
        return Ok((Some(Stage::DONE), None));
    }
    let ready = Stage {
        step: Step::Ready,
        ..stage
    };
    let is_old = stage.others_run || !has_run && has_finished(situation, service);
    let held_back =
        if target.running && situation.marks.of_legacy(situation.uuid, service).is_some() {
            // Two of a service never run at once, whoever starts them (D-08).
            Some(Wait::Legacy)
        } else if is_old && !all_images {
            Some(Wait::OtherImages)
        } else if target.running {
            dependencies(situation, target, release)
        } else {
            // Nobody is needed to stop.
            None
        };
    let beside = Stage {
        step: Step::Settled,
        ..stage
    };
    match held_back {
        None if hands_over && target.running => Ok((Some(beside), Some(Wait::HandOver))),
        None => Ok((Some(Stage::DONE), None)),
        Some(wait) if stage == ready => Err(wait),
        Some(wait) => Ok((Some(ready), Some(wait))),
    }
}

/// What a container of the service lacks before it can be made.
fn can_be_made(
    situation: &Situation<'_>,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Result<(), Wait> {
    if !(situation.has_image)(&target.image) {
        return Err(Wait::Image);
    }
    if !storage_is_there(situation, &target.uses, release.1) {
        return Err(Wait::Storage);
    }
    let mut lenders = target.uses.lenders.iter();
    match lenders.find(|name| lender(situation, name, release).is_none()) {
        Some(missing) => Err(Wait::Dependency(missing.clone())),
        None => Ok(()),
    }
}

/// The old containers of a service whose strategy is to go before the new image comes: when
/// what it depends on is ready to start (target-state 7.1).
fn goes_first(
    situation: &Situation<'_>,
    target: &ServiceTarget,
    release: &ReleaseTarget,
) -> Result<Goal, Wait> {
    let unready = target.depends_on.keys().find(|name| {
        let other = release.services.get(*name);
        other.is_some_and(|other| {
            !other.strategy.kills_first() && !(situation.has_image)(&other.image)
        })
    });
    match unready {
        Some(name) => Err(Wait::Dependency(name.clone())),
        None => Ok((None, None)),
    }
}

/// Whether a predecessor ended or was stopped behind our back, and nothing of the service runs.
fn old_has_to_run(situation: &Situation<'_>, service: &ServiceName, stage: Stage) -> bool {
    let mut mine = situation.containers.of(service).iter();
    stage.others
        && !stage.others_run
        && mine.any(|(_, found)| {
            found.status == ContainerStatus::Stopped && has_to_run(found, situation.marks)
        })
}

/// Whether a predecessor has done what it was to do: its update waits like that of what runs.
fn has_finished(situation: &Situation<'_>, service: &ServiceName) -> bool {
    let mut all = situation.containers.of(service).iter();
    all.any(|(_, found)| {
        found.status == ContainerStatus::Stopped && !has_to_run(found, situation.marks)
    })
}

fn hangs_on_stale_network(
    situation: &Situation<'_>,
    service: &ServiceName,
    release: &ReleaseTarget,
) -> bool {
    let stale = |(name, found): (&NetworkName, &Network)| {
        let wanted = release.networks.get(name);
        let is_stale = wanted.is_some_and(|wanted| is_stale(situation, found, wanted));
        is_stale.then(|| found.oci_name.clone())
    };
    let stale: Vec<_> = situation.app.networks.iter().filter_map(stale).collect();
    let mine = situation.containers.of(service).iter();
    mine.flat_map(|(_, found)| &found.networks)
        .any(|attached| stale.contains(attached))
}

fn storage_is_there(situation: &Situation<'_>, uses: &Uses, release: &ReleaseTarget) -> bool {
    let networks = uses.networks.iter().all(|name| {
        let wanted = release.networks.get(name);
        let found = situation.app.networks.get(name);
        found
            .zip(wanted)
            .is_some_and(|(found, wanted)| !is_stale(situation, found, wanted))
    });
    networks
        && uses.volumes.iter().all(|name| {
            let wanted = release.volumes.get(name);
            wanted.is_some_and(|wanted| situation.volume_name(name, wanted).1)
        })
}

/// Services that have containers and are not in the target.
pub(super) fn add_leaving(
    situation: &Situation<'_>,
    later: &Map<ServiceName, ServiceName>,
    all_images: bool,
    agenda: &mut Agenda,
) {
    for (service, target, all) in situation.present() {
        let is_wanted = target.is_some();
        let all = all
            .iter()
            .filter(|(_, found)| !situation.marks.is_own(found));
        let mut leaving = all.peekable();
        if is_wanted || leaving.peek().is_none() {
            continue;
        }
        let runs = leaving.any(|(_, found)| found.is_up());
        if runs && !all_images {
            agenda
                .waiting
                .insert(format!("service '{service}'"), Wait::OtherImages);
            continue;
        }
        if let Some(path) = situation.locked {
            let wait = Wait::Locked(path.into());
            agenda.waiting.insert(format!("service '{service}'"), wait);
            continue;
        }
        if let Some(first) = later.get(service) {
            let wait = Wait::Dependent(first.clone());
            agenda.waiting.insert(format!("service '{service}'"), wait);
            continue;
        }
        let before = agenda.len();
        let now = Stage {
            step: Step::Missing,
            others: true,
            others_run: runs,
        };
        add(
            situation,
            agenda,
            PartName::Service(service),
            (Some(now.to_byte()), None),
        );
        agenda.needs_locks |= runs && agenda.len() > before;
    }
}
