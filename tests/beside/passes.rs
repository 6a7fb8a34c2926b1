//! What is passed on, and how (remote-api 10.6, local-api 6.2).

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use serde_json::json;

use crate::bytes::{Door, Heard, PATIENCE, Reply, Server, request};
use crate::world::{Agent, SUPERVISOR, UUID, until};

const AUTH: &str = "Authorization: Bearer some-key\n";

/// A backend and a legacy supervisor that say what the path asks for, and an agent between.
struct Between {
    cloud: Server,
    legacy: Server,
    agent: Agent,
}

fn text(bytes: &str) -> Vec<u8> {
    bytes.replace('\n', "\r\n").into_bytes()
}

/// What both servers answer.
fn answer(heard: &Heard) -> (Vec<u8>, bool) {
    let path = heard.target.split('?').next().unwrap();
    let path = path.strip_prefix("/base").unwrap_or(path);
    if path == format!("/device/v3/{UUID}/state") {
        let body = json!({UUID: {"name": "x", "config": {}, "apps": {}}}).to_string();
        let length = body.len();
        let head = format!("HTTP/1.1 200 OK\nETag: \"1\"\nContent-Length: {length}\n\n");
        return (
            text(&head).into_iter().chain(body.into_bytes()).collect(),
            false,
        );
    }
    let say = |said: &str| (text(said), false);
    match path {
        "/404" => say("HTTP/1.1 404 Not Found\nContent-Length: 4\n\nnone"),
        "/hops" => say("HTTP/1.1 200 OK\nConnection: close, X-Foo\nX-Foo: 1\n\
            Keep-Alive: timeout=5\nTE: trailers\nProxy-Authenticate: Basic\nUpgrade: x\n\
            Proxy-Connection: x\nTrailer: X\nSet-Cookie: a=1\nSet-Cookie: b=2\nX-Bar: y\n\
            Content-Length: 2\n\nok"),
        "/gzip" => {
            let body = [0x1f, 0x8b, 8, 0, 0xff, 0, 13, 10];
            let head = "HTTP/1.1 200 OK\nContent-Encoding: gzip\nETag: \"x\"\nDate: then\n\
                Content-Length: 8\n\n";
            (text(head).into_iter().chain(body).collect(), false)
        }
        "/odd" => {
            say("HTTP/1.1 200 OK\nContent-Encoding: br, odd\nContent-Length: 3\n\n\u{1}\u{2}x")
        }
        "/301" => say("HTTP/1.1 301 Moved\nLocation: http://elsewhere/x\nContent-Length: 0\n\n"),
        "/302" => say("HTTP/1.1 302 Found\nLocation: /hops\nContent-Length: 0\n\n"),
        "/307" => say("HTTP/1.1 307 Same\nLocation: /hops\nContent-Length: 0\n\n"),
        "/103" => {
            say("HTTP/1.1 103 Early Hints\nLink: </x>\n\nHTTP/1.1 200 OK\nContent-Length: 2\n\nok")
        }
        "/both" => {
            say("HTTP/1.1 200 OK\nContent-Length: 99\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n")
        }
        "/two-lengths" => say("HTTP/1.1 200 OK\nContent-Length: 2\nContent-Length: 3\n\nok"),
        "/garbage" => say("what is this?\n\n"),
        "/huge" => {
            let field = format!("X: {}\n", "x".repeat(60 * 1024));
            say(&format!(
                "HTTP/1.1 200 OK\n{field}{field}Content-Length: 0\n\n"
            ))
        }
        "/short" => (text("HTTP/1.1 200 OK\nContent-Length: 9\n\nshort"), true),
        "/short-chunks" => (
            text("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n5\nshort\n"),
            true,
        ),
        "/until-close" => (text("HTTP/1.1 200 OK\n\nall of it"), true),
        "/204" => say("HTTP/1.1 204 No Content\n\n"),
        "/304" => say("HTTP/1.1 304 Not Modified\nETag: \"x\"\nContent-Length: 77\n\n"),
        "/head" => say("HTTP/1.1 200 OK\nContent-Length: 77\n\n"),
        "/state-429" | "/device/v3/state" => {
            say("HTTP/1.1 429 Too Many\nRetry-After: 10\nContent-Length: 0\n\n")
        }
        _ => {
            let head = format!(
                "HTTP/1.1 200 OK\nX-Method: {}\nContent-Length: {}\n\n",
                heard.method,
                heard.body.len()
            );
            (
                text(&head).into_iter().chain(heard.body.clone()).collect(),
                false,
            )
        }
    }
}

