//! The rules as tables: what is, what should be, and what may be done now.

use super::board::Marks;
use super::names::{container_name_long, is_right_name, volume_name};
use super::rules::{Agenda, PartName, Situation, Wait, agenda, has_to_run, stage};
use super::stage::{Stage, Step, network};
use crate::base::map::Map;
use crate::limits::WINDOW_MAX;
use crate::model::current::{App, Container, Identity, Maker, Network, Restart, Volume};
use crate::model::status::{ContainerStatus, Health};
use crate::model::target::{Condition, Dependency, ReleaseTarget, ServiceTarget, Strategy, Uses};
use crate::model::{AppUuid, ImageUri, NetworkConfig, ServiceConfig, VolumeConfig};

/// One case: an app as it is, its release, and what is known around it.
struct Case {
    app: App,
    release: Option<ReleaseTarget>,
    leaves: bool,
    missing_images: Vec<&'static str>,
    waiting: Vec<&'static str>,
    marks: Marks,
    locked: Option<&'static str>,
    handed_over: bool,
}

impl Case {
    fn new(services: &[(&str, ServiceTarget)]) -> Case {
        let services = services
            .iter()
            .map(|(name, target)| ((*name).into(), target.clone()));
        Case {
            app: App::default(),
            release: Some(ReleaseTarget {
                services: services.collect(),
                ..ReleaseTarget::default()
            }),
            leaves: false,
            missing_images: Vec::new(),
            waiting: Vec::new(),
            marks: Marks::default(),
            locked: None,
            handed_over: false,
        }
    }

    fn with(mut self, name: &str, container: Container) -> Case {
        self.app.containers.insert(name.into(), container);
        self
    }

    fn agenda(&self) -> Agenda {
        self.look(true)
    }

    /// `reasons`: also of what has no room on the agenda.
    fn look(&self, reasons: bool) -> Agenda {
        let (uuid, release) = (AppUuid::new("a1"), "r2".into());
        agenda(&Situation {
            reasons,
            leaves: self.leaves,
            has_image: &|uri| !self.missing_images.contains(&uri.repository()),
            waits: &|part| match part {
                PartName::Service(name) => self.waiting.contains(&name.as_str()),
                _ => false,
            },
            locked: self.locked,
            handed_over: &|_| self.handed_over,
            ..Situation::plain(
                (&uuid, &self.app),
                self.release.as_ref().map(|target| (&release, target)),
                &self.marks,
            )
        })
    }

    /// Whether each service of an agenda is at another stage by now.
    fn went_on(&self, agenda: &Agenda) -> bool {
        let (uuid, release) = (AppUuid::new("a1"), "r2".into());
        let wanted = self.release.as_ref().map(|target| (&release, target));
        let situation = Situation::plain((&uuid, &self.app), wanted, &self.marks);
        agenda.services.iter().all(|(name, (before, _))| {
            let wanted = wanted.unwrap();
            let (name, target) = wanted.1.services.get_key_value(name.as_str()).unwrap();
            *before != Some(stage(&situation, name, target, wanted).to_byte())
        })
    }

    /// How far a service may go: from, to, and what it waits for.
    fn service(&self, name: &str) -> (Option<(Stage, Option<Stage>)>, Option<Wait>) {
        let agenda = self.agenda();
        let stage = |byte: u8| Stage::from_byte(byte).unwrap();
        let change = agenda.services.get(name);
        let change = change.map(|(now, then)| (stage(now.unwrap()), then.map(stage)));
        (
            change,
            agenda.waiting.get(&format!("service '{name}'")).cloned(),
        )
    }
}

fn target(image: &str) -> ServiceTarget {
    ServiceTarget {
        id: 1,
        image: ImageUri::parse(image).unwrap(),
        config: ServiceConfig::default().to_json().into(),
        uses: Uses::default(),
        depends_on: Map::new(),
        running: true,
        strategy: Strategy::default(),
    }
}

fn on(
    mut target: ServiceTarget,
    name: &str,
    condition: Condition,
    required: bool,
) -> ServiceTarget {
    let dependency = Dependency {
        condition,
        restart: false,
        required,
    };
    target.depends_on.insert(name.into(), dependency);
    target
}

/// A container of `service` that was asked for as `target` is.
pub(crate) fn container(
    service: &str,
    target: &ServiceTarget,
    status: ContainerStatus,
) -> Container {
    Container {
        id: format!("id-{service}-{}", target.image).into(),
        service: service.into(),
        service_id: 1,
        release: "r2".into(),
        identity: Some(Identity {
            image: target.image.clone(),
            config: target.config.clone(),
        }),
        maker: Maker::Us,
        image_id: "sha256:1".into(),
        depends_on: Map::new(),
        status,
        exit_code: Some(0),
        health: Health::None,
        created: "2026-01-01T00:00:00+00:00".into(),
        restart: Restart::Always,
        networks: Vec::new(),
        volumes: Vec::new(),
        lenders: Vec::new(),
        lock_dir: None,
        is_paused: false,
        started: 0,
        fingerprint: 0,
    }
}

const RUNNING: ContainerStatus = ContainerStatus::Running;
const STOPPED: ContainerStatus = ContainerStatus::Stopped;
const CREATED: ContainerStatus = ContainerStatus::Created;

const fn at(step: Step, others: bool, others_run: bool) -> Stage {
    Stage {
        step,
        others,
        others_run,
    }
}

