//! The byte streams there are, and how a client opens one.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Instant;

use async_io::{Async, Timer};
use futures_lite::future::{self, FutureExt};
use futures_lite::{AsyncRead, AsyncWrite};

use super::client::{Timeouts, deadline};
use super::conn::Watch;
use super::proxy::Proxy;
use super::tls::TlsRoots;
use super::url::authority;
use super::{Error, ErrorKind};
use crate::base::socket::Socket;
use crate::limits::{HTTP_ADDRESSES_MAX, HTTP_CONNECT_STAGGER};

/// Where a client's server is.
#[derive(Debug, Clone)]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// In the clear.
    Tcp {
        /// Name or address, without brackets.
        host: String,
        /// The port.
        port: u16,
    },
    /// Through TLS.
    Tls {
        /// Name or address, without brackets; the certificate must be for it.
        host: String,
        /// The port.
        port: u16,
        /// Who may vouch for it.
        roots: Arc<TlsRoots>,
    },
    /// Behind a proxy: through a tunnel if it is TLS, else named in each request.
    Proxied {
        /// The server, which is no socket of this machine.
        to: Arc<Endpoint>,
        /// The proxy.
        proxy: Arc<Proxy>,
    },
}

impl Endpoint {
    /// What goes into `Host`.
    #[must_use]
    pub fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "localhost".into(),
            Endpoint::Tcp { host, port } => authority(host, *port, 80),
            Endpoint::Tls { host, port, .. } => authority(host, *port, 443),
            Endpoint::Proxied { to, .. } => to.authority(),
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Endpoint::Unix(path) => path.display().to_string(),
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => {
                authority(host, *port, 0)
            }
            Endpoint::Proxied { to, .. } => to.name(),
        }
    }

    /// The server behind the proxy, if there is one.
    pub(super) fn server(&self) -> &Endpoint {
        match self {
            Endpoint::Proxied { to, .. } => to,
            direct => direct,
        }
    }

    /// The proxy that has to be told in each request where it goes.
    pub(super) fn forwarder(&self) -> Option<&Proxy> {
        match self {
            Endpoint::Proxied { to, proxy } if matches!(**to, Endpoint::Tcp { .. }) => Some(proxy),
            _ => None,
        }
    }

    /// Opens a stream to it, each step within its own time limit (R-HTTP-3)
    /// and all of it before `end`.
    pub async fn connect(
        &self,
        timeouts: &Timeouts,
        end: Option<Instant>,
    ) -> Result<Stream, Error> {
        let name = match self {
            Endpoint::Proxied { proxy, .. } => format!("the proxy {}", proxy.host),
            direct => direct.name(),
        };
        let no_connection = (ErrorKind::Connect, format!("cannot connect to {name}"));
        let connect = deadline(timeouts.connect, end);
        let (host, port) = match self {
            Endpoint::Unix(path) => {
                let unix = async {
                    let unix = Async::<UnixStream>::connect(path).await;
                    unix.and_then(Socket::new).map_err(text)
                };
                return Ok(Box::new(step(connect, no_connection, unix).await?));
            }
            Endpoint::Tcp { host, port } | Endpoint::Tls { host, port, .. } => (host, *port),
            Endpoint::Proxied { proxy, .. } => (&proxy.host, proxy.port),
        };
        let no_address = format!("cannot find the address of {host}");
        let find = deadline(timeouts.resolve, end);
        let found = step(find, (ErrorKind::Resolve, no_address), resolve(host, port)).await?;
        let connect = deadline(timeouts.connect, end);
        let tcp = async { Socket::new(connect_any(&found).await?).map_err(text) };
        let tcp = step(connect, no_connection, tcp).await?;
        let Endpoint::Tls { host, port, roots } = self.server() else {
            return Ok(Box::new(tcp));
        };
        let mut stream: Stream = Box::new(tcp);
        if let Endpoint::Proxied { proxy, .. } = self {
            let no_tunnel = format!("no way to {host} through the proxy {}", proxy.host);
            let connect = deadline(timeouts.connect, end);
            let to = authority(host, *port, 0);
            let tunnel = proxy.tunnel(stream, &to, connect);
            stream = step(connect, (ErrorKind::Connect, no_tunnel), tunnel).await?;
        }
        let no_agreement = format!("no secure connection to {host}");
        let agree = deadline(timeouts.tls, end);
        let agreed = async { Ok(roots.connect(stream, host).await) };
        let agreed = step(agree, (ErrorKind::Tls, no_agreement.clone()), agreed).await?;
        agreed.map_err(|err| Error::new(err.kind, format!("{no_agreement}: {err}")))
    }
}

/// What a step comes to, if it does before `deadline`; `failed` is what to say
/// if not, in front of the reason.
async fn step<T>(
    deadline: Instant,
    failed: (ErrorKind, String),
    work: impl Future<Output = Result<T, String>> + Send,
) -> Result<T, Error> {
    let (kind, why) = match Watch::default().until(deadline, work.boxed()).await {
        Ok(Ok(done)) => return Ok(done),
        Ok(Err(why)) => (failed.0, why),
        Err(_) => (ErrorKind::Timeout, "it takes too long".into()),
    };
    Err(Error::new(kind, format!("{}: {why}", failed.1)))
}

fn text(err: io::Error) -> String {
    err.to_string()
}