fn between() -> Between {
    let (cloud, legacy) = (Server::start(answer), Server::start(answer));
    let agent = Agent::start(
        &format!("http://{}/base/", cloud.address),
        &format!("http://{}", legacy.address),
    );
    Between {
        cloud,
        legacy,
        agent,
    }
}

#[test]
fn s_prx_01_s_prx_42_px_01_px_03_r_url_2_the_backend_gets_what_was_sent() {
    let it = between();
    for (n, door) in [&it.agent.tcp, &it.agent.unix].into_iter().enumerate() {
        let target = format!("/v7/device?$select=id&$filter=uuid%20eq%20%27x%27&n={n}");
        let lines =
            format!("{SUPERVISOR}{AUTH}X-One: 1\nAccept-Encoding: gzip, deflate\nX-One: 2\n");
        let reply = door.asks(&format!("GET {target}"), &lines);
        assert_eq!(reply.status, 200);
        let heard = it.cloud.last(&format!("n={n}"));
        assert_eq!(heard.target, format!("/base{target}"));
        assert_eq!(heard.method, "GET");
        assert_eq!(heard.all("x-one"), ["1", "2"]);
        assert_eq!(heard.all("authorization"), ["Bearer some-key"]);
        assert_eq!(heard.all("accept-encoding"), ["gzip, deflate"], "R-PRX-2");
        assert_eq!(
            heard.all("user-agent"),
            ["Supervisor/19.0.5 (Linux; x; prod)"]
        );
        assert_eq!(heard.all("host"), [it.cloud.address.as_str()], "S-PRX-32");
        assert_eq!(heard.all("via").len(), 1);
        let without = door.asks(
            &format!("GET /v7/plain?n={n}"),
            &format!("{SUPERVISOR}{AUTH}"),
        );
        assert_eq!(without.status, 200);
        let heard = it.cloud.last(&format!("/v7/plain?n={n}"));
        assert!(
            !heard.has("accept-encoding") && !heard.has("accept"),
            "{heard:?}"
        );
    }
    assert!(it.legacy.heard().is_empty());
}

#[test]
fn s_prx_02_s_prx_03_s_prx_41_px_02_everybody_else_gets_to_the_legacy_supervisor() {
    let it = between();
    let agents = [
        "",
        "curl/8",
        "MySupervisor/1",
        "supervisor/1",
        "Supervisor",
        "Supervisor/1 \u{e9}",
    ];
    for (n, agent) in agents.iter().enumerate() {
        let line = match *agent {
            "" => String::new(),
            agent => format!("User-Agent: {agent}\n"),
        };
        let reply = it
            .agent
            .tcp
            .asks(&format!("GET /v1/device?apikey=k{n}"), &line);
        assert_eq!(reply.status, 200, "{agent}");
        let heard = it.legacy.last(&format!("apikey=k{n}"));
        assert_eq!(heard.target, format!("/v1/device?apikey=k{n}"));
        assert_eq!(heard.has("user-agent"), !agent.is_empty());
    }
    assert!(it.cloud.heard().is_empty());
    // PX-04, and what is native stays native (PX-14, S-PRX-41).
    let reply = it.agent.tcp.asks("GET /404", "");
    assert_eq!((reply.status, &*reply.text()), (404, "none"));
    for (first, want) in [
        ("GET /v1/update", 405),
        ("POST /ping", 405),
        ("PUT /v3/device", 405),
    ] {
        assert_eq!(it.agent.tcp.asks(first, "").status, want, "{first}");
    }
    assert_eq!(
        it.agent.tcp.asks("GET /v3/nope", "").status,
        200,
        "local-api 1.9"
    );
    assert!(
        it.legacy
            .heard()
            .iter()
            .all(|heard| !heard.target.contains("update"))
    );
}

