//! What may be done now, and why the rest may not. Pure.
//!
//! The statements here are those of D-11, D-12, D-16, D-20, D-21 and D-37.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::limits::WINDOW_MAX;
use crate::model::current::{App, Container, Network, Restart};
use crate::model::status::ContainerStatus;
use crate::model::target::{ReleaseTarget, ServiceTarget};
use crate::model::{
    AppUuid, ImageUri, NetworkName, ReleaseUuid, ServiceConfig, ServiceName, VolumeName,
};

use super::depends::{dependencies, in_dependency_order};
use super::names::{is_right_name, network_name, volume_name};
use super::stage::{Stage, Step, network};

/// One app as it is and as it should be, and what is known around it.
#[derive(Clone, Copy)]
pub struct Situation<'a> {
    /// The app's uuid.
    pub uuid: &'a AppUuid,
    /// The app as it is.
    pub app: &'a App,
    /// The release that is to run; `None`: nothing is to run.
    pub release: Option<(&'a ReleaseUuid, &'a ReleaseTarget)>,
    /// The app is to go altogether, its volumes too.
    pub leaves: bool,
    /// Whether an image is there.
    pub has_image: &'a dyn Fn(&ImageUri) -> bool,
    /// Whether a part failed lately and has to wait.
    pub waits: &'a dyn Fn(&PartName<'_>) -> bool,
    /// Containers, by id, that someone else stopped.
    pub disturbed: &'a BTreeSet<Arc<str>>,
}

/// A part of an app by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartName<'a> {
    /// A network.
    Network(&'a NetworkName),
    /// A volume.
    Volume(&'a VolumeName),
    /// A service.
    Service(&'a ServiceName),
}

/// What may be done now, at most [`WINDOW_MAX`] parts of it, as the planner's
/// state before and after. A part that is missing on one side is made or removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Agenda {
    /// Networks: now, then.
    pub networks: BTreeMap<String, (Option<u8>, Option<u8>)>,
    /// Volumes by engine name: now, then.
    pub volumes: BTreeMap<String, (Option<u8>, Option<u8>)>,
    /// Services: now, then.
    pub services: BTreeMap<String, (Option<u8>, Option<u8>)>,
    /// Parts that are not there yet and may not go on, with the reason.
    pub waiting: BTreeMap<String, Wait>,
}

/// Why a part that is not at its target stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its image is not there yet.
    Image,
    /// Another image of the release is not there yet, and nothing old stops before (D-16).
    OtherImages,
    /// A network or volume it uses is not there yet.
    Storage,
    /// A dependency is not there yet.
    Dependency(ServiceName),
    /// A dependency failed for good; only a change of it helps.
    Failed(ServiceName, &'static str),
    /// It failed and waits for its next try.
    Retry,
    /// Something else has to go first.
    Order,
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Wait::Image => f.write_str("its image is not there yet"),
            Wait::OtherImages => {
                f.write_str("nothing old stops before all images of the release are there")
            }
            Wait::Storage => f.write_str("a network or volume it uses is not there yet"),
            Wait::Dependency(name) => write!(f, "it depends on '{name}'"),
            Wait::Failed(name, why) => write!(f, "it depends on '{name}', which {why}"),
            Wait::Retry => f.write_str("it failed and waits for its next try"),
            Wait::Order => f.write_str("something else has to go first"),
        }
    }
}

impl Agenda {
    /// Nothing may be done now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.volumes.is_empty() && self.services.is_empty()
    }

    /// The target is reached.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        self.is_empty() && self.waiting.is_empty()
    }

    fn len(&self) -> usize {
        self.networks.len() + self.volumes.len() + self.services.len()
    }

    fn is_full(&self) -> bool {
        self.len() >= WINDOW_MAX
    }
}

/// Says what may be done now for one app.
#[must_use]
pub fn agenda(situation: &Situation<'_>) -> Agenda {
    let mut agenda = Agenda::default();
    add_networks(situation, &mut agenda);
    add_volumes(situation, &mut agenda);
    // Containers are made only when what they hang on is there.
    add_leaving(situation, &mut agenda);
    add_services(situation, &mut agenda);
    agenda
}

// ---- networks

fn is_stale(network: &Network, wanted: &crate::model::NetworkConfig) -> bool {
    network.config.as_ref() != Some(wanted)
}

fn users(app: &App, network: &Network) -> bool {
    app.containers
        .values()
        .any(|container| container.networks.contains(&network.oci_name))
}

