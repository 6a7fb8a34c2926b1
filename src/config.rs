//! What is true: arguments, environment and stored identity together. Pure.

mod beside;

pub use beside::LegacyConfig;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::args::{Args, Usage, Variables};
use crate::http::url::Url;
use crate::limits;
use crate::model::current::OperatingSystem;
use crate::model::identity::{Record, RecordRemote, RecordRequest};

/// Everything the agent is told before it starts.
#[derive(Debug)]
pub struct Config {
    /// This device's uuid.
    pub uuid: Uuid,
    /// The backend; `None` runs unmanaged.
    pub remote: Option<RemoteConfig>,
    /// The legacy supervisor, where there is one.
    pub legacy: Option<LegacyConfig>,
    /// Whether user apps are this agent's; else they are left to that one (D-08).
    pub has_user_apps: bool,
    /// How to become known to it, where this device is not yet.
    pub registration: Option<Registration>,
    /// It is the one that is stored.
    pub is_identity_stored: bool,
    /// The device type that is stored, or is to be registered.
    pub device_type: Option<String>,
    /// Where the local API listens.
    pub api: Vec<ApiAddress>,
    /// What the host runs.
    pub os: Option<OperatingSystem>,
    /// The host's name of the runtime directory.
    pub host_runtime_dir: PathBuf,
    /// The host's state partition, where somebody said where it is seen.
    pub host_state_dir: Option<PathBuf>,
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
    /// This device's key; empty while it is not registered.
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

/// How this device is registered (remote-api 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The provisioning key.
    pub key: Secret,
    /// Who it wants to be. A uuid or key that is empty is still to be drawn.
    pub record: Record,
    /// What the backend is told of the device.
    pub os_version: Option<String>,
    /// The same.
    pub supervisor_version: Option<String>,
}

/// What former runs, or upstream, stored about the device's identity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The identity.
    pub stored: Option<Record>,
    /// The candidate of a registration at the same endpoint that was cut off.
    pub candidate: Option<Record>,
}

