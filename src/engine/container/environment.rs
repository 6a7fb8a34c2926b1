//! Variables and annotations (target-state 5, 4.2).

use std::borrow::Cow;

use super::wire::Body;
use super::{API_ANNOTATIONS, Encoder};
use crate::base::map::Map;

/// Where a service that must not be interrupted puts its lock (target-state 7.2).
const LOCK_FILE: &str = "/tmp/balena/updates.lock";
/// Where the new container of a hand-over says that it is ready (target-state 7.1).
const HANDOVER_FILE: &str = "/tmp/balena/handover-complete";

type Variables<'a> = Map<String, Option<Cow<'a, str>>>;

pub(super) fn encode<'a>(encoder: &mut Encoder<'a>, body: &mut Body<'a>) {
    let config = encoder.config;
    if !config.annotations.is_empty() && encoder.knows(API_ANNOTATIONS, "annotations") {
        body.host_config.annotations = Some(&config.annotations);
    }
    let mut variables = Variables::new();
    defaults(encoder, &mut variables);
    for (name, value) in &config.environment {
        let value = value.as_deref().map(Cow::Borrowed);
        variables.insert(name.clone(), value);
    }
    identity(encoder, &mut variables);
    features(encoder, &mut variables);
    body.env = variables
        .into_iter()
        .map(|(name, value)| match value {
            Some(value) => format!("{name}={value}"),
            None => name,
        })
        .collect();
}

/// Sets a variable under both prefixes.
fn both<'a>(variables: &mut Variables<'a>, name: &str, value: impl Into<Cow<'a, str>>) {
    let value = value.into();
    for prefix in ["BALENA", "RESIN"] {
        variables.insert(format!("{prefix}{name}"), Some(value.clone()));
    }
}

/// What a document may override (target-state 5.2).
fn defaults<'a>(encoder: &Encoder<'a>, variables: &mut Variables<'a>) {
    let new = encoder.new;
    both(variables, "", "1");
    both(variables, "_APP_ID", new.app_id.to_string());
    both(variables, "_APP_LOCK_PATH", LOCK_FILE);
    let arch = Some(new.host.arch.as_str()).filter(|arch| !arch.is_empty());
    for (name, value) in [
        ("_APP_NAME", new.app_name),
        ("_DEVICE_ARCH", arch),
        ("_DEVICE_NAME_AT_INIT", new.host.device_name.as_deref()),
        ("_DEVICE_TYPE", new.host.device_type.as_deref()),
    ] {
        if let Some(value) = value {
            both(variables, name, value);
        }
    }
    for (name, value) in [
        ("BALENA_SERVICE_HANDOVER_COMPLETE_PATH", HANDOVER_FILE),
        ("RESIN_SERVICE_KILL_ME_PATH", HANDOVER_FILE),
        ("USER", "root"),
    ] {
        variables.insert(name.to_owned(), Some(value.into()));
    }
}

/// What a document has no say in (target-state 5.1).
fn identity<'a>(encoder: &Encoder<'a>, variables: &mut Variables<'a>) {
    let new = encoder.new;
    both(variables, "_APP_UUID", new.app.as_str());
    both(variables, "_SERVICE_NAME", new.service.as_str());
    both(variables, "_DEVICE_UUID", new.host.uuid.as_str());
    if let Some(version) = &new.host.os_version {
        both(variables, "_HOST_OS_VERSION", version.as_str());
    }
    if let Some(build) = &new.host.os_build {
        both(variables, "_HOST_OS_BUILD", build.as_str());
    }
}

/// What feature labels add (target-state 4.2).
fn features<'a>(encoder: &mut Encoder<'a>, variables: &mut Variables<'a>) {
    if encoder.feature("balena-socket") && !encoder.config.environment.contains_key("DOCKER_HOST") {
        let socket = "unix:///host/run/balena-engine.sock";
        variables.insert("DOCKER_HOST".to_owned(), Some(socket.into()));
    }
    if encoder.feature("host-os.board-rev")
        && let Some(build) = &encoder.new.host.os_build
    {
        both(variables, "_HOST_OS_BOARD_REV", build.as_str());
    }
    if encoder.feature("balena-api") {
        match encoder.extra.backend {
            Some(backend) => {
                both(variables, "_API_KEY", backend.key);
                both(variables, "_API_URL", backend.url);
            }
            None => without(encoder, "balena-api"),
        }
    }
    if encoder.feature("supervisor-api") {
        match encoder.extra.supervisor {
            Some(api) => {
                let on_host = encoder.config.network_mode.as_deref() == Some("host");
                let host = api.gateway.filter(|_| !on_host).unwrap_or("127.0.0.1");
                both(variables, "_SUPERVISOR_API_KEY", api.key);
                both(variables, "_SUPERVISOR_PORT", api.port.to_string());
                both(variables, "_SUPERVISOR_HOST", host);
                let address = format!("http://{host}:{}", api.port);
                both(variables, "_SUPERVISOR_ADDRESS", address);
            }
            None => without(encoder, "supervisor-api"),
        }
    }
}

fn without(encoder: &mut Encoder<'_>, feature: &str) {
    encoder.warnings.push(format!(
        "label io.balena.features.{feature} is without effect: there is nothing to offer for it yet"
    ));
}
