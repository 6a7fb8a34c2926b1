//! Recorded answers of the real backend, in their real framing, to the agent's client:
//! whole, and cut behind every byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_io::block_on;
use helios::host::clock::SystemClock;
use helios::http::client::{Client, Endpoint, Request};
use helios::http::url::Url;
use helios::model::identity::{Record, RecordRemote};
use helios::remote::manifest::Reader;
use helios::remote::register::{About, Registrar};
use helios::world::registration::{Confirmed, Registered, Registration as _, Retry};
use helios::world::registry::Registry as _;
use helios::world::remote::{Polled, Remote as _, RemoteError, RemoteKind};
use serde_json::{Value, json};

use crate::recorded::{Recorded, scenarios};
use crate::serve::{PATIENT, Say, Scratch, Server, client};

/// What the agent makes of an answer, in words.
fn meaning(polled: Result<Polled, RemoteError>) -> String {
    match polled {
        Ok(Polled::Changed(document)) => String::from_utf8(document.to_vec()).unwrap(),
        Ok(Polled::Unchanged) => "unchanged".into(),
        Ok(Polled::UnknownDevice) => "unknown device".into(),
        Err(RemoteError { kind, said }) => {
            assert!(!said.is_empty() && !said.contains("DeviceKey"), "{said}");
            format!("{kind:?}")
        }
    }
}

