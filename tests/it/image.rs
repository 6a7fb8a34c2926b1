//! The container image that `scripts/image` makes (state-engine 10.6).

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::engine::{self, endpoint};
use crate::support::{Scratch, alone, env, http, unique, until};

const NAME: &str = concat!("helios:", env!("CARGO_PKG_VERSION"));

/// The image of a program.
fn image(scratch: &Scratch, program: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let binary = scratch.0.join("helios");
    std::fs::copy(program, &binary).unwrap();
    let mut command = Command::new(root.join("scripts/image"));
    let output = command.env("HELIOS_BINARY", &binary).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    PathBuf::from(text.lines().last().unwrap())
}

#[test]
fn se_10_6_the_image_is_the_binary_and_what_an_engine_has_to_know() {
    let _alone = alone();
    let scratch = Scratch::new();
    let program = Path::new(env!("CARGO_BIN_EXE_helios"));
    let tar = std::fs::read(image(&scratch, program)).unwrap();
    let binary = std::fs::metadata(scratch.0.join("helios")).unwrap().len();
    let more = tar.len() as u64 - binary;
    assert!(more <= 10 * 1024, "{more} bytes beside the binary");
    assert_eq!(
        std::fs::read(image(&scratch, program)).unwrap(),
        tar,
        "the same again"
    );

    let _loaded = Loaded::from(&tar);
    let (_, found) = engine::call("GET", &format!("/images/{NAME}/json"), None);
    let config = &found["Config"];
    assert_eq!(config["Cmd"], json!(["helios", "start"]));
    let volumes = json!({"/config/helios": {}, "/cache/helios": {}, "/local/helios": {}});
    assert_eq!(config["Volumes"], volumes);
    assert_eq!(
        config["Healthcheck"]["Test"],
        json!(["CMD", "helios", "healthcheck"])
    );
    assert_eq!(config["Healthcheck"]["Interval"], 300_000_000_000_u64);
    assert_eq!(
        config["Labels"]["org.opencontainers.image.licenses"],
        "Apache-2.0"
    );
    let size = found["Size"].as_u64().unwrap();
    assert!(size - binary < 1024, "{size}: there is nothing else in it");
}

/// In the engine, and removed from it in the end, with the container made of it.
struct Loaded(String);

impl Loaded {
    fn from(tar: &[u8]) -> Loaded {
        let headers = [("content-type", "application/x-tar")];
        let (status, said) = http(
            endpoint(),
            "POST",
            "/images/load?quiet=1",
            &headers,
            Some(tar),
        );
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&said));
        Loaded(format!("helios-image-{}", unique()))
    }

    fn call(&self, method: &str, what: &str, body: Option<&Value>) -> Value {
        let path = format!("/containers/{}{what}", self.0);
        let (status, said) = engine::call(method, &path, body);
        assert!((200..300).contains(&status), "{method} {path}: {said}");
        said
    }

    fn wait_for(&self, health: &str) {
        until(health, || {
            let state = &self.call("GET", "/json", None)["State"];
            let log = &state["Health"]["Log"];
            assert!(state["Running"] == true, "it ended: {state}");
            assert!(state["Health"]["Status"] != "unhealthy", "{log}");
            (state["Health"]["Status"] == health).then_some(())
        });
    }

    /// The exit code of a program in the container.
    fn exec(&self, command: &[&str]) -> Value {
        let wish = json!({"Cmd": command, "AttachStdout": true});
        let id = &self.call("POST", "/exec", Some(&wish))["Id"];
        let path = format!("/exec/{}", id.as_str().unwrap());
        let (status, _) = engine::call("POST", &format!("{path}/start"), Some(&json!({})));
        assert_eq!(status, 200);
        until("its end", || {
            let (_, found) = engine::call("GET", &format!("{path}/json"), None);
            (found["Running"] == false).then(|| found["ExitCode"].clone())
        })
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        engine::call(
            "DELETE",
            &format!("/containers/{}?force=1&v=1", self.0),
            None,
        );
        engine::call("DELETE", &format!("/images/{NAME}?force=1"), None);
    }
}

#[test]
fn se_10_6_the_static_binary_alone_in_a_container_is_healthy_and_comes_back() {
    let _alone = alone();
    let scratch = Scratch::new();
    let program = PathBuf::from(env("HELIOS_TEST_STATIC"));
    let tar = std::fs::read(image(&scratch, &program)).unwrap();
    let it = Loaded::from(&tar);
    let host = env("HELIOS_TEST_ENGINE");
    let (host, binds) = match host.strip_prefix("unix://") {
        Some(path) => {
            let bind = format!("{path}:/host/engine.sock");
            ("unix:///host/engine.sock".to_owned(), vec![bind])
        }
        None => (host, Vec::new()),
    };
    // Looked at every second; what is asked is the image's own.
    let wish = json!({
        "Image": NAME,
        "Env": [format!("DOCKER_HOST={host}"), "BALENA_DEVICE_UUID=u1",
            "HELIOS_LEGACY_RESTORE_AFTER_MINUTES=5"],
        "Healthcheck": {"Interval": 1_000_000_000_u64},
        "HostConfig": {"NetworkMode": "host", "Binds": binds, "ReadonlyRootfs": true,
            "Tmpfs": {"/tmp": ""}, "CapDrop": ["ALL"]},
    });
    let (status, said) = engine::call(
        "POST",
        &format!("/containers/create?name={}", it.0),
        Some(&wish),
    );
    assert_eq!(status, 201, "{said}");
    it.call("POST", "/start", None);
    it.wait_for("healthy");
    assert_eq!(it.exec(&["helios", "healthcheck"]), 0);
    assert_eq!(it.exec(&["helios-legacy-takeover", "--help"]), 0);
    let volumes = it.call("GET", "/json", None)["Mounts"].to_string();
    for dir in ["/config/helios", "/cache/helios", "/local/helios"] {
        assert!(volumes.contains(dir), "{dir}: {volumes}");
    }
    // It ends when it is told to, and comes back.
    it.call("POST", "/stop?t=60", None);
    assert_eq!(it.call("GET", "/json", None)["State"]["ExitCode"], 0);
    it.call("POST", "/start", None);
    it.wait_for("healthy");
    assert_eq!(it.exec(&["helios", "healthcheck"]), 0);
    // R-TKO-7: one that hangs for so long is made to begin anew by its own health check.
    let found = it.call("GET", "/json", None);
    let mounts = found["Mounts"].as_array().unwrap().iter();
    let mut state = mounts.filter(|one| one["Destination"] == "/local/helios");
    let state = state.next().unwrap()["Source"].as_str().unwrap();
    let files = helios::store::Files::below(Path::new(state));
    let record = files.read("legacy/guard").unwrap().unwrap();
    let mut record: Value = serde_json::from_slice(&record).unwrap();
    record["silent_since"] = json!(0);
    let pid = found["State"]["Pid"].to_string();
    let stop = Command::new("kill").args(["-STOP", &pid]).status().unwrap();
    assert!(stop.success());
    let record = record.to_string();
    files.write("legacy/guard", record.as_bytes()).unwrap();
    until("another start", || {
        let state = &it.call("GET", "/json", None)["State"];
        (state["StartedAt"] != found["State"]["StartedAt"]).then_some(())
    });
    it.wait_for("healthy");
}
