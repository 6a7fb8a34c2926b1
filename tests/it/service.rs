//! The manners of a service: what systemd is told, what it hands over, what its journal gets.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::{Scratch, program, unique, until};

/// Ended with its owner.
struct Running(Child);

impl Running {
    fn signal(&self, name: &str) {
        let id = self.0.id().to_string();
        let done = Command::new("kill").args(["-s", name, &id]).status();
        assert!(done.unwrap().success());
    }

    fn ends(&mut self) -> i32 {
        let status = until("its end", || self.0.try_wait().unwrap());
        status.code().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An agent whose engine is not up yet.
fn agent(dir: &Path) -> Command {
    let mut command = program();
    command
        .env("HOME", dir)
        .env("XDG_RUNTIME_DIR", dir.join("run"))
        .env("DOCKER_HOST", format!("unix://{}/no-engine", dir.display()))
        .arg("--local-api-address")
        .arg(dir.join("api.sock"))
        .stdin(Stdio::null());
    command
}

fn ping(mut stream: impl Read + Write) -> String {
    stream
        .write_all(b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn fd_44_a_service_manager_is_told_how_it_stands() {
    let dir = Scratch::new();
    let (path, abstract_name) = (dir.0.join("notify"), format!("helios-{}", unique()));
    let hidden = SocketAddr::from_abstract_name(&abstract_name).unwrap();
    let managers = [
        (
            path.display().to_string(),
            UnixDatagram::bind(&path).unwrap(),
        ),
        (
            format!("@{abstract_name}"),
            UnixDatagram::bind_addr(&hidden).unwrap(),
        ),
    ];
    for (name, manager) in managers {
        manager
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let hear = || {
            let mut bytes = [0; 1024];
            let got = manager.recv(&mut bytes).unwrap();
            String::from_utf8_lossy(&bytes[..got]).into_owned()
        };
        let mut command = agent(&dir.0);
        command.env("NOTIFY_SOCKET", &name);
        command.env("WATCHDOG_USEC", "200000");
        let mut running = Running(command.spawn().unwrap());
        assert_eq!(hear(), "READY=1");
        let answer = ping(UnixStream::connect(dir.0.join("api.sock")).unwrap());
        assert!(answer.starts_with("HTTP/1.1 200"), "it is ready: {answer}");
        let (mut said, mut fed) = (BTreeSet::new(), 0);
        // An engine that is away is said, and is no reason to be started anew.
        while fed < 5 || !said.iter().any(|one: &String| one.contains("engine")) {
            match hear() {
                tick if tick == "WATCHDOG=1" => fed += 1,
                other => {
                    assert!(other.starts_with("STATUS="), "{other}");
                    assert!(said.insert(other), "it says what is new");
                }
            }
        }
        running.signal("TERM");
        while hear() != "STOPPING=1" {}
        assert_eq!(running.ends(), 0);
    }
}

#[test]
fn without_or_with_a_broken_manager_it_runs_all_the_same() {
    let dir = Scratch::new();
    for name in ["/nowhere/at/all", &"x".repeat(200)] {
        let mut command = agent(&dir.0);
        command.env("NOTIFY_SOCKET", name).env("WATCHDOG_USEC", "1");
        let mut running = Running(command.spawn().unwrap());
        let stream = until("its API", || {
            UnixStream::connect(dir.0.join("api.sock")).ok()
        });
        assert!(ping(stream).contains("OK"));
        running.signal("TERM");
        assert_eq!(running.ends(), 0);
    }
}

/// An agent that is handed this socket, as systemd does it.
fn given(dir: &Path, socket: OwnedFd) -> Running {
    let asked = agent(dir);
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\"",
        ])
        .arg(asked.get_program())
        .args(asked.get_args());
    for (name, value) in asked.get_envs() {
        if let Some(value) = value {
            shell.env(name, value);
        }
    }
    Running(shell.stdin(Stdio::from(socket)).spawn().unwrap())
}

#[test]
fn sockets_of_a_service_manager_are_the_local_api() {
    let dir = Scratch::new();
    let path = dir.0.join("given.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let mut running = given(&dir.0, unix.into());
    assert!(ping(UnixStream::connect(&path).unwrap()).contains("OK"));
    assert!(!dir.0.join("api.sock").exists(), "nor any other");
    running.signal("TERM");
    assert_eq!(running.ends(), 0);
    assert!(path.exists(), "it is the manager's");

    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let _running = given(&dir.0, tcp.into());
    assert!(ping(TcpStream::connect(address).unwrap()).contains("OK"));

    // What cannot be listened on is a mistake that is said.
    let (one, _other) = UnixStream::pair().unwrap();
    assert_eq!(given(&dir.0, one.into()).ends(), 1);
}

#[test]
fn the_journal_is_told_priorities() {
    let dir = Scratch::new();
    let file = std::fs::File::create(dir.0.join("journal")).unwrap();
    let found = file.metadata().unwrap();
    let mut command = agent(&dir.0);
    command
        .env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino()))
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let running = Running(command.spawn().unwrap());
    let text = || std::fs::read_to_string(dir.0.join("journal")).unwrap();
    until("two lines", || {
        (text().contains("<6>local API on") && text().contains("<4>")).then_some(())
    });
    drop(running);
    assert!(
        text().lines().all(|line| line.starts_with('<')),
        "{}",
        text()
    );
}