/// The addresses of a host, those of IPv6 and IPv4 taking turns.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, String> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    // The system's resolver blocks, so it gets a thread of its own, which ends
    // with the answer, whether anybody still wants it or not.
    let (answer, answers) = async_channel::bounded(1);
    let asked = (host.to_owned(), port);
    let thread = thread::Builder::new().name("resolve".into());
    let started = thread.spawn(move || {
        let addresses = asked.to_socket_addrs().map(take_turns);
        answer.try_send(addresses).ok();
    });
    started.map_err(text)?;
    match answers.recv().await {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err("it has none".into()),
        Ok(Err(err)) => Err(text(err)),
        Err(_) => Err("the resolver ended without an answer".into()),
    }
}

/// Beginning with the family the system prefers, so that one that leads
/// nowhere costs one step and not the whole time.
fn take_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut all: Vec<_> = addresses.take(4 * HTTP_ADDRESSES_MAX).collect();
    all.dedup();
    let preferred = all.first().is_some_and(SocketAddr::is_ipv6);
    // Backwards, to be taken from the end.
    let (mut first, mut second): (Vec<_>, Vec<_>) = all
        .into_iter()
        .rev()
        .partition(|address| address.is_ipv6() == preferred);
    let mut turns = Vec::new();
    while turns.len() < HTTP_ADDRESSES_MAX && !(first.is_empty() && second.is_empty()) {
        turns.extend(first.pop());
        turns.extend(second.pop());
    }
    turns
}

/// The first of these connections to stand; each address gets a head start
/// before the next is tried beside it.
async fn connect_any(addresses: &[SocketAddr]) -> Result<Async<TcpStream>, String> {
    let mut last = "it has no address".into();
    let mut running: Vec<future::Boxed<io::Result<Async<TcpStream>>>> = Vec::new();
    let mut waiting = addresses.iter();
    loop {
        if let Some(address) = waiting.next() {
            running.push(Async::<TcpStream>::connect(*address).boxed());
        }
        let head_start = match waiting.len() {
            0 => Timer::never(),
            _ => Timer::after(HTTP_CONNECT_STAGGER),
        };
        let first = async { Some(first_of(&mut running).await) };
        let next = async {
            head_start.await;
            None
        };
        match first.or(next).await {
            Some(Ok(stream)) => {
                // Requests are sent whole, and are waited for.
                stream.get_ref().set_nodelay(true).ok();
                return Ok(stream);
            }
            Some(Err(err)) => last = text(err),
            None => {}
        }
        if running.is_empty() && waiting.len() == 0 {
            return Err(last);
        }
    }
}

/// The output of the first to end, which is taken out; pending if there is none.
async fn first_of<T>(running: &mut Vec<future::Boxed<T>>) -> T {
    future::poll_fn(|cx| {
        for at in 0..running.len() {
            if let Poll::Ready(output) = running[at].as_mut().poll(cx) {
                drop(running.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// An open byte stream: TCP, a Unix socket, or TLS over TCP.
pub type Stream = Box<dyn Duplex>;

/// What a byte stream can do.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send + Sync + fmt::Debug {
    /// Tells the peer that no more will come, and leaves the other way open,
    /// where the stream can do that.
    fn half_close(&self) {}

    /// Whether it is open, and nothing has come that was not read. An idle server says nothing:
    /// an end, an error and a byte all mean that it is of no more use.
    fn is_silent(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        Pin::new(self).poll_read(&mut nobody, &mut [0]).is_pending()
    }
}

impl Duplex for Socket {
    fn half_close(&self) {
        Socket::half_close(self);
    }

    fn is_silent(&mut self) -> bool {
        Socket::is_silent(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_io::block_on;
    use std::net::TcpListener;

    #[test]
    fn the_families_take_turns() {
        let show = |list: &[&str]| {
            let addresses = list.iter().map(|text| text.parse().unwrap());
            let turns = take_turns(addresses).into_iter();
            turns
                .map(|address| address.ip().to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        #[rustfmt::skip]
        let cases: [(&[&str], &str); 5] = [
            (&[], ""),
            (&["1.1.1.1:1", "1.1.1.1:1"], "1.1.1.1"),
            (&["[::1]:1", "[::2]:1", "1.1.1.1:1", "2.2.2.2:1"], "::1 1.1.1.1 ::2 2.2.2.2"),
            (&["1.1.1.1:1", "[::1]:1", "[::2]:1", "[::3]:1"], "1.1.1.1 ::1 ::2 ::3"),
            (&["[::1]:1", "[::2]:1", "[::3]:1", "[::4]:1", "[::5]:1", "[::6]:1", "[::7]:1", "[::8]:1", "[::9]:1"],
                "::1 ::2 ::3 ::4 ::5 ::6 ::7 ::8"),
        ];
        for (list, want) in cases {
            assert_eq!(show(list), want, "{list:?}");
        }
    }

    #[test]
    fn every_address_is_tried() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let good = listener.local_addr().unwrap();
        let bad: SocketAddr = "127.0.0.1:1".parse().unwrap();
        for addresses in [vec![good], vec![bad, good], vec![bad, bad, good, bad]] {
            let stream = block_on(connect_any(&addresses)).unwrap();
            assert_eq!(stream.get_ref().peer_addr().unwrap(), good, "{addresses:?}");
        }
        assert!(block_on(connect_any(&[bad, bad])).is_err());
        let connect = |host: &str, port| {
            let host = host.into();
            block_on(Endpoint::Tcp { host, port }.connect(&crate::http::tests::TIMEOUTS, None))
        };
        assert!(connect("localhost", good.port()).is_ok());
        let err = connect("127.0.0.1", bad.port()).unwrap_err();
        assert_eq!(err.kind, ErrorKind::Connect);
        assert!(
            err.to_string()
                .starts_with("cannot connect to 127.0.0.1:1: ")
        );
    }
}
