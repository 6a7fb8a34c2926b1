//! Taking over from the legacy supervisor, and handing back to it: the order of the steps.
//!
//! | step | taking over | handing back |
//! |---|---|---|
//! | 1 | | what this agent runs is removed |
//! | 2 | what is found is written down | |
//! | 3 | the mark of a restart that is due | the same |
//! | 4 | our settings into its database | what was found before us |
//! | 5 | which start of it has not read them | the same |
//! | 6 | it restarts, unless it did since | the same |
//! | 7 | the mark goes | the same, and what was written down is marked as done |
//!
//! # Invariants
//!
//! * Killed at any step, the next run of either direction ends as if nothing had happened,
//!   and the supervisor restarts once (FD-42, S-TKO-08).
//! * What it had before the first takeover is on disk before it is changed.
//! * Both directions may be run again at any time: what is so already restarts nothing.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::base::uptime::Uptime;
use crate::limits;
use crate::world::clock::Clock;
use crate::world::store::{Store, StoreError};
use crate::world::takeover::{Settings, Start, Supervisor, Trouble, TroubleKind};

/// Names of its container, today's first (remote-api 8.1).
pub const CONTAINERS: [&str; 2] = ["balena_supervisor", "resin_supervisor"];

/// Where it is written down what was changed.
pub const RECORD: &str = "legacy/takeover";

/// What there is to do it with.
#[derive(Clone, Copy)]
pub struct Takeover<'a> {
    /// The legacy supervisor.
    pub supervisor: &'a dyn Supervisor,
    /// Where it is written down.
    pub store: &'a dyn Store,
    /// For everything that waits.
    pub clock: &'a dyn Clock,
    /// How long the machine had been up when the clock began.
    pub machine_up: Duration,
}

/// How it ended well. Shows as one line that begins with a stable word (R-TKO-9).
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There is no legacy supervisor.
    NotPresent,
    /// Its settings are those wanted, and it has read them.
    AlreadyConfigured(&'static str),
    /// They are now.
    Migrated(&'static str),
    /// They are as before this agent, whose so many containers are removed.
    Restored(&'static str, usize),
    /// They were.
    AlreadyRestored(&'static str),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::NotPresent => {
                write!(f, "not-present: there is no legacy supervisor's container")
            }
            Outcome::AlreadyConfigured(name) => {
                write!(f, "already-configured: {name} works with this agent")
            }
            Outcome::Migrated(name) => {
                write!(f, "migrated: {name} works with this agent from now on")
            }
            Outcome::Restored(name, removed) => write!(
                f,
                "restored: {name} works as before, containers of this agent removed: {removed}"
            ),
            Outcome::AlreadyRestored(name) => {
                write!(f, "already-restored: {name} works without this agent")
            }
        }
    }
}

/// What is written down of a takeover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// What was found before the first one.
    before: Settings,
    /// What was put in its place.
    ours: Settings,
    /// The start of its container that has not read what is in its database.
    #[serde(default)]
    unread_by: Option<String>,
    /// It was handed back.
    #[serde(default)]
    restored: bool,
    /// A takeover was done to its end, and not handed back since.
    #[serde(default)]
    migrated: bool,
}

