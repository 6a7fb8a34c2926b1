//! `helios doctor`: what this machine offers an agent, and what follows from that. Asks by
//! itself, so it works with and without a running agent, and changes nothing.

use std::fmt::Write as _;
use std::path::Path;

use crate::base::thread::wait_for;
use crate::config::Dirs;
use crate::engine::{Docker, Storage};
use crate::host::facts;
use crate::http::client::Endpoint;
use crate::identity::Identity;
use crate::limits;
use crate::world::engine::{Engine as _, EngineInfo};

/// One thing that is there or not.
struct Line {
    what: &'static str,
    /// `Err`: it is not, and why.
    found: Result<String, String>,
    follows: String,
    /// Without it an agent cannot do its work.
    is_needed: bool,
}

impl Line {
    fn new(
        what: &'static str,
        found: Result<String, String>,
        (with, without): (&str, &str),
    ) -> Line {
        let follows = if found.is_ok() { with } else { without };
        Line {
            what,
            follows: follows.to_owned(),
            found,
            is_needed: false,
        }
    }

    fn needed(self) -> Line {
        Line {
            is_needed: true,
            ..self
        }
    }
}

/// The table, ready to be printed, and whether an agent can work here.
#[must_use]
pub fn main(endpoint: Endpoint, env: &impl Fn(&str) -> Option<String>) -> (String, bool) {
    let docker = Docker::new(endpoint, Box::new(|_| None), true);
    let dirs = Dirs::from_env(env);
    let mut lines = wait_for(async {
        let info = docker.info().await.map_err(|error| error.to_string());
        let storage = match &info {
            Ok(_) => docker.storage().await.map_err(|error| error.to_string()),
            Err(_) => Err("the engine does not answer".to_owned()),
        };
        let mut lines = of_engine(info, storage);
        lines.push(of_bus(env("DBUS_SYSTEM_BUS_ADDRESS")).await);
        lines
    });
    lines.extend(of_machine(env));
    lines.extend(of_directories(&dirs, env));
    lines.push(of_identity(&dirs));
    let works = lines
        .iter()
        .all(|line| !line.is_needed || line.found.is_ok());
    (table(&lines, works), works)
}

fn of_engine(info: Result<EngineInfo, String>, storage: Result<Storage, String>) -> Vec<Line> {
    let info = info.map(|info| format!("{} {}, API {}", info.name, info.version, info.api));
    let engine = (
        "apps run on it",
        "start it, or say where it is by DOCKER_HOST",
    );
    let mut lines = vec![Line::new("container engine", info, engine).needed()];
    let Ok(storage) = storage else { return lines };
    let free = storage.dir.as_deref().and_then(facts::free_bytes);
    let kept = match &storage.dir {
        Some(dir) => format!("{}, in {dir}", storage.driver),
        None => storage.driver.clone(),
    };
    lines.push(Line::new("images", Ok(kept), ("", "")));
    let (with, without) = (
        "no pull begins that would not fit",
        "a pull that does not fit is seen when it fails",
    );
    let free = free
        .map(bytes)
        .ok_or_else(|| "not seen from here".to_owned());
    lines.push(Line::new("room for images", free, (with, without)));
    if let Some(cgroup) = storage.cgroup {
        lines.push(Line::new(
            "control groups",
            Ok(format!("version {cgroup}")),
            ("", ""),
        ));
    }
    lines
}

#[cfg(any(feature = "hostapp", feature = "legacy"))]
async fn of_bus(address: Option<String>) -> Line {
    let found = match crate::host::systemd::Systemd::new(address).facts().await {
        Err(error) => Err(error.to_string()),
        Ok((None, _)) => Err("a bus, and no systemd on it".to_owned()),
        Ok((Some(version), true)) => Ok(format!("{version}, with logind")),
        Ok((Some(version), false)) => Ok(format!("{version}, without logind")),
    };
    let (with, without) = (
        "units of the host can be run and restarted",
        "a supervisor is restarted through the engine; nothing of the host is changed",
    );
    Line::new("systemd over D-Bus", found, (with, without))
}

#[cfg(not(any(feature = "hostapp", feature = "legacy")))]
async fn of_bus(_: Option<String>) -> Line {
    let why = "this build does not speak D-Bus".to_owned();
    Line::new(
        "systemd over D-Bus",
        Err(why),
        ("", "nothing of the host is changed"),
    )
}

