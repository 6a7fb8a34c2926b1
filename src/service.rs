//! Being a service of systemd: what it is told (sd_notify(3)). Without it nothing is sent, and
//! nothing waits.

use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use futures_lite::future;

use crate::args::Variables;
use crate::base::latest::Latest;
use crate::limits;
use crate::plan::board::Board;
use crate::world::clock::Clock;

/// The way to the service manager, if there is one.
pub(crate) struct Manager {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// It wants to hear of us at least this often.
    tick: Option<Duration>,
}

impl Manager {
    /// As the environment says.
    pub(crate) fn from_env(env: &Variables<'_>) -> Manager {
        let to = env("NOTIFY_SOCKET").and_then(|name| match open(&name) {
            Ok(to) => Some(to),
            Err(error) => {
                log::warn!("the service manager cannot be told anything: {error}");
                None
            }
        });
        let tick = tick(env).filter(|_| to.is_some());
        Manager { to, tick }
    }

    /// Says one thing. A manager that does not listen must not hold anything up.
    pub(crate) fn tell(&self, what: &str) {
        let Some((socket, address)) = &self.to else {
            return;
        };
        if let Err(error) = socket.send_to_addr(what.as_bytes(), address) {
            log::debug!("the service manager is not told {what}: {error}");
        }
    }

    /// Says that the agent works, how it stands, and that it goes on. Never ends. It is one of
    /// the tasks that take turns on the main loop: when that hangs, so does this, and systemd
    /// starts the agent anew. Nothing else stops it (FD-44).
    pub(crate) async fn attend(&self, board: &Latest<Board>, clock: &dyn Clock) {
        if self.to.is_none() {
            return future::pending().await;
        }
        self.tell("READY=1");
        let mut said = String::new();
        let mut next = clock.now();
        loop {
            let version = board.version();
            let status = board.look(standing);
            if status != said {
                self.tell(&format!("STATUS={status}"));
                said = status;
            }
            let tick = async {
                match self.tick {
                    Some(_) => clock.sleep_until(next).await,
                    None => future::pending().await,
                }
                true
            };
            let change = async {
                board.newer(version).await;
                false
            };
            if future::or(tick, change).await {
                self.tell("WATCHDOG=1");
                next = clock.now() + self.tick.unwrap_or_default();
            }
        }
    }
}

/// One line for `systemctl status`.
fn standing(board: &Board) -> String {
    let mut text = board.status.as_str().to_owned();
    for trouble in [&board.engine_down, &board.backend_down]
        .into_iter()
        .flatten()
    {
        text.push_str("; ");
        text.push_str(trouble);
    }
    text.replace('\n', " ")
}

/// Half of the time in which the manager wants to hear of this process.
fn tick(env: &Variables<'_>) -> Option<Duration> {
    let is_ours = |pid: String| pid.parse() == Ok(std::process::id());
    if !env("WATCHDOG_PID").is_none_or(is_ours) {
        return None;
    }
    let micros = env("WATCHDOG_USEC")?
        .parse()
        .ok()
        .filter(|micros| *micros > 0)?;
    Some((Duration::from_micros(micros) / 2).max(limits::WATCHDOG_TICK_MIN))
}

fn open(name: &str) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fd_44_how_often_the_watchdog_is_fed() {
        let own = std::process::id().to_string();
        let of = |pid: Option<&str>, micros: &str| {
            tick(&|name: &str| match name {
                "WATCHDOG_PID" => pid.map(str::to_owned),
                "WATCHDOG_USEC" => Some(micros.to_owned()),
                _ => None,
            })
        };
        let half = Some(Duration::from_secs(30));
        assert_eq!(of(None, "60000000"), half);
        assert_eq!(of(Some(&own), "60000000"), half);
        assert_eq!(
            of(Some("1"), "60000000"),
            None,
            "another process is watched"
        );
        assert_eq!(of(None, "0"), None);
        assert_eq!(of(None, "soon"), None);
        assert_eq!(of(None, "1"), Some(limits::WATCHDOG_TICK_MIN));
    }

    #[test]
    fn what_is_wrong_stands_in_the_status() {
        let mut board = Board::default();
        assert_eq!(standing(&board), "done");
        board.engine_down = Some("the engine\ndoes not answer".into());
        assert_eq!(standing(&board), "done; the engine does not answer");
    }
}
