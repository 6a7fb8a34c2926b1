//! Taking over from a stand-in for the legacy supervisor on the real engine, and handing back to
//! it (R-TKO-1 to R-TKO-10, FD-42).

use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::engine::{self, App};
use crate::support::free_port;
use crate::support::legacy::Legacy;
use crate::support::{Agent, Options, Scratch, alone, env, program, until};

const MARK: &str = "run/helios-legacy-takeover-breadcrumb";
const ENDPOINT: &str = "http://127.0.0.1:48484/";

/// The applet, with directories of its own.
struct Applet {
    scratch: Scratch,
    port: u16,
}

impl Applet {
    fn new() -> Applet {
        let scratch = Scratch::new();
        std::fs::create_dir(scratch.0.join("run")).unwrap();
        let link = scratch.0.join("helios-legacy-takeover");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_helios"), link).unwrap();
        let port = free_port();
        Applet { scratch, port }
    }

    fn path(&self) -> PathBuf {
        self.scratch.0.join("helios-legacy-takeover")
    }

    fn prepare(&self, command: &mut Command, words: &[&str]) {
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command.env("DOCKER_HOST", env("HELIOS_TEST_ENGINE"));
        command.env("HOME", &self.scratch.0);
        command.env("XDG_RUNTIME_DIR", self.scratch.0.join("run"));
        command.env("RUST_LOG", "warn,helios=debug");
        command.args(words).args(["--restart", "container"]);
        command.stdin(Stdio::null());
    }

    fn words(&self) -> [String; 6] {
        let port = self.port.to_string();
        let words = [
            "--override-host",
            ENDPOINT,
            "--override-port",
            &port,
            "--legacy-host",
            "127.0.0.1",
        ];
        words.map(str::to_owned)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.path());
        self.prepare(&mut command, words);
        command
    }

    fn run(&self, words: &[&str]) -> Done {
        Done::of(self.command(words).output().unwrap())
    }

    fn take_over(&self) -> Done {
        self.run(&self.words().each_ref().map(String::as_str))
    }

    fn restore(&self) -> Done {
        self.run(&["--restore"])
    }

    fn is_marked(&self) -> bool {
        self.scratch.0.join(MARK).exists()
    }

    fn mark(&self) {
        std::fs::write(self.scratch.0.join(MARK), "").unwrap();
    }

    /// What the supervisor's rows are after a takeover.
    fn rows(&self) -> [String; 2] {
        [
            format!("apiEndpointOverride={ENDPOINT}"),
            format!("listenPortOverride={}", self.port),
        ]
    }
}

/// How the applet ended.
#[derive(Debug)]
struct Done {
    code: Option<i32>,
    said: String,
}

impl Done {
    fn of(output: Output) -> Done {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Done {
            code: output.status.code(),
            said: [text(&output.stdout), text(&output.stderr)].concat(),
        }
    }

    #[track_caller]
    fn check(&self, code: i32, said: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.said.contains(said), "no '{said}' in {}", self.said);
    }
}

const NO_ROWS: [String; 0] = [];

#[test]
fn s_tko_04_s_tko_05_s_tko_21_there_and_back_again() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let first = legacy.started_at();
    applet.take_over().check(0, "migrated: balena_supervisor");
    assert_eq!(legacy.settings(), applet.rows());
    legacy.wait_for(applet.port);
    let second = legacy.started_at();
    assert_ne!(first, second);
    assert!(!applet.is_marked());

    applet
        .take_over()
        .check(0, "already-configured: balena_supervisor");
    assert_eq!(legacy.started_at(), second, "nothing restarted");

    applet.restore().check(0, "restored: balena_supervisor");
    assert_eq!(legacy.settings(), NO_ROWS);
    legacy.wait_for(legacy.port);
    let third = legacy.started_at();
    assert_ne!(second, third);
    applet
        .restore()
        .check(0, "already-restored: balena_supervisor");
    assert_eq!(legacy.started_at(), third, "nothing restarted");
}

