//! What is asked of systemd and logind, and the answers.

use std::time::Duration;

use futures_lite::future;
use helios::dbus::wire::{Malformed, Reader};
use helios::dbus::{BusError, Connection, Kind, Message, RequestedName};

use super::Options;
use super::manager::{Event, Manager, SERVICE, UNIT, Unit, unit_path};

const LIMIT: Duration = Duration::from_secs(10);
const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// Runs until the bus ends.
pub async fn run(options: Options) -> BusError {
    let mut bus = match Connection::open(&options.bus, LIMIT).await {
        Ok(bus) => bus,
        Err(error) => return error,
    };
    let mut names = vec!["org.freedesktop.systemd1"];
    if options.has_logind {
        names.push("org.freedesktop.login1");
    }
    for name in names {
        match bus.request_name(name, LIMIT).await {
            Ok(RequestedName::Ours) => {}
            Ok(RequestedName::Taken) => return BusError::lost(format!("{name} is taken")),
            Err(error) => return error,
        }
    }
    println!("ready");
    let mut manager = Manager::new(options.units, options.log, options.is_forgetful);
    loop {
        if let Err(error) = step(&mut bus, &mut manager, options.refuses).await {
            return error;
        }
    }
}

async fn step(bus: &mut Connection, manager: &mut Manager, refuses: bool) -> Result<(), BusError> {
    let events = manager.events.clone();
    let asked = async { bus.receive().await.map(Ok) };
    let happened = async { Ok(Err(events.recv().await)) };
    let next: Result<Message, Result<Event, _>> = future::or(asked, happened).await?;
    match next {
        Ok(call) if refuses && ["Reboot", "PowerOff"].contains(&&*call.member) => {
            let name = "org.freedesktop.DBus.Error.AccessDenied";
            bus.send(Message::failure(&call, name, "Permission denied"))
                .await?;
        }
        Ok(call) if call.kind == Kind::Call => {
            let reply = answer(manager, &call).unwrap_or_else(|error| {
                let name = "org.freedesktop.DBus.Error.InvalidArgs";
                Message::failure(&call, name, error.0)
            });
            if !call.is_one_way {
                bus.send(reply).await?;
            }
        }
        Ok(_) => {}
        Err(event) => manager.happened(event.expect("a sender is kept")),
    }
    for signal in std::mem::take(&mut manager.signals) {
        bus.send(signal).await?;
    }
    Ok(())
}

fn answer(manager: &mut Manager, call: &Message) -> Result<Message, Malformed> {
    let no_unit =
        |name: &str| Message::failure(call, NO_SUCH_UNIT, &format!("Unit {name} not loaded."));
    let job =
        |job: u32| Message::reply(call).with("o", &mut |out| out.str(&Manager::job_path(job)));
    match &*call.member {
        "Subscribe" => Ok(Message::reply(call)),
        "Reboot" | "PowerOff" => {
            manager.note(&call.member);
            Ok(Message::reply(call))
        }
        "ResetFailedUnit" => {
            let name = call.body("s")?.str()?;
            if manager.unit(name).is_none() {
                return Ok(no_unit(name));
            }
            manager.reset_failed(name);
            Ok(Message::reply(call))
        }
        "GetUnit" => {
            let name = call.body("s")?.str()?;
            if !manager.units.contains_key(name) {
                return Ok(no_unit(name));
            }
            manager.note(&format!("look at {name}"));
            Ok(Message::reply(call).with("o", &mut |out| out.str(&unit_path(name))))
        }
        "StartUnit" | "StopUnit" | "RestartUnit" => {
            let name = call.body("ss")?.str()?;
            if name.ends_with(".target") {
                manager.note(&format!("start {name}"));
                return Ok(job(manager.job()));
            }
            if manager.unit(name).is_none() {
                return Ok(no_unit(name));
            }
            let number = manager.job();
            match &*call.member {
                "StartUnit" => manager.start(name, number),
                "StopUnit" => manager.stop(name, number, false),
                _ => manager.stop(name, number, true),
            }
            Ok(job(number))
        }
        "StartTransientUnit" => {
            let (name, unit) = transient(call)?;
            if let Some(known) = manager.unit(&name) {
                let said = format!("Unit {name} was already loaded: {}.", known.active);
                let taken = "org.freedesktop.systemd1.UnitExists";
                return Ok(Message::failure(call, taken, &said));
            }
            manager.units.insert(name.clone(), unit);
            let number = manager.job();
            manager.start(&name, number);
            Ok(job(number))
        }
        "Get" => property(manager, call),
        _ => {
            let name = "org.freedesktop.DBus.Error.UnknownMethod";
            Ok(Message::failure(call, name, &call.member))
        }
    }
}