fn add_networks(situation: &Situation<'_>, agenda: &mut Agenda) {
    let wanted = situation.release.map(|(_, release)| &release.networks);
    for (name, config) in wanted.into_iter().flatten() {
        let change = match situation.app.networks.get(name) {
            None => (None, Some(network::RIGHT)),
            Some(found) if !is_stale(found, config) => continue,
            Some(found) if users(situation.app, found) => {
                agenda
                    .waiting
                    .insert(format!("network '{name}'"), Wait::Order);
                continue;
            }
            Some(_) => (Some(network::STALE), Some(network::RIGHT)),
        };
        add(situation, agenda, PartName::Network(name), change);
    }
    for (name, found) in &situation.app.networks {
        if wanted.is_some_and(|wanted| wanted.contains_key(name)) {
            continue;
        }
        if users(situation.app, found) {
            agenda
                .waiting
                .insert(format!("network '{name}'"), Wait::Order);
        } else {
            add(
                situation,
                agenda,
                PartName::Network(name),
                (Some(network::STALE), None),
            );
        }
    }
}

fn add(
    situation: &Situation<'_>,
    agenda: &mut Agenda,
    part: PartName<'_>,
    change: (Option<u8>, Option<u8>),
) {
    let (kind, name) = match part {
        PartName::Network(name) => ("network", name.as_str()),
        PartName::Volume(name) => ("volume", name.as_str()),
        PartName::Service(name) => ("service", name.as_str()),
    };
    if (situation.waits)(&part) {
        agenda
            .waiting
            .insert(format!("{kind} '{name}'"), Wait::Retry);
    } else if agenda.is_full() {
        agenda
            .waiting
            .insert(format!("{kind} '{name}'"), Wait::Order);
    } else {
        let list = match part {
            PartName::Network(_) => &mut agenda.networks,
            PartName::Volume(_) => &mut agenda.volumes,
            PartName::Service(_) => &mut agenda.services,
        };
        list.insert(name.to_owned(), change);
    }
}

// ---- volumes

fn add_volumes(situation: &Situation<'_>, agenda: &mut Agenda) {
    if let Some((_, release)) = situation.release {
        for (name, config) in &release.volumes {
            if !volume_name(situation.uuid, situation.app, name, config).1 {
                add(
                    situation,
                    agenda,
                    PartName::Volume(name),
                    (None, Some(super::stage::THERE)),
                );
            }
        }
    }
    // Data goes only with its app, and only after its last user (D-12).
    if situation.leaves && situation.app.containers.is_empty() {
        for volume in situation.app.volumes.values() {
            let change = (Some(super::stage::THERE), None);
            add(situation, agenda, PartName::Volume(&volume.name), change);
        }
    }
}

// ---- services

