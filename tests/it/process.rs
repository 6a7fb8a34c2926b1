//! The program as a process: options, signals, files.

use std::process::Stdio;

use crate::support::{Agent, Options, Scratch, program, until};

fn ends(args: &[&str]) -> (i32, String) {
    let dir = Scratch::new();
    let mut command = program();
    command.env("HOME", &dir.0).args(args);
    let pipes = command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    // An agent that starts would stay.
    until("the end", || child.try_wait().unwrap());
    let out = child.wait_with_output().unwrap();
    let text =
        String::from_utf8_lossy(&out.stderr).into_owned() + &String::from_utf8_lossy(&out.stdout);
    (out.status.code().unwrap(), text)
}

#[test]
fn bad_options_end_with_2_and_one_sentence() {
    #[rustfmt::skip]
    let cases: &[(&[&str], &str)] = &[
        (&["--nope"], "--nope"),
        (&["--uuid"], "uuid"),
        (&["--remote-api-key", "k"], "--uuid"),
        (&["--local-api-address", "localhost:48484"], "--local-api-address"),
        (&["--remote-api-endpoint", "ftp://x"], "--remote-api-endpoint"),
        (&["--pulls-max", "0"], "--pulls-max"),
        (&["--legacy-api-endpoint", "http://x"], "--legacy-api-key"),
        (&["--provisioning-key", "k"], "--remote-api-endpoint"),
        (&["--user-apps", "off"], "--user-apps"),
    ];
    for (args, want) in cases {
        let (code, said) = ends(args);
        assert_eq!(code, 2, "{args:?}: {said}");
        assert!(said.contains(want), "{args:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{args:?}: {said}");
    }
}

#[test]
fn help_and_version() {
    let (code, help) = ends(&["--help"]);
    assert_eq!(code, 0);
    assert!(help.contains("--local-api-address") && help.lines().all(|line| line.len() <= 100));
    assert_eq!(
        ends(&["--version"]),
        (0, format!("helios {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn a_failed_start_ends_with_1_and_a_sentence() {
    let (code, said) = ends(&["--local-api-address", "/nonexistent/dir/api.sock"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("/nonexistent/dir/api.sock"), "{said}");
}

fn without_engine(dir: &Scratch) -> Agent {
    let engine = Some("unix:///nonexistent/engine.sock".to_owned());
    Agent::start(
        &dir.0,
        &Options {
            engine,
            ..Options::default()
        },
    )
}

#[test]
fn d_32_sigterm_and_sigint_end_it_in_order() {
    for signal in ["-TERM", "-INT"] {
        let dir = Scratch::new();
        let agent = without_engine(&dir);
        agent.signal(signal);
        assert_eq!(agent.stop(), Some(0), "{signal}");
        assert!(!dir.0.join("api.sock").exists(), "the socket file is gone");
    }
}

#[test]
fn d_27_a_socket_file_that_was_left_behind_is_replaced() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = Scratch::new();
    without_engine(&dir).kill();
    assert!(dir.0.join("api.sock").exists());
    let agent = without_engine(&dir);
    assert_eq!(agent.status(), "done");
    let mode = std::fs::metadata(dir.0.join("api.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn issue_8_the_doctor_says_what_is_there_and_what_follows() {
    let run = |engine: &str, bus: &str| {
        let dir = Scratch::new();
        let mut command = program();
        command.env("HOME", &dir.0).env("XDG_RUNTIME_DIR", &dir.0);
        command.env("DOCKER_HOST", engine);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        let out = command.arg("doctor").output().unwrap();
        let left = std::fs::read_dir(&dir.0).unwrap().count();
        assert_eq!(left, 0, "it changes nothing");
        let text = String::from_utf8(out.stdout).unwrap();
        let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
        (out.status.code().unwrap(), lines)
    };
    let no_bus = "unix:path=/nonexistent/bus";
    let (code, lines) = run(&crate::support::env("HELIOS_TEST_ENGINE"), no_bus);
    assert_eq!(code, 0, "{lines:?}");
    let line = |what: &str| lines.iter().find(|line| line.starts_with(what)).unwrap();
    assert!(
        line("container engine").contains("  ok    ")
            && line("container engine").contains("API 1.")
    );
    assert!(line("images").contains("overlay2, in /"));
    assert!(line("room for images").contains("iB free"));
    assert!(line("systemd over D-Bus").contains("  none  "));
    assert!(line("device type").contains("  none  "));
    assert!(line("device  ").contains("helios --help"));
    assert!(line("machine").contains("Linux "));
    assert_eq!(lines.last().unwrap(), "an agent can work here");

    let (code, lines) = run("unix:///nonexistent/engine", no_bus);
    assert_eq!(code, 1);
    assert!(lines[0].starts_with("container engine") && lines[0].contains("DOCKER_HOST"));
    assert!(lines.last().unwrap().contains("cannot work here"));
}

/// Without user apps of a backend: nothing of the engine is touched.
#[test]
fn issue_8_an_engine_that_comes_later_is_a_change() {
    let _alone = crate::support::alone();
    let dir = Scratch::new();
    let socket = dir.0.join("engine.sock");
    let engine = Some(format!("unix://{}", socket.display()));
    let agent = Agent::start(
        &dir.0,
        &Options {
            engine,
            ..Options::default()
        },
    );
    agent.wait_for_log("  container engine    none  ");
    let real = crate::support::env("HELIOS_TEST_ENGINE");
    std::os::unix::fs::symlink(real.trim_start_matches("unix://"), socket).unwrap();
    agent.wait_for_log("what this machine offers has changed:");
    agent.wait_for_log("  images            ok    ");
    let log = agent.log();
    assert_eq!(
        log.matches("  container engine  ok    ").count(),
        1,
        "{log}"
    );
    assert_eq!(
        log.matches("  machine ").count(),
        1,
        "only what is new: {log}"
    );
}
