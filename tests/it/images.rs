//! Images on a real engine: room for them, damage, clean-up.

use serde_json::{Value, json};

use crate::support::engine::{App, app, call, publish, service};
use crate::support::{Agent, Options, Scratch, alone, until};

fn start(dir: &Scratch, args: &[&str]) -> Agent {
    let options = Options {
        args: args.to_vec(),
        ..Options::default()
    };
    Agent::start(&dir.0, &options)
}

/// A service that runs `image`.
fn of(id: u32, image: &str) -> Value {
    let mut body = service(id, json!({}));
    body["image"] = json!(image);
    body
}

fn is_there(image: &str) -> bool {
    call("GET", &format!("/images/{image}/json"), None).0 == 200
}

#[test]
fn fd_07_nothing_is_pulled_below_the_reserve_and_what_runs_stays() {
    let (_alone, dir, mine) = (alone(), Scratch::new(), App::new());
    let (first, second) = (publish("reserve-a"), publish("reserve-b"));
    let agent = start(&dir, &[]);
    let one = |image: &str| app("r1", json!({"services": {"main": of(1, image)}}));
    agent.set(&mine.0, &one(&first));
    agent.wait_for("done");
    let before = mine.id("main");
    agent.kill();

    // More than any disk has.
    let agent = start(&dir, &["--disk-reserve-mib", "16777216"]);
    agent.wait_for("done");
    agent.set(&mine.0, &one(&second));
    let reason = until("the reason", || {
        let status = agent.get("/v3/status?detail=true");
        let reason = status["reason"].as_str()?.to_owned();
        reason.contains("bytes free").then_some(reason)
    });
    assert!(
        reason.contains("reserve of 17592186044416 bytes"),
        "{reason}"
    );
    assert_eq!(agent.status(), "applying changes");
    assert!(!is_there(&second), "it was pulled");
    assert!(mine.is_running("main") && mine.id("main") == before);
    assert_eq!(agent.log().matches("no image is pulled").count(), 1);
    assert!(!agent.log().contains("next try"), "{}", agent.log());
    agent.kill();

    let agent = start(&dir, &["--disk-reserve-mib", "1"]);
    agent.wait_for_log("is at its target");
    agent.wait_for("done");
    assert_ne!(mine.id("main"), before);
}