#[test]
fn s_tko_06_s_tko_21_what_was_there_before_comes_back() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let insert = |rows: &str| {
        legacy.node(&format!(
            "const {{Database}} = require('sqlite3'); new Database('/data/database.sqlite').run(\
             \"INSERT INTO config (key, value) VALUES {rows}\", (error) => process.exit(error ? 1 : 0))"
        ));
    };
    insert("('apiEndpointOverride', 'http://it''s.example/'), ('other', '1')");
    applet.take_over().check(0, "migrated");
    let [endpoint, port] = applet.rows();
    assert_eq!(legacy.settings(), [endpoint, port, "other=1".into()]);
    applet.restore().check(0, "restored");
    let want = ["apiEndpointOverride=http://it's.example/", "other=1"];
    assert_eq!(legacy.settings(), want);
    applet.restore().check(0, "already-restored");
    assert_eq!(legacy.settings(), want, "twice");
}

#[test]
fn s_tko_01_s_tko_02_s_tko_03_which_container_it_is() {
    let _alone = alone();
    let applet = Applet::new();
    applet.take_over().check(0, "not-present");
    applet.restore().check(0, "not-present");
    assert!(!applet.is_marked());
    let older = Legacy::start("resin_supervisor");
    applet.take_over().check(0, "migrated: resin_supervisor");
    let started = older.started_at();
    // Only one of them can listen.
    engine::call("POST", "/containers/resin_supervisor/stop", None);
    let newer = Legacy::start("balena_supervisor");
    applet.take_over().check(0, "migrated: balena_supervisor");
    assert_eq!(newer.settings(), applet.rows());
    assert_eq!(older.started_at(), started);
}

#[cfg(feature = "hostapp")]
#[test]
fn s_tko_02_s_tko_13_s_tko_14_its_unit_is_restarted_where_there_is_one() {
    use crate::support::bus::Bus;

    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let mut bus = Bus::start(&[]);
    let run = |bus: &Bus, how: &[&str]| {
        let mut command = applet.command(&applet.words().each_ref().map(String::as_str));
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus.address());
        Done::of(command.args(how).output().unwrap())
    };
    let started = legacy.started_at();
    let done = run(&bus, &["--restart", "unit"]);
    done.check(1, "balena-supervisor.service");
    assert_eq!(legacy.started_at(), started, "nobody else restarts it then");
    assert!(applet.is_marked(), "the restart is still due");
    bus.unit("balena-supervisor.service", "simple", "exec sleep 600");
    run(&bus, &["--restart", "unit"]).check(0, "migrated");
    assert!(bus.log().contains("start balena-supervisor.service"));
    assert_eq!(legacy.started_at(), started);
    assert!(!applet.is_marked());
    // Where the manager is not there any more the engine does it.
    bus.down();
    applet.mark();
    let done = run(&bus, &["--restart", "unit"]);
    done.check(1, "--restart unit is not possible");
    assert_eq!(legacy.started_at(), started);
    assert!(applet.is_marked(), "the restart is still due");
}

#[test]
fn s_tko_07_a_restart_that_is_due_is_done() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    applet.take_over().check(0, "migrated");
    let started = legacy.started_at();
    applet.mark();
    applet.take_over().check(0, "migrated");
    assert_ne!(legacy.started_at(), started);
    assert!(!applet.is_marked());
}

