//! The update of the host's operating system: what is known of it, and what comes next
//! (state-engine 6). Pure.
//!
//! # Invariants
//!
//! * An attempt is counted, on disk, before its unit is started; there are three a day.
//! * "Installed" holds for one start of the machine: after the next one either the new system
//!   runs, or the attempt has failed (W-30).
//! * Nothing is begun beside apps that are being changed, and nothing is started or rebooted
//!   without the update locks of all of them (W-14).

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::board::{Board, Lane};
use crate::base::map::Map;
use crate::limits::{CLOCK_FLOOR_SECS, HOST_ATTEMPTS_MAX, HOST_ATTEMPTS_RESET_SECS};
use crate::model::current::OperatingSystem;
use crate::model::status::UpdateStatus;
use crate::model::target::HostTarget;
use crate::model::{ImageUri, ReleaseUuid};
use crate::world::system::{Ended, Power, SeenUnit};

/// What apps wait for while the host is updated or about to start anew (W-14).
pub const UPDATE: &str = "an update or a reboot of the host";

/// What everyone may look at.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// How far the update is; `None` while no target says anything of the host.
    pub lane: Option<Lane>,
    /// What is known of releases of the host app.
    pub releases: Map<ReleaseUuid, Record>,
    /// The target, where the rest of it is left to somebody else (D-08).
    pub beside: Option<Arc<HostTarget>>,
    /// Who has the rest is at work on it.
    pub is_beside_busy: bool,
    /// Update locks of services are disregarded.
    pub is_forced: bool,
    /// The updater's image while it is needed.
    pub image: Option<ImageUri>,
    /// Directories whose update locks are held for the host.
    pub held: Vec<Arc<str>>,
    /// What somebody asked for.
    pub wish: Option<Wish>,
    /// The host is being changed: of apps nothing is stopped meanwhile.
    pub is_exclusive: bool,
}

/// What is to become of the host in a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// What.
    pub power: Power,
    /// The update locks of all apps are held for that.
    pub has_locks: bool,
}

/// One release of the host, as it is stored (state-engine 6.2). What is not in upstream's
/// documents may be absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The host app's uuid.
    pub app: String,
    /// The OS image.
    pub image: String,
    /// The board revision that it reports.
    pub build: String,
    /// The image that installs it.
    pub updater: String,
    /// How far it is.
    pub status: Status,
    /// Tries, until there was none for a day: a system that came up once may still be taken back.
    pub install_attempts: u32,
    /// When the last one began: seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempted_at: Option<i64>,
    /// In which start of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
    /// What the host ran then; of a release that runs: what it calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Why the last try failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// How far a release of the host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Known.
    Created,
    /// It is there with the next start of the machine.
    Installed,
    /// It runs.
    Running,
}

impl Status {
    /// The word in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Installed => "installed",
            Status::Running => "running",
        }
    }
}

/// What the machine says right now.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the host runs.
    pub os: Option<&'a OperatingSystem>,
    /// Which start of the machine this is.
    pub boot: Option<&'a str>,
    /// Seconds since the epoch, by a clock that may be wrong.
    pub now_secs: i64,
    /// There is the breadcrumb of an update that is installed.
    pub is_marked: bool,
}

/// The updater's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unit {
    /// Nobody looked yet.
    Unknown,
    /// There is none.
    Gone,
    /// For which release it was started, as far as its arguments say so, and how it ended.
    Seen(Option<Box<str>>, Option<Ended>),
}

impl Unit {
    /// What a look at it brought (W-22).
    #[must_use]
    pub fn of(seen: Option<SeenUnit>) -> Unit {
        let Some(SeenUnit { command, ended }) = seen else {
            return Unit::Gone;
        };
        let mut words = command.into_iter();
        let release = words
            .find(|word| word == RELEASE)
            .and_then(|_| words.next());
        Unit::Seen(release.map(Into::into), ended)
    }
}

/// Whether the update locks of all apps are ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Locks<'a> {
    /// Nobody asked.
    Free,
    /// They are.
    Held,
    /// Somebody holds one, and is left alone for a while.
    Refused(&'a str),
}

