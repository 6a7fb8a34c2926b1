//! The programs, running.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use crate::bytes::{Door, PATIENCE};

pub const UUID: &str = "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1";
/// The device's key at the backend.
pub const KEY: &str = "DeviceKeyB1";
/// The key of the legacy supervisor's own API.
pub const SECRET: &str = "LegacySecretB1";
/// As the real one says who it is.
pub const SUPERVISOR: &str = "User-Agent: Supervisor/19.0.5 (Linux; x; prod)\n";

/// Looks again and again until `check` answers. What is waited for happens in other processes;
/// how long that takes decides no test.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = check() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// An address that nobody listens on.
pub fn free() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

fn example(name: &str) -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_helios")).parent().unwrap();
    beside.join("examples").join(name)
}

/// A child that ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, and reads lines until one says where it listens.
fn start(mut command: Command, says: &str) -> (Running, String) {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.starts_with(says) {
        line.clear();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended");
    }
    // Whoever is not read any more must not be stopped by that.
    std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
    let address = line.trim().rsplit([' ', '/']).next().unwrap().to_owned();
    (Running(child), address)
}

/// The development backend.
pub struct Backend {
    _running: Running,
    pub address: String,
}

impl Backend {
    pub fn start() -> Backend {
        let mut command = Command::new(example("backend"));
        command.args(["--listen", "127.0.0.1:0"]);
        let (running, address) = start(command, "backend on");
        Backend {
            _running: running,
            address,
        }
    }

    pub fn control(&self, method: &str, route: &str, body: &Value) -> Value {
        call(
            &self.address,
            method,
            &format!("/_control/{route}"),
            Some(body),
        )
    }

    /// Sets the device's target, and returns it.
    pub fn target(&self, apps: &Value) -> Value {
        let target = json!({UUID: {"name": "it", "config": {}, "apps": apps}});
        self.control("PUT", "target", &target);
        target
    }

    pub fn requests(&self, route: &str) -> u64 {
        let requests = self.control("GET", "requests", &Value::Null);
        requests[route].as_u64().unwrap_or(0)
    }
}

/// The stand-in for the legacy supervisor.
pub struct Legacy {
    _running: Running,
    /// Its own API.
    pub address: String,
    control: String,
}

impl Legacy {
    /// Polls and reports through `endpoint`.
    pub fn start(endpoint: &str, more: &Value) -> Legacy {
        let address = free();
        let (_, port) = address.rsplit_once(':').unwrap();
        let mut settings = json!({
            "apiEndpoint": "http://127.0.0.1:9", "apiEndpointOverride": endpoint,
            "listenPortOverride": port, "uuid": UUID, "deviceApiKey": KEY, "apiSecret": SECRET,
            "backoff": 50, "reportInterval": 20, "appUpdatePollInterval": 500,
        });
        let all = settings.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        let mut command = Command::new(example("legacy"));
        command
            .args(["--control", "127.0.0.1:0"])
            .env("LEGACY_SETTINGS", settings.to_string());
        let (running, control) = start(command, "control on");
        until("the legacy supervisor", || {
            std::net::TcpStream::connect(&address).ok()
        });
        Legacy {
            _running: running,
            address,
            control,
        }
    }

    pub fn control(&self, method: &str, route: &str, body: &Value) -> Value {
        call(&self.control, method, &format!("/{route}"), Some(body))
    }

    pub fn quirks(&self, quirks: &Value) {
        self.control("PUT", "quirks", quirks);
    }

    /// What it was asked at this path.
    pub fn seen(&self, path: &str) -> Vec<Value> {
        let all = self.control("GET", "seen", &Value::Null);
        let all = all.as_array().unwrap().iter();
        all.filter(|seen| seen["path"] == path).cloned().collect()
    }

    pub fn list(&self, route: &str) -> Vec<Value> {
        let all = self.control("GET", route, &Value::Null);
        all.as_array().unwrap().clone()
    }

    /// The document that it got last.
    pub fn target(&self) -> Option<Value> {
        let text = self.control("GET", "target", &Value::Null);
        serde_json::from_str(text.as_str()?).ok()
    }
}

fn call(address: &str, method: &str, target: &str, body: Option<&Value>) -> Value {
    let body = body.filter(|body| !body.is_null()).map(Value::to_string);
    let body = body.unwrap_or_default();
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let reply = Door::Tcp(address.to_owned()).says(text.as_bytes());
    assert!(
        (200..300).contains(&reply.status),
        "{method} {target}: {reply:?}"
    );
    serde_json::from_slice(&reply.raw).unwrap_or(Value::Null)
}

/// The agent.
pub struct Agent {
    child: Option<Running>,
    _scratch: Scratch,
    pub dir: PathBuf,
    pub tcp: Door,
    pub unix: Door,
    args: Vec<String>,
}

