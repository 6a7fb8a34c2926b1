//! What a poll costs on the wire: a relay counts what goes through it, both ways.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};

use async_io::block_on;
use helios::http::client::Endpoint;
use helios::http::tls::TlsRoots;
use helios::http::url::Url;
use helios::remote::Backend;
use helios::world::remote::{Polled, Remote as _};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::serve::{KEY, PATIENT, Scratch, UUID};

pub const CA: &[u8] = include_bytes!("../../src/http/fixtures/ca.pem");
const CERT: &[u8] = include_bytes!("../../src/http/fixtures/good.pem");
const CERT_KEY: &[u8] = include_bytes!("../../src/http/fixtures/key.pem");

/// As the real backend answers, an ETag of its length included.
const CHANGED: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nETag: W/\"235-ah2XPzIMTAmsRNLUN9Lq8iBpW0I\"\r\n\
    Content-Length: 2\r\nConnection: close\r\n\r\n{}";
const UNCHANGED: &str = "HTTP/1.1 304 Not Modified\r\nETag: W/\"235-ah2XPzIMTAmsRNLUN9Lq8iBpW0I\"\r\nDate: Mon, 23 Nov 2026 09:33:24 GMT\r\n\
    Vary: Accept-Encoding\r\nConnection: close\r\nKeep-Alive: timeout=5\r\n\r\n";
/// Polls in a month of 31 days, each quarter of an hour.
const POLLS: u64 = 31 * 24 * 4;

fn pass(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut bytes = [0; 16384];
    while let Ok(got @ 1..) = from.read(&mut bytes) {
        count.fetch_add(got as u64, Ordering::SeqCst);
        if to.write_all(&bytes[..got]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A relay to `server`: its address, and the bytes of each connection once it has ended.
fn relay(server: SocketAddr) -> (SocketAddr, Receiver<u64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), channel());
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(server).unwrap());
            let count = Arc::new(AtomicU64::new(0));
            let (back, of_back) = (far.try_clone().unwrap(), near.try_clone().unwrap());
            let its = count.clone();
            let answers = std::thread::spawn(move || pass(back, of_back, &its));
            pass(near, far, &count);
            answers.join().unwrap();
            let _ = tell.send(count.load(Ordering::SeqCst));
        }
    });
    (address, told)
}

fn answer(
    mut stream: impl std::io::Read + std::io::Write,
    says: impl FnOnce(&str) -> &'static str,
) {
    let (mut head, mut bytes) = (Vec::new(), [0; 4096]);
    // A body may be behind it.
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut bytes) {
            Ok(got @ 1..) => head.extend(&bytes[..got]),
            _ => return,
        }
    }
    let _ = stream.write_all(says(&String::from_utf8_lossy(&head)).as_bytes());
    let _ = stream.flush();
}

/// One exchange; the handshake's kind, if it came to one.
pub fn accept(
    mut tcp: TcpStream,
    config: Option<&Arc<ServerConfig>>,
    says: impl FnOnce(&str) -> &'static str,
) -> Option<HandshakeKind> {
    let mut kind = None;
    if let Some(config) = config {
        let session = ServerConnection::new(config.clone()).unwrap();
        let mut tls = StreamOwned::new(session, tcp.try_clone().unwrap());
        answer(&mut tls, says);
        kind = tls.conn.handshake_kind();
        tls.conn.send_close_notify();
        let _ = tls.flush();
    } else {
        answer(&mut tcp, says);
    }
    let _ = tcp.shutdown(Shutdown::Write);
    // Closing with bytes unread would reset the connection.
    while tcp.read(&mut [0; 4096]).is_ok_and(|got| got > 0) {}
    kind
}

/// A server's side with this chain.
pub fn secure(chain: &[u8]) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_slice_iter(chain).map(Result::unwrap);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::from_pem_slice(CERT_KEY).unwrap();
    let config = builder.with_no_client_auth();
    Arc::new(config.with_single_cert(chain.collect(), key).unwrap())
}

/// A backend whose device has its target. Each handshake's kind is told.
fn backend(config: Option<Arc<ServerConfig>>) -> (SocketAddr, Receiver<HandshakeKind>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, (tell, told)) = (listener.local_addr().unwrap(), channel());
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            let kind = accept(tcp.unwrap(), config.as_ref(), |head| {
                if head.contains("if-none-match: W/\"235-") {
                    UNCHANGED
                } else {
                    CHANGED
                }
            });
            if let Some(kind) = kind {
                let _ = tell.send(kind);
            }
        }
    });
    (address, told)
}

/// The bytes of the first poll, and of an unchanged one, the dearest of five.
fn unchanged(poll: &Backend, told: &Receiver<u64>) -> (u64, u64) {
    let Ok(Polled::Changed(document)) = block_on(poll.poll()) else {
        panic!("the first poll brings the target");
    };
    block_on(poll.keep(&document));
    let first = told.recv().unwrap();
    let once = |_| {
        assert!(matches!(block_on(poll.poll()), Ok(Polled::Unchanged)));
        told.recv().unwrap()
    };
    (first, (0..5).map(once).max().unwrap())
}

#[test]
fn issue_6_what_an_unchanged_poll_costs() {
    let (server, _) = backend(None);
    let (address, told) = relay(server);
    let (url, cache) = (
        Url::parse(&format!("http://{address}")).unwrap(),
        Scratch::new(),
    );
    let (host, port) = (url.host().to_owned(), address.port());
    let endpoint = Endpoint::Tcp { host, port };
    let poll = Backend::new(&url, endpoint, PATIENT, (UUID, KEY), &cache.0);
    let (_, plain) = unchanged(&poll, &told);

    let (server, kinds) = backend(Some(secure(CERT)));
    let (address, told) = relay(server);
    let url = Url::parse(&format!("https://127.0.0.1:{}", address.port())).unwrap();
    let roots = Arc::new(TlsRoots::load(Some(CA), None).unwrap());
    let (host, port, cache) = (url.host().to_owned(), address.port(), Scratch::new());
    let endpoint = Endpoint::Tls { host, port, roots };
    let poll = Backend::new(&url, endpoint, PATIENT, (UUID, KEY), &cache.0);
    let (first, secure) = unchanged(&poll, &told);
    let next = || kinds.recv_timeout(PATIENT.head).unwrap();
    let kinds: Vec<_> = (0..6).map(|_| next()).collect();
    assert_eq!(kinds[0], HandshakeKind::Full);
    assert_eq!(kinds[1..], [HandshakeKind::Resumed; 5]);

    // A server may forget sessions each day; the target changes as often then.
    let month = secure * POLLS + first * 31;
    println!("an unchanged poll: {plain} bytes, over TLS {secure}; {month} bytes a month");
    assert!(plain <= 1024, "{plain}");
    assert!(secure <= 3276, "{secure}");
    assert!(month <= 10_000_000, "{month}");
}
