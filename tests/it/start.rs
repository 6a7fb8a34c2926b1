//! `helios start` and `helios healthcheck`, as in the agent's container.

use std::process::{Child, Command, Stdio};

use helios::http::client::Endpoint;

use crate::support::{Scratch, alone, env, http, program, until};

struct Container {
    dir: Scratch,
    child: Option<Child>,
}

impl Container {
    fn command(&self, word: &str) -> Command {
        let mut command = program();
        command.env("DOCKER_HOST", env("HELIOS_TEST_ENGINE"));
        for name in ["CONFIG_HOME", "CACHE_HOME", "STATE_HOME", "RUNTIME_DIR"] {
            command.env(format!("XDG_{name}"), self.dir.0.join(name));
        }
        command.arg(word);
        command
    }

    fn healthcheck(&self) -> (Option<i32>, String) {
        let output = self.command("healthcheck").output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn se_10_5_se_10_6_an_agent_in_its_container_starts_and_is_healthy() {
    let _alone = alone();
    let mut container = Container {
        dir: Scratch::new(),
        child: None,
    };
    let (code, said) = container.healthcheck();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.starts_with("helios: no answer to a ping"), "{said}");

    let output = container.command("start").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("BALENA_DEVICE_UUID is not set"), "{said}");

    let mut command = container.command("start");
    command
        .env("BALENA_DEVICE_UUID", "u1")
        .stdout(Stdio::null());
    container.child = Some(command.spawn().unwrap());
    until("the health", || {
        (container.healthcheck().0 == Some(0)).then_some(())
    });
    let socket = Endpoint::Unix(container.dir.0.join("RUNTIME_DIR/helios.sock"));
    let (status, body) = http(socket, "GET", "/v3/device", &[], None);
    let body = String::from_utf8(body).unwrap();
    assert!(
        status == 200 && body.contains(r#""uuid":"u1""#),
        "{status} {body}"
    );

    let child = container.child.as_mut().unwrap();
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(container.healthcheck().0, Some(1));
}
