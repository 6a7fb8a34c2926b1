//! What is true: arguments, environment and stored identity together. Pure.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use crate::args::{Args, Usage};
use crate::http::url::Url;
use crate::limits;
use crate::model::current::OperatingSystem;

/// Everything the agent is told before it starts.
#[derive(Debug)]
pub struct Config {
    /// This device's uuid.
    pub uuid: Uuid,
    /// The backend; `None` runs unmanaged.
    pub remote: Option<RemoteConfig>,
    /// Where the local API listens.
    pub api: Vec<ApiAddress>,
    /// What the host runs.
    pub os: Option<OperatingSystem>,
    /// The host's name of the runtime directory.
    pub host_runtime_dir: PathBuf,
    /// First wait after a failure.
    pub retry: Duration,
    /// Images pulled at once.
    pub pulls_max: usize,
    /// Nothing is pulled while the engine has fewer bytes free (FD-07); 0 means no limit.
    pub disk_reserve: u64,
    /// Registries that get the device's key.
    pub registry_auth_hosts: Vec<String>,
    /// Where the engine listens.
    pub engine: EngineAddress,
    /// The four directories.
    pub dirs: Dirs,
    /// Things the user should know; logged once.
    pub warnings: Vec<String>,
}

/// Where the uuid comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uuid {
    /// Given or stored.
    Known(String),
    /// To be drawn at random: nothing is stored and nothing was given.
    Random,
}

/// The backend and how to treat it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteConfig {
    /// Its URL, checked (R-URL-1).
    pub endpoint: String,
    /// This device's key.
    pub key: Secret,
    /// One exchange in all.
    pub timeout: Duration,
    /// Between polls; `None`: as the target says (D-23).
    pub poll_interval: Option<Duration>,
    /// Between the starts of two requests.
    pub poll_min_interval: Duration,
    /// Added at random.
    pub poll_jitter: Duration,
    /// PEM file of further authorities.
    pub ca_file: Option<PathBuf>,
}

/// A text that no log, error or `{:?}` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(crate::base::mask::MASK)
    }
}

/// One address of the local API (D-27).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiAddress {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

/// Where the engine listens (`DOCKER_HOST`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineAddress {
    /// A socket file.
    Unix(PathBuf),
    /// Host and port.
    Tcp(String, u16),
}

/// The directories of state-engine 8.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirs {
    /// Identity and keys.
    pub config: PathBuf,
    /// What was accepted and applied.
    pub state: PathBuf,
    /// What can be asked for again.
    pub cache: PathBuf,
    /// Locks and sockets.
    pub runtime: PathBuf,
}

/// What a former run, or upstream, stored about the device's identity (remote-api 1.5).
#[derive(Debug, Clone, Deserialize)]
pub struct Stored {
    /// The device's uuid.
    pub uuid: String,
    /// Its device type.
    #[serde(default)]
    pub device_type: Option<String>,
    /// The backend.
    pub remote: StoredRemote,
}

/// The backend's part of [`Stored`].
#[derive(Debug, Clone, Deserialize)]
pub struct StoredRemote {
    /// Its URL.
    pub api_endpoint: String,
    /// The device's key.
    pub api_key: String,
}

