//! systemd and logind over D-Bus; implements [`System`](crate::world::system) (state-engine 9).
//!
//! # Invariants
//!
//! * Each request has a connection of its own, that ends with it: at rest there is none.
//! * Signals are subscribed to before anything is started, and are only a hint to look: what
//!   counts is the unit's state (W-22).
//! * A unit that was started stays when it has ended well (`RemainAfterExit`), so that an agent
//!   that was killed meanwhile still learns how it ended.

mod words;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use async_io::Timer;
use futures_lite::future;

use crate::dbus::wire::Malformed;
use crate::dbus::{BusError, BusErrorKind, Connection, Message, address};
use crate::limits::{BUS_CALL_TIMEOUT, BUS_RETRY, UNIT_JOB_TIMEOUT, UNIT_LOOK, UNIT_STOP_TIMEOUT};
use crate::world::Pending;
use crate::world::system::{
    Ended, Power, SeenUnit, System, SystemError, SystemErrorKind, Transient, Verb,
};
use words::{command_line, end, properties, text, told_end, unit_path};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const UNIT: &str = "org.freedesktop.systemd1.Unit";
const SERVICE: &str = "org.freedesktop.systemd1.Service";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const LOGIND: &str = "org.freedesktop.login1";
const LOGIND_MANAGER: &str = "org.freedesktop.login1.Manager";
const LOGIND_PATH: &str = "/org/freedesktop/login1";

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// What the bus answers for somebody who is not there, or whose object has gone.
const NOT_THERE: [&str; 4] = [
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.Disconnected",
];
const NO_OBJECT: &str = "org.freedesktop.DBus.Error.UnknownObject";

/// The service manager of the bus at an address.
#[derive(Debug, Clone)]
pub struct Systemd {
    address: String,
}

impl Systemd {
    /// The one of the system bus, or of what `DBUS_SYSTEM_BUS_ADDRESS` says.
    #[must_use]
    pub fn new(address: Option<String>) -> Systemd {
        let address = address.filter(|address| !address.is_empty());
        Systemd {
            address: address.unwrap_or_else(|| address::SYSTEM.to_owned()),
        }
    }

    /// Where the bus is.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// systemd's version and whether logind is there; `None` for what does not answer.
    ///
    /// # Errors
    /// When there is no bus.
    pub async fn facts(&self) -> Result<(Option<String>, bool), SystemError> {
        let mut session = self.open().await.map_err(SystemError::from)?;
        let version = session.manager_text("Version").await.ok();
        let logind = session.connection.has_owner(LOGIND, BUS_CALL_TIMEOUT).await;
        Ok((version, logind.unwrap_or(false)))
    }

    async fn open(&self) -> Result<Session, BusError> {
        let connection = Connection::open(&self.address, BUS_CALL_TIMEOUT).await?;
        Ok(Session { connection })
    }

    /// A session that hears of a unit's changes and of jobs.
    async fn listening(&self, unit: &str) -> Result<Session, BusError> {
        let mut session = self.open().await?;
        session.subscribe(unit).await?;
        Ok(session)
    }