/// Derives the configuration.
///
/// # Errors
/// [`Usage`] names the option whose value cannot be used.
pub fn config(
    args: &Args,
    env: &Variables<'_>,
    known: &Known,
    read: &impl Fn(&Path) -> std::io::Result<String>,
) -> Result<Config, Usage> {
    let mut warnings = Vec::new();
    let dirs = Dirs::from_env(env);
    let (uuid, remote, registration) = identity(args, known, read, &mut warnings)?;
    let record = registration.as_ref().map(|it| &it.record);
    let record = record.or(known.stored.as_ref());
    let legacy = beside::legacy(args)?;
    let has_user_apps = beside::user_apps(args, legacy.is_some())?;
    if legacy.is_some() && args.get("local-api-address").is_none() {
        warnings.push("nothing is passed on to the legacy supervisor without a local API".into());
    }
    Ok(Config {
        legacy,
        has_user_apps,
        uuid,
        remote,
        is_identity_stored: known.stored.is_some() && !is_identity_given(args),
        device_type: record.and_then(|record| record.device_type.clone()),
        registration,
        api: args
            .all("local-api-address")
            .map(api_address)
            .collect::<Result<_, _>>()?,
        os: args
            .get("host-os-version")
            .map(operating_system)
            .transpose()?,
        host_runtime_dir: args
            .dir("host-runtime-dir")?
            .unwrap_or_else(|| dirs.runtime.clone()),
        host_state_dir: args.dir("host-state-dir")?,
        retry: ms(args, "local-retry-interval-ms", 30_000)?.max(limits::RETRY_MIN),
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

/// Whether a key is given, and with it uuid and endpoint, so that nothing stored counts.
#[must_use]
pub fn is_identity_given(args: &Args) -> bool {
    args.get("remote-api-key").is_some() || args.get("remote-api-key-file").is_some()
}

/// The endpoint at which a registration is asked for, in its rendered form (remote-api 0.4).
///
/// # Errors
/// [`Usage`] when it is no URL.
pub fn registers_at(args: &Args) -> Result<Option<String>, Usage> {
    match (
        args.get("provisioning-key"),
        args.get("remote-api-endpoint"),
    ) {
        (Some(_), Some(endpoint)) => url(endpoint).map(|url| Some(url.to_string())),
        _ => Ok(None),
    }
}

type Identity = (Uuid, Option<RemoteConfig>, Option<Registration>);

/// Who this device is: all three given, else the stored identity, else one that is to be
/// registered, else nobody (remote-api 0.5).
fn identity(
    args: &Args,
    known: &Known,
    read: &impl Fn(&Path) -> std::io::Result<String>,
    warnings: &mut Vec<String>,
) -> Result<Identity, Usage> {
    let given = args.get("uuid").map(|uuid| Uuid::Known(uuid.to_owned()));
    let endpoint = args.get("remote-api-endpoint");
    let key = device_key(args, read)?;
    let default = RecordRequest::default();
    if let (Some(uuid), Some(endpoint), Some(key)) = (&given, endpoint, key) {
        let stored = known.stored.as_ref();
        if stored.is_some_and(|stored| Uuid::Known(stored.uuid.clone()) != *uuid) {
            warnings
                .push("the stored identity is ignored: uuid, endpoint and key are given".into());
        }
        if args.get("provisioning-key").is_some() {
            warnings.push("nothing is registered: uuid, endpoint and key are given".into());
        }
        let remote = remote(args, endpoint, key, &default)?;
        return Ok((uuid.clone(), Some(remote), None));
    }
    if let Some(stored) = &known.stored {
        differences(args, stored, "the stored identity", warnings);
        let key = Secret(stored.remote.api_key.clone());
        let remote = remote(
            args,
            &stored.remote.api_endpoint,
            key,
            &stored.remote.request,
        )?;
        return Ok((Uuid::Known(stored.uuid.clone()), Some(remote), None));
    }
    if let (Some(key), Some(endpoint)) = (args.get("provisioning-key"), endpoint) {
        let key = header_safe(key.to_owned(), "the provisioning key")?;
        let remote = remote(args, endpoint, Secret(String::new()), &default)?;
        let registration = registration(args, key, &remote, known, warnings)?;
        return Ok((Uuid::Random, Some(remote), Some(registration)));
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
         (give --uuid, --remote-api-endpoint and --remote-api-key, or --provisioning-key)"
            .into(),
    );
    Ok((given.unwrap_or(Uuid::Random), None, None))
}

/// Warns of every argument that says something else than a record that wins over it
/// (R-REG-4).
fn differences(args: &Args, record: &Record, what: &str, warnings: &mut Vec<String>) {
    let rendered = |text: &str| Url::parse(text).map(|url| url.to_string());
    let fleet = record.fleet.map(|fleet| fleet.to_string());
    let endpoint = &record.remote.api_endpoint;
    let is_same = |name: &str, given: &str| match name {
        "uuid" => given == record.uuid,
        "remote-api-endpoint" => rendered(given).ok() == rendered(endpoint).ok(),
        "provisioning-fleet" => fleet.as_deref().is_none_or(|fleet| fleet == given),
        _ => record.device_type.as_deref().is_none_or(|it| it == given),
    };
    let names = [
        "uuid",
        "remote-api-endpoint",
        "provisioning-fleet",
        "provisioning-device-type",
    ];
    for name in names {
        if args.get(name).is_some_and(|given| !is_same(name, given)) {
            warnings.push(format!("{what} has another value and wins over --{name}"));
        }
    }
}

/// The candidate that is kept, or a new one (R-REG-4, R-REG-10).
fn registration(
    args: &Args,
    key: Secret,
    remote: &RemoteConfig,
    known: &Known,
    warnings: &mut Vec<String>,
) -> Result<Registration, Usage> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let interval = remote
        .poll_interval
        .unwrap_or(limits::POLL_INTERVAL_DEFAULT);
    let request = RecordRequest {
        timeout: millis(remote.timeout),
        poll_interval: millis(interval),
        poll_min_interval: millis(remote.poll_min_interval),
        poll_max_jitter: millis(remote.poll_jitter),
    };
    let uuid = args.get("uuid").unwrap_or_default();
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    if !matches!(uuid.len(), 0 | 32 | 62) || !uuid.bytes().all(is_hex) {
        return Err(Usage(
            "--uuid: a device that is registered has 32 or 62 lower-case hex digits".into(),
        ));
    }
    let fleet = number(args, "provisioning-fleet", 0, 1..=u64::from(u32::MAX))?;
    let device_type = args.get("provisioning-device-type").unwrap_or_default();
    let is_slug = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !device_type.bytes().all(is_slug) {
        return Err(Usage(
            "--provisioning-device-type: expected letters, digits, `_` and `-`".into(),
        ));
    }
    let mut record = Record {
        uuid: uuid.to_owned(),
        fleet: u32::try_from(fleet).ok(),
        device_type: Some(device_type.to_owned()),
        remote: RecordRemote {
            api_endpoint: url(&remote.endpoint)?.to_string(),
            api_key: String::new(),
            request,
        },
    };
    if let Some(candidate) = &known.candidate {
        let what = "the registration that was begun";
        differences(args, candidate, what, warnings);
        record.clone_from(candidate);
        record.remote.request = request;
    }
    let host_os = args
        .get("host-os-version")
        .map(operating_system)
        .transpose()?;
    let host_os = host_os.and_then(|os| Some(format!("{} {}", os.name, os.version?)));
    let text = |name: &str| args.get(name).map(str::to_owned);
    Ok(Registration {
        key,
        record,
        os_version: text("provisioning-os-version").or(host_os),
        supervisor_version: text("provisioning-supervisor-version"),
    })
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
    header_safe(key, "the remote API key").map(Some)
}

/// A key becomes a header's value: what would end the header is no key.
fn header_safe(key: String, what: &str) -> Result<Secret, Usage> {
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = "is empty or has characters that no key has";
        return Err(Usage(format!("{what} {why}")));
    }
    Ok(Secret(key))
}

/// `stored` are the times of an identity, which options override for this run.
fn remote(
    args: &Args,
    endpoint: &str,
    key: Secret,
    stored: &RecordRequest,
) -> Result<RemoteConfig, Usage> {
    // Who stored the default has chosen nothing: the target may (D-23).
    let chosen = Some(stored.poll_interval);
    let chosen = chosen.filter(|ms| *ms != RecordRequest::default().poll_interval);
    let poll_interval = match (args.get("remote-poll-interval-ms"), chosen) {
        (None, None) => None,
        (_, chosen) => Some(ms(args, "remote-poll-interval-ms", chosen.unwrap_or(0))?),
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
        timeout: ms(args, "remote-request-timeout-ms", stored.timeout)?,
        poll_interval,
        poll_min_interval: ms(
            args,
            "remote-poll-min-interval-ms",
            stored.poll_min_interval,
        )?,
        poll_jitter: ms(args, "remote-poll-max-jitter-ms", stored.poll_max_jitter)?,
        ca_file: args.get("remote-ca-file").map(PathBuf::from),
    })
}

