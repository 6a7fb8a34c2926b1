//! Handing targets to the legacy supervisor, and whatever it makes of them (remote-api 10.8).

use serde_json::{Value, json};

use crate::world::{Agent, Backend, Legacy, UUID, free, until};

struct Both {
    backend: Backend,
    legacy: Legacy,
    agent: Agent,
}

/// With a first target that it has not settled yet.
fn both(quirks: &Value, more: &Value) -> Both {
    let backend = Backend::start();
    backend.target(&json!({}));
    let address = free();
    let legacy = Legacy::start(&format!("http://{address}"), more);
    legacy.quirks(quirks);
    let agent = Agent::start_at(
        &address,
        &format!("http://{}", backend.address),
        &format!("http://{}", legacy.address),
        &[],
    );
    Both {
        backend,
        legacy,
        agent,
    }
}

impl Both {
    /// Before the first target everything is done too.
    fn is_done(&self) {
        self.agent
            .wait_for_log("the legacy supervisor has applied the target");
        until("done", || (self.agent.status().0 == "done").then_some(()));
    }

    /// A new target, and the agent's own word that it is at work.
    fn changes(&self, mark: &str) -> Value {
        let apps = json!({mark: {"id": 1, "name": mark, "releases": {}}});
        let target = self.backend.target(&apps);
        self.agent.update("");
        target
    }

    fn polls(&self) -> u64 {
        self.backend
            .requests(&format!("GET /device/v3/{UUID}/state"))
    }

    /// Whatever the other one does: polls go out, and the local API answers.
    fn goes_on(&mut self) {
        let before = self.polls();
        self.agent.update("");
        until("a poll", || (self.polls() > before).then_some(()));
        assert_eq!(self.agent.tcp.asks("GET /ping", "").text(), "OK");
        assert_eq!(self.agent.unix.asks("GET /v3/device", "").status, 200);
        assert!(self.agent.is_alive());
    }
}

#[test]
fn s_trg_01_it_is_told_fetches_applies_and_then_it_is_done() {
    let it = both(&json!({}), &json!({"appUpdatePollInterval": 600_000}));
    it.is_done();
    it.legacy.quirks(&json!({"apply_ms": 1500}));
    let want = it.changes("s1");
    until("applying", || {
        let (status, reason) = it.agent.status();
        (status == "applying changes" && reason.contains("legacy supervisor applies")).then_some(())
    });
    until("the document", || {
        (it.legacy.target()? == want).then_some(())
    });
    it.is_done();
    let told = it.legacy.seen("/v1/update");
    let body: Value = serde_json::from_str(told.last().unwrap()["body"].as_str().unwrap()).unwrap();
    assert_eq!(body, json!({"force": false, "cancel": true}));
    assert!(it.legacy.seen("/v2/state/status").len() >= 2);
}

#[test]
fn s_trg_02_applied_means_nothing_before_it_has_fetched() {
    let it = both(&json!({}), &json!({"appUpdatePollInterval": 600_000}));
    it.is_done();
    it.legacy.quirks(&json!({"fetch_delay_ms": 3000}));
    let want = it.changes("s2");
    let looks = it.legacy.seen("/v2/state/status").len();
    until("it says applied", || {
        (it.legacy.seen("/v2/state/status").len() >= looks + 2).then_some(())
    });
    if it.legacy.target().as_ref() != Some(&want) {
        assert_eq!(it.agent.status().0, "applying changes");
    }
    it.is_done();
    assert_eq!(it.legacy.target(), Some(want));
}

#[test]
fn s_trg_03_what_it_defers_is_not_done() {
    let more = json!({"instantUpdates": false, "appUpdatePollInterval": 600_000});
    let mut it = both(&json!({}), &more);
    it.legacy.quirks(&json!({"status": {"/v1/update": 202}}));
    until("deferred", || {
        let (status, reason) = it.agent.status();
        (status == "applying changes" && reason.contains("deferred")).then_some(())
    });
    it.goes_on();
}

#[test]
fn s_trg_04_a_refused_key_is_said_and_holds_up_nothing() {
    let mut it = both(&json!({"status": {"/v1/update": 401}}), &json!({}));
    it.agent
        .wait_for_log("it refuses the key of --legacy-api-key");
    it.goes_on();
    // Within a second: long before the next try.
    it.legacy.quirks(&json!({}));
    let want = it.changes("s4");
    it.is_done();
    assert_eq!(it.legacy.target(), Some(want));
}

#[test]
fn s_trg_05_s_trg_08_nonsense_and_failures_are_tried_again() {
    let quirks = json!({"status": {"/v1/update": 503}, "nonsense": ["/v2/state/status"]});
    let mut it = both(&quirks, &json!({}));
    until("two tries", || {
        (it.legacy.seen("/v1/update").len() >= 2).then_some(())
    });
    it.goes_on();
    it.legacy.quirks(&json!({"nonsense": ["/v2/state/status"]}));
    until("two looks", || {
        (it.legacy.seen("/v2/state/status").len() >= 2).then_some(())
    });
    it.agent.wait_for_log("its status is not what it should be");
    it.goes_on();
    it.legacy.quirks(&json!({}));
    it.is_done();
}

