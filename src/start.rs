//! `helios start` and `helios healthcheck`: what a start script and a health check would do in
//! the agent's container, which has no shell (state-engine 10.5, 10.6). The translation of the
//! variables is pure.

use std::path::PathBuf;

use crate::args::{Usage, Variables};
use crate::base::thread::wait_for;
use crate::clients::endpoint_of;
use crate::config::{self, ApiAddress};
use crate::http::client::{Client, Endpoint, Request, Timeouts};
use crate::limits;
use crate::run::Failed;
#[cfg(feature = "legacy")]
use crate::takeover::args::{self as takeover, Wanted};
#[cfg(feature = "legacy")]
use crate::takeover::guard::Guarded;

/// Where the directories are in the image.
const DIRS: [(&str, &str); 4] = [
    ("XDG_CACHE_HOME", "/cache"),
    ("XDG_CONFIG_HOME", "/config"),
    ("XDG_STATE_HOME", "/local"),
    ("XDG_RUNTIME_DIR", "/tmp/run"),
];
/// The shortest interval that a container may ask for.
const POLL_INTERVAL_MIN_MS: u64 = 900_000;
/// Not for a container to choose (W-40).
const FIXED: [&str; 2] = [
    "HELIOS_REMOTE_POLL_MIN_INTERVAL_MS",
    "HELIOS_REMOTE_POLL_MAX_JITTER_MS",
];

/// The environment of the agent.
#[derive(Debug, Default)]
pub struct Started {
    /// Variables that differ from those of the container; `None`: it is not there.
    changed: Vec<(&'static str, Option<String>)>,
    /// What the legacy supervisor is told, where there is one.
    #[cfg(feature = "legacy")]
    pub takeover: Option<Wanted>,
    /// Things the user should know.
    pub warnings: Vec<String>,
}

impl Started {
    /// A variable as the agent sees it.
    #[must_use]
    pub fn get(&self, name: &str, env: &Variables<'_>) -> Option<String> {
        let changed = self.changed.iter().find(|(known, _)| *known == name);
        match changed {
            Some((_, value)) => value.clone(),
            None => env(name),
        }
    }

