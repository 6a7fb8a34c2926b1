//! A server that says what it is told, and a client of the agent for it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use helios::http::client::{Endpoint, Timeouts};
use helios::http::url::Url;
use helios::remote::Backend;

pub const UUID: &str = "c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1";
pub const KEY: &str = "DeviceKeyC1C1C1C1C1C1C1C1C1C1C1C";

/// What is said on one connection.
pub enum Say {
    /// These bytes after the request, and then the end.
    Bytes(Vec<u8>),
    /// These bytes, and then nothing until the peer gives up.
    Stall(Vec<u8>),
    /// An end without a word.
    End,
    /// The same, as a reset.
    Reset,
}

/// One connection after the other; each is told what is next in the channel.
pub struct Server {
    pub address: SocketAddr,
    say: Sender<Say>,
    pub heard: Receiver<String>,
}

impl Server {
    pub fn start() -> Server {
        Server::at("127.0.0.1:0").unwrap()
    }

    pub fn at(address: &str) -> Option<Server> {
        let listener = TcpListener::bind(address).ok()?;
        let address = listener.local_addr().unwrap();
        let (say, next) = channel();
        let (tell, heard) = channel();
        std::thread::spawn(move || serve(&listener, &next, &tell));
        Some(Server {
            address,
            say,
            heard,
        })
    }

    /// What is said to the next connection.
    pub fn say(&self, what: Say) {
        self.say.send(what).unwrap();
    }
}

fn serve(listener: &TcpListener, next: &Receiver<Say>, tell: &Sender<String>) {
    // In this order: the next word is given before the client connects.
    while let Ok(say) = next.recv() {
        let Ok((mut stream, _)) = listener.accept() else {
            return;
        };
        if matches!(say, Say::Reset) {
            // What is unread when it is closed makes the kernel send a reset.
            let _ = stream.peek(&mut [0]);
            continue;
        }
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let _ = tell.send(request(&mut reader));
        match say {
            // The peer may have seen enough.
            Say::Bytes(bytes) => drop(stream.write_all(&bytes)),
            Say::Stall(bytes) => {
                let _ = stream.write_all(&bytes);
                wait(&stream);
                continue;
            }
            Say::End | Say::Reset => {}
        }
        let _ = stream.shutdown(Shutdown::Write);
        wait(&stream);
    }
}

/// Until the peer ends it.
fn wait(mut stream: &TcpStream) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(60)));
    let mut bytes = [0; 4096];
    while stream.read(&mut bytes).is_ok_and(|count| count > 0) {}
}

fn request(reader: &mut BufReader<TcpStream>) -> String {
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        head.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    let _ = reader.read_exact(&mut body);
    head + &String::from_utf8_lossy(&body)
}

/// Long: none of these is what a test is about.
pub const PATIENT: Timeouts = Timeouts {
    resolve: Duration::from_secs(30),
    connect: Duration::from_secs(30),
    tls: Duration::from_secs(30),
    head: Duration::from_secs(30),
    idle: Duration::from_secs(30),
    total: Some(Duration::from_secs(59)),
};

/// Short: for peers that never say what is waited for.
pub const SHORT: Timeouts = Timeouts {
    head: Duration::from_millis(50),
    idle: Duration::from_millis(50),
    ..PATIENT
};

pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        let name = helios::base::random::hex(8).unwrap();
        let dir = std::env::temp_dir().join(format!("helios-remote-{name}"));
        std::fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The agent's client of a backend.
pub fn client(address: SocketAddr, timeouts: Timeouts, uuid: &str, cache: &Scratch) -> Backend {
    let url = Url::parse(&format!("http://{address}")).unwrap();
    let host = url.host().to_owned();
    let endpoint = Endpoint::Tcp {
        host,
        port: address.port(),
    };
    Backend::new(&url, endpoint, timeouts, (uuid, KEY), &cache.0)
}