#[test]
fn a_first_install_waits_for_nothing_but_its_own_image() {
    let mut case = Case::new(&[("a", target("one")), ("b", target("two"))]);
    case.missing_images = vec!["two"];
    let fresh = at(Step::Missing, false, false);
    assert_eq!(case.service("a"), (Some((fresh, Some(Stage::DONE))), None));
    assert_eq!(case.service("b"), (None, Some(Wait::Image)));
}

#[test]
fn what_matches_and_runs_needs_nothing() {
    let case =
        Case::new(&[("a", target("one"))]).with("a_r2", container("a", &target("one"), RUNNING));
    assert!(case.agenda().is_reached());
}

#[test]
fn o_11_an_unchanged_container_of_another_release_only_changes_its_name() {
    let case =
        Case::new(&[("a", target("one"))]).with("a_r1", container("a", &target("one"), RUNNING));
    let now = at(Step::MisnamedSettled, false, false);
    assert_eq!(case.service("a").0, Some((now, Some(Stage::DONE))));
}

#[test]
fn d_11_any_difference_in_what_was_asked_for_makes_a_new_container() {
    let other_config = ServiceConfig {
        hostname: Some("h".to_owned()),
        ..ServiceConfig::default()
    };
    let mut old = container("a", &target("one"), RUNNING);
    old.identity.as_mut().unwrap().config = other_config.to_json().into();
    let mut foreign = container("a", &target("one"), RUNNING);
    foreign.identity = None;
    let dead = container("a", &target("one"), ContainerStatus::Dead);
    for (what, found) in [
        ("image", container("a", &target("old"), RUNNING)),
        ("config", old),
        ("no label", foreign),
    ] {
        let case = Case::new(&[("a", target("one"))]).with("a_r1", found);
        assert_eq!(
            case.service("a").0,
            Some((at(Step::Missing, true, true), Some(Stage::DONE))),
            "{what}"
        );
    }
    let case = Case::new(&[("a", target("one"))]).with("a_r2", dead);
    assert_eq!(
        case.service("a").0,
        Some((at(Step::Missing, true, false), Some(Stage::DONE))),
        "dead"
    );
}

#[test]
fn d_16_d_20_nothing_old_stops_before_all_images_are_there() {
    let mut case = Case::new(&[("a", target("new")), ("b", target("two"))])
        .with("a_r1", container("a", &target("old"), RUNNING));
    case.missing_images = vec!["two"];
    // Its successor is made, and that is all.
    let (now, ready) = (at(Step::Missing, true, true), at(Step::Ready, true, true));
    assert_eq!(
        case.service("a"),
        (Some((now, Some(ready))), Some(Wait::OtherImages))
    );
    case = case.with("a_r2", container("a", &target("new"), CREATED));
    assert_eq!(case.service("a"), (None, Some(Wait::OtherImages)));
    case.missing_images.clear();
    assert_eq!(case.service("a").0, Some((ready, Some(Stage::DONE))));
}

#[test]
fn fd_23_an_old_container_that_was_stopped_runs_again_while_its_update_waits() {
    let waits = |case: Case| Case {
        missing_images: vec!["two"],
        ..case
    };
    let both = || Case::new(&[("a", target("new")), ("b", target("two"))]);
    let old = || container("a", &target("old"), STOPPED);
    let revived = |step| Some((at(step, true, false), Some(at(step, true, true))));
    let case = waits(both().with("a_r1", old()));
    assert_eq!(case.service("a").0, revived(Step::Missing));
    let case = waits(
        both()
            .with("a_r1", old())
            .with("a_r2", container("a", &target("new"), CREATED)),
    );
    assert_eq!(case.service("a").0, revived(Step::Ready));
    // Nor when the target is that nothing runs, and its container is there.
    let parked = ServiceTarget {
        running: false,
        ..target("new")
    };
    let case = Case::new(&[("a", parked.clone()), ("b", target("two"))])
        .with("old_a_r2", old())
        .with("a_r2", container("a", &parked, CREATED));
    let (_, then) = waits(case).service("a").0.unwrap();
    assert_eq!(then, Some(Stage::DONE), "it is settled");
    // Nor when that container is still to be made.
    let case = Case::new(&[("a", parked), ("b", target("two"))]).with("a_r1", old());
    let (_, then) = waits(case).service("a").0.unwrap();
    assert!(!then.unwrap().others_run, "it was not to run");
    // Not when the successor has run already, or does.
    for status in [STOPPED, RUNNING] {
        for name in ["a_r2", "a_r1"] {
            let case = both()
                .with("old_a_r2", old())
                .with(name, container("a", &target("new"), status));
            let (_, then) = waits(case).service("a").0.unwrap();
            assert_eq!(then, Some(Stage::DONE), "{status:?} {name}");
        }
    }
}

#[test]
fn d_21_who_has_to_run() {
    #[rustfmt::skip]
    let cases = [
        (CREATED, Restart::No, 0, false, true),
        (RUNNING, Restart::Always, 0, false, false),
        (STOPPED, Restart::Always, 0, false, true),
        (STOPPED, Restart::UnlessStopped, 0, false, true),
        (STOPPED, Restart::No, 1, false, false),
        (STOPPED, Restart::No, 137, true, true),
        (STOPPED, Restart::OnFailure(true), 0, false, false),
        (STOPPED, Restart::OnFailure(true), 1, false, true),
        (STOPPED, Restart::OnFailure(false), 1, false, false),
    ];
    for (status, restart, exit, is_disturbed, want) in cases {
        let mut found = container("a", &target("one"), status);
        (found.restart, found.exit_code) = (restart, Some(exit));
        let mut marks = Marks::default();
        if is_disturbed {
            marks.disturbed.insert(found.id.clone());
        }
        assert_eq!(
            has_to_run(&found, &marks),
            want,
            "{status:?} {restart:?} {exit} {is_disturbed}"
        );
    }
}

