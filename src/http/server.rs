//! Accept, limits, drain on stop.
//!
//! Every connection is a task of an executor that lives inside [`Server::run`];
//! there are no threads. What a connection is doing stands in its [`Status`], so
//! that the one who accepts can choose which has to give way.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{fs, mem};

use async_executor::{Executor, Task};
use async_io::{Async, Timer};
use event_listener::{Event, listener};
use futures_lite::FutureExt;
use futures_lite::future;

use super::conn::{Conn, ConnError, after};
pub use super::exchange::{BodyError, Exchange, Peer};
use super::exchange::{TEXT, put_start};
use super::head::{self, REQUEST, put_field, put_framing, put_line};
use super::stream::Stream;
pub use super::{Error, ErrorKind};
use crate::base::lock::lock;
use crate::base::socket::Socket;
use crate::base::task;
use crate::limits::{
    HTTP_ACCEPT_RETRY, HTTP_BUSY_MAX, HTTP_CONNECTIONS_MAX, HTTP_HEAD_TIMEOUT, HTTP_KEEP_ALIVE,
    HTTP_LINGER, HTTP_LINGER_BYTES_MAX,
};

/// What answering an exchange comes to.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + Send + 'a>>;

/// Who answers the requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one. Without an answer the peer gets a 500; with an error behind
    /// the answer's beginning it sees the connection break.
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a>;
}

/// A socket that connections come in on.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(Async<TcpListener>),
    /// A Unix socket; its file is removed when the server ends.
    Unix(Async<UnixListener>, PathBuf),
}

impl Listener {
    /// Listens on an address; port 0 takes one that is free.
    pub fn bind_tcp(address: SocketAddr) -> io::Result<Listener> {
        Async::<TcpListener>::bind(address).map(Listener::Tcp)
    }

    /// Listens on a path, with these permissions. A socket file nobody answers
    /// on is replaced (D-27).
    pub fn bind_unix(path: &Path, mode: u32) -> io::Result<Listener> {
        let listener = match UnixListener::bind(path) {
            Err(err) if err.kind() == io::ErrorKind::AddrInUse && is_stale(path) => {
                fs::remove_file(path)?;
                UnixListener::bind(path)?
            }
            result => result?,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Listener::Unix(Async::new(listener)?, path.to_owned()))
    }

    /// Where it listens, for people: address and real port, or path.
    #[must_use]
    pub fn local_addr(&self) -> String {
        match self {
            Listener::Tcp(tcp) => match tcp.get_ref().local_addr() {
                Ok(address) => address.to_string(),
                Err(_) => "an unknown address".into(),
            },
            Listener::Unix(_, path) => path.display().to_string(),
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Listener::Tcp(tcp) => {
                let (stream, address) = tcp.accept().await?;
                stream.get_ref().set_nodelay(true).ok();
                let local = address.ip().to_canonical().is_loopback();
                let peer = if local { Peer::Loopback } else { Peer::Other };
                Ok((Box::new(Socket::new(stream)?), peer))
            }
            Listener::Unix(unix, _) => {
                Ok((Box::new(Socket::new(unix.accept().await?.0)?), Peer::Unix))
            }
        }
    }
}

/// Whether the path is a socket's on which nobody listens.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    let refused = |err: io::Error| err.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && UnixStream::connect(path).is_err_and(refused)
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Between two requests.
    Idle,
    /// Within a request that is not complete, or closing.
    Reading,
    /// A complete request is being answered.
    Serving,
    /// There only to be told 503.
    Leaving,
}

/// What a connection is doing, and since when it is without a complete request.
#[derive(Debug)]
pub struct Status(Mutex<(Phase, Instant)>);

impl Status {
    fn get(&self) -> (Phase, Instant) {
        *lock(&self.0)
    }

    fn set(&self, phase: Phase) {
        let mut status = lock(&self.0);
        status.0 = phase;
        if phase == Phase::Idle {
            status.1 = Instant::now();
        }
    }

    /// The request is complete, and the connection no longer one to give way.
    pub(super) fn serving(&self) {
        self.set(Phase::Serving);
    }
}

/// Listeners, and who answers what comes in on them.
pub struct Server {
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
}

/// What all connections of a server know.
struct Shared {
    handler: Arc<dyn Handler>,
    stopping: AtomicBool,
    ended: Event,
}

/// A connection, and what it is doing.
type Entry = (Task<()>, Arc<Status>);

/// The connections there are.
type Table = Mutex<Vec<Entry>>;

impl Server {
    /// A server that begins with [`Server::run`]; its listeners listen already.
    #[must_use]
    pub fn new(listeners: Vec<Listener>, handler: Arc<dyn Handler>) -> Server {
        let (stopping, ended) = (AtomicBool::new(false), Event::new());
        let shared = Arc::new(Shared {
            handler,
            stopping,
            ended,
        });
        Server { listeners, shared }
    }

    /// Serves until `stop` resolves; then accepts no more, closes the idle
    /// connections, gives the running exchanges `drain` to end, removes the
    /// files of its Unix sockets, and returns.
    pub async fn run(self, stop: impl Future<Output = ()>, drain: Duration) {
        let Server { listeners, shared } = self;
        let (executor, table) = (Executor::new(), Table::default());
        let accepting = listeners
            .iter()
            .map(|listener| task::apart(accept(listener, &executor, &table, &shared)));
        let mut accepting = accepting.map(Box::pin).collect::<Vec<_>>();
        let accept_all = future::poll_fn(|cx| {
            for one in &mut accepting {
                let _never_ends = one.as_mut().poll(cx);
            }
            Poll::<()>::Pending
        });
        task::run(stop.or(accept_all), || executor.tick()).await;
        drop(accepting);
        for listener in listeners {
            if let Listener::Unix(_, path) = listener {
                fs::remove_file(path).ok();
            }
        }
        shared.stopping.store(true, Relaxed);
        let mut busy = mem::take(&mut *lock(&table));
        // Dropping a task closes its connection.
        busy.retain(|(_, status)| status.get().0 != Phase::Idle);
        let ending = async {
            for (task, _) in busy {
                task.await;
            }
        };
        let too_long = async {
            Timer::after(drain).await;
        };
        task::run(ending.or(too_long), || executor.tick()).await;
    }
}

