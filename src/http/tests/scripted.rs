//! The client against servers that say what a script says.

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use async_io::{Async, block_on};
use futures_lite::future::zip;
use futures_lite::{AsyncReadExt, AsyncWriteExt};

use super::{SECOND, TIMEOUTS, get, tcp};
use crate::http::client::{Client, ErrorKind, Request, Source, Timeouts};
use crate::limits::{HTTP_INTERIM_MAX, HTTP_REDIRECTS_MAX};

/// What a server does on one connection, request by request.
type Script = &'static [&'static [u8]];

/// Says the script of the connection, each part behind a request's head, and
/// closes behind the last; hands out what it heard.
async fn play(stream: &mut Async<TcpStream>, script: Script) -> String {
    let mut heard = Vec::new();
    for part in script {
        let mut byte = [0];
        let start = heard.len();
        while !heard[start..].ends_with(b"\r\n\r\n") {
            if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                return String::from_utf8(heard).unwrap();
            }
            heard.extend_from_slice(&byte);
        }
        stream.write_all(part).await.unwrap();
    }
    String::from_utf8(heard).unwrap()
}

/// Runs a client against servers that play these scripts, one per connection.
fn against<T>(scripts: &[Script], test: impl AsyncFnOnce(Client) -> T) -> (T, Vec<String>) {
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let client = Client::new(tcp(listener.get_ref().local_addr().unwrap()), TIMEOUTS);
    let server = async {
        let mut heard = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            heard.push(play(&mut stream, script).await);
        }
        heard
    };
    block_on(zip(test(client), server))
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn s_net_12_to_20_responses_are_complete_or_refused() {
    use ErrorKind::{BadMessage, Closed, TooLarge};
    let mut interims = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n".repeat(HTTP_INTERIM_MAX);
    interims.extend_from_slice(OK);
    let mut too_many = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(HTTP_INTERIM_MAX + 1);
    too_many.extend_from_slice(OK);
    #[rustfmt::skip]
    let cases: Vec<(&str, &[u8], Result<&str, ErrorKind>)> = vec![
        ("length", OK, Ok("ok")),
        ("chunked", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Ok("ok")),
        ("trailers", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;x\r\nok\r\n0\r\nA: b\r\n\r\n", Ok("ok")),
        ("only the last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Ok("")),
        ("until close", b"HTTP/1.0 200 OK\r\n\r\nok", Ok("ok")),
        ("until close, nothing", b"HTTP/1.1 200 OK\r\n\r\n", Ok("")),
        ("more than the length", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay", Ok("ok")),
        ("interim", &interims, Ok("ok")),
        ("too many interims", &too_many, Err(BadMessage)),
        ("switches unasked", b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", Err(BadMessage)),
        ("no answer", b"", Err(Closed)),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le", Err(Closed)),
        ("short length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", Err(Closed)),
        ("no last chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Err(Closed)),
        ("no last line", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n", Err(Closed)),
        ("bad chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+2\r\nok\r\n0\r\n\r\n", Err(BadMessage)),
        ("no HTTP", b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Err(BadMessage)),
        ("HTTP/2", b"HTTP/2.0 200 OK\r\n\r\n", Err(BadMessage)),
        ("large body", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", Err(TooLarge)),
        // 5 in 32 bits.
        ("a body of 4 GiB", b"HTTP/1.1 200 OK\r\nContent-Length: 4294967301\r\n\r\nhello", Err(TooLarge)),
        ("a chunk of 4 GiB", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000005\r\nhello", Err(Closed)),
        ("large chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nb\r\n12345678901\r\n0\r\n\r\n", Err(TooLarge)),
        ("gzip", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 22\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0\0\0", Ok("ok")),
        ("gzip, chunked", b"HTTP/1.1 200 OK\r\nContent-Encoding: x-GZIP\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n\x1f\x8b\x08\r\n13\r\n\0\0\0\0\0\0\x03\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0\0\0\r\n0\r\n\r\n", Ok("ok")),
        ("gzip, empty", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Ok("")),
        ("gzip, cut short", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n\x1f\x8b\x08\0\0\0\0\0\0\x03\xcb\xcf\x06\0\x47\xdd\xdc\x79\x02\0", Err(Closed)),
        ("gzip that is not", b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", Err(BadMessage)),
        ("identity", b"HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nContent-Length: 2\r\n\r\nok", Ok("ok")),
        ("a coding not offered", b"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 2\r\n\r\nok", Err(BadMessage)),
    ];
    for (what, script, want) in cases {
        let script: Script = Vec::leak(vec![script.to_vec().leak() as &[u8]]);
        let (got, _) = against(&[script], async |client| {
            client.send(get("/")).await?.bytes(10).await
        });
        let got = got
            .map(|body| String::from_utf8(body).unwrap())
            .map_err(|err| err.kind);
        assert_eq!(got, want.map(String::from), "{what}");
    }
}

#[test]
fn what_is_said_is_one_proper_request() {
    let (_, heard) = against(&[&[OK]], async |client| {
        let headers = [("X-A", "b"), ("host", "other")];
        let post = Request {
            method: "POST",
            headers: &headers,
            ..get("/a?b")
        };
        client.send(post).await.unwrap().discard().await;
    });
    let version = env!("CARGO_PKG_VERSION");
    let want = format!(
        "POST /a?b HTTP/1.1\r\nUser-Agent: helios/{version}\r\nAccept-Encoding: gzip\r\n\
         Content-Length: 0\r\nX-A: b\r\nhost: other\r\n\r\n"
    );
    assert_eq!(heard, [want]);
    let client = Client::new(tcp(([127, 0, 0, 1], 1).into()), TIMEOUTS);
    let line_break = [("A", "b\r\nC: d")];
    let framed = [("Content-length", "5")];
    let cases = [
        Request {
            method: "GE T",
            ..get("/")
        },
        Request {
            method: "",
            ..get("/")
        },
        get("/a b"),
        get("/a\r\nX: y"),
        get("/#"),
        get("a"),
        get(""),
        get("http://h/"),
        Request {
            headers: &[("A B", "c")],
            ..get("/")
        },
        Request {
            headers: &line_break,
            ..get("/")
        },
        Request {
            headers: &framed,
            ..get("/")
        },
    ];
    for request in cases {
        let err = block_on(client.send(request)).unwrap_err();
        assert_eq!(err.kind, ErrorKind::Invalid, "{request:?}");
    }
    let err = block_on(client.send(get("/secret"))).unwrap_err();
    assert_eq!(err.kind, ErrorKind::Connect);
    assert!(
        err.to_string()
            .starts_with("cannot connect to 127.0.0.1:1: "),
        "{err}"
    );
}

#[test]
fn s_net_11_only_what_is_safe_is_tried_again() {
    // The second request finds a connection that closes without an answer.
    let scripts: [Script; 2] = [&[OK, b""], &[OK]];
    let (_, heard) = against(&scripts, async |client| {
        for _ in 0..2 {
            assert_eq!(
                client.send(get("/")).await.unwrap().bytes(2).await.unwrap(),
                b"ok"
            );
        }
    });
    assert_eq!(heard.len(), 2);
    let (_, heard) = against(&scripts, async |client| {
        client.send(get("/")).await.unwrap().discard().await;
        let post = Request {
            method: "POST",
            body: Some(b"x"),
            ..get("/post")
        };
        assert_eq!(client.send(post).await.unwrap_err().kind, ErrorKind::Closed);
        client.send(get("/later")).await.unwrap().discard().await;
    });
    assert!(heard[1].starts_with("GET /later"), "{heard:?}");
}

#[test]
fn s_net_14_s_net_25_a_connection_is_only_kept_when_nothing_speaks_against_it() {
    let scripts: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nKeep-Alive: timeout=1, max=9\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    ];
    for script in scripts {
        // Were it kept, the first connection would be used for both.
        let script: Script = vec![script, OK].leak();
        let (_, heard) = against(&[script, &[OK]], async |client| {
            for _ in 0..2 {
                assert_eq!(
                    client.send(get("/")).await.unwrap().bytes(9).await.unwrap(),
                    b"ok"
                );
            }
        });
        assert_eq!(
            heard
                .iter()
                .map(|one| one.matches("GET").count())
                .collect::<Vec<_>>(),
            [1, 1],
            "{script:?}"
        );
    }
}

#[test]
fn s_net_09_s_net_10_s_net_24_silence_ends() {
    let short = Duration::from_millis(20);
    let timeouts = Timeouts {
        head: short,
        idle: short,
        ..TIMEOUTS
    };
    let total = Timeouts {
        total: Some(short),
        head: SECOND,
        idle: SECOND,
        ..timeouts
    };
    let scripts: [&[u8]; 3] = [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
    ];
    for script in scripts {
        for timeouts in [timeouts, total] {
            let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
            let client = Client::new(tcp(listener.get_ref().local_addr().unwrap()), timeouts);
            let server = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.write_all(script).await.unwrap();
                stream
            };
            let ask = async { client.send(get("/")).await?.bytes(9).await };
            let (got, _open) = block_on(zip(ask, server));
            assert_eq!(got.unwrap_err().kind, ErrorKind::Timeout);
        }
    }
}

#[test]
fn bodies_can_come_in_pieces() {
    struct Pieces(Vec<&'static [u8]>);
    impl Source for Pieces {
        fn next(&mut self) -> crate::http::client::Piece<'_> {
            Box::pin(async { Ok(self.0.pop()) })
        }
    }
    let pieces = || Pieces(vec![b"three", b"", b"two"]);
    let post = Request {
        method: "POST",
        ..get("/")
    };
    for (length, want) in [
        (Some(8), true),
        (None, true),
        (Some(7), false),
        (Some(9), false),
    ] {
        let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
        let client = Client::new(tcp(listener.get_ref().local_addr().unwrap()), TIMEOUTS);
        let end = if length.is_some() {
            "twothree"
        } else {
            "3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
        };
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut heard, mut byte) = (Vec::new(), [0]);
            while !heard.ends_with(end.as_bytes()) && stream.read(&mut byte).await.unwrap_or(0) > 0
            {
                heard.extend_from_slice(&byte);
            }
            stream.write_all(OK).await.ok();
        };
        let mut pieces = pieces();
        let ask = async {
            let result = client.send_from(post, length, &mut pieces).await;
            result
                .map(|response| response.status())
                .map_err(|err| err.kind)
        };
        let want = if want {
            Ok(200)
        } else {
            Err(ErrorKind::Invalid)
        };
        assert_eq!(block_on(zip(ask, server)).0, want, "{length:?}");
    }
}

/// Asks for `/a/b` with a key and follows; what came of it, and what was heard.
fn led_by(scripts: &[Script]) -> (Result<(u16, String), ErrorKind>, Vec<String>) {
    against(scripts, async |client| {
        let key = [("Authorization", "secret")];
        let request = Request {
            headers: &key,
            ..get("/a/b")
        };
        let no_roots = || Err("nobody is trusted here".into());
        let result = async {
            let mut response = client.get(request, &no_roots).await?;
            let body = response.bytes(99).await?;
            Ok((response.status(), String::from_utf8(body).unwrap()))
        };
        result.await.map_err(|err: crate::http::Error| err.kind)
    })
}

#[test]
fn r_http_8_s_net_23_redirects_are_followed_so_far() {
    const ROUND: Script = &[b"HTTP/1.1 302 Found\r\nLocation: b\r\nContent-Length: 0\r\n\r\n"];
    for status in ["301", "302", "303", "307", "308"] {
        let to = format!("HTTP/1.1 {status} x\r\nLocation: ../c?d\r\nContent-Length: 3\r\n\r\nbye");
        let first: Script = vec![to.into_bytes().leak() as &[u8]].leak();
        let (got, heard) = led_by(&[first, &[OK]]);
        assert_eq!(got, Ok((200, "ok".into())), "{status}");
        assert!(heard[1].starts_with("GET /c?d HTTP/1.1\r\n"), "{heard:?}");
        assert!(heard[1].contains("Authorization: secret"), "{heard:?}");
    }
    let most = [&[ROUND; HTTP_REDIRECTS_MAX][..], &[&[OK]]].concat();
    assert_eq!(led_by(&most).0, Ok((200, "ok".into())));
    let loops = [ROUND; HTTP_REDIRECTS_MAX + 1];
    assert_eq!(led_by(&loops).0, Err(ErrorKind::BadMessage));
    #[rustfmt::skip]
    let stays: [(&[u8], Result<u16, ErrorKind>); 5] = [
        (b"HTTP/1.1 301 x\r\nContent-Length: 0\r\n\r\n", Ok(301)),
        (b"HTTP/1.1 301 x\r\nLocation: ftp://h/\r\nContent-Length: 0\r\n\r\n", Ok(301)),
        (b"HTTP/1.1 304 x\r\nLocation: /c\r\n\r\n", Ok(304)),
        (b"HTTP/1.1 300 x\r\nLocation: /c\r\nContent-Length: 0\r\n\r\n", Ok(300)),
        (b"HTTP/1.1 301 x\r\nLocation: https://localhost:1/c\r\nContent-Length: 0\r\n\r\n", Err(ErrorKind::Tls)),
    ];
    for (script, want) in stays {
        let script: Script = vec![script].leak();
        let got = led_by(&[script]).0.map(|(status, _)| status);
        assert_eq!(got, want, "{}", String::from_utf8_lossy(script[0]));
    }
}

#[test]
fn r_http_8_another_server_is_not_told_the_key() {
    let listener = Async::<TcpListener>::bind(([127, 0, 0, 1], 0)).unwrap();
    let port = listener.get_ref().local_addr().unwrap().port();
    let to =
        format!("HTTP/1.1 301 x\r\nLocation: //127.0.0.1:{port}/c\r\nContent-Length: 0\r\n\r\n");
    let first: Script = vec![to.into_bytes().leak() as &[u8]].leak();
    let other = std::thread::spawn(move || {
        block_on(async {
            let (mut stream, _) = listener.accept().await.unwrap();
            play(&mut stream, &[OK]).await
        })
    });
    assert_eq!(led_by(&[first]).0, Ok((200, "ok".into())));
    let heard = other.join().unwrap();
    assert!(heard.starts_with("GET /c HTTP/1.1\r\n"), "{heard}");
    assert!(!heard.contains("secret"), "{heard}");
}