#[test]
fn running_false_is_settled_when_it_does_not_run() {
    let parked = ServiceTarget {
        running: false,
        ..target("one")
    };
    let case =
        |status| Case::new(&[("a", parked.clone())]).with("a_r2", container("a", &parked, status));
    assert!(case(CREATED).agenda().is_reached());
    assert!(case(STOPPED).agenda().is_reached());
    assert_eq!(case(RUNNING).service("a").0.unwrap().0.step, Step::Ready);
}

#[test]
fn fd_43_conditions_of_dependencies() {
    use Condition::{Completed, Healthy, Started};
    let pending = Some(Wait::Dependency("db".into()));
    let failed = |why| Some(Wait::Failed("db".into(), why));
    #[rustfmt::skip]
    let cases = [
        (Started, CREATED, Health::None, 0, Restart::No, pending.clone()),
        (Started, RUNNING, Health::None, 0, Restart::No, None),
        (Started, STOPPED, Health::None, 1, Restart::No, None),
        (Healthy, RUNNING, Health::Healthy, 0, Restart::No, None),
        (Healthy, RUNNING, Health::Starting, 0, Restart::No, pending.clone()),
        (Healthy, RUNNING, Health::Unhealthy, 0, Restart::No, failed("is unhealthy")),
        (Healthy, RUNNING, Health::None, 0, Restart::No, failed("has no health check")),
        (Completed, STOPPED, Health::None, 0, Restart::No, None),
        (Completed, STOPPED, Health::None, 1, Restart::No, failed("ended with an error")),
        (Completed, STOPPED, Health::None, 1, Restart::OnFailure(true), pending.clone()),
        (Completed, RUNNING, Health::None, 0, Restart::No, pending.clone()),
    ];
    for (condition, status, health, exit, restart, want) in cases {
        let db = target("two");
        let mut found = container("db", &db, status);
        (found.health, found.exit_code, found.restart) = (health, Some(exit), restart);
        let case = |required| {
            Case::new(&[
                ("a", on(target("one"), "db", condition, required)),
                ("db", db.clone()),
            ])
            .with("db_r2", found.clone())
        };
        let what = format!("{condition:?} {status:?} {health:?} {exit} {restart:?}");
        let (change, wait) = case(true).service("a");
        assert_eq!(wait, want, "{what}");
        // It is made in any case; what it waits for is its start.
        let ready = at(Step::Ready, false, false);
        let goal = if want.is_none() { Stage::DONE } else { ready };
        assert_eq!(change.unwrap().1, Some(goal), "{what}");
        assert_eq!(case(false).service("a").1, None, "{what}: not required");
    }
}

/// What [`fd_43_conditions_of_dependencies`] leaves out of the table of state-engine 2.6.
#[test]
fn dep_u1_what_has_no_container_or_was_never_started_is_waited_for() {
    for condition in [Condition::Started, Condition::Healthy, Condition::Completed] {
        let services = [
            ("a", on(target("one"), "db", condition, true)),
            ("db", target("two")),
        ];
        let pending = Some(Wait::Dependency("db".into()));
        let none = Case::new(&services);
        assert_eq!(none.service("a").1, pending, "{condition:?}: no container");
        let created = container("db", &services[1].1, CREATED);
        let case = Case::new(&services).with("db_r2", created);
        assert_eq!(case.service("a").1, pending, "{condition:?}: created");
    }
    let services = [
        ("a", on(target("one"), "job", Condition::Completed, true)),
        ("job", target("two")),
    ];
    let failed = Container {
        exit_code: Some(137),
        restart: Restart::No,
        ..container("job", &services[1].1, STOPPED)
    };
    let case = Case::new(&services).with("job_r2", failed);
    let wait = Wait::Failed("job".into(), "ended with an error");
    assert_eq!(case.service("a").1, Some(wait));
}

#[test]
fn dep_u2_required_dependencies_count_and_optional_ones_do_not() {
    use Condition::{Healthy, Started};
    let wait = |conditions: &[(&str, Condition, bool)]| {
        let mut a = target("one");
        for (name, condition, required) in conditions {
            a = on(a, name, *condition, *required);
        }
        let met = container("met", &target("two"), RUNNING);
        let unmet = container("unmet", &target("two"), CREATED);
        let case = Case::new(&[
            ("a", a),
            ("met", target("two")),
            ("missing", target("two")),
            ("unmet", target("two")),
        ]);
        let case = case.with("met_r2", met).with("unmet_r2", unmet);
        case.service("a").1
    };
    let on_dependency = |name: &str| Some(Wait::Dependency(name.into()));
    assert_eq!(wait(&[]), None);
    assert_eq!(wait(&[("met", Started, true)]), None);
    assert_eq!(wait(&[("unmet", Started, true)]), on_dependency("unmet"));
    assert_eq!(
        wait(&[("missing", Started, true)]),
        on_dependency("missing")
    );
    assert_eq!(wait(&[("unmet", Started, false)]), None);
    assert_eq!(wait(&[("missing", Healthy, false)]), None);
    let mixed = [("met", Started, false), ("unmet", Started, true)];
    assert_eq!(wait(&mixed), on_dependency("unmet"));
}