fn of_machine(env: &impl Fn(&str) -> Option<String>) -> Vec<Line> {
    let os = env("HELIOS_HOST_OS_VERSION").or_else(|| facts::host_os().0);
    let os = os.ok_or_else(|| "not seen from here".to_owned());
    let kernel = facts::kernel().map_or_else(String::new, |kernel| format!(", Linux {kernel}"));
    let machine = format!("{}{kernel}", facts::arch());
    let journals = ["/run/log/journal", "/var/log/journal"];
    let journal = journals.iter().find(|dir| Path::new(dir).is_dir());
    let journal = journal.map(|dir| (*dir).to_owned());
    vec![
        Line::new("machine", Ok(machine), ("", "")),
        Line::new(
            "operating system",
            os,
            ("is reported", "is not reported; --host-os-version says it"),
        ),
        Line::new(
            "journal",
            journal.ok_or_else(|| "none in /run/log or /var/log".to_owned()),
            ("", "what the agent says is where its output goes"),
        ),
    ]
}

fn of_directories(dirs: &Dirs, env: &impl Fn(&str) -> Option<String>) -> Vec<Line> {
    let host = env("HELIOS_HOST_RUNTIME_DIR").map_or_else(|| dirs.runtime.clone(), Into::into);
    let writable = |dir: &Path| {
        let there = dir.ancestors().find(|part| part.exists());
        let there = there.unwrap_or_else(|| Path::new("/"));
        let access = rustix::fs::access(there, rustix::fs::Access::WRITE_OK);
        match access {
            Ok(()) => Ok(dir.display().to_string()),
            Err(error) => Err(format!("{}: {error}", dir.display())),
        }
    };
    let identity = (
        "",
        "nothing can be remembered: this user may not write there",
    );
    vec![
        Line::new("state", writable(&dirs.state), identity).needed(),
        Line::new("identity and keys", writable(&dirs.config), identity).needed(),
        Line::new(
            "update locks",
            writable(&host),
            (
                "services can hold an update back",
                "services cannot hold an update back",
            ),
        ),
    ]
}

fn of_identity(dirs: &Dirs) -> Line {
    let name = Identity::below(&dirs.config).name(crate::flows::register::IDENTITY);
    let found = match Path::new(&name).is_file() {
        true => Ok(format!("in {name}")),
        false => Err(format!("none in {name}")),
    };
    let (with, without) = (
        "helios without options goes on as that device",
        "helios --help says how it is registered, or told who it is",
    );
    Line::new("device", found, (with, without))
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut tenths, mut unit) = (count.saturating_mul(10) / 1024, 0);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        (tenths, unit) = (tenths / 1024, unit + 1);
    }
    format!("{}.{} {} free", tenths / 10, tenths % 10, UNITS[unit])
}

fn table(lines: &[Line], works: bool) -> String {
    let short = |text: &str| {
        let end = text.char_indices().nth(limits::DOCTOR_CELL_CHARS_MAX);
        end.map_or_else(|| text.to_owned(), |(at, _)| format!("{}...", &text[..at]))
    };
    let rows = lines.iter().map(|line| match &line.found {
        Ok(found) => [line.what, "ok", &short(found), &line.follows].map(str::to_owned),
        Err(why) => [line.what, "none", &short(why), &line.follows].map(str::to_owned),
    });
    let rows: Vec<[String; 4]> = rows.collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let (what, found) = (width(0).unwrap_or(0), width(2).unwrap_or(0));
    let mut text = String::new();
    for [name, state, cell, follows] in &rows {
        let line = format!("{name:what$}  {state:4}  {cell:found$}  {follows}");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str(if works {
        "\nan agent can work here\n"
    } else {
        "\nan agent cannot work here as it is; see the lines with `none`\n"
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        let cases = [
            (0, "0.0 KiB free"),
            (1536, "1.5 KiB free"),
            (10 << 30, "10.0 GiB free"),
            (u64::MAX, "1677721.5 TiB free"),
        ];
        for (count, want) in cases {
            assert_eq!(bytes(count), want);
        }
    }

    #[test]
    fn each_line_says_what_follows_and_the_columns_stand() {
        let lines = [
            Line::new("engine", Ok("Docker 1".into()), ("apps run", "start it")).needed(),
            Line::new("a bus", Err("no".into()), ("", "nothing of the host")),
        ];
        let text = table(&lines, true);
        let want =
            "engine  ok    Docker 1  apps run\na bus   none  no        nothing of the host\n";
        assert!(text.starts_with(want), "{text}");
        assert!(table(&lines, false).contains("cannot work"));
        let long = [Line::new("x", Ok("y".repeat(1000)), ("", ""))];
        assert!(table(&long, true).lines().all(|line| line.len() < 200));
    }
}
