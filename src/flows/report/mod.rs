//! Tells the backend what is: the driver of [`reporter`].

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::hash;
use crate::flows::poll::Trigger;
use crate::flows::rest::Rest;
use crate::limits;
use crate::model::status::UpdateStatus;
use crate::plan::board::Board;
use crate::plan::work::Tools;
use crate::world::remote::{Remote, RemoteError, RemoteKind};
use crate::world::store::StoreError;

pub mod fields;
pub mod reporter;
pub mod wire;

use fields::{Field, Marks, Own};
use reporter::Reporter;
use wire::Detail;

/// What the backend accepted last, for the next run (R-REP-4).
const DOCUMENT: &str = "reported";

/// What the driver needs.
pub struct Report {
    /// The backend.
    pub remote: Arc<dyn Remote>,
    /// Time, store, board and host.
    pub tools: Tools,
    /// The longest wait after a failure: the poll interval.
    pub ceiling: Duration,
    /// What stays the same; `None`: somebody else reports all but the apps (D-24).
    pub own: Option<Own>,
    /// Stands for this device at this backend: a record of another one says nothing.
    pub whom: u64,
    /// Asked to poll when the backend refuses the key, which tells why (R-REP-5).
    pub trigger: Option<Arc<Trigger>>,
}

/// A report under way.
struct Flow {
    with: Report,
    reporter: Reporter,
    /// The processor's ticks when they were measured last.
    ticks: Option<(u64, u64)>,
    /// The last failure in words: the same one is news only once.
    said: String,
    /// Hash of the releases in the record on disk.
    releases: u64,
    /// What the record on disk says that the backend has.
    recorded: Marks,
}

/// What would be sent.
struct Draft {
    fields: Vec<Field>,
    detail: Detail,
    /// Nothing is on the way somewhere.
    is_settled: bool,
}

/// Runs until `stop` ends, and then sends what is still to be told (R-REP-12).
pub async fn run(with: Report, stop: impl Future<Output = ()>) {
    let record = former(&with.tools).await;
    // What is no record was said and set aside: all is reported once more.
    let (sent, releases) = fields::recorded(&record, with.whom).unwrap_or_default();
    with.tools.board.change_if(|board| {
        // Former releases that still run are known to the backend.
        board
            .known_releases
            .extend(releases.iter().map(|&release| release.into()));
        false
    });
    let reporter = Reporter::new(with.tools.clock.now(), with.ceiling, sent);
    let mut flow = Flow {
        with,
        reporter,
        ticks: None,
        said: String::new(),
        releases: sum(releases.into_iter()),
        recorded: sent,
    };
    future::or(stop, flow.report()).await;
    let now = flow.with.tools.clock.now();
    let Some(draft) = flow
        .draft(now, false)
        .filter(|draft| !draft.fields.is_empty())
    else {
        return;
    };
    let clock = flow.with.tools.clock.clone();
    future::or(
        flow.send(draft),
        clock.sleep_until(now + limits::SHUTDOWN_REPORT),
    )
    .await;
}

/// The record of a former run; empty when there is none. One that cannot be read is said and
/// set aside, so that it is looked into and not met again (FD-32).
async fn former(tools: &Tools) -> Vec<u8> {
    let record = match tools.store.get(DOCUMENT).await {
        Ok(record) => record.unwrap_or_default(),
        Err(error) => {
            log::warn!("what was reported before is not known, all is reported anew: {error}");
            Vec::new()
        }
    };
    if record.is_empty() {
        return record;
    }
    // Whose it is does not matter here.
    if let Err(why) = fields::recorded(&record, 0) {
        log::warn!("document '{DOCUMENT}' is set aside, {why}: all is reported anew");
        if let Err(error) = tools.store.quarantine(DOCUMENT).await {
            log::warn!("{error}");
        }
        return Vec::new();
    }
    record
}

/// Stands for a list of releases.
fn sum<'r>(releases: impl Iterator<Item = &'r str>) -> u64 {
    let all: Vec<&str> = releases.collect();
    hash::short(all.join("\n").as_bytes())
}

impl Flow {
    /// Never ends.
    async fn report(&mut self) {
        let (board, clock) = (self.with.tools.board.clone(), self.with.tools.clock.clone());
        let mut seen = 0;
        let mut rest = Rest::new(clock.now());
        loop {
            let is_dirty = self.reporter.is_dirty();
            let due = self.reporter.wake_at();
            let time = async {
                let due = due.unwrap_or_else(|| rest.wake_at());
                clock.sleep_until(due.min(rest.wake_at())).await;
                None
            };
            let change = async {
                match is_dirty {
                    // It is looked at in any case.
                    true => future::pending().await,
                    false => Some(board.newer(seen).await),
                }
            };
            if let Some(version) = future::or(time, change).await {
                seen = version;
                self.reporter.on_change();
                continue;
            }
            let now = clock.now();
            rest.on_time(now);
            if due.is_none_or(|due| now < due) {
                continue;
            }
            rest.stir(now);
            seen = board.version();
            let Some(draft) = self.draft(now, self.reporter.is_vitals_due(now)) else {
                self.reporter.on_nothing();
                continue;
            };
            if self.reporter.on_time(now, !draft.fields.is_empty()) {
                self.send(draft).await;
            }
        }
    }