/// SVC-06: a job of the new release does not run before the update may begin.
#[test]
fn d_16_what_has_finished_is_updated_with_all_the_others() {
    let finished = || Container {
        restart: Restart::No,
        ..container("job", &target("old"), STOPPED)
    };
    let mut case =
        Case::new(&[("job", target("new")), ("b", target("two"))]).with("job_r1", finished());
    case.missing_images = vec!["two"];
    let (now, ready) = (at(Step::Missing, true, false), at(Step::Ready, true, false));
    assert_eq!(
        case.service("job"),
        (Some((now, Some(ready))), Some(Wait::OtherImages))
    );
    case.missing_images.clear();
    assert_eq!(case.service("job"), (Some((now, Some(Stage::DONE))), None));
}

#[test]
fn a_window_is_bounded_and_dependencies_come_first() {
    let names: Vec<String> = (0..20).map(|n| format!("s{n:02}")).collect();
    let mut services: Vec<(&str, ServiceTarget)> = names
        .iter()
        .map(|name| (name.as_str(), target("one")))
        .collect();
    // The last one by name is needed by the first.
    services[0].1 = on(target("one"), "s19", Condition::Started, true);
    let agenda = Case::new(&services).agenda();
    assert_eq!(agenda.services.len(), WINDOW_MAX);
    assert!(
        agenda.services.contains_key("s19"),
        "{:?}",
        agenda.services.keys().collect::<Vec<_>>()
    );
    assert_eq!(agenda.waiting["service 's18'"], Wait::Order);
}

#[test]
fn d_19_a_part_that_failed_waits_and_the_others_do_not() {
    let mut case = Case::new(&[("a", target("one")), ("b", target("one"))]);
    case.waiting = vec!["a"];
    assert_eq!(case.service("a"), (None, Some(Wait::Retry)));
    assert!(case.service("b").0.is_some());
}

/// Target-state 2.15: who uses a namespace of another service is made after it, and again
/// when it is.
#[test]
fn ts_2_15_a_borrower_follows_its_lender() {
    let config = ServiceConfig {
        network_mode: Some("service:vpn".to_owned()),
        ..ServiceConfig::default()
    };
    let client = on(target("client"), "vpn", Condition::Started, true).with_config(&config);
    let services = [("vpn", target("vpn")), ("client", client.clone())];
    let vpn = container("vpn", &services[0].1, RUNNING);
    let borrower = |lender: &str| Container {
        lenders: vec![lender.into()],
        ..container("client", &client, RUNNING)
    };

    let (change, wait) = Case::new(&services).service("client");
    assert_eq!((change, wait), (None, Some(Wait::Dependency("vpn".into()))));

    let case = Case::new(&services).with("vpn_r2", vpn.clone());
    let install = (at(Step::Missing, false, false), Some(Stage::DONE));
    assert_eq!(case.service("client"), (Some(install), None));

    let right = borrower(&vpn.id);
    let case = Case::new(&services)
        .with("vpn_r2", vpn.clone())
        .with("client_r2", right);
    assert!(case.agenda().is_reached());

    // The one it borrows from was made anew.
    let case = Case::new(&services)
        .with("vpn_r2", vpn)
        .with("client_r2", borrower("id-of-old"));
    let replace = (at(Step::Missing, true, true), Some(Stage::DONE));
    assert_eq!(case.service("client"), (Some(replace), None));
}

fn networked(config: &NetworkConfig) -> Case {
    let document = r#"{"cgroup":"private","restart_policy":{"name":"always"},"networks":{"n":{}}}"#;
    let wanted = target("one").with_config(&ServiceConfig::from_json(document).unwrap());
    let mut case = Case::new(&[("a", wanted.clone())]);
    case.release
        .as_mut()
        .unwrap()
        .networks
        .insert("n".into(), NetworkConfig::default());
    let network = Network {
        id: "n1".into(),
        oci_name: "n_a1".into(),
        config: Some(config.clone()),
    };
    case.app.networks.insert("n".into(), network);
    let mut found = container("a", &wanted, RUNNING);
    found.networks = vec!["n_a1".into()];
    case.with("a_r2", found)
}

#[test]
fn a_changed_network_first_loses_its_users_then_itself() {
    assert!(networked(&NetworkConfig::default()).agenda().is_reached());
    let changed = NetworkConfig {
        internal: true,
        ..NetworkConfig::default()
    };
    let mut case = networked(&changed);
    assert_eq!(
        case.service("a").0,
        Some((at(Step::Missing, true, true), None)),
        "it goes"
    );
    assert!(case.agenda().networks.is_empty(), "not while it is used");
    case.app.containers.clear();
    assert_eq!(
        case.agenda().networks["n"],
        (Some(network::STALE), Some(network::RIGHT))
    );
    assert_eq!(case.service("a"), (None, Some(Wait::Storage)));
}

#[test]
fn a_container_that_somebody_took_off_its_network_is_replaced() {
    let mut case = networked(&NetworkConfig::default());
    let found = case.app.containers.values_mut().next().unwrap();
    found.networks.clear();
    assert_eq!(
        case.service("a").0,
        Some((at(Step::Missing, true, true), Some(Stage::DONE)))
    );
}

