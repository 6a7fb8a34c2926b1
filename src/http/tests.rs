//! Client against server, in one process and one thread, over TCP and Unix.

mod fuzz;
mod proxied;
mod scripted;
#[cfg(feature = "tls")]
mod secure;

use std::future::Future;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_io::{Async, block_on};
use event_listener::Event;
use futures_lite::future::{or, zip};
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::client::{Client, Endpoint, Error, ErrorKind, Request, Timeouts};
use super::server::{Answering, BodyError, Exchange, Handler, Listener, Server};
use crate::limits::HTTP_CONNECTIONS_MAX;

const SECOND: Duration = Duration::from_secs(1);
pub(super) const TIMEOUTS: Timeouts = Timeouts {
    resolve: Duration::from_secs(5),
    connect: Duration::from_secs(5),
    tls: Duration::from_secs(5),
    head: SECOND,
    idle: SECOND,
    total: None,
};

/// Answers by path what the tests ask for.
#[derive(Default)]
struct Answers {
    held: Event,
    holding: Event,
    upstream: OnceLock<Client>,
}

impl Handler for Answers {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(async move {
            match exchange.path() {
                "/ping" => exchange.respond(200, &[("X-A", "b")], b"pong").await,
                "/where" => {
                    let text = format!("{:?} {}", exchange.peer(), exchange.query());
                    exchange.respond(200, &[], text.as_bytes()).await
                }
                "/echo" => match exchange.body(100_000).await {
                    Ok(body) => exchange.respond(200, &[], &body).await,
                    Err(BodyError::TooLarge) => exchange.respond(413, &[], b"too large").await,
                    Err(BodyError::Broken) => exchange.respond(400, &[], b"broken").await,
                },
                "/ignore" => exchange.respond(200, &[], b"ignored").await,
                "/hold" => {
                    let held = self.held.listen();
                    self.holding.notify(1);
                    held.await;
                    exchange.respond(200, &[], b"held").await
                }
                "/empty" => exchange.respond(204, &[], b"nobody sees this").await,
                "/lines" => {
                    exchange.stream(200, &[]).await?;
                    for piece in ["one\ntw", "o\r\n", "", "\nthree"] {
                        exchange.write(piece.as_bytes()).await?;
                    }
                    Ok(())
                }
                "/long" | "/longer" | "/short" | "/length" => {
                    let length = match exchange.path() {
                        "/long" => "8",
                        "/longer" => "7",
                        "/short" => "9",
                        _ => "+8",
                    };
                    exchange.stream(200, &[("content-length", length)]).await?;
                    exchange.write(b"two").await?;
                    exchange.write(b"three").await
                }
                "/big" => {
                    exchange.stream(200, &[]).await?;
                    for _ in 0..100 {
                        exchange.write(&[b'x'; 10_000]).await?;
                    }
                    Ok(())
                }
                "/breaks" => {
                    exchange.stream(200, &[]).await?;
                    exchange.write(b"half").await?;
                    exchange.respond(200, &[], b"twice").await
                }
                "/switch" => {
                    let headers = [("Connection", "upgrade"), ("Upgrade", "x")];
                    let client = self
                        .upstream
                        .get()
                        .ok_or_else(|| Error::new(ErrorKind::Invalid, ""))?;
                    let request = Request {
                        headers: &headers,
                        ..get("/")
                    };
                    let tunnel = client.send(request).await?.into_tunnel();
                    let tunnel = tunnel.ok_or_else(|| Error::new(ErrorKind::Invalid, ""))?;
                    exchange.switch(b"Upgrade: x\r\n", tunnel).await
                }
                "/forward" => {
                    let client = self
                        .upstream
                        .get()
                        .ok_or_else(|| Error::new(ErrorKind::Invalid, ""))?;
                    let request = Request {
                        method: "POST",
                        ..get("/echo")
                    };
                    let mut response = client.send_from(request, None, exchange).await?;
                    exchange.stream(response.status(), &[]).await?;
                    while let Some(piece) = response.chunk().await? {
                        exchange.write(piece).await?;
                    }
                    Ok(())
                }
                "/splits" => exchange.respond(200, &[("A", "b\r\nC: d")], b"").await,
                _ => Ok(()),
            }
        })
    }
}