/// What stands in the way for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause<'a> {
    /// Something failed and is tried again.
    Failed(&'a str),
    /// What is needed is not there.
    Absent(&'a str),
    /// The machine was told to start anew.
    Reboots,
}

/// All that counts.
#[derive(Debug, Clone)]
pub struct Situation<'a> {
    /// What should be.
    pub wanted: Option<&'a HostTarget>,
    /// What is known of that release.
    pub record: Option<&'a Record>,
    /// Something is known of other releases.
    pub has_others: bool,
    /// What the machine says.
    pub facts: Facts<'a>,
    /// The updater's unit.
    pub unit: &'a Unit,
    /// The updater's program is there.
    pub is_ready: bool,
    /// What the last update left was removed.
    pub is_clean: bool,
    /// No app is being changed; where all that is left is a reboot: at this very moment.
    pub is_settled: bool,
    /// The host has not made sure yet that the system it runs is a good one.
    pub is_on_trial: bool,
    /// Update locks of all apps.
    pub locks: Locks<'a>,
    /// What stands in the way.
    pub pause: Option<Pause<'a>>,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostStep {
    /// Nothing, for now.
    Rest(Rest),
    /// This is what is known of the release.
    Write(Box<Record>),
    /// Forget all other releases (HOST-02).
    Forget,
    /// Look at the updater's unit.
    Look,
    /// It runs: wait for its end.
    Await,
    /// It has ended, and this follows: to be written, before the unit is forgotten.
    Conclude(Box<Record>),
    /// It was about another release: forget it.
    Dismiss,
    /// Get the updater's program.
    Prepare,
    /// Take the update locks of all apps.
    Lock,
    /// Count this attempt, then start the unit.
    Start(Box<Record>),
    /// Start the machine anew.
    Reboot,
    /// The release runs: remove what its update left.
    Clean,
}

/// Why nothing is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Nothing is wanted.
    Nothing,
    /// The host runs what it should.
    Reached,
    /// Something is waited for.
    Waits(String),
    /// It cannot be done; before that moment, if there is one: seconds since the epoch.
    Blocked(String, Option<i64>),
}

/// What the updater is told (state-engine 6.5).
const RELEASE: &str = "--release-commit";

/// The updater's arguments.
#[must_use]
pub fn arguments(wanted: &HostTarget) -> [&str; 6] {
    let (app, release, image) = (&wanted.app, &wanted.release, &wanted.image);
    [
        "--app-uuid",
        app,
        RELEASE,
        release,
        "--target-image-uri",
        image.as_str(),
    ]
}

/// Whether a release's uuid can be the name of a directory and a word of a command.
#[must_use]
pub fn is_plain(release: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=128).contains(&release.len()) && release.bytes().all(plain) && !release.starts_with('-')
}

/// What the host should run.
#[must_use]
pub fn wanted(board: &Board) -> Option<&HostTarget> {
    let beside = board.host.beside.as_deref();
    beside.or_else(|| board.target.as_ref()?.host.as_ref())
}

/// What the host's part says of the device's status, as far as it is not done (D-18, W-26).
#[must_use]
pub fn status(board: &Board) -> Option<(UpdateStatus, Arc<str>)> {
    let (status, why) = match board.host.lane.as_ref()? {
        Lane::Reached => return None,
        Lane::Working => (
            UpdateStatus::ApplyingChanges,
            "working on the host's OS".into(),
        ),
        Lane::Waiting(why) => (
            UpdateStatus::ApplyingChanges,
            format!("the update of the host's OS waits: {why}").into(),
        ),
        Lane::Blocked(why) => (
            UpdateStatus::Aborted,
            format!("the host's OS is not updated: {why}").into(),
        ),
    };
    Some((status, why))
}

/// What the host calls itself, without its board revision.
fn shown(os: &OperatingSystem) -> String {
    match &os.version {
        Some(version) => format!("{} {version}", os.name),
        None => os.name.to_string(),
    }
}

