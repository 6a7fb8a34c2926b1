//! `helios volumes` on a real engine (D-12).

use std::process::Output;

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, service};
use crate::support::{Agent, Options, Scratch, alone, env, program, unique};

/// Runs the command as the user of the agent in `dir` would.
fn volumes(dir: &Scratch, args: &[&str]) -> Output {
    let mut command = program();
    command.env("DOCKER_HOST", env("HELIOS_TEST_ENGINE"));
    command.env("HOME", &dir.0).arg("volumes").args(args);
    command.output().unwrap()
}

/// The words of a volume's line, if it is listed.
fn line(dir: &Scratch, name: &str) -> Option<Vec<String>> {
    let output = volumes(dir, &[]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("VOLUME "), "{text}");
    let line = text
        .lines()
        .find(|line| line.starts_with(&format!("{name} ")))?;
    Some(line.split_whitespace().map(str::to_owned).collect())
}

/// Why a volume was not removed.
fn refused(dir: &Scratch, name: &str) -> String {
    let output = volumes(dir, &["--remove", name]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert_eq!(call("GET", &format!("/volumes/{name}"), None).0, 200);
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn d_12_volumes_are_listed_and_only_unused_ones_of_ours_removed() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (name, foreign) = (format!("data_{}", mine.0), unique());
    let body = json!({"Name": foreign});
    assert_eq!(call("POST", "/volumes/create", Some(&body)).0, 201);
    let agent = Agent::start(&dir.0, &Options::default());
    let release = |main: Value, more: Value| {
        app(
            "r1",
            json!({"services": {"main": service(1, main)}, "volumes": more}),
        )
    };
    let with = json!({"volumes": ["data:/data"]});
    agent.set(&mine.0, &release(with, json!({"data": {}})));
    agent.wait_for("done");
    let used = [
        &*name,
        &mine.0,
        "data",
        "container",
        "'main_r1',",
        "the",
        "target",
    ];
    assert_eq!(line(&dir, &name).unwrap(), used);
    assert!(refused(&dir, &name).contains("used by container 'main_r1', the target"));

    // Nobody mounts it and the release still names it: its user may be on its way.
    agent.set(&mine.0, &release(json!({}), json!({"data": {}})));
    agent.wait_for("done");
    assert!(refused(&dir, &name).contains("used by the target"));

    agent.set(&mine.0, &release(json!({}), json!({})));
    agent.wait_for("done");
    agent.kill();
    assert_eq!(
        line(&dir, &name).unwrap(),
        [&*name, &mine.0, "data", "unused"]
    );
    let output = volumes(&dir, &["--remove", &name]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(call("GET", &format!("/volumes/{name}"), None).0, 404);

    assert_eq!(line(&dir, &foreign), None);
    assert!(refused(&dir, &foreign).contains("nobody of ours"));
    assert_eq!(call("DELETE", &format!("/volumes/{foreign}"), None).0, 204);
}

#[test]
fn d_12_an_engine_that_is_not_there_is_one_sentence() {
    let mut command = program();
    command.env("DOCKER_HOST", "unix:///nowhere/engine.sock");
    let output = command.arg("volumes").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("/nowhere/engine.sock") && said.lines().count() == 1,
        "{said}"
    );
}