#[test]
fn s_prx_13_s_prx_14_what_belongs_to_a_connection_stays_there() {
    let it = between();
    let lines = "Connection: X-Foo, close\nX-Foo: 1\nKeep-Alive: timeout=9\nTE: trailers, gzip\n\
        Proxy-Authorization: Basic s\nProxy-Connection: keep-alive\nUpgrade: websocket\n\
        X-Bar: a\nX-Bar: b\n";
    let reply = it.agent.tcp.asks("GET /hops", lines);
    let heard = it.legacy.last("/hops");
    for gone in ["connection", "x-foo", "keep-alive", "te", "upgrade"] {
        assert!(!heard.has(gone), "{gone}: {heard:?}");
    }
    assert!(!heard.has("proxy-authorization") && !heard.has("proxy-connection"));
    assert_eq!(heard.all("x-bar"), ["a", "b"]);
    for gone in [
        "x-foo",
        "keep-alive",
        "te",
        "upgrade",
        "trailer",
        "proxy-authenticate",
    ] {
        assert!(!reply.has(gone), "{gone}: {reply:?}");
    }
    assert_eq!(reply.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!((reply.all("x-bar"), &*reply.text()), (vec!["y"], "ok"));
    assert_eq!(
        reply.all("connection"),
        ["close"],
        "ours, since the client closes"
    );
}

#[test]
fn s_prx_15_s_prx_16_r_prx_3_a_body_keeps_its_framing() {
    let it = between();
    let reply = it.agent.tcp.says(
        b"POST /sized HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!((reply.status, &*reply.text()), (200, "hello"));
    let heard = it.legacy.last("/sized");
    assert_eq!(heard.all("content-length"), ["5"]);
    assert!(!heard.has("transfer-encoding"));
    for method in ["POST", "DELETE", "PUT", "PATCH"] {
        let reply = it.agent.tcp.asks(&format!("{method} /empty-{method}"), "");
        assert_eq!(reply.all("x-method"), [method]);
        let heard = it.legacy.last(&format!("/empty-{method}"));
        assert!(!heard.has("transfer-encoding"), "{heard:?}");
        let length = heard.all("content-length");
        assert!(length.is_empty() || length == ["0"], "{heard:?}");
    }
    let reply = it.agent.tcp.says(
        b"PUT /chunks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
          \r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n",
    );
    assert_eq!(reply.text(), "abcdefg");
    assert_eq!(
        it.legacy.last("/chunks").all("transfer-encoding"),
        ["chunked"]
    );
}

#[test]
fn s_prx_20_s_prx_21_s_prx_22_s_prx_26_s_prx_27_answers_are_passed_on_as_they_are() {
    let it = between();
    let get = |path: &str| it.agent.unix.asks(&format!("GET {path}"), "");
    let gzip = get("/gzip");
    assert_eq!(
        gzip.body.as_deref(),
        Some(&[0x1f, 0x8b, 8, 0, 0xff, 0, 13, 10][..])
    );
    assert_eq!(gzip.all("content-encoding"), ["gzip"]);
    assert_eq!(
        (gzip.all("etag"), gzip.all("date")),
        (vec!["\"x\""], vec!["then"])
    );
    let odd = get("/odd");
    assert_eq!(
        (odd.text(), odd.all("content-encoding")),
        ("\u{1}\u{2}x".into(), vec!["br, odd"])
    );
    for (path, status, location) in [
        ("/301", 301, "http://elsewhere/x"),
        ("/302", 302, "/hops"),
        ("/307", 307, "/hops"),
    ] {
        let reply = get(path);
        assert_eq!(
            (reply.status, reply.all("location")),
            (status, vec![location])
        );
    }
    assert!(
        !it.legacy
            .heard()
            .iter()
            .any(|heard| heard.target == "/hops"),
        "not followed"
    );
    assert_eq!(get("/103").text(), "ok");
    let both = get("/both");
    assert_eq!(
        (both.text(), both.has("content-length")),
        ("ok".into(), false)
    );
    assert_eq!(get("/two-lengths").status, 502);
    assert_eq!(get("/until-close").text(), "all of it");
}

#[test]
fn s_prx_25_an_answer_that_breaks_off_breaks_off_for_the_client_too() {
    let it = between();
    for path in ["/short", "/short-chunks"] {
        let reply = it.agent.tcp.asks(&format!("GET {path}"), "");
        assert_eq!((reply.status, reply.body), (200, None), "{path}");
    }
}

#[test]
fn s_prx_29_s_prx_30_a_connection_serves_many_requests_in_order() {
    let it = between();
    let all = "HEAD /head HTTP/1.1\nHost: x\n\nGET /204 HTTP/1.1\nHost: x\n\n\
        GET /304 HTTP/1.1\nHost: x\n\nGET /last HTTP/1.1\nHost: x\nConnection: close\n\n";
    let mut stream = it.agent.tcp.open();
    stream.write_all(&text(all)).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let said = String::from_utf8_lossy(&bytes).into_owned();
    let heads: Vec<&str> = said.split("HTTP/1.1 ").skip(1).collect();
    let statuses: Vec<&str> = heads.iter().map(|head| &head[..3]).collect();
    assert_eq!(statuses, ["200", "204", "304", "200"], "{said}");
    assert!(heads[0].contains("Content-Length: 77"), "{said}");
    assert!(heads[2].contains("ETag: \"x\""), "{said}");
    assert!(!heads[1].contains("Transfer-Encoding"), "{said}");
}

#[test]
fn s_prx_31_a_client_of_http_1_0_gets_no_chunks() {
    let it = between();
    let reply = it.agent.tcp.says(b"GET /both HTTP/1.0\r\n\r\n");
    assert!(!reply.has("transfer-encoding"));
    assert_eq!(
        (reply.all("connection"), reply.raw.as_slice()),
        (vec!["close"], &b"ok"[..])
    );
    let mut stream = it.agent.tcp.open();
    let first = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
    stream.write_all(first).unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0);
    }
    let lower = head.to_ascii_lowercase();
    assert!(lower.contains("connection: keep-alive") && lower.contains("content-length: 0"));
    reader
        .get_mut()
        .write_all(b"GET /304 HTTP/1.0\r\n\r\n")
        .unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!(Reply::read(&rest).status, 304);
}

