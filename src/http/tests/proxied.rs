//! The client behind an HTTP proxy.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use async_io::block_on;

use super::{TIMEOUTS, get};
use crate::http::client::{Client, Endpoint, ErrorKind};
use crate::http::proxy::Proxy;

/// The head of a request, byte by byte, so that nothing behind it is taken.
fn head(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            break;
        }
        bytes.push(byte[0]);
    }
    String::from_utf8(bytes).unwrap()
}

/// A proxy that says `answer` to one request and, if there is one, becomes a tunnel to `port`.
fn proxy(answer: &'static str, port: Option<u16>) -> (Arc<Proxy>, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        tell.send(head(&mut client)).unwrap();
        client.write_all(answer.as_bytes()).unwrap();
        let Some(port) = port else { return };
        let mut server = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut to));
        let _ = std::io::copy(&mut server, &mut client);
    });
    let proxy = Proxy {
        host: address.ip().to_string(),
        port: address.port(),
        authorization: Some("Basic dTpw".into()),
    };
    (Arc::new(proxy), told)
}

fn ask(to: Endpoint, proxy: Arc<Proxy>) -> Result<Vec<u8>, (ErrorKind, String)> {
    let to = Arc::new(to);
    let client = Client::new(Endpoint::Proxied { to, proxy }, TIMEOUTS);
    let exchange = async { client.send(get("/x")).await?.bytes(1_000).await };
    block_on(exchange).map_err(|err| (err.kind, err.to_string()))
}

/// A name that nobody looks up: that is the proxy's business.
fn plain() -> Endpoint {
    Endpoint::Tcp {
        host: "backend.example.test".into(),
        port: 8080,
    }
}

#[test]
fn s_net_34_plain_http_is_asked_for_whole() {
    let (proxy, told) = proxy("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", None);
    assert_eq!(ask(plain(), proxy), Ok(b"ok".to_vec()));
    let asked = told.recv().unwrap();
    assert!(
        asked.starts_with("GET http://backend.example.test:8080/x HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("\r\nHost: backend.example.test:8080\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("\r\nProxy-Authorization: Basic dTpw\r\n"),
        "{asked}"
    );
}

#[cfg(feature = "tls")]
#[test]
fn s_net_34_d_36_https_goes_through_a_tunnel_and_proves_its_name() {
    use crate::http::tls::TlsRoots;
    let tls = |host: &str| {
        let ca = include_bytes!("../fixtures/ca.pem");
        let roots = Arc::new(TlsRoots::load(Some(ca), None).unwrap());
        Endpoint::Tls {
            host: host.into(),
            port: 443,
            roots,
        }
    };
    let says = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let port = super::secure::good_server(says);
    let (good, told) = proxy("HTTP/1.1 200 Connected\r\n\r\n", Some(port));
    assert_eq!(ask(tls("localhost"), good), Ok(b"ok".to_vec()));
    let asked = told.recv().unwrap();
    assert!(
        asked.starts_with("CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n"),
        "{asked}"
    );
    assert!(
        asked.contains("Proxy-Authorization: Basic dTpw\r\n"),
        "{asked}"
    );

    let (good, _told) = proxy("HTTP/1.1 200 Connected\r\n\r\n", Some(port));
    let (kind, why) = ask(tls("elsewhere.example.test"), good).unwrap_err();
    assert_eq!(kind, ErrorKind::Tls, "{why}");
    for (answer, want) in [
        (
            "HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n",
            "wants other credentials (407)",
        ),
        (
            "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n",
            "the proxy answers 502",
        ),
        ("nonsense\r\n\r\n", "no proper answer"),
        ("", "no proper answer"),
    ] {
        let (bad, _told) = proxy(answer, None);
        let (kind, why) = ask(tls("localhost"), bad).unwrap_err();
        assert_eq!(kind, ErrorKind::Connect);
        assert!(why.contains(want), "{answer}: {why}");
    }
}

#[test]
fn s_net_01_a_proxy_that_is_not_there_is_named() {
    let gone = Proxy {
        host: "127.0.0.1".into(),
        port: 1,
        authorization: None,
    };
    let (kind, why) = ask(plain(), Arc::new(gone)).unwrap_err();
    assert_eq!(kind, ErrorKind::Connect);
    assert!(why.contains("the proxy 127.0.0.1"), "{why}");
}
