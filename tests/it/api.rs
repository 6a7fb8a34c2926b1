//! The local API's contract (local-api 1).

use helios::http::client::Endpoint;
use serde_json::{Value, json};

use crate::support::{Agent, Options, Scratch, http};

/// An engine is not needed to be told no.
fn start(dir: &Scratch, args: Vec<&str>) -> Agent {
    let engine = Some("unix:///nonexistent/engine.sock".to_owned());
    Agent::start(
        &dir.0,
        &Options {
            args,
            engine,
            ..Options::default()
        },
    )
}

fn raw(agent: &Agent, method: &str, target: &str, kind: &str, body: &[u8]) -> (u16, String) {
    let endpoint = Endpoint::Unix(agent.dir.join("api.sock"));
    let headers: &[(&str, &str)] = if kind.is_empty() {
        &[]
    } else {
        &[("content-type", kind)]
    };
    let body = (!body.is_empty()).then_some(body);
    let (status, bytes) = http(endpoint, method, target, headers, body);
    (status, String::from_utf8(bytes).unwrap())
}

#[test]
fn la_1_4_refusals_have_their_status_and_change_nothing() {
    let dir = Scratch::new();
    let mut agent = start(&dir, vec![]);
    let json = "application/json";
    let service = |composition: Value| {
        let services = json!({"main": {"id": 1, "image": "a", "composition": composition}});
        json!({"id": 1, "name": "x", "releases": {"r": {"services": services}}}).to_string()
    };
    let big = format!("\"{}\"", "x".repeat(2 * 1024 * 1024));
    #[rustfmt::skip]
    let cases: Vec<(&str, &str, &str, String, u16, &str)> = vec![
        ("GET", "/nope", "", String::new(), 404, ""),
        ("GET", "/v3/nope", "", String::new(), 404, "no such path"),
        ("GET", "/v3/device/", "", String::new(), 404, ""),
        ("POST", "/ping", "", String::new(), 405, ""),
        ("PUT", "/v3/device/apps/a", "", String::new(), 405, ""),
        ("GET", "/v1/update", "", String::new(), 405, ""),
        ("POST", "/v3/device/apps/%ff", json, "{}".into(), 400, "Invalid UTF-8 in `uuid`"),
        ("POST", "/v3/device/apps/a?force=1", json, "{}".into(), 400, "provided string was not `true` or `false`"),
        ("POST", "/v3/device/apps/a?force=true&force=true", json, "{}".into(), 400, "duplicate field `force`"),
        ("POST", "/v3/device/apps/a", "", "{}".into(), 415, "Content-Type: application/json"),
        ("POST", "/v3/device/apps/a", "text/json", "{}".into(), 415, "Content-Type"),
        ("POST", "/v3/device/apps/a", json, String::new(), 400, "Failed to parse the request body as JSON"),
        ("POST", "/v3/device/apps/a", json, "{".into(), 400, "at line 1 column"),
        ("POST", "/v3/device/apps/a", json, "{} x".into(), 400, "Failed to parse"),
        ("POST", "/v3/device/apps/a", json, big, 413, "length limit exceeded"),
        ("POST", "/v3/device/apps/a", json, r#"{"id": 1}"#.into(), 422, "name"),
        ("POST", "/v3/device/apps/a", json, r#"{"id": "1", "name": "x"}"#.into(), 422, "id"),
        ("POST", "/v3/device/apps/a", json, r#"{"id": 1, "name": "x", "releases": {"a": {}, "b": {}}}"#.into(), 422, "release"),
        ("POST", "/v3/device/apps/a", json, service(json!({"volumes": ["/root:/x"]})), 422, "/root"),
        ("POST", "/v3/device/apps/a", json, service(json!({"networks": ["nope"]})), 422, "nope"),
        ("POST", "/v3/device/apps/a", json, service(json!({"depends_on": ["main"]})), 422, "main"),
        ("DELETE", "/v3/device/apps/a", "", String::new(), 404, ""),
        ("DELETE", "/v3/device/apps/a?cancel=x", "", String::new(), 400, "cancel"),
        ("POST", "/v1/update", "", "nonsense".into(), 400, "failed"),
        ("POST", "/v1/update", "", r#"{"force": "maybe"}"#.into(), 400, "failed"),
    ];
    for (method, target, kind, body, want, text) in cases {
        let (status, answer) = raw(&agent, method, target, kind, body.as_bytes());
        assert_eq!(status, want, "{method} {target}: {answer}");
        assert!(answer.contains(text), "{method} {target}: {answer}");
        if target.starts_with("/v3") {
            let problem: Value = serde_json::from_str(&answer).unwrap();
            assert_eq!(problem["status"], want, "{method} {target}: {answer}");
        }
    }
    assert_eq!(
        raw(&agent, "GET", "/v3/status", "", b"").1,
        r#"{"status":"done"}"#
    );
    assert!(agent.is_alive());
}

/// S-POLL-34 has 503, local-api 1.3 what scripts rely on: without a backend there is nothing to ask.
#[test]
fn la_1_3_s_poll_34_ping_head_and_an_update_without_a_backend() {
    let dir = Scratch::new();
    let agent = start(&dir, vec![]);
    assert_eq!(raw(&agent, "GET", "/ping", "", b""), (200, "OK".to_owned()));
    assert_eq!(raw(&agent, "HEAD", "/ping", "", b""), (200, String::new()));
    assert_eq!(
        raw(&agent, "POST", "/v1/update", "", b""),
        (202, String::new())
    );
    assert_eq!(agent.status(), "done");
}

#[test]
fn d_27_an_address_that_is_not_loopback_wants_the_local_key() {
    let dir = Scratch::new();
    let agent = start(&dir, vec!["--local-api-address", "0.0.0.0:0"]);
    let line = crate::support::until("the port", || {
        let log = agent.log();
        let line = log
            .lines()
            .find(|line| line.contains("local API on") && line.contains("0.0.0.0"));
        line.map(str::to_owned)
    });
    let port = line.rsplit(':').next().unwrap().trim().parse().unwrap();
    let key = crate::support::program()
        .env("HOME", &dir.0)
        .arg("local-key")
        .output()
        .unwrap();
    let key = String::from_utf8(key.stdout).unwrap().trim().to_owned();
    assert_eq!(key.len(), 32);
    let endpoint = || Endpoint::Tcp {
        host: "127.0.0.1".into(),
        port,
    };
    let get =
        |target: &str, headers: &[(&str, &str)]| http(endpoint(), "GET", target, headers, None).0;
    assert_eq!(get("/ping", &[]), 200, "the one route that is open");
    assert_eq!(get("/v3/status", &[]), 401);
    assert_eq!(get("/v3/status", &[("authorization", "Bearer wrong")]), 401);
    assert_eq!(
        get("/v3/status", &[("authorization", &format!("Bearer {key}"))]),
        200
    );
    assert_eq!(
        get("/v3/status", &[("authorization", &format!("ApiKey {key}"))]),
        200
    );
    assert_eq!(get(&format!("/v3/status?apikey={key}"), &[]), 200);
    assert!(!agent.log().contains(&key), "the key is in the log");
}

/// D-39: contracts are held against this device, and an unmet one changes nothing.
#[test]
fn d_39_an_unmet_contract_refuses_the_app_with_its_path() {
    let dir = Scratch::new();
    let agent = start(&dir, vec![]);
    let app = |kind: &str, slug: &str, version: &str| {
        let contract = json!({"requires": [{"type": kind, "slug": slug, "version": version}]});
        let main = json!({"id": 1, "image": "a", "contract": contract});
        json!({"id": 1, "name": "x", "releases": {"r": {"services": {"main": main}}}}).to_string()
    };
    let post = |body: String| {
        raw(
            &agent,
            "POST",
            "/v3/device/apps/a",
            "application/json",
            body.as_bytes(),
        )
    };
    let (status, body) = post(app("sw.kernel", "linux", ">=900"));
    assert_eq!(status, 422, "{body}");
    let body: Value = serde_json::from_str(&body).unwrap();
    let path = "releases.r.services.main.contract.requires[0]";
    assert_eq!(body["errors"][0]["path"], path);
    assert_eq!(post(app("sw.kernel", "linux", ">=2")).0, 202);
    assert_eq!(post(app("sw.spec", "compose", ">=2")).0, 202);
}