/// A server, and a way to it that works while `test` runs.
fn serve<F: Future>(test: impl FnOnce(SocketAddr, PathBuf, Arc<Answers>) -> F) -> F::Output {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("helios-http-{}-{count}", std::process::id()));
    let tcp = Listener::bind_tcp(([127, 0, 0, 1], 0).into()).unwrap();
    let unix = Listener::bind_unix(&path, 0o600).unwrap();
    let address = tcp.local_addr().parse().unwrap();
    let answers = Arc::new(Answers::default());
    let server = Server::new(vec![tcp, unix], Arc::clone(&answers) as Arc<dyn Handler>);
    let stop = Event::new();
    let stopped = stop.listen();
    let test = async {
        let result = test(address, path.clone(), answers).await;
        stop.notify(1);
        result
    };
    let result = block_on(zip(server.run(stopped, SECOND), test)).1;
    assert!(!path.exists(), "the socket's file is removed");
    result
}

fn tcp(address: SocketAddr) -> Endpoint {
    Endpoint::Tcp {
        host: address.ip().to_string(),
        port: address.port(),
    }
}

fn get(target: &str) -> Request<'_> {
    Request {
        method: "GET",
        target,
        ..Request::default()
    }
}

/// What the server says to these bytes, until it closes.
async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
        .get_ref()
        .shutdown(std::net::Shutdown::Write)
        .unwrap();
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    let date = |line: &&str| !line.starts_with("Date: ");
    said.split("\r\n")
        .filter(date)
        .collect::<Vec<_>>()
        .join("|")
}

#[test]
fn a_client_and_a_server_understand_each_other() {
    serve(|address, path, _| async move {
        for (endpoint, peer) in [
            (tcp(address), "Loopback a=b"),
            (Endpoint::Unix(path), "Unix a=b"),
        ] {
            let client = Client::new(endpoint, TIMEOUTS);
            let mut response = client.send(get("/ping")).await.unwrap();
            assert_eq!(
                (response.status(), response.header("x-a")),
                (200, Some("b"))
            );
            assert!(response.header("date").is_some());
            assert_eq!(response.bytes(4).await.unwrap(), b"pong");
            assert_eq!(response.header("x-a"), Some("b"), "also behind the body");
            let mut response = client.send(get("/where?a=b")).await.unwrap();
            assert_eq!(response.bytes(99).await.unwrap(), peer.as_bytes());
            let mut response = client.send(get("/empty")).await.unwrap();
            assert_eq!(
                (response.status(), response.bytes(0).await.unwrap().len()),
                (204, 0)
            );
            let head = Request {
                method: "HEAD",
                ..get("/ping")
            };
            let mut response = client.send(head).await.unwrap();
            assert_eq!(response.header("content-length"), Some("4"));
            assert_eq!(response.bytes(9).await.unwrap(), b"");
            let mut response = client.send(get("/nothing")).await.unwrap();
            assert_eq!(
                (response.status(), response.bytes(99).await.unwrap().len()),
                (500, 14)
            );
            let mut response = client.send(get("/splits")).await.unwrap();
            assert_eq!((response.status(), response.header("c")), (500, None));
            assert_eq!(response.bytes(99).await.unwrap(), b"internal error");
            let mut response = client.send(get("/big")).await.unwrap();
            assert_eq!(response.bytes(1_000_000).await.unwrap().len(), 1_000_000);
            let mut response = client.send(get("/big")).await.unwrap();
            assert_eq!(
                response.bytes(999_999).await.unwrap_err().kind,
                ErrorKind::TooLarge
            );
            let mut response = client.send(get("/breaks")).await.unwrap();
            assert_eq!(
                response.bytes(99).await.unwrap_err().kind,
                ErrorKind::Closed
            );
        }
    });
}

