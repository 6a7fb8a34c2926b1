//! The steps of an update of the host's OS, one function each.

use crate::limits;
use crate::model::target::HostTarget;
use crate::model::{ImageUri, ReleaseUuid};
use crate::plan::board::{Board, Lane};
use crate::plan::device_locks::{self, Refusal};
use crate::plan::host::{self, HostStep, Record, Status, Unit};
use crate::plan::sweep;
use crate::world::engine::Kind;
use crate::world::system::{Power, SystemError, SystemErrorKind, Transient};

use super::updates::{Paused, RELEASES, Updates, Why, document, is_settled};

/// The updater's unit (state-engine 6.5).
const UNIT: &str = "os-update.service";
/// Its program.
const PROGRAM: &str = "entry.sh";
impl Updates {
    pub(super) async fn step(&mut self, step: HostStep, wanted: &HostTarget) {
        match step {
            HostStep::Rest(_) => {}
            HostStep::Write(record) => self.write(wanted, *record).await,
            HostStep::Forget => self.forget(wanted).await,
            HostStep::Look => match self.machine.system.unit(UNIT).await {
                Ok(seen) => self.unit = Unit::of(seen),
                Err(error) => self.failed(error),
            },
            HostStep::Await => self.wait_for_unit(wanted).await,
            HostStep::Conclude(record) => self.conclude(*record, wanted).await,
            HostStep::Dismiss => {
                log::info!("host OS: unit '{UNIT}' was about another release");
                match self.machine.system.forget(UNIT).await {
                    Ok(()) => self.unit = Unit::Gone,
                    Err(error) => self.failed(error),
                }
            }
            HostStep::Prepare => self.prepare(wanted).await,
            HostStep::Lock => self.lock().await,
            HostStep::Start(record) => self.start(*record, wanted).await,
            HostStep::Reboot => self.reboot(wanted).await,
            HostStep::Clean => {
                self.machine.updater.clear().await;
                self.machine.updater.unmark(&wanted.release);
                self.clean = Some(wanted.release.clone());
                self.show(Lane::Reached);
                sweep::drop_image(&self.tools, &wanted.updater).await;
            }
        }
    }

    /// Puts what is known of the release on the board and on disk; whether it is on disk.
    async fn put(&self, wanted: &HostTarget, record: Record) -> bool {
        // Plain text in a struct: there is nothing that could fail.
        let bytes = serde_json::to_vec_pretty(&record).unwrap_or_default();
        self.tools.board.change(|board| {
            let release = wanted.release.clone();
            board.host.releases.insert(release, record);
        });
        let path = document(&wanted.release);
        match self.tools.store.put(&path, &bytes).await {
            Ok(()) => true,
            Err(error) => {
                log::warn!("{error}");
                false
            }
        }
    }

    async fn write(&self, wanted: &HostTarget, record: Record) {
        let release = &wanted.release;
        let before = self
            .tools
            .board
            .look(|board| board.host.releases.get(release).cloned());
        if before.as_ref().map(|before| before.status) != Some(record.status) {
            match (record.status, &record.last_error) {
                (Status::Running, _) => log::info!("host OS: release '{release}' runs"),
                (Status::Installed, _) => log::info!("host OS: release '{release}' is installed"),
                (Status::Created, Some(why)) => log::warn!("host OS: release '{release}': {why}"),
                (Status::Created, None) => {
                    log::info!("host OS: release '{release}' is to be installed");
                }
            }
        }
        self.put(wanted, record).await;
    }

    async fn forget(&self, wanted: &HostTarget) {
        let others = self.tools.board.change(|board| {
            let all = std::mem::take(&mut board.host.releases);
            let is_other = |(release, _): &(ReleaseUuid, Record)| *release != wanted.release;
            let (others, kept) = all.into_iter().partition::<Vec<_>, _>(is_other);
            board.host.releases = kept.into_iter().collect();
            others
        });
        for (release, record) in others {
            log::info!("host OS: release '{release}' is not in the target any more");
            self.machine.updater.unmark(&release);
            let path = format!("{RELEASES}/{release}/");
            if let Err(error) = self.tools.store.delete(&path).await {
                log::warn!("{error}");
            }
            let image = ImageUri::parse(&record.updater);
            if let Some(image) = image.ok().filter(|image| *image != wanted.updater) {
                sweep::drop_image(&self.tools, &image).await;
            }
        }
    }

    fn failed(&mut self, error: SystemError) {
        let why = match error.kind {
            SystemErrorKind::Absent => Why::Absent(error.said),
            _ => Why::Failed(error.said),
        };
        self.pause(why);
    }

    /// Something failed: it is tried again later (D-19).
    fn pause(&mut self, why: Why) {
        let delay = self.backoff.failed(fastrand::f64());
        let until = self.tools.clock.now() + delay;
        if let Why::Failed(said) | Why::Absent(said) = &why {
            let secs = crate::base::uptime::whole_secs(delay);
            log::warn!("host OS: {said}; next try in {secs} s");
        }
        self.paused = Some(Paused { why, until });
    }

