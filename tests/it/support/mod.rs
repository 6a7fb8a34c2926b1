//! The program under test, and the world around it.

#[cfg(feature = "hostapp")]
pub mod bus;
pub mod engine;
pub mod fake;
pub mod gate;
#[cfg(feature = "legacy")]
pub mod legacy;
pub mod proxy;
pub mod registry;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use helios::http::client::{Client, Endpoint, Request, Timeouts};
use serde_json::Value;

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Tests that use the engine run one at a time: a managed agent removes every app of
/// ours that its target does not name.
pub fn alone() -> MutexGuard<'static, ()> {
    static ENGINE: Mutex<()> = Mutex::new(());
    ENGINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A variable that `scripts/test` sets.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run scripts/test"))
}

/// The small image on the test registry.
pub fn image() -> String {
    env("HELIOS_TEST_IMAGE")
}

/// A name that nothing else has.
pub fn unique() -> String {
    helios::base::random::hex(16).unwrap()
}

/// A port on which nothing listens, below the range that the kernel gives out by itself: there,
/// a client that looks whether somebody listens yet can meet itself.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).unwrap()
}

/// Looks again and again until `check` answers; panics with `what` when it takes too
/// long. What is waited for happens in other processes, which tell nobody: this is the
/// one place that waits by the clock, and how long it waits decides no test.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// A directory that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let dir = std::env::temp_dir().join(format!("helios-it-{}", unique()));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One exchange over a fresh client.
pub fn http(
    endpoint: Endpoint,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> (u16, Vec<u8>) {
    let wait = Duration::from_secs(60);
    let timeouts = Timeouts {
        resolve: wait,
        tls: wait,
        connect: wait,
        head: wait,
        idle: wait,
        total: None,
    };
    let client = Client::new(endpoint, timeouts);
    let request = Request {
        method,
        target,
        headers,
        body,
        ..Request::default()
    };
    async_io::block_on(async {
        let mut response = client
            .send(request)
            .await
            .unwrap_or_else(|err| panic!("{method} {target}: {err}"));
        (response.status(), response.bytes(16 << 20).await.unwrap())
    })
}

/// The program, running.
pub struct Agent {
    child: Child,
    pub dir: PathBuf,
}

/// How to start it.
#[derive(Default)]
pub struct Options<'a> {
    pub args: Vec<&'a str>,
    pub engine: Option<String>,
    pub without_api: bool,
    /// First wait after a failure, ms; short where a test waits for the next try.
    pub retry_ms: Option<u32>,
    /// The container that it is to take for its own.
    pub inside: Option<String>,
    /// Where the system bus is.
    pub bus: Option<String>,
    /// What it is to see in place of a file of the system.
    pub sees: Option<(PathBuf, &'a str)>,
    /// Another build of the program, as it runs on devices.
    pub binary: Option<PathBuf>,
}

pub fn program() -> Command {
    run(Path::new(env!("CARGO_BIN_EXE_helios")))
}

fn run(binary: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    command
}

/// The file that an engine mounts into this container.
fn inside(dir: &Path, container: &str) -> (PathBuf, &'static str) {
    let own = dir.join(container);
    std::fs::create_dir_all(&own).unwrap();
    std::fs::write(own.join("hostname"), "own\n").unwrap();
    (own.join("hostname"), "/etc/hostname")
}

/// The program, which sees this file in that place.
fn seeing((file, place): &(PathBuf, &str)) -> Command {
    let mut command = Command::new("unshare");
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .stdin(Stdio::null());
    let script = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
    command.args(["--mount", "/bin/sh", "-c", script]);
    command.arg(file).arg(place);
    command.arg(env!("CARGO_BIN_EXE_helios"));
    command
}

impl Agent {
    /// Starts it with its files in `dir` and waits until its API answers.
    pub fn start(dir: &Path, options: &Options<'_>) -> Agent {
        let engine = options
            .engine
            .clone()
            .unwrap_or_else(|| env("HELIOS_TEST_ENGINE"));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"))
            .unwrap();
        let own = options.inside.as_ref();
        let own = own.map(|container| inside(dir, container));
        let mut command = match own.as_ref().or(options.sees.as_ref()) {
            Some(seen) => seeing(seen),
            None => match &options.binary {
                Some(binary) => run(binary),
                None => program(),
            },
        };
        let level = match options.binary {
            Some(_) => "info",
            None => "warn,helios=debug",
        };
        command
            .env("DOCKER_HOST", engine)
            .env("HOME", dir)
            .env("RUST_LOG", level);
        command.env("XDG_RUNTIME_DIR", dir.join("run"));
        // Never that of the machine.
        let bus = options.bus.as_deref().unwrap_or("unix:path=/nonexistent");
        command.env("DBUS_SYSTEM_BUS_ADDRESS", bus);
        let retry = options.retry_ms.unwrap_or(500).to_string();
        command.args(["--local-retry-interval-ms", &retry]);
        command
            .args(&options.args)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        if !options.without_api {
            command.arg("--local-api-address").arg(dir.join("api.sock"));
        }
        let agent = Agent {
            child: command.spawn().unwrap(),
            dir: dir.to_owned(),
        };
        if !options.without_api {
            until("the API", || {
                std::os::unix::net::UnixStream::connect(dir.join("api.sock")).ok()
            });
        }
        agent
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn call(&self, method: &str, target: &str, body: Option<&Value>) -> (u16, Value) {
        let text = body.map(|body| body.to_string());
        let headers: &[(&str, &str)] = &[("content-type", "application/json")];
        let endpoint = Endpoint::Unix(self.dir.join("api.sock"));
        let (status, bytes) = http(
            endpoint,
            method,
            target,
            headers,
            text.as_ref().map(|text| text.as_bytes()),
        );
        (
            status,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    pub fn get(&self, target: &str) -> Value {
        let (status, body) = self.call("GET", target, None);
        assert_eq!(status, 200, "GET {target}: {body}");
        body
    }

    /// Sets an app over the local API.
    pub fn set(&self, app: &str, body: &Value) {
        let (status, answer) = self.call(
            "POST",
            &format!("/v3/device/apps/{app}?cancel=true"),
            Some(body),
        );
        assert_eq!(status, 202, "{answer}");
    }

    pub fn remove(&self, app: &str) {
        assert_eq!(
            self.call("DELETE", &format!("/v3/device/apps/{app}"), None)
                .0,
            202
        );
    }

    pub fn status(&self) -> String {
        self.get("/v3/status")["status"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    pub fn wait_for(&self, status: &str) {
        until(&format!("status '{status}'"), || {
            (self.status() == status).then_some(())
        });
    }

    pub fn wait_for_log(&self, text: &str) {
        until(&format!("'{text}' in the log"), || {
            self.log().contains(text).then_some(())
        });
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it, and says with which code.
    pub fn stop(mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            println!("--- the agent's log\n{}", self.log());
        }
    }
}

/// The development backend, running.
pub struct Backend {
    child: Child,
    pub address: String,
}

impl Backend {
    pub fn start() -> Backend {
        use std::io::{BufRead as _, BufReader};
        let beside = Path::new(env!("CARGO_BIN_EXE_helios"))
            .parent()
            .unwrap()
            .join("examples/backend");
        let mut child = Command::new(&beside)
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("{}: {err}; cargo build --examples", beside.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line.trim().rsplit('/').next().unwrap().to_owned();
        Backend { child, address }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn control(&self, method: &str, route: &str, body: Option<&Value>) -> Value {
        let (host, port) = self.address.rsplit_once(':').unwrap();
        let endpoint = Endpoint::Tcp {
            host: host.into(),
            port: port.parse().unwrap(),
        };
        let text = body.map(|body| body.to_string());
        let (status, bytes) = http(
            endpoint,
            method,
            &format!("/_control/{route}"),
            &[],
            text.as_ref().map(|text| text.as_bytes()),
        );
        assert!((200..300).contains(&status), "{method} {route}: {status}");
        serde_json::from_slice(&bytes).unwrap_or(Value::Null)
    }

    pub fn set_target(&self, target: &Value) {
        self.control("PUT", "target", Some(target));
    }

    /// The next answer to this kind of request comes so much later.
    pub fn delay(&self, route: &str, ms: u64) {
        let fault = serde_json::json!({"route": route, "delay_ms": ms});
        self.control("PUT", "fail", Some(&fault));
    }

    pub fn fail(&self, status: u16, times: u32) {
        self.control(
            "PUT",
            "fail",
            Some(&serde_json::json!({"status": status, "times": times})),
        );
    }

    pub fn reports(&self) -> Vec<Value> {
        self.control("GET", "reports", None)
            .as_array()
            .unwrap()
            .clone()
    }

    pub fn requests(&self, route: &str) -> u64 {
        self.control("GET", "requests", None)[route]
            .as_u64()
            .unwrap_or(0)
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