impl Record {
    /// Of settings that somebody else wrote, and nothing was there before.
    fn of_others(found: Settings) -> Record {
        Record {
            before: Settings::default(),
            ours: found,
            unread_by: None,
            restored: false,
            migrated: false,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Trouble {
        lasting(error.to_string())
    }
}

fn lasting(said: String) -> Trouble {
    let kind = TroubleKind::Lasting;
    Trouble { kind, said }
}

/// Equal but for one slash at the end of the endpoint (R-TKO-2).
fn is_same(one: &Settings, other: &Settings) -> bool {
    let bare = |text: &Option<String>| {
        let text = text.as_deref();
        text.map(|text| text.strip_suffix('/').unwrap_or(text).to_owned())
    };
    bare(&one.endpoint) == bare(&other.endpoint) && one.port == other.port
}

impl Takeover<'_> {
    /// Makes the supervisor work with these settings.
    ///
    /// # Errors
    /// What went wrong; another try begins where this one ended.
    pub async fn take_over(self, wanted: &Settings) -> Result<Outcome, Trouble> {
        let end = self.clock.now() + limits::TAKEOVER_BUDGET;
        let Some(name) = self.find(end).await? else {
            return Ok(Outcome::NotPresent);
        };
        let found = self.again(end, || self.supervisor.settings(name)).await?;
        let record = self.record().await?;
        if is_same(&found, wanted) {
            if !self.supervisor.is_marked() {
                return Ok(Outcome::AlreadyConfigured(name));
            }
            let record = record.unwrap_or_else(|| Record::of_others(found));
            let record = self.reload(name, record, end).await?;
            return self.migrated(name, record).await;
        }
        let migrated = record.as_ref().is_some_and(|record| record.migrated);
        let before = match record {
            // Ours from an earlier time, or with other values.
            Some(record) if is_same(&found, &record.ours) => record.before,
            _ => found,
        };
        let record = Record {
            before,
            ours: wanted.clone(),
            unread_by: None,
            restored: false,
            migrated,
        };
        let record = self.change(name, wanted, record, end).await?;
        let record = self.reload(name, record, end).await?;
        self.migrated(name, record).await
    }

    async fn migrated(self, name: &'static str, mut record: Record) -> Result<Outcome, Trouble> {
        record.migrated = true;
        self.put(&record).await?;
        Ok(Outcome::Migrated(name))
    }

    /// Whether the supervisor works with this agent since an earlier takeover: without the
    /// agent it reaches nobody.
    pub async fn has_migrated(self) -> bool {
        let record = self.record().await.ok().flatten();
        record.is_some_and(|record| record.migrated)
    }

    /// Makes it work as it did before this agent, which must not run any more.
    ///
    /// # Errors
    /// What went wrong; another try begins where this one ended.
    pub async fn restore(self) -> Result<Outcome, Trouble> {
        let end = self.clock.now() + limits::TAKEOVER_BUDGET;
        let record = self.record().await?;
        let Some(name) = self.find(end).await? else {
            let is_ours = record.is_some_and(|record| !record.restored);
            let said = "the legacy supervisor's container is not there: nothing is handed back";
            return match is_ours {
                true => Err(lasting(said.to_owned())),
                false => Ok(Outcome::NotPresent),
            };
        };
        let found = self.again(end, || self.supervisor.settings(name)).await?;
        // Without a record it was upstream who took over, which writes both, or nobody.
        let is_taken = found.endpoint.is_some() && found.port.is_some();
        let wanted = match &record {
            Some(record) => record.before.clone(),
            None if is_taken => Settings::default(),
            None => found.clone(),
        };
        // Before it starts anything of its own: two of a service may spoil its data.
        let removed = self.supervisor.remove_ours().await?;
        let is_same = is_same(&found, &wanted);
        if is_same && removed == 0 && !self.supervisor.is_marked() {
            self.is_done(record).await?;
            return Ok(Outcome::AlreadyRestored(name));
        }
        let mut record = record.unwrap_or_else(|| Record::of_others(found));
        if !is_same {
            record = self.change(name, &wanted, record, end).await?;
        }
        if self.supervisor.is_marked() {
            record = self.reload(name, record, end).await?;
        }
        self.is_done(Some(record)).await?;
        Ok(Outcome::Restored(name, removed))
    }

    /// Its container's name. It may still be on its way while the machine starts (R-TKO-5).
    async fn find(&self, end: Uptime) -> Result<Option<&'static str>, Trouble> {
        let begun = self.clock.now();
        loop {
            for name in CONTAINERS {
                let found = self.again(end, || self.supervisor.start_of(name));
                if found.await?.is_some() {
                    return Ok(Some(name));
                }
            }
            let now = self.clock.now();
            let up = self.machine_up.saturating_add(now.since_start());
            let is_up = up >= limits::TAKEOVER_BOOT;
            if is_up || now - begun >= limits::TAKEOVER_ABSENT {
                return Ok(None);
            }
            self.clock.sleep_until(now + limits::TAKEOVER_RETRY).await;
        }
    }