    /// A unit runs, whoever started it.
    async fn wait_for_unit(&mut self, wanted: &HostTarget) {
        let Unit::Seen(release, None) = &self.unit else {
            return;
        };
        let release = release.clone();
        match release.as_deref() == Some(wanted.release.as_str()) {
            true => log::info!("host OS: an updater that runs already is waited for"),
            false => log::info!("host OS: the updater of another release is waited for"),
        }
        if !self.holds {
            // It runs, whatever locks there are.
            self.lock().await;
        }
        match self
            .machine
            .system
            .wait(UNIT, limits::UPDATER_RUN_MAX)
            .await
        {
            Ok(ended) => self.unit = Unit::Seen(release, Some(ended)),
            Err(error) => self.lost(error, wanted).await,
        }
    }

    /// Nobody knows how a unit ended.
    async fn lost(&mut self, error: SystemError, wanted: &HostTarget) {
        self.unit = Unit::Unknown;
        let known = self
            .tools
            .board
            .look(|board| board.host.releases.get(&wanted.release).cloned());
        if let Some(record) = known.filter(|_| error.kind != SystemErrorKind::Absent) {
            let last_error = Some(error.said.clone());
            self.put(
                wanted,
                Record {
                    last_error,
                    ..record
                },
            )
            .await;
        }
        self.failed(error);
    }

    /// A unit has ended: writes down what that means, then forgets it. Whoever is killed in
    /// between does it once more.
    async fn conclude(&mut self, record: Record, wanted: &HostTarget) {
        let said = record.last_error.clone();
        let is_installed = record.status == Status::Installed;
        self.put(wanted, record).await;
        if let Some(boot) = self.boot.as_deref().filter(|_| is_installed) {
            log::info!("host OS: release '{}' is installed", wanted.release);
            if let Err(error) = self.machine.updater.mark(&wanted.release, boot) {
                log::warn!("host OS: the breadcrumb cannot be left: {error}");
            }
        }
        match self.machine.system.forget(UNIT).await {
            Ok(()) => self.unit = Unit::Gone,
            Err(error) => return self.failed(error),
        }
        match said.filter(|_| !is_installed) {
            Some(said) => self.pause(Why::Failed(said)),
            None => self.backoff.reset(),
        }
    }

    /// Gets the updater's image, and the program out of it.
    async fn prepare(&mut self, wanted: &HostTarget) {
        let image = &wanted.updater;
        let engine = &self.tools.engine;
        let is_there = match engine.image(image).await {
            Ok(_) => true,
            Err(error) if error.kind == Kind::Gone => false,
            Err(error) => return self.pause(Why::Failed(error.to_string())),
        };
        if !is_there {
            // Before it is there, so that no kill of the agent makes it nobody's.
            sweep::remember(&self.tools, image).await;
            log::info!("host OS: pulling the updater '{image}'");
            if let Err(error) = engine.pull(image, &|_| {}).await {
                return self.pause(Why::Failed(error.to_string()));
            }
        }
        match self.machine.updater.unpack(image).await {
            Ok(()) => self.ready = Some(image.clone()),
            Err(why) => self.pause(Why::Failed(why)),
        }
    }

    async fn lock(&mut self) {
        match device_locks::take(&self.tools, self.is_forced()).await {
            Ok(()) => {
                self.holds = true;
                self.said.clear();
            }
            Err(Refusal::Lock(refused)) => {
                let until = self.tools.clock.now() + self.tools.retry;
                if self.said != refused.path {
                    log::info!("host OS: {refused}; it is looked at again");
                    self.said.clone_from(&refused.path);
                }
                self.refused = Some((refused.path, until));
            }
            Err(why) => self.pause(Why::Failed(why.to_string())),
        }
    }

    /// Starts the updater, once the attempt is counted.
    async fn start(&mut self, record: Record, wanted: &HostTarget) {
        let is_settled = |board: &Board| is_settled(board, false);
        if !self.tools.board.look(is_settled) {
            // Somebody began while the locks were taken.
            return self.unlock();
        }
        let attempt = record.install_attempts;
        let before = Record {
            install_attempts: attempt.saturating_sub(1),
            ..record.clone()
        };
        if !self.put(wanted, record).await {
            // One that is not counted may be made without end.
            self.put(wanted, before).await;
            return self.pause(Why::Failed("the attempt cannot be written down".to_owned()));
        }
        let directory = self.machine.updater.directory();
        let mut command = vec![format!("{directory}/{PROGRAM}")];
        command.extend(host::arguments(wanted).map(str::to_owned));
        log::info!(
            "host OS: release '{}' is installed now, attempt {attempt}",
            wanted.release
        );
        let unit = Transient {
            unit: UNIT,
            description: "Update of the host OS",
            command: &command,
            directory: &directory,
            limit: limits::UPDATER_RUN_MAX,
        };
        match self.machine.system.run(&unit).await {
            Ok(ended) => {
                self.unit = Unit::Seen(Some(wanted.release.as_str().into()), Some(ended));
            }
            Err(error) => {
                let kind = error.kind;
                self.lost(error, wanted).await;
                if matches!(kind, SystemErrorKind::Absent | SystemErrorKind::Exists) {
                    // It was not started.
                    self.put(wanted, before).await;
                }
            }
        }
    }

    async fn reboot(&mut self, wanted: &HostTarget) {
        log::warn!("rebooting the host into release '{}'", wanted.release);
        match self.machine.system.power(Power::Reboot).await {
            Ok(()) => {
                let until = self.tools.clock.now() + limits::REBOOT_WAIT;
                let why = Why::Reboots;
                self.paused = Some(Paused { why, until });
            }
            Err(error) => self.failed(error),
        }
    }
}