fn transient(call: &Message) -> Result<(String, Unit), Malformed> {
    let mut read = call.body("ssa(sv)a(sa(sv))")?;
    let name = read.str()?.to_owned();
    if read.str()? != "fail" {
        return Err(Malformed("a mode that nobody should ask for"));
    }
    let mut unit = Unit {
        is_transient: true,
        active: "inactive",
        sub: "dead",
        ..Unit::default()
    };
    let mut properties = read.array(8)?;
    while !properties.is_at_end() {
        properties.align(8)?;
        let property = properties.str()?;
        match (property, properties.variant()?) {
            ("Description", "s") => properties.str()?.clone_into(&mut unit.description),
            ("WorkingDirectory", "s") => unit.directory = Some(properties.str()?.to_owned()),
            ("RemainAfterExit", "b") => unit.remains = properties.bool()?,
            ("RuntimeMaxUSec", "t") => {
                properties.align(8)?;
                let (low, high) = (properties.u32()?, properties.u32()?);
                let micros = u64::from(high) << 32 | u64::from(low);
                unit.limit = Some(Duration::from_micros(micros));
            }
            ("Type", "s") if properties.clone().str()? == "exec" => drop(properties.str()?),
            ("CollectMode", "s") if properties.clone().str()? == "inactive" => {
                properties.str()?;
            }
            ("ExecStart", "a(sasb)") => unit.command = commands(&mut properties)?,
            _ => {
                return Err(Malformed(
                    "a property that is not known, or of another type",
                ));
            }
        }
    }
    Ok((name, unit))
}

fn commands(read: &mut Reader<'_>) -> Result<Vec<String>, Malformed> {
    let mut commands = read.array(8)?;
    commands.align(8)?;
    let program = commands.str()?;
    let mut words = Vec::new();
    let mut found = commands.array(4)?;
    while !found.is_at_end() {
        words.push(found.str()?.to_owned());
    }
    if words.first().is_none_or(|first| first != program) {
        return Err(Malformed("the first word is not the program"));
    }
    Ok(words)
}

fn property(manager: &Manager, call: &Message) -> Result<Message, Malformed> {
    let mut read = call.body("ss")?;
    let (interface, name) = (read.str()?, read.str()?);
    let text = |value: &str| {
        Message::reply(call).with("v", &mut |out| out.variant("s", &mut |out| out.str(value)))
    };
    if name == "Version" {
        return Ok(text("stand-in"));
    }
    let mut units = manager.units.iter();
    let found = units.find(|(name, _)| unit_path(name) == call.path);
    let Some((_, unit)) = found else {
        let unknown = "org.freedesktop.DBus.Error.UnknownObject";
        return Ok(Message::failure(call, unknown, &call.path));
    };
    Ok(match (interface, name) {
        (UNIT, "ActiveState") => text(unit.active),
        (UNIT, "SubState") => text(unit.sub),
        (UNIT, "Description") => text(&unit.description),
        (SERVICE, "Result") => text(unit.result),
        (SERVICE, "ExecMainStatus") => Message::reply(call).with("v", &mut |out| {
            out.variant("i", &mut |out| out.i32(unit.code));
        }),
        (SERVICE, "ExecStart") => Message::reply(call).with("v", &mut |out| {
            out.variant("a(sasbttttuii)", &mut |out| {
                out.array(8, &mut |out| {
                    out.align(8);
                    out.str(&unit.command[0]);
                    out.array(4, &mut |out| {
                        unit.command.iter().for_each(|word| out.str(word))
                    });
                    out.bool(false);
                    (0..4).for_each(|_| out.u64(0));
                    out.u32(unit.pid);
                    out.i32(0);
                    out.i32(unit.code);
                });
            });
        }),
        _ => {
            let unknown = "org.freedesktop.DBus.Error.UnknownProperty";
            Message::failure(call, unknown, name)
        }
    })
}
