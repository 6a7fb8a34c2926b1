//! The stand-in for the legacy supervisor (`tests/legacy`) in a container on the engine, as the
//! real one is: its name, its database, node and the module that it is read with, the host's
//! network.

use std::path::{Path, PathBuf};

use helios::base::percent::percent_encode_segment;
use helios::engine::Docker;
use helios::http::client::Endpoint;
use helios::world::takeover::Output;
use serde_json::{Value, json};

use super::{Scratch, engine, env, image, until};

/// Its container, running; goes with this value.
pub struct Legacy {
    pub name: &'static str,
    pub dir: Scratch,
    /// Where it listens as long as nobody tells it another port.
    pub port: u16,
}

impl Legacy {
    /// Makes it and waits until it answers.
    pub fn start(name: &'static str) -> Legacy {
        let port = super::free_port();
        let command = ["./legacy", "--settings-command", "node settings.js"];
        let legacy = Legacy::of(name, &env("HELIOS_TEST_LEGACY_IMAGE"), &command, "rw", port);
        legacy.run();
        legacy.wait_for(legacy.port);
        legacy
    }

    /// One that runs and can only read its database.
    pub fn of_read_only(name: &'static str) -> Legacy {
        let wait = ["node", "-e", "setInterval(() => {}, 1000)"];
        let legacy = Legacy::start(name);
        let database = std::fs::read(legacy.database()).unwrap();
        drop(legacy);
        let image = env("HELIOS_TEST_LEGACY_IMAGE");
        let legacy = Legacy::of(name, &image, &wait, "ro", 0);
        std::fs::write(legacy.database(), database).unwrap();
        legacy.run();
        legacy
    }

    /// One that runs and has nothing of what a supervisor has.
    pub fn of_busybox(name: &'static str) -> Legacy {
        let (image, wait) = (image(), ["sleep", "infinity"]);
        let encoded = percent_encode_segment(&image);
        engine::call("POST", &format!("/images/create?fromImage={encoded}"), None);
        let legacy = Legacy::of(name, &image, &wait, "rw", 0);
        legacy.run();
        legacy
    }

    fn of(name: &'static str, image: &str, command: &[&str], mode: &str, port: u16) -> Legacy {
        remove(name);
        let dir = Scratch::new();
        std::fs::create_dir(dir.0.join("data")).unwrap();
        let program = include_str!("../../legacy/settings.js");
        std::fs::write(dir.0.join("settings.js"), program).unwrap();
        // Below the temporary directory, which is the same to every engine.
        let beside = Path::new(env!("CARGO_BIN_EXE_helios")).parent().unwrap();
        let example = beside.join("examples/legacy");
        std::fs::copy(&example, dir.0.join("legacy"))
            .unwrap_or_else(|err| panic!("{}: {err}; cargo build --examples", example.display()));
        let shown = dir.0.display();
        let app = "/usr/src/app";
        let binds = [
            format!("{shown}/settings.js:{app}/settings.js:ro"),
            format!("{shown}/legacy:{app}/legacy:ro"),
            format!("{shown}/data:/data:{mode}"),
        ];
        let settings = json!({"listenPort": port});
        let environment = [format!("LEGACY_SETTINGS={settings}")];
        let body = json!({
            "Image": image, "Cmd": command, "Env": environment, "StopSignal": "SIGKILL",
            "HostConfig": {"NetworkMode": "host", "Binds": binds},
        });
        let path = format!("/containers/create?name={name}");
        let (status, said) = engine::call("POST", &path, Some(&body));
        assert_eq!(status, 201, "{said}");
        Legacy { name, dir, port }
    }

    fn run(&self) {
        let path = format!("/containers/{}/start", self.name);
        let (status, said) = engine::call("POST", &path, None);
        assert_eq!(status, 204, "{said}");
    }

    pub fn wait_for(&self, port: u16) {
        until("the stand-in", || ping(port).then_some(()));
    }

    /// What the engine says of it.
    pub fn look(&self) -> Value {
        engine::call("GET", &format!("/containers/{}/json", self.name), None).1
    }

    /// When its container started, which differs from start to start.
    pub fn started_at(&self) -> String {
        let found = self.look();
        found["State"]["StartedAt"].as_str().unwrap().to_owned()
    }

    pub fn database(&self) -> PathBuf {
        self.dir.0.join("data/database.sqlite")
    }

    /// Its rows of the two settings, as `key=value`.
    pub fn settings(&self) -> Vec<String> {
        let program = "const {Database} = require('sqlite3'); new Database('/data/database.sqlite').all(\
            \"SELECT key || '=' || value AS row FROM config ORDER BY key\", \
            (error, rows) => console.log(rows.map(({row}) => row).join('\\n')))";
        let text = self.node(program);
        text.lines()
            .filter(|line| !line.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// Runs a program in it, as the real one's node would.
    pub fn node(&self, program: &str) -> String {
        let output = self.exec(program);
        assert_eq!(output.code, 0, "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn exec(&self, program: &str) -> Output {
        let docker = Docker::new(engine::endpoint(), Box::new(|_| None), true);
        let command = ["node", "-e", program];
        async_io::block_on(docker.exec(self.name, &command, &[])).unwrap()
    }
}

impl Drop for Legacy {
    fn drop(&mut self) {
        remove(self.name);
    }
}

fn remove(name: &str) {
    engine::call(
        "DELETE",
        &format!("/containers/{name}?force=true&v=true"),
        None,
    );
}

/// Whether somebody answers there.
pub fn ping(port: u16) -> bool {
    let host = "127.0.0.1".to_owned();
    let endpoint = Endpoint::Tcp { host, port };
    async_io::block_on(helios::start::ping(endpoint)).is_ok()
}