/// Derives the configuration.
///
/// # Errors
/// [`Usage`] names the option whose value cannot be used.
pub fn config(
    args: &Args,
    env: &impl Fn(&str) -> Option<String>,
    stored: Option<&Stored>,
    read: &impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Config, Usage> {
    let mut warnings = Vec::new();
    let dirs = Dirs::from_env(env);
    let (uuid, remote) = identity(args, stored, read, &mut warnings)?;
    user_apps(args)?;
    Ok(Config {
        uuid,
        remote,
        api: args
            .all("local-api-address")
            .map(api_address)
            .collect::<Result<_, _>>()?,
        os: args
            .get("host-os-version")
            .map(operating_system)
            .transpose()?,
        host_runtime_dir: match args.get("host-runtime-dir") {
            Some(dir) if Path::new(dir).is_absolute() => PathBuf::from(dir),
            Some(_) => return Err(Usage("--host-runtime-dir: the path is not absolute".into())),
            None => dirs.runtime.clone(),
        },
        retry: ms(args, "local-retry-interval-ms", 30_000)?,
        pulls_max: number(args, "pulls-max", limits::PULLS_MAX, 1..=16)?,
        disk_reserve: number(
            args,
            "disk-reserve-mib",
            limits::DISK_RESERVE_MIB,
            0..=1 << 24,
        )? << 20,
        registry_auth_hosts: args
            .all("registry-auth-host")
            .map(registry_host)
            .collect::<Result<_, _>>()?,
        engine: engine_address(env("DOCKER_HOST").as_deref())?,
        dirs,
        warnings,
    })
}

/// Who this device is: all three given, else the stored identity, else nobody
/// (state-engine 10.2).
fn identity(
    args: &Args,
    stored: Option<&Stored>,
    read: &impl Fn(&Path) -> std::io::Result<String>,
    warnings: &mut Vec<String>,
) -> Result<(Uuid, Option<RemoteConfig>), Usage> {
    let given = args.get("uuid").map(|uuid| Uuid::Known(uuid.to_owned()));
    let endpoint = args.get("remote-api-endpoint");
    let key = device_key(args, read)?;
    if let (Some(uuid), Some(endpoint), Some(key)) = (&given, endpoint, key) {
        if stored.is_some_and(|stored| Uuid::Known(stored.uuid.clone()) != *uuid) {
            warnings
                .push("the stored identity is ignored: uuid, endpoint and key are given".into());
        }
        return Ok((uuid.clone(), Some(remote(args, endpoint, key)?)));
    }
    if let Some(stored) = stored {
        if given.is_some() || endpoint.is_some() {
            warnings.push("the stored identity wins over --uuid and --remote-api-endpoint".into());
        }
        let key = Secret(stored.remote.api_key.clone());
        let remote = remote(args, &stored.remote.api_endpoint, key)?;
        return Ok((Uuid::Known(stored.uuid.clone()), Some(remote)));
    }
    let timing = ["remote-request-timeout-ms", "remote-poll-interval-ms"];
    let timing = timing
        .iter()
        .chain(&["remote-poll-min-interval-ms", "remote-poll-max-jitter-ms"]);
    for name in timing.filter(|name| args.get(name).is_some()) {
        warnings.push(format!("--{name} has no effect without a backend"));
    }
    if let Some(endpoint) = endpoint {
        url(endpoint)?;
    }
    warnings.push(
        "running unmanaged: no target is polled and nothing is reported \
         (give --uuid, --remote-api-endpoint and --remote-api-key)"
            .into(),
    );
    Ok((given.unwrap_or(Uuid::Random), None))
}

fn device_key(
    args: &Args,
    read: &impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Option<Secret>, Usage> {
    let key = match (args.get("remote-api-key"), args.get("remote-api-key-file")) {
        (Some(_), Some(_)) => {
            return Err(Usage(
                "--remote-api-key-file and --remote-api-key exclude each other".into(),
            ));
        }
        (Some(key), None) => key.to_owned(),
        (None, Some(file)) => match read(Path::new(file)) {
            Ok(key) => key.trim().to_owned(),
            Err(err) => return Err(Usage(format!("--remote-api-key-file: {err}"))),
        },
        (None, None) => return Ok(None),
    };
    // It becomes a header's value: what would end the header is no key.
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Usage(
            "the remote API key is empty or has characters that no key has".into(),
        ));
    }
    Ok(Some(Secret(key)))
}

fn remote(args: &Args, endpoint: &str, key: Secret) -> Result<RemoteConfig, Usage> {
    let poll_interval = match args.get("remote-poll-interval-ms") {
        Some(_) => Some(ms(args, "remote-poll-interval-ms", 0)?),
        None => None,
    };
    let url = url(endpoint)?;
    if url.is_tls() && !cfg!(feature = "tls") {
        return Err(Usage(
            "--remote-api-endpoint: this build has no https".into(),
        ));
    }
    Ok(RemoteConfig {
        endpoint: endpoint.to_owned(),
        key,
        timeout: ms(args, "remote-request-timeout-ms", 59_000)?,
        poll_interval,
        poll_min_interval: ms(args, "remote-poll-min-interval-ms", 10_000)?,
        poll_jitter: ms(args, "remote-poll-max-jitter-ms", 60_000)?,
        ca_file: args.get("remote-ca-file").map(PathBuf::from),
    })
}

