//! What all planning problems have in common: the planner's state, how a plan is made, and how it
//! is run.
//!
//! One type of state for all of them: the planner's code is built anew for each type that it plans.

use futures_lite::StreamExt as _;
use mahler::state::{Map, State};
use mahler::worker::{Ready, Uninitialized, Worker, WorkerEvent, Workflow, WorkflowStatus};

/// The planner's state: where each part of the problem is, as a number.
#[derive(State, Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Parts {
    pub images: Map<String, u8>,
    pub networks: Map<String, u8>,
    pub volumes: Map<String, u8>,
    pub services: Map<String, u8>,
}

/// How a problem ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// Every job was done.
    Done,
    /// Some jobs failed; what failed is on the board.
    Failed,
    /// There is no plan, or it cannot be run: a mistake in the rules.
    NoPlan(String),
}

/// The way from `now` to `then`, and the worker that can go it; or why there is none.
pub(super) fn plan(
    domain: Worker<Parts, Uninitialized>,
    now: Parts,
    then: Parts,
) -> Result<(Workflow, Worker<Parts, Ready>), String> {
    let then = PartsTarget {
        images: then.images,
        networks: then.networks,
        volumes: then.volumes,
        services: then.services,
    };
    let worker = domain.initial_state(now);
    let worker = worker.map_err(|error| error.to_string())?;
    match worker.find_workflow(&then) {
        Ok(Some(workflow)) => Ok((workflow, worker)),
        Ok(None) => Err("no plan was found".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Plans, logs the plan of `whose` it is, and runs it.
pub(super) async fn run(
    whose: &str,
    domain: Worker<Parts, Uninitialized>,
    now: Parts,
    then: Parts,
) -> Ended {
    let (workflow, worker) = match plan(domain, now, then) {
        Ok(planned) => planned,
        Err(why) => return Ended::NoPlan(why),
    };
    log::info!("plan for {whose}:");
    for line in workflow.to_string().lines() {
        log::info!("  {line}");
    }
    let mut events = std::pin::pin!(worker.run_workflow(workflow));
    while let Some(event) = events.next().await {
        match event {
            Ok(WorkerEvent::StateUpdated(_)) => {}
            Ok(WorkerEvent::WorkflowFinished(WorkflowStatus::Success)) => return Ended::Done,
            // The jobs have said what failed and why.
            Ok(WorkerEvent::WorkflowFinished(WorkflowStatus::Aborted(_))) => return Ended::Failed,
            Err(error) => return Ended::NoPlan(error.to_string()),
        }
    }
    Ended::Failed
}
