//! The units, their processes and what is said of them.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use helios::dbus::Message;

pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub const SERVICE: &str = "org.freedesktop.systemd1.Service";

#[derive(Default)]
pub struct Unit {
    pub command: Vec<String>,
    pub directory: Option<String>,
    pub description: String,
    pub limit: Option<Duration>,
    pub remains: bool,
    pub is_transient: bool,
    pub is_oneshot: bool,
    pub active: &'static str,
    pub sub: &'static str,
    pub result: &'static str,
    pub code: i32,
    pub pid: u32,
    /// Tells the end of one process of it from the end of a former one.
    pub runs: u64,
    /// It was told to end, and why.
    pub is_stopping: bool,
    pub is_late: bool,
    /// Jobs that are over when the process is.
    pub jobs: Vec<(u32, bool)>,
}

pub enum Event {
    Ended(String, u64, Result<i32, i32>),
    Late(String, u64),
}

pub struct Manager {
    pub units: BTreeMap<String, Unit>,
    pub dir: PathBuf,
    log: PathBuf,
    is_forgetful: bool,
    jobs: u32,
    tell: Sender<Event>,
    pub events: Receiver<Event>,
    /// Signals to be sent, behind the answer to a call.
    pub signals: Vec<Message>,
}

pub fn unit_path(unit: &str) -> String {
    let escaped = unit.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        byte => format!("_{byte:02x}"),
    });
    format!("{MANAGER_PATH}/unit/{}", escaped.collect::<String>())
}

impl Manager {
    pub fn new(dir: PathBuf, log: PathBuf, is_forgetful: bool) -> Manager {
        let (tell, events) = async_channel::unbounded();
        Manager {
            units: BTreeMap::new(),
            dir,
            log,
            is_forgetful,
            jobs: 0,
            tell,
            events,
            signals: Vec::new(),
        }
    }

    pub fn note(&self, line: &str) {
        let mut options = std::fs::OpenOptions::new();
        let file = options.create(true).append(true).open(&self.log);
        writeln!(file.expect("the log"), "{line}").expect("the log");
    }

    /// The unit, which a file may be.
    pub fn unit(&mut self, name: &str) -> Option<&mut Unit> {
        if !self.units.contains_key(name) {
            let text = std::fs::read_to_string(self.dir.join(name)).ok()?;
            let (kind, script) = text.split_once('\n').unwrap_or((&text, ""));
            let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
            let unit = Unit {
                command,
                is_oneshot: kind == "oneshot",
                active: "inactive",
                sub: "dead",
                ..Unit::default()
            };
            self.units.insert(name.to_owned(), unit);
        }
        self.units.get_mut(name)
    }

    pub fn job(&mut self) -> u32 {
        self.jobs += 1;
        self.jobs
    }

    pub fn job_path(job: u32) -> String {
        format!("{MANAGER_PATH}/job/{job}")
    }

    fn removed(&mut self, job: u32, unit: &str, result: &str) {
        let signal = Message::signal(MANAGER_PATH, MANAGER, "JobRemoved");
        let signal = signal.with("uoss", &mut |out| {
            out.u32(job);
            out.str(&Manager::job_path(job));
            out.str(unit);
            out.str(result);
        });
        self.signals.push(signal);
    }

    fn changed(&mut self, name: &str) {
        let Some(unit) = self.units.get(name) else {
            return;
        };
        let path = unit_path(name);
        let properties = "org.freedesktop.DBus.Properties";
        let signal = |interface: &str| {
            let signal = Message::signal(&path, properties, "PropertiesChanged");
            signal.with("sa{sv}as", &mut |out| {
                out.str(interface);
                out.array(8, &mut |out| {
                    let texts = match interface {
                        UNIT => vec![("ActiveState", unit.active), ("SubState", unit.sub)],
                        _ => vec![("Result", unit.result)],
                    };
                    for (name, value) in texts {
                        out.align(8);
                        out.str(name);
                        out.variant("s", &mut |out| out.str(value));
                    }
                    if interface == SERVICE {
                        out.align(8);
                        out.str("ExecMainStatus");
                        out.variant("i", &mut |out| out.i32(unit.code));
                        out.align(8);
                        out.str("MainPID");
                        out.variant("u", &mut |out| out.u32(unit.pid));
                    }
                });
                out.array(4, &mut |_| {});
            })
        };
        let both = [signal(SERVICE), signal(UNIT)];
        self.signals.extend(both);
    }

