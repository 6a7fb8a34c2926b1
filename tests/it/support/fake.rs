//! The fake engine (`tests/engine`), running beside a test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use helios::http::client::Endpoint;

/// One engine that holds nothing; it ends with this value.
pub struct Fake {
    child: Child,
    /// For `DOCKER_HOST`.
    pub url: String,
    pub endpoint: Endpoint,
}

impl Fake {
    /// Starts one with its socket in `dir`.
    pub fn start(dir: &Path) -> Fake {
        let beside = Path::new(env!("CARGO_BIN_EXE_helios"))
            .parent()
            .unwrap()
            .join("examples/engine");
        let socket = dir.join("fake.sock");
        let mut child = Command::new(&beside)
            .arg("--socket")
            .arg(&socket)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|err| panic!("{}: {err}; cargo build --examples", beside.display()));
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert!(!line.is_empty(), "the fake engine did not start");
        Fake {
            child,
            url: format!("unix://{}", socket.display()),
            endpoint: Endpoint::Unix(socket),
        }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
