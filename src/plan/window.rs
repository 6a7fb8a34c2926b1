//! One planning problem: a few parts of an app, now and then.
//!
//! Each service's way is one branch of the plan, so that a slow one does not
//! hold up the others of its window. The planner sees numbers ([`Stage`]).

use std::sync::Arc;

use mahler::extract::{Args, Res, Target, View};
use mahler::job::{create, delete, none, update};
use mahler::state::Map;
use mahler::task::{Handler as _, IO, Task, enforce, with_io};
use mahler::worker::{Uninitialized, Worker};

use super::board::Part;
use super::problem::{self, Ended, Parts};
use super::rules::Agenda;
use super::stage::{Stage, Step, network};
use super::work::{Stopped, Work};
use crate::model::{NetworkName, ServiceName, VolumeName};
use crate::world::engine::EngineError;

/// The resource of the jobs.
#[derive(Clone)]
struct Job(Arc<Work>);

/// Plans what the agenda allows, logs the plan, and runs it.
pub async fn run(work: &Arc<Work>, agenda: &Agenda) -> Ended {
    let whose = format!("app '{}'", work.app);
    let (now, then) = sides(agenda);
    problem::run(&whose, domain().resource(Job(work.clone())), now, then).await
}

/// The plan for an agenda as text, without running it.
#[cfg(test)]
pub(super) fn planned(agenda: &Agenda) -> Result<String, String> {
    let (now, then) = sides(agenda);
    problem::plan(domain(), now, then).map(|(workflow, _)| workflow.to_string())
}

/// Where the parts of an agenda are, and where they are to be.
fn sides(agenda: &Agenda) -> (Parts, Parts) {
    (side(agenda, |(now, _)| now), side(agenda, |(_, then)| then))
}

type Change = (Option<u8>, Option<u8>);

fn side(agenda: &Agenda, side: fn(Change) -> Option<u8>) -> Parts {
    let pick = |parts: &crate::base::map::Map<String, Change>| {
        let known = parts
            .iter()
            .filter_map(|(name, change)| Some((name.clone(), side(*change)?)));
        known.collect::<Map<_, _>>()
    };
    Parts {
        images: Map::new(),
        networks: pick(&agenda.networks),
        volumes: pick(&agenda.volumes),
        services: pick(&agenda.services),
    }
}

fn domain() -> Worker<Parts, Uninitialized> {
    let named = |text: &'static str| move |Args(name): Args<String>| format!("{text} '{name}'");
    Worker::new()
        .job(
            "/networks/{name}",
            create(network_setup).with_description(named("setup network")),
        )
        .job("/networks/{name}", update(network_again))
        .job(
            "/networks/{name}",
            delete(network_remove).with_description(named("remove network")),
        )
        .job(
            "/volumes/{name}",
            create(volume_setup).with_description(named("setup volume")),
        )
        .job(
            "/volumes/{name}",
            delete(volume_remove).with_description(named("remove volume")),
        )
        .job("/services/{name}", update(service_reconcile))
        .job("/services/{name}", delete(service_uninstall))
        .job(
            "/services/{name}",
            none(service_create).with_description(named("install service")),
        )
        .job(
            "/services/{name}",
            none(service_rename).with_description(named("migrate service")),
        )
        .job(
            "/services/{name}",
            none(service_stop).with_description(named("stop the old service")),
        )
        .job(
            "/services/{name}",
            none(service_settle).with_description(named("start service")),
        )
        .job(
            "/services/{name}",
            none(service_beside).with_description(named("start service beside the old one")),
        )
        .job(
            "/services/{name}",
            none(service_clean).with_description(named("remove the old service")),
        )
        .job(
            "/services/{name}",
            none(service_revive).with_description(named("restart the old service")),
        )
        .job(
            "/services/{name}",
            none(service_stop_all).with_description(named("stop service")),
        )
        .job(
            "/services/{name}",
            none(service_remove).with_description(named("uninstall service")),
        )
}

/// The planner calls a job without I/O first; there is always a resource then too.
fn work(job: &Res<Job>) -> Option<Arc<Work>> {
    job.as_ref().map(|job| job.0.clone())
}

// ---- networks and volumes

/// What a job is about.
#[derive(Clone, Copy)]
enum Storage {
    Network,
    Volume,
}

/// Makes a network or volume (`then` says how the planner sees it), or removes it.
fn storage_job(
    mut view: View<Option<u8>>,
    name: String,
    job: Res<Job>,
    kind: Storage,
    then: Option<u8>,
) -> IO<Option<u8>, Stopped> {
    enforce!(view.is_some() != then.is_some());
    *view = then;
    with_io(view, move |view| async move {
        let Some(work) = work(&job) else {
            return Ok(view);
        };
        match kind {
            Storage::Network => {
                let name = NetworkName::from(name);
                let part = work.network_part(&name);
                match then {
                    Some(_) => work.job(part, work.setup_network(&name)).await?,
                    None => work.job(part, work.remove_network(&name)).await?,
                }
            }
            Storage::Volume => {
                let name = VolumeName::from(name);
                let part = work.volume_part(&name);
                match then {
                    Some(_) => work.job(part, work.setup_volume(&name)).await?,
                    None => work.job(part, work.remove_volume(&name)).await?,
                }
            }
        }
        Ok(view)
    })
}

