//! Faults of the transport (remote-api 10.9) against the client of polls and reports: what it
//! makes of each, that nothing of the last good answer is lost, and that the next exchange
//! works. The finer points of framing are in `src/http/tests`.

use async_io::block_on;
use helios::http::client::{Endpoint, Timeouts};
use helios::http::url::Url;
use helios::remote::Backend;
use helios::world::remote::{Polled, Remote as _, RemoteKind};

use crate::serve::{KEY, PATIENT, SHORT, Say, Scratch, Server, UUID, client};

const GOOD: &str = "HTTP/1.1 200 OK\r\nETag: W/\"1\"\r\nContent-Length: 4\r\n\r\n{\"1\"";
const LATER: RemoteKind = RemoteKind::Later(None);

/// These bytes on a connection of their own.
fn bytes(text: &str) -> Say {
    let mut text = text.to_owned();
    // What comes next must not meet its end on the way.
    let line = text
        .find("\r\n")
        .filter(|_| text.starts_with("HTTP/1.1 ") && !text.contains(" 101 "));
    if let Some(at) = line {
        text.insert_str(at, "\r\nConnection: close");
    }
    Say::Bytes(text.into_bytes())
}

/// An answer with this head and body, and no word about the length.
fn ok(fields: &str, body: &[u8]) -> Say {
    let mut all = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{fields}\r\n").into_bytes();
    all.extend(body);
    Say::Bytes(all)
}

fn gzip_bomb() -> Vec<u8> {
    let mut bytes = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    bytes.extend(miniz_oxide::deflate::compress_to_vec(
        &vec![b' '; 64 << 20],
        9,
    ));
    bytes
}

/// Each fault hits a poll of a device that has a target, and a report.
struct Victim {
    server: Server,
    poll: Backend,
    _cache: Scratch,
}

impl Victim {
    fn new(timeouts: Timeouts) -> Victim {
        let (server, cache) = (Server::start(), Scratch::new());
        let poll = client(server.address, timeouts, UUID, &cache);
        let victim = Victim {
            server,
            poll,
            _cache: cache,
        };
        victim.server.say(bytes(
            "HTTP/1.1 200 OK\r\nETag: W/\"1\"\r\nContent-Length: 2\r\n\r\n{}",
        ));
        let Ok(Polled::Changed(document)) = block_on(victim.poll.poll()) else {
            panic!("the first poll");
        };
        block_on(victim.poll.keep(&document));
        victim.server.heard.recv().unwrap();
        victim
    }

    /// What it comes to; the next poll works, and is conditional: nothing was lost.
    fn suffers(&self, poll: Say, report: Say) -> (Result<(), RemoteKind>, Result<(), RemoteKind>) {
        self.server.say(poll);
        let said = |error: helios::world::remote::RemoteError| {
            assert!(
                !error.said.is_empty() && !error.said.contains(KEY),
                "{error}"
            );
            assert!(!error.said.contains('\n'), "one line: {error}");
            error.kind
        };
        let polled = block_on(self.poll.poll()).map(drop).map_err(said);
        self.server.say(report);
        let reported = block_on(self.poll.report(b"{}")).map_err(said);
        while self.server.heard.try_recv().is_ok() {}
        self.server.say(bytes(
            "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: W/\"1\"\r\n\r\n",
        ));
        // Of a peer that was never heard, the word comes late.
        let next = block_on(self.poll.poll()).unwrap();
        assert!(matches!(next, Polled::Unchanged), "{next:?}");
        let heard = self
            .server
            .heard
            .iter()
            .find(|heard| heard.starts_with("GET"))
            .unwrap();
        assert!(heard.contains("if-none-match: W/\"1\""), "{heard}");
        let kept = block_on(self.poll.cached()).unwrap();
        assert_eq!(kept, b"{}", "the last target is kept");
        (polled, reported)
    }
}

