//! The clients of the backend and of the engine, as the configuration wants them.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ApiAddress, Config, EngineAddress, Registration, RemoteConfig};
use crate::host::{facts, vitals};
use crate::http::client::{Endpoint, Roots, Timeouts};
use crate::http::tls::TlsRoots;
use crate::http::url::Url;
use crate::limits;
use crate::remote::register::{About, Registrar};
use crate::remote::{Backend, proxy};
use crate::run::{Failed, failed};
use crate::world::clock::Clock;
use crate::world::remote::Remote;

/// Where the backend is, how to get there, and how long its answers may take.
pub(crate) type Way = (Url, Endpoint, Timeouts);

/// The engine's address as the client takes it.
#[must_use]
pub fn endpoint(engine: EngineAddress) -> Endpoint {
    match engine {
        EngineAddress::Unix(path) => Endpoint::Unix(path),
        EngineAddress::Tcp(host, port) => Endpoint::Tcp { host, port },
    }
}

/// Where a local API is reached from its own machine.
#[must_use]
pub fn endpoint_of(api: &ApiAddress) -> Endpoint {
    match api {
        ApiAddress::Unix(path) => Endpoint::Unix(path.clone()),
        ApiAddress::Tcp(address) => {
            let ip = address.ip();
            let host = match ip.is_unspecified() {
                true => "127.0.0.1".to_owned(),
                false => ip.to_string(),
            };
            let port = address.port();
            Endpoint::Tcp { host, port }
        }
    }
}

/// The client of the backend and the host it talks to.
pub(crate) fn backend(
    (url, endpoint, timeouts): &Way,
    remote: &RemoteConfig,
    identity: (&str, &str),
    config: &Config,
    clock: &Arc<dyn Clock>,
) -> (Arc<dyn Remote>, String) {
    let endpoint = endpoint.clone();
    let backend = Backend::new(url, endpoint, *timeouts, identity, &config.dirs.cache)
        .with_roots(later_roots(remote))
        .with_clock(clock.clone());
    (Arc::new(backend), url.host().to_owned())
}

/// The client that registers this device.
pub(crate) fn registrar(
    (url, endpoint, timeouts): &Way,
    remote: &RemoteConfig,
    registration: &Registration,
    clock: &Arc<dyn Clock>,
) -> Arc<Registrar> {
    let os_version = registration.os_version.clone();
    // Without a version that can be compared the rest would only be refused (remote-api 0.7).
    let variant = os_version.as_ref().and_then(|_| facts::host_os().1);
    let about = About {
        os_version,
        os_variant: variant,
        mac_address: Some(vitals::vitals().mac_address).filter(|text| !text.is_empty()),
        supervisor_version: registration.supervisor_version.clone(),
    };
    let (roots, key) = (later_roots(remote), &registration.key.0);
    let way = (endpoint.clone(), *timeouts);
    let registrar = Registrar::new(url, way, roots, key, about);
    Arc::new(registrar.with_clock(clock.clone()))
}

/// Where the backend is, and how long its answers may take.
pub(crate) fn way(remote: &RemoteConfig) -> Result<Way, Failed> {
    let url = Url::parse(&remote.endpoint).map_err(failed("use the remote API endpoint"))?;
    let host = url.host().to_owned();
    let endpoint = if url.is_tls() {
        let roots = Arc::new(roots(remote.ca_file.as_deref())?);
        Endpoint::Tls {
            host,
            port: url.port(),
            roots,
        }
    } else {
        Endpoint::Tcp {
            host,
            port: url.port(),
        }
    };
    let env = |name: &str| std::env::var(name).ok();
    let endpoint = match proxy::choose(&url, &env).map_err(Failed)? {
        Some(proxy) => {
            log::info!("the way to the backend is the proxy {}", proxy.host);
            let (to, proxy) = (Arc::new(endpoint), Arc::new(proxy));
            Endpoint::Proxied { to, proxy }
        }
        None => endpoint,
    };
    // R-HTTP-3.
    let timeouts = Timeouts {
        resolve: limits::HTTP_RESOLVE_TIMEOUT,
        connect: limits::HTTP_CONNECT_TIMEOUT,
        tls: limits::HTTP_TLS_TIMEOUT,
        head: Duration::from_secs(30),
        idle: Duration::from_secs(15),
        total: Some(remote.timeout),
    };
    Ok((url, endpoint, timeouts))
}

/// Asked for when an endpoint of plain http sends us to https (R-HTTP-8), and by whoever
/// reads a registry.
pub(crate) fn later_roots(remote: &RemoteConfig) -> Box<Roots> {
    let ca_file = remote.ca_file.clone();
    Box::new(move || {
        let roots = roots(ca_file.as_deref()).map(Arc::new);
        roots.map_err(|Failed(why)| why)
    })
}

/// Whom to trust (D-29).
fn roots(ca_file: Option<&Path>) -> Result<TlsRoots, Failed> {
    let read = |path: &Path| {
        let mut pem = Vec::new();
        let file = std::fs::File::open(path).map_err(failed(format!("read {}", path.display())))?;
        let limited = file
            .take(limits::TARGET_BYTES_MAX as u64)
            .read_to_end(&mut pem);
        limited.map_err(failed(format!("read {}", path.display())))?;
        Ok::<_, Failed>(pem)
    };
    let extra = ca_file.map(read).transpose()?;
    let system = std::env::var_os("SSL_CERT_FILE").filter(|path| !path.is_empty());
    let system = system.map(|path| read(Path::new(&path))).transpose()?;
    TlsRoots::load(extra.as_deref(), system.as_deref()).map_err(failed("use the CA certificates"))
}