type Storing = IO<Option<u8>, Stopped>;

fn network_setup(view: View<Option<u8>>, Args(name): Args<String>, job: Res<Job>) -> Storing {
    storage_job(view, name, job, Storage::Network, Some(network::RIGHT))
}

fn network_remove(view: View<Option<u8>>, Args(name): Args<String>, job: Res<Job>) -> Storing {
    storage_job(view, name, job, Storage::Network, None)
}

/// A network whose configuration changed is made again.
fn network_again(view: View<u8>) -> Vec<Task> {
    if *view == network::RIGHT {
        return Vec::new();
    }
    vec![network_remove.into_task(), network_setup.into_task()]
}

fn volume_setup(view: View<Option<u8>>, Args(name): Args<String>, job: Res<Job>) -> Storing {
    storage_job(view, name, job, Storage::Volume, Some(super::stage::THERE))
}

fn volume_remove(view: View<Option<u8>>, Args(name): Args<String>, job: Res<Job>) -> Storing {
    storage_job(view, name, job, Storage::Volume, None)
}

// ---- services

/// The way of a service as far as the target lets it go.
fn service_reconcile(view: View<u8>, Target(goal): Target<u8>) -> Option<Vec<Task>> {
    let (now, goal) = (Stage::from_byte(*view)?, Stage::from_byte(goal)?);
    if goal.others_run && !now.others_run {
        return Some(vec![service_revive.into_task()]);
    }
    let beside = goal.others_run && goal.step == Step::Settled;
    let mut way = Vec::new();
    match now.step {
        Step::Missing => way.push(service_create.into_task()),
        Step::Misnamed | Step::MisnamedSettled => way.push(service_rename.into_task()),
        Step::Ready | Step::Settled => {}
    }
    if goal.step == Step::Settled {
        if matches!(now.step, Step::Missing | Step::Misnamed | Step::Ready) {
            if beside {
                way.push(service_beside.into_task());
                return Some(way);
            }
            if now.others_run {
                way.push(service_stop.into_task());
            }
            way.push(service_settle.into_task());
        }
        if now.others {
            way.push(service_clean.into_task());
        }
    }
    Some(way)
}

/// A service that is to go.
fn service_uninstall(view: View<u8>) -> Option<Vec<Task>> {
    let now = Stage::from_byte(*view)?;
    let mut way = Vec::new();
    if now.others_run {
        way.push(service_stop_all.into_task());
    }
    way.push(service_remove.into_task());
    Some(way)
}

/// Which of a service's jobs to run.
#[derive(Clone, Copy)]
enum Do {
    Create,
    Rename,
    StopOthers,
    Settle,
    Beside,
    Clean,
    StopAll,
    Revive,
}

/// One job of a service: `step` says what it makes of the stage, and whether it may.
fn service_job(
    mut view: View<u8>,
    name: String,
    job: Res<Job>,
    what: Do,
    step: impl FnOnce(Stage) -> Option<Stage>,
) -> IO<u8, Stopped> {
    let Some(next) = Stage::from_byte(*view).and_then(step) else {
        return IO::abort("the service is not at that stage");
    };
    *view = next.to_byte();
    with_io(view, move |view| async move {
        if let Some(work) = work(&job) {
            let name = ServiceName::from(name);
            work.job(work.service_part(&name), act(&work, &name, what))
                .await?;
        }
        Ok(view)
    })
}

async fn act(work: &Work, name: &ServiceName, what: Do) -> Result<(), EngineError> {
    match what {
        Do::Create => work.create(name).await,
        Do::Rename => work.rename(name).await,
        Do::StopOthers => work.stop_others(name).await,
        Do::Settle => work.settle(name).await,
        Do::Beside => work.start_beside(name).await,
        Do::Clean => work.remove_others(name).await,
        Do::StopAll => work.stop_all(name).await,
        Do::Revive => work.revive(name).await,
    }
}

fn service_create(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Create, |now| {
        (now.step == Step::Missing).then_some(Stage {
            step: Step::Ready,
            ..now
        })
    })
}

fn service_rename(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Rename, |now| match now.step {
        Step::Misnamed => Some(Stage {
            step: Step::Ready,
            ..now
        }),
        Step::MisnamedSettled => Some(Stage {
            step: Step::Settled,
            ..now
        }),
        _ => None,
    })
}

fn service_stop(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::StopOthers, |now| {
        // D-20: only when the successor is made.
        (now.step == Step::Ready && now.others_run).then_some(Stage {
            others_run: false,
            ..now
        })
    })
}

fn service_settle(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Settle, |now| {
        let may = now.step == Step::Ready && !now.others_run;
        may.then_some(Stage {
            step: Step::Settled,
            ..now
        })
    })
}