    fn set(&mut self, name: &'static str, value: impl Into<String>) {
        self.changed.push((name, Some(value.into())));
    }
}

/// The agent's environment from that of a service of the device (state-engine 10.5).
///
/// # Errors
/// One sentence, when the container lacks what an agent needs.
pub fn translate(env: &Variables<'_>) -> Result<Started, Failed> {
    let env = |name: &str| env(name).filter(|value| !value.is_empty());
    let need = |name: &str| {
        let why = || Failed(format!("{name} is not set: is this a service of a device?"));
        env(name).ok_or_else(why)
    };
    need("DOCKER_HOST")?;
    let mut started = Started::default();
    started.set("HELIOS_UUID", need("BALENA_DEVICE_UUID")?);
    // Of these only what is translated counts.
    let dir = env("BALENA_HOST_RUNTIME_DIR");
    started.changed.push(("HELIOS_HOST_RUNTIME_DIR", dir));
    let (url, key) = (env("BALENA_API_URL"), env("BALENA_API_KEY"));
    let key = key.filter(|_| url.is_some());
    if let (Some(url), Some(_)) = (url, &key) {
        started.set("HELIOS_REMOTE_API_ENDPOINT", url);
    }
    started.changed.push(("HELIOS_REMOTE_API_KEY", key));
    for name in FIXED {
        if env(name).is_some() {
            started.changed.push((name, None));
            started.warnings.push(format!("{name} has no effect here"));
        }
    }
    let interval = env("HELIOS_REMOTE_POLL_INTERVAL_MS");
    let interval = interval.and_then(|text| text.parse::<u64>().ok());
    if interval.is_some_and(|ms| ms < POLL_INTERVAL_MIN_MS) {
        let name = "HELIOS_REMOTE_POLL_INTERVAL_MS";
        started.set(name, POLL_INTERVAL_MIN_MS.to_string());
        let why = format!("{name} is taken as {POLL_INTERVAL_MIN_MS}, the least");
        started.warnings.push(why);
    }
    if let Some(version) = env("BALENA_HOST_OS_VERSION") {
        let revision = env("BALENA_HOST_OS_BOARD_REV");
        let revision = revision.map(|revision| format!("@{revision}"));
        let text = version + &revision.unwrap_or_default();
        started.set("HELIOS_HOST_OS_VERSION", text);
    }
    for (name, dir) in DIRS {
        if env(name).is_none() {
            started.set(name, dir);
        }
    }
    let port = legacy(&mut started, &env)?;
    if env("HELIOS_LOCAL_API_ADDRESS").is_none() {
        let socket = socket(&|name: &str| started.get(name, &env));
        let mut addresses = format!("unix:{}", socket.display());
        if let Some(port) = port {
            // Where the supervisor listened until now, whoever calls it.
            addresses += &format!(",tcp:0.0.0.0:{port}");
        }
        started.set("HELIOS_LOCAL_API_ADDRESS", addresses);
    }
    Ok(started)
}

/// Finds the legacy supervisor; the port that it is called at so far.
#[cfg(feature = "legacy")]
fn legacy(started: &mut Started, env: &Variables<'_>) -> Result<Option<u16>, Failed> {
    let names = ["API_KEY", "HOST", "PORT"].map(|name| env(&format!("BALENA_SUPERVISOR_{name}")));
    let [Some(key), Some(host), Some(port)] = names else {
        return Ok(None);
    };
    let number = |name: &str, text: &str| {
        let why = |_| Failed(format!("{name}: expected a port, got '{text}'"));
        takeover::number(text).map_err(why)
    };
    let port = number("BALENA_SUPERVISOR_PORT", &port)?;
    let later = env("HELIOS_LEGACY_PORT");
    let later = later.map_or(Ok(48480), |text| number("HELIOS_LEGACY_PORT", &text))?;
    // Told another port it listens there on its own network only (remote-api 8.3).
    let is_loopback = host == "localhost" || host.starts_with("127.");
    let host = env("HELIOS_LEGACY_HOST").unwrap_or_else(|| match is_loopback {
        true => takeover::LEGACY_HOST.to_owned(),
        false => host,
    });
    started.set(
        "HELIOS_LEGACY_API_ENDPOINT",
        format!("http://{host}:{later}"),
    );
    started.set("HELIOS_LEGACY_API_KEY", key);
    let endpoint = takeover::address(&format!("http://127.0.0.1:{port}"));
    started.takeover = Some(Wanted {
        endpoint: endpoint.map_err(|usage| Failed(usage.0))?,
        port: later,
        host,
    });
    Ok(Some(port))
}

#[cfg(not(feature = "legacy"))]
fn legacy(started: &mut Started, env: &Variables<'_>) -> Result<Option<u16>, Failed> {
    if env("BALENA_SUPERVISOR_API_KEY").is_some() {
        let why = "this build knows no legacy supervisor: the one that is here is left alone";
        started.warnings.push(why.into());
    }
    Ok(None)
}

/// The agent's socket in its container.
fn socket(env: &Variables<'_>) -> PathBuf {
    let dir = env("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    PathBuf::from(dir.as_deref().unwrap_or(DIRS[3].1)).join("helios.sock")
}

/// Asks the agent of this container whether it works; what it said.
///
/// # Errors
/// One sentence: it does not answer, or not that.
pub fn healthcheck(env: &Variables<'_>) -> Result<String, Failed> {
    let answer = answers(own_endpoint(env)?);
    #[cfg(feature = "legacy")]
    if let Some(mut guarded) = Guarded::of(env)? {
        let more = guarded.checked(answer.is_ok(), env);
        answer.map_err(|Failed(why)| Failed(why + more))?;
        return Ok("the agent works\n".to_owned());
    }
    answer?;
    Ok("the agent works\n".to_owned())
}

/// Where the agent of this container answers.
///
/// # Errors
/// One sentence: what it was told is no address.
pub fn own_endpoint(env: &Variables<'_>) -> Result<Endpoint, Failed> {
    let given = env("HELIOS_LOCAL_API_ADDRESS").filter(|list| !list.is_empty());
    let address = match &given {
        Some(list) => config::api_address(list.split(',').next().unwrap_or(list).trim()),
        None => Ok(ApiAddress::Unix(socket(env))),
    };
    let address = address.map_err(|Usage(why)| Failed(why))?;
    Ok(endpoint_of(&address))
}

/// [`ping`], waited for on this thread; built into one place.
///
/// # Errors
/// Those of [`ping`].
#[inline(never)]
pub fn answers(endpoint: Endpoint) -> Result<(), Failed> {
    wait_for(ping(endpoint))
}

/// `GET /ping` of a local API, ours or a legacy supervisor's.
///
/// # Errors
/// One sentence: nobody answers, or not with 200.
pub async fn ping(endpoint: Endpoint) -> Result<(), Failed> {
    let wait = limits::PING_TIMEOUT;
    let timeouts = Timeouts {
        resolve: wait,
        connect: wait,
        tls: wait,
        head: wait,
        idle: wait,
        total: Some(wait),
    };
    let request = Request {
        method: "GET",
        target: "/ping",
        ..Request::default()
    };
    let answer = Client::new(endpoint, timeouts).send(request).await;
    let answer = answer.map_err(|error| Failed(format!("no answer to a ping: {error}")))?;
    let status = answer.status();
    answer.discard().await;
    match status {
        200 => Ok(()),
        _ => Err(Failed(format!("a ping was answered with {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 12] = [
        "HELIOS_UUID",
        "HELIOS_HOST_OS_VERSION",
        "HELIOS_HOST_RUNTIME_DIR",
        "HELIOS_REMOTE_API_ENDPOINT",
        "HELIOS_REMOTE_API_KEY",
        "HELIOS_REMOTE_POLL_INTERVAL_MS",
        "HELIOS_REMOTE_POLL_MIN_INTERVAL_MS",
        "HELIOS_REMOTE_POLL_MAX_JITTER_MS",
        "HELIOS_LEGACY_API_ENDPOINT",
        "HELIOS_LEGACY_API_KEY",
        "HELIOS_LOCAL_API_ADDRESS",
        "XDG_STATE_HOME",
    ];
    const DEVICE: &str = "DOCKER_HOST=unix:///d BALENA_DEVICE_UUID=u1";

    /// The agent's variables, and what the legacy supervisor is told.
    fn translated(line: &str) -> Result<(Vec<String>, Option<String>), String> {
        let words = || line.split(' ').filter_map(|word| word.split_once('='));
        let env = |name: &str| {
            let found = words().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.replace('~', " "))
        };
        let started = translate(&env).map_err(|failed| failed.0)?;
        let get = |name: &&str| {
            let value = started.get(name, &env)?;
            Some(format!("{}={value}", name.trim_start_matches("HELIOS_")))
        };
        #[cfg(feature = "legacy")]
        let told = started.takeover.as_ref().map(|wanted| {
            let Wanted {
                endpoint,
                port,
                host,
            } = wanted;
            format!("{endpoint} {port} {host}")
        });
        #[cfg(not(feature = "legacy"))]
        let told = None;
        Ok((NAMES.iter().filter_map(get).collect(), told))
    }

    #[test]
    fn s_tko_19_variables_of_a_service_become_the_agent_s() {
        let plain = "UUID=u1 LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local";
        #[rustfmt::skip]
        let cases = [
            ("", plain),
            ("HELIOS_REMOTE_API_KEY=mine HELIOS_HOST_RUNTIME_DIR=/x HELIOS_UUID=other", plain),
            ("BALENA_API_URL=http://a", plain),
            ("BALENA_API_URL=http://a BALENA_API_KEY=k HELIOS_REMOTE_API_KEY=mine",
                "UUID=u1 REMOTE_API_ENDPOINT=http://a REMOTE_API_KEY=k \
                 LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local"),
            ("BALENA_HOST_OS_VERSION=balenaOS~6.1 BALENA_HOST_OS_BOARD_REV=r2 BALENA_HOST_RUNTIME_DIR=/tmp",
                "UUID=u1 HOST_OS_VERSION=balenaOS 6.1@r2 HOST_RUNTIME_DIR=/tmp \
                 LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local"),
            ("BALENA_HOST_OS_VERSION=x BALENA_HOST_OS_BOARD_REV=",
                "UUID=u1 HOST_OS_VERSION=x LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local"),
            ("HELIOS_REMOTE_POLL_INTERVAL_MS=899999 HELIOS_REMOTE_POLL_MIN_INTERVAL_MS=1 HELIOS_REMOTE_POLL_MAX_JITTER_MS=1",
                "UUID=u1 REMOTE_POLL_INTERVAL_MS=900000 LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local"),
            ("HELIOS_REMOTE_POLL_INTERVAL_MS=900001",
                "UUID=u1 REMOTE_POLL_INTERVAL_MS=900001 LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock XDG_STATE_HOME=/local"),
            ("HELIOS_LOCAL_API_ADDRESS=127.0.0.1:1 XDG_STATE_HOME=/s",
                "UUID=u1 LOCAL_API_ADDRESS=127.0.0.1:1 XDG_STATE_HOME=/s"),
            ("XDG_RUNTIME_DIR=/r", "UUID=u1 LOCAL_API_ADDRESS=unix:/r/helios.sock XDG_STATE_HOME=/local"),
        ];
        for (line, want) in cases {
            let (found, told) = translated(&format!("{DEVICE} {line}")).unwrap();
            assert_eq!(found.join(" "), want, "{line}");
            assert_eq!(told, None, "{line}");
        }
    }

    #[test]
    fn s_tko_19_without_an_engine_or_a_device_there_is_no_agent() {
        for (line, want) in [
            ("BALENA_DEVICE_UUID=u1", "DOCKER_HOST"),
            ("DOCKER_HOST= BALENA_DEVICE_UUID=u1", "DOCKER_HOST"),
            ("DOCKER_HOST=unix:///d", "BALENA_DEVICE_UUID"),
        ] {
            let why = translated(line).unwrap_err();
            assert!(why.contains(want), "{line}: {why}");
        }
    }

    #[cfg(feature = "legacy")]
    #[test]
    fn s_tko_19_a_legacy_supervisor_is_taken_over_from() {
        let all = "BALENA_SUPERVISOR_API_KEY=k BALENA_SUPERVISOR_PORT=48484";
        #[rustfmt::skip]
        let cases = [
            ("BALENA_SUPERVISOR_HOST=10.114.104.1", "http://10.114.104.1:48480", "48480 10.114.104.1"),
            ("BALENA_SUPERVISOR_HOST=127.0.0.1", "http://10.114.104.1:48480", "48480 10.114.104.1"),
            ("BALENA_SUPERVISOR_HOST=127.0.0.1 HELIOS_LEGACY_HOST=127.0.0.1 HELIOS_LEGACY_PORT=4",
                "http://127.0.0.1:4", "4 127.0.0.1"),
        ];
        for (line, endpoint, told) in cases {
            let found = translated(&format!("{DEVICE} {all} {line}")).unwrap();
            let address = "LOCAL_API_ADDRESS=unix:/tmp/run/helios.sock,tcp:0.0.0.0:48484";
            let want = format!(
                "UUID=u1 LEGACY_API_ENDPOINT={endpoint} LEGACY_API_KEY=k {address} XDG_STATE_HOME=/local"
            );
            assert_eq!(found.0.join(" "), want, "{line}");
            assert_eq!(found.1, Some(format!("http://127.0.0.1:48484/ {told}")));
        }
        let (found, told) = translated(&format!("{DEVICE} {all}")).unwrap();
        assert_eq!(
            (found.len(), told),
            (3, None),
            "one of the three is missing"
        );
        for wrong in ["BALENA_SUPERVISOR_PORT=x", "HELIOS_LEGACY_PORT=70000"] {
            let host = "BALENA_SUPERVISOR_HOST=h BALENA_SUPERVISOR_API_KEY=k";
            let line = format!("{DEVICE} {wrong} {host} BALENA_SUPERVISOR_PORT=1");
            let why = translated(&line).unwrap_err();
            assert!(why.contains(wrong.split('=').next().unwrap()), "{why}");
        }
    }
}
