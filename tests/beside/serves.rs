//! What the legacy supervisor gets as its target (R-INT-*), and a whole cycle of it.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::bytes::Reply;
use crate::world::{
    Agent, Backend, KEY, Legacy, SUPERVISOR, Scratch, UUID, free, start_in_container, until,
};

/// Asks for the target as the supervisor does.
fn fetch(agent: &Agent, path: &str, lines: &str) -> Reply {
    let lines = format!("{SUPERVISOR}Authorization: Bearer {KEY}\n{lines}");
    agent.tcp.asks(&format!("GET {path}"), &lines)
}

fn state() -> String {
    format!("/device/v3/{UUID}/state")
}

fn fetched(agent: &Agent) -> Reply {
    until("a target", || {
        let reply = fetch(agent, &state(), "");
        (reply.status == 200).then_some(reply)
    })
}

#[test]
fn s_prx_04_px_08_r_int_3_r_int_5_without_a_target_it_is_told_later() {
    // A backend that is not there, so that there never is one.
    let agent = Agent::start(&format!("http://{}", free()), &format!("http://{}", free()));
    let reply = fetch(&agent, &state(), "");
    assert_eq!((reply.status, reply.all("retry-after")), (503, vec!["15"]));
    assert_eq!(reply.body.as_deref(), Some(&b""[..]));
    // D-26: before any key is looked at.
    assert_eq!(
        agent
            .tcp
            .asks(&format!("GET {}", state()), SUPERVISOR)
            .status,
        503
    );
}

#[test]
fn s_prx_05_s_prx_06_px_07_r_int_1_r_int_2_the_document_comes_with_an_etag() {
    let backend = Backend::start();
    let want = backend.target(&json!({"a1": {"id": 1, "name": "x", "releases": {}}}));
    let agent = Agent::start(
        &format!("http://{}", backend.address),
        &format!("http://{}", free()),
    );
    let reply = fetched(&agent);
    assert_eq!(reply.all("content-type"), ["application/json"]);
    let document: Value = serde_json::from_slice(&reply.body.clone().unwrap()).unwrap();
    assert_eq!(document, want, "unmodified (D-08)");
    let etag = reply.all("etag")[0].to_owned();
    let again = fetch(&agent, &state(), &format!("If-None-Match: {etag}\n"));
    assert_eq!((again.status, again.all("etag")), (304, vec![&*etag]));
    let other = fetch(&agent, &state(), "If-None-Match: \"other\"\n");
    assert_eq!((other.status, other.body), (200, reply.body));
    // S-PRX-09.
    for path in [
        format!("{}/", state()),
        state().replace("state", "STATE"),
        state().replace("state", "%73tate"),
        format!("{}?x=1", state()),
    ] {
        assert_eq!(fetch(&agent, &path, "").all("etag"), [&*etag], "{path}");
    }
    // Another release, another ETag.
    backend.target(&json!({}));
    agent.update("");
    until("the new target", || {
        (fetch(&agent, &state(), "").all("etag")[0] != etag).then_some(())
    });
}

#[test]
fn s_prx_08_to_10_px_09_px_11_other_callers_paths_and_methods_are_passed_on() {
    let backend = Backend::start();
    backend.target(&json!({}));
    let agent = Agent::start(
        &format!("http://{}", backend.address),
        &format!("http://{}", free()),
    );
    fetched(&agent);
    let lines = format!("{SUPERVISOR}Authorization: Bearer {KEY}\n");
    let other = format!("/device/v3/{}/state", UUID.replace('b', "c"));
    agent.tcp.asks(&format!("GET {other}"), &lines);
    assert_eq!(backend.requests(&format!("GET {other}")), 1);
    agent
        .tcp
        .asks(&format!("GET /device/v2/{UUID}/state"), &lines);
    agent.tcp.asks(&format!("DELETE {}", state()), &lines);
    // Whoever is not the supervisor asks it, and nobody is there.
    let (served, curl) = (
        backend.requests(&format!("GET {}", state())),
        "User-Agent: curl/8\n",
    );
    let lines = format!("{curl}Authorization: Bearer {KEY}\n");
    assert_eq!(
        agent.tcp.asks(&format!("GET {}", state()), &lines).status,
        502
    );
    assert_eq!(backend.requests(&format!("GET {}", state())), served);
    let log = backend.control("GET", "log", &Value::Null).to_string();
    for asked in [
        format!("GET /device/v2/{UUID}/state"),
        format!("DELETE {}", state()),
    ] {
        assert!(log.contains(&asked), "{asked}: {log}");
    }
}

