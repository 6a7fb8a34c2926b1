//! Servers that cannot be reached or make no sense, and callers that are none of those that
//! they say they are (S-PRX-24, D-26, R-SEC-*).

use std::net::TcpListener;

use crate::bytes::{Reply, Server};
use crate::world::{Agent, Backend, KEY, Legacy, SECRET, SUPERVISOR, UUID, free};

/// What the backend's own proxy lets through (remote-api 6).
fn passes_the_filter(reply: &Reply) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b" :'.?!,/-\r\n".contains(byte);
    reply.all("content-type")[0].starts_with("text/plain") && reply.raw.iter().all(fits)
}

#[test]
fn s_prx_24_px_05_what_went_wrong_is_told_without_secrets() {
    let say = |bytes: &str| {
        let bytes = bytes.as_bytes().to_vec();
        Server::start(move |_| (bytes.clone(), true))
    };
    let garbage = say("what is this?\r\n\r\n");
    let big = format!("X: {}\r\n", "x".repeat(60 * 1024));
    let huge = say(&format!("HTTP/1.1 200 OK\r\n{big}{big}\r\n"));
    let closes = say("");
    let cases = [
        (free(), "a refused connection"),
        ("nonexistent.invalid".to_owned(), "a name without address"),
        (garbage.address.clone(), "a garbage status line"),
        (huge.address.clone(), "a head that is too large"),
        (closes.address.clone(), "an end without a word"),
    ];
    for (address, what) in cases {
        let agent = Agent::start("", &format!("http://{address}"));
        let reply = agent.tcp.asks("GET /v1/x?apikey=secret", "");
        assert_eq!(reply.status, 502, "{what}");
        let text = reply.text();
        assert!(
            text.starts_with("Target connection failed:"),
            "{what}: {text}"
        );
        assert!(passes_the_filter(&reply), "{what}: {text}");
        assert!(
            !text.contains(&address) && !text.contains("secret"),
            "{text}"
        );
        assert!(!agent.log().contains("secret"), "R-SEC-5: {}", agent.log());
    }
}

#[cfg(feature = "tls")]
#[test]
fn s_prx_24_a_backend_that_does_not_speak_tls_is_never_spoken_to_in_the_clear() {
    use std::io::{Read as _, Write as _};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = [0; 64];
            let count = stream.read(&mut bytes).unwrap_or(0);
            let _ = tell.send(bytes[..count].to_vec());
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let legacy = format!("http://{}", free());
    let agent = Agent::start(&format!("https://{address}"), &legacy);
    let lines = format!("{SUPERVISOR}Authorization: Bearer k\n");
    let reply = agent.tcp.asks("GET /v7/device", &lines);
    assert_eq!((reply.status, passes_the_filter(&reply)), (502, true));
    for bytes in heard.try_iter() {
        assert_eq!(bytes.first(), Some(&0x16), "a handshake and nothing else");
    }
}

#[test]
fn d_26_s_prx_07_r_sec_1_r_sec_2_a_container_that_imitates_the_supervisor_gets_nothing() {
    let backend = Backend::start();
    backend.target(&serde_json::json!({}));
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let legacy = format!("http://{}", silent.local_addr().unwrap());
    let agent = Agent::start(&format!("http://{}", backend.address), &legacy);
    let state = format!("/device/v3/{UUID}/state");
    let key = |key: &str| format!("{SUPERVISOR}Authorization: Bearer {key}\n");
    crate::world::until("the target", || {
        (agent.tcp.asks(&format!("GET {state}"), &key(KEY)).status == 200).then_some(())
    });
    let before = backend.requests("PATCH /device/v3/state");
    let wrong = [
        SUPERVISOR.to_owned(),
        key("wrong"),
        key(SECRET),
        key(""),
        key(&format!("{KEY}x")),
        format!("{SUPERVISOR}Authorization: Basic {KEY}\n"),
    ];
    for lines in &wrong {
        for first in [
            format!("GET {state}"),
            format!("HEAD {state}/"),
            format!("GET {state}?apikey={KEY}"),
        ] {
            let reply = agent.tcp.asks(&first, lines);
            assert_eq!(reply.status, 401, "{first} {lines}");
            assert!(!reply.text().contains(UUID), "{reply:?}");
        }
        assert_eq!(
            agent.tcp.asks("PATCH /device/v3/state", lines).status,
            401,
            "{lines}"
        );
    }
    assert_eq!(
        backend.requests("PATCH /device/v3/state"),
        before,
        "no report got through"
    );
    // Without any key nothing goes out in its name.
    assert_eq!(agent.tcp.asks("GET /v7/device", SUPERVISOR).status, 401);
    assert_eq!(
        agent.tcp.asks("POST /device/register", SUPERVISOR).status,
        401
    );
    let log = agent.log();
    assert!(!log.contains(KEY) && !log.contains(SECRET), "{log}");
}

#[test]
fn la_1_9_s_trg_11_user_apps_are_left_to_the_other_side() {
    let legacy = Legacy::start(&format!("http://{}", free()), &serde_json::json!({}));
    let agent = Agent::start("", &format!("http://{}", legacy.address));
    let reply = agent.unix.asks("GET /v3/device", "");
    let device: serde_json::Value = serde_json::from_slice(&reply.body.unwrap()).unwrap();
    assert_eq!(
        (reply.status, &device["apps"]),
        (200, &serde_json::json!({}))
    );
    for method in ["POST", "DELETE"] {
        let reply = agent.unix.asks(&format!("{method} /v3/device/apps/a1"), "");
        assert_eq!(reply.status, 409);
        assert!(
            reply.text().contains("legacy supervisor"),
            "{}",
            reply.text()
        );
    }
    assert_eq!(agent.unix.asks("GET /v3/device/apps/a1", "").status, 404);
}

#[test]
fn d_27_r_sec_3_beside_a_supervisor_its_keys_may_ask_for_an_update() {
    let legacy = Legacy::start(&format!("http://{}", free()), &serde_json::json!({}));
    // Not on loopback, where no key is needed: every address, reached by one that is none.
    let port = free().rsplit_once(':').unwrap().1.to_owned();
    let address = format!("0.0.0.0:{port}");
    let agent = Agent::start_at(&address, "", &format!("http://{}", legacy.address), &[]);
    let update = |query: &str, lines: &str| {
        agent
            .tcp
            .asks(&format!("POST /v1/update{query}"), lines)
            .status
    };
    assert_eq!(update("", ""), 401);
    assert_eq!(update("?apikey=wrong", ""), 401);
    assert_eq!(update(&format!("?apikey={SECRET}"), ""), 202);
    assert_eq!(
        update("", &format!("Authorization: ApiKey {SECRET}\n")),
        202
    );
    assert_eq!(
        update("", &format!("Authorization: bearer {SECRET}\n")),
        202
    );
    let asked = legacy.seen("/v2/version").len();
    assert!(asked <= 3, "its word is remembered: {asked}");
    // The rest of what is ours is not opened by it.
    let status = agent
        .tcp
        .asks(&format!("GET /v3/status?apikey={SECRET}"), "")
        .status;
    assert_eq!(status, 401);
}