#[test]
fn fd_41_the_own_container_is_left_as_it_is_and_counts_as_reached() {
    let wanted = |image| {
        let mut wanted = target(image);
        wanted.uses.networks = ["n".into()].into();
        wanted
    };
    let mut own = container("agent", &wanted("one"), RUNNING);
    own.networks = vec!["n_a1".into()];
    let case = |services: &[(&str, ServiceTarget)]| {
        let mut case = Case::new(services).with("agent_r1", own.clone());
        let network = Network {
            id: "id-n".into(),
            oci_name: "n_a1".into(),
            config: Some(NetworkConfig::default()),
        };
        case.app.networks.insert("n".into(), network);
        if !services.is_empty() {
            let release = case.release.as_mut().unwrap();
            let changed = NetworkConfig {
                internal: true,
                ..NetworkConfig::default()
            };
            release.networks.insert("n".into(), changed);
        }
        case
    };
    // Another name, image and network are asked for, or nothing at all.
    let others = [case(&[("agent", wanted("two"))]), case(&[])];
    for mut case in others {
        assert!(!case.agenda().is_reached(), "any other container would go");
        case.marks.own = Some(own.id[..8].into());
        assert!(case.agenda().is_reached(), "{:?}", case.agenda());
    }
    // A second container of its service goes, and what depends on it starts.
    let child = on(target("three"), "agent", Condition::Started, true);
    let mut case = case(&[("agent", wanted("two")), ("child", child)]);
    case.marks.own = Some(own.id.clone());
    let case = case.with("old_agent_r1", container("agent", &target("old"), STOPPED));
    let (change, _) = case.service("agent");
    let clean = (at(Step::Settled, true, false), Some(Stage::DONE));
    assert_eq!(change, Some(clean));
    let (child, wait) = case.service("child");
    assert_eq!(child.map(|(_, to)| to), Some(Some(Stage::DONE)), "{wait:?}");
}

#[test]
fn issue_5_what_stops_stops_before_what_it_depends_on() {
    let needs = |name: &str, others: &[&str]| {
        let mut target = target("one");
        for other in others {
            target = on(target, other, Condition::Started, true);
        }
        let mut found = container(name, &target, RUNNING);
        found.id = format!("id-{name}").into();
        found.depends_on.clone_from(&target.depends_on);
        (name.to_owned(), found)
    };
    let chain = [
        needs("db", &[]),
        needs("api", &["db"]),
        needs("web", &["api"]),
    ];
    let case = |all: &[(String, Container)]| {
        all.iter().fold(Case::new(&[]), |case, (name, found)| {
            case.with(&format!("{name}_r1"), found.clone())
        })
    };
    let stops = |case: &Case| case.agenda().services.into_keys().collect::<Vec<_>>();
    assert_eq!(stops(&case(&chain)), ["web"]);
    assert_eq!(
        case(&chain).service("db").1,
        Some(Wait::Dependent("api".into()))
    );
    assert_eq!(stops(&case(&chain[..2])), ["api"]);
    assert_eq!(stops(&case(&chain[..1])), ["db"]);
    // One that cannot be stopped holds up nobody else.
    let mut stuck = case(&chain[..2]);
    stuck.waiting.push("api");
    assert_eq!(stops(&stuck), ["db"]);
    // Containers of two releases may stand in a circle.
    let circle = [needs("a", &["b"]), needs("b", &["a"])];
    assert_eq!(stops(&case(&circle)), ["a", "b"]);
    // A target that only parks them is no different.
    let parked = |name: &str, found: &Container| {
        let mut target = target("one");
        target.running = false;
        target.depends_on.clone_from(&found.depends_on);
        (name.to_owned(), target)
    };
    let parked = chain.each_ref().map(|(name, found)| parked(name, found));
    let parked = parked
        .each_ref()
        .map(|(name, target)| (name.as_str(), target.clone()));
    let mut all = Case::new(&parked);
    for (name, found) in &chain {
        all = all.with(&format!("{name}_r2"), found.clone());
    }
    assert_eq!(stops(&all), ["web"]);
    // One that is made again first may need what the other gives up.
    let mut again = parked;
    again[2].1.config = "{\"changed\":true}".into();
    let mut all = Case::new(&again);
    for (name, found) in &chain[1..] {
        all = all.with(&format!("{name}_r2"), found.clone());
    }
    assert_eq!(stops(&all), ["api", "db", "web"]);
}

#[test]
fn gap_26_who_restarts_with_another_is_for_the_target_of_today_to_say() {
    for restart in [true, false] {
        let mut web = on(target("one"), "db", Condition::Started, true);
        web.depends_on
            .values_mut()
            .for_each(|how| how.restart = restart);
        let found = container("web", &web, RUNNING);
        let outdated = (found.id.clone(), found.started);
        let mut case = Case::new(&[("web", web), ("db", target("two"))])
            .with("web_r2", found)
            .with("db_r2", container("db", &target("two"), RUNNING));
        case.marks.outdated = [outdated].into();
        assert_eq!(case.service("web").0.is_some(), restart);
    }
}

#[test]
fn issue_5_what_is_to_stop_needs_nobody_for_it() {
    let mut web = on(target("one"), "db", Condition::Healthy, true);
    web.running = false;
    let mut found = container("web", &web, RUNNING);
    found.id = "id-web".into();
    let mut db = container("db", &target("one"), RUNNING);
    db.health = Health::Unhealthy;
    let case = Case::new(&[("web", web), ("db", target("one"))])
        .with("web_r2", found)
        .with("db_r2", db);
    assert_eq!(
        case.service("web").0.map(|(_, to)| to),
        Some(Some(Stage::DONE))
    );
}