#[test]
fn s_prx_11_px_12_px_13_without_a_backend_the_supervisor_is_told_later() {
    let legacy = Server::start(answer);
    let agent = Agent::start("", &format!("http://{}", legacy.address));
    let lines = format!("{SUPERVISOR}{AUTH}");
    let other = agent.tcp.asks("GET /v7/device", &lines);
    assert_eq!((other.status, other.all("retry-after")), (503, vec!["600"]));
    assert_eq!(other.body.as_deref(), Some(&b""[..]));
    let target = agent
        .tcp
        .asks(&format!("GET /device/v3/{UUID}/state"), &lines);
    assert_eq!(
        (target.status, target.all("retry-after")),
        (503, vec!["15"])
    );
    assert_eq!(agent.tcp.asks("GET /v1/device", "").status, 200);
}

#[test]
fn s_prx_12_without_a_legacy_supervisor_there_is_nothing_to_pass_on_to() {
    let cloud = Server::start(answer);
    let agent = Agent::start(&format!("http://{}", cloud.address), "");
    for lines in ["", SUPERVISOR, "User-Agent: curl/8\n"] {
        assert_eq!(agent.tcp.asks("GET /v1/device", lines).status, 404);
        let state = format!("GET /device/v3/{UUID}/state");
        assert_eq!(agent.tcp.asks(&state, lines).status, 404);
    }
}