#[test]
fn s_tko_12_a_database_that_cannot_be_changed() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let database = legacy.database();
    let change = |sql: &str| {
        legacy.node(&format!(
            "const {{Database}} = require('sqlite3'); new Database('/data/database.sqlite').run(\
             '{sql}', (error) => process.exit(error ? 1 : 0))"
        ));
    };
    change("ALTER TABLE config RENAME TO other");
    applet.take_over().check(1, "no such table: config");
    change("ALTER TABLE other RENAME TO config");
    let aside = database.with_extension("aside");
    std::fs::rename(&database, &aside).unwrap();
    applet.take_over().check(1, "unable to open database file");
    std::fs::write(
        &database,
        "this is no database, and long enough to be looked at",
    )
    .unwrap();
    applet.take_over().check(1, "file is not a database");
    std::fs::rename(&aside, &database).unwrap();
    // Held for longer than anybody waits.
    let holder = "const {Database} = require('sqlite3'); const db = new Database('/data/database.sqlite'); \
        db.exec('BEGIN EXCLUSIVE', () => { require('fs').writeFileSync('/data/held', ''); setTimeout(() => {}, 60000); })";
    let exec = json!({"Cmd": ["node", "-e", holder]});
    let path = format!("/containers/{}/exec", legacy.name);
    let made = engine::call("POST", &path, Some(&exec)).1;
    let id = made["Id"].as_str().unwrap();
    let detached = json!({"Detach": true});
    engine::call("POST", &format!("/exec/{id}/start"), Some(&detached));
    let held = legacy.dir.0.join("data/held");
    until("the lock", || held.exists().then_some(()));
    applet.take_over().check(1, "database is locked");
    applet.mark();
    applet.take_over().check(1, "database is locked");
    assert!(applet.is_marked(), "S-TKO-09: it was there before");
}

#[test]
fn s_tko_10_s_tko_12_a_database_that_cannot_be_written() {
    let _alone = alone();
    let legacy = Legacy::of_read_only("balena_supervisor");
    let applet = Applet::new();
    applet.take_over().check(1, "readonly database");
    assert!(!applet.is_marked());
    drop(legacy);
}

#[test]
fn s_tko_11_an_image_without_node() {
    let _alone = alone();
    let applet = Applet::new();
    let legacy = Legacy::of_busybox("balena_supervisor");
    let done = applet.take_over();
    done.check(1, "legacy supervisor's settings");
    assert!(done.said.contains("node"), "{done:?}");
    assert!(!applet.is_marked());
    drop(legacy);
}

#[test]
fn s_tko_15_a_container_that_does_not_run_yet() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    engine::call("POST", "/containers/balena_supervisor/stop", None);
    let words = applet.words();
    let mut child = applet.command(&words.each_ref().map(String::as_str));
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    let text = read_until(&mut child, "trying again");
    assert!(text.contains("is not running"), "{text}");
    engine::call("POST", "/containers/balena_supervisor/start", None);
    let text = read_until(&mut child, "migrated: ");
    assert!(child.wait().unwrap().success(), "{text}");
    assert_eq!(legacy.settings(), applet.rows());
}

/// What it prints until a text comes.
fn read_until(child: &mut Child, text: &str) -> String {
    use std::io::Read as _;
    let mut said = String::new();
    let stdout = child.stdout.as_mut().unwrap();
    let mut byte = [0];
    while !said.contains(text) && stdout.read(&mut byte).unwrap() == 1 {
        said.push(char::from(byte[0]));
    }
    assert!(said.contains(text), "{said}");
    said
}

#[test]
fn s_tko_16_s_tko_17_no_engine_and_bad_options() {
    let applet = Applet::new();
    let words = applet.words();
    let mut command = applet.command(&words.each_ref().map(String::as_str));
    command.env("DOCKER_HOST", "unix:///nonexistent.sock");
    Done::of(command.output().unwrap()).check(1, "the takeover failed: cannot ask the engine");
    applet.run(&[]).check(2, "--override-host");
    applet
        .run(&["--override-host", ENDPOINT])
        .check(2, "--override-port");
    let wrong = ["--override-host", "http://o'hara", "--override-port", "1"];
    applet.run(&wrong).check(2, "--override-host");
    applet.run(&["--help"]).check(0, "--restore");
    // Another name is the agent.
    let link = applet.scratch.0.join("helios-legacy-takeover2");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_helios"), &link).unwrap();
    let output = Command::new(link).arg("--restore").output().unwrap();
    Done::of(output).check(2, "unknown option --restore; see helios --help");
}