impl Record {
    /// A release that nothing is known of.
    #[must_use]
    pub fn new(wanted: &HostTarget) -> Record {
        Record {
            app: wanted.app.to_string(),
            image: wanted.image.to_string(),
            build: wanted.board_rev.to_string(),
            updater: wanted.updater.to_string(),
            status: Status::Created,
            install_attempts: 0,
            attempted_at: None,
            boot_id: None,
            os_version: None,
            last_error: None,
        }
    }

    /// The same with what the target says of it now: no reason to install it again (W-30).
    #[must_use]
    pub fn of(&self, wanted: &HostTarget) -> Record {
        let Record {
            app,
            image,
            build,
            updater,
            ..
        } = Record::new(wanted);
        Record {
            app,
            image,
            build,
            updater,
            ..self.clone()
        }
    }

    /// The same as it is now (state-engine 6.3).
    #[must_use]
    pub fn seen(&self, facts: &Facts<'_>) -> Record {
        let mut seen = self.clone();
        if let Some(os) = facts.os.filter(|os| self.runs(os, facts)) {
            seen.status = Status::Running;
            seen.last_error = None;
            if os.build.is_none() {
                seen.os_version = Some(shown(os));
            }
            return seen;
        }
        let is_same_boot = facts.boot.is_some() && self.boot_id.as_deref() == facts.boot;
        if facts.is_marked || self.status == Status::Installed && is_same_boot {
            seen.status = Status::Installed;
            seen.boot_id = facts.boot.map(str::to_owned);
            return seen;
        }
        seen.status = Status::Created;
        if self.status == Status::Installed {
            let os = facts.os.map_or_else(|| "another system".to_owned(), shown);
            seen.last_error = Some(format!("after the update the host came up with {os}"));
        } else if self.install_attempts > 0 && !is_same_boot && self.boot_id.is_some() {
            let why = || "the host started anew before the updater had ended".to_owned();
            seen.last_error.get_or_insert_with(why);
        }
        seen.age(facts.now_secs);
        seen
    }

    /// Whether the host runs it. A host that does not say its board revision runs it if it came
    /// up as another one after the update (W-30).
    fn runs(&self, os: &OperatingSystem, facts: &Facts<'_>) -> bool {
        if let Some(build) = &os.build {
            return **build == *self.build;
        }
        let Some(known) = self.os_version.as_ref().filter(|_| os.version.is_some()) else {
            return false;
        };
        let is_known = *known == shown(os);
        match self.status {
            Status::Running => is_known,
            Status::Created | Status::Installed => {
                let started_anew = self.boot_id.is_some() && self.boot_id.as_deref() != facts.boot;
                self.install_attempts > 0 && started_anew && !is_known
            }
        }
    }

    /// After a day without a try there are three more. A time that cannot be right counts as
    /// now.
    fn age(&mut self, now: i64) {
        if self.install_attempts == 0 || now < CLOCK_FLOOR_SECS {
            return;
        }
        match self.attempted_at {
            Some(at) if at >= CLOCK_FLOOR_SECS && at <= now => {
                if now - at >= HOST_ATTEMPTS_RESET_SECS {
                    self.install_attempts = 0;
                }
            }
            _ => self.attempted_at = Some(now),
        }
    }

    /// One try more, which begins now.
    fn attempted(&self, facts: &Facts<'_>) -> Record {
        Record {
            install_attempts: self.install_attempts.saturating_add(1),
            attempted_at: Some(facts.now_secs),
            boot_id: facts.boot.map(str::to_owned),
            os_version: facts.os.map(shown),
            last_error: None,
            ..self.clone()
        }
    }

    /// What an updater's end comes to.
    fn ended(&self, ended: &Ended, facts: &Facts<'_>) -> Record {
        let (status, last_error) = match ended {
            Ended::Well => (Status::Installed, None),
            Ended::Badly(said) => (Status::Created, Some(format!("the updater failed: {said}"))),
        };
        Record {
            status,
            last_error,
            boot_id: facts.boot.map(str::to_owned),
            os_version: self.os_version.clone().or_else(|| facts.os.map(shown)),
            // One that somebody else started is one as well.
            install_attempts: self.install_attempts.max(1),
            attempted_at: self.attempted_at.or(Some(facts.now_secs)),
            ..self.clone()
        }
    }
}