#[test]
fn s_trg_06_a_restart_of_it_ends_nothing() {
    let mut it = both(&json!({"apply_ms": 100}), &json!({}));
    it.is_done();
    it.legacy.control("POST", "restart?ms=2500", &Value::Null);
    let want = it.changes("s6");
    it.goes_on();
    it.is_done();
    assert_eq!(it.legacy.target(), Some(want));
}

#[test]
fn s_trg_07_one_that_hangs_is_given_up_for_a_newer_target() {
    let mut it = both(&json!({"hang": ["/v1/update"]}), &json!({}));
    until("it was told", || {
        (!it.legacy.seen("/v1/update").is_empty()).then_some(())
    });
    it.goes_on();
    it.legacy.quirks(&json!({"hang": ["/v2/state/status"]}));
    it.changes("s7");
    until("it is looked at", || {
        (!it.legacy.seen("/v2/state/status").is_empty()).then_some(())
    });
    it.goes_on();
    // Requests that it does not answer do not hold up others.
    let reply = it.agent.tcp.asks("GET /v1/healthy", "");
    assert_eq!((reply.status, reply.text()), (200, "OK".into()));
    it.legacy.quirks(&json!({}));
    let want = it.changes("s7b");
    it.is_done();
    assert_eq!(it.legacy.target(), Some(want));
}

#[test]
fn s_trg_10_one_that_never_settles_gets_the_newer_target() {
    let mut it = both(&json!({"never_settles": true}), &json!({}));
    let want = it.changes("s10");
    until("the newer one", || {
        (it.legacy.target()? == want).then_some(())
    });
    it.goes_on();
    assert_eq!(it.agent.status().0, "applying changes");
    it.legacy.quirks(&json!({}));
    it.is_done();
}

#[test]
fn r_trg_8_one_that_never_settles_is_not_waited_for_for_ever() {
    let backend = Backend::start();
    backend.target(&json!({}));
    let address = free();
    let legacy = Legacy::start(&format!("http://{address}"), &json!({}));
    legacy.quirks(&json!({"never_settles": true}));
    let agent = Agent::start_at(
        &address,
        &format!("http://{}", backend.address),
        &format!("http://{}", legacy.address),
        &["--legacy-settle-limit-ms", "1500"],
    );
    let mut it = Both {
        backend,
        legacy,
        agent,
    };
    it.agent.wait_for_log("is not waited for any longer");
    let (status, reason) = it.agent.status();
    assert_eq!(status, "aborted");
    assert!(reason.contains("in 1500 ms"), "{reason}");
    it.goes_on();
    assert_ne!(it.agent.status().0, "done", "a poll proves nothing");
    // It is handed the next one all the same, and not given up for good.
    let want = it.changes("s8");
    until("the next", || (it.legacy.target()? == want).then_some(()));
    until("aborted again", || {
        (it.agent.status().0 == "aborted").then_some(())
    });
    it.legacy.quirks(&json!({}));
    it.goes_on();
    it.is_done();
}

#[test]
fn s_trg_12_the_same_document_is_not_told_twice() {
    let it = both(&json!({}), &json!({}));
    it.is_done();
    let told = it.legacy.seen("/v1/update").len();
    it.agent.update("");
    it.is_done();
    let polls = it.polls();
    it.agent.update(r#"{"force": false, "cancel": true}"#);
    until("a poll", || (it.polls() > polls).then_some(()));
    it.is_done();
    assert_eq!(it.legacy.seen("/v1/update").len(), told);
    it.agent.update(r#"{"force": true}"#);
    until("it is told", || {
        (it.legacy.seen("/v1/update").len() > told).then_some(())
    });
    it.is_done();
}

#[test]
fn d_18_at_the_start_everything_is_done_at_once_where_nothing_changed() {
    let mut it = both(&json!({}), &json!({}));
    it.is_done();
    it.agent.kill();
    it.agent.again();
    it.agent.wait_for_log("taking up the last accepted target");
    it.is_done();
    assert_eq!(it.agent.stop(), Some(0));
}

/// The host's part of a target stays this agent's where user apps are the other one's; what it
/// says of that is part of the status, once the other one has done its own.
#[cfg(feature = "hostapp")]
#[test]
fn d_08_d_18_the_host_s_part_is_this_agent_s() {
    let it = both(&json!({}), &json!({"appUpdatePollInterval": 600_000}));
    it.is_done();
    let labels = json!({
        "io.balena.image.class": "hostapp",
        "io.balena.private.updater": "r.example.org/hup:1",
        "io.balena.private.hostapp.board-rev": "b1",
    });
    let hostapp =
        json!({"id": 4, "image": "r.example.org/os:1", "composition": {"labels": labels}});
    let apps = json!({"happ9": {"id": 9, "name": "os", "is_host": true, "releases": {
        "h1": {"id": 3, "services": {"hostapp": hostapp}},
    }}});
    let want = it.backend.target(&apps);
    it.agent.update("");
    until("the reason", || {
        let (status, reason) = it.agent.status();
        (status == "aborted" && reason.contains("--host-os-version")).then_some(())
    });
    assert_eq!(it.legacy.target(), Some(want), "it gets all of it");
    it.changes("plain");
    until("done", || (it.agent.status().0 == "done").then_some(()));
}