#[test]
fn bodies_arrive_whole_or_are_refused() {
    serve(|address, _, _| async move {
        let client = Client::new(tcp(address), TIMEOUTS);
        for len in [0, 1, 2_000, 100_000] {
            let body = vec![b'x'; len];
            let post = Request {
                method: "POST",
                body: Some(&body),
                ..get("/echo")
            };
            let mut response = client.send(post).await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.bytes(len).await.unwrap(), body, "{len}");
        }
        for len in [100_001, 10_000_000] {
            let body = vec![b'x'; len];
            let post = Request {
                method: "POST",
                body: Some(&body),
                ..get("/echo")
            };
            let mut response = client.send(post).await.unwrap();
            assert_eq!(response.status(), 413, "{len}");
            assert_eq!(response.bytes(99).await.unwrap(), b"too large");
        }
    });
}

/// A length that is small in the 32 bits of the oldest boards: nothing is waited for.
#[test]
fn issue_9_a_body_of_more_than_an_address_can_count_is_refused_at_once() {
    serve(|address, _, _| async move {
        let length = (1_u64 << 32) + 5;
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        );
        let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut line = [0; 12];
        stream.read_exact(&mut line).await.unwrap();
        assert_eq!(&line, b"HTTP/1.1 413");
    });
}

#[test]
fn lines_are_cut_wherever_the_pieces_end() {
    serve(|address, _, _| async move {
        let client = Client::new(tcp(address), TIMEOUTS);
        let mut response = client.send(get("/lines")).await.unwrap();
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while response.line(5, &mut line).await.unwrap() {
            lines.push(String::from_utf8(line.clone()).unwrap());
        }
        assert_eq!(lines, ["one", "two", "", "three"]);
        let mut response = client.send(get("/lines")).await.unwrap();
        assert_eq!(
            response.line(2, &mut line).await.unwrap_err().kind,
            ErrorKind::TooLarge
        );
    });
}