#[test]
fn s_trg_13_r_int_5_after_a_restart_the_known_document_keeps_its_etag() {
    let backend = Backend::start();
    backend.target(&json!({}));
    let url = format!("http://{}", backend.address);
    let mut agent = Agent::start(&url, &format!("http://{}", free()));
    let etag = fetched(&agent).all("etag")[0].to_owned();
    agent.kill();
    drop(backend);
    agent.again();
    // From the cache on disk: no backend is needed.
    let again = until("the target", || {
        let reply = fetch(&agent, &state(), &format!("If-None-Match: {etag}\n"));
        (reply.status != 503).then_some(reply.status)
    });
    assert_eq!(again, 304, "what it has begun is not cancelled");
}

#[test]
fn d_08_s_poll_29_a_target_that_cannot_be_read_here_is_still_its() {
    let backend = Backend::start();
    let odd = json!({UUID: {"name": 7, "apps": "what?"}});
    backend.control("PUT", "target", &odd);
    let agent = Agent::start(
        &format!("http://{}", backend.address),
        &format!("http://{}", free()),
    );
    let document: Value = serde_json::from_slice(&fetched(&agent).body.unwrap()).unwrap();
    assert_eq!(document, odd);
}

#[test]
fn s_prx_45_s_prx_40_s_rep_19_d_24_a_whole_cycle_of_the_supervisor() {
    let backend = Backend::start();
    let want = backend.target(&json!({"a1": {"id": 1, "name": "x", "releases": {}}}));
    let address = free();
    let legacy = Legacy::start(&format!("http://{address}"), &json!({}));
    let agent = Agent::start_at(
        &address,
        &format!("http://{}", backend.address),
        &format!("http://{}", legacy.address),
        &[],
    );
    until("its target", || (legacy.target()? == want).then_some(()));
    until("its report", || {
        let reports = backend.control("GET", "reports", &Value::Null);
        let reports = reports.as_array()?.clone();
        (reports.last()?[UUID]["supervisor_version"] == "19.0.5").then_some(())
    });
    until("done", || (agent.status().0 == "done").then_some(()));
    // One reporter: nothing is sent but what it sent.
    let reports = backend.control("GET", "reports", &Value::Null);
    let reports = reports.as_array().unwrap().clone();
    assert!(
        reports
            .iter()
            .all(|report| report[UUID]["api_secret"] == crate::world::SECRET),
        "{reports:?}"
    );
    // It polled us, and got 304 once it had the document.
    until("a poll that brings nothing", || {
        legacy
            .list("polls")
            .iter()
            .any(|poll| poll["status"] == 304)
            .then_some(())
    });
    // Its local API, through ours.
    let reply = agent.tcp.asks(
        &format!("GET /v2/state/status?apikey={}", crate::world::SECRET),
        "",
    );
    assert!(reply.text().contains("appState"), "{reply:?}");
    assert_eq!(agent.tcp.asks("GET /v1/healthy", "").text(), "OK");
    assert_eq!(
        agent.tcp.asks("GET /v1/device", "").status,
        401,
        "its own judgement"
    );
    // S-PRX-40: ours is ours, whoever asks.
    let asked = legacy.seen("/v1/update").len();
    let reply = agent.tcp.asks("POST /v1/update", SUPERVISOR);
    assert_eq!(reply.status, 202);
    assert_eq!(legacy.seen("/v1/update").len(), asked);
}