#[test]
fn s_prx_17_r_prx_8_neither_way_is_anything_held_back() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let legacy = format!("http://{}", listener.local_addr().unwrap());
    let agent = Agent::start("", &legacy);
    let mut client = agent.tcp.open();
    let head = b"POST /up HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.write_all(head).unwrap();
    client.write_all(b"5\r\nfirst\r\n").unwrap();
    // The server has the first piece while the client has not said the second.
    let server = accept(&listener);
    let mut reader = BufReader::new(&server);
    read_to(&mut reader, b"first\r\n");
    client.write_all(b"6\r\nsecond\r\n").unwrap();
    read_to(&mut reader, b"second\r\n");
    client.write_all(b"0\r\n\r\n").unwrap();
    read_to(&mut reader, b"0\r\n\r\n");
    // And back.
    let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nback\r\n";
    (&server).write_all(head).unwrap();
    let mut client = BufReader::new(client);
    read_to(&mut client, b"back\r\n");
    (&server).write_all(b"5\r\nagain\r\n0\r\n\r\n").unwrap();
    read_to(&mut client, b"again\r\n0\r\n\r\n");
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads up to and with these bytes.
fn read_to(reader: &mut impl std::io::BufRead, end: &[u8]) {
    let mut seen = Vec::new();
    while !seen.ends_with(end) {
        let mut byte = [0];
        let count = reader.read(&mut byte).unwrap();
        assert!(count > 0, "{:?}", String::from_utf8_lossy(&seen));
        seen.push(byte[0]);
    }
}

#[test]
fn s_prx_17_a_server_that_takes_nothing_stops_the_client() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let legacy = format!("http://{}", listener.local_addr().unwrap());
    let agent = Agent::start("", &legacy);
    let Door::Tcp(address) = &agent.tcp else {
        panic!()
    };
    let mut client = TcpStream::connect(address).unwrap();
    let head = b"PUT /up HTTP/1.1\r\nHost: x\r\nContent-Length: 104857600\r\n\r\n";
    client.write_all(head).unwrap();
    let server = accept(&listener);
    client.set_nonblocking(true).unwrap();
    let block = vec![7; 1 << 20];
    let (mut sent, mut quiet) = (0usize, 0);
    // Until nothing has been taken for a while: all the buffers there are, and no more.
    while quiet < 40 {
        match client.write(&block) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(_) => {
                quiet += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert!(sent < 64 << 20, "the client was never stopped");
    }
    // Once it takes something, it goes on.
    client.set_nonblocking(false).unwrap();
    let left = (100 << 20) - sent;
    let writer = std::thread::spawn(move || {
        let block = vec![7; 1 << 20];
        let mut left = left;
        while left > 0 {
            let some = left.min(block.len());
            client.write_all(&block[..some]).unwrap();
            left -= some;
        }
        client
    });
    let mut reader = BufReader::with_capacity(1 << 16, &server);
    let heard = request(&mut reader).unwrap();
    assert_eq!(heard.body.len(), 100 << 20);
    drop(writer.join().unwrap());
}

#[test]
fn s_prx_18_a_client_that_gives_up_its_upload_ends_the_other_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    let mut client = agent.tcp.open();
    let head = b"POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nsome";
    client.write_all(head).unwrap();
    let server = accept(&listener);
    let mut reader = BufReader::new(&server);
    read_to(&mut reader, b"some");
    drop(client);
    let mut rest = Vec::new();
    let _ = reader.read_to_end(&mut rest);
    assert!(rest.is_empty(), "it is closed, and nothing is made up");
}

#[test]
fn s_prx_19_a_client_that_gives_up_its_download_ends_the_other_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    // In the middle of an answer that is silent, and before there is any.
    for said in ["HTTP/1.1 200 OK\r\n\r\nsome", ""] {
        let mut client = agent.tcp.open();
        client
            .write_all(b"GET /v2/local/logs HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let server = accept(&listener);
        let mut reader = BufReader::new(&server);
        read_to(&mut reader, b"\r\n\r\n");
        (&server).write_all(said.as_bytes()).unwrap();
        if !said.is_empty() {
            let mut client = BufReader::new(&mut client);
            read_to(&mut client, b"some");
        }
        drop(client);
        assert_eq!(reader.read(&mut [0]).unwrap_or(0), 0, "{said}");
    }
}