impl Agent {
    /// With these endpoints; an empty one is none.
    pub fn start(cloud: &str, legacy: &str) -> Agent {
        Agent::start_at(&free(), cloud, legacy, &[])
    }

    pub fn start_at(address: &str, cloud: &str, legacy: &str, more: &[&str]) -> Agent {
        let scratch = Scratch::new();
        let dir = scratch.0.clone();
        let socket = dir.join("api.sock");
        let socket_text = socket.display().to_string();
        let mut args = vec!["--uuid", UUID, "--local-api-address", address];
        args.extend(["--local-api-address", &socket_text]);
        if !cloud.is_empty() {
            args.extend(["--remote-api-endpoint", cloud, "--remote-api-key", KEY]);
            args.extend(["--remote-poll-min-interval-ms", "20"]);
            args.extend(["--remote-poll-interval-ms", "60000"]);
        }
        if !legacy.is_empty() {
            args.extend(["--legacy-api-endpoint", legacy, "--legacy-api-key", SECRET]);
        }
        args.extend(more);
        let mut agent = Agent {
            child: None,
            _scratch: scratch,
            tcp: Door::Tcp(address.to_owned()),
            unix: Door::Unix(socket),
            args: args.into_iter().map(str::to_owned).collect(),
            dir,
        };
        agent.again();
        agent
    }

    /// Starts it, where it does not run.
    pub fn again(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("log"))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_helios"));
        command
            .env_clear()
            .env("HOME", &self.dir)
            .env("XDG_RUNTIME_DIR", self.dir.join("run"))
            .env("RUST_LOG", "warn,helios=debug")
            .env("DOCKER_HOST", "unix:///nonexistent/engine.sock")
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.child = Some(Running(command.spawn().unwrap()));
        let Door::Tcp(address) = self.tcp.clone() else {
            panic!("it listens on no address");
        };
        until("the agent", || std::net::TcpStream::connect(&address).ok());
        // Bound after it, and used at once by some.
        let Door::Unix(socket) = &self.unix else {
            panic!("it listens on no socket");
        };
        until("the agent's socket", || {
            std::os::unix::net::UnixStream::connect(socket).ok()
        });
    }

    pub fn kill(&mut self) {
        self.child = None;
    }

    /// Ends it as the service manager would; its exit code.
    pub fn stop(&mut self) -> Option<i32> {
        let mut running = self.child.take().unwrap();
        let pid = running.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        running.0.wait().unwrap().code()
    }

    pub fn is_alive(&mut self) -> bool {
        let child = self.child.as_mut().unwrap();
        child.0.try_wait().unwrap().is_none()
    }

    /// What it holds open.
    pub fn descriptors(&self) -> usize {
        let pid = self.child.as_ref().unwrap().0.id();
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .count()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    pub fn wait_for_log(&self, text: &str) {
        until(text, || self.log().contains(text).then_some(()));
    }

    /// The device's status, and its reason.
    pub fn status(&self) -> (String, String) {
        let reply = self.unix.asks("GET /v3/status?detail=true", "");
        let body: Value = serde_json::from_slice(&reply.body.unwrap()).unwrap();
        let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
        (text("status"), text("reason"))
    }

    /// Asks it to poll, as its own client.
    pub fn update(&self, body: &str) {
        let text = format!(
            "POST /v1/update HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(self.unix.says(text.as_bytes()).status, 202);
    }
}

/// A directory that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let name = helios::base::random::hex(8).unwrap();
        let dir = std::env::temp_dir().join(format!("helios-beside-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `helios start`, as in the agent's container, with an engine that is not there; the exit code
/// where it ends, and what it said.
pub fn start_in_container(dir: &Path, address: &str) -> Result<impl Drop + use<>, (i32, String)> {
    let log = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_helios"));
    command.arg("start").env_clear().stdin(Stdio::null());
    for name in ["CONFIG_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"] {
        command.env(format!("XDG_{name}"), dir.join(name));
    }
    let child = command
        .env("DOCKER_HOST", "unix:///nonexistent/engine.sock")
        .env("BALENA_DEVICE_UUID", UUID)
        .env("BALENA_SUPERVISOR_API_KEY", SECRET)
        .env("BALENA_SUPERVISOR_HOST", "127.0.0.1")
        .env("BALENA_SUPERVISOR_PORT", "48484")
        .env("HELIOS_LOCAL_API_ADDRESS", address)
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    let mut running = Running(child.unwrap());
    let ended = until("the agent, or its end", || {
        let ended = running.0.try_wait().unwrap();
        let answers = std::net::TcpStream::connect(address).is_ok();
        (answers || ended.is_some()).then_some(ended)
    });
    let Some(status) = ended else {
        return Ok(running);
    };
    let said = std::fs::read_to_string(dir.join("log")).unwrap();
    Err((status.code().unwrap_or(-1), said))
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.child = None;
        if std::thread::panicking() {
            println!("--- the agent's log\n{}", self.log());
        }
    }
}
