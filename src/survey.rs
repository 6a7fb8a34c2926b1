//! Looks at what this machine offers: the engine, the bus, the system and its directories. For
//! the agent and for `helios doctor`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_io::Timer;
use futures_lite::future;

use crate::config::{Config, Dirs};
use crate::engine::{Docker, Storage};
use crate::host::facts;
use crate::limits::CAPABILITY_WAIT;
use crate::model::capability::Capability;
use crate::model::current::OperatingSystem;
use crate::world::Pending;
use crate::world::capabilities::Capabilities;
use crate::world::engine::{Engine as _, EngineInfo};

/// What has to be known to look.
pub(crate) struct Survey {
    pub(crate) engine: Arc<Docker>,
    /// Where the system bus is, if somebody said so.
    pub(crate) bus: Option<String>,
    /// What the host runs, if somebody said so; or why that says nothing.
    pub(crate) os: Option<Result<OperatingSystem, String>>,
    pub(crate) device_type: Option<String>,
    pub(crate) dirs: Dirs,
    /// The host's name of the runtime directory.
    pub(crate) host_runtime_dir: PathBuf,
    /// The host's state partition, if somebody said where it is seen.
    #[cfg(feature = "hostapp")]
    pub(crate) host_state_dir: Option<PathBuf>,
}

impl Survey {
    /// The agent's.
    pub(crate) fn of(config: &Config, engine: Arc<Docker>) -> Survey {
        Survey {
            engine,
            bus: std::env::var("DBUS_SYSTEM_BUS_ADDRESS").ok(),
            os: config.os.clone().map(Ok),
            device_type: config.device_type.clone(),
            dirs: config.dirs.clone(),
            host_runtime_dir: config.host_runtime_dir.clone(),
            #[cfg(feature = "hostapp")]
            host_state_dir: config.host_state_dir.clone(),
        }
    }
}

impl Capabilities for Survey {
    fn look(&self) -> Pending<'_, Vec<Capability>> {
        Box::pin(async move {
            let late = || format!("no answer within {} s", CAPABILITY_WAIT.as_secs());
            let engine = soon(Box::pin(self.engine_rows())).await;
            let mut rows = engine.unwrap_or_else(|| vec![of_engine(Err(late()))]);
            let bus = soon(Box::pin(of_bus(self.bus.as_ref()))).await;
            rows.extend(bus.unwrap_or_else(|| vec![no_bus(late())]));
            of_machine(&mut rows);
            rows.push(of_os(self.os.as_ref()));
            rows.push(of_device_type(self.device_type.as_deref()));
            self.directories(&mut rows);
            rows
        })
    }
}

/// The rows, unless they are too late.
async fn soon(asked: Pending<'_, Vec<Capability>>) -> Option<Vec<Capability>> {
    let late = async {
        Timer::after(CAPABILITY_WAIT).await;
        None
    };
    future::or(async { Some(asked.await) }, late).await
}

fn of_engine(info: Result<EngineInfo, String>) -> Capability {
    let said = match &info {
        Ok(info) => Ok(format!("{} {}, API {}", info.name, info.version, info.api)),
        Err(why) => Err(why.clone()),
    };
    let follows = (
        "apps run on it",
        "start it, or say where it is by DOCKER_HOST",
    );
    let row = Capability::new(("engine", "container engine"), said, follows).needed();
    match info {
        Ok(info) => row
            .with("name", Some(info.name))
            .with("version", Some(info.version))
            .with("api", Some(info.api.to_string())),
        Err(_) => row,
    }
}