fn url(endpoint: &str) -> Result<Url, Usage> {
    Url::parse(endpoint).map_err(|err| Usage(format!("--remote-api-endpoint: {err}")))
}

/// Beside no legacy supervisor `auto` is `on` (D-08), and `off` leaves nobody to
/// run the apps.
fn user_apps(args: &Args) -> Result<(), Usage> {
    match args.get("user-apps") {
        None | Some("auto" | "on") => Ok(()),
        Some("off") => Err(Usage(
            "--user-apps off leaves user apps to a legacy supervisor, and running beside one is \
             not part of this version yet"
                .into(),
        )),
        Some(other) => Err(Usage(format!(
            "--user-apps: expected auto, on or off, got '{other}'"
        ))),
    }
}

fn ms(args: &Args, name: &str, default: u64) -> Result<Duration, Usage> {
    number(args, name, default, 0..=u64::from(u32::MAX)).map(Duration::from_millis)
}

fn number<N: std::str::FromStr + PartialOrd + std::fmt::Display>(
    args: &Args,
    name: &str,
    default: N,
    range: std::ops::RangeInclusive<N>,
) -> Result<N, Usage> {
    let Some(text) = args.get(name) else {
        return Ok(default);
    };
    // `parse` alone would also take a leading `+`.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(value) if digits && range.contains(&value) => Ok(value),
        _ => Err(Usage(format!(
            "--{name}: expected a number from {} to {}, got '{text}'",
            range.start(),
            range.end()
        ))),
    }
}

/// A host, with or without a port. What is more would never be the registry of an image.
fn registry_host(text: &str) -> Result<String, Usage> {
    let has_host = Url::parse(&format!("http://{text}")).is_ok();
    if !has_host || text.contains('/') {
        return Err(Usage(format!(
            "--registry-auth-host: expected a host, with or without a port, got '{text}'"
        )));
    }
    Ok(text.to_owned())
}

/// `IP:PORT`, a path, or either behind `tcp:` or `unix:` (D-27).
fn api_address(text: &str) -> Result<ApiAddress, Usage> {
    let wrong = |why: &str| Usage(format!("--local-api-address '{text}': {why}"));
    if let Some(path) = text.strip_prefix("unix:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        return if path.is_empty() {
            Err(wrong("the path is empty"))
        } else {
            Ok(ApiAddress::Unix(path.into()))
        };
    }
    if let Some(address) = text.strip_prefix("tcp:") {
        let address = address.strip_prefix("//").unwrap_or(address);
        let address = address
            .parse()
            .map_err(|_| wrong("expected an IP address and a port"));
        return address.map(ApiAddress::Tcp);
    }
    if let Ok(address) = text.parse() {
        return Ok(ApiAddress::Tcp(address));
    }
    // `localhost:48484` once made a socket file of that name.
    if !text.contains('/') && text.contains(':') {
        return Err(wrong("expected IP:PORT, unix:PATH or a path"));
    }
    Ok(ApiAddress::Unix(text.into()))
}

/// Where `DOCKER_HOST` says that the engine listens.
///
/// # Errors
/// [`Usage`] when it is no address.
pub fn engine_address(text: Option<&str>) -> Result<EngineAddress, Usage> {
    let text = text
        .filter(|text| !text.is_empty())
        .unwrap_or("unix:///var/run/docker.sock");
    let wrong = |why: &str| Usage(format!("DOCKER_HOST '{text}': {why}"));
    if let Some(path) = text.strip_prefix("unix://") {
        return match path {
            "" => Err(wrong("the path is empty")),
            path => Ok(EngineAddress::Unix(path.into())),
        };
    }
    let http = match (text.strip_prefix("tcp://"), text.strip_prefix("http://")) {
        (Some(rest), _) | (None, Some(rest)) => format!("http://{rest}"),
        (None, None) => return Err(wrong("expected unix://, tcp:// or http://")),
    };
    let url = Url::parse(&http).map_err(|err| wrong(&err.to_string()))?;
    let has_port = http
        .trim_end_matches('/')
        .rsplit_once(':')
        .is_some_and(|(_, port)| {
            !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
        });
    Ok(EngineAddress::Tcp(
        url.host().to_owned(),
        if has_port { url.port() } else { 2375 },
    ))
}

