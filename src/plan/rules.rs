//! What may be done now, and why the rest may not. Pure.
//!
//! The statements here are those of D-11, D-12, D-16, D-20, D-21 and D-37.

use std::sync::Arc;

use crate::base::map::Map;
use crate::limits::WINDOW_MAX;
use crate::model::current::{App, Container, Network, Restart};
use crate::model::status::ContainerStatus;
use crate::model::target::{ReleaseTarget, ServiceTarget, Uses};
use crate::model::{AppUuid, ImageUri, NetworkName, ReleaseUuid, ServiceName, VolumeName};

use super::board::Marks;
use super::depends::stop_later;
use super::goals::{add_leaving, add_services, all_images};
use super::names::{is_right_name, network_name, volume_name};
use super::stage::{Stage, Step, network};

/// The containers of an app, those of one service together: an app of hundreds of services
/// asks for those of each several times.
pub struct ByService<'a>(Vec<Named<'a>>);

/// A container, and its name on the engine.
type Named<'a> = (&'a Arc<str>, &'a Container);

impl<'a> ByService<'a> {
    /// Those of an app.
    #[must_use]
    pub fn new(app: &'a App) -> ByService<'a> {
        let mut all: Vec<_> = app.containers.iter().collect();
        // Nearly so already: a container's name begins with that of its service.
        all.sort_by(|(_, one), (_, other)| one.service.cmp(&other.service));
        ByService(all)
    }

    /// Those of one service, with their names.
    pub(super) fn of(&self, service: &ServiceName) -> &[Named<'a>] {
        let begin = self
            .0
            .partition_point(|(_, found)| found.service < *service);
        let rest = &self.0[begin..];
        let its = rest
            .iter()
            .take_while(|(_, found)| found.service == *service);
        &rest[..its.count()]
    }

    /// Each service that has some, and those.
    fn services(&self) -> impl Iterator<Item = (&'a ServiceName, &[Named<'a>])> {
        let groups = self
            .0
            .chunk_by(|(_, one), (_, other)| one.service == other.service);
        groups.filter_map(|all| Some((&all.first()?.1.service, all)))
    }
}

/// One app as it is and as it should be, and what is known around it.
pub struct Situation<'a> {
    /// The app's uuid.
    pub uuid: &'a AppUuid,
    /// The app as it is.
    pub app: &'a App,
    /// Its containers.
    pub containers: ByService<'a>,
    /// The release that is to run; `None`: nothing is to run.
    pub release: Option<(&'a ReleaseUuid, &'a ReleaseTarget)>,
    /// The app is to go altogether, its volumes too.
    pub leaves: bool,
    /// Whether an image is there.
    pub has_image: &'a dyn Fn(&ImageUri) -> bool,
    /// Whether a part failed lately and has to wait.
    pub waits: &'a dyn Fn(&PartName<'_>) -> bool,
    /// What is known about containers beside what the engine says.
    pub marks: &'a Marks,
    /// The update lock of the app that somebody else holds.
    pub locked: Option<&'a str>,
    /// Whether the new container of a service said that it took over, or had its time.
    pub handed_over: &'a dyn Fn(&ServiceName) -> bool,
    /// Whether the reason of each part that has to wait is asked for. Without it the agenda ends
    /// where it is full.
    pub reasons: bool,
}