fn of_storage(storage: Result<Storage, String>, rows: &mut Vec<Capability>) {
    let kept = storage.as_ref().map_err(Clone::clone);
    let kept = kept.map(|storage| match &storage.dir {
        Some(dir) => format!("{}, in {dir}", storage.driver),
        None => storage.driver.clone(),
    });
    let images = Capability::new(("images", "images"), kept, ("", ""));
    let Ok(storage) = storage else {
        return rows.push(images);
    };
    let dir = storage.dir;
    let free = dir.as_deref().and_then(facts::free_bytes);
    rows.push(
        images
            .with("driver", Some(storage.driver))
            .with("directory", dir),
    );
    let follows = (
        "no pull begins that would not fit",
        "a pull that does not fit is seen when it fails",
    );
    let found = free.map(bytes).ok_or_else(unseen);
    let mut room = Capability::new(("room", "room for images"), found, follows);
    room.is_fleeting = true;
    rows.push(room.with("free_bytes", free.map(|free| free.to_string())));
    let version = |version: &String| format!("version {version}");
    let found = storage.cgroup.as_ref().map(version);
    let found = found.ok_or_else(|| "the engine does not say which".to_owned());
    let groups = Capability::new(("control_groups", "control groups"), found, ("", ""));
    rows.push(groups.with("version", storage.cgroup));
}

const SYSTEMD: (&str, &str) = ("systemd", "systemd over D-Bus");

fn no_bus(why: String) -> Capability {
    let follows = match cfg!(feature = "legacy") {
        true => "a supervisor is restarted through the engine; nothing of the host is changed",
        false => "nothing of the host is changed",
    };
    Capability::new(SYSTEMD, Err(why), ("", follows))
}

#[cfg(any(feature = "hostapp", feature = "legacy"))]
async fn of_bus(address: Option<&String>) -> Vec<Capability> {
    let systemd = crate::host::systemd::Systemd::new(address.cloned());
    let row = match systemd.facts().await {
        Err(error) => no_bus(error.to_string()),
        Ok((None, _)) => no_bus("a bus, and no systemd on it".to_owned()),
        Ok((Some(version), has_logind)) => {
            let logind = if has_logind { "with" } else { "without" };
            let found = Ok(format!("{version}, {logind} logind"));
            let follows = ("units of the host can be run and restarted", "");
            Capability::new(SYSTEMD, found, follows)
                .with("version", Some(version))
                .with("logind", Some(has_logind.to_string()))
        }
    };
    vec![row]
}

#[cfg(not(any(feature = "hostapp", feature = "legacy")))]
async fn of_bus(_: Option<&String>) -> Vec<Capability> {
    vec![no_bus("this build does not speak D-Bus".to_owned())]
}

fn of_machine(rows: &mut Vec<Capability>) {
    let (arch, kernel) = (facts::arch(), facts::kernel());
    let linux = kernel.as_ref().map(|kernel| format!(", Linux {kernel}"));
    let machine = format!("{arch}{}", linux.unwrap_or_default());
    let machine = Capability::new(("machine", "machine"), Ok(machine), ("", ""));
    rows.push(
        machine
            .with("architecture", Some(arch.to_owned()))
            .with("kernel", kernel),
    );
    let found = facts::journal().ok_or_else(|| "none in /run/log or /var/log".to_owned());
    let follows = ("", "what the agent says is where its output goes");
    rows.push(Capability::new(("journal", "journal"), found, follows));
    let found = facts::boot_partition().ok_or_else(unseen);
    let follows = ("", "what is set up there is not looked at");
    rows.push(Capability::new(("boot", "boot partition"), found, follows));
}

/// The host's OS: what the agent was told counts, and only with that it is updated.
fn of_os(told: Option<&Result<OperatingSystem, String>>) -> Capability {
    let (id, without) = (
        ("os", "operating system"),
        "it is neither reported nor updated",
    );
    match told {
        Some(Ok(os)) => {
            let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
            let version = os.version.as_deref().unwrap_or_default();
            let said = format!("{} {version}", os.name);
            let (said, build) = (said.trim_end(), text(&os.build));
            let said = match &build {
                Some(build) => format!("{said}, board revision {build}"),
                None => said.to_owned(),
            };
            let with = match cfg!(feature = "hostapp") {
                true => "is reported, and can be updated",
                false => "is reported; this build does not update it",
            };
            Capability::new(id, Ok(said), (with, ""))
                .with("name", Some(os.name.to_string()))
                .with("version", text(&os.version))
                .with("board_revision", build)
        }
        Some(Err(why)) => Capability::new(id, Err(why.clone()), ("", without)),
        None => {
            let seen = facts::host_os().0;
            let follows = (
                "is reported; updated only with --host-os-version",
                "is not reported; --host-os-version says it",
            );
            Capability::new(id, seen.clone().ok_or_else(unseen), follows).with("name", seen)
        }
    }
}