#[test]
fn d_16_what_leaves_a_release_goes_when_all_images_are_there() {
    let mut case =
        Case::new(&[("a", target("one"))]).with("b_r1", container("b", &target("two"), RUNNING));
    case.missing_images = vec!["one"];
    assert_eq!(case.service("b"), (None, Some(Wait::OtherImages)));
    case.missing_images.clear();
    assert_eq!(
        case.service("b").0,
        Some((at(Step::Missing, true, true), None))
    );
}

#[test]
fn d_12_volumes_go_only_with_their_app_and_after_its_containers() {
    let mut case = Case::new(&[]).with("b_r1", container("b", &target("two"), RUNNING));
    case.app.volumes.insert(
        "v_a1".into(),
        Volume {
            name: "v".into(),
            config: None,
        },
    );
    assert!(
        case.agenda().volumes.is_empty(),
        "it merely left the release"
    );
    case.release = None;
    assert!(
        case.agenda().volumes.is_empty(),
        "the app runs nothing and is still there"
    );
    case.leaves = true;
    assert!(
        case.agenda().volumes.is_empty(),
        "a container is still there"
    );
    case.app.containers.clear();
    assert_eq!(case.agenda().volumes["v"].1, None);
}

#[test]
fn d_12_names_of_volumes() {
    let (uuid, local) = (AppUuid::new("a1"), VolumeConfig::default());
    let nfs = VolumeConfig {
        driver_opts: [("type".to_owned(), "nfs".to_owned())].into(),
        ..local.clone()
    };
    let labelled = VolumeConfig {
        labels: [("a".to_owned(), "b".to_owned())].into(),
        ..local.clone()
    };
    let name = |volumes: &[(&str, Option<&VolumeConfig>)], wanted| {
        let volume = |config: &Option<&VolumeConfig>| Volume {
            name: "v".into(),
            config: config.cloned(),
        };
        let volumes = volumes
            .iter()
            .map(|(oci, config)| ((*oci).into(), volume(config)));
        let app = App {
            volumes: volumes.collect(),
            ..App::default()
        };
        volume_name(&uuid, &app, &"v".into(), wanted, false)
    };
    assert_eq!(name(&[], &local), ("v_a1".to_owned(), false));
    assert_eq!(
        name(&[("v_a1", Some(&local))], &labelled),
        ("v_a1".to_owned(), true),
        "labels alone"
    );
    assert_eq!(
        name(&[("12_v", None)], &local),
        ("12_v".to_owned(), true),
        "an adopted one"
    );
    let (other, there) = name(&[("v_a1", Some(&local))], &nfs);
    assert!(
        !there && other.starts_with("v_a1_") && other.len() == "v_a1_".len() + 8,
        "{other}"
    );
    let cifs = VolumeConfig {
        driver_opts: [("type".to_owned(), "cifs".to_owned())].into(),
        ..local.clone()
    };
    let third = name(&[("v_a1", Some(&local)), (&other, Some(&nfs))], &cifs);
    assert!(
        !third.1 && third.0 != other,
        "each place has a name of its own: {third:?}"
    );

    assert_eq!(
        name(&[("v_a1", Some(&local)), (&other, Some(&nfs))], &nfs),
        (other.clone(), true)
    );
}

#[test]
fn w_32_d_37_names_of_containers() {
    let (service, release, app) = ("web".into(), "r2".into(), "a1".into());
    let long = container_name_long(&service, &release, &app);
    #[rustfmt::skip]
    let cases = [
        ("web_r2", true), (long.as_str(), true), ("web_r1", false), ("old_web_r2", false),
        ("web_r2_a2", false), ("web_r22", false), ("web", false), ("web2_r2", false),
    ];
    for (name, want) in cases {
        assert_eq!(
            is_right_name(name, &service, &release, &app),
            want,
            "{name}"
        );
    }
}

fn strategy(strategy: Strategy) -> ServiceTarget {
    ServiceTarget {
        strategy,
        ..target("new")
    }
}

#[test]
fn fd_06_a_lock_holds_back_whatever_touches_an_old_container() {
    let locked = || Some(Wait::Locked("/locks/a".into()));
    let old = |status| container("a", &target("old"), status);
    let with_lock = |mut case: Case| {
        case.locked = Some("/locks/a");
        (case.service("a"), case.agenda().needs_locks)
    };
    let new = || Case::new(&[("a", target("new"))]);
    // The new container is made, the old one is left alone, running or not.
    for status in [RUNNING, STOPPED] {
        let runs = status == RUNNING;
        let ((change, wait), needs) = with_lock(new().with("a_r1", old(status)));
        let (from, to) = (at(Step::Missing, true, runs), at(Step::Ready, true, runs));
        assert_eq!(change, Some((from, Some(to))));
        assert_eq!((wait, needs), (locked(), false));
    }
    // Not even made where the old one would have to be renamed for it.
    let (held, _) = with_lock(new().with("a_r2", old(RUNNING)));
    assert_eq!(held, (None, locked()));
    // Neither renamed when nothing changed, nor removed with its service.
    let same = container("a", &target("new"), RUNNING);
    let (held, _) = with_lock(new().with("a_r1", same.clone()));
    assert_eq!(held, (None, locked()));
    let (held, _) = with_lock(Case::new(&[]).with("a_r2", same.clone()));
    assert_eq!(held, (None, locked()));
    // A strategy is no way around it.
    let mut case = Case::new(&[("a", strategy(Strategy::KillThenDownload))]);
    case.missing_images = vec!["new"];
    let (held, _) = with_lock(case.with("a_r1", old(RUNNING)));
    assert_eq!(held, (None, locked()));
    // What only starts does not ask.
    let created = container("a", &target("new"), CREATED);
    let ((change, wait), needs) = with_lock(new().with("a_r2", created));
    assert_eq!(
        change,
        Some((at(Step::Ready, false, false), Some(Stage::DONE)))
    );
    assert_eq!((wait, needs), (None, false));
    assert_eq!(with_lock(new().with("a_r2", same)), ((None, None), false));
}

