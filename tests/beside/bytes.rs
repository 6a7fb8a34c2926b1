//! Clients and servers that are told their bytes.

use std::io::{BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Nothing that is waited for takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A request as a server got it.
#[derive(Debug, Clone)]
pub struct Heard {
    pub method: String,
    pub target: String,
    /// Field lines as they came.
    pub lines: Vec<String>,
    pub body: Vec<u8>,
}

impl Heard {
    /// All values of the fields of this name.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// A server that answers each request with the bytes that it is told.
pub struct Server {
    pub address: String,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl Server {
    /// `answer` gives the bytes, and whether the connection is closed behind them.
    pub fn start(answer: impl Fn(&Heard) -> (Vec<u8>, bool) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (mine, answer) = (heard.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, answer) = (mine.clone(), answer.clone());
                std::thread::spawn(move || serve(&stream, &heard, &*answer));
            }
        });
        Server { address, heard }
    }

    /// What was asked for by anybody but the agent itself.
    pub fn heard(&self) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let others = heard.iter().filter(|heard| {
            let agent = heard.all("user-agent");
            !agent
                .first()
                .is_some_and(|agent| agent.starts_with("helios/"))
        });
        others.cloned().collect()
    }

    /// The newest of them; `mark` is in its target.
    pub fn last(&self, mark: &str) -> Heard {
        let found = self.heard().into_iter().rev();
        let mut found = found.filter(|heard| heard.target.contains(mark));
        found
            .next()
            .unwrap_or_else(|| panic!("nobody asked for '{mark}'"))
    }
}

fn serve(stream: &TcpStream, all: &Mutex<Vec<Heard>>, answer: &dyn Fn(&Heard) -> (Vec<u8>, bool)) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    while let Some(heard) = request(&mut reader) {
        all.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(heard.clone());
        let (bytes, closes) = answer(&heard);
        // The peer may be gone: that is its own business.
        let _ = (&mut &*stream).write_all(&bytes);
        if closes {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// The next request of a connection.
pub fn request(reader: &mut impl std::io::BufRead) -> Option<Heard> {
    let mut lines = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 {
            return None;
        }
        // Bytes that are no text stay apart from each other.
        let line: String = line.iter().map(|byte| char::from(*byte)).collect();
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let first = lines.remove(0);
    let mut words = first.split(' ').map(str::to_owned);
    let mut heard = Heard {
        method: words.next()?,
        target: words.next()?,
        lines,
        body: Vec::new(),
    };
    if heard.has("transfer-encoding") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let size = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; size + 2];
            reader.read_exact(&mut chunk).ok()?;
            if size == 0 {
                break;
            }
            heard.body.extend_from_slice(&chunk[..size]);
        }
    } else if let Some(length) = heard.all("content-length").first() {
        heard.body = vec![0; length.parse().ok()?];
        reader.read_exact(&mut heard.body).ok()?;
    }
    Some(heard)
}

/// Where the agent listens.
#[derive(Debug, Clone)]
pub enum Door {
    Tcp(String),
    Unix(std::path::PathBuf),
}

/// Both directions of a connection.
pub trait Duplex: Read + Write + Send {}
impl<T: Read + Write + Send> Duplex for T {}

impl Door {
    pub fn open(&self) -> Box<dyn Duplex> {
        match self {
            Door::Tcp(address) => {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
            Door::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                Box::new(stream)
            }
        }
    }

    /// Says these bytes, and reads to the end of the connection.
    pub fn says(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.open();
        stream.write_all(bytes).unwrap();
        let mut all = Vec::new();
        // A reset behind the answer is an end too.
        let _ = stream.read_to_end(&mut all);
        Reply::read(&all)
    }

    /// One request with these field lines, each ending in a line end, and its answer.
    pub fn asks(&self, first: &str, lines: &str) -> Reply {
        let text = format!("{first} HTTP/1.1\nHost: here\n{lines}Connection: close\n\n");
        self.says(text.replace('\n', "\r\n").as_bytes())
    }
}

/// An answer as a client got it, up to the connection's end.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub lines: Vec<String>,
    /// What came behind the head, framing and all.
    pub raw: Vec<u8>,
    /// The body; none where it did not end as its framing says.
    pub body: Option<Vec<u8>>,
}

impl Reply {
    /// Reads past interim answers.
    pub fn read(bytes: &[u8]) -> Reply {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no head: {:?}", String::from_utf8_lossy(bytes)));
        let head: String = bytes[..end].iter().map(|byte| char::from(*byte)).collect();
        let mut lines = head.split("\r\n").map(str::to_owned);
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        if (102..200).contains(&status) || status == 100 {
            return Reply::read(&bytes[end + 4..]);
        }
        let mut reply = Reply {
            status,
            lines: lines.collect(),
            raw: bytes[end + 4..].to_vec(),
            body: None,
        };
        reply.body = reply.whole();
        reply
    }

    pub fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.lines.iter().filter_map(|line| line.split_once(':'));
        let found = lines.filter(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(self.body.as_deref().unwrap_or(b"(cut short)")).into_owned()
    }

    fn whole(&self) -> Option<Vec<u8>> {
        if self.has("transfer-encoding") {
            let (mut body, mut rest) = (Vec::new(), &self.raw[..]);
            loop {
                let end = rest.windows(2).position(|two| two == b"\r\n")?;
                let size = std::str::from_utf8(&rest[..end]).ok()?;
                let size = usize::from_str_radix(size, 16).ok()?;
                rest = rest.get(end + 2..)?;
                body.extend_from_slice(rest.get(..size)?);
                if size == 0 {
                    return Some(body);
                }
                rest = rest.get(size + 2..)?;
            }
        }
        match self.all("content-length").first() {
            Some(length) => {
                let length: usize = length.parse().unwrap();
                (self.raw.len() == length).then(|| self.raw.clone())
            }
            None => Some(self.raw.clone()),
        }
    }
}