#[test]
fn s_prx_23_nobody_is_told_to_continue_before_the_server_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    let head = b"POST /x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    for refusal in ["417 Expectation Failed", "401 Unauthorized"] {
        let mut client = agent.tcp.open();
        client.write_all(head).unwrap();
        let server = accept(&listener);
        let mut reader = BufReader::new(&server);
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            reader.read_line(&mut lines).unwrap();
        }
        assert!(
            lines.to_ascii_lowercase().contains("expect: 100-continue"),
            "{lines}"
        );
        let said = format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n");
        (&server).write_all(said.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        client.read_to_end(&mut bytes).unwrap();
        assert!(
            bytes.starts_with(format!("HTTP/1.1 {refusal}").as_bytes()),
            "{bytes:?}"
        );
        let mut rest = Vec::new();
        let _ = reader.read_to_end(&mut rest);
        assert!(rest.is_empty(), "no body was sent");
    }
    // One that is wanted.
    let mut client = agent.tcp.open();
    client.write_all(head).unwrap();
    let server = accept(&listener);
    let mut reader = BufReader::new(&server);
    read_to(&mut reader, b"\r\n\r\n");
    (&server)
        .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
        .unwrap();
    let mut from = BufReader::new(client);
    read_to(&mut from, b"HTTP/1.1 100 Continue\r\n\r\n");
    from.get_mut().write_all(b"hello").unwrap();
    read_to(&mut reader, b"hello");
    (&server)
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .unwrap();
    read_to(&mut from, b"ok");
}

#[test]
fn s_net_26_an_early_refusal_reaches_a_client_that_is_slow() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    let mut client = agent.tcp.open();
    let head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\nsome";
    client.write_all(head).unwrap();
    let server = accept(&listener);
    read_to(&mut BufReader::new(&server), b"some");
    let said = b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig";
    (&server).write_all(said).unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let reply = Reply::read(&bytes);
    assert_eq!((reply.status, reply.text()), (413, "big".into()));
}

#[test]
fn s_prx_34_an_upgrade_is_a_tunnel_once_the_server_agrees() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    let head = b"GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, X-A\r\nX-A: 1\r\n\
        Upgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\nearly";
    let mut client = agent.tcp.open();
    client.write_all(head).unwrap();
    let server = accept(&listener);
    let mut reader = BufReader::new(&server);
    let heard = {
        let mut lines = String::new();
        while !lines.ends_with("\r\n\r\n") {
            reader.read_line(&mut lines).unwrap();
        }
        lines.to_ascii_lowercase()
    };
    assert!(heard.contains("connection: upgrade\r\n"), "{heard}");
    assert!(
        heard.contains("upgrade: websocket\r\n") && !heard.contains("x-a"),
        "{heard}"
    );
    assert!(heard.contains("sec-websocket-key: k\r\n"), "{heard}");
    let said = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Accept: a\r\n\r\nhello";
    (&server).write_all(said).unwrap();
    read_to(&mut reader, b"early");
    let mut from = BufReader::new(client);
    let mut lines = String::new();
    while !lines.ends_with("\r\n\r\n") {
        from.read_line(&mut lines).unwrap();
    }
    let lower = lines.to_ascii_lowercase();
    assert!(lower.starts_with("http/1.1 101 "), "{lines}");
    assert!(lower.contains("upgrade: websocket\r\n"), "{lines}");
    assert!(lower.contains("sec-websocket-accept: a\r\n"), "{lines}");
    read_to(&mut from, b"hello");
    from.get_mut().write_all(b"there").unwrap();
    read_to(&mut reader, b"there");
    (&server).write_all(b"back").unwrap();
    read_to(&mut from, b"back");
    // A server that does not agree answers as always.
    let mut client = agent.tcp.open();
    client.write_all(&head[..head.len() - 5]).unwrap();
    let server = accept(&listener);
    read_to(&mut BufReader::new(&server), b"\r\n\r\n");
    (&server)
        .write_all(b"HTTP/1.1 400 Bad\r\nContent-Length: 2\r\n\r\nno")
        .unwrap();
    let mut from = BufReader::new(client);
    read_to(&mut from, b"no");
}