#[test]
fn locks_are_needed_for_what_runs() {
    let old = |status| container("a", &target("old"), status);
    let new = || Case::new(&[("a", target("new"))]);
    assert!(new().with("a_r1", old(RUNNING)).agenda().needs_locks);
    assert!(!new().with("a_r1", old(STOPPED)).agenda().needs_locks);
    assert!(!new().agenda().needs_locks, "a first install");
    let leaving = |status| Case::new(&[]).with("a_r1", old(status)).agenda();
    assert!(leaving(RUNNING).needs_locks && !leaving(STOPPED).needs_locks);
    let migrated = container("a", &target("new"), RUNNING);
    assert!(
        new().with("a_r1", migrated).agenda().needs_locks,
        "a rename"
    );
    let parked = ServiceTarget {
        running: false,
        ..target("new")
    };
    let parks = Case::new(&[("a", parked.clone())]);
    let parks = parks.with("a_r2", container("a", &parked, RUNNING));
    assert!(parks.agenda().needs_locks);
}

#[test]
fn d_19_what_waits_for_its_next_try_asks_for_no_locks() {
    let old = container("a", &target("old"), RUNNING);
    for services in [vec![("a", target("new"))], vec![]] {
        let mut case = Case::new(&services).with("a_r1", old.clone());
        case.waiting = vec!["a"];
        let agenda = case.agenda();
        assert!(agenda.is_empty() && !agenda.needs_locks);
    }
}

#[test]
fn ts_7_1_what_goes_before_its_download() {
    let both = |how: Strategy| {
        let mut case = Case::new(&[("a", strategy(how)), ("b", target("two"))])
            .with("a_r1", container("a", &target("old"), RUNNING))
            .with("b_r1", container("b", &target("two"), RUNNING));
        case.missing_images = vec!["new"];
        case
    };
    let old = at(Step::Missing, true, true);
    for how in [Strategy::KillThenDownload, Strategy::DeleteThenDownload] {
        assert_eq!(both(how).service("a"), (Some((old, None)), None), "{how:?}");
        // Its image is no reason for others to wait.
        let (change, _) = both(how).service("b");
        assert_eq!(change.unwrap().1, Some(Stage::DONE));
        // With the image there it is an update like any other.
        let mut case = both(how);
        case.missing_images.clear();
        assert_eq!(case.service("a").0, Some((old, Some(Stage::DONE))));
        // Not before what it depends on could start.
        let on_b = on(strategy(how), "b", Condition::Started, true);
        let mut case = Case::new(&[("a", on_b), ("b", target("two"))])
            .with("a_r1", container("a", &target("old"), RUNNING));
        case.missing_images = vec!["new", "two"];
        assert_eq!(
            case.service("a"),
            (None, Some(Wait::Dependency("b".into())))
        );
    }
    let wait = Some(Wait::Image);
    assert_eq!(both(Strategy::DownloadThenKill).service("a"), (None, wait));
}

#[test]
fn ts_7_1_a_hand_over_starts_first_and_stops_when_told() {
    let how = strategy(Strategy::HandOver(std::time::Duration::from_secs(1)));
    let old = || container("a", &target("old"), RUNNING);
    let case = || Case::new(&[("a", how.clone())]).with("old_a_r2", old());
    let beside = at(Step::Settled, true, true);
    let wait = Some(Wait::HandOver);
    let begun = case().with("a_r2", container("a", &how, CREATED));
    let (change, held) = begun.service("a");
    assert_eq!(change, Some((at(Step::Ready, true, true), Some(beside))));
    assert_eq!(held, wait);
    assert!(begun.agenda().needs_locks);
    let mut running = case().with("a_r2", container("a", &how, RUNNING));
    assert_eq!(running.service("a"), (None, wait));
    running.handed_over = true;
    assert_eq!(running.service("a").0, Some((beside, Some(Stage::DONE))));
}

/// CPU time of this thread so far.
fn cpu_nanos() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    stat.split(' ').next().unwrap().parse().unwrap()
}