    /// Awaits the end of a unit; a bus that goes away meanwhile is waited for.
    async fn until_ended(&self, unit: &str, session: Session) -> Result<Ended, SystemError> {
        let mut session = Some(session);
        let mut told = None;
        loop {
            let looked = async {
                let session = match &mut session {
                    Some(session) => session,
                    none => none.insert(self.listening(unit).await?),
                };
                session.until_ended(unit, &mut told).await
            };
            match looked.await {
                Ok(ended) => return Ok(ended),
                Err(error) if is_passing(&error) => {
                    log::warn!("unit '{unit}' is looked at again: {error}");
                    session = None;
                    Timer::after(BUS_RETRY).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn wait_within(
        &self,
        unit: &str,
        limit: Duration,
        session: Session,
    ) -> Result<Ended, SystemError> {
        let late = async {
            Timer::after(limit).await;
            None
        };
        let ended = async { Some(self.until_ended(unit, session).await) };
        if let Some(ended) = future::or(ended, late).await {
            return ended;
        }
        let said = format!("unit '{unit}' did not end within {} s", limit.as_secs());
        log::warn!("{said}: it is stopped");
        self.forget_unit(unit).await?;
        Err(SystemError {
            kind: SystemErrorKind::TimedOut,
            said,
        })
    }

    async fn start_transient(&self, command: &Transient<'_>) -> Result<Ended, SystemError> {
        let mut session = self.listening(command.unit).await?;
        // A failed one of that name would be in the way.
        let _ = session.manage("ResetFailedUnit", command.unit).await;
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, "StartTransientUnit");
        let call = call.with("ssa(sv)a(sa(sv))", &mut |out| properties(out, command));
        let job = session.connection.call(call, BUS_CALL_TIMEOUT).await?;
        job.body("o")
            .and_then(|mut read| read.str().map(drop))
            .map_err(BusError::from)?;
        // The manager ends it before this does.
        let limit = command.limit + UNIT_STOP_TIMEOUT;
        self.wait_within(command.unit, limit, session).await
    }

    async fn forget_unit(&self, unit: &str) -> Result<(), SystemError> {
        match self.do_job(Verb::Stop, unit).await {
            Err(error) if error.kind != SystemErrorKind::NoSuchUnit => return Err(error),
            _ => {}
        }
        let mut session = self.open().await?;
        // One that is gone has not failed either.
        let _ = session.manage("ResetFailedUnit", unit).await;
        Ok(())
    }

    async fn do_job(&self, verb: Verb, unit: &str) -> Result<(), SystemError> {
        let mut session = self.listening(unit).await?;
        let method = match verb {
            Verb::Start => "StartUnit",
            Verb::Stop => "StopUnit",
            Verb::Restart => "RestartUnit",
        };
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, method);
        let call = call.with("ss", &mut |out| {
            out.str(unit);
            out.str("replace");
        });
        let job = session.connection.call(call, BUS_CALL_TIMEOUT).await?;
        let job = job.body("o").and_then(|mut read| read.str());
        let job = job.map_err(BusError::from)?.to_owned();
        let result = match session.job_result(&job).await {
            Ok(result) => result,
            Err(error) if is_passing(&error) => self.seen_result(verb, unit).await?,
            Err(error) => return Err(error.into()),
        };
        if result == "done" || verb == Verb::Stop {
            return Ok(());
        }
        let said = format!("unit '{unit}' was not started: its job ended as {result}");
        Err(SystemError {
            kind: SystemErrorKind::Failed,
            said,
        })
    }

    /// How a job came out whose end was not heard, by the unit's state.
    async fn seen_result(&self, verb: Verb, unit: &str) -> Result<String, SystemError> {
        loop {
            Timer::after(BUS_RETRY).await;
            let looked = async { self.open().await?.active_state(unit).await };
            match looked.await {
                Ok(Some(state))
                    if matches!(&*state, "activating" | "deactivating" | "reloading") => {}
                Ok(Some(state)) if state == "active" || verb == Verb::Stop => {
                    return Ok("done".to_owned());
                }
                Ok(state) => return Ok(state.unwrap_or_else(|| "gone".to_owned())),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn set_power(&self, power: Power) -> Result<(), SystemError> {
        let (method, target) = match power {
            Power::Reboot => ("Reboot", "reboot.target"),
            Power::Off => ("PowerOff", "poweroff.target"),
        };
        let mut session = self.open().await?;
        let call = Message::call(LOGIND, LOGIND_PATH, LOGIND_MANAGER, method);
        // Nobody is there to be asked for a password.
        let call = call.with("b", &mut |out| out.bool(false));
        match session.connection.call(call, BUS_CALL_TIMEOUT).await {
            Ok(_) => return Ok(()),
            // A small host may have no logind.
            Err(error) if NOT_THERE.iter().any(|name| error.is(name)) => {}
            // It is on its way, and takes the bus with it.
            Err(error) if error.kind == BusErrorKind::Lost => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, "StartUnit");
        let call = call.with("ss", &mut |out| {
            out.str(target);
            out.str("replace-irreversibly");
        });
        session.connection.call(call, BUS_CALL_TIMEOUT).await?;
        Ok(())
    }
}

/// One connection that is about the manager.
struct Session {
    connection: Connection,
}

impl Session {
    async fn subscribe(&mut self, unit: &str) -> Result<(), BusError> {
        let path = unit_path(unit);
        let rules = [
            format!("type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'"),
            format!(
                "type='signal',sender='{SYSTEMD}',interface='{PROPERTIES}',\
                 member='PropertiesChanged',path='{path}'"
            ),
            format!(
                "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',\
                 arg0='{SYSTEMD}'"
            ),
        ];
        for rule in &rules {
            self.connection.listen(rule, BUS_CALL_TIMEOUT).await?;
        }
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, "Subscribe");
        self.connection.call(call, BUS_CALL_TIMEOUT).await.map(drop)
    }

    /// A method of the manager that takes a unit's name.
    async fn manage(&mut self, method: &str, unit: &str) -> Result<Message, BusError> {
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, method);
        let call = call.with("s", &mut |out| out.str(unit));
        self.connection.call(call, BUS_CALL_TIMEOUT).await
    }

    /// The result of a job, as the manager says it when it is over.
    async fn job_result(&mut self, job: &str) -> Result<String, BusError> {
        let doing = "await the end of a job";
        crate::dbus::within(UNIT_JOB_TIMEOUT, doing, async {
            loop {
                let signal = self.connection.receive().await?;
                if signal.member == "NameOwnerChanged" {
                    return Err(BusError::lost("systemd left the bus"));
                }
                if signal.member != "JobRemoved" {
                    continue;
                }
                let mut read = signal.body("uoss")?;
                read.u32()?;
                let (found, _unit, result) = (read.str()?, read.str()?, read.str()?);
                if found == job {
                    return Ok(result.to_owned());
                }
            }
        })
        .await
    }

    /// `told` is how it ended by the last signal, for a unit that is gone when it is looked at.
    async fn until_ended(
        &mut self,
        unit: &str,
        told: &mut Option<Ended>,
    ) -> Result<Ended, BusError> {
        loop {
            match self.seen(unit).await? {
                Some(SeenUnit {
                    ended: Some(ended), ..
                }) => return Ok(ended),
                Some(_) => {}
                None => {
                    // What it said at its end came before the answer that it is gone.
                    while let Some(signal) = future::poll_once(self.connection.receive()).await {
                        *told = told_end(&signal?).or_else(|| told.take());
                    }
                    let gone = || Ended::Badly("the unit is gone, nobody knows how".to_owned());
                    return Ok(told.take().unwrap_or_else(gone));
                }
            }
            let look = async {
                Timer::after(UNIT_LOOK).await;
                Ok(None)
            };
            let heard = async { self.connection.receive().await.map(Some) };
            if let Some(signal) = future::or(heard, look).await? {
                if signal.member == "NameOwnerChanged" {
                    return Err(BusError::lost("systemd left the bus"));
                }
                *told = told_end(&signal).or_else(|| told.take());
            }
        }
    }

    /// The unit, and how it ended.
    async fn seen(&mut self, unit: &str) -> Result<Option<SeenUnit>, BusError> {
        let looked = async {
            let Some(state) = self.active_state(unit).await? else {
                return Ok::<_, BusError>(None);
            };
            let path = unit_path(unit);
            let sub = self.property(&path, UNIT, "SubState").await?;
            let sub = text(&sub)?.to_owned();
            let command = self.property(&path, SERVICE, "ExecStart").await?;
            let command = command_line(&command)?;
            let ended = match (&*state, &*sub) {
                ("failed" | "inactive", _) | ("active", "exited") => {
                    Some(self.outcome(&path, &state).await?)
                }
                _ => None,
            };
            if ended.is_some() && command.is_empty() {
                // Loaded because somebody asked, and nothing else.
                return Ok(None);
            }
            Ok(Some(SeenUnit { command, ended }))
        };
        match looked.await {
            // It went between two questions.
            Err(error) if error.is(NO_OBJECT) || error.is(NO_SUCH_UNIT) => Ok(None),
            looked => looked,
        }
    }

    async fn outcome(&mut self, path: &str, state: &str) -> Result<Ended, BusError> {
        let result = self.property(path, SERVICE, "Result").await;
        // A manager without it has the exit code.
        let result = result.as_ref().ok().and_then(|found| text(found).ok());
        let result = result.unwrap_or_default().to_owned();
        let code = self.property(path, SERVICE, "ExecMainStatus").await?;
        let mut read = code.body("v")?;
        let code = match read.variant()? {
            "i" => read.i32()?,
            _ => return Err(Malformed("an exit code is no number").into()),
        };
        Ok(end(&result, code, state == "failed"))
    }

    /// `ActiveState`; `None` when there is no such unit.
    async fn active_state(&mut self, unit: &str) -> Result<Option<String>, BusError> {
        let path = match self.manage("GetUnit", unit).await {
            Err(error) if error.is(NO_SUCH_UNIT) => return Ok(None),
            answer => answer?,
        };
        let path = path.body("o")?.str()?.to_owned();
        match self.property(&path, UNIT, "ActiveState").await {
            Err(error) if error.is(NO_OBJECT) || error.is(NO_SUCH_UNIT) => Ok(None),
            answer => Ok(Some(text(&answer?)?.to_owned())),
        }
    }

    async fn manager_text(&mut self, name: &str) -> Result<String, BusError> {
        let found = self.property(MANAGER_PATH, MANAGER, name).await?;
        Ok(text(&found)?.to_owned())
    }

    async fn property(
        &mut self,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Result<Message, BusError> {
        let call = Message::call(SYSTEMD, path, PROPERTIES, "Get");
        let call = call.with("ss", &mut |out| {
            out.str(interface);
            out.str(name);
        });
        self.connection.call(call, BUS_CALL_TIMEOUT).await
    }
}

/// Whether the bus, or who was asked, may come back.
fn is_passing(error: &BusError) -> bool {
    match &error.kind {
        BusErrorKind::Absent | BusErrorKind::Lost | BusErrorKind::TimedOut => true,
        BusErrorKind::Refused(name) => NOT_THERE.contains(&&**name),
    }
}

impl From<BusError> for SystemError {
    fn from(error: BusError) -> SystemError {
        let kind = match &error.kind {
            BusErrorKind::Absent => SystemErrorKind::Absent,
            BusErrorKind::Lost | BusErrorKind::TimedOut => SystemErrorKind::Unreachable,
            BusErrorKind::Refused(name) if name == NO_SUCH_UNIT => SystemErrorKind::NoSuchUnit,
            BusErrorKind::Refused(name) if name == UNIT_EXISTS => SystemErrorKind::Exists,
            BusErrorKind::Refused(name) if NOT_THERE.contains(&&**name) => SystemErrorKind::Absent,
            BusErrorKind::Refused(_) => SystemErrorKind::Refused,
        };
        let said = error.said;
        SystemError { kind, said }
    }
}

fn boxed<'a, T>(work: impl Future<Output = T> + Send + 'a) -> Pending<'a, T> {
    Box::pin(work)
}

impl System for Systemd {
    fn absent(&self) -> Option<String> {
        let found = address::parse(&self.address);
        let is_there = |address: &address::Address| match address {
            address::Address::Path(path) => Path::new(path).exists(),
            address::Address::Abstract(_) => true,
        };
        match found {
            Ok(found) if found.iter().any(is_there) => None,
            Ok(_) => Some(format!("there is no D-Bus at {}", self.address)),
            Err(said) => Some(said),
        }
    }

    fn unit<'a>(&'a self, name: &'a str) -> Pending<'a, Result<Option<SeenUnit>, SystemError>> {
        boxed(async move { Ok(self.open().await?.seen(name).await?) })
    }

    fn run<'a>(&'a self, command: &'a Transient<'a>) -> Pending<'a, Result<Ended, SystemError>> {
        boxed(self.start_transient(command))
    }

    fn wait<'a>(
        &'a self,
        name: &'a str,
        limit: Duration,
    ) -> Pending<'a, Result<Ended, SystemError>> {
        boxed(async move {
            let session = self.listening(name).await?;
            self.wait_within(name, limit, session).await
        })
    }

    fn forget<'a>(&'a self, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        boxed(self.forget_unit(name))
    }

    fn job<'a>(&'a self, verb: Verb, name: &'a str) -> Pending<'a, Result<(), SystemError>> {
        boxed(self.do_job(verb, name))
    }

    fn power(&self, power: Power) -> Pending<'_, Result<(), SystemError>> {
        boxed(self.set_power(power))
    }

    fn boot_id(&self) -> Option<String> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    }
}
