//! The machine below: its OS, its service manager, and an updater of that OS.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use helios::base::uptime::Uptime;
use helios::model::ImageUri;
use helios::model::current::OperatingSystem;
use helios::world::Pending;
use helios::world::system::{
    Ended, Power, SeenUnit, System, SystemError, SystemErrorKind, Transient, Verb,
};
use helios::world::updater::{Machine, Updater};

use super::world::{State, World};

/// What a run of the updater comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// The new OS is there with the next start.
    Installs,
    /// The same, and it takes its time.
    Slowly,
    /// It is, and does not come up: the host goes back to the old one.
    GoesBack,
    /// The updater starts the host anew by itself.
    Reboots,
    /// It fails.
    Fails,
    /// It never ends: the service manager ends it when its time is up.
    Hangs,
}

/// What there is of it.
#[derive(Default)]
pub struct Host {
    /// What runs; `None`: an agent does not know.
    pub os: Option<OperatingSystem>,
    /// What becomes of the next runs of the updater; after them it installs.
    pub runs: VecDeque<Run>,
    /// Why there is no service manager.
    pub absent: Option<String>,
    /// So many wishes for a reboot are refused.
    pub refuses: u32,
    /// So many more come to nothing.
    pub ignores: u32,
    /// The host still makes sure that its OS is a good one.
    pub is_on_trial: bool,
    /// Units that were started.
    pub starts: u32,
    /// Starts of the machine.
    pub boots: u32,
    /// Locks that were held when a unit was started, and when a reboot was asked for.
    pub held: Vec<(String, usize)>,
    /// The build that comes up with the next start, as far as it does.
    next: Option<String>,
    unit: Option<Unit>,
    program: Option<String>,
    marks: BTreeMap<String, String>,
}

struct Unit {
    command: Vec<String>,
    run: Run,
    ends: Uptime,
    has_ended: bool,
}

/// How long the updater takes.
const TAKES: Duration = Duration::from_secs(40);
/// From the wish for a reboot to its beginning.
const REBOOT: Duration = Duration::from_secs(3);

fn error(kind: SystemErrorKind, said: &str) -> SystemError {
    let said = said.to_owned();
    SystemError { kind, said }
}

/// The machine, to an agent.
pub fn given(world: &World) -> Machine {
    let world = Arc::new(world.clone());
    Machine {
        system: world.clone(),
        updater: world,
    }
}

/// The machine starts anew, and the agent with it.
pub fn boot(state: &mut State) {
    let host = &mut state.host;
    host.boots += 1;
    host.unit = None;
    host.marks.clear();
    host.program = None;
    if let (Some(os), Some(build)) = (&mut host.os, host.next.take()) {
        // A host without a revision shows by its version that it is another one.
        match &mut os.build {
            Some(known) => *known = build.into(),
            None => os.version = Some(build.into()),
        }
    }
    let boots = host.boots;
    state.note(format!("the machine starts for the {boots}th time"));
    state.happens(&format!("boot {boots}"));
    state.kill_in = Some(1);
}

/// What the updater is told to install: the new OS's revision is its release's name.
fn installs(command: &[String]) -> String {
    let mut words = command
        .iter()
        .skip_while(|word| *word != "--release-commit");
    words.nth(1).cloned().unwrap_or_default()
}

impl World {
    async fn asked(&self) -> Result<(), SystemError> {
        let wait = self.with(|state| state.millis(200));
        self.sleep(wait).await;
        match self.with(|state| state.host.absent.clone()) {
            Some(said) => Err(error(SystemErrorKind::Absent, &said)),
            None => Ok(()),
        }
    }

    async fn ended(&self) -> Result<Ended, SystemError> {
        let gone = || {
            Ok(Ended::Badly(
                "the unit is gone, nobody knows how".to_owned(),
            ))
        };
        let Some(ends) = self.with(|state| Some(state.host.unit.as_ref()?.ends)) else {
            return gone();
        };
        self.sleep_until(ends).await;
        self.with(|state| {
            finish(state);
            state
                .host
                .unit
                .as_ref()
                .map_or_else(gone, |unit| Ok(outcome(unit)))
        })
    }
}

fn outcome(unit: &Unit) -> Ended {
    match unit.run {
        Run::Fails => Ended::Badly("exit code 1".to_owned()),
        Run::Hangs => Ended::Badly("it took too long".to_owned()),
        Run::Installs | Run::Slowly | Run::GoesBack | Run::Reboots => Ended::Well,
    }
}

/// The updater ends when it is time, whoever looks.
fn finish(state: &mut State) {
    let now = state.now;
    let Some(unit) = state
        .host
        .unit
        .as_mut()
        .filter(|unit| !unit.has_ended && unit.ends <= now)
    else {
        return;
    };
    unit.has_ended = true;
    let (run, build) = (unit.run, installs(&unit.command));
    state.note(format!("the updater ends: {run:?}"));
    state.host.next = match run {
        Run::Installs | Run::Slowly | Run::Reboots => Some(build),
        Run::GoesBack | Run::Fails | Run::Hangs => None,
    };
    if run == Run::Reboots {
        boot(state);
    }
}