/// An engine that is there, and cannot say anything of a container.
#[test]
fn s_tko_16_an_engine_that_answers_500_is_a_failure_and_nothing_is_changed() {
    use std::io::{Read as _, Write as _};
    let applet = Applet::new();
    let socket = applet.scratch.0.join("engine.sock");
    let engine = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let answering = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for stream in engine.incoming() {
            let (mut stream, mut head) = (stream.unwrap(), Vec::new());
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                head.extend(byte);
            }
            let head = String::from_utf8(head).unwrap();
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            let (status, body) = match target.ends_with("/version") {
                true => (
                    200,
                    r#"{"Version":"1","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#,
                ),
                false => (500, r#"{"message":"no disk"}"#),
            };
            let _ = write!(
                stream,
                "HTTP/1.1 {status} Huh\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            let is_last = target.is_empty();
            asked.push(head);
            if is_last {
                return asked;
            }
        }
        asked
    });
    let words = applet.words();
    let mut command = applet.command(&words.each_ref().map(String::as_str));
    command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
    let done = Done::of(command.output().unwrap());
    // Nothing more is asked for.
    drop(std::os::unix::net::UnixStream::connect(&socket));
    let asked = answering.join().unwrap();
    done.check(1, "no disk");
    assert!(!applet.is_marked());
    let all_read = asked
        .iter()
        .all(|head| head.is_empty() || head.starts_with("GET "));
    assert!(all_read, "{asked:?}");
}

#[test]
fn s_tko_20_two_at_once_and_one_restart() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let words = applet.words();
    let words = words.each_ref().map(String::as_str);
    let begin = || {
        let mut command = applet.command(&words);
        command.stdout(Stdio::piped()).spawn().unwrap()
    };
    let both = [begin(), begin()].map(|child| Done::of(child.wait_with_output().unwrap()));
    for done in &both {
        assert_eq!(done.code, Some(0), "{both:?}");
    }
    let count = |word: &str| both.iter().filter(|done| done.said.contains(word)).count();
    assert_eq!(
        (count("migrated: "), count("already-configured: ")),
        (1, 1),
        "{both:?}"
    );
    assert_eq!(legacy.settings(), applet.rows());
}

/// What the applet asks of the system at the borders of its steps: a request to the engine, a
/// document in its place, the mark. What the former step did is done then, and nobody has
/// written it down.
const CALLS: [&str; 3] = ["writev", "rename", "unlink"];

/// Runs it under strace, killed at a call if there is one of that number.
fn kill_at(applet: &Applet, words: &[&str], call: &str, nth: usize) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o", "/dev/null"]);
    command.arg(format!("-einject={call}:signal=SIGKILL:when={nth}"));
    command.arg(applet.path());
    applet.prepare(&mut command, words);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let status = command
        .status()
        .expect("strace is needed: run scripts/test");
    assert!(status.code().is_none_or(|code| code == 0), "{status:?}");
}

/// How often it makes each of the calls when nothing happens.
fn counted(applet: &Applet, words: &[&str]) -> [(&'static str, usize); 3] {
    let trace = applet.scratch.0.join("trace");
    let mut command = Command::new("strace");
    command.args(["-f", "-qq", "-o"]).arg(&trace);
    command
        .arg(format!("-etrace={}", CALLS.join(",")))
        .arg(applet.path());
    applet.prepare(&mut command, words);
    assert!(command.output().unwrap().status.success());
    let text = std::fs::read_to_string(&trace).unwrap();
    let count = |call: &str| {
        let begins = format!("{call}(");
        text.lines().filter(|line| line.contains(&begins)).count()
    };
    CALLS.map(|call| (call, count(call)))
}

#[test]
fn fd_42_s_tko_08_killed_at_any_call_it_ends_with_one_restart() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let over = applet.words();
    let over = over.each_ref().map(String::as_str);
    let both = [&over[..], &["--restore"]];
    let counts = both.map(|words| counted(&applet, words));
    for (at, call) in CALLS.into_iter().enumerate() {
        for nth in 1..=counts.iter().map(|counts| counts[at].1).max().unwrap() {
            for words in both {
                let want = match words.len() {
                    1 => Vec::new(),
                    _ => applet.rows().to_vec(),
                };
                let what = format!("{words:?} killed at {call} {nth}");
                let begun = legacy.started_at();
                kill_at(&applet, words, call, nth);
                let between = legacy.started_at();
                let done = applet.run(words);
                assert_eq!(done.code, Some(0), "{what}: {done:?}");
                let restarts = [begun != between, between != legacy.started_at()];
                let restarts = restarts.into_iter().filter(|it| *it).count();
                assert_eq!(restarts, 1, "{what}: {done:?}");
                assert!(!applet.is_marked(), "{what}");
                assert_eq!(legacy.settings(), want, "{what}");
            }
        }
    }
}

