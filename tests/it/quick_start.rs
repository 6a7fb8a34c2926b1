//! The README's quick start, word for word, against the development backend and the fake
//! engine. Only the backend's port and the socket's place are the test's own, and `cargo run`
//! starts what is built already.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::fake::Fake;
use crate::support::{Scratch, until};

const UUID: &str = "0123456789abcdef0123456789abcdef";
const IDENTITY: &str = ".config/helios/contents/0/provisioning";

const CARGO: &str = r#"#!/bin/sh
case "$1 $2 $4" in
"run --example --") name=$3; shift 4; exec "$BUILT/examples/$name" "$@" ;;
"run --release "*) shift 3; exec "$BUILT/helios" "$@" ;;
esac
echo "the quick start has another command: cargo $*" >&2
exit 1
"#;

/// A person's machine.
struct Desk {
    dir: Scratch,
    fake: Fake,
    backend: String,
}

/// What a person started and left running, and all that it started.
struct Terminal(Option<Child>);

impl Terminal {
    fn end(mut self) {
        self.signal("-TERM");
        let mut child = self.0.take().unwrap();
        let ended = until("its end", || child.try_wait().unwrap());
        assert_eq!(ended.code(), Some(0));
    }

    fn signal(&self, name: &str) {
        if let Some(child) = &self.0 {
            let group = format!("-{}", child.id());
            let _ = Command::new("kill").args([name, "--", &group]).status();
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.signal("-KILL");
        if let Some(child) = &mut self.0 {
            let _ = child.wait();
        }
    }
}

impl Desk {
    fn new() -> Desk {
        let dir = Scratch::new();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let backend = port.local_addr().unwrap().to_string();
        let cargo = dir.0.join("cargo");
        std::fs::write(&cargo, CARGO).unwrap();
        std::fs::set_permissions(&cargo, Permissions::from_mode(0o755)).unwrap();
        // An answer that is a refusal ends the terminal's commands.
        std::fs::write(dir.0.join(".curlrc"), "fail\nsilent\nshow-error\n").unwrap();
        let fake = Fake::start(&dir.0);
        Desk { dir, fake, backend }
    }

    fn shell(&self, commands: &str) -> Command {
        let socket = self.dir.0.join("helios.sock");
        let commands = commands
            .replace("127.0.0.1:8090", &self.backend)
            .replace("/tmp/helios.sock", socket.to_str().unwrap());
        let built = Path::new(env!("CARGO_BIN_EXE_helios")).parent().unwrap();
        let mut command = Command::new("bash");
        command
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", self.dir.0.display()))
            .env("BUILT", built)
            .env("HOME", &self.dir.0)
            .env("XDG_RUNTIME_DIR", self.dir.0.join("run"))
            .env("DOCKER_HOST", &self.fake.url)
            .current_dir(&self.dir.0)
            .stdin(Stdio::null())
            .args(["-euc", &commands]);
        command
    }

    /// For what goes on until it is ended.
    fn open(&self, log: &str, commands: &str) -> Terminal {
        let log = std::fs::File::create(self.dir.0.join(log)).unwrap();
        let mut command = self.shell(commands);
        command.stdout(log.try_clone().unwrap()).stderr(log);
        Terminal(Some(command.process_group(0).spawn().unwrap()))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.0.join("log")).unwrap_or_default()
    }

    fn is_said(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// What these commands print, all of which have to succeed.
    fn run(&self, commands: &str) -> String {
        let output = self.shell(commands).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{commands}: {said} {errors}\n{}",
            self.log()
        );
        said
    }

    fn registrations(&self) -> u64 {
        let counts = self.run("curl http://127.0.0.1:8090/_control/requests");
        let counts: Value = serde_json::from_str(&counts).unwrap();
        counts["POST /device/register"].as_u64().unwrap_or(0)
    }

    /// Until the one service of app hello runs.
    fn hello_runs(&self) -> String {
        until("the service", || {
            let device = self.run("curl --unix-socket /tmp/helios.sock http://helios/v3/device");
            device.contains("\"running\"").then_some(device)
        })
    }
}

/// The quick start's blocks of commands, and those in its text.
fn commands() -> (Vec<String>, Vec<String>) {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
    let readme = readme.unwrap();
    let (_, start) = readme.split_once("## Quick start\n").unwrap();
    let (start, _) = start.split_once("\n## ").unwrap();
    let (mut blocks, mut inline) = (Vec::new(), Vec::new());
    for (at, part) in start.split("```").enumerate() {
        if at % 2 == 1 {
            blocks.push(part.strip_prefix("sh\n").unwrap().to_owned());
            continue;
        }
        let code = part.split('`').skip(1).step_by(2);
        let code = code.map(|code| code.replace('\n', " "));
        inline.extend(code.filter(|code| code.starts_with("cargo ") || code.starts_with("rm ")));
    }
    (blocks, inline)
}

#[test]
fn issue_6_the_quick_start_works_word_for_word() {
    let (blocks, inline) = commands();
    let [first, second, third, local] = &blocks[..] else {
        panic!("{blocks:?}");
    };
    let [afterwards, forget] = &inline[..] else {
        panic!("{inline:?}");
    };
    let desk = Desk::new();
    let home = |file: &str| desk.dir.0.join(file);
    let _backend = desk.open("backend", first);
    until("the backend", || {
        std::net::TcpStream::connect(&desk.backend).ok()
    });

    let agent = desk.open("log", second);
    desk.is_said(&format!("this device is registered as {UUID}"));
    desk.is_said(home(IDENTITY).to_str().unwrap());
    assert!(home(IDENTITY).exists());
    let said = desk.run(third);
    assert!(said.contains("\"status\""), "{said}");
    let device = desk.hello_runs();
    assert!(device.contains("busybox"), "{device}");
    until("the report", || {
        let reports = desk.run(third.trim_end().lines().last().unwrap());
        reports.contains("Running").then_some(())
    });
    assert_eq!(desk.registrations(), 1);
    agent.end();

    // From then on, this is enough.
    let agent = desk.open("log", afterwards);
    desk.is_said(home(IDENTITY).to_str().unwrap());
    desk.hello_runs();
    assert_eq!(desk.registrations(), 1);
    agent.end();

    // Forgotten, it runs unmanaged, and takes an app from a person.
    desk.run(forget);
    assert!(!home(IDENTITY).exists());
    let agent = desk.open("log", afterwards);
    desk.is_said("unmanaged");
    desk.run(local);
    desk.hello_runs();
    assert_eq!(desk.registrations(), 1);
    agent.end();
}
