//! What systemd is told and says of units, in its types; pure.

use super::{MANAGER_PATH, SERVICE};
use crate::dbus::Message;
use crate::dbus::wire::{Malformed, Writer};
use crate::world::system::{Ended, Transient};

/// The properties of a transient unit (state-engine 9.2).
pub(super) fn properties(out: &mut Writer, command: &Transient<'_>) {
    type Write<'a> = &'a mut dyn FnMut(&mut Writer);
    out.str(command.unit);
    // Not in place of one that is there.
    out.str("fail");
    let limit = u64::try_from(command.limit.as_micros()).unwrap_or(u64::MAX);
    out.array(8, &mut |out| {
        let mut one = |name: &str, signature: &str, write: Write<'_>| {
            out.align(8);
            out.str(name);
            out.variant(signature, write);
        };
        one("Description", "s", &mut |out| out.str(command.description));
        // A program that is not there fails the start.
        one("Type", "s", &mut |out| out.str("exec"));
        one("ExecStart", "a(sasb)", &mut |out| {
            out.array(8, &mut |out| {
                out.align(8);
                out.str(command.command.first().map_or("", |program| program));
                out.array(4, &mut |out| {
                    command.command.iter().for_each(|word| out.str(word))
                });
                out.bool(false);
            });
        });
        one("RemainAfterExit", "b", &mut |out| out.bool(true));
        one("CollectMode", "s", &mut |out| out.str("inactive"));
        one("RuntimeMaxUSec", "t", &mut |out| out.u64(limit));
        if !command.directory.is_empty() {
            one("WorkingDirectory", "s", &mut |out| {
                out.str(command.directory)
            });
        }
    });
    out.array(8, &mut |_| {});
}

/// A property that is text.
pub(super) fn text(answer: &Message) -> Result<&str, Malformed> {
    let mut read = answer.body("v")?;
    match read.variant()? {
        "s" | "o" => read.str(),
        _ => Err(Malformed("a property is no text")),
    }
}

/// Program and arguments of `ExecStart`: those of its first command.
pub(super) fn command_line(answer: &Message) -> Result<Vec<String>, Malformed> {
    let mut read = answer.body("v")?;
    let signature = read.variant()?;
    if !signature.starts_with("a(sas") {
        return Err(Malformed("a unit's command is none"));
    }
    let mut commands = read.array(8)?;
    let mut words = Vec::new();
    if !commands.is_at_end() {
        commands.align(8)?;
        commands.str()?;
        let mut found = commands.array(4)?;
        while !found.is_at_end() {
            words.push(found.str()?.to_owned());
        }
    }
    Ok(words)
}

/// How a service ended, by systemd's words for it.
pub(super) fn end(result: &str, code: i32, has_failed: bool) -> Ended {
    match (result, code) {
        ("success" | "", 0) if !has_failed => Ended::Well,
        ("exit-code" | "success" | "", code) if code != 0 => {
            Ended::Badly(format!("exit code {code}"))
        }
        ("timeout", _) => Ended::Badly("it took too long".to_owned()),
        ("signal" | "core-dump", code) => Ended::Badly(format!("killed by signal {code}")),
        (result, _) => Ended::Badly(format!("it ended as {result}")),
    }
}

/// How a service ended, if its `PropertiesChanged` says so.
pub(super) fn told_end(signal: &Message) -> Option<Ended> {
    let read = |signal: &Message| -> Result<Option<Ended>, Malformed> {
        let mut read = signal.body("sa{sv}as")?;
        if read.str()? != SERVICE {
            return Ok(None);
        }
        let (mut result, mut code, mut pid) = (String::new(), None, None);
        let mut changed = read.array(8)?;
        while !changed.is_at_end() {
            changed.align(8)?;
            let name = changed.str()?;
            match (name, changed.variant()?) {
                ("Result", "s") => changed.str()?.clone_into(&mut result),
                ("ExecMainStatus", "i") => code = Some(changed.i32()?),
                ("MainPID", "u") => pid = Some(changed.u32()?),
                (_, signature) => drop(changed.skip(signature)?),
            }
        }
        // While it runs there is a status too.
        let is_over = pid.is_none_or(|pid| pid == 0);
        Ok(code
            .filter(|_| is_over)
            .map(|code| end(&result, code, false)))
    };
    read(signal).ok().flatten()
}