#[test]
fn s_prx_35_s_prx_44_a_log_that_is_followed_ends_with_the_agent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut agent = Agent::start("", &format!("http://{}", listener.local_addr().unwrap()));
    let mut client = agent.tcp.open();
    client
        .write_all(b"GET /v2/local/logs HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let server = accept(&listener);
    read_to(&mut BufReader::new(&server), b"\r\n\r\n");
    (&server).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
    let mut from = BufReader::new(client);
    for line in 0..20 {
        let line = format!("{{\"line\":{line}}}\n");
        (&server).write_all(line.as_bytes()).unwrap();
        read_to(&mut from, line.as_bytes());
    }
    assert_eq!(agent.stop(), Some(0));
    let mut rest = Vec::new();
    from.read_to_end(&mut rest).unwrap_or_default();
    assert!(
        !rest.ends_with(b"0\r\n\r\n"),
        "it was cut, and is not said to be whole"
    );
}

#[test]
fn s_prx_39_r_prx_7_the_supervisor_is_not_told_to_retry_after() {
    let it = between();
    let key = "Authorization: Bearer DeviceKeyB1\n";
    let body = "PATCH /device/v3/state HTTP/1.1\nHost: x\nConnection: close\nContent-Length: 2\n";
    let said = format!("{body}{SUPERVISOR}{key}\n{{}}");
    let reply = it.agent.tcp.says(&text(&said));
    assert_eq!((reply.status, reply.has("retry-after")), (429, false));
    assert_eq!(it.cloud.last("/device/v3/state").body, b"{}");
    // Everybody else is.
    let reply = it
        .agent
        .tcp
        .asks("GET /state-429", &format!("{SUPERVISOR}{AUTH}"));
    assert_eq!((reply.status, reply.all("retry-after")), (429, vec!["10"]));
}

#[test]
fn s_prx_28_s_prx_32_s_prx_33_s_prx_38_what_no_server_should_see_is_answered_here() {
    let it = between();
    let head = |lines: &str| format!("POST /bad HTTP/1.1\n{lines}\n");
    #[rustfmt::skip]
    let cases: Vec<(String, &[u16])> = vec![
        (head("Host: x\nContent-Length: 2\nTransfer-Encoding: chunked\n"), &[400]),
        (head("Host: x\nTransfer-Encoding: identity\n"), &[400, 501]),
        (head("Host: x\nTransfer-Encoding: chunked, gzip\n"), &[400, 501]),
        (head("Host: x\nHost: x\n"), &[400]),
        (head(""), &[400]),
        (head("Host: x\nX-A : 1\n"), &[400]),
        (head("Host: x\nX-A: 1\n 2\n"), &[400]),
        ("CONNECT bad:1 HTTP/1.1\nHost: bad:1\n\n".into(), &[405, 501]),
        ("TRACE /bad HTTP/1.1\nHost: x\nConnection: close\n\n".into(), &[405]),
        ("OPTIONS * HTTP/1.1\nHost: x\nConnection: close\n\n".into(), &[200]),
        ("OPTIONS /bad HTTP/1.1\nHost: x\nMax-Forwards: 0\nConnection: close\n\n".into(), &[200]),
        // D-41: what says two hosts is refused.
        ("GET http://other/bad HTTP/1.1\nHost: x\n\n".into(), &[400]),
    ];
    for (said, want) in cases {
        let reply = it.agent.tcp.says(&text(&said));
        assert!(want.contains(&reply.status), "{said}: {reply:?}");
    }
    for bare in [
        "GET /bad HTTP/1.1\nHost: x\n\n",
        "GET /bad HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
    ] {
        assert_eq!(it.agent.tcp.says(bare.as_bytes()).status, 400);
    }
    assert!(it.legacy.heard().is_empty(), "{:?}", it.legacy.heard());
    // S-PRX-32: the authority says nothing about where it goes.
    let reply = it.agent.tcp.says(&text(
        "GET http://x/good?a HTTP/1.1\nHost: x\nConnection: close\n\n",
    ));
    assert_eq!(reply.status, 200);
    let heard = it.legacy.last("/good");
    assert_eq!(
        (heard.target.as_str(), heard.all("host")),
        ("/good?a", vec![it.legacy.address.as_str()])
    );
    it.agent.tcp.asks("OPTIONS /hop", "Max-Forwards: 7\n");
    assert_eq!(it.legacy.last("/hop").all("max-forwards"), ["6"]);
}