/// `NAME [VERSION[@BUILD]]` (state-engine 10.7).
fn operating_system(text: &str) -> Result<OperatingSystem, Usage> {
    let wrong = || {
        Usage(format!(
            "--host-os-version: expected NAME [VERSION[@BUILD]], got '{text}'"
        ))
    };
    let text = text.trim();
    let (name, version) = match text.rsplit_once(' ') {
        Some((name, version)) => (name.trim_end(), Some(version)),
        None => (text, None),
    };
    let (version, build) = match version.map(|version| (version, version.rsplit_once('@'))) {
        Some((_, Some((version, build)))) => (Some(version), Some(build)),
        Some((version, None)) => (Some(version), None),
        None => (None, None),
    };
    if name.is_empty() || version == Some("") || build == Some("") {
        return Err(wrong());
    }
    let shared = |text: &str| Arc::from(text);
    Ok(OperatingSystem {
        name: name.into(),
        version: version.map(shared),
        build: build.map(shared),
    })
}

impl Dirs {
    /// From the `XDG_*` variables that are absolute, else below `$HOME`, else below `/tmp`.
    #[must_use]
    pub fn from_env(env: &impl Fn(&str) -> Option<String>) -> Dirs {
        let absolute = |name: &str| {
            env(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let temp = absolute("TMPDIR").unwrap_or_else(|| "/tmp".into());
        let home = absolute("HOME").unwrap_or_else(|| temp.clone());
        let below = |name: &str, default: &str| {
            absolute(name)
                .unwrap_or_else(|| home.join(default))
                .join("helios")
        };
        Dirs {
            config: below("XDG_CONFIG_HOME", ".config"),
            state: below("XDG_STATE_HOME", ".local/state"),
            cache: below("XDG_CACHE_HOME", ".cache"),
            runtime: absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| temp.join("helios")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    fn derive(
        line: &[&str],
        env: &[(&str, &str)],
        stored: Option<&Stored>,
    ) -> Result<Config, Usage> {
        let parsed = crate::args::parse(line.iter().map(OsString::from), |_| None)?;
        let crate::args::Command::Run(args) = parsed else {
            panic!("{line:?}")
        };
        let env = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        config(&args, &env, stored, &|_| Ok("file-key\n".to_owned()))
    }

    fn stored() -> Stored {
        let remote = StoredRemote {
            api_endpoint: "http://stored".into(),
            api_key: "stored-key".into(),
        };
        Stored {
            uuid: "stored".into(),
            device_type: None,
            remote,
        }
    }

    const MANAGED: [&str; 5] = [
        "--uuid",
        "u",
        "--remote-api-endpoint",
        "http://h",
        "--remote-api-key",
    ];

    #[test]
    fn identity_precedence() {
        let given: Vec<_> = MANAGED.into_iter().chain(["k"]).collect();
        let config = derive(&given, &[], Some(&stored())).unwrap();
        assert_eq!(config.uuid, Uuid::Known("u".into()));
        assert_eq!(config.remote.unwrap().key, Secret("k".into()));
        assert!(config.warnings[0].contains("stored identity is ignored"));

        let config = derive(&["--uuid", "u"], &[], Some(&stored())).unwrap();
        assert_eq!(config.uuid, Uuid::Known("stored".into()));
        assert_eq!(config.remote.unwrap().endpoint, "http://stored");

        let config = derive(&["--remote-poll-interval-ms", "5"], &[], None).unwrap();
        assert_eq!((config.uuid, config.remote), (Uuid::Random, None));
        assert!(
            config
                .warnings
                .iter()
                .any(|line| line.contains("no effect"))
        );
        assert!(
            config
                .warnings
                .iter()
                .any(|line| line.contains("unmanaged"))
        );
    }

    #[test]
    fn keys_stay_out_of_debug_and_must_be_header_safe() {
        let file = [
            "--uuid",
            "u",
            "--remote-api-endpoint",
            "http://h",
            "--remote-api-key-file",
            "f",
        ];
        let config = derive(&file, &[], None).unwrap();
        assert_eq!(
            config.remote.as_ref().unwrap().key,
            Secret("file-key".into())
        );
        assert!(!format!("{config:?}").contains("file-key"));
        let bad: Vec<_> = MANAGED.into_iter().chain(["a\r\nb"]).collect();
        assert!(derive(&bad, &[], None).unwrap_err().0.contains("key"));
    }

    #[test]
    fn la_d27_addresses() {
        use ApiAddress::{Tcp, Unix};
        #[rustfmt::skip]
        let cases = [
            ("127.0.0.1:48484", Ok(Tcp("127.0.0.1:48484".parse().unwrap()))),
            ("tcp:[::1]:80", Ok(Tcp("[::1]:80".parse().unwrap()))),
            ("unix:/run/h.sock", Ok(Unix("/run/h.sock".into()))),
            ("/run/h.sock", Ok(Unix("/run/h.sock".into()))),
            ("./a:b/h.sock", Ok(Unix("./a:b/h.sock".into()))),
            ("localhost:48484", Err(())),
            ("tcp:localhost:1", Err(())),
            ("unix:", Err(())),
        ];
        for (text, want) in cases {
            assert_eq!(api_address(text).map_err(|_| ()), want, "{text}");
        }
    }

    #[test]
    fn engine_addresses() {
        use EngineAddress::{Tcp, Unix};
        #[rustfmt::skip]
        let cases = [
            (None, Ok(Unix("/var/run/docker.sock".into()))),
            (Some(""), Ok(Unix("/var/run/docker.sock".into()))),
            (Some("unix:///run/e.sock"), Ok(Unix("/run/e.sock".into()))),
            (Some("tcp://10.0.0.1:99"), Ok(Tcp("10.0.0.1".into(), 99))),
            (Some("http://h"), Ok(Tcp("h".into(), 2375))),
            (Some("ssh://h"), Err(())),
            (Some("unix://"), Err(())),
        ];
        for (text, want) in cases {
            assert_eq!(engine_address(text).map_err(|_| ()), want, "{text:?}");
        }
    }

    #[test]
    fn operating_systems() {
        let os = operating_system(" balenaOS 6.1.4+rev2@4f2a ").unwrap();
        assert_eq!(
            (&*os.name, os.version.as_deref(), os.build.as_deref()),
            ("balenaOS", Some("6.1.4+rev2"), Some("4f2a"))
        );
        assert_eq!(&*operating_system("My OS 1").unwrap().name, "My OS");
        for bad in ["", "a @b", "a 1@"] {
            assert!(operating_system(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_are_checked() {
        for (line, want) in [
            (["--pulls-max", "0"], "--pulls-max"),
            (["--pulls-max", "+1"], "--pulls-max"),
            (
                ["--local-retry-interval-ms", "-1"],
                "--local-retry-interval-ms",
            ),
            (["--user-apps", "maybe"], "--user-apps"),
            (["--user-apps", "off"], "legacy"),
            (
                ["--remote-api-endpoint", "ftp://x"],
                "--remote-api-endpoint",
            ),
            (["--host-runtime-dir", "a"], "--host-runtime-dir"),
            (
                ["--registry-auth-host", "https://h"],
                "--registry-auth-host",
            ),
            (["--registry-auth-host", "h/v2"], "--registry-auth-host"),
        ] {
            let error = derive(&line, &[], None).unwrap_err();
            assert!(error.0.contains(want), "{line:?}: {}", error.0);
        }
    }

    #[test]
    fn directories() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/u".to_owned()),
            "XDG_STATE_HOME" => Some("/s".to_owned()),
            "XDG_CACHE_HOME" => Some("relative".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/u".to_owned()),
            _ => None,
        };
        let dirs = Dirs::from_env(&env);
        assert_eq!(dirs.config, Path::new("/home/u/.config/helios"));
        assert_eq!(dirs.state, Path::new("/s/helios"));
        assert_eq!(dirs.cache, Path::new("/home/u/.cache/helios"));
        assert_eq!(dirs.runtime, Path::new("/run/u"));
    }
}
