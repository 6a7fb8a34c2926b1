//! The client against TLS servers, good and bad. `fixtures/make.sh` made their
//! certificates.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use async_io::block_on;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use super::{TIMEOUTS, get};
use crate::http::client::{Client, Endpoint, ErrorKind, Request, Timeouts};
use crate::http::tls::TlsRoots;

const CA: &[u8] = include_bytes!("../fixtures/ca.pem");
const KEY: &[u8] = include_bytes!("../fixtures/key.pem");
const GOOD: &[u8] = include_bytes!("../fixtures/good.pem");

/// How a server with this certificate speaks TLS.
fn config(cert: &[u8]) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = CertificateDer::pem_slice_iter(cert)
        .map(Result::unwrap)
        .collect();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(KEY).unwrap())
        .unwrap();
    Arc::new(config)
}

/// A server that answers every connection with these bytes, each in the way
/// it is told, and the client's port to it.
fn server(cert: &'static [u8], says: &'static [u8], announces_end: bool) -> u16 {
    let config = config(cert);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for tcp in listener.incoming() {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(session, tcp.unwrap());
            if tls.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {
                tls.write_all(says).unwrap();
                if announces_end {
                    tls.conn.send_close_notify();
                }
                tls.flush().unwrap();
                // Closing with bytes unread would reset the connection.
                tls.sock.shutdown(std::net::Shutdown::Write).unwrap();
                while tls.sock.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
            }
        }
    });
    port
}

/// The same with the good certificate, for tests of the way there.
pub fn good_server(says: &'static [u8]) -> u16 {
    server(GOOD, says, true)
}

fn ask(port: u16, host: &str) -> Result<Vec<u8>, (ErrorKind, String)> {
    let roots = Arc::new(TlsRoots::load(Some(CA), None).unwrap());
    let client = Client::new(
        Endpoint::Tls {
            host: host.into(),
            port,
            roots,
        },
        TIMEOUTS,
    );
    let exchange = async { client.send(get("/")).await?.bytes(1_000_000).await };
    block_on(exchange).map_err(|err| (err.kind, err.to_string()))
}

#[test]
fn s_net_06_s_net_08_a_server_must_prove_its_name() {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let because = |kind, why: &str| {
        let said = format!("no secure connection to localhost: {why}");
        Err((kind, said))
    };
    let refused = |why| because(ErrorKind::Tls, why);
    #[rustfmt::skip]
    let cases = [
        (GOOD, Ok(b"ok".to_vec())),
        (include_bytes!("../fixtures/expired.pem").as_slice(), refused("its certificate has expired")),
        (include_bytes!("../fixtures/early.pem"), because(ErrorKind::NotYet, "its certificate is not valid yet; is the clock set?")),
        (include_bytes!("../fixtures/elsewhere.pem"), refused("its certificate is for another name")),
        (include_bytes!("../fixtures/stranger.pem"), refused("its certificate's issuer is not known")),
    ];
    for (cert, want) in cases {
        assert_eq!(ask(server(cert, OK, true), "localhost"), want);
    }
    assert_eq!(ask(server(GOOD, OK, true), "127.0.0.1"), Ok(b"ok".to_vec()));
}

#[test]
fn s_net_18_an_end_must_be_announced() {
    let unframed = b"HTTP/1.1 200 OK\r\n\r\nok";
    assert_eq!(
        ask(server(GOOD, unframed, true), "localhost"),
        Ok(b"ok".to_vec())
    );
    let result = ask(server(GOOD, unframed, false), "localhost");
    assert_eq!(result.unwrap_err().0, ErrorKind::Closed);
}

#[test]
fn large_bodies_pass() {
    let mut says = b"HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n".to_vec();
    says.resize(says.len() + 500_000, b'x');
    assert_eq!(
        ask(server(GOOD, says.leak(), true), "localhost"),
        Ok(vec![b'x'; 500_000])
    );
}