/// Whether a container is what the target asks for (D-11).
#[must_use]
pub fn matches(
    situation: &Situation<'_>,
    container: &Container,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> bool {
    matches_alone(situation, container, target, release.1).is_some_and(|config| {
        config.shared_services().all(|name| {
            let lender = lender(situation, name, release);
            lender.is_some_and(|(_, lender)| container.lenders.contains(&lender.id))
        })
    })
}

/// As [`matches`], whoever lends it a namespace; what it was asked to be.
fn matches_alone(
    situation: &Situation<'_>,
    container: &Container,
    target: &ServiceTarget,
    release: &ReleaseTarget,
) -> Option<ServiceConfig> {
    let identity = container.identity.as_ref()?;
    let same = container.status != ContainerStatus::Dead
        && identity.config == target.config
        && identity.image.same_artifact(&target.image);
    // What is stored in the model was written by intake: it parses.
    let config = same.then(|| ServiceConfig::from_json(&target.config).ok())??;
    has_its_storage(situation, container, &config, release).then_some(config)
}

/// Whether it hangs on the networks and volumes that its target means today.
fn has_its_storage(
    situation: &Situation<'_>,
    container: &Container,
    config: &ServiceConfig,
    release: &ReleaseTarget,
) -> bool {
    let networks = config.used_networks().all(|name| {
        let wanted = network_name(situation.uuid, name);
        let found = situation.app.networks.get(name);
        let right = found.zip(release.networks.get(name));
        right.is_some_and(|(found, wanted)| !is_stale(found, wanted))
            && container
                .networks
                .iter()
                .any(|attached| **attached == *wanted)
    });
    networks
        && config.used_volumes().all(|name| {
            let Some(wanted) = release.volumes.get(name) else {
                return false;
            };
            let (oci_name, there) = volume_name(situation.uuid, situation.app, name, wanted);
            there
                && container
                    .volumes
                    .iter()
                    .any(|mounted| **mounted == *oci_name)
        })
}

/// The container that the target asks for, if there is one, and its name.
#[must_use]
pub fn successor<'a>(
    situation: &Situation<'a>,
    service: &ServiceName,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Option<(&'a Arc<str>, &'a Container)> {
    let good = |found: &Container| matches(situation, found, target, release);
    best(situation, service, release.0, good)
}

/// The container of a service that lends others a namespace, if it is there. Whether its
/// own lenders are right is looked at when it is that service's turn.
#[must_use]
pub fn lender<'a>(
    situation: &Situation<'a>,
    service: &str,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Option<(&'a Arc<str>, &'a Container)> {
    let (name, target) = release.1.services.get_key_value(service)?;
    let good = |found: &Container| matches_alone(situation, found, target, release.1).is_some();
    best(situation, name, release.0, good)
}

fn best<'a>(
    situation: &Situation<'a>,
    service: &ServiceName,
    release: &ReleaseUuid,
    good: impl Fn(&Container) -> bool,
) -> Option<(&'a Arc<str>, &'a Container)> {
    let all = situation.app.containers.iter();
    let good = all.filter(|(_, found)| found.service == *service && good(found));
    // Of several the one under its right name counts, then the running one.
    good.max_by_key(|(name, found)| {
        let right = is_right_name(name, service, release, situation.uuid);
        (right, found.status == ContainerStatus::Running)
    })
}

/// Whether the engine's own policy, or D-21, says that it has to run.
pub(super) fn has_to_run(container: &Container, disturbed: &BTreeSet<Arc<str>>) -> bool {
    match container.status {
        ContainerStatus::Created | ContainerStatus::Dead => true,
        ContainerStatus::Running => false,
        ContainerStatus::Stopping | ContainerStatus::Stopped => {
            disturbed.contains(&container.id)
                || match container.restart {
                    Restart::Always | Restart::UnlessStopped => true,
                    Restart::OnFailure(tries_left) => {
                        tries_left && container.exit_code.unwrap_or(0) != 0
                    }
                    Restart::No => false,
                }
        }
    }
}

/// Whether the container does what it should.
fn is_settled(
    container: &Container,
    target: &ServiceTarget,
    disturbed: &BTreeSet<Arc<str>>,
) -> bool {
    if target.running {
        !has_to_run(container, disturbed)
    } else {
        container.status != ContainerStatus::Running
    }
}

/// How far a service is.
#[must_use]
pub fn stage(
    situation: &Situation<'_>,
    service: &ServiceName,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
) -> Stage {
    let good = successor(situation, service, target, release);
    let mut others = situation.app.containers.values().filter(|found| {
        found.service == *service && good.is_none_or(|(_, good)| good.id != found.id)
    });
    let step = match good {
        None => Step::Missing,
        Some((name, good)) => {
            let right = is_right_name(name, service, release.0, situation.uuid);
            match (right, is_settled(good, target, situation.disturbed)) {
                (true, true) => Step::Settled,
                (true, false) => Step::Ready,
                (false, true) => Step::MisnamedSettled,
                (false, false) => Step::Misnamed,
            }
        }
    };
    let all = others.clone();
    Stage {
        step,
        others: others.next().is_some(),
        others_run: all
            .into_iter()
            .any(|found| found.status == ContainerStatus::Running),
    }
}