    /// Writes settings, and which start of the supervisor has not read them.
    async fn change(
        &self,
        name: &str,
        wanted: &Settings,
        mut record: Record,
        end: Uptime,
    ) -> Result<Record, Trouble> {
        record.unread_by = None;
        self.put(&record).await?;
        let is_ours = self.supervisor.mark()?;
        let set = self.again(end, || self.supervisor.set(name, wanted));
        if let Err(trouble) = set.await {
            // One that was there stands for a restart that is due anyway (R-TKO-4).
            if is_ours && trouble.kind != TroubleKind::TimedOut {
                self.supervisor.unmark()?;
            }
            return Err(trouble);
        }
        let start = self.again(end, || self.supervisor.start_of(name)).await?;
        record.unread_by = start.map(|Start(start)| start);
        self.put(&record).await?;
        Ok(record)
    }

    /// Sees to it that the supervisor has read its settings, and takes the mark away.
    async fn reload(&self, name: &str, mut record: Record, end: Uptime) -> Result<Record, Trouble> {
        let start = self.again(end, || self.supervisor.start_of(name)).await?;
        let start = start.map(|Start(start)| start);
        let unread_by = record.unread_by.take();
        let has_read = unread_by.is_some() && start.is_some() && unread_by != start;
        if !has_read {
            if unread_by != start {
                // So that the next run sees when this one restarted it.
                record.unread_by.clone_from(&start);
                self.put(&record).await?;
            }
            log::info!("restarting the legacy supervisor {name}, for its new settings");
            self.again(end, || self.supervisor.restart(name)).await?;
        }
        self.supervisor.unmark()?;
        record.unread_by = None;
        Ok(record)
    }

    /// Tries again while it is only a matter of time (R-TKO-5).
    async fn again<T, F: Future<Output = Result<T, Trouble>>>(
        &self,
        end: Uptime,
        step: impl Fn() -> F,
    ) -> Result<T, Trouble> {
        loop {
            match step().await {
                Err(trouble) if trouble.kind == TroubleKind::Passing && self.clock.now() < end => {
                    log::debug!("{trouble}; trying again");
                    let next = self.clock.now() + limits::TAKEOVER_RETRY;
                    self.clock.sleep_until(next.min(end)).await;
                }
                done => return done,
            }
        }
    }

    async fn record(&self) -> Result<Option<Record>, Trouble> {
        let Some(bytes) = self.store.get(RECORD).await? else {
            return Ok(None);
        };
        match serde_json::from_slice(&bytes) {
            Ok(record) => Ok(Some(record)),
            Err(error) => {
                log::error!("document '{RECORD}' is damaged and is set aside: {error}");
                self.store.quarantine(RECORD).await?;
                Ok(None)
            }
        }
    }

    async fn is_done(&self, record: Option<Record>) -> Result<(), Trouble> {
        let Some(mut record) = record.filter(|record| !record.restored) else {
            return Ok(());
        };
        (record.restored, record.migrated) = (true, false);
        self.put(&record).await
    }

    async fn put(&self, record: &Record) -> Result<(), Trouble> {
        let bytes = serde_json::to_vec(record).map_err(|error| lasting(error.to_string()))?;
        Ok(self.store.put(RECORD, &bytes).await?)
    }
}

/// Waits until the supervisor answers where it listens after a takeover (R-TKO-8).
pub async fn answers(supervisor: &dyn Supervisor, clock: &dyn Clock) -> bool {
    let end = clock.now() + limits::TAKEOVER_ANSWER;
    loop {
        if supervisor.answers().await {
            return true;
        }
        let next = clock.now() + limits::TAKEOVER_ANSWER_LOOK;
        if next > end {
            return false;
        }
        clock.sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests;
