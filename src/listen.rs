//! Where the local API listens (D-27).

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use async_io::Async;
use rustix::net::{AddressFamily, sockopt};

use crate::config::{ApiAddress, Config};
use crate::http::server::Listener;
use crate::run::{Failed, failed};

/// Listeners of the local API, and whether one of them is on loopback or has to be guarded.
pub(crate) struct Listeners {
    pub all: Vec<Listener>,
    pub has_loopback: bool,
    pub needs_key: bool,
}

pub(crate) fn listeners(config: &Config) -> Result<Listeners, Failed> {
    let mut found = Listeners {
        all: Vec::new(),
        has_loopback: false,
        needs_key: false,
    };
    for socket in handed::sockets() {
        let listener = taken(socket, &mut found).map_err(failed("take a socket of systemd's"))?;
        found.all.push(listener);
    }
    let own = if found.all.is_empty() {
        config.api.as_slice()
    } else {
        // What was set up for the agent is where others look for it.
        &[]
    };
    for address in own {
        let listener = match address {
            ApiAddress::Tcp(address) => {
                found.has_loopback |= address.ip().is_loopback();
                found.needs_key |= !address.ip().is_loopback();
                Listener::bind_tcp(*address).map_err(failed(format!("listen on {address}")))?
            }
            ApiAddress::Unix(path) => Listener::bind_unix(path, 0o600)
                .map_err(failed(format!("listen on {}", path.display())))?,
        };
        log::info!("local API on {}", listener.local_addr());
        found.all.push(listener);
    }
    if found.has_loopback {
        log::warn!("every program on this host may use the local API on loopback");
    }
    Ok(found)
}

/// A socket that was opened for the agent. A file that is its name stays when the agent ends.
fn taken(socket: OwnedFd, found: &mut Listeners) -> io::Result<Listener> {
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::Error::other("nobody listens on it"));
    }
    let (listener, name) = match sockopt::socket_domain(&socket)? {
        AddressFamily::UNIX => {
            let unix = UnixListener::from(socket);
            let name = unix.local_addr()?;
            let name = name.as_pathname().map(|path| path.display().to_string());
            let listener = Listener::Unix(Async::new(unix)?, PathBuf::new());
            (
                listener,
                name.unwrap_or_else(|| "a socket without a path".to_owned()),
            )
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let tcp = TcpListener::from(socket);
            let address = tcp.local_addr()?;
            let is_loopback = address.ip().to_canonical().is_loopback();
            found.has_loopback |= is_loopback;
            found.needs_key |= !is_loopback;
            (Listener::Tcp(Async::new(tcp)?), address.to_string())
        }
        _ => return Err(io::Error::other("it is of an unknown kind")),
    };
    log::info!("local API on {name}, as systemd says");
    Ok(listener)
}
