//! Where the local API listens (D-27).

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
    for address in &config.api {
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