/// What it should make of it.
fn expected(exchange: &Recorded, conditional: bool) -> String {
    let response = &exchange.response;
    match (response.status, response.header("content-encoding")) {
        (200, None | Some("gzip")) => exchange.text(),
        // Not offered, so it is a broken answer (S-POLL-36).
        (200, Some(_)) => "Later(None)".into(),
        (304, _) if conditional => "unchanged".into(),
        (304, _) => "unknown device".into(),
        (401, _) => "Unauthorized".into(),
        // To https, where this server is not.
        (301, _) => "Later(None)".into(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn recorded_polls_mean_what_they_meant_and_a_cut_one_means_nothing() {
    let mut seen = BTreeSet::new();
    let (mut polls, mut cuts) = (0, 0);
    for scenario in scenarios() {
        let server = Server::start();
        for exchange in scenario
            .exchanges
            .iter()
            .filter(|exchange| exchange.is_poll())
        {
            let (uuid, wire) = (exchange.device().unwrap(), exchange.response.wire());
            let conditional = crate::recorded::header(&exchange.request.headers, "if-none-match");
            let cache = Scratch::new();
            let backend = client(server.address, PATIENT, uuid, &cache);
            if let Some(etag) = conditional {
                let first = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nETag: ";
                server.say(Say::Bytes(
                    format!("{first}{etag}\r\n\r\n{{}}").into_bytes(),
                ));
                block_on(backend.poll()).unwrap();
                server.heard.recv().unwrap();
            }
            server.say(Say::Bytes(wire.clone()));
            let found = meaning(block_on(backend.poll()));
            let heard = server.heard.recv().unwrap();
            assert_eq!(
                found,
                expected(exchange, conditional.is_some()),
                "{}: {heard}",
                scenario.name
            );
            assert_eq!(heard.contains("if-none-match"), conditional.is_some());
            assert!(heard.contains("Accept-Encoding: gzip\r\n"), "{heard}");
            assert!(!heard.to_lowercase().contains("cache-control"), "{heard}");
            polls += 1;
            if !seen.insert(wire.clone()) {
                continue;
            }
            let backend = client(server.address, PATIENT, uuid, &cache);
            for end in 0..wire.len() {
                server.say(Say::Bytes(wire[..end].to_vec()));
                let found = block_on(backend.poll());
                let heard = server.heard.recv().unwrap();
                // A whole head may say enough to know what to do about it.
                let kind = found.expect_err("half an answer").kind;
                let later = matches!(kind, RemoteKind::Later(None));
                assert!(
                    later || exchange.response.status == 401,
                    "{}: {kind:?} at {end}",
                    scenario.name
                );
                assert!(
                    !heard.contains("if-none-match"),
                    "half an answer left an ETag"
                );
                cuts += 1;
            }
            assert_eq!(block_on(backend.cached()), None);
        }
    }
    assert!(polls > 30, "{polls}");
    println!("{polls} polls, {cuts} cuts");
}

#[test]
fn recorded_reports_are_accepted_or_not_and_a_cut_answer_is_no_acceptance() {
    let (mut seen, mut reports) = (BTreeSet::new(), 0);
    for scenario in scenarios() {
        let server = Server::start();
        let patches = |exchange: &&Recorded| {
            exchange.request.method == "PATCH" && exchange.request.path == "/device/v3/state"
        };
        for exchange in scenario.exchanges.iter().filter(patches) {
            let (wire, cache) = (exchange.response.wire(), Scratch::new());
            let backend = client(server.address, PATIENT, "u", &cache);
            let body = crate::recorded::sent(exchange.request.body.as_ref());
            server.say(Say::Bytes(wire.clone()));
            let found = block_on(backend.report(&body)).map_err(|error| error.kind);
            let heard = server.heard.recv().unwrap();
            assert!(heard.as_bytes().ends_with(&body), "{heard}");
            match exchange.response.status {
                200 => assert_eq!(found, Ok(())),
                // Never followed (R-HTTP-8).
                301 => assert_eq!(found, Err(RemoteKind::Refused(301))),
                other => panic!("{other}"),
            }
            reports += 1;
            if !seen.insert(wire.clone()) {
                continue;
            }
            // The former one keeps a connection that is about to end.
            let backend = client(server.address, PATIENT, "u", &cache);
            for end in 0..wire.len() {
                server.say(Say::Bytes(wire[..end].to_vec()));
                assert!(
                    block_on(backend.report(&body)).is_err(),
                    "{}: at {end}",
                    scenario.name
                );
                server.heard.recv().unwrap();
            }
        }
    }
    assert!(reports > 10, "{reports}");
}

/// A device as the body of its registration has it.
fn record(asked: &Value) -> Record {
    let text = |name: &str| asked[name].as_str().map(str::to_owned);
    Record {
        uuid: text("uuid").unwrap(),
        fleet: asked["application"]
            .as_u64()
            .and_then(|id| id.try_into().ok()),
        device_type: text("device_type"),
        remote: RecordRemote {
            api_endpoint: "http://api.example.test/".into(),
            // The agent never asks without one.
            api_key: text("api_key").unwrap_or_else(|| "k".repeat(32)),
            request: Default::default(),
        },
    }
}

fn registrar(server: &Server) -> Registrar {
    let url = Url::parse(&format!("http://{}", server.address)).unwrap();
    let endpoint = Endpoint::Tcp {
        host: url.host().into(),
        port: url.port(),
    };
    let roots = Box::new(|| Err("no TLS here".to_owned()));
    Registrar::new(&url, (endpoint, PATIENT), roots, "key", About::default())
}

/// Says one answer after the other, each on a connection of its own.
fn say(server: &Server, wires: &[Vec<u8>]) {
    for wire in wires {
        server.say(Say::Bytes(wire.clone()));
    }
}

/// The same, and its connection is not used again.
fn closing(wire: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(wire.to_vec()).unwrap();
    let text = text.replacen("Connection: keep-alive", "Connection: close", 1);
    text.into_bytes()
}

/// R-REG-5 to R-REG-7 in the real one's words; and half an answer neither makes a device nor
/// ends a registration.
#[test]
fn recorded_registrations_mean_what_they_meant_and_a_cut_one_registers_nobody() {
    let (mut asked, mut cuts) = (0, 0);
    for scenario in scenarios() {
        let server = Server::start();
        for exchange in &scenario.exchanges {
            let path = exchange.request.path.split('?').next().unwrap();
            if exchange.request.method != "POST" || path != "/device/register" {
                continue;
            }
            let body = crate::recorded::sent(exchange.request.body.as_ref());
            let body: Value = serde_json::from_slice(&body).unwrap();
            let (record, wire) = (record(&body), exchange.response.wire());
            say(&server, std::slice::from_ref(&wire));
            let came = block_on(registrar(&server).register(&record));
            let heard = server.heard.recv().unwrap();
            assert!(heard.starts_with("POST /device/register HTTP/1.1\r\n"));
            let what = format!("{}: {came:?}", scenario.name);
            match (exchange.response.status, came) {
                (201, Ok(Registered::AsAsked)) => assert!(body["api_key"].is_string(), "{what}"),
                (201, Ok(Registered::WithKey(key))) => {
                    assert!(!body["api_key"].is_string(), "{what}");
                    assert!(key.starts_with("InventedByBackend"));
                }
                (409, Ok(Registered::UuidTaken)) => {}
                (401 | 301, Err(trouble)) => assert_eq!(trouble.retry, Retry::Slowly, "{what}"),
                (404, Err(trouble)) => assert_eq!(trouble.retry, Retry::Never, "{what}"),
                _ => panic!("{what}"),
            }
            asked += 1;
            for end in 0..wire.len() {
                say(&server, &[wire[..end].to_vec()]);
                let came = block_on(registrar(&server).register(&record));
                server.heard.recv().unwrap();
                match came {
                    // What is taken is looked into in any case.
                    Ok(Registered::UuidTaken | Registered::KeyTaken) => {
                        assert_eq!(exchange.response.status, 409);
                    }
                    Ok(came) => panic!("{what}: {came:?} at {end}"),
                    Err(trouble) => assert_ne!(trouble.retry, Retry::Never, "{what} at {end}"),
                }
                cuts += 1;
            }
        }
    }
    println!("{asked} registrations, {cuts} cuts");
    assert_eq!(asked, 17);
}

#[test]
fn recorded_polls_confirm_a_device_and_a_cut_one_does_not() {
    let mut seen = BTreeSet::new();
    for scenario in scenarios() {
        let server = Server::start();
        for exchange in scenario.exchanges.iter().filter(|one| one.is_poll()) {
            let wire = exchange.response.wire();
            if !seen.insert(wire.clone()) {
                continue;
            }
            let uuid = exchange.device().unwrap();
            let record = record(&json!({"uuid": uuid}));
            say(&server, std::slice::from_ref(&wire));
            let came = block_on(registrar(&server).confirm(&record));
            let heard = server.heard.recv().unwrap();
            assert!(!heard.contains("if-none-match"), "{heard}");
            let coding = exchange.response.header("content-encoding");
            match (exchange.response.status, coding, came) {
                (200, None | Some("gzip"), Ok(Confirmed::Ours))
                | (304, _, Ok(Confirmed::Unknown))
                | (401, _, Ok(Confirmed::OtherKey)) => {}
                (200, Some(_), Err(trouble)) | (301, _, Err(trouble)) => {
                    assert!(matches!(trouble.retry, Retry::Later(None)), "{trouble:?}");
                }
                (.., came) => panic!("{}: {came:?}", scenario.name),
            }
            for end in 0..wire.len() {
                say(&server, &[wire[..end].to_vec()]);
                let came = block_on(registrar(&server).confirm(&record));
                server.heard.recv().unwrap();
                let trouble = came.expect_err("half an answer");
                assert_ne!(trouble.retry, Retry::Never, "{} at {end}", scenario.name);
            }
        }
    }
    assert!(seen.len() > 20, "{}", seen.len());
}

/// Remote-api 1.6 and 0.7 row 10: a provisioning key may not, a user's may.
#[test]
fn recorded_exchanges_of_keys_and_a_cut_one_gives_no_key() {
    let all = scenarios();
    let wire = |scenario: &str, number: usize| {
        let found = all.iter().find(|one| one.name.starts_with(scenario));
        found.unwrap().exchanges[number].response.wire()
    };
    let record = record(&json!({"uuid": "6a6a6a6a6a6a6a6a6a6a6a6a6a6a6a6a"}));
    let server = Server::start();
    let give = |wires: &[Vec<u8>]| {
        say(&server, wires);
        let came = block_on(registrar(&server).give_key(&record));
        wires.iter().for_each(|_| {
            server.heard.recv().unwrap();
        });
        came
    };
    let (found, given, refused) = (closing(&wire("17", 2)), wire("17", 3), wire("14", 2));
    assert!(give(&[found.clone(), given.clone()]).unwrap());
    assert!(!give(&[found.clone(), refused.clone()]).unwrap());
    assert!(!give(&[wire("14", 1)]).unwrap());
    for end in 0..found.len() {
        let trouble = give(&[found[..end].to_vec()]).unwrap_err();
        assert!(
            matches!(trouble.retry, Retry::Later(None)),
            "{trouble:?} at {end}"
        );
    }
    for whole in [given, refused] {
        for end in 0..whole.len() {
            let trouble = give(&[found.clone(), whole[..end].to_vec()]).unwrap_err();
            assert_ne!(trouble.retry, Retry::Never, "{trouble:?} at {end}");
        }
    }
}

/// Remote-api 4.3: what the route for tokens said, to the reader of manifests (FD-07).
#[test]
fn recorded_tokens_open_a_registry_and_a_cut_one_does_not() {
    let scenarios = scenarios();
    let of_tokens = scenarios.iter().find(|one| one.name.starts_with("12"));
    let server = Server::start();
    let image = format!("{}/v2/aa:1", server.address);
    let image = helios::model::ImageUri::parse(&image).unwrap();
    let answer = |status: &str, fields: &str, body: &str| {
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    let realm = format!(
        "WWW-Authenticate: Bearer realm=\"http://{}/auth/v1/token\",service=\"r\"\r\n",
        server.address
    );
    let challenge = answer("401 Huh", &realm, "").into_bytes();
    let layer = |size: u32| json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "size": size});
    let layers = json!({"layers": [layer(7), layer(5)]});
    let manifest = answer("200 OK", "", &layers.to_string()).into_bytes();
    // What was asked, and what it came to. No word is left over for the next.
    let weigh = |wires: &[&[u8]]| {
        let wires: Vec<_> = wires.iter().map(|wire| wire.to_vec()).collect();
        say(&server, &wires);
        let reader = Reader::new(
            Arc::default(),
            Box::new(|| Err("nobody asked for TLS".to_owned())),
            Arc::new(SystemClock::start()),
        );
        let weight = block_on(reader.weigh(&image, "amd64", u64::MAX));
        let heard: Vec<_> = wires.iter().map(|_| server.heard.recv().unwrap()).collect();
        (weight.map(|weight| weight.bytes), heard.concat())
    };
    for exchange in &of_tokens.unwrap().exchanges {
        let wire = closing(&exchange.response.wire());
        if exchange.response.status != 200 {
            let (weight, _) = weigh(&[&challenge, &wire]);
            assert!(weight.unwrap_err().contains("401"));
            continue;
        }
        let (weight, asked) = weigh(&[&challenge, &wire, &manifest]);
        assert_eq!(weight, Ok(12));
        let token: Value = serde_json::from_str(&exchange.text()).unwrap();
        let token = token["token"].as_str().unwrap();
        assert!(asked.contains(&format!("authorization: Bearer {token}")));
        for end in 0..wire.len() {
            let (weight, _) = weigh(&[&challenge, &wire[..end]]);
            assert!(weight.is_err(), "at {end}");
        }
    }
}

/// The other routes have no client of their own in this room.
#[test]
fn all_recorded_answers_are_read_whole_or_refused() {
    let mut seen = BTreeSet::new();
    for scenario in scenarios() {
        let server = Server::start();
        let endpoint = Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port: server.address.port(),
        };
        for exchange in &scenario.exchanges {
            let response = &exchange.response;
            let coding = response.header("content-encoding");
            let wire = response.wire();
            let is_head = exchange.request.method == "HEAD";
            if coding.is_some_and(|coding| coding != "gzip")
                || !seen.insert((is_head, wire.clone()))
            {
                continue;
            }
            let ask = |wire: Vec<u8>| {
                let client = Client::new(endpoint.clone(), PATIENT);
                server.say(Say::Bytes(wire));
                let answer = block_on(async {
                    let method = if is_head { "HEAD" } else { "POST" };
                    let request = Request {
                        method,
                        target: "/x",
                        ..Request::default()
                    };
                    let mut answer = client.send(request).await?;
                    Ok::<_, helios::http::Error>((answer.status(), answer.bytes(1 << 20).await?))
                });
                server.heard.recv().unwrap();
                answer
            };
            let (status, body) = ask(wire.clone()).unwrap();
            assert_eq!(status, response.status);
            assert_eq!(
                String::from_utf8(body).unwrap(),
                exchange.text(),
                "{}",
                scenario.name
            );
            if exchange.is_poll() {
                continue;
            }
            for end in 0..wire.len() {
                assert!(
                    ask(wire[..end].to_vec()).is_err(),
                    "{}: at {end}",
                    scenario.name
                );
            }
        }
    }
}