impl<'a> Situation<'a> {
    /// Each service that has containers, with what is wanted of it.
    pub(super) fn present(
        &self,
    ) -> impl Iterator<Item = (&'a ServiceName, Option<&'a ServiceTarget>, &[Named<'a>])> {
        let wanted = self.release.into_iter();
        let mut wanted = wanted.flat_map(|(_, release)| &release.services).peekable();
        // Both go by name.
        self.containers.services().map(move |(service, all)| {
            while wanted.next_if(|(known, _)| *known < service).is_some() {}
            let target = wanted.next_if(|(known, _)| *known == service);
            (service, target.map(|(_, target)| target), all)
        })
    }

    /// The engine name of a volume, and whether it is there.
    pub(super) fn volume_name(
        &self,
        name: &VolumeName,
        config: &crate::model::VolumeConfig,
    ) -> (String, bool) {
        volume_name(self.uuid, self.app, name, config, self.marks.is_beside)
    }

    /// An app beside a release that is to run, with nothing in the way.
    #[must_use]
    pub fn plain(
        (uuid, app): (&'a AppUuid, &'a App),
        release: Option<(&'a ReleaseUuid, &'a ReleaseTarget)>,
        marks: &'a Marks,
    ) -> Situation<'a> {
        Situation {
            uuid,
            app,
            containers: ByService::new(app),
            release,
            leaves: false,
            has_image: &|_| true,
            waits: &|_| false,
            marks,
            locked: None,
            handed_over: &|_| true,
            reasons: false,
        }
    }
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
    pub networks: Map<String, (Option<u8>, Option<u8>)>,
    /// Volumes by engine name: now, then.
    pub volumes: Map<String, (Option<u8>, Option<u8>)>,
    /// Services: now, then.
    pub services: Map<String, (Option<u8>, Option<u8>)>,
    /// Parts that are not there yet and may not go on, with the reason.
    pub waiting: Map<String, Wait>,
    /// Something of it stops, renames or removes what runs: not without update locks.
    pub needs_locks: bool,
}