#[test]
fn s_net_07_plain_http_is_named_as_such() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (mut tcp, _) = listener.accept().unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        while tcp.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
    });
    let (kind, text) = ask(port, "localhost").unwrap_err();
    assert_eq!(kind, ErrorKind::Tls);
    assert!(
        text.ends_with("it does not speak TLS; is it plain http?"),
        "{text}"
    );
}

/// A stream that counts what goes through it, both ways.
struct Counted(std::net::TcpStream, Arc<AtomicUsize>);

impl Read for Counted {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let got = self.0.read(room)?;
        self.1.fetch_add(got, Ordering::Relaxed);
        Ok(got)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let got = self.0.write(bytes)?;
        self.1.fetch_add(got, Ordering::Relaxed);
        Ok(got)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn fd_39_an_unchanged_poll_over_a_resumed_session_stays_small() {
    const UNCHANGED: &[u8] =
        b"HTTP/1.1 304 Not Modified\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\n\
        Date: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n";
    let config = config(GOOD);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..3 {
            let count = Arc::new(AtomicUsize::new(0));
            let tcp = Counted(listener.accept().unwrap().0, Arc::clone(&count));
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(session, tcp);
            assert!(tls.read(&mut [0; 4096]).unwrap() > 0);
            tls.write_all(UNCHANGED).unwrap();
            tls.conn.send_close_notify();
            tls.flush().unwrap();
            // To its end, so that all of it is counted.
            while tls.sock.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
            let kind = tls.conn.handshake_kind();
            seen.push((
                kind == Some(HandshakeKind::Resumed),
                count.load(Ordering::Relaxed),
            ));
        }
        seen
    });
    let roots = Arc::new(TlsRoots::load(Some(CA), None).unwrap());
    let endpoint = Endpoint::Tls {
        host: "localhost".into(),
        port,
        roots,
    };
    let client = Client::new(endpoint, TIMEOUTS);
    let key = format!("Bearer {}", "k".repeat(32));
    let headers = [
        ("authorization", key.as_str()),
        ("accept", "application/json"),
        ("if-none-match", "\"0123456789abcdef0123456789abcdef\""),
    ];
    let poll = Request {
        headers: &headers,
        ..get("/device/v3/0123456789abcdef0123456789abcdef/state")
    };
    for _ in 0..3 {
        block_on(async { client.send(poll).await.unwrap().discard().await });
    }
    let seen = server.join().unwrap();
    println!("bytes on the wire: {seen:?}");
    assert!(!seen[0].0, "{seen:?}");
    for (is_resumed, bytes) in &seen[1..] {
        assert!(*is_resumed && *bytes <= 3_277, "{seen:?}");
    }
}

#[test]
fn s_net_07_a_handshake_that_stalls_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let roots = Arc::new(TlsRoots::load(Some(CA), None).unwrap());
    let endpoint = Endpoint::Tls {
        host: "localhost".into(),
        port,
        roots,
    };
    let timeouts = Timeouts {
        tls: std::time::Duration::from_millis(20),
        ..TIMEOUTS
    };
    let err = block_on(Client::new(endpoint, timeouts).send(get("/"))).unwrap_err();
    let want = "no secure connection to localhost: it takes too long";
    assert_eq!(
        (err.kind, err.to_string()),
        (ErrorKind::Timeout, want.into())
    );
}

#[test]
fn roots_are_read_or_refused() {
    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".as_slice();
    #[rustfmt::skip]
    let cases = [
        ("web", None, None, true),
        ("web and own", Some(CA), None, true),
        ("bundle", None, Some(CA), true),
        ("bundle with junk in it", None, Some([junk, CA].concat().leak() as &[u8]), true),
        ("empty bundle", None, Some(b"".as_slice()), false),
        ("empty file", Some(b"".as_slice()), None, false),
        ("junk", Some(junk), None, false),
        ("only a key", Some(KEY), None, false),
    ];
    for (what, extra, system, want) in cases {
        assert_eq!(TlsRoots::load(extra, system).is_ok(), want, "{what}");
    }
}
