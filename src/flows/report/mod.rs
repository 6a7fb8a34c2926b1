//! Tells the backend what is: the driver of [`reporter`].

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::hash;
use crate::limits;
use crate::model::status::UpdateStatus;
use crate::plan::work::Tools;
use crate::world::remote::{Remote, RemoteError, RemoteKind};

pub mod reporter;
pub mod wire;

use reporter::Reporter;

/// The hash of the last accepted report, for the next run (R-REP-4).
const DOCUMENT: &str = "reported";

/// Runs until `stop` ends, and then sends what is still to be told (R-REP-12).
/// `ceiling` is the longest wait after a failure: the poll interval.
pub async fn run(
    remote: Arc<dyn Remote>,
    tools: Tools,
    ceiling: Duration,
    stop: impl Future<Output = ()>,
) {
    let sent = crate::plan::read::document(&tools, DOCUMENT).await;
    let mut is_kept = sent.is_some();
    let mut reporter = Reporter::new(tools.clock.now(), ceiling, sent);
    future::or(
        stop,
        report(&*remote, &tools, (&mut reporter, &mut is_kept)),
    )
    .await;
    let left = tools
        .board
        .look(wire::body)
        .map(|body| (hash::short(&body), body));
    if let Some((hash, body)) = left.filter(|(hash, _)| reporter.is_stale(*hash)) {
        let late = tools.clock.now() + limits::SHUTDOWN_REPORT;
        let send = async {
            forget(&tools, &mut is_kept).await;
            if send(&*remote, body).await.is_ok() {
                remember(&tools, hash).await;
            }
        };
        future::or(send, tools.clock.sleep_until(late)).await;
    }
}

/// Never ends.
async fn report(
    remote: &dyn Remote,
    tools: &Tools,
    (reporter, is_kept): (&mut Reporter, &mut bool),
) {
    let mut seen = 0;
    loop {
        match reporter.wake_at() {
            None => {
                seen = tools.board.newer(seen).await;
                reporter.on_change();
            }
            Some(at) => {
                tools.clock.sleep_until(at).await;
                seen = tools.board.version();
                one(remote, tools, (reporter, is_kept)).await;
            }
        }
    }
}

async fn one(remote: &dyn Remote, tools: &Tools, (reporter, is_kept): (&mut Reporter, &mut bool)) {
    let now = tools.clock.now();
    let (body, is_done) = tools.board.look(|board| {
        (
            wire::body(board),
            board.status != UpdateStatus::ApplyingChanges,
        )
    });
    let Some(body) = body else {
        return reporter.on_nothing();
    };
    let hash = hash::short(&body);
    if !reporter.on_time(now, hash) {
        return;
    }
    forget(tools, is_kept).await;
    match send(remote, body).await {
        Ok(()) => {
            reporter.on_sent(hash);
            log::debug!("report: sent");
            // What is on the way somewhere is not worth a write.
            if is_done {
                *is_kept = true;
                remember(tools, hash).await;
            }
        }
        Err(error) => {
            let delay = reporter.on_failed(tools.clock.now(), error.kind, fastrand::f64());
            log::warn!("report: {error}; next try in {} s", delay.as_secs());
        }
    }
}

async fn send(remote: &dyn Remote, body: Vec<u8>) -> Result<(), RemoteError> {
    if body.len() > limits::REPORT_BYTES_MAX {
        let said = format!(
            "the report has {} bytes, more than the backend takes",
            body.len()
        );
        return Err(RemoteError {
            kind: RemoteKind::Refused(413),
            said,
        });
    }
    remote.report(&body).await
}

/// Before something else is sent: an agent that is killed after that, and comes back to the
/// state that is remembered, would say nothing of it.
async fn forget(tools: &Tools, is_kept: &mut bool) {
    if *is_kept {
        match tools.store.delete(DOCUMENT).await {
            Ok(()) => *is_kept = false,
            Err(error) => log::warn!("{error}"),
        }
    }
}

async fn remember(tools: &Tools, hash: u64) {
    if let Err(error) = tools.store.put(DOCUMENT, hash.to_string().as_bytes()).await {
        log::warn!("{error}");
    }
}
