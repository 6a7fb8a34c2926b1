//! A socket before the engine's that can be cut, or answer nonsense, at will.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

const UP: u8 = 0;
const DOWN: u8 = 1;
const BROKEN: u8 = 2;

/// The proxy; it ends with the test's process.
pub struct Proxy {
    mode: Arc<AtomicU8>,
    open: Arc<Mutex<Vec<UnixStream>>>,
    pub url: String,
}

impl Proxy {
    pub fn start(dir: &Path) -> Proxy {
        let path = dir.join("engine.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (mode, open) = (
            Arc::new(AtomicU8::new(UP)),
            Arc::new(Mutex::new(Vec::new())),
        );
        let (seen, kept) = (mode.clone(), open.clone());
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
            open,
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

    pub fn mend(&self) {
        self.mode.store(UP, Ordering::SeqCst);
    }

    fn close(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn refuse(mut client: UnixStream) {
    let mut head = [0; 4096];
    let _ = client.read(&mut head);
    let body = "{\"message\":\"out of order\"}";
    let _ = write!(
        client,
        "HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\n\
        Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
}

fn join(client: UnixStream, open: &Arc<Mutex<Vec<UnixStream>>>) {
    let engine = super::env("HELIOS_TEST_ENGINE");
    let Some(path) = engine.strip_prefix("unix://") else {
        panic!("the engine has no socket file")
    };
    let Ok(engine) = UnixStream::connect(path) else {
        return;
    };
    let mut open = open.lock().unwrap();
    open.push(client.try_clone().unwrap());
    open.push(engine.try_clone().unwrap());
    for (from, to) in [
        (client.try_clone().unwrap(), engine.try_clone().unwrap()),
        (engine, client),
    ] {
        std::thread::spawn(move || copy(from, to));
    }
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    let mut piece = [0; 16 * 1024];
    while let Ok(got) = from.read(&mut piece) {
        if got == 0 || to.write_all(&piece[..got]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}
