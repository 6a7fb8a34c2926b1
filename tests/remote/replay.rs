//! Recorded answers of the real backend, in their real framing, to the agent's client:
//! whole, and cut behind every byte.

use std::collections::BTreeSet;

use async_io::block_on;
use helios::http::client::{Client, Endpoint, Request};
use helios::world::remote::{Polled, Remote as _, RemoteError, RemoteKind};

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