fn url(endpoint: &str) -> Result<Url, Usage> {
    Url::parse(endpoint).map_err(|err| Usage(format!("--remote-api-endpoint: {err}")))
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
///
/// # Errors
/// [`Usage`] when it is none of them.
pub fn api_address(text: &str) -> Result<ApiAddress, Usage> {
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
pub(crate) fn operating_system(text: &str) -> Result<OperatingSystem, Usage> {
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
    pub fn from_env(env: &Variables<'_>) -> Dirs {
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
        stored: Option<&Record>,
    ) -> Result<Config, Usage> {
        let known = Known {
            stored: stored.cloned(),
            candidate: None,
        };
        derive_known(line, env, &known)
    }

    fn derive_known(line: &[&str], env: &[(&str, &str)], known: &Known) -> Result<Config, Usage> {
        let parsed = crate::args::parse(line.iter().map(OsString::from), |_| None)?;
        let crate::args::Command::Run(args) = parsed else {
            panic!("{line:?}")
        };
        let env = |name: &str| {
            env.iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        };
        config(&args, &env, known, &|_| Ok("file-key\n".to_owned()))
    }

    fn stored() -> Record {
        Record {
            uuid: "stored".into(),
            fleet: Some(7),
            device_type: Some("generic-amd64".into()),
            remote: RecordRemote {
                api_endpoint: "http://stored/".into(),
                api_key: "stored-key".into(),
                request: RecordRequest::default(),
            },
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
        assert_eq!(config.remote.unwrap().endpoint, "http://stored/");
        assert!(config.warnings[0].contains("--uuid"));

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

    const REGISTERS: [&str; 8] = [
        "--remote-api-endpoint",
        "HTTP://Stored",
        "--provisioning-key",
        "pk",
        "--provisioning-fleet",
        "7",
        "--provisioning-device-type",
        "generic-amd64",
    ];

    #[test]
    fn ra_1_1_a_registration_is_derived_and_a_stored_identity_needs_none() {
        let line: Vec<_> = REGISTERS
            .into_iter()
            .chain([
                "--host-os-version",
                "balenaOS 6.5.39@x",
                "--remote-poll-interval-ms",
                "5",
            ])
            .collect();
        let config = derive(&line, &[], None).unwrap();
        let registration = config.registration.as_ref().unwrap();
        let record = &registration.record;
        assert_eq!((&*record.uuid, &*record.remote.api_key), ("", ""));
        assert_eq!(record.fleet, Some(7));
        assert_eq!(record.remote.api_endpoint, "http://stored/", "R-URL-3");
        assert_eq!(record.remote.request.poll_interval, 5);
        assert_eq!(registration.os_version.as_deref(), Some("balenaOS 6.5.39"));
        assert!(!format!("{config:?}").contains("pk\""), "R-REG-9");
        assert_eq!(config.device_type.as_deref(), Some("generic-amd64"));

        // The same line at the next start: no warning, no registration.
        let config = derive(&REGISTERS, &[], Some(&stored())).unwrap();
        assert_eq!(config.registration, None);
        assert_eq!(config.warnings, Vec::<String>::new());
        let fleet: Vec<_> = REGISTERS
            .map(|word| if word == "7" { "8" } else { word })
            .into();
        let config = derive(&fleet, &[], Some(&stored())).unwrap();
        assert!(config.warnings[0].contains("--provisioning-fleet"));
    }

    #[test]
    fn s_reg_09_r_reg_4_a_candidate_wins_but_for_the_times() {
        let mut candidate = stored();
        candidate.fleet = Some(1);
        candidate.remote.request.timeout = 3;
        let known = Known {
            stored: None,
            candidate: Some(candidate),
        };
        let config = derive_known(&REGISTERS, &[], &known).unwrap();
        let record = config.registration.unwrap().record;
        assert_eq!((record.fleet, &*record.uuid), (Some(1), "stored"));
        assert_eq!(record.remote.request, RecordRequest::default());
        assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
        assert!(config.warnings[0].contains("--provisioning-fleet"));
    }

    #[test]
    fn d_23_a_stored_interval_counts_if_somebody_chose_it() {
        let interval = |stored: &Record| {
            let config = derive(&[], &[], Some(stored)).unwrap();
            config.remote.unwrap().poll_interval
        };
        let mut chosen = stored();
        assert_eq!(interval(&chosen), None);
        chosen.remote.request.poll_interval = 5000;
        assert_eq!(interval(&chosen), Some(Duration::from_secs(5)));
    }

    #[test]
    fn r_reg_10_what_no_backend_takes_is_refused_at_once() {
        for (name, value, want) in [
            ("7", "0", "--provisioning-fleet"),
            ("7", "4294967296", "--provisioning-fleet"),
            ("generic-amd64", "a b", "--provisioning-device-type"),
            ("pk", "p\nk", "provisioning key"),
            ("HTTP://Stored", "ftp://h", "--remote-api-endpoint"),
        ] {
            let line = REGISTERS.map(|word| if word == name { value } else { word });
            let error = derive(&line, &[], None).unwrap_err();
            assert!(error.0.contains(want), "{value}: {}", error.0);
        }
        for uuid in ["u", "0123456789ABCDEF0123456789abcdef", "0123"] {
            let line: Vec<_> = REGISTERS.into_iter().chain(["--uuid", uuid]).collect();
            assert!(derive(&line, &[], None).unwrap_err().0.contains("--uuid"));
        }
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
            (["--host-state-dir", "a"], "--host-state-dir"),
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
    fn d_08_whose_user_apps_are() {
        let legacy = [
            "--legacy-api-endpoint",
            "http://127.0.0.1:1",
            "--legacy-api-key",
            "k",
        ];
        let are_ours = |mode: &[&str], legacy: &[&str]| {
            let config = derive(&[mode, legacy].concat(), &[], None);
            config.ok().map(|config| config.has_user_apps)
        };
        let (auto, on, off) = (
            ["--user-apps", "auto"],
            ["--user-apps", "on"],
            ["--user-apps", "off"],
        );
        for mode in [&[][..], &auto] {
            assert_eq!(are_ours(mode, &[]), Some(true));
            assert_eq!(are_ours(mode, &legacy), Some(false));
        }
        assert_eq!(
            (are_ours(&on, &[]), are_ours(&on, &legacy)),
            (Some(true), Some(true))
        );
        assert_eq!(
            (are_ours(&off, &[]), are_ours(&off, &legacy)),
            (None, Some(false))
        );
    }

    #[test]
    fn d_19_what_fails_is_not_tried_without_end() {
        let retry = |ms| {
            derive(&["--local-retry-interval-ms", ms], &[], None)
                .unwrap()
                .retry
        };
        assert_eq!(retry("0"), limits::RETRY_MIN);
        assert_eq!(retry("400"), Duration::from_millis(400));
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