/// A release of two services that share a volume.
fn release() -> Value {
    let keep = json!({"command": ["sh", "-c", "date >>/data/starts; exec sleep infinity"],
        "stop_signal": "SIGKILL", "volumes": ["kept:/data"]});
    engine::app(
        "r1",
        json!({"services": {"a": engine::service(1, keep), "b": engine::service(2, json!({}))},
            "networks": {"front": {}}, "volumes": {"kept": {}}}),
    )
}

#[test]
fn d_08_handing_back_removes_our_containers_and_no_volume() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    applet.take_over().check(0, "migrated");
    let app = App::new();
    let agent = Agent::start(&applet.scratch.0, &Options::default());
    agent.set(&app.0, &release());
    agent.wait_for("done");
    assert_eq!(app.containers().len(), 2);

    applet.restore().check(
        1,
        "an agent is running with this state directory: stop it first",
    );
    assert_eq!(
        (app.containers().len(), legacy.settings()),
        (2, applet.rows().into())
    );
    assert_eq!(agent.stop(), Some(0));

    let locks = applet
        .scratch
        .0
        .join(format!("run/update-locks/{}/a", app.0));
    std::fs::write(locks.join("updates.lock"), "").unwrap();
    applet.restore().check(
        1,
        "updates.lock' is held by a service; try again later, or with --force",
    );
    assert!(app.is_running("a") && app.is_running("b"));
    assert_eq!(legacy.settings(), applet.rows());

    applet.run(&["--restore", "--force"]).check(
        0,
        "restored: balena_supervisor works as before, \
        containers of this agent removed: 2",
    );
    assert_eq!((app.containers().len(), app.networks().len()), (0, 0));
    assert_eq!(app.volumes().len(), 1, "data stays");
    assert_eq!(legacy.settings(), NO_ROWS);
    legacy.wait_for(legacy.port);
}

#[test]
fn s_tko_22_a_supervisor_that_does_not_answer_is_looked_for() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let applet = Applet::new();
    let words = applet.words();
    let mut words = words.each_ref().map(String::as_str);
    // Nobody listens there.
    words[5] = "127.0.0.2";
    let mut child = applet.command(&words);
    let mut child = child.stdout(Stdio::piped()).spawn().unwrap();
    read_until(&mut child, "migrated: ");
    // It would be looked for two minutes; the steps' own test has a clock to turn.
    std::thread::sleep(Duration::from_millis(500));
    assert!(
        child.try_wait().unwrap().is_none(),
        "it waits for an answer"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    applet.take_over().check(0, "already-configured");
    drop(legacy);
}

#[test]
fn s_tko_18_the_agent_under_its_own_name_has_no_such_options() {
    let output = program().args(["--override-port", "1"]).output().unwrap();
    Done::of(output).check(2, "unknown option --override-port");
}

/// `helios start`, as in the agent's container beside a legacy supervisor.
struct Service {
    scratch: Scratch,
    legacy: u16,
    later: u16,
    child: Option<Child>,
}

impl Service {
    fn new(legacy: &Legacy) -> Service {
        Service {
            scratch: Scratch::new(),
            legacy: legacy.port,
            later: free_port(),
            child: None,
        }
    }

