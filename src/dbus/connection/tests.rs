//! The connection against a scripted peer.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::thread::{self, JoinHandle};

use futures_lite::future::block_on;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

/// A bus that takes a connection, authenticates, answers Hello, and then does what it is told
/// with the stream.
fn bus(
    name: &str,
    then: impl FnOnce(UnixStream) + Send + 'static,
) -> (String, tempdir::Dir, JoinHandle<()>) {
    let dir = tempdir::Dir::new(name);
    let path = dir.0.join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        expect(&mut stream, b"\0AUTH EXTERNAL\r\n");
        stream.write_all(b"DATA\r\n").unwrap();
        expect(&mut stream, b"DATA\r\n");
        stream.write_all(b"OK 0123456789abcdef\r\n").unwrap();
        expect(&mut stream, b"BEGIN\r\n");
        let hello = read(&mut stream);
        assert_eq!(hello.member, "Hello");
        let reply = Message::reply(&hello).with("s", &mut |out| out.str(":1.7"));
        write(&mut stream, reply);
        then(stream);
    });
    (format!("unix:path={}", path.display()), dir, peer)
}

mod tempdir {
    use std::path::PathBuf;

    pub(super) struct Dir(pub(super) PathBuf);

    impl Dir {
        pub(super) fn new(name: &str) -> Dir {
            let name = format!("helios-dbus-{name}-{}", std::process::id());
            let dir = std::env::temp_dir().join(name);
            let _ = std::fs::remove_dir_all(&dir);
            std::fs::create_dir_all(&dir).unwrap();
            Dir(dir)
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn expect(stream: &mut UnixStream, want: &[u8]) {
    let mut found = vec![0; want.len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(found, want, "{}", String::from_utf8_lossy(&found));
}

fn read(stream: &mut UnixStream) -> Message {
    let mut bytes = Vec::new();
    loop {
        if let Some((message, _)) = Message::decode(&bytes).unwrap() {
            return message;
        }
        let mut one = [0];
        stream.read_exact(&mut one).unwrap();
        bytes.push(one[0]);
    }
}

fn write(stream: &mut UnixStream, mut message: Message) {
    message.serial = 77;
    // In pieces, as a busy bus does.
    for piece in message.encode().chunks(7) {
        stream.write_all(piece).unwrap();
    }
}

fn ask() -> Message {
    Message::call("org.example", "/", "org.example.I", "Ask")
}

#[test]
fn signals_before_an_answer_are_kept_in_order() {
    let (address, _dir, peer) = bus("order", |mut stream| {
        let call = read(&mut stream);
        for member in ["First", "Second"] {
            write(&mut stream, Message::signal("/a", "i.i", member));
        }
        let mut stale = Message::reply(&call);
        stale.reply_serial += 100;
        write(&mut stream, stale);
        write(
            &mut stream,
            Message::reply(&call).with("u", &mut |out| out.u32(5)),
        );
        write(&mut stream, Message::signal("/a", "i.i", "Third"));
    });
    block_on(async {
        let mut connection = Connection::open(&address, LIMIT).await.unwrap();
        assert_eq!(connection.name(), ":1.7");
        let answer = connection.call(ask(), LIMIT).await.unwrap();
        assert_eq!(answer.body("u").unwrap().u32(), Ok(5));
        for want in ["First", "Second", "Third"] {
            assert_eq!(connection.receive().await.unwrap().member, want);
        }
        assert_eq!(
            connection.receive().await.unwrap_err().kind,
            BusErrorKind::Lost
        );
    });
    peer.join().unwrap();
}

#[test]
fn a_failure_has_its_name_and_its_words() {
    let (address, _dir, peer) = bus("failure", |mut stream| {
        let call = read(&mut stream);
        let name = "org.freedesktop.systemd1.NoSuchUnit";
        write(
            &mut stream,
            Message::failure(&call, name, "Unit x not loaded."),
        );
    });
    block_on(async {
        let mut connection = Connection::open(&address, LIMIT).await.unwrap();
        let error = connection.call(ask(), LIMIT).await.unwrap_err();
        assert!(error.is("org.freedesktop.systemd1.NoSuchUnit"));
        assert_eq!(error.to_string(), "Ask: Unit x not loaded.");
    });
    peer.join().unwrap();
}

#[test]
fn a_bus_that_is_silent_or_cut_or_noise_is_an_error() {
    let (address, dir, peer) = bus("silent", |mut stream| {
        let call = read(&mut stream);
        let bytes = Message::reply(&call).encode();
        stream.write_all(&bytes[..bytes.len() / 2]).unwrap();
        let _ = stream.read(&mut [0]);
    });
    block_on(async {
        let mut connection = Connection::open(&address, LIMIT).await.unwrap();
        let short = Duration::from_millis(50);
        let error = connection.call(ask(), short).await.unwrap_err();
        assert_eq!(error.kind, BusErrorKind::TimedOut, "{error}");
    });
    peer.join().unwrap();
    drop(dir);
    let (address, _dir, peer) = bus("noise", |mut stream| {
        read(&mut stream);
        stream.write_all(&[b'x'; 64]).unwrap();
    });
    block_on(async {
        let mut connection = Connection::open(&address, LIMIT).await.unwrap();
        let error = connection.call(ask(), LIMIT).await.unwrap_err();
        assert_eq!(error.kind, BusErrorKind::Lost, "{error}");
    });
    peer.join().unwrap();
    let error = block_on(Connection::open("unix:path=/nonexistent/bus", LIMIT)).unwrap_err();
    assert_eq!(error.kind, BusErrorKind::Absent);
}

#[test]
fn a_dropped_receive_loses_nothing() {
    let (address, _dir, peer) = bus("dropped", |mut stream| {
        let bytes = {
            let mut signal = Message::signal("/a", "i.i", "Slow");
            signal.serial = 5;
            signal.encode()
        };
        stream.write_all(&bytes[..20]).unwrap();
        let call = read(&mut stream);
        stream.write_all(&bytes[20..]).unwrap();
        write(&mut stream, Message::reply(&call));
    });
    block_on(async {
        let mut connection = Connection::open(&address, LIMIT).await.unwrap();
        let none = future::poll_once(connection.receive()).await;
        assert!(none.is_none());
        connection.call(ask(), LIMIT).await.unwrap();
        assert_eq!(connection.receive().await.unwrap().member, "Slow");
    });
    peer.join().unwrap();
}