/// The object of a unit: all but letters and digits escaped, and a digit at the beginning.
pub(super) fn unit_path(unit: &str) -> String {
    use std::fmt::Write as _;
    let mut path = format!("{MANAGER_PATH}/unit/");
    for (at, byte) in unit.bytes().enumerate() {
        if byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit() {
            path.push(char::from(byte));
        } else {
            let _ = write!(path, "_{byte:02x}");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::systemd::{MANAGER, PROPERTIES, SYSTEMD, UNIT};
    use std::time::Duration;

    #[test]
    fn se_9_unit_objects_are_escaped() {
        assert_eq!(
            unit_path("os-update.service"),
            "/org/freedesktop/systemd1/unit/os_2dupdate_2eservice"
        );
        assert_eq!(unit_path("0a1"), "/org/freedesktop/systemd1/unit/_30a1");
    }

    #[test]
    fn sys_01_ends_in_systemd_s_words() {
        let badly = |text: &str| Ended::Badly(text.to_owned());
        #[rustfmt::skip]
        let rows = [
            (("success", 0, false), Ended::Well),
            (("", 0, false), Ended::Well),
            (("", 1, false), badly("exit code 1")),
            (("exit-code", 42, true), badly("exit code 42")),
            (("signal", 15, true), badly("killed by signal 15")),
            (("timeout", 15, true), badly("it took too long")),
            (("oom-kill", 9, true), badly("it ended as oom-kill")),
            (("success", 0, true), badly("it ended as success")),
        ];
        for ((result, code, failed), want) in rows {
            assert_eq!(end(result, code, failed), want, "{result} {code}");
        }
    }

    fn changed(interface: &str, pid: u32) -> Message {
        Message::signal("/x", PROPERTIES, "PropertiesChanged").with("sa{sv}as", &mut |out| {
            out.str(interface);
            out.array(8, &mut |out| {
                out.align(8);
                out.str("MainPID");
                out.variant("u", &mut |out| out.u32(pid));
                out.align(8);
                out.str("Other");
                out.variant("as", &mut |out| out.array(4, &mut |out| out.str("x")));
                out.align(8);
                out.str("ExecMainStatus");
                out.variant("i", &mut |out| out.i32(3));
            });
            out.array(4, &mut |out| out.str("Invalidated"));
        })
    }

    #[test]
    fn w_22_a_signal_may_be_all_that_is_left_of_a_unit() {
        let three = Some(Ended::Badly("exit code 3".to_owned()));
        assert_eq!(told_end(&changed(SERVICE, 0)), three);
        assert_eq!(told_end(&changed(SERVICE, 77)), None, "it still runs");
        assert_eq!(told_end(&changed(UNIT, 0)), None);
        assert_eq!(told_end(&Message::signal("/x", "i.i", "Other")), None);
    }

    #[test]
    fn a_transient_unit_says_what_it_should() {
        let command = ["/run/x/entry.sh".to_owned(), "--a".to_owned()];
        let transient = Transient {
            unit: "os-update.service",
            description: "d",
            command: &command,
            directory: "/run/x",
            limit: Duration::from_secs(1),
        };
        let call = Message::call(SYSTEMD, MANAGER_PATH, MANAGER, "StartTransientUnit");
        let mut call = call.with("ssa(sv)a(sa(sv))", &mut |out| properties(out, &transient));
        call.serial = 1;
        // Read with all its types when it is decoded.
        let bytes = call.encode();
        assert_eq!(Message::decode(&bytes).unwrap().unwrap().0, call);
        let mut read = call.body("ssa(sv)a(sa(sv))").unwrap();
        assert_eq!(read.str(), Ok("os-update.service"));
    }
}