#[test]
fn raw_requests_are_answered_in_order() {
    serve(|address, _, _| async move {
        let pong = "HTTP/1.1 200 OK|Content-Length: 4|X-A: b||pong";
        let closed = "HTTP/1.1 200 OK|Connection: close|Content-Length: 4|X-A: b||pong";
        let ping = "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n";
        let bye = "GET /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
        let post = "POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
        let ignored = "HTTP/1.1 200 OK|Content-Length: 7||ignored";
        let expect =
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
        #[rustfmt::skip]
        let cases = [
            ("nothing", String::new(), String::new()),
            ("one", ping.into(), pong.into()),
            ("three at once", ping.repeat(3), pong.repeat(3)),
            ("nothing behind close", format!("{bye}{ping}"), closed.into()),
            ("an unread body", format!("{post}{ping}"), format!("{ignored}{pong}")),
            ("1.0", "GET /ping HTTP/1.0\r\n\r\n".into(), closed.into()),
            ("1.0 stream", "GET /lines HTTP/1.0\r\n\r\n".into(),
                "HTTP/1.1 200 OK|Connection: close||one\ntwo|\nthree".into()),
            ("stream", "GET /lines HTTP/1.1\r\nHost: h\r\n\r\n".into(),
                "HTTP/1.1 200 OK|Transfer-Encoding: chunked||6|one\ntw|3|o||6|\nthree|0||".into()),
            ("head of a stream", "HEAD /lines HTTP/1.1\r\nHost: h\r\n\r\n".into(),
                "HTTP/1.1 200 OK|Transfer-Encoding: chunked||".into()),
            ("length", "GET /long HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2), "HTTP/1.1 200 OK|Content-Length: 8||twothree".repeat(2)),
            ("length for 1.0", "GET /long HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".into(), "HTTP/1.1 200 OK|Connection: keep-alive|Content-Length: 8||twothree".into()),
            ("length to a HEAD", "HEAD /long HTTP/1.1\r\nHost: h\r\n\r\n".into(), "HTTP/1.1 200 OK|Content-Length: 8||".into()),
            ("more than the length", "GET /longer HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2), "HTTP/1.1 200 OK|Content-Length: 7||two".into()),
            ("less than the length", "GET /short HTTP/1.1\r\nHost: h\r\n\r\n".repeat(2), "HTTP/1.1 200 OK|Content-Length: 9||twothree".into()),
            ("no length", "GET /length HTTP/1.1\r\nHost: h\r\n\r\n".into(), "HTTP/1.1 500 Internal Server Error|Content-Length: 14|Content-Type: text/plain; charset=utf-8||internal error".into()),
            ("expects", expect.into(), "HTTP/1.1 100 Continue||HTTP/1.1 400 Bad Request|Connection: close|Content-Length: 6||broken".into()),
            ("expects, but sends", format!("{expect}hi"), "HTTP/1.1 200 OK|Content-Length: 2||hi".into()),
            ("chunked", "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".into(),
                "HTTP/1.1 200 OK|Content-Length: 2||hi".into()),
            ("broken chunks", "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".into(),
                "HTTP/1.1 400 Bad Request|Connection: close|Content-Length: 6||broken".into()),
            ("smuggled", "POST /ping HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".into(),
                "HTTP/1.1 400 Bad Request|Content-Type: text/plain; charset=utf-8|Content-Length: 55|Connection: close||Content-Length and Transfer-Encoding exclude each other".into()),
        ];
        for (what, said, want) in cases {
            let heard = raw(address, said.as_bytes()).await;
            assert_eq!(
                heard.replace("58|", "54|"),
                want.replace("58|", "54|"),
                "{what}"
            );
        }
    });
}

/// Says it in pieces and leaves its side open: the status, and whether the server closed.
async fn status_of(address: SocketAddr, pieces: impl Iterator<Item = &[u8]>) -> String {
    let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
    for piece in pieces {
        // It may have been refused already.
        if stream.write_all(piece).await.is_err() {
            break;
        }
        futures_lite::future::yield_now().await;
    }
    let mut said = Vec::new();
    stream.read_to_end(&mut said).await.unwrap();
    let said = String::from_utf8(said).unwrap();
    let (head, body) = said.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("\r\nDate: "), "{head}");
    assert!(head.contains("\r\nConnection: close"), "{head}");
    assert!(
        head.contains(&format!("\r\nContent-Length: {}", body.len())),
        "{head}"
    );
    head["HTTP/1.1 ".len()..][..3].to_owned()
}

#[test]
fn what_is_refused_gets_its_status_and_the_connection_ends() {
    let many = format!(
        "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
        "A: b\r\n".repeat(100)
    );
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(8 * 1024));
    let long_field = format!(
        "GET / HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n",
        "b".repeat(16 * 1024)
    );
    let hidden = "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n";
    let post = |fields: &str| format!("POST /echo HTTP/1.1\r\nHost: h\r\n{fields}\r\n{hidden}");
    let chunks = |body: &str| {
        format!(
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{body}{hidden}"
        )
    };
    #[rustfmt::skip]
    let cases: Vec<(&str, String, &str)> = vec![
        ("CL.TE", post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n"), "400"),
        ("TE.CL", post("Transfer-Encoding: chunked\r\nContent-Length: 6\r\n"), "400"),
        ("TE.TE", post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), "400"),
        ("TE, one letter more", post("Transfer-Encoding: xchunked\r\n"), "501"),
        ("TE, space before the colon", post("Transfer-Encoding : chunked\r\n"), "400"),
        ("TE, vertical tab", post("Transfer-Encoding: \u{b}chunked\r\n"), "400"),
        ("TE, folded", post("Transfer-Encoding:\r\n chunked\r\n"), "400"),
        ("TE behind a bare LF", post("X: y\nTransfer-Encoding: chunked\r\n"), "400"),
        ("TE behind a bare CR", post("X: y\rTransfer-Encoding: chunked\r\n"), "400"),
        ("CL twice", post("Content-Length: 0\r\nContent-Length: 36\r\n"), "400"),
        ("CL signed", post("Content-Length: +36\r\n"), "400"),
        ("CL hexadecimal", post("Content-Length: 0x24\r\n"), "400"),
        ("CL too large", post("Content-Length: 18446744073709551652\r\n"), "400"),
        ("chunk size signed", chunks("+0\r\n\r\n"), "400"),
        ("chunk size overflows", chunks("10000000000000000\r\n"), "400"),
        ("chunk size behind a bare LF", chunks("0\n\n"), "400"),
        ("chunk longer than it says", chunks("1\r\nab\r\n"), "400"),
        ("trailer that is a request", chunks("0\r\nGET /x HTTP/1.1\r\n\r\n"), "400"),
        ("Host twice", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".into(), "400"),
        ("Host against target", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n".into(), "400"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), "400"),
        ("NUL", post("A: b\0\r\n"), "400"),
        ("a TLS hello", "\u{16}\u{3}\u{1}\0".into(), "400"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "505"),
        ("CONNECT", "CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n".into(), "501"),
        ("expects more", post("Content-Length: 1\r\nExpect: tea\r\n"), "417"),
        ("many fields", many, "431"),
        ("a long field", long_field, "431"),
        ("a long line", long_line, "414"),
    ];
    serve(|address, _, _| async move {
        for (what, said, want) in &cases {
            let bytes = said.as_bytes();
            for piece in [1, 7, bytes.len()] {
                // One byte at a time takes as long as it takes: the long ones once is enough.
                if bytes.len() > 999 && piece < 99 {
                    continue;
                }
                assert_eq!(
                    status_of(address, bytes.chunks(piece)).await,
                    *want,
                    "{what} by {piece}"
                );
            }
            let next = raw(address, b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n").await;
            assert!(next.starts_with("HTTP/1.1 200 OK"), "behind {what}: {next}");
        }
    });
}

#[test]
fn a_request_given_up_disturbs_no_other() {
    serve(|address, _, answers| async move {
        let client = Client::new(tcp(address), TIMEOUTS);
        let holding = answers.holding.listen();
        or(
            async { client.send(get("/hold")).await.map(drop).unwrap() },
            holding,
        )
        .await;
        answers.held.notify(usize::MAX);
        client.send(get("/ping")).await.unwrap().discard().await;
    });
}

#[test]
fn the_longest_idle_connection_gives_way() {
    serve(|address, _, _| async move {
        let connect = || Async::<TcpStream>::connect(address);
        let mut first = connect().await.unwrap();
        let mut others = Vec::new();
        for _ in 1..HTTP_CONNECTIONS_MAX {
            others.push(connect().await.unwrap());
        }
        let client = Client::new(tcp(address), TIMEOUTS);
        client.send(get("/ping")).await.unwrap().discard().await;
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "closed");
    });
}

#[test]
fn when_all_are_served_the_next_is_told_so() {
    serve(|address, path, answers| async move {
        let hold = || async {
            let mut stream = Async::<TcpStream>::connect(address).await.unwrap();
            let holding = answers.holding.listen();
            stream
                .write_all(b"GET /hold HTTP/1.1\r\nHost: h\r\n\r\n")
                .await
                .unwrap();
            holding.await;
            stream
        };
        let mut held = Vec::new();
        for _ in 0..HTTP_CONNECTIONS_MAX {
            held.push(hold().await);
        }
        for endpoint in [tcp(address), Endpoint::Unix(path)] {
            let client = Client::new(endpoint, TIMEOUTS);
            let mut response = client.send(get("/ping")).await.unwrap();
            assert_eq!(response.status(), 503);
            assert_eq!(response.bytes(99).await.unwrap(), b"too many connections");
        }
        answers.held.notify(usize::MAX);
        let mut byte = [0];
        for stream in &mut held {
            assert_eq!(stream.read(&mut byte).await.unwrap(), 1);
        }
    });
}

#[test]
fn a_stopping_server_ends_what_it_began() {
    for (drain, want) in [
        (SECOND * 9, Ok(200)),
        (Duration::ZERO, Err(ErrorKind::Closed)),
    ] {
        let tcp_listener = Listener::bind_tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let address: SocketAddr = tcp_listener.local_addr().parse().unwrap();
        let answers = Arc::new(Answers::default());
        let handler = Arc::clone(&answers) as Arc<dyn Handler>;
        let server = Server::new(vec![tcp_listener], handler);
        let stop = Event::new();
        let (stopped, holding) = (stop.listen(), answers.holding.listen());
        let (client, ended) = (Client::new(tcp(address), TIMEOUTS), Event::new());
        let serving = async {
            server.run(stopped, drain).await;
            ended.notify(1);
        };
        let asking = async {
            let response = client.send(get("/hold")).await.map_err(|err| err.kind)?;
            assert_eq!(response.header("connection"), Some("close"));
            Ok(response.status())
        };
        let stopping = async {
            holding.await;
            let idle = Async::<TcpStream>::connect(address).await.unwrap();
            let ended = ended.listen();
            stop.notify(1);
            if drain.is_zero() {
                ended.await;
            } else {
                assert_eq!(
                    (&idle).read(&mut [0]).await.unwrap_or(0),
                    0,
                    "closed at once"
                );
                answers.held.notify(1);
            }
        };
        let ((), (got, ())) = block_on(zip(serving, zip(asking, stopping)));
        assert_eq!(got, want);
        assert!(TcpStream::connect(address).is_err());
    }
}

#[test]
fn d_27_s_prx_43_a_stale_socket_is_replaced_and_a_live_one_is_not() {
    let path = std::env::temp_dir().join(format!("helios-http-stale-{}", std::process::id()));
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let live = Listener::bind_unix(&path, 0o600).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&mode) & 0o777,
        0o600
    );
    assert!(matches!(live, Listener::Unix(..)) && live.local_addr() == path.display().to_string());
    assert_eq!(
        Listener::bind_unix(&path, 0o600).unwrap_err().kind(),
        std::io::ErrorKind::AddrInUse
    );
    drop(live);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "a file of somebody else").unwrap();
    assert!(Listener::bind_unix(&path, 0o600).is_err());
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn bodies_and_upgrades_are_passed_on() {
    serve(|address, path, answers| async move {
        // The server is its own upstream for bodies.
        answers
            .upstream
            .set(Client::new(Endpoint::Unix(path), TIMEOUTS))
            .unwrap();
        let client = Client::new(tcp(address), TIMEOUTS);
        let body = vec![b'x'; 100_000];
        for _ in 0..2 {
            let post = Request {
                method: "POST",
                body: Some(&body),
                ..get("/forward")
            };
            let mut response = client.send(post).await.unwrap();
            assert_eq!(
                (response.status(), response.bytes(100_000).await.unwrap()),
                (200, body.clone())
            );
        }
    });
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let upstream = Client::new(tcp(listener.get_ref().local_addr().unwrap()), TIMEOUTS);
    serve(|address, _, answers| async move {
        answers.upstream.set(upstream).unwrap();
        let backwards = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut heard = [0; 1000];
            stream.read(&mut heard).await.unwrap();
            let switched = b"HTTP/1.1 101 Switching Protocols\r\n\r\nearly";
            stream.write_all(switched).await.unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).await.unwrap();
            stream
                .write_all(text.chars().rev().collect::<String>().as_bytes())
                .await
                .unwrap();
        };
        let asks =
            b"GET /switch HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nhel";
        let (heard, ()) = zip(raw(address, asks), backwards).await;
        let head = "HTTP/1.1 101 Switching Protocols|Connection: upgrade|Upgrade: x||";
        assert_eq!(heard, format!("{head}earlyleh"));
    });
}

#[test]
fn exchanges_can_move_between_threads() {
    fn is_send<T: Send>(_: &T) {}
    let client = Client::new(Endpoint::Unix("/nowhere".into()), TIMEOUTS);
    is_send(&client.send(get("/")));
    let server = Server::new(Vec::new(), Arc::new(Answers::default()));
    is_send(&server.run(std::future::ready(()), SECOND));
}
