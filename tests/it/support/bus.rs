//! A bus of our own, with a stand-in for systemd and logind that really runs units.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Scratch, until};

/// `dbus-daemon`, the stand-in, and where they keep things. Ends with its owner.
pub struct Bus {
    pub dir: Scratch,
    daemon: Option<Child>,
    manager: Option<Child>,
    /// More options of the stand-in.
    options: Vec<&'static str>,
}

impl Bus {
    pub fn start(options: &[&'static str]) -> Bus {
        let mut bus = Bus {
            dir: Scratch::new(),
            daemon: None,
            manager: None,
            options: options.to_vec(),
        };
        std::fs::create_dir(bus.dir.0.join("units")).unwrap();
        bus.up();
        bus
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.0.join("bus")
    }

    pub fn address(&self) -> String {
        format!("unix:path={}", self.socket().display())
    }

    /// The bus and the stand-in, after [`Bus::down`] without what it knew.
    pub fn up(&mut self) {
        self.up_daemon();
        self.up_manager();
    }

    pub fn up_daemon(&mut self) {
        let config = self.dir.0.join("bus.conf");
        let text = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
             <busconfig><type>system</type><listen>{}</listen><auth>EXTERNAL</auth>\
             <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
             <allow send_type=\"method_call\"/><allow send_type=\"signal\"/>\
             <allow send_type=\"method_return\"/><allow send_type=\"error\"/>\
             <allow receive_type=\"method_call\"/><allow receive_type=\"signal\"/>\
             <allow receive_type=\"method_return\"/><allow receive_type=\"error\"/>\
             </policy></busconfig>\n",
            self.address()
        );
        std::fs::write(&config, text).unwrap();
        let _ = std::fs::remove_file(self.socket());
        let daemon = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", config.display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .stdout(Stdio::null())
            .spawn()
            .expect("dbus-daemon, which scripts/test installs");
        self.daemon = Some(daemon);
        let socket = self.socket();
        until("the bus", || {
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    pub fn up_manager(&mut self) {
        let out = self.dir.0.join("manager.out");
        let file = std::fs::File::create(&out).unwrap();
        let examples = Path::new(env!("CARGO_BIN_EXE_helios")).with_file_name("examples");
        let manager = Command::new(examples.join("systemd"))
            .args(["--bus", &self.address()])
            .arg("--units")
            .arg(self.dir.0.join("units"))
            .arg("--log")
            .arg(self.log_file())
            .args(&self.options)
            .stdout(file)
            .spawn()
            .unwrap();
        self.manager = Some(manager);
        until("the stand-in", || {
            let text = std::fs::read_to_string(&out).ok()?;
            text.contains("ready").then_some(())
        });
    }

    /// The bus goes away, and with it the stand-in.
    pub fn down(&mut self) {
        self.down_daemon();
        if let Some(mut child) = self.manager.take() {
            let _ = child.wait();
        }
    }

    fn down_daemon(&mut self) {
        if let Some(mut child) = self.daemon.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = std::fs::remove_file(self.socket());
    }

    fn log_file(&self) -> PathBuf {
        self.dir.0.join("log")
    }

    /// What the stand-in was made to do, a line each.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// A unit that is there: `oneshot` or `simple`, and its script.
    pub fn unit(&self, name: &str, kind: &str, script: &str) {
        let file = self.dir.0.join("units").join(name);
        std::fs::write(file, format!("{kind}\n{script}\n")).unwrap();
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.down();
    }
}