/// Why a part that is not at its target stays where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// Its image is not there yet.
    Image,
    /// Another image of the release is not there yet, and nothing old stops before (D-16).
    OtherImages,
    /// An image of an app that takes its app's place is not there yet (GAP-10).
    Move,
    /// A network or volume it uses is not there yet.
    Storage,
    /// A dependency is not there yet.
    Dependency(ServiceName),
    /// What depends on it stops first.
    Dependent(ServiceName),
    /// A dependency failed for good; only a change of it helps.
    Failed(ServiceName, &'static str),
    /// It failed and waits for its next try.
    Retry,
    /// Somebody holds the update lock of this path.
    Locked(Box<str>),
    /// Its new container has not said yet that it took over.
    HandOver,
    /// The legacy supervisor has not removed its container yet (D-08).
    Legacy,
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
            Wait::Move => f.write_str("it runs until the images of what takes its place are there"),
            Wait::Storage => f.write_str("a network or volume it uses is not there yet"),
            Wait::Dependency(name) => write!(f, "it depends on '{name}'"),
            Wait::Dependent(name) => write!(f, "'{name}' depends on it and stops first"),
            Wait::Failed(name, why) => write!(f, "it depends on '{name}', which {why}"),
            Wait::Retry => f.write_str("it failed and waits for its next try"),
            Wait::Locked(path) if **path == *super::host::UPDATE => {
                write!(f, "{path} is under way")
            }
            Wait::Locked(path) => write!(f, "update lock '{path}' is held"),
            Wait::HandOver => f.write_str("its new container has not taken over yet"),
            Wait::Legacy => {
                f.write_str("the legacy supervisor has not removed its container of it yet")
            }
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

    pub(super) fn len(&self) -> usize {
        self.networks.len() + self.volumes.len() + self.services.len()
    }

    pub(super) fn is_full(&self) -> bool {
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
    let later = stop_later(situation);
    let all_images = all_images(situation);
    add_leaving(situation, &later, all_images, &mut agenda);
    add_services(situation, &later, all_images, &mut agenda);
    agenda
}

// ---- networks

/// Whether a network is another one than is wanted. That of the agent's own container is
/// right as it is: it could be made again only without that (FD-41).
pub(super) fn is_stale(
    situation: &Situation<'_>,
    network: &Network,
    wanted: &crate::model::NetworkConfig,
) -> bool {
    network.config.as_ref() != Some(wanted) && !is_own_network(situation, network)
}

fn is_own_network(situation: &Situation<'_>, network: &Network) -> bool {
    let mut all = situation.app.containers.values();
    all.any(|found| situation.marks.is_own(found) && found.networks.contains(&network.oci_name))
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
            Some(found) if !is_stale(situation, found, config) => continue,
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
        let is_wanted = wanted.is_some_and(|wanted| wanted.contains_key(name));
        if is_wanted || is_own_network(situation, found) {
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

/// Puts a change on the agenda, unless its part waits or the agenda is full.
pub(super) fn add(
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
            if !situation.volume_name(name, config).1 {
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
    // Beside a legacy supervisor it is that one's to remove (D-08).
    let is_ours = situation.leaves && !situation.marks.is_beside;
    if is_ours && situation.app.containers.is_empty() {
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
    matches_alone(situation, container, target, release.1)
        && target.uses.lenders.iter().all(|name| {
            let lender = lender(situation, name, release);
            lender.is_some_and(|(_, lender)| container.lenders.contains(&lender.id))
        })
}

/// As [`matches`], whoever lends it a namespace.
fn matches_alone(
    situation: &Situation<'_>,
    container: &Container,
    target: &ServiceTarget,
    release: &ReleaseTarget,
) -> bool {
    let asked = container.identity.as_ref();
    asked.is_some_and(|identity| {
        identity.config == target.config && identity.image.same_artifact(&target.image)
    }) && container.status != ContainerStatus::Dead
        && !situation.marks.drifted.contains(&container.id)
        && has_its_storage(situation, container, &target.uses, release)
}

/// Whether it hangs on the networks and volumes that its target means today.
fn has_its_storage(
    situation: &Situation<'_>,
    container: &Container,
    uses: &Uses,
    release: &ReleaseTarget,
) -> bool {
    let networks = uses.networks.iter().all(|name| {
        let wanted = network_name(situation.uuid, name);
        let found = situation.app.networks.get(name);
        let right = found.zip(release.networks.get(name));
        right.is_some_and(|(found, wanted)| !is_stale(situation, found, wanted))
            && container
                .networks
                .iter()
                .any(|attached| **attached == *wanted)
    });
    networks
        && uses.volumes.iter().all(|name| {
            let Some(wanted) = release.volumes.get(name) else {
                return false;
            };
            let (oci_name, there) = situation.volume_name(name, wanted);
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
    let good = |found: &Container| matches_alone(situation, found, target, release.1);
    best(situation, name, release.0, good)
}

fn best<'a>(
    situation: &Situation<'a>,
    service: &ServiceName,
    release: &ReleaseUuid,
    good: impl Fn(&Container) -> bool,
) -> Option<(&'a Arc<str>, &'a Container)> {
    let all = situation.containers.of(service);
    let mut own = all
        .iter()
        .filter(|(_, found)| situation.marks.is_own(found));
    if let Some(own) = own.next() {
        return Some(*own);
    }
    let mut good = all.iter().copied().filter(|(_, found)| good(found));
    let first = good.next()?;
    // Of several the one under its right name counts, then the running one.
    let weight = |(name, found): &(&Arc<str>, &Container)| {
        let right = is_right_name(name, service, release, situation.uuid);
        (right, found.is_up())
    };
    Some(good.fold(first, |best, next| {
        if weight(&next) >= weight(&best) {
            next
        } else {
            best
        }
    }))
}

/// Whether the engine's own policy, or D-21, says that it has to run.
pub(super) fn has_to_run(container: &Container, marks: &Marks) -> bool {
    if container.is_paused {
        return true;
    }
    match container.status {
        ContainerStatus::Created | ContainerStatus::Dead => true,
        ContainerStatus::Running => false,
        ContainerStatus::Stopping | ContainerStatus::Stopped => {
            marks.disturbed.contains(&container.id)
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

/// Whether it runs and has to be restarted, since what it depends on was made again. It may
/// have been another target that asked for that.
pub(super) fn is_outdated(container: &Container, target: &ServiceTarget, marks: &Marks) -> bool {
    let since = marks.outdated.get(&container.id);
    let asks = target.depends_on.values().any(|how| how.restart);
    asks && container.status == ContainerStatus::Running && since == Some(&container.started)
}

/// Whether the container does what it should.
fn is_settled(container: &Container, target: &ServiceTarget, marks: &Marks) -> bool {
    if target.running {
        !has_to_run(container, marks) && !is_outdated(container, target, marks)
    } else {
        !container.is_up()
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
    let all = situation.containers.of(service).iter();
    let mut others = all.filter(|(_, found)| good.is_none_or(|(_, good)| good.id != found.id));
    let step = match good {
        None => Step::Missing,
        Some((_, good)) if situation.marks.is_own(good) => Step::Settled,
        Some((name, good)) => {
            let right = is_right_name(name, service, release.0, situation.uuid);
            match (right, is_settled(good, target, situation.marks)) {
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
        others_run: all.into_iter().any(|(_, found)| found.is_up()),
    }
}