fn of_device_type(slug: Option<&str>) -> Capability {
    let found = slug.map(str::to_owned);
    let found = found.ok_or_else(|| "not in a stored identity".to_owned());
    let follows = ("", "a contract that asks for one counts as met");
    Capability::new(("device_type", "device type"), found, follows)
}

impl Survey {
    async fn engine_rows(&self) -> Vec<Capability> {
        let info = self.engine.info().await.map_err(|error| error.to_string());
        let answers = info.is_ok();
        let mut rows = vec![of_engine(info)];
        if answers {
            let storage = self.engine.storage().await;
            of_storage(storage.map_err(|error| error.to_string()), &mut rows);
        }
        rows
    }

    fn directories(&self, rows: &mut Vec<Capability>) {
        let remembered = (
            "",
            "nothing can be remembered: this user may not write there",
        );
        let state = writable(&self.dirs.state);
        rows.push(Capability::new(("state", "state"), state, remembered).needed());
        let config = writable(&self.dirs.config);
        let keys = ("identity", "identity and keys");
        rows.push(Capability::new(keys, config, remembered).needed());
        let runtime = &self.dirs.runtime;
        let found = writable(runtime).map(|dir| match self.host_runtime_dir == *runtime {
            true => dir,
            false => format!("{dir}, on the host {}", self.host_runtime_dir.display()),
        });
        let follows = (
            "services can hold an update back",
            "services cannot hold an update back",
        );
        let locks = Capability::new(("runtime", "update locks"), found, follows);
        rows.push(
            locks
                .with("directory", Some(runtime.display().to_string()))
                .with("on_host", Some(self.host_runtime_dir.display().to_string())),
        );
        #[cfg(feature = "hostapp")]
        rows.push(of_host_state(self.host_state_dir.as_deref()));
    }
}

/// Where the host says whether its last update is a good one.
#[cfg(feature = "hostapp")]
fn of_host_state(told: Option<&Path>) -> Capability {
    let found = facts::state_partition(told).ok_or_else(unseen);
    let follows = (
        "no reboot before the host trusts its last update",
        "whether the host trusts its last update is not known",
    );
    Capability::new(("host_state", "host's state"), found, follows)
}

fn unseen() -> String {
    "not seen from here".to_owned()
}

fn writable(dir: &Path) -> Result<String, String> {
    let there = dir.ancestors().find(|part| part.exists());
    let access = rustix::fs::access(
        there.unwrap_or_else(|| Path::new("/")),
        rustix::fs::Access::WRITE_OK,
    );
    match access {
        Ok(()) => Ok(dir.display().to_string()),
        Err(error) => Err(format!("{}: {error}", dir.display())),
    }
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
    fn issue_8_the_system_that_was_told_counts() {
        let os = |text: &str| {
            let (version, build) = text.split_once('@').unwrap();
            Some(Ok(OperatingSystem {
                name: "balenaOS".into(),
                version: Some(version.into()).filter(|text: &Arc<str>| !text.is_empty()),
                build: Some(build.into()).filter(|text: &Arc<str>| !text.is_empty()),
            }))
        };
        let full = of_os(os("6.1@b0").as_ref());
        let said = Ok("balenaOS 6.1, board revision b0".to_owned());
        assert_eq!(full.found, said);
        assert_eq!(full.facts.len(), 3);
        let bare = of_os(os("@").as_ref());
        assert_eq!(bare.found, Ok("balenaOS".to_owned()));
        assert_eq!(bare.facts, [("name", "balenaOS".to_owned())]);
        let wrong = of_os(Some(&Err("--host-os-version: expected ...".to_owned())));
        assert!(wrong.found.is_err() && wrong.follows.contains("nor updated"));
    }
}