#[test]
fn s_net_11_to_28_what_is_broken_is_tried_again_and_loses_nothing() {
    let victim = Victim::new(PATIENT);
    let head = |count: usize, long: usize| {
        let field = format!("X-Filler: {}\r\n", "x".repeat(long));
        ok(&field.repeat(count), b"")
    };
    let unreadable = RemoteKind::Unreadable;
    #[rustfmt::skip]
    let rows: Vec<(&str, Box<dyn Fn() -> Say>, RemoteKind)> = vec![
        ("S-NET-11 an end without a word", Box::new(|| Say::End), LATER),
        ("S-NET-12 a reset", Box::new(|| Say::Reset), LATER),
        ("S-NET-12 an end within the head", Box::new(|| bytes("HTTP/1.1 200 OK\r\nETag: W/\"2\"\r\nCont")), LATER),
        ("S-NET-12 an end within the body", Box::new(|| bytes(&GOOD[..GOOD.len() - 1])), LATER),
        ("S-NET-13 a length that is too large", Box::new(|| bytes("HTTP/1.1 200 OK\r\nETag: W/\"2\"\r\nContent-Length: 9\r\n\r\n{}")), LATER),
        ("S-NET-15 lengths that differ", Box::new(|| ok("Content-Length: 2\r\nContent-Length: 3\r\n", b"{}")), LATER),
        ("S-NET-15 a length that is none", Box::new(|| ok("Content-Length: +2\r\n", b"{}")), LATER),
        ("S-NET-15 a length beyond measure", Box::new(|| ok("Content-Length: 1000000000000000000000000000000\r\n", b"{}")), LATER),
        ("S-NET-16 a bad chunk", Box::new(|| ok("Transfer-Encoding: chunked\r\n", b"zz\r\n{}\r\n0\r\n\r\n")), LATER),
        ("S-NET-16 no last chunk", Box::new(|| ok("Transfer-Encoding: chunked\r\n", b"2\r\n{}\r\n")), LATER),
        ("S-NET-16 huge trailers", Box::new(|| ok("Transfer-Encoding: chunked\r\n", format!("2\r\n{{}}\r\n0\r\n{}\r\n", "A: b\r\n".repeat(20_000)).as_bytes())), LATER),
        ("S-NET-19 101 unasked", Box::new(|| bytes("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n")), LATER),
        ("S-NET-20 HTTP/2", Box::new(|| bytes("HTTP/2.0 200 OK\r\n\r\n")), LATER),
        ("S-NET-20 no version", Box::new(|| bytes("200 OK\r\n\r\n")), LATER),
        ("S-NET-21 many fields", Box::new(move || head(100_000, 1)), unreadable),
        ("S-NET-21 one large field", Box::new(move || head(1, 1 << 20)), unreadable),
        ("S-NET-22 garbage", Box::new(|| Say::Bytes((0..4096_u32).map(|at| (at * 7 + 3).to_le_bytes()[0]).collect())), LATER),
        ("S-NET-28 no gzip", Box::new(|| ok("Content-Encoding: gzip\r\nContent-Length: 2\r\n", b"{}")), LATER),
        ("S-POLL-36 a coding that was not offered", Box::new(|| ok("Content-Encoding: zstd\r\nContent-Length: 2\r\n", b"{}")), LATER),
        ("S-POLL-13 500", Box::new(|| bytes("HTTP/1.1 500 Huh\r\nContent-Length: 0\r\n\r\n")), LATER),
        ("408", Box::new(|| bytes("HTTP/1.1 408 Huh\r\nContent-Length: 0\r\n\r\n")), LATER),
        ("S-POLL-15 429 with seconds", Box::new(|| bytes("HTTP/1.1 429 Huh\r\nRetry-After: abc\r\nRetry-After: 30\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Later(Some(std::time::Duration::from_secs(30)))),
        ("S-POLL-16 429 with a date", Box::new(|| bytes("HTTP/1.1 429 Huh\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nRetry-After: Sun, 06 Nov 1994 08:49:57 GMT\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Later(Some(std::time::Duration::from_secs(20)))),
        ("S-POLL-14 401", Box::new(|| bytes("HTTP/1.1 401 Huh\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Unauthorized),
        ("S-POLL-14 403", Box::new(|| bytes("HTTP/1.1 403 Huh\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Refused(403)),
        ("S-POLL-14 410", Box::new(|| bytes("HTTP/1.1 410 Huh\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Refused(410)),
        ("S-NET-23 a redirect to nowhere", Box::new(|| bytes("HTTP/1.1 302 Huh\r\nContent-Length: 0\r\n\r\n")), RemoteKind::Refused(302)),
    ];
    for (what, say, want) in rows {
        let (polled, reported) = victim.suffers(say(), say());
        assert_eq!((polled, reported), (Err(want), Err(want)), "{what}");
    }
    // Answers to a poll alone: a report takes no document.
    let accepted = || bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    let large = vec![b' '; helios::limits::TARGET_BYTES_MAX + 1];
    #[rustfmt::skip]
    let rows: Vec<(&str, Say, RemoteKind)> = vec![
        ("S-NET-27 a captive portal", ok("Content-Type: text/html\r\nContent-Length: 13\r\n", b"<html></html>"), unreadable),
        ("S-POLL-33 trailing garbage", ok("Content-Length: 4\r\n", b"{} x"), unreadable),
        ("S-POLL-33 a byte order mark", ok("Content-Length: 5\r\n", b"\xef\xbb\xbf{}"), unreadable),
        ("S-POLL-33 no UTF-8", ok("Content-Length: 4\r\n", b"\"\xff\xfe\""), unreadable),
        ("S-POLL-33 half a document", ok("Content-Length: 5\r\n", b"{\"a\":"), unreadable),
        ("S-POLL-32 a huge body", ok(&format!("Content-Length: {}\r\n", large.len()), &large), unreadable),
        ("S-POLL-31 a bomb", ok("Content-Encoding: gzip\r\n", &gzip_bomb()), unreadable),
    ];
    for (what, say, want) in rows {
        let (polled, reported) = victim.suffers(say, accepted());
        assert_eq!((polled, reported), (Err(want), Ok(())), "{what}");
    }
}

#[test]
fn s_net_14_to_20_what_is_odd_and_whole_is_taken() {
    #[rustfmt::skip]
    let rows: Vec<(&str, Say)> = vec![
        ("S-NET-14 more than the length", ok("Content-Length: 3\r\n", b"[1]more")),
        ("S-NET-15 equal lengths", ok("Content-Length: 3\r\nContent-Length: 3\r\n", b"[1]")),
        ("S-NET-17 trailers", ok("Transfer-Encoding: chunked\r\n", b"3\r\n[1]\r\n0\r\nA: b\r\n\r\n")),
        ("S-NET-18 until the end", ok("Connection: close\r\n", b"[1]")),
        ("S-NET-19 100 and 103", bytes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[1]")),
        ("S-NET-20 an old one", bytes("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n[1]")),
        ("S-NET-20 no reason", bytes("HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n[1]")),
    ];
    for (what, say) in rows {
        let (server, cache) = (Server::start(), Scratch::new());
        let backend = client(server.address, PATIENT, UUID, &cache);
        server.say(say);
        match block_on(backend.poll()) {
            Ok(Polled::Changed(document)) => assert_eq!(&*document, b"[1]", "{what}"),
            other => panic!("{what}: {other:?}"),
        }
        // None of these connections is used again but the one with trailers.
        if !what.contains("trailers") {
            server.say(bytes("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n[2]"));
            assert!(
                matches!(block_on(backend.poll()), Ok(Polled::Changed(_))),
                "{what}"
            );
        }
    }
}

#[test]
fn s_net_09_10_24_a_silent_peer_is_given_up() {
    let victim = Victim::new(SHORT);
    for say in [
        || Say::Stall(Vec::new()),
        || Say::Stall(b"HTTP/1.1 200 OK\r\nX".to_vec()),
        || Say::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec()),
        || Say::Stall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n".to_vec()),
    ] {
        victim.server.say(say());
        let polled = block_on(victim.poll.poll()).unwrap_err();
        assert_eq!(polled.kind, LATER);
        assert!(polled.said.contains("silent"), "{polled}");
        victim.server.say(say());
        assert_eq!(block_on(victim.poll.report(b"{}")).unwrap_err().kind, LATER);
    }
}

/// R-POLL-5: a wish drops the poll that is in flight, and with it its connection.
#[test]
fn s_poll_26_a_poll_that_is_given_up_a_thousand_times_leaves_nothing_behind() {
    let victim = Victim::new(PATIENT);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    for round in 0..1000 {
        victim.server.say(Say::Stall(match round % 3 {
            0 => Vec::new(),
            1 => b"HTTP/1.1 200 OK\r\nX".to_vec(),
            _ => b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_vec(),
        }));
        let heard = async {
            // The request is there: the poll is in flight.
            let server = &victim.server;
            while server.heard.try_recv().is_err() {
                futures_lite::future::yield_now().await;
            }
            None
        };
        let poll = async { Some(victim.poll.poll().await) };
        let first = block_on(futures_lite::future::or(poll, heard));
        assert!(first.is_none(), "it is given up: {first:?}");
    }
    // The server serves one connection after the other: each was closed. Others run beside.
    assert!(open() < before + 200, "{before} and {}", open());
    victim
        .server
        .say(bytes("HTTP/1.1 304 Not Modified\r\nETag: W/\"1\"\r\n\r\n"));
    assert!(matches!(
        block_on(victim.poll.poll()),
        Ok(Polled::Unchanged)
    ));
}

/// What is offered is gzip, and whatever the framing, five megabytes come out as they were.
#[test]
fn s_poll_30_a_large_target_in_each_framing() {
    let mut random = fastrand::Rng::with_seed(30);
    let mut document = br#"{"a":""#.to_vec();
    document.extend((0..5_000_000).map(|_| random.alphanumeric() as u8));
    document.extend(br#""}"#);
    let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    gzip.extend(miniz_oxide::deflate::compress_to_vec(&document, 6));
    let mut crc = !0u32;
    for byte in &document {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    gzip.extend((!crc).to_le_bytes());
    gzip.extend(u32::try_from(document.len()).unwrap().to_le_bytes());
    let chunked = |body: &[u8]| {
        let mut wire = Vec::new();
        for chunk in body.chunks(70_001) {
            wire.extend(format!("{:x}\r\n", chunk.len()).bytes());
            wire.extend(chunk);
            wire.extend(b"\r\n");
        }
        wire.extend(b"0\r\n\r\n");
        wire
    };
    let coded = "Content-Encoding: gzip\r\n";
    let length = |body: &[u8]| format!("Content-Length: {}\r\n", body.len());
    let in_chunks = "Transfer-Encoding: chunked\r\n";
    for (what, say) in [
        ("plain", ok(&length(&document), &document)),
        ("plain, chunked", ok(in_chunks, &chunked(&document))),
        ("gzip", ok(&format!("{coded}{}", length(&gzip)), &gzip)),
        (
            "gzip, chunked",
            ok(&format!("{coded}{in_chunks}"), &chunked(&gzip)),
        ),
    ] {
        let (server, cache) = (Server::start(), Scratch::new());
        let backend = client(server.address, PATIENT, UUID, &cache);
        server.say(say);
        match block_on(backend.poll()) {
            Ok(Polled::Changed(found)) => assert!(*found == *document, "{what}"),
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// A listener whose queue is full answers no SYN.
#[test]
fn s_net_05_a_peer_that_swallows_connections_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut queue = Vec::new();
    let soon = std::time::Duration::from_millis(100);
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, soon) {
        queue.push(stream);
        assert!(queue.len() < 64, "the queue has an end");
    }
    let timeouts = Timeouts {
        connect: std::time::Duration::from_millis(50),
        ..PATIENT
    };
    let cache = Scratch::new();
    let backend = client(address, timeouts, UUID, &cache);
    let error = block_on(backend.poll()).unwrap_err();
    assert_eq!(error.kind, LATER);
    assert!(error.said.contains("connect"), "{error}");
    assert_eq!(block_on(backend.report(b"{}")).unwrap_err().kind, LATER);
}

/// What is small gets through, what is large does not: the path swallows full packets.
#[test]
fn s_net_32_a_peer_that_takes_no_large_report_is_given_up() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let accepting = std::thread::spawn(move || listener.accept().unwrap());
    let cache = Scratch::new();
    let backend = client(address, SHORT, UUID, &cache);
    let error = block_on(backend.report(&vec![b' '; 32 << 20])).unwrap_err();
    assert_eq!(error.kind, LATER, "{error}");
    drop(accepting.join());
}

#[test]
fn s_net_01_03_31_nobody_there_is_tried_again_without_a_trace() {
    let cache = Scratch::new();
    // Bound and gone: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let backend = client(address, PATIENT, UUID, &cache);
    let open = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let once = || {
        let error = block_on(backend.poll()).unwrap_err();
        assert_eq!(error.kind, LATER);
        assert!(error.said.contains("127.0.0.1"), "{error}");
        assert_eq!(block_on(backend.report(b"{}")).unwrap_err().kind, LATER);
    };
    once();
    let before = open();
    (0..1000).for_each(|_| once());
    // Other tests run beside this one.
    assert!(open() < before + 200, "{before} and {}", open());

    let url = Url::parse("http://no-such-host.invalid").unwrap();
    let endpoint = Endpoint::Tcp {
        host: url.host().to_owned(),
        port: 80,
    };
    let backend = Backend::new(&url, endpoint, PATIENT, (UUID, KEY), &cache.0);
    let error = block_on(backend.poll()).unwrap_err();
    assert_eq!(error.kind, LATER);
    assert!(error.said.contains("no-such-host.invalid"), "{error}");
}

#[test]
fn s_net_33_an_ipv6_literal_works() {
    let Some(server) = Server::at("[::1]:0") else {
        println!("this machine has no IPv6");
        return;
    };
    let cache = Scratch::new();
    let backend = client(server.address, PATIENT, UUID, &cache);
    server.say(bytes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"));
    assert!(matches!(block_on(backend.poll()), Ok(Polled::Changed(_))));
    let heard = server.heard.recv().unwrap();
    assert!(heard.contains("Host: [::1]:"), "{heard}");
}

#[test]
fn s_net_23_a_report_is_never_led_elsewhere_and_says_where() {
    let victim = Victim::new(PATIENT);
    let to = format!("http://{}/elsewhere?key=x", victim.server.address);
    victim.server.say(bytes(&format!(
        "HTTP/1.1 307 Huh\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
    )));
    let error = block_on(victim.poll.report(b"{}")).unwrap_err();
    assert_eq!(error.kind, RemoteKind::Refused(307));
    assert!(
        error.said.contains("/elsewhere") && !error.said.contains("key=x"),
        "{error}"
    );
}

/// R-POLL-6, R-POLL-7, S-POLL-05, S-POLL-06.
#[test]
fn r_poll_6_r_poll_7_s_poll_03_to_06_conditions_follow_what_is_known() {
    let (server, cache) = (Server::start(), Scratch::new());
    let backend = client(server.address, PATIENT, UUID, &cache);
    // What it comes to, and of each request whether it had a condition.
    let poll = |answers: &[&str]| {
        answers.iter().for_each(|answer| server.say(bytes(answer)));
        let polled = block_on(backend.poll()).unwrap();
        let heard = answers.iter().map(|_| server.heard.recv().unwrap());
        let asked: Vec<bool> = heard.map(|one| one.contains("if-none-match")).collect();
        (polled, asked)
    };
    let unknown = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n";
    let unchanged = "HTTP/1.1 304 Not Modified\r\nConnection: close\r\nETag: W/\"1\"\r\n\r\n";
    let good =
        "HTTP/1.1 200 OK\r\nETag: W/\"1\"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let (polled, asked) = poll(&[unknown]);
    assert!(matches!(polled, Polled::UnknownDevice) && asked == [false]);
    let (polled, _) = poll(&[good]);
    assert!(matches!(polled, Polled::Changed(_)));
    let (polled, asked) = poll(&[unchanged]);
    assert!(matches!(polled, Polled::Unchanged) && asked == [true]);
    // Without a name for what was not modified it is asked once more, without a condition:
    // the device was deleted or frozen, and is asked for in full until it is back.
    let (polled, asked) = poll(&[unknown, unknown]);
    assert!(matches!(polled, Polled::UnknownDevice) && asked == [true, false]);
    let (polled, asked) = poll(&[unknown]);
    assert!(matches!(polled, Polled::UnknownDevice) && asked == [false]);
    let (polled, asked) = poll(&[good]);
    assert!(
        matches!(polled, Polled::Unchanged) && asked == [false],
        "the target is still the one that was handed out"
    );
    // Or something between us has taken the name away.
    let (polled, asked) = poll(&[unknown, good]);
    assert!(matches!(polled, Polled::Unchanged) && asked == [true, false]);
    // The same under another ETag is no change (S-POLL-04).
    let (polled, asked) = poll(&[
        "HTTP/1.1 200 OK\r\nETag: W/\"2\"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
    ]);
    assert!(matches!(polled, Polled::Unchanged) && asked == [true]);
    // Somebody doubts that the device is known: once without a condition.
    backend.doubt();
    let (polled, asked) = poll(&[good]);
    assert!(matches!(polled, Polled::Unchanged) && asked == [false]);
    let (_, asked) = poll(&[unchanged]);
    assert_eq!(asked, [true]);
    // Without ETag nothing is known to ask with (S-POLL-05).
    let (polled, _) =
        poll(&["HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\n{ } "]);
    assert!(matches!(polled, Polled::Changed(_)));
    let (polled, asked) = poll(&[unknown]);
    assert!(matches!(polled, Polled::UnknownDevice) && asked == [false]);
    let (_, _) = poll(&[
        "HTTP/1.1 200 OK\r\nETag: W/\"3\"\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]",
    ]);
    backend.forget();
    let (polled, asked) = poll(&[unknown]);
    assert!(
        matches!(polled, Polled::UnknownDevice) && asked == [false],
        "R-POLL-7"
    );
}