/// What comes next.
#[must_use]
pub fn next(situation: &Situation<'_>) -> HostStep {
    let Some(wanted) = situation.wanted else {
        return HostStep::Rest(Rest::Nothing);
    };
    if !is_plain(&wanted.release) {
        return blocked("the uuid of its release cannot be used as a name");
    }
    let facts = &situation.facts;
    let Some(record) = situation.record else {
        return HostStep::Write(Box::new(Record::new(wanted).seen(facts)));
    };
    let now = record.of(wanted).seen(facts);
    if now != *record {
        return HostStep::Write(Box::new(now));
    }
    if situation.has_others {
        return HostStep::Forget;
    }
    if record.status == Status::Running {
        return match situation.is_clean {
            true => HostStep::Rest(Rest::Reached),
            false => HostStep::Clean,
        };
    }
    hindered(situation, record).unwrap_or_else(|| updating(situation, (wanted, record)))
}

fn blocked(why: &str) -> HostStep {
    HostStep::Rest(Rest::Blocked(why.to_owned(), None))
}

fn waits(why: impl Into<String>) -> HostStep {
    HostStep::Rest(Rest::Waits(why.into()))
}

/// What keeps everything from being done.
fn hindered(situation: &Situation<'_>, record: &Record) -> Option<HostStep> {
    let facts = &situation.facts;
    let os = facts
        .os
        .filter(|os| os.build.is_some() || os.version.is_some());
    if os.is_none() {
        return Some(blocked(
            "what the host runs is not known: --host-os-version says it",
        ));
    }
    if facts.boot.is_none() {
        return Some(blocked(
            "one start of the host cannot be told from the next",
        ));
    }
    let is_over = record.status == Status::Created && record.install_attempts >= HOST_ATTEMPTS_MAX;
    if is_over && *situation.unit == Unit::Gone {
        let last = record.last_error.as_deref().unwrap_or("how, nobody knows");
        let why = format!(
            "{} attempts failed, the last one: {last}",
            record.install_attempts
        );
        let until = record.attempted_at.map(|at| at + HOST_ATTEMPTS_RESET_SECS);
        return Some(HostStep::Rest(Rest::Blocked(why, until)));
    }
    match situation.pause? {
        Pause::Failed(said) => Some(waits(said)),
        Pause::Absent(said) => Some(blocked(said)),
        Pause::Reboots => Some(waits("the host is starting anew")),
    }
}

