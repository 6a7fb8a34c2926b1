//! What is known of the update and what is waited for; [`steps`](super::steps) does it.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future;

use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::model::ReleaseUuid;
use crate::model::target::HostTarget;
use crate::plan::board::{Board, Lane};
use crate::plan::device_locks;
use crate::plan::host::{
    self, Facts, HostStep, Locks, Pause, Record, Rest, Situation, Status, Unit,
};
use crate::plan::read;
use crate::plan::work::{Cancel, Tools};
use crate::world::updater::Machine;

/// Where documents of host releases are (state-engine 6.2).
pub(super) const RELEASES: &str = "host/releases";

/// The flow, where there is a machine.
pub(super) async fn run((tools, machine): (Tools, Machine), stop: Arc<Cancel>) {
    let mut updates = Updates {
        boot: machine.system.boot_id(),
        backoff: Backoff::new(tools.retry, limits::BACKOFF_MAX),
        tools: tools.clone(),
        machine,
        wanted: None,
        unit: Unit::Unknown,
        ready: None,
        clean: None,
        holds: false,
        refused: None,
        paused: None,
        said: String::new(),
    };
    let kept = async {
        updates.load().await;
        updates.keep().await;
    };
    future::or(stop.wait(), kept).await;
    // Nothing that an agent holds outlives it.
    updates.unlock();
}

/// Something failed, or is awaited; until then nothing else is tried.
pub(super) struct Paused {
    pub(super) why: Why,
    pub(super) until: Uptime,
}

pub(super) enum Why {
    Failed(String),
    Absent(String),
    Reboots,
}

pub(super) struct Updates {
    pub(super) tools: Tools,
    pub(super) machine: Machine,
    /// Which start of the machine this is.
    pub(super) boot: Option<String>,
    /// The target that was looked at last.
    pub(super) wanted: Option<HostTarget>,
    pub(super) unit: Unit,
    /// The image whose program is in its place.
    pub(super) ready: Option<crate::model::ImageUri>,
    /// The release whose remains are removed.
    pub(super) clean: Option<ReleaseUuid>,
    /// The update locks of all apps are this flow's.
    pub(super) holds: bool,
    /// The lock that somebody holds, and when it is looked at again.
    pub(super) refused: Option<(String, Uptime)>,
    pub(super) paused: Option<Paused>,
    pub(super) backoff: Backoff,
    /// What was last said of a lock.
    pub(super) said: String,
}

/// Whether apps are left alone right now, by whoever changes them; before a mere reboot
/// downloads do not count.
pub(super) fn is_settled(board: &Board, is_installed: bool) -> bool {
    match board.host.beside {
        Some(_) => !board.host.is_beside_busy,
        None if is_installed => board.active == 0,
        None => board.is_settled(),
    }
}

pub(super) fn document(release: &str) -> String {
    format!("{RELEASES}/{release}/hostapp")
}

impl Updates {
    /// What former runs know.
    async fn load(&self) {
        let tools = &self.tools;
        for release in tools.store.list(RELEASES).await.unwrap_or_default() {
            let path = document(&release);
            if let Some(record) = read::document::<Record>(tools, &path).await {
                let release = ReleaseUuid::new(&release);
                tools
                    .board
                    .change(|board| board.host.releases.insert(release, record));
            }
        }
    }

    /// For ever.
    async fn keep(&mut self) {
        loop {
            let seen = self.tools.board.version();
            self.take_up();
            let step = self.next();
            let Some(wanted) = self.wanted.clone() else {
                self.rest(Rest::Nothing, seen).await;
                continue;
            };
            match step {
                HostStep::Rest(rest) => self.rest(rest, seen).await,
                step => {
                    self.show(Lane::Working);
                    self.step(step, &wanted).await;
                }
            }
        }
    }

    /// Takes up a changed target, which resets every waiting time (D-19).
    fn take_up(&mut self) {
        let wanted = self.tools.board.look(|board| host::wanted(board).cloned());
        if wanted != self.wanted {
            self.wanted = wanted;
            self.backoff.reset();
            self.refused = None;
            self.paused
                .take_if(|paused| !matches!(paused.why, Why::Reboots));
        }
        let now = self.tools.clock.now();
        let is_forced = self.is_forced();
        self.paused.take_if(|paused| paused.until <= now);
        self.refused
            .take_if(|(_, until)| is_forced || *until <= now);
    }

    pub(super) fn is_forced(&self) -> bool {
        self.tools.board.look(|board| {
            let target = board.target.as_ref();
            board.host.is_forced || target.is_some_and(|target| target.knobs.override_lock)
        })
    }