    fn command(&self, word: &str) -> Command {
        let mut command = program();
        command.env("DOCKER_HOST", env("HELIOS_TEST_ENGINE"));
        for name in ["CONFIG_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"] {
            command.env(format!("XDG_{name}"), self.scratch.0.join(name));
        }
        let (legacy, later) = (self.legacy.to_string(), self.later.to_string());
        command.envs([
            ("BALENA_DEVICE_UUID", "u1"),
            ("BALENA_SUPERVISOR_API_KEY", "k"),
            ("BALENA_SUPERVISOR_HOST", "127.0.0.1"),
            ("BALENA_SUPERVISOR_PORT", &legacy),
            ("HELIOS_LEGACY_HOST", "127.0.0.1"),
            ("HELIOS_LEGACY_PORT", &later),
            ("HELIOS_LEGACY_RESTORE_AFTER_MINUTES", "5"),
            ("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent"),
            ("RUST_LOG", "warn,helios=info"),
        ]);
        command.arg(word);
        command
    }

    /// Starts it, and waits until its log says so.
    fn start(&mut self, text: &str) {
        let log = std::fs::File::create(self.scratch.0.join("log")).unwrap();
        let mut command = self.command("start");
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
        until(text, || self.log().contains(text).then_some(()));
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.0.join("log")).unwrap()
    }

    fn health(&self) -> Done {
        Done::of(self.command("healthcheck").output().unwrap())
    }

    /// Ends it as an engine does; its code.
    fn stop(&mut self) -> Option<i32> {
        let mut child = self.child.take().unwrap();
        let pid = child.id().to_string();
        assert!(Command::new("kill").arg(pid).status().unwrap().success());
        child.wait().unwrap().code()
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn files(&self) -> helios::store::Files {
        helios::store::Files::below(&self.scratch.0.join("STATE_HOME/helios"))
    }

    fn record(&self) -> Value {
        let bytes = self.files().read("legacy/guard").unwrap();
        serde_json::from_slice(&bytes.unwrap()).unwrap()
    }

    /// As if that had been written down.
    fn remember(&self, name: &str, value: Value) {
        let mut record = self.record();
        record[name] = value;
        let text = record.to_string();
        self.files().write("legacy/guard", text.as_bytes()).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn r_tko_7_where_no_agent_serves_the_supervisor_gets_its_device_back() {
    let _alone = alone();
    let legacy = Legacy::start("balena_supervisor");
    let mut it = Service::new(&legacy);
    it.start("migrated: balena_supervisor");
    legacy.wait_for(it.later);
    // One answer is no service: an agent may give it and then end, each time.
    until("its health", || (it.health().code == Some(0)).then_some(()));
    assert!(it.record()["silent_since"].is_u64(), "{}", it.record());
    it.remember("begun", json!(0));
    it.health().check(0, "the agent works");
    assert!(it.record()["silent_since"].is_null(), "{}", it.record());
    // Killed, and begun again after minutes in which nobody served.
    it.kill();
    it.remember("silent_since", json!(0));
    it.start("standing by for 360 min");
    let log = it.log();
    assert!(log.contains("restored: balena_supervisor"), "{log}");
    assert_eq!(legacy.settings(), NO_ROWS);
    legacy.wait_for(legacy.port);
    it.health().check(1, "it stands by");
    let started = legacy.started_at();
    assert_eq!(it.stop(), Some(0), "it can be told to end");
    it.start("standing by");
    assert_eq!(it.stop(), Some(0));
    assert_eq!(legacy.started_at(), started, "nothing restarted");
    // A mended one takes over at once.
    it.remember("version", json!("0.0.0"));
    it.start("migrated: balena_supervisor");
    until("its health", || (it.health().code == Some(0)).then_some(()));
    it.kill();
    let applet = Applet::new();
    let state = it.scratch.0.join("STATE_HOME");
    let mut back = applet.command(&["--restore"]);
    let back = back.env("XDG_STATE_HOME", state).output().unwrap();
    Done::of(back).check(0, "restored: balena_supervisor");
}