/// Hand-over: the old one goes later (target-state 7.1).
fn service_beside(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Beside, |now| {
        let may = now.step == Step::Ready && now.others_run;
        may.then_some(Stage {
            step: Step::Settled,
            ..now
        })
    })
}

fn service_clean(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Clean, |now| {
        (now.step == Step::Settled && now.others).then_some(Stage::DONE)
    })
}

fn service_revive(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::Revive, |now| {
        (now.others && !now.others_run).then_some(Stage {
            others_run: true,
            ..now
        })
    })
}

fn service_stop_all(view: View<u8>, Args(name): Args<String>, job: Res<Job>) -> IO<u8, Stopped> {
    service_job(view, name, job, Do::StopAll, |now| {
        now.others_run.then_some(Stage {
            others_run: false,
            ..now
        })
    })
}

fn service_remove(
    mut view: View<Option<u8>>,
    Args(name): Args<String>,
    job: Res<Job>,
) -> IO<Option<u8>, Stopped> {
    let now = view.and_then(Stage::from_byte);
    enforce!(now.is_some_and(|now| !now.others_run));
    *view = None;
    with_io(view, move |view| async move {
        if let Some(work) = work(&job) {
            let name = ServiceName::from(name);
            work.job(work.service_part(&name), work.remove_all(&name))
                .await?;
        }
        Ok(view)
    })
}

/// The board's keys of everything in a window.
#[must_use]
pub fn parts(work: &Work, agenda: &Agenda) -> Vec<Part> {
    let networks = agenda
        .networks
        .keys()
        .map(|name| work.network_part(&name.as_str().into()));
    let volumes = agenda
        .volumes
        .keys()
        .map(|name| work.volume_part(&name.as_str().into()));
    let services = agenda
        .services
        .keys()
        .map(|name| work.service_part(&name.as_str().into()));
    networks.chain(volumes).chain(services).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn planned(services: &[(&str, Option<Stage>)], goal: Option<Stage>) -> String {
        let mut agenda = Agenda::default();
        for (name, now) in services {
            let change = (now.map(Stage::to_byte), goal.map(Stage::to_byte));
            agenda.services.insert((*name).to_owned(), change);
        }
        super::planned(&agenda).unwrap()
    }

    fn now(step: Step, others: bool, others_run: bool) -> Option<Stage> {
        Some(Stage {
            step,
            others,
            others_run,
        })
    }

    #[test]
    fn d_20_the_way_of_a_service() {
        let install = "- install service 'a'\n";
        let (stop, start) = ("- stop the old service 'a'\n", "- start service 'a'\n");
        let (migrate, clean) = ("- migrate service 'a'\n", "- remove the old service 'a'\n");
        let cases = [
            (now(Step::Missing, false, false), [install, start].concat()),
            (
                now(Step::Missing, true, true),
                [install, stop, start, clean].concat(),
            ),
            (
                now(Step::Missing, true, false),
                [install, start, clean].concat(),
            ),
            (now(Step::Misnamed, false, false), [migrate, start].concat()),
            (now(Step::MisnamedSettled, false, false), migrate.to_owned()),
            (now(Step::Ready, false, false), start.to_owned()),
            (now(Step::Settled, true, true), clean.to_owned()),
        ];
        for (from, want) in cases {
            assert_eq!(
                planned(&[("a", from)], Some(Stage::DONE)),
                want.trim_end(),
                "{from:?}"
            );
        }
        let held = now(Step::Ready, true, true);
        assert_eq!(
            planned(&[("a", now(Step::Missing, true, true))], held),
            install.trim_end()
        );
        let revived = planned(
            &[("a", now(Step::Missing, true, false))],
            now(Step::Missing, true, true),
        );
        assert_eq!(revived, "- restart the old service 'a'");
        let gone = planned(&[("a", now(Step::Missing, true, true))], None);
        assert_eq!(gone, "- stop service 'a'\n- uninstall service 'a'");
    }

    #[test]
    fn services_of_a_window_do_not_wait_for_each_other() {
        let fresh = now(Step::Missing, false, false);
        let plan = planned(&[("a", fresh), ("b", fresh)], Some(Stage::DONE));
        let want = "+ ~ - install service 'a'\n    - start service 'a'\n  \
            ~ - install service 'b'\n    - start service 'b'";
        assert_eq!(plan, want);
    }

    #[test]
    fn storage_is_made_made_again_and_removed() {
        let mut agenda = Agenda::default();
        agenda
            .networks
            .insert("new".into(), (None, Some(network::RIGHT)));
        agenda.networks.insert(
            "changed".into(),
            (Some(network::STALE), Some(network::RIGHT)),
        );
        agenda
            .volumes
            .insert("gone".into(), (Some(super::super::stage::THERE), None));
        let plan = super::planned(&agenda).unwrap();
        for want in [
            "setup network 'new'",
            "remove network 'changed'",
            "setup network 'changed'",
            "remove volume 'gone'",
        ] {
            assert!(plan.contains(want), "{want} in\n{plan}");
        }
        assert!(plan.find("remove network 'changed'") < plan.find("setup network 'changed'"));
    }
}