    /// What comes next, by all that is known.
    fn next(&self) -> HostStep {
        let machine = &self.machine;
        let release = self.wanted.as_ref().map(|wanted| &wanted.release);
        let is_marked = || {
            let (release, boot) = release.zip(self.boot.as_deref())?;
            (host::is_plain(release) && machine.updater.is_marked(release, boot)).then_some(())
        };
        let is_marked = is_marked().is_some();
        let now_secs = self.tools.clock.wall_secs();
        let trial = machine.updater.trial();
        let absent = machine.system.absent();
        let updater = self.wanted.as_ref().map(|wanted| &wanted.updater);
        let pause = match (&absent, &self.paused) {
            (Some(why), _) => Some(Pause::Absent(why)),
            (None, Some(paused)) => Some(match &paused.why {
                Why::Failed(said) => Pause::Failed(said),
                Why::Absent(said) => Pause::Absent(said),
                Why::Reboots => Pause::Reboots,
            }),
            (None, None) => None,
        };
        self.tools.board.look(|board| {
            let releases = &board.host.releases;
            let record = release.and_then(|release| releases.get(release));
            let is_installed = record.is_some_and(|record| record.status == Status::Installed);
            let locks = match &self.refused {
                _ if self.holds => Locks::Held,
                Some((path, _)) => Locks::Refused(path),
                None => Locks::Free,
            };
            host::next(&Situation {
                wanted: self.wanted.as_ref(),
                record,
                has_others: releases.keys().any(|known| Some(known) != release),
                facts: Facts {
                    os: board.device.host.as_ref(),
                    boot: self.boot.as_deref(),
                    now_secs,
                    is_marked,
                },
                unit: &self.unit,
                is_ready: updater.is_some() && self.ready.as_ref() == updater,
                is_clean: self.clean.as_ref() == release,
                is_settled: is_settled(board, is_installed),
                is_on_trial: trial.is_some(),
                locks,
                pause,
            })
        })
    }

    /// Shows why nothing is done, and waits until that may be otherwise.
    async fn rest(&mut self, rest: Rest, seen: u64) {
        let now = self.tools.clock.now();
        let mut until = self.paused.as_ref().map(|paused| paused.until);
        until = until
            .into_iter()
            .chain(self.refused.as_ref().map(|(_, at)| *at))
            .min();
        let is_waiting = !matches!(rest, Rest::Nothing | Rest::Reached);
        // What the machine says by files and clocks makes no event.
        let look = is_waiting.then(|| now + limits::COMPARE_INTERVAL.min(self.tools.retry * 10));
        let mut until = until.into_iter().chain(look).min();
        let lane = match rest {
            Rest::Nothing => None,
            Rest::Reached => Some(Lane::Reached),
            Rest::Waits(why) => Some(Lane::Waiting(why.into())),
            Rest::Blocked(why, at) => {
                let left = at.map(|at| at - self.tools.clock.wall_secs());
                let left = left.and_then(|left| u64::try_from(left).ok());
                let left = left.map(|left| now + Duration::from_secs(left.saturating_add(1)));
                until = until.into_iter().chain(left).min();
                Some(Lane::Blocked(why.into()))
            }
        };
        self.let_go();
        self.show(lane);
        let time = async {
            match until {
                Some(at) => self.tools.clock.sleep_until(at).await,
                None => future::pending().await,
            }
        };
        let change = async {
            self.tools.board.newer(seen).await;
        };
        future::or(change, time).await;
    }

    /// Gives the locks back, unless a reboot is all that is left.
    fn let_go(&mut self) {
        let is_installed = self.tools.board.look(|board| {
            let release = self.wanted.as_ref().map(|wanted| &wanted.release);
            let record = release.and_then(|release| board.host.releases.get(release));
            record.is_some_and(|record| record.status == Status::Installed)
        });
        if !is_installed {
            self.unlock();
        }
    }

    pub(super) fn unlock(&mut self) {
        if std::mem::take(&mut self.holds) {
            device_locks::release(&self.tools);
        }
    }

    /// Puts on the board, and in the log, how far the update is (FD-37).
    pub(super) fn show(&self, lane: impl Into<Option<Lane>>) {
        let lane = lane.into();
        let image = self
            .wanted
            .as_ref()
            .filter(|_| lane.is_some() && lane != Some(Lane::Reached));
        let image = image.map(|wanted| wanted.updater.clone());
        let mut is_new = false;
        self.tools.board.change_if(|board| {
            is_new = board.host.lane != lane;
            let is_other = board.host.image != image;
            if is_other && image.is_none() {
                // It may be clean-up's.
                board.plans += 1;
            }
            board.host.lane.clone_from(&lane);
            board.host.image = image;
            is_new || is_other
        });
        match &lane {
            _ if !is_new => {}
            None | Some(Lane::Working) => {}
            Some(Lane::Waiting(why)) => log::info!("host OS: its update waits: {why}"),
            Some(Lane::Reached) => log::info!("host OS: it is at its target"),
            Some(Lane::Blocked(why)) => log::error!("host OS: it is not updated: {why}"),
        }
    }
}