/// Plans an update of that many services to its end, as if every plan ran as it says, with
/// the rules asked as often as a lane asks them. Windows, and nanoseconds of CPU: of the rules, in all.
fn plan_update(services: usize) -> (usize, u64, u64) {
    let name = |number: usize| format!("s{number:03}");
    let mut targets = Vec::new();
    for number in 0..services {
        let new = match number % 10 {
            0 => target("new"),
            _ => on(
                target("new"),
                &name(number / 10 * 10),
                Condition::Started,
                true,
            ),
        };
        targets.push((name(number), new));
    }
    let borrowed: Vec<_> = targets
        .iter()
        .map(|(name, new)| (&**name, new.clone()))
        .collect();
    let mut case = Case::new(&borrowed);
    for (name, _) in &targets {
        let old = container(name, &target("old"), RUNNING);
        case = case.with(&format!("{name}_r1"), old);
    }
    let (mut windows, mut spent, mut rules) = (0, 0, 0);
    loop {
        let begun = cpu_nanos();
        let agenda = case.look(false);
        rules += cpu_nanos() - begun;
        if agenda.is_empty() {
            assert!(agenda.is_reached(), "{:?}", agenda.waiting);
            return (windows, rules, spent);
        }
        super::window::planned(&agenda).unwrap();
        spent += cpu_nanos() - begun;
        windows += 1;
        for (name, (_, then)) in &agenda.services {
            let then = then.and_then(Stage::from_byte).unwrap();
            let status = if then.step == Step::Settled {
                RUNNING
            } else {
                CREATED
            };
            case = case.with(
                &format!("{name}_r2"),
                container(name, &target("new"), status),
            );
            if !then.others {
                case.app.containers.remove(&*format!("{name}_r1"));
            } else if !then.others_run
                && let Some(old) = case.app.containers.get_mut(&*format!("{name}_r1"))
            {
                old.status = STOPPED;
            }
        }
        let begun = cpu_nanos();
        assert!(case.went_on(&agenda), "as a lane asks when it has run");
        rules += cpu_nanos() - begun;
        spent += cpu_nanos() - begun;
        assert!(windows <= services, "an update comes to its end");
    }
}

#[test]
fn d_08_nothing_starts_while_the_legacy_container_of_its_service_is_there() {
    let target = target("img:1");
    let mut case = Case::new(&[("web", target.clone()), ("db", target.clone())]);
    case.marks.is_beside = true;
    let legacy = |app: &str, name: &str| (AppUuid::new(app), name.into());
    case.marks.legacy = [
        ("l1".into(), legacy("a1", "web")),
        ("l2".into(), legacy("another", "db")),
    ]
    .into();
    let ready = at(Step::Ready, false, false).to_byte();
    let now = case.agenda();
    assert_eq!(
        now.services["web"].1,
        Some(ready),
        "it is made all the same"
    );
    assert_eq!(now.services["db"].1, Some(Stage::DONE.to_byte()));
    assert_eq!(now.waiting["service 'web'"], Wait::Legacy);
    let mut case = case.with("web_r2", container("web", &target, CREATED));
    let now = case.agenda();
    assert!(!now.services.contains_key("web"));
    assert_eq!(now.waiting["service 'web'"], Wait::Legacy);
    // One that does not say which app it is of may be this one's.
    case.marks.legacy = [("l1".into(), legacy("10c401", "web"))].into();
    assert_eq!(case.agenda().waiting["service 'web'"], Wait::Legacy);
    case.marks.legacy.clear();
    let now = case.agenda();
    assert_eq!(now.services["web"].1, Some(Stage::DONE.to_byte()));
    assert!(now.waiting.is_empty());
}

#[test]
fn d_08_volumes_beside_a_legacy_supervisor_have_its_names_and_stay() {
    let (uuid, config) = (AppUuid::new("a1"), VolumeConfig::default());
    let mut app = App {
        id: 12,
        ..App::default()
    };
    let name = |app: &App| volume_name(&uuid, app, &"v".into(), &config, true);
    assert_eq!(name(&app), ("12_v".to_owned(), false));
    let volume = |config| Volume {
        name: "v".into(),
        config,
    };
    app.volumes.insert("12_v".into(), volume(None));
    assert_eq!(name(&app), ("12_v".to_owned(), true));
    app.volumes = [("v_a1".into(), volume(Some(config.clone())))].into();
    assert_eq!(name(&app), ("v_a1".to_owned(), true), "of before");
    let mut case = Case::new(&[]);
    (case.app, case.release, case.leaves) = (app, None, true);
    assert_eq!(case.agenda().volumes.len(), 1, "with its app (D-12)");
    case.marks.is_beside = true;
    assert!(case.agenda().is_reached());
}

#[test]
fn d_08_a_container_is_ours_by_our_own_label_alone() {
    let mut marks = Marks {
        is_beside: true,
        ..Marks::default()
    };
    let found = |maker| Container {
        maker,
        ..container("web", &target("img:1"), RUNNING)
    };
    let app = AppUuid::new("a1");
    assert!(!marks.is_elsewhere(&app, &found(Maker::Us)));
    assert!(marks.is_elsewhere(&app, &found(Maker::Nobody)));
    assert_eq!(marks.of_legacy(&app, &"web".into()), None);
    assert!(marks.is_elsewhere(&app, &found(Maker::Legacy)));
    assert!(marks.of_legacy(&app, &"web".into()).is_some());
    let mut alone = Marks::default();
    assert!(!alone.is_elsewhere(&app, &found(Maker::Legacy)), "adopted");
}

#[test]
fn issue_5_planning_of_many_services_goes_through_small_windows() {
    let (windows, ..) = plan_update(240);
    assert!(windows >= 240 / WINDOW_MAX);
    // How it grows is compared with the budget by `scripts/bench` (D-42). The kernel counts in
    // steps of some milliseconds: the mean of several.
    for (services, times) in [(60, 20), (240, 2)] {
        let all = (0..times).map(|_| plan_update(services));
        let (rules, spent) = all.fold((0, 0), |sum, one| (sum.0 + one.1, sum.1 + one.2));
        let micros = |nanos: u64| nanos / times / 1000;
        println!(
            "planning {services} services: {} us, {} us of it the rules",
            micros(spent),
            micros(rules)
        );
    }
}
