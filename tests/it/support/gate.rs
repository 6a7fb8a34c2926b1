//! A slow link to the test registry: closed, a connection carries a little and then nothing.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};

use super::env;

/// What a connection carries while the gate is closed: manifests, but no layer.
const CARRIED_BYTES: usize = 64 * 1024;

#[derive(Default)]
struct State {
    is_open: Mutex<bool>,
    opened: Condvar,
    /// Paths of the blobs that were asked for.
    blobs: Mutex<Vec<String>>,
    /// Connections that carry nothing any more.
    held: Mutex<usize>,
}

/// The link; it ends with the test's process.
pub struct Gate {
    pub address: String,
    state: Arc<State>,
}

impl Gate {
    /// Closed at first.
    pub fn start() -> Gate {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Gate {
            address: listener.local_addr().unwrap().to_string(),
            state: Arc::default(),
        };
        let state = gate.state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(env("HELIOS_TEST_REGISTRY")).unwrap();
                let ways = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, back) = (state.clone(), state.clone());
                std::thread::spawn(move || there.ask(client, server));
                std::thread::spawn(move || back.answer(ways.1, ways.0));
            }
        });
        gate
    }

    pub fn open(&self) {
        *self.state.is_open.lock().unwrap() = true;
        self.state.opened.notify_all();
    }

    pub fn close(&self) {
        *self.state.is_open.lock().unwrap() = false;
        *self.state.held.lock().unwrap() = 0;
    }

    /// Whether something waits for the gate to open.
    pub fn holds(&self) -> bool {
        *self.state.held.lock().unwrap() > 0
    }

    /// An image of the test registry as it is called through this link.
    pub fn name(&self, image: &str) -> String {
        let (_, path) = image.split_once('/').unwrap();
        format!("{}/{path}", self.address)
    }

    pub fn blobs(&self) -> Vec<String> {
        self.state.blobs.lock().unwrap().clone()
    }
}

impl State {
    fn ask(&self, mut client: TcpStream, mut server: TcpStream) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(length @ 1..) = client.read(&mut buffer) {
            // The engine writes a head at once.
            let text = String::from_utf8_lossy(&buffer[..length]);
            let line = text.lines().next().unwrap_or_default();
            if line.starts_with("GET ") && line.contains("/blobs/") {
                self.blobs.lock().unwrap().push(line.to_owned());
            }
            if server.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = server.shutdown(Shutdown::Both);
    }

    fn answer(&self, mut server: TcpStream, mut client: TcpStream) {
        let (mut buffer, mut carried) = ([0; 16 * 1024], 0);
        while let Ok(length @ 1..) = server.read(&mut buffer) {
            carried += length;
            let mut is_open = self.is_open.lock().unwrap();
            if carried > CARRIED_BYTES && !*is_open {
                *self.held.lock().unwrap() += 1;
                while !*is_open {
                    is_open = self.opened.wait(is_open).unwrap();
                }
            }
            drop(is_open);
            if client.write_all(&buffer[..length]).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    }
}
