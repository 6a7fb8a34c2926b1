//! A socket before the engine's that can be cut, refuse a call or answer nonsense, at will, and
//! that remembers what it was asked.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

const UP: u8 = 0;
const DOWN: u8 = 1;
const BROKEN: u8 = 2;

/// What one connection asked for so far.
type Asked = Arc<Mutex<Vec<u8>>>;

/// One request that changes something.
pub struct Change {
    /// Method and path, without the version of the API.
    pub what: String,
    pub body: Value,
}

/// The connections through it.
#[derive(Clone, Default)]
struct Connections {
    /// What a request line that is refused has in it, and the message.
    refused: Arc<Mutex<Option<(String, String)>>>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The proxy; it ends with the test's process.
pub struct Proxy {
    mode: Arc<AtomicU8>,
    connections: Connections,
    pub url: String,
}

impl Proxy {
    pub fn start(dir: &Path) -> Proxy {
        let path = dir.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (mode, connections) = (Arc::new(AtomicU8::new(UP)), Connections::default());
        let (seen, kept) = (mode.clone(), connections.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                match seen.load(Ordering::SeqCst) {
                    UP => join(client, &kept),
                    BROKEN => refuse(client),
                    _ => {}
                }
            }
        });
        Proxy {
            mode,
            connections,
            url: format!("unix://{}", path.display()),
        }
    }

    /// Cuts every connection and refuses new ones.
    pub fn cut(&self) {
        self.mode.store(DOWN, Ordering::SeqCst);
        self.close();
    }

    /// Answers 500 to everything.
    pub fn answer_500(&self) {
        self.mode.store(BROKEN, Ordering::SeqCst);
        self.close();
    }

    /// Answers 500 with a message to requests that have this in their line, from now on.
    pub fn refuse(&self, what: Option<(&str, &str)>) {
        let what = what.map(|(line, said)| (line.to_owned(), said.to_owned()));
        *self.connections.refused.lock().unwrap() = what;
    }

    pub fn mend(&self) {
        self.mode.store(UP, Ordering::SeqCst);
    }

    fn close(&self) {
        for stream in self.connections.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// Every request so far that is meant to change something, in the order of each connection.
    pub fn changes(&self) -> Vec<Change> {
        let asked = self.connections.asked.lock().unwrap();
        let all = asked
            .iter()
            .flat_map(|bytes| requests(&bytes.lock().unwrap()));
        all.filter(|change| !change.what.starts_with("GET "))
            .collect()
    }
}

/// The requests in what a connection carried; the client gives every body a length.
fn requests(mut bytes: &[u8]) -> Vec<Change> {
    let mut found = Vec::new();
    while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut line = head.split(' ');
        let (method, target) = (line.next().unwrap(), line.next().unwrap());
        let field = |line: &str| {
            let (name, value) = line.split_once(':')?;
            let is_length = name.eq_ignore_ascii_case("content-length");
            is_length.then(|| value.trim().parse::<usize>().unwrap())
        };
        let length = head.lines().find_map(field).unwrap_or(0);
        let Some(body) = bytes.get(end + 4..end + 4 + length) else {
            break;
        };
        let path = target
            .strip_prefix("/v1.")
            .and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        found.push(Change {
            what: format!("{method} {}", path.unwrap_or(target)),
            body: serde_json::from_slice(body).unwrap_or(Value::Null),
        });
        bytes = &bytes[end + 4 + length..];
    }
    found
}

fn refuse(mut client: UnixStream) {
    let mut head = [0; 4096];
    let _ = client.read(&mut head);
    answer_500(&mut client, "out of order");
}

fn answer_500(client: &mut UnixStream, said: &str) {
    let body = format!("{{\"message\":\"{said}\"}}");
    let _ = write!(
        client,
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
        Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn join(client: UnixStream, connections: &Connections) {
    let engine = super::env("HELIOS_TEST_ENGINE");
    let Some(path) = engine.strip_prefix("unix://") else {
        panic!("the engine has no socket file")
    };
    let Ok(engine) = UnixStream::connect(path) else {
        return;
    };
    let mut open = connections.open.lock().unwrap();
    open.push(client.try_clone().unwrap());
    open.push(engine.try_clone().unwrap());
    let asked = Asked::default();
    connections.asked.lock().unwrap().push(asked.clone());
    let refused = connections.refused.clone();
    for (from, to, asked) in [
        (
            client.try_clone().unwrap(),
            engine.try_clone().unwrap(),
            Some((asked, refused)),
        ),
        (engine, client, None),
    ] {
        std::thread::spawn(move || copy(from, to, asked.as_ref()));
    }
}

/// Who asked for what, and what is refused of that.
type Watched = (Asked, Arc<Mutex<Option<(String, String)>>>);

fn copy(mut from: UnixStream, mut to: UnixStream, asked: Option<&Watched>) {
    let mut piece = [0; 16 * 1024];
    while let Ok(got) = from.read(&mut piece) {
        if let Some((asked, refused)) = asked {
            let text = String::from_utf8_lossy(&piece[..got]);
            let line = text.lines().next().unwrap_or_default();
            let refused = refused.lock().unwrap().clone();
            if let Some((_, said)) = refused.filter(|(what, _)| line.contains(what)) {
                answer_500(&mut from, &said);
                let _ = from.shutdown(std::net::Shutdown::Both);
                break;
            }
            asked.lock().unwrap().extend_from_slice(&piece[..got]);
        }
        if got == 0 || to.write_all(&piece[..got]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