impl System for World {
    fn absent(&self) -> Option<String> {
        self.with(|state| state.host.absent.clone())
    }

    fn unit<'a>(&'a self, _: &'a str) -> Pending<'a, Result<Option<SeenUnit>, SystemError>> {
        Box::pin(async {
            self.asked().await?;
            Ok(self.with(|state| {
                finish(state);
                let unit = state.host.unit.as_ref()?;
                let command = unit.command.clone();
                let ended = unit.has_ended.then(|| outcome(unit));
                Some(SeenUnit { command, ended })
            }))
        })
    }

    fn run<'a>(&'a self, command: &'a Transient<'a>) -> Pending<'a, Result<Ended, SystemError>> {
        Box::pin(async move {
            self.asked().await?;
            self.with(|state| {
                let is_taken = state
                    .host
                    .unit
                    .as_ref()
                    .is_some_and(|unit| outcome(unit) == Ended::Well || !unit.has_ended);
                if is_taken {
                    return Err(error(SystemErrorKind::Exists, "there is such a unit"));
                }
                let Some(program) = state.host.program.clone() else {
                    return Ok(false);
                };
                assert_eq!(
                    command.command[0], "/run/helios/balenahup/entry.sh",
                    "of {program}"
                );
                let run = state.host.runs.pop_front().unwrap_or(Run::Installs);
                let ends = match run {
                    Run::Hangs => state.now + command.limit,
                    Run::Slowly => state.now + TAKES * 5,
                    _ => state.now + TAKES,
                };
                state.host.unit = Some(Unit {
                    command: command.command.to_vec(),
                    run,
                    ends,
                    has_ended: false,
                });
                state.host.starts += 1;
                let held = state.dirs.ours.len();
                state.host.held.push(("start".to_owned(), held));
                state.note(format!("the updater runs: {:?}", command.command));
                state.at(ends, finish);
                state.after(TAKES / 2, |state| state.happens("the updater is half done"));
                Ok(true)
            })?;
            self.ended().await
        })
    }

    fn wait<'a>(&'a self, _: &'a str, _: Duration) -> Pending<'a, Result<Ended, SystemError>> {
        Box::pin(async {
            self.asked().await?;
            self.ended().await
        })
    }

    fn forget<'a>(&'a self, _: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async {
            self.asked().await?;
            self.with(|state| state.host.unit = None);
            Ok(())
        })
    }

    fn job<'a>(&'a self, _: Verb, _: &'a str) -> Pending<'a, Result<(), SystemError>> {
        Box::pin(async { Err(error(SystemErrorKind::NoSuchUnit, "there is none")) })
    }

    fn power(&self, _: Power) -> Pending<'_, Result<(), SystemError>> {
        Box::pin(async {
            self.asked().await?;
            self.with(|state| {
                let held = state.dirs.ours.len();
                state.host.held.push(("reboot".to_owned(), held));
                if state.host.refuses > 0 {
                    state.host.refuses -= 1;
                    return Err(error(SystemErrorKind::Refused, "logind does not want to"));
                }
                match state.host.ignores.checked_sub(1) {
                    Some(left) => state.host.ignores = left,
                    None => state.after(REBOOT, boot),
                }
                Ok(())
            })
        })
    }

    fn boot_id(&self) -> Option<String> {
        Some(self.with(|state| format!("boot{}", state.host.boots)))
    }
}

impl Updater for World {
    fn unpack<'a>(&'a self, image: &'a ImageUri) -> Pending<'a, Result<(), String>> {
        Box::pin(async move {
            self.with(|state| state.host.program = None);
            self.sleep(Duration::from_millis(300)).await;
            self.with(|state| {
                if !state.engine.images.contains_key(image) {
                    return Err(format!("there is no image '{image}'"));
                }
                state.host.program = Some(image.to_string());
                Ok(())
            })
        })
    }

    fn directory(&self) -> String {
        "/run/helios/balenahup".to_owned()
    }

    fn clear(&self) -> Pending<'_, ()> {
        self.with(|state| state.host.program = None);
        Box::pin(async {})
    }

    fn mark(&self, release: &str, boot: &str) -> Result<(), String> {
        self.with(|state| state.host.marks.insert(release.to_owned(), boot.to_owned()));
        Ok(())
    }

    fn is_marked(&self, release: &str, boot: &str) -> bool {
        self.with(|state| {
            state
                .host
                .marks
                .get(release)
                .is_some_and(|known| known == boot)
        })
    }

    fn unmark(&self, release: &str) {
        self.with(|state| state.host.marks.remove(release));
    }

    fn trial(&self) -> Option<String> {
        let is_on_trial = self.with(|state| state.host.is_on_trial);
        is_on_trial.then(|| "/mnt/state/rollback-health-breadcrumb".to_owned())
    }
}