    /// What is news now; `None` while there is nothing to tell.
    fn draft(&mut self, now: crate::base::uptime::Uptime, with_own: bool) -> Option<Draft> {
        let reporter = &self.reporter;
        let board = &self.with.tools.board;
        let (mut fields, detail, metrics, is_settled) = board.look(|board| {
            let (apps, detail) = fitting(board, reporter.detail(now))?;
            let target = board.target.as_ref();
            let metrics = target.and_then(|target| target.knobs.hardware_metrics);
            let is_settled = board.status != UpdateStatus::ApplyingChanges;
            Some((
                vec![Field::apps(apps)],
                detail,
                metrics != Some(false),
                is_settled,
            ))
        })?;
        if with_own {
            let vitals = self.with.tools.host.vitals();
            if let Some(own) = &self.with.own {
                fields.extend(fields::fields(own, &vitals, self.ticks, metrics));
            }
            self.ticks = vitals.cpu_ticks;
            self.reporter.on_vitals(now);
        }
        self.reporter.news(&mut fields);
        Some(Draft {
            fields,
            detail,
            is_settled,
        })
    }

    async fn send(&mut self, draft: Draft) {
        // From here on the backend may know it, whatever the answer is, and whoever reads it.
        self.reporter.on_sending(&draft.fields);
        let is_recorded = |field: &Field| !field.is_metric() && self.recorded[field.at].is_some();
        if draft.fields.iter().any(is_recorded) {
            self.disown().await;
        }
        let body = fields::body(&self.with.tools.facts.uuid, &draft.fields);
        let sent = self.with.remote.report(&body).await;
        drop(body);
        match sent {
            Ok(()) => {
                self.reporter.on_sent(&draft.fields, draft.detail);
                match std::mem::take(&mut self.said).is_empty() {
                    true => log::debug!("report: sent"),
                    false => log::info!("report: accepted again"),
                }
                self.remember(&draft).await;
            }
            Err(error) => self.failed(&draft, error),
        }
    }

    fn failed(&mut self, draft: &Draft, error: RemoteError) {
        let now = self.with.tools.clock.now();
        let chance = fastrand::f64();
        let delay = self
            .reporter
            .on_failed(now, error.kind, &draft.fields, chance);
        let secs = delay.as_secs();
        if error.said == self.said {
            return log::debug!("report: {error}; next try in {secs} s");
        }
        log::warn!("report: {error}; next try in {secs} s");
        self.said = error.said;
        if error.kind == RemoteKind::Unauthorized
            && let Some(trigger) = &self.with.trigger
        {
            trigger.verify();
        }
    }

    /// Writes down what was accepted. What is on the way somewhere, or measured all the
    /// time, is not worth a write (FD-33).
    async fn remember(&mut self, draft: &Draft) {
        let releases = self.with.tools.board.look(releases);
        let is_worth_it = draft.is_settled && draft.is_lasting();
        if (is_worth_it || releases != self.releases)
            && let Err(error) = self.record().await
        {
            log::warn!("{error}");
        }
    }

    /// What is on disk must not outlast what is sent now: an agent that is killed after that
    /// and comes back to the state on record would say nothing.
    async fn disown(&mut self) {
        if self.record().await.is_ok() {
            return;
        }
        // A full disk still removes.
        match self.with.tools.store.delete(DOCUMENT).await {
            Ok(()) => (self.recorded, self.releases) = (Marks::default(), sum([].into_iter())),
            Err(error) => log::warn!("{error}"),
        }
    }

    async fn record(&mut self) -> Result<(), StoreError> {
        let tools = &self.with.tools;
        let (record, sum) = tools.board.look(|board| {
            let known = board.known_releases.iter().map(|release| release.as_str());
            let record = fields::record(self.with.whom, self.reporter.sent(), known);
            (record, releases(board))
        });
        tools.store.put(DOCUMENT, record.as_bytes()).await?;
        (self.recorded, self.releases) = (*self.reporter.sent(), sum);
        Ok(())
    }
}

/// Stands for the releases that the backend knows.
fn releases(board: &Board) -> u64 {
    sum(board.known_releases.iter().map(|release| release.as_str()))
}

impl Draft {
    /// Whether it says something that is not measured all the time.
    fn is_lasting(&self) -> bool {
        self.fields.iter().any(|field| !field.is_metric())
    }
}

/// As much as the backend takes in one report (R-REP-8).
fn fitting(board: &Board, wanted: Detail) -> Option<(Vec<u8>, Detail)> {
    let mut apps = (wire::apps(board, wanted)?, wanted);
    for less in [Detail::Short, Detail::Lean] {
        if apps.0.len() > limits::REPORT_BYTES_MAX {
            apps = (wire::apps(board, less)?, less);
        }
    }
    Some(apps)
}