#[test]
fn s_prx_36_d_41_however_many_wait_for_it_our_own_api_answers() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", silent.local_addr().unwrap()));
    let ask = b"GET /v1/device HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut waiting = Vec::new();
    // As many as are passed on at once, and some more.
    for _ in 0..120 {
        let mut client = agent.tcp.open();
        client.write_all(ask).unwrap();
        waiting.push(client);
    }
    let reply = until("one that is told to come back", || {
        let reply = agent.tcp.asks("GET /v1/device", "");
        (reply.status == 503).then_some(reply)
    });
    assert!(reply.has("retry-after"), "{reply:?}");
    for _ in 0..3 {
        assert_eq!(agent.tcp.asks("GET /ping", "").text(), "OK");
        assert_eq!(agent.unix.asks("GET /v3/status", "").status, 200);
    }
    // They make room as they go.
    drop(waiting);
    let answers = std::thread::spawn(move || {
        for stream in silent.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    until("one that is passed on", || {
        (agent.tcp.asks("GET /v1/device", "").status == 200).then_some(())
    });
    drop(answers);
}

#[test]
fn s_prx_36_idle_connections_and_heads_by_the_byte_keep_nobody_out() {
    let server = Server::start(|_| (text("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), false));
    let agent = Agent::start("", &format!("http://{}", server.address));
    // A byte each, all of them in turn: none is ever done with its head.
    let mut waiting: VecDeque<_> = (0..64).map(|_| agent.tcp.open()).collect();
    for byte in b"GET /slow HTTP/1.1\r\n" {
        for client in &mut waiting {
            // On a machine that is slow enough its time is over.
            let _ = client.write_all(&[*byte]);
        }
        assert_eq!(agent.tcp.asks("GET /v1/device", "").status, 200);
    }
    let mut most = 0;
    for count in 0..1000 {
        waiting.push_back(agent.tcp.open());
        if count % 50 == 49 {
            assert_eq!(agent.tcp.asks("GET /v1/device", "").status, 200, "{count}");
            assert_eq!(agent.unix.asks("GET /ping", "").text(), "OK", "{count}");
            most = most.max(agent.descriptors());
        }
        // Those that wait longest have given way to the newer ones, and are told so.
        if waiting.len() > 200 {
            let mut said = Vec::new();
            let mut oldest = waiting.pop_front().unwrap();
            let end = oldest.read_to_end(&mut said);
            let is_told = end.map_or_else(|err| err.kind() == ErrorKind::ConnectionReset, |_| true);
            let is_late = said.starts_with(b"HTTP/1.1 408 ");
            assert!(is_told && (said.is_empty() || is_late), "{count}");
        }
    }
    // Listeners, the pool, the log and the like are few.
    assert!(most <= 128 + 8 + 40, "{most} descriptors");
    assert!(server.heard().iter().all(|heard| heard.target != "/slow"));
}

#[test]
fn s_prx_29_a_client_that_goes_on_talking_is_not_kept_in_memory() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let agent = Agent::start("", &format!("http://{}", silent.local_addr().unwrap()));
    let Door::Tcp(address) = &agent.tcp else {
        panic!()
    };
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(b"GET /v1/device HTTP/1.1\r\nHost: x\r\n\r\n")
        .unwrap();
    let held = accept(&silent);
    client.set_nonblocking(true).unwrap();
    let (mut sent, mut quiet) = (0usize, 0);
    while quiet < 40 {
        match client.write(&[b'x'; 1 << 16]) {
            Ok(count) => (sent, quiet) = (sent + count, 0),
            Err(_) => {
                quiet += 1;
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
        }
        assert!(sent < 64 << 20, "it was never stopped");
    }
    drop(held);
}

#[test]
fn s_prx_37_a_loop_is_refused() {
    // An agent that is its own legacy supervisor.
    let address = crate::world::free();
    let url = format!("http://{address}");
    let agent = Agent::start_at(&address, "", &url, &[]);
    assert_eq!(agent.tcp.asks("GET /v1/device", "").status, 508);
    until("the word", || {
        agent.log().contains("calls itself").then_some(())
    });
}