#[test]
fn s_tko_19_a_failed_takeover_is_no_end_where_an_earlier_one_was_done() {
    let (dir, address) = (Scratch::new(), free());
    let (code, said) = start_in_container(&dir.0, &address).err().unwrap();
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("the takeover failed: "), "{said}");

    let files = helios::store::Files::below(&dir.0.join("STATE_HOME/helios"));
    let ours = json!({"endpoint": "http://127.0.0.1:48484/", "port": "48480"});
    let none = json!({"endpoint": null, "port": null});
    let record = |migrated| json!({"before": none, "ours": ours, "migrated": migrated}).to_string();
    let write = |migrated| files.write("legacy/takeover", record(migrated).as_bytes());
    write(false).unwrap();
    assert!(start_in_container(&dir.0, &address).is_err());

    write(true).unwrap();
    let agent = start_in_container(&dir.0, &address);
    assert!(agent.is_ok(), "{:?}", agent.err());
    let door = crate::bytes::Door::Tcp(address);
    assert_eq!(door.asks("GET /ping", "").text(), "OK");
    let said = std::fs::read_to_string(dir.0.join("log")).unwrap();
    assert!(said.contains("the takeover failed: "), "{said}");
    assert!(said.contains("going on with what an earlier"), "{said}");
}

/// What the `gzip` of this machine makes of it.
fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // It reads all of this before it has more to say than a pipe holds.
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn d_24_s_rep_19_a_report_loses_its_apps_compressed_or_not() {
    let backend = Backend::start();
    backend.target(&json!({}));
    let url = format!("http://{}", backend.address);
    let legacy = format!("http://{}", free());
    let agent = Agent::start_at(&free(), &url, &legacy, &["--user-apps", "on"]);
    let report = |port: u16, coding: &str, body: &dyn Fn(&[u8]) -> Vec<u8>| {
        let report = json!({UUID: {"api_port": port, "apps": {"a1": {"releases": {}}}}});
        let body = body(report.to_string().as_bytes());
        let head = format!(
            "PATCH /device/v3/state HTTP/1.1\nHost: h\n{SUPERVISOR}Authorization: Bearer {KEY}\n\
             {coding}Content-Type: application/json\nContent-Length: {}\nConnection: close\n\n",
            body.len()
        );
        agent
            .tcp
            .says(&[head.replace('\n', "\r\n").as_bytes(), &body].concat())
    };
    let is_told = |port: u16| {
        let all = backend.control("GET", "reports", &Value::Null);
        let found = all.as_array().unwrap().iter();
        let mut found = found.filter(|report| report[UUID]["api_port"] == port);
        assert!(found.all(|report| report[UUID]["apps"].is_null()), "{all}");
        all.to_string().contains(&format!("\"api_port\":{port}"))
    };
    let plain = |text: &[u8]| text.to_vec();
    let coded = "Content-Encoding: gzip\n";
    // The device's key is known once the agent runs.
    until("a report", || {
        (report(1, "", &plain).status == 200).then_some(())
    });
    assert_eq!(report(2, coded, &gzip).status, 200);
    assert_eq!(report(3, "Content-Encoding: X-GZIP\n", &gzip).status, 200);
    assert!((1..=3).all(is_told));
    // What is none, too much of it, and what nobody here can read.
    let spaced = |text: &[u8]| gzip(&[text, &vec![b' '; 513 * 1024]].concat());
    assert_eq!(report(4, coded, &plain).status, 400);
    assert_eq!(
        report(4, coded, &|text| gzip(text)[..30].to_vec()).status,
        400
    );
    assert_eq!(report(4, coded, &spaced).status, 413);
    let refused = report(4, "Content-Encoding: br\n", &plain);
    assert_eq!(
        (refused.status, refused.all("accept-encoding")),
        (415, vec!["gzip"])
    );
    assert!(!is_told(4));
}
