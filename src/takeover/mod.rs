//! `helios-legacy-takeover`: wires the steps of [`legacy::takeover`](crate::legacy::takeover)
//! to this machine. `helios start` takes over the same way.

use std::fs::{self, File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use futures_lite::future;

use crate::args::Variables;
use crate::base::thread::wait_for;
use crate::clients::endpoint;
use crate::config::{self, Dirs};
use crate::engine::Docker;
use crate::host::clock::SystemClock;
use crate::host::facts;
use crate::host::locks::SharedDirs;
use crate::host::systemd::Systemd;
use crate::http::client::Endpoint;
use crate::legacy::settings::{self, COMMAND};
use crate::legacy::takeover::{self, Outcome, Takeover};
use crate::limits;
use crate::model::ServiceConfig;
use crate::run::{Failed, failed};
use crate::start::{own_endpoint, ping};
use crate::store::{AGENT_LOCK, Files, hold};
use crate::world::Pending;
use crate::world::clock::Clock;
use crate::world::engine::{Engine as _, EngineError, Kind};
use crate::world::host::Host as _;
use crate::world::system::{System as _, SystemError, SystemErrorKind, Verb};
use crate::world::takeover::{Output, Settings, Start, Supervisor, Trouble, TroubleKind};

pub mod args;
pub mod guard;

use args::{By, Wanted};
use guard::Guarded;

/// The mark of a restart that is due, upstream's too (R-TKO-1).
const MARK: &str = "helios-legacy-takeover-breadcrumb";
/// Of several who take over or hand back at once the others wait.
const TURN_LOCK: &str = "takeover.lock";

/// Takes over or hands back, and says what was done.
///
/// # Errors
/// One sentence; another run goes on where this one ended.
pub fn main(asked: &args::Takeover, env: &Variables<'_>) -> Result<(), Failed> {
    let host = asked.wanted.as_ref().map(|wanted| wanted.host.clone());
    let port = asked.wanted.as_ref().map_or(0, |wanted| wanted.port);
    let local = Local::new(env, asked.by, (host.unwrap_or_default(), port))?;
    let local = Local {
        force: asked.force,
        ..local
    };
    let outcome = wait_for(async {
        match &asked.wanted {
            Some(wanted) => local.take_over(wanted).await,
            None => local.restore().await,
        }
    })?;
    log::info!("{outcome}");
    if let Outcome::Migrated(_) = outcome {
        local.verify();
    }
    Ok(())
}

/// Takes over before the agent of a device's container begins. Whether the supervisor answers
/// is seen meanwhile, on a thread that ends with it.
///
/// One that fails is no end where an earlier one was done: the supervisor works with this agent,
/// and would be cut off from the backend without it. The next start tries again.
///
/// `false`: it was told to end while it stood by (R-TKO-7).
///
/// # Errors
/// One sentence.
pub fn begin(wanted: &Wanted, env: &Variables<'_>) -> Result<bool, Failed> {
    let local = Local::new(env, By::Either, (wanted.host.clone(), wanted.port))?;
    if let Some(mut guarded) = Guarded::of(env)? {
        let hand_back = || wait_for(local.restore()).map(|outcome| log::info!("{outcome}"));
        if !guarded.turn(hand_back)? {
            return Ok(false);
        }
        guarded.watch(own_endpoint(env)?);
    }
    let outcome = match wait_for(local.take_over(wanted)) {
        Ok(outcome) => outcome,
        Err(Failed(why)) if wait_for(local.has_migrated()) => {
            log::error!("{why}; going on with what an earlier takeover set");
            return Ok(true);
        }
        Err(failed) => return Err(failed),
    };
    log::info!("{outcome}");
    if let Outcome::Migrated(_) = outcome {
        let thread = std::thread::Builder::new().name("legacy".into());
        let spawned = thread.spawn(move || local.verify());
        if let Err(error) = spawned {
            log::warn!("whether the legacy supervisor came back is not looked at: {error}");
        }
    }
    Ok(true)
}

/// This machine, its engine, and the legacy supervisor on them.
struct Local {
    engine: Docker,
    clock: SystemClock,
    dirs: Dirs,
    /// The host's name of the runtime directory.
    host_runtime_dir: PathBuf,
    by: By,
    systemd: Systemd,
    /// Where the supervisor answers after a takeover.
    answers_at: (String, u16),
    force: bool,
}

impl Local {
    fn new(env: &Variables<'_>, by: By, answers_at: (String, u16)) -> Result<Local, Failed> {
        let address = config::engine_address(env("DOCKER_HOST").as_deref());
        let address = address.map_err(|usage| Failed(usage.0))?;
        let dirs = Dirs::from_env(env);
        let host_dir = ["HELIOS_HOST_RUNTIME_DIR", "BALENA_HOST_RUNTIME_DIR"];
        let host_dir = host_dir.iter().find_map(|name| env(name));
        let host_dir = host_dir.map(PathBuf::from).filter(|dir| dir.is_absolute());
        fs::create_dir_all(&dirs.runtime).map_err(failed("make the runtime directory"))?;
        let systemd = Systemd::new(env("DBUS_SYSTEM_BUS_ADDRESS"));
        // Before anything is changed.
        if let (By::Unit, Some(why)) = (by, systemd.absent()) {
            return Err(Failed(format!("--restart unit is not possible: {why}")));
        }
        Ok(Local {
            engine: Docker::new(endpoint(address), Box::new(|_| None), true),
            clock: SystemClock::start(),
            host_runtime_dir: host_dir.unwrap_or_else(|| dirs.runtime.clone()),
            dirs,
            by,
            systemd,
            answers_at,
            force: false,
        })
    }

    async fn take_over(&self, wanted: &Wanted) -> Result<Outcome, Failed> {
        let store = self.store()?;
        let _turn = self
            .turn(TURN_LOCK, "another takeover is under way")
            .await?;
        let done = self.steps(&store).take_over(&wanted.settings()).await;
        done.map_err(|trouble| Failed(format!("the takeover failed: {trouble}")))
    }

    async fn has_migrated(&self) -> bool {
        match self.store() {
            Ok(store) => self.steps(&store).has_migrated().await,
            Err(_) => false,
        }
    }

    async fn restore(&self) -> Result<Outcome, Failed> {
        let store = self.store()?;
        let _turn = self
            .turn(TURN_LOCK, "another takeover is under way")
            .await?;
        // A running agent would make again what is removed, and would still be called.
        let why = "an agent is running with this state directory: stop it first";
        let _alone = self.turn(AGENT_LOCK, why).await?;
        let done = self.steps(&store).restore().await;
        done.map_err(|trouble| Failed(format!("handing back failed: {trouble}")))
    }

    fn steps<'a>(&'a self, store: &'a Files) -> Takeover<'a> {
        Takeover {
            supervisor: self,
            store,
            clock: &self.clock,
            machine_up: facts::machine_up(),
        }
    }

    fn store(&self) -> Result<Files, Failed> {
        Files::shared(&self.dirs.state).map_err(failed("open the state directory"))
    }

    /// Waits for its turn.
    async fn turn(&self, name: &str, why: &str) -> Result<File, Failed> {
        let end = self.clock.now() + limits::TAKEOVER_TURN;
        loop {
            let taken = hold(&self.dirs.state, name, false);
            if let Some(file) = taken.map_err(failed("lock the state directory"))? {
                return Ok(file);
            }
            if self.clock.now() >= end {
                return Err(Failed(why.to_owned()));
            }
            let next = self.clock.now() + limits::TAKEOVER_LOOK;
            self.clock.sleep_until(next).await;
        }
    }

    /// Says so when the supervisor does not come back (R-TKO-8).
    fn verify(&self) {
        let (host, port) = &self.answers_at;
        if wait_for(takeover::answers(self, &self.clock)) {
            log::info!("the legacy supervisor answers at {host}:{port}");
        } else {
            let secs = limits::TAKEOVER_ANSWER.as_secs();
            log::error!(
                "the legacy supervisor does not answer at {host}:{port} since {secs} s; look at \
                 its log, or hand back with helios-legacy-takeover --restore"
            );
        }
    }

    async fn in_container(
        &self,
        name: &str,
        environment: &[String],
        doing: &str,
    ) -> Result<Output, Trouble> {
        let exec = self.engine.exec(name, &COMMAND, environment);
        let exec = async { exec.await.map_err(of_engine) };
        let output = self.within(limits::TAKEOVER_EXEC, doing, exec).await?;
        if is_not_begun(&output) {
            let said = format!("cannot {doing}: the engine did not begin its program");
            let kind = TroubleKind::Passing;
            return Err(Trouble { kind, said });
        }
        Ok(output)
    }

    async fn within<T>(
        &self,
        limit: Duration,
        doing: &str,
        step: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let late = async {
            self.clock.sleep_until(self.clock.now() + limit).await;
            let said = format!("cannot {doing}: it is not done after {} s", limit.as_secs());
            let kind = TroubleKind::TimedOut;
            Err(Trouble { kind, said })
        };
        future::or(step, late).await
    }

    async fn restart_container(&self, name: &str) -> Result<(), Trouble> {
        let patience = limits::TAKEOVER_RESTART;
        let restart = self.engine.restart(name, patience);
        let restart = async { restart.await.map_err(of_engine) };
        let doing = format!("restart container '{name}'");
        self.within(patience, &doing, restart).await
    }

    async fn restart_unit(&self, name: &str) -> Result<(), SystemError> {
        let unit = format!("{}.service", name.replace('_', "-"));
        let late = async {
            let limit = limits::TAKEOVER_RESTART;
            self.clock.sleep_until(self.clock.now() + limit).await;
            let said = format!(
                "unit '{unit}' has not restarted after {} s",
                limit.as_secs()
            );
            let kind = SystemErrorKind::TimedOut;
            Err(SystemError { kind, said })
        };
        future::or(self.systemd.job(Verb::Restart, &unit), late).await
    }

    async fn remove_all_ours(&self) -> Result<usize, Trouble> {
        let locks = SharedDirs::open(&self.host_runtime_dir, &self.dirs.runtime);
        let mut found = Vec::new();
        for id in self.engine.list_own().await.map_err(of_engine)? {
            match self.engine.container(&id).await {
                Ok((app, (name, container))) => found.push((app, name, container)),
                Err(error) if error.kind == Kind::Gone => {}
                Err(error) => return Err(of_engine(error)),
            }
        }
        // All of them first: an app that must not be interrupted is not taken apart.
        let runtime_dir = self.host_runtime_dir.display();
        for (app, _, container) in &found {
            let usual = || format!("{runtime_dir}/update-locks/{app}/{}", container.service);
            let dir = container
                .lock_dir
                .as_deref()
                .map_or_else(usual, str::to_owned);
            if let Err(refused) = locks.lock(&dir, self.force) {
                let said = format!("{refused}; try again later, or with --force");
                let kind = TroubleKind::Lasting;
                return Err(Trouble { kind, said });
            }
        }
        for (_, name, container) in &found {
            log::info!("removing container '{name}': the legacy supervisor runs the apps again");
            let config = container.identity.as_ref();
            let config = config.and_then(|it| ServiceConfig::from_json(&it.config).ok());
            let grace = config.and_then(|config| config.stop_grace());
            let grace = grace.unwrap_or(limits::STOP_GRACE_DEFAULT);
            let id = &container.id;
            self.engine.stop(id, grace).await.map_err(of_engine)?;
            self.engine.remove(id).await.map_err(of_engine)?;
        }
        self.remove_networks().await?;
        Ok(found.len())
    }

    /// They hold no data, and their addresses may be those that it is about to give out.
    async fn remove_networks(&self) -> Result<(), Trouble> {
        for (_, (_, network)) in self.engine.networks().await.map_err(of_engine)? {
            if network.config.is_none() {
                continue;
            }
            if let Err(error) = self.engine.remove_network(&network.id).await {
                log::warn!("{error}");
            }
        }
        Ok(())
    }

    fn mark_file(&self) -> PathBuf {
        self.dirs.runtime.join(MARK)
    }
}

/// A container that does not run right now, or is just being made again, is no failure yet.
/// Whether the engine lost its own start of a program, as it does now and then while a container
/// starts; one that is not there, or may not run, is another matter.
fn is_not_begun(output: &Output) -> bool {
    let said = [&*output.stdout, &*output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    output.code == 126 && said.contains("waiting for init")
}

/// Whether no manager of this machine has the unit.
fn is_elsewhere(kind: SystemErrorKind) -> bool {
    matches!(kind, SystemErrorKind::Absent | SystemErrorKind::NoSuchUnit)
}

fn of_system(error: &SystemError) -> Trouble {
    let kind = match error.kind {
        SystemErrorKind::TimedOut | SystemErrorKind::Unreachable => TroubleKind::TimedOut,
        _ => TroubleKind::Lasting,
    };
    let said = format!("cannot restart the legacy supervisor: {error}");
    Trouble { kind, said }
}

fn of_engine(error: EngineError) -> Trouble {
    let kind = match error.kind {
        Kind::Conflict | Kind::Gone => TroubleKind::Passing,
        _ => TroubleKind::Lasting,
    };
    let said = error.to_string();
    Trouble { kind, said }
}

fn of_disk(doing: &str, error: &io::Error) -> Trouble {
    let said = format!("cannot {doing}: {error}");
    let kind = TroubleKind::Lasting;
    Trouble { kind, said }
}

impl Supervisor for Local {
    fn start_of<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<Start>, Trouble>> {
        Box::pin(async move { self.engine.start_of(name).await.map_err(of_engine) })
    }

    fn settings<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Settings, Trouble>> {
        Box::pin(async move {
            let doing = "read the legacy supervisor's settings";
            let output = self.in_container(name, &[], doing).await?;
            settings::read(&output).map_err(|said| odd(doing, &said))
        })
    }

    fn set<'a>(
        &'a self,
        name: &'a str,
        settings: &'a Settings,
    ) -> Pending<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let doing = "change the legacy supervisor's settings";
            let environment = [settings::change(settings)];
            let output = self.in_container(name, &environment, doing).await?;
            settings::changed(&output).map_err(|said| odd(doing, &said))
        })
    }

    fn restart<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), Trouble>> {
        Box::pin(async move {
            let elsewhere = match self.by {
                By::Container => return self.restart_container(name).await,
                by => match self.restart_unit(name).await {
                    Err(error) if by == By::Either && is_elsewhere(error.kind) => error,
                    done => return done.map_err(|error| of_system(&error)),
                },
            };
            log::info!("{elsewhere}: its container is restarted instead of its unit");
            self.restart_container(name).await
        })
    }

    fn answers(&self) -> Pending<'_, bool> {
        let (host, port) = self.answers_at.clone();
        Box::pin(async move { ping(Endpoint::Tcp { host, port }).await.is_ok() })
    }

    fn remove_ours(&self) -> Pending<'_, Result<usize, Trouble>> {
        Box::pin(self.remove_all_ours())
    }

    fn mark(&self) -> Result<bool, Trouble> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        match options.open(self.mark_file()) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(of_disk("mark that a restart is due", &error)),
        }
    }

    fn is_marked(&self) -> bool {
        fs::symlink_metadata(self.mark_file()).is_ok()
    }

    fn unmark(&self) -> Result<(), Trouble> {
        match fs::remove_file(self.mark_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(of_disk("remove the mark of a restart", &error))
            }
            _ => Ok(()),
        }
    }
}

fn odd(doing: &str, said: &str) -> Trouble {
    let said = format!("cannot {doing}: {said}");
    let kind = TroubleKind::Lasting;
    Trouble { kind, said }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_tko_15_what_the_engine_did_not_begin_is_asked_again() {
        let output = |code, said: &str| Output {
            code,
            stdout: said.into(),
            stderr: Vec::new(),
        };
        let lost = "OCI runtime exec failed: exec failed: unable to start container process: \
                    waiting for init preliminary setup: EOF";
        assert!(is_not_begun(&output(126, lost)));
        assert!(!is_not_begun(&output(126, "node: permission denied")));
        assert!(!is_not_begun(&output(1, lost)), "the program's own words");
    }
}