    /// Starts a unit's process; `job` is over when it runs, or when it has ended.
    pub fn start(&mut self, name: &str, job: u32) {
        let tell = self.tell.clone();
        let Some(unit) = self.units.get_mut(name) else {
            return;
        };
        if unit.active == "active" || unit.active == "activating" {
            return self.removed(job, name, "done");
        }
        unit.runs += 1;
        unit.is_stopping = false;
        unit.is_late = false;
        (unit.result, unit.code) = ("success", 0);
        let mut command = Command::new(&unit.command[0]);
        command.args(&unit.command[1..]).process_group(0);
        // Else one that stays would hold the output of the tests open.
        let command = command.stdin(Stdio::null()).stdout(Stdio::null());
        let command = command.stderr(Stdio::null());
        if let Some(dir) = &unit.directory {
            command.current_dir(dir);
        }
        let line = format!("start {name} {}", unit.command.join(" "));
        match command.spawn() {
            Ok(child) => {
                unit.pid = child.id();
                let is_oneshot = unit.is_oneshot;
                (unit.active, unit.sub) = match is_oneshot {
                    true => ("activating", "start"),
                    false => ("active", "running"),
                };
                if is_oneshot {
                    unit.jobs.push((job, false));
                }
                watch(child, name.to_owned(), unit.runs, unit.limit, tell);
                self.note(&line);
                self.changed(name);
                if !is_oneshot {
                    self.removed(job, name, "done");
                }
            }
            Err(_) => {
                (unit.active, unit.sub) = ("failed", "failed");
                (unit.result, unit.code) = ("exit-code", 203);
                self.changed(name);
                self.removed(job, name, "failed");
            }
        }
    }

    pub fn stop(&mut self, name: &str, job: u32, restarts: bool) {
        self.note(&format!("stop {name}"));
        let Some(unit) = self.units.get_mut(name) else {
            return;
        };
        if unit.pid != 0 {
            unit.is_stopping = true;
            unit.jobs.push((job, restarts));
            (unit.active, unit.sub) = ("deactivating", "stop-sigterm");
            kill(unit.pid);
            return self.changed(name);
        }
        if unit.active == "active" {
            (unit.active, unit.sub) = ("inactive", "dead");
        }
        self.changed(name);
        self.collect(name);
        match restarts {
            true => self.start(name, job),
            false => self.removed(job, name, "done"),
        }
    }

    fn collect(&mut self, name: &str) {
        let is_over = |unit: &Unit| unit.is_transient && unit.active == "inactive";
        if self.units.get(name).is_some_and(is_over) {
            self.units.remove(name);
        }
    }

    pub fn reset_failed(&mut self, name: &str) {
        if let Some(unit) = self.units.get_mut(name)
            && unit.active == "failed"
        {
            (unit.active, unit.sub) = ("inactive", "dead");
            self.collect(name);
        }
    }

    pub fn happened(&mut self, event: Event) {
        match event {
            Event::Late(name, run) => {
                let unit = self.units.get_mut(&name);
                if let Some(unit) = unit.filter(|unit| unit.runs == run && unit.pid != 0) {
                    unit.is_late = true;
                    kill(unit.pid);
                }
            }
            Event::Ended(name, run, how) => self.ended(&name, run, how),
        }
    }

    fn ended(&mut self, name: &str, run: u64, how: Result<i32, i32>) {
        let is_forgetful = self.is_forgetful;
        let Some(unit) = self.units.get_mut(name).filter(|unit| unit.runs == run) else {
            return;
        };
        unit.pid = 0;
        (unit.result, unit.code) = match how {
            _ if unit.is_late => ("timeout", 15),
            Ok(0) => ("success", 0),
            _ if unit.is_stopping => ("success", 0),
            Ok(code) => ("exit-code", code),
            Err(signal) => ("signal", signal),
        };
        let is_well = unit.result == "success";
        (unit.active, unit.sub) = match is_well {
            true if unit.remains && !unit.is_stopping && !is_forgetful => ("active", "exited"),
            true => ("inactive", "dead"),
            false => ("failed", "failed"),
        };
        let jobs = std::mem::take(&mut unit.jobs);
        let is_stopping = unit.is_stopping;
        self.changed(name);
        self.collect(name);
        for (job, restarts) in jobs {
            if restarts {
                self.start(name, job);
            } else {
                let is_done = is_well || is_stopping;
                self.removed(job, name, if is_done { "done" } else { "failed" });
            }
        }
    }
}

/// Nothing stays of a manager that ends.
impl Drop for Manager {
    fn drop(&mut self) {
        for unit in self.units.values().filter(|unit| unit.pid != 0) {
            kill(unit.pid);
        }
    }
}

fn watch(mut child: Child, name: String, run: u64, limit: Option<Duration>, tell: Sender<Event>) {
    if let Some(limit) = limit {
        let (name, tell) = (name.clone(), tell.clone());
        std::thread::spawn(move || {
            std::thread::sleep(limit);
            let _ = tell.try_send(Event::Late(name, run));
        });
    }
    std::thread::spawn(move || {
        let status = child.wait().expect("wait for a child");
        let how = status.code().ok_or_else(|| status.signal().unwrap_or(0));
        let _ = tell.try_send(Event::Ended(name, run, how));
    });
}

/// The whole group of a unit's process.
fn kill(pid: u32) {
    let group = format!("-{pid}");
    let mut command = Command::new("kill");
    let _ = command.args(["-TERM", "--", &group]).status();
}