fn add_services(situation: &Situation<'_>, agenda: &mut Agenda) {
    let Some((uuid, release)) = situation.release else {
        return;
    };
    let all_images = release
        .services
        .values()
        .all(|service| (situation.has_image)(&service.image));
    for service in in_dependency_order(release) {
        let target = &release.services[service];
        let stage = stage(situation, service, target, (uuid, release));
        if stage == Stage::DONE {
            continue;
        }
        match goal(
            situation,
            service,
            target,
            (uuid, release),
            (stage, all_images),
        ) {
            Ok((to, held_back)) => {
                let change = (Some(stage.to_byte()), to.map(Stage::to_byte));
                let before = agenda.len();
                add(situation, agenda, PartName::Service(service), change);
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

/// How far a service may go now (`None`: its containers have to go first), and
/// what holds it there; or why it may not move.
fn goal(
    situation: &Situation<'_>,
    service: &ServiceName,
    target: &ServiceTarget,
    release: (&ReleaseUuid, &ReleaseTarget),
    (stage, all_images): (Stage, bool),
) -> Result<(Option<Stage>, Option<Wait>), Wait> {
    let is_settled = matches!(stage.step, Step::Settled | Step::MisnamedSettled);
    let good = successor(situation, service, target, release).map(|(_, good)| good.status);
    let has_run = good.is_some_and(|status| status != ContainerStatus::Created);
    if !all_images && !is_settled && !has_run && old_has_to_run(situation, service, stage) {
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
        if !(situation.has_image)(&target.image) {
            return Err(Wait::Image);
        }
        // What is stored in the model was written by intake: it parses.
        let Ok(config) = ServiceConfig::from_json(&target.config) else {
            return Err(Wait::Storage);
        };
        if !storage_is_there(situation, &config, release.1) {
            return Err(Wait::Storage);
        }
        let mut lenders = config.shared_services();
        if let Some(missing) = lenders.find(|name| lender(situation, name, release).is_none()) {
            return Err(Wait::Dependency(missing.into()));
        }
    }
    // Already doing what it should: what is left is its name and the remains of others.
    if is_settled {
        return Ok((Some(Stage::DONE), None));
    }
    let ready = Stage {
        step: Step::Ready,
        ..stage
    };
    let held_back = if stage.others_run && !all_images {
        Some(Wait::OtherImages)
    } else {
        dependencies(situation, target, release)
    };
    match held_back {
        None => Ok((Some(Stage::DONE), None)),
        Some(wait) if stage == ready => Err(wait),
        Some(wait) => Ok((Some(ready), Some(wait))),
    }
}

/// Whether a predecessor ended or was stopped behind our back, and nothing of the service runs.
fn old_has_to_run(situation: &Situation<'_>, service: &ServiceName, stage: Stage) -> bool {
    let mut mine = situation
        .app
        .containers
        .values()
        .filter(|found| found.service == *service);
    stage.others
        && !stage.others_run
        && mine.any(|found| {
            found.status == ContainerStatus::Stopped && has_to_run(found, situation.disturbed)
        })
}

fn hangs_on_stale_network(
    situation: &Situation<'_>,
    service: &ServiceName,
    release: &ReleaseTarget,
) -> bool {
    let stale = |(name, found): (&NetworkName, &Network)| {
        let wanted = release.networks.get(name);
        (wanted.is_some_and(|wanted| is_stale(found, wanted))).then(|| found.oci_name.clone())
    };
    let stale: Vec<_> = situation.app.networks.iter().filter_map(stale).collect();
    let mine = situation
        .app
        .containers
        .values()
        .filter(|found| found.service == *service);
    mine.flat_map(|found| &found.networks)
        .any(|attached| stale.contains(attached))
}

fn storage_is_there(
    situation: &Situation<'_>,
    config: &ServiceConfig,
    release: &ReleaseTarget,
) -> bool {
    let networks = config.used_networks().all(|name| {
        let wanted = release.networks.get(name);
        let found = situation.app.networks.get(name);
        found
            .zip(wanted)
            .is_some_and(|(found, wanted)| !is_stale(found, wanted))
    });
    networks
        && config.used_volumes().all(|name| {
            let wanted = release.volumes.get(name);
            wanted.is_some_and(|wanted| volume_name(situation.uuid, situation.app, name, wanted).1)
        })
}

/// Services that have containers and are not in the target.
fn add_leaving(situation: &Situation<'_>, agenda: &mut Agenda) {
    let wanted = situation.release.map(|(_, release)| release);
    let has_image = |service: &ServiceTarget| (situation.has_image)(&service.image);
    let all_images = wanted.is_none_or(|release| release.services.values().all(has_image));
    let mut leaving = BTreeMap::new();
    for container in situation.app.containers.values() {
        if wanted.is_none_or(|release| !release.services.contains_key(&container.service)) {
            let runs: &mut bool = leaving.entry(&container.service).or_default();
            *runs |= container.status == ContainerStatus::Running;
        }
    }
    for (service, runs) in leaving {
        if runs && !all_images {
            agenda
                .waiting
                .insert(format!("service '{service}'"), Wait::OtherImages);
            continue;
        }
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
    }
}