fn updating(situation: &Situation<'_>, (wanted, record): (&HostTarget, &Record)) -> HostStep {
    let facts = &situation.facts;
    let is_installed = record.status == Status::Installed;
    match situation.unit {
        Unit::Unknown => return HostStep::Look,
        Unit::Seen(_, None) => return HostStep::Await,
        Unit::Seen(release, Some(ended)) => {
            return match release.as_deref() == Some(wanted.release.as_str()) {
                true => HostStep::Conclude(Box::new(record.ended(ended, facts))),
                false => HostStep::Dismiss,
            };
        }
        Unit::Gone => {}
    }
    if !is_installed {
        // What the host's own check of the former update counts as a failure (FD-40).
        if situation.is_on_trial {
            return waits("the host still makes sure that its last update is good");
        }
    }
    if !situation.is_settled && situation.locks != Locks::Held {
        return waits("apps are being changed");
    }
    if !is_installed && !situation.is_ready {
        return HostStep::Prepare;
    }
    match situation.locks {
        Locks::Free => HostStep::Lock,
        Locks::Refused(path) => waits(format!("update lock '{path}' is held")),
        Locks::Held if is_installed => HostStep::Reboot,
        Locks::Held => HostStep::Start(Box::new(record.attempted(facts))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = CLOCK_FLOOR_SECS + 1_000_000;
    const DAY: i64 = HOST_ATTEMPTS_RESET_SECS;

    fn wanted(release: &str, build: &str) -> HostTarget {
        HostTarget {
            app: "happ9".into(),
            release: release.into(),
            image: ImageUri::parse("r.example.org/os@sha256:0123456789abcdef0123456789abcdef")
                .unwrap(),
            updater: ImageUri::parse("r.example.org/hup:1").unwrap(),
            board_rev: build.into(),
        }
    }

    fn os(text: &str) -> OperatingSystem {
        let (version, build) = match text.split_once('@') {
            Some((version, build)) => (version, Some(build.into())),
            None => (text, None),
        };
        OperatingSystem {
            name: "balenaOS".into(),
            version: Some(version.into()).filter(|text: &Arc<str>| !text.is_empty()),
            build,
        }
    }

    /// A machine that a test moves along.
    struct Case {
        wanted: Option<HostTarget>,
        record: Option<Record>,
        os: Option<OperatingSystem>,
        unit: Unit,
        now: i64,
        boot: &'static str,
        has_others: bool,
        is_marked: bool,
        is_ready: bool,
        is_settled: bool,
        is_on_trial: bool,
        locks: Locks<'static>,
        pause: Option<Pause<'static>>,
    }

    /// H1 of build b1 is wanted of a host of build b0.
    fn case() -> Case {
        Case {
            wanted: Some(wanted("h1", "b1")),
            record: Some(Record::new(&wanted("h1", "b1"))),
            os: Some(os("6.1@b0")),
            unit: Unit::Gone,
            now: NOW,
            boot: "boot1",
            has_others: false,
            is_marked: false,
            is_ready: false,
            is_settled: true,
            is_on_trial: false,
            locks: Locks::Free,
            pause: None,
        }
    }

    impl Case {
        fn facts(&self) -> Facts<'_> {
            Facts {
                os: self.os.as_ref(),
                boot: Some(self.boot).filter(|boot| !boot.is_empty()),
                now_secs: self.now,
                is_marked: self.is_marked,
            }
        }

        fn next(&self) -> HostStep {
            next(&Situation {
                wanted: self.wanted.as_ref(),
                record: self.record.as_ref(),
                has_others: self.has_others,
                facts: self.facts(),
                unit: &self.unit,
                is_ready: self.is_ready,
                is_clean: true,
                is_settled: self.is_settled,
                is_on_trial: self.is_on_trial,
                locks: self.locks,
                pause: self.pause,
            })
        }

        /// The same with the record changed.
        fn with(mut self, change: impl FnOnce(&mut Record)) -> Case {
            change(self.record.as_mut().unwrap());
            self
        }

        fn written(&self) -> Record {
            match self.next() {
                HostStep::Write(record) => *record,
                other => panic!("{other:?}"),
            }
        }
    }

    fn failed(record: &mut Record, times: u32, at: i64) {
        record.install_attempts = times;
        record.attempted_at = Some(at);
        record.boot_id = Some("boot1".into());
        record.last_error = Some("the updater failed: exit code 1".into());
    }

    #[test]
    fn host_01_a_new_release_is_known_then_installed() {
        let mut case = Case {
            record: None,
            ..case()
        };
        case.record = Some(case.written());
        let record = case.record.clone().unwrap();
        assert_eq!(
            (record.status, record.install_attempts),
            (Status::Created, 0)
        );
        assert_eq!(case.next(), HostStep::Prepare);
        case.is_ready = true;
        assert_eq!(case.next(), HostStep::Lock);
        case.locks = Locks::Held;
        let HostStep::Start(counted) = case.next() else {
            panic!("{:?}", case.next())
        };
        assert_eq!(
            (counted.install_attempts, counted.attempted_at),
            (1, Some(NOW))
        );
        assert_eq!(counted.boot_id.as_deref(), Some("boot1"));
        assert_eq!(counted.os_version.as_deref(), Some("balenaOS 6.1"));
        case.record = Some(*counted);
        case.unit = Unit::Seen(Some("h1".into()), None);
        assert_eq!(case.next(), HostStep::Await);
        case.unit = Unit::Seen(Some("h1".into()), Some(Ended::Well));
        let HostStep::Conclude(installed) = case.next() else {
            panic!("{:?}", case.next())
        };
        assert_eq!(installed.status, Status::Installed);
        (case.record, case.unit) = (Some(*installed), Unit::Gone);
        assert_eq!(case.next(), HostStep::Reboot);
        case.pause = Some(Pause::Reboots);
        assert_eq!(case.next(), waits("the host is starting anew"));
    }

    #[test]
    fn host_01_a_release_that_runs_already_is_never_installed() {
        let case = Case {
            record: None,
            os: Some(os("6.1@b1")),
            ..case()
        };
        let record = case.written();
        assert_eq!(record.status, Status::Running);
        let case = Case {
            record: Some(record),
            ..case
        };
        assert_eq!(case.next(), HostStep::Rest(Rest::Reached));
    }

    #[test]
    fn host_02_former_releases_are_forgotten_first() {
        let case = Case {
            has_others: true,
            ..case()
        };
        assert_eq!(case.next(), HostStep::Forget);
    }

    #[test]
    fn host_03_what_is_installed_is_not_installed_again() {
        let installed = |record: &mut Record| {
            record.status = Status::Installed;
            record.boot_id = Some("boot1".into());
        };
        let held = Case {
            locks: Locks::Held,
            ..case().with(installed)
        };
        assert_eq!(held.next(), HostStep::Reboot);
        let others = Case {
            has_others: true,
            ..case().with(installed)
        };
        assert_eq!(others.next(), HostStep::Forget);
        assert_eq!(
            case().with(installed).next(),
            HostStep::Lock,
            "no reboot without locks"
        );
        let refused = Case {
            locks: Locks::Refused("/l"),
            ..case().with(installed)
        };
        assert_eq!(refused.next(), waits("update lock '/l' is held"));
        // The breadcrumb is as good as the document.
        let marked = Case {
            is_marked: true,
            ..case()
        };
        assert_eq!(marked.written().status, Status::Installed);
    }

    #[test]
    fn host_04_three_attempts_a_day() {
        let of = |times, at| case().with(|record| failed(record, times, at));
        assert_eq!(of(2, NOW - 5).next(), HostStep::Prepare);
        for times in [3, 4] {
            let HostStep::Rest(Rest::Blocked(why, until)) = of(times, NOW - 5).next() else {
                panic!("{times}");
            };
            assert!(why.contains("exit code 1"), "{why}");
            assert_eq!(until, Some(NOW - 5 + DAY));
        }
        let others = Case {
            has_others: true,
            ..of(4, NOW)
        };
        assert_eq!(others.next(), HostStep::Forget, "that needs no update");
        assert_eq!(of(3, NOW - DAY).written().install_attempts, 0);
        let last = of(3, NOW - DAY + 1).next();
        assert!(
            matches!(last, HostStep::Rest(Rest::Blocked(..))),
            "{last:?}"
        );
    }

    #[test]
    fn host_04_a_time_that_cannot_be_right_counts_as_now() {
        let of = |at, now| Case {
            now,
            ..case().with(|record| {
                failed(record, 3, 0);
                record.attempted_at = at;
            })
        };
        // In the future, by a clock that was not set, never said (upstream's documents).
        for at in [Some(NOW + 1), Some(CLOCK_FLOOR_SECS - 1), None] {
            let record = of(at, NOW).written();
            assert_eq!(
                (record.install_attempts, record.attempted_at),
                (3, Some(NOW)),
                "{at:?}"
            );
        }
        // While the clock is not set no day goes by.
        for at in [Some(NOW), Some(7), None] {
            let next = of(at, CLOCK_FLOOR_SECS - 1).next();
            assert!(
                matches!(next, HostStep::Rest(Rest::Blocked(..))),
                "{at:?} {next:?}"
            );
        }
    }

    #[test]
    fn host_05_without_a_host_in_the_target_nothing_is_touched() {
        let case = Case {
            wanted: None,
            has_others: true,
            ..case()
        };
        assert_eq!(case.next(), HostStep::Rest(Rest::Nothing));
    }

    #[test]
    fn fd_40_after_the_reboot_the_new_system_runs_or_the_attempt_failed() {
        let installed = |record: &mut Record| {
            failed(record, 1, NOW - 60);
            record.status = Status::Installed;
            record.os_version = Some("balenaOS 6.1".into());
        };
        let rebooted = |os_text| Case {
            boot: "boot2",
            os: Some(os(os_text)),
            ..case().with(installed)
        };
        let new = rebooted("6.2@b1").written();
        assert_eq!((new.status, new.last_error), (Status::Running, None));
        let old = rebooted("6.1@b0").written();
        assert_eq!((old.status, old.install_attempts), (Status::Created, 1));
        let why = old.last_error.unwrap();
        assert!(why.contains("came up with balenaOS 6.1"), "{why}");
        // The host did not start anew: still installed.
        let same = case().with(installed).next();
        assert_eq!(same, HostStep::Lock);
        let cut = Case {
            boot: "boot2",
            ..case().with(|record| {
                failed(record, 1, NOW - 60);
                record.last_error = None;
            })
        };
        let why = cut.written().last_error.unwrap();
        assert!(why.contains("started anew before"), "{why}");
    }

    #[test]
    fn w_30_a_host_without_a_board_revision_is_known_by_its_version() {
        let tried = |record: &mut Record| {
            failed(record, 1, NOW - 60);
            record.os_version = Some("balenaOS 6.1".into());
        };
        let case = |boot, text| Case {
            boot,
            os: Some(os(text)),
            ..case().with(tried)
        };
        let new = case("boot2", "6.2").written();
        assert_eq!(new.status, Status::Running);
        assert_eq!(new.os_version.as_deref(), Some("balenaOS 6.2"));
        let known = Case {
            record: Some(new),
            ..case("boot3", "6.2")
        };
        assert_eq!(known.next(), HostStep::Rest(Rest::Reached), "and stays so");
        let gone_back = Case {
            os: Some(os("6.1")),
            ..known
        };
        assert_eq!(gone_back.written().status, Status::Created);
        assert_eq!(
            case("boot2", "6.1").next(),
            HostStep::Prepare,
            "the old one"
        );
        assert_eq!(
            case("boot1", "6.2").next(),
            HostStep::Prepare,
            "no start in between"
        );
        let nameless = case("boot2", "").next();
        assert!(
            matches!(nameless, HostStep::Rest(Rest::Blocked(..))),
            "{nameless:?}"
        );
    }

    #[test]
    fn w_30_what_the_target_says_of_a_release_is_taken_over() {
        let running = Case {
            os: Some(os("6.1@b1")),
            ..case()
        };
        let mut running = Case {
            record: Some(running.written()),
            ..running
        };
        let mut new = wanted("h1", "b1");
        new.updater = ImageUri::parse("r.example.org/hup:2").unwrap();
        new.image = ImageUri::parse("r.example.org/os:2").unwrap();
        running.wanted = Some(new);
        let record = running.written();
        assert_eq!(
            (record.status, &*record.updater),
            (Status::Running, "r.example.org/hup:2")
        );
        running.record = Some(record);
        assert_eq!(running.next(), HostStep::Rest(Rest::Reached));
    }

    #[test]
    fn w_14_nothing_begins_beside_apps_or_without_their_locks() {
        let busy = Case {
            is_settled: false,
            ..case()
        };
        assert_eq!(busy.next(), waits("apps are being changed"));
        let busy = Case {
            is_settled: false,
            is_ready: true,
            ..case()
        };
        assert_eq!(busy.next(), waits("apps are being changed"));
        let held = Case {
            is_settled: false,
            is_ready: true,
            locks: Locks::Held,
            ..case()
        };
        assert!(
            matches!(held.next(), HostStep::Start(_)),
            "it is under way already"
        );
        let refused = Case {
            is_ready: true,
            locks: Locks::Refused("/l/updates.lock"),
            ..case()
        };
        assert_eq!(
            refused.next(),
            waits("update lock '/l/updates.lock' is held")
        );
        let trial = Case {
            is_on_trial: true,
            ..case()
        };
        assert_eq!(
            trial.next(),
            waits("the host still makes sure that its last update is good")
        );
    }

    #[test]
    fn w_22_a_unit_that_is_there_comes_first() {
        let ended = |said: &str| Some(Ended::Badly(said.into()));
        let of = |release: Option<&str>, ended| Case {
            unit: Unit::Seen(release.map(Into::into), ended),
            is_settled: false,
            ..case()
        };
        assert_eq!(
            Case {
                unit: Unit::Unknown,
                ..case()
            }
            .next(),
            HostStep::Look
        );
        for release in [Some("h1"), Some("h0"), None] {
            assert_eq!(of(release, None).next(), HostStep::Await, "{release:?}");
        }
        for release in [Some("h0"), None] {
            assert_eq!(
                of(release, Some(Ended::Well)).next(),
                HostStep::Dismiss,
                "{release:?}"
            );
        }
        let HostStep::Conclude(record) = of(Some("h1"), ended("exit code 7")).next() else {
            panic!()
        };
        assert_eq!(
            (record.status, record.install_attempts),
            (Status::Created, 1)
        );
        assert_eq!(
            record.last_error.as_deref(),
            Some("the updater failed: exit code 7")
        );
        // Whoever is killed after he wrote that does the same again, and no more.
        let again = Case {
            record: Some(*record.clone()),
            ..of(Some("h1"), ended("exit code 7"))
        };
        assert_eq!(again.next(), HostStep::Conclude(record));
    }

    #[test]
    fn w_22_the_release_of_a_unit_is_in_its_command() {
        let unit = |words: &[&str], ended| {
            Unit::of(Some(SeenUnit {
                command: words.iter().map(|word| (*word).to_owned()).collect(),
                ended,
            }))
        };
        let wanted = wanted("h1", "b1");
        let mut command = vec!["/tmp/balenahup/entry.sh"];
        command.extend(arguments(&wanted));
        assert_eq!(unit(&command, None), Unit::Seen(Some("h1".into()), None));
        assert_eq!(
            unit(&["x", "--release-commit"], None),
            Unit::Seen(None, None)
        );
        assert_eq!(
            unit(&["x"], Some(Ended::Well)),
            Unit::Seen(None, Some(Ended::Well))
        );
        assert_eq!(Unit::of(None), Unit::Gone);
    }

    #[test]
    fn gap_14_what_the_machine_lacks_is_the_reason() {
        let why = |case: Case| match case.next() {
            HostStep::Rest(Rest::Blocked(why, None)) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(Case { os: None, ..case() }).contains("--host-os-version"));
        assert!(why(Case { boot: "", ..case() }).contains("start of the host"));
        let absent = Some(Pause::Absent("there is no D-Bus at x"));
        assert_eq!(
            why(Case {
                pause: absent,
                ..case()
            }),
            "there is no D-Bus at x"
        );
        let paused = Case {
            pause: Some(Pause::Failed("no luck")),
            ..case()
        };
        assert_eq!(paused.next(), waits("no luck"));
        for release in ["", "../x", "a b", "-x", &"x".repeat(129)] {
            assert!(
                why(Case {
                    wanted: Some(wanted(release, "b")),
                    ..case()
                })
                .contains("uuid")
            );
        }
    }

    #[test]
    fn se_6_2_upstream_s_documents_are_read_and_extended() {
        let text = r#"{ "app": "happ9", "image": "r.example.org/os:latest", "build": "77be01d",
            "updater": "r.example.org/hup:latest", "status": "created", "install_attempts": 1 }"#;
        let record: Record = crate::base::json::from_str(text).unwrap();
        assert_eq!((record.install_attempts, record.attempted_at), (1, None));
        let same: serde_json::Value = crate::base::json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&record).unwrap(), same);
        let mut more = record;
        failed(&mut more, 2, NOW);
        let text = serde_json::to_string(&more).unwrap();
        assert_eq!(crate::base::json::from_str::<Record>(&text).unwrap(), more);
    }
}