/// Forgets those that ended.
fn sweep(entries: &mut Vec<Entry>) {
    entries.retain(|(task, _)| !task.is_finished());
}

/// Whether there is room for another one, if need be that of the one which
/// is longest without a complete request; none when there is not even room
/// for saying so.
fn make_room(entries: &mut Vec<Entry>) -> Option<bool> {
    sweep(entries);
    let phases = || entries.iter().map(|(_, status)| status.get());
    let leaving = phases().filter(|(phase, _)| *phase == Phase::Leaving);
    let leaving = leaving.count();
    if entries.len() - leaving < HTTP_CONNECTIONS_MAX {
        return Some(true);
    }
    let waiting = phases().enumerate().filter_map(|(at, (phase, since))| {
        matches!(phase, Phase::Idle | Phase::Reading).then_some((since, at))
    });
    match waiting.min() {
        // Dropping the task closes the connection.
        Some((_, at)) => drop(entries.swap_remove(at)),
        None if leaving < HTTP_BUSY_MAX => return Some(false),
        None => return None,
    }
    Some(true)
}

/// Takes in what comes, for ever.
async fn accept(listener: &Listener, executor: &Executor<'_>, table: &Table, shared: &Arc<Shared>) {
    let mut is_failing = false;
    loop {
        listener!(shared.ended => ended);
        let swept = async {
            ended.await;
            None
        };
        let accepted = async { Some(listener.accept().await) };
        match accepted.or(swept).await {
            None => sweep(&mut lock(table)),
            Some(Ok((stream, peer))) => {
                let Some(welcome) = make_room(&mut lock(table)) else {
                    continue;
                };
                let phase = if welcome { Phase::Idle } else { Phase::Leaving };
                let status = Arc::new(Status(Mutex::new((phase, Instant::now()))));
                let serving = serve(stream, peer, Arc::clone(&status), Arc::clone(shared));
                lock(table).push((executor.spawn(serving), status));
                is_failing = false;
                // However many come: those that are here have their turn.
                future::yield_now().await;
            }
            // The peer is gone already, or we are out of descriptors: not our end.
            Some(Err(err)) => {
                if !mem::replace(&mut is_failing, true) {
                    log::warn!("cannot accept on {}: {err}", listener.local_addr());
                }
                Timer::after(HTTP_ACCEPT_RETRY).await;
            }
        }
    }
}

/// One connection, from its first byte to its last.
async fn serve(stream: Stream, peer: Peer, status: Arc<Status>, shared: Arc<Shared>) {
    let mut conn = Conn::new(stream);
    if status.get().0 == Phase::Leaving {
        refuse(&mut conn, 503, "too many connections").await;
    } else {
        while exchange(&mut conn, peer, &status, &shared).await {
            conn.rest();
            status.set(Phase::Idle);
        }
    }
    drop(conn);
    shared.ended.notify(1);
}

/// One request and its answer; whether there may be another.
async fn exchange(conn: &mut Conn<Stream>, peer: Peer, status: &Status, shared: &Shared) -> bool {
    let begun = conn.first_byte(after(HTTP_KEEP_ALIVE)).await;
    if !begun.unwrap_or(false) {
        return false;
    }
    status.set(Phase::Reading);
    let read = conn.read_head(REQUEST, after(HTTP_HEAD_TIMEOUT)).await;
    let head = match read.and_then(|()| Ok(head::request(conn.head())?)) {
        Ok(head) => head,
        Err(ConnError::Head(err)) => {
            log::debug!("a request is refused: {}", err.reason);
            refuse(conn, err.status, err.reason).await;
            return false;
        }
        Err(ConnError::Timeout) => {
            refuse(conn, 408, "the request takes too long").await;
            return false;
        }
        Err(_) => return false,
    };
    let mut exchange = Exchange::new(conn, head, peer, status, &shared.stopping);
    let result = shared.handler.handle(&mut exchange).await;
    let keep = exchange.finish(result).await;
    if !keep {
        // Nothing is lost any more if this one gives way.
        status.set(Phase::Reading);
        linger(conn).await;
    }
    keep
}

/// Answers what never became an exchange.
async fn refuse(conn: &mut Conn<Stream>, status: u16, reason: &str) {
    let out = &mut conn.out;
    put_start(out, status, true);
    put_field(out, "Content-Type", TEXT);
    put_framing(out, Some(reason.len() as u64));
    put_field(out, "Connection", "close");
    put_line(out, format_args!(""));
    // A peer that does not take it is closed all the same.
    if conn.send_out(reason.as_bytes(), HTTP_LINGER).await.is_ok() {
        linger(conn).await;
    }
}

/// Closes our way, and reads on a little: closing both at once while bytes are
/// under way could take our last answer from the peer.
async fn linger(conn: &mut Conn<Stream>) {
    conn.stream.half_close();
    conn.body = super::body::Body::UntilClose;
    // Whatever it comes to, the connection is closed next.
    let end = after(HTTP_LINGER);
    let _ = conn.skip_body(HTTP_LINGER_BYTES_MAX, end).await;
}
