//! `helios check`: judges a document offline, with the code that the agent runs (D-33).

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::process::ExitCode;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::verdict::{AppVerdict, Fault, ReleaseVerdict, ServiceVerdict, Verdict};
use crate::base::json::fields;
use crate::base::map::Map;
use crate::engine::container::objects::{network_body, volume_body};
use crate::engine::container::{Backend, Extra, SupervisorApi, create_body_with};
use crate::intake::{self, Facts, Intake};
use crate::limits::TARGET_BYTES_MAX;
use crate::model::target::{AppRelease, AppTarget, DeviceTarget, HostTarget, Rejection};
use crate::model::target::{ReleaseTarget, ServiceTarget};
use crate::model::{AppUuid, NetworkName, ReleaseUuid, ServiceConfig, ServiceName, VolumeName};
use crate::world::engine::{ApiVersion, HostFacts, NewContainer};

mod verdict;

/// The newest engine API that create bodies are written for.
const API: ApiVersion = ApiVersion(51);
/// Stands for what a document of a smaller kind does not have: names, uuids, an image.
const PLACEHOLDER: &str = "placeholder";
/// Stands for the host's runtime directory.
const RUNTIME_DIR: &str = "/run/helios";
/// The gateway of the network `supervisor0` (target-state 3.4).
const SUPERVISOR_GATEWAY: &str = "10.114.104.1";

/// Everything was accepted.
const ACCEPTED: u8 = 0;
/// Something was rejected.
const REJECTED: u8 = 1;
/// It cannot be read.
const UNREADABLE: u8 = 2;

const USAGE: &str = "usage: helios check [--engine] [--context FILE] \
                     [--as device|app|release|service] FILE|-";

/// What kind of document it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Kind {
    /// The value under the device's uuid, or the whole response with one uuid.
    #[default]
    Device,
    /// One app.
    App,
    /// One release.
    Release,
    /// One service, or only its composition.
    Service,
}

/// How to judge.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the verdict has the bodies for the engine.
    pub engine: bool,
    /// What kind of document it is.
    pub kind: Kind,
    /// About the device.
    pub context: Context,
}

/// What is known of the device that the document is for. Every key is optional.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)] // The keys are explained by `HostFacts` and `Facts`.
pub struct Context {
    pub uuid: Option<String>,
    pub name: Option<String>,
    pub device_type: Option<String>,
    pub arch: Option<String>,
    pub os: Option<String>,
    pub board_rev: Option<String>,
    pub kernel: Option<String>,
    pub api_endpoint: Option<String>,
    pub api_key: Option<String>,
    pub local_api_port: Option<u16>,
    pub supervisor_version: Option<String>,
    /// Of the image of every service: `cmd`, `entrypoint`, `env`, `labels`, `healthcheck`. Its
    /// labels can switch features on; the rest is the engine's to apply.
    pub image: Option<Box<RawValue>>,
}

fields!(Context {
    uuid,
    name,
    device_type,
    arch,
    os,
    board_rev,
    kernel,
    api_endpoint,
    api_key,
    local_api_port,
    supervisor_version,
    image,
});

/// Judges a document. Returns the verdict as JSON, and the exit code: 0 when the document and
/// all its apps are accepted, 1 when something is rejected, 2 when it is not JSON.
#[must_use]
pub fn check(options: &Options, input: &[u8]) -> (String, u8) {
    let mut verdict = Verdict::default();
    let uuid = options.context.uuid.as_deref().unwrap_or(PLACEHOLDER);
    let code = match wrapped(options.kind, uuid, input) {
        Err(fault) => {
            verdict.errors.push(fault);
            UNREADABLE
        }
        Ok((body, uuid)) => {
            match intake::device_target_for(&body, &uuid, &options.facts()) {
                Err(refusal) => verdict.errors.push(refusal.into()),
                Ok(intake) => verdict.target(intake, &uuid, options),
            }
            let apps_good = verdict.apps.values().all(|app| app.status != "rejected");
            verdict.accepted = verdict.errors.is_empty() && apps_good;
            if verdict.accepted { ACCEPTED } else { REJECTED }
        }
    };
    // Plain data with text keys: there is nothing that could fail.
    let mut json = serde_json::to_string_pretty(&verdict).unwrap_or_default();
    json.push('\n');
    (json, code)
}

/// The lines of a rejection are `path: reason`.
fn faults(rejection: &Rejection) -> Vec<Fault> {
    let lines = rejection.reasons.lines();
    lines
        .map(|line| {
            let (path, reason) = line.split_once(": ").unwrap_or(("", line));
            Fault {
                path: path.to_owned(),
                reason: reason.to_owned(),
            }
        })
        .collect()
}

impl Options {
    fn facts(&self) -> Facts {
        let context = &self.context;
        Facts {
            arch: context.arch.clone(),
            device_type: context.device_type.clone(),
            os: context.os.clone(),
            kernel: context.kernel.clone(),
            supervisor_version: context.supervisor_version.clone(),
        }
    }

    fn host(&self, uuid: &str) -> HostFacts {
        let context = &self.context;
        HostFacts {
            uuid: uuid.to_owned(),
            device_name: context.name.clone(),
            device_type: context.device_type.clone(),
            arch: context.arch.clone().unwrap_or_default(),
            os_version: context.os.clone(),
            os_build: context.board_rev.clone(),
            kernel: context.kernel.clone(),
            runtime_dir: RUNTIME_DIR.to_owned(),
            supervised: true,
        }
    }
}

impl Verdict {
    fn target(&mut self, intake: Intake<DeviceTarget>, uuid: &str, options: &Options) {
        let Intake {
            value: target,
            warnings,
            passed_over,
        } = intake;
        self.warnings = warnings;
        self.errors.extend(passed_over.into_iter().map(Fault::from));
        let host = options.host(uuid);
        for (uuid, app) in &target.apps {
            let verdict = self.app(uuid, app, options, &host);
            self.apps.insert(uuid.to_string(), verdict);
        }
        for (uuid, rejection) in &target.refused_hosts {
            self.apps.insert(uuid.to_string(), rejected(rejection));
        }
        if let Some(host) = target.host {
            self.apps.insert(host.app.to_string(), host_app(host));
        }
        if let Some(app) = target.supervisor {
            let verdict = AppVerdict {
                status: "accepted",
                release: Some(app.release),
                ..AppVerdict::default()
            };
            self.apps.insert(app.app.to_string(), verdict);
        }
    }

    fn app(
        &mut self,
        uuid: &AppUuid,
        app: &AppTarget,
        options: &Options,
        host: &HostFacts,
    ) -> AppVerdict {
        let mut verdict = AppVerdict {
            status: "accepted",
            ..AppVerdict::default()
        };
        match &app.release {
            AppRelease::None => {}
            AppRelease::Rejected(rejection) => return rejected(rejection),
            AppRelease::Wanted(release, content) => {
                let made = Made {
                    uuid,
                    app,
                    release,
                    options,
                    host,
                };
                let content = made.release(content, &mut verdict, &mut self.warnings);
                verdict.releases.insert(release.to_string(), content);
            }
        }
        verdict
    }
}

fn rejected(rejection: &Rejection) -> AppVerdict {
    AppVerdict {
        status: "rejected",
        errors: faults(rejection),
        release: rejection.release.clone(),
        ..AppVerdict::default()
    }
}

fn host_app(host: HostTarget) -> AppVerdict {
    AppVerdict {
        status: "host",
        release: Some(host.release),
        image: Some(host.image.to_string()),
        board_rev: Some(host.board_rev.as_ref().to_owned()),
        updater: Some(host.updater.to_string()),
        ..AppVerdict::default()
    }
}

/// What is made of one app.
struct Made<'a> {
    uuid: &'a AppUuid,
    app: &'a AppTarget,
    release: &'a ReleaseUuid,
    options: &'a Options,
    host: &'a HostFacts,
}

impl Made<'_> {
    fn oci_name(&self, name: &str) -> String {
        format!("{name}_{}", self.uuid)
    }

    fn release(
        &self,
        content: &ReleaseTarget,
        app: &mut AppVerdict,
        warnings: &mut Vec<String>,
    ) -> ReleaseVerdict {
        let mut verdict = ReleaseVerdict::default();
        let body = |made: Result<String, serde_json::Error>| {
            let text = made.ok().filter(|_| self.options.engine);
            raw(text.unwrap_or_else(|| "{}".to_owned()))
        };
        for (name, config) in &content.networks {
            let made = network_body(&self.oci_name(name), self.uuid, name, config, true);
            verdict
                .networks
                .extend(body(made).map(|body| (name.clone(), body)));
        }
        for (name, config) in &content.volumes {
            let made = volume_body(&self.oci_name(name), self.uuid, name, config, true);
            verdict
                .volumes
                .extend(body(made).map(|body| (name.clone(), body)));
        }
        for (name, service) in &content.services {
            let mut service_verdict = ServiceVerdict {
                depends_on: service.depends_on.clone(),
                create: None,
                connect: None,
            };
            if self.options.engine
                && let Err(reason) = self.service(name, service, &mut service_verdict, warnings)
            {
                app.status = "rejected";
                app.errors.push(Fault {
                    path: format!(
                        "apps.{}.releases.{}.services.{name}",
                        self.uuid, self.release
                    ),
                    reason,
                });
            }
            verdict.services.insert(name.clone(), service_verdict);
        }
        verdict
    }

    fn service(
        &self,
        name: &ServiceName,
        service: &ServiceTarget,
        verdict: &mut ServiceVerdict,
        warnings: &mut Vec<String>,
    ) -> Result<(), String> {
        let context = &self.options.context;
        let config =
            ServiceConfig::from_json(&service.config).map_err(|error| error.to_string())?;
        let network = |name: &NetworkName| self.oci_name(name);
        let volume = |name: &VolumeName| self.oci_name(name);
        let container = |service: &str| service.to_owned();
        let new = NewContainer {
            name: &format!("{name}_{}", self.release),
            app: self.uuid,
            app_id: self.app.id,
            app_name: self.app.name.as_deref(),
            release: self.release,
            service: name,
            service_id: service.id,
            image: &service.image,
            image_config: context.image.as_ref().map(|image| image.get()),
            config: &config,
            config_json: &service.config,
            depends_on: &service.depends_on,
            network: &network,
            volume: &volume,
            container: &container,
            host: self.host,
        };
        let backend = context
            .api_endpoint
            .as_deref()
            .zip(context.api_key.as_deref());
        let extra = Extra {
            backend: backend.map(|(url, key)| Backend { url, key }),
            supervisor: context.local_api_port.map(|port| SupervisorApi {
                key: PLACEHOLDER,
                port,
                gateway: Some(SUPERVISOR_GATEWAY),
            }),
            engine_socket: None,
        };
        let made = create_body_with(&new, API, &extra)?;
        warnings.extend(
            made.warnings
                .iter()
                .map(|warning| format!("{name}: {warning}")),
        );
        verdict.create = raw(made.body);
        verdict.connect = Some(made.connect.into_iter().map(|(name, _)| name).collect());
        Ok(())
    }
}

/// JSON as it is; it comes from a serializer, so that it is never `None`.
fn raw(json: String) -> Option<Box<RawValue>> {
    RawValue::from_string(json).ok()
}

/// The document as a response of the backend, and the device's uuid in it.
fn wrapped(kind: Kind, uuid: &str, input: &[u8]) -> Result<(Vec<u8>, String), Fault> {
    if input.len() > TARGET_BYTES_MAX {
        return Ok((input.to_vec(), uuid.to_owned())); // refused as the agent would
    }
    let document: Box<RawValue> = serde_json::from_slice(input).map_err(|error| Fault {
        path: String::new(),
        reason: format!("not JSON: {error}"),
    })?;
    let text = document.get();
    let app = |release: &str| {
        format!(r#"{{"id":1,"name":"{PLACEHOLDER}","releases":{{"{PLACEHOLDER}":{release}}}}}"#)
    };
    let device =
        |app: &str| format!(r#"{{"name":"{PLACEHOLDER}","apps":{{"{PLACEHOLDER}":{app}}}}}"#);
    let value = match kind {
        Kind::Device => {
            let members: Option<Map<String, Box<RawValue>>> =
                crate::base::json::from_str(text).ok();
            if let Some((key, _)) = members.and_then(only_device) {
                return Ok((text.as_bytes().to_vec(), key));
            }
            text.to_owned()
        }
        Kind::App => device(text),
        Kind::Release => device(&app(text)),
        Kind::Service => device(&app(&release_around(text))),
    };
    let uuid_json = serde_json::to_string(uuid).unwrap_or_default();
    Ok((
        format!("{{{uuid_json}:{value}}}").into_bytes(),
        uuid.to_owned(),
    ))
}

/// The one member of a whole response: an object under a key that is none of a device's.
fn only_device(mut members: Map<String, Box<RawValue>>) -> Option<(String, Box<RawValue>)> {
    let (key, value) = members.pop_first()?;
    let whole = members.is_empty()
        && !matches!(&*key, "name" | "apps" | "config")
        && value.get().starts_with('{');
    whole.then_some((key, value))
}

/// A release around one service or composition, that declares what it refers to.
fn release_around(service: &str) -> String {
    let read: Value = crate::base::json::from_str(service).unwrap_or_default();
    let is_service = read.get("id").is_some() || read.get("composition").is_some();
    let composition = if is_service {
        &read["composition"]
    } else {
        &read
    };
    let names = |value: &Value| -> Vec<String> {
        match value {
            Value::Array(list) => list
                .iter()
                .filter_map(Value::as_str)
                .map(String::from)
                .collect(),
            Value::Object(map) => map.keys().cloned().collect(),
            _ => Vec::new(),
        }
    };
    let volumes = composition["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|volume| {
            let short = volume.as_str().and_then(|text| text.split(':').next());
            let long = volume["source"]
                .as_str()
                .filter(|_| volume["type"] == "volume");
            let source = short.or(long)?;
            (!source.starts_with(['/', '.'])).then(|| source.to_owned())
        });
    let declared = |names: &mut dyn Iterator<Item = String>| -> Value {
        names
            .map(|name| (name, json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    let networks = declared(&mut names(&composition["networks"]).into_iter());
    let volumes = declared(&mut volumes.into_iter());
    let shared = ["network_mode", "ipc", "pid"]
        .into_iter()
        .filter_map(|field| {
            let service = composition[field].as_str()?.strip_prefix("service:")?;
            Some(service.trim_start().to_owned())
        });
    let mut services = serde_json::Map::new();
    for name in names(&composition["depends_on"]).into_iter().chain(shared) {
        services.insert(name, json!({ "id": 2, "image": PLACEHOLDER }));
    }
    // The service itself is passed on as it is written.
    let main = if is_service {
        service.to_owned()
    } else {
        format!(r#"{{"id":1,"image":"{PLACEHOLDER}","composition":{service}}}"#)
    };
    services.remove("main");
    let others: String = services
        .iter()
        .map(|(name, other)| format!(",{}:{other}", json!(name)))
        .collect();
    format!(r#"{{"services":{{"main":{main}{others}}},"networks":{networks},"volumes":{volumes}}}"#)
}

/// Runs the command with the words behind `check`.
#[must_use]
pub fn main(words: &[String]) -> ExitCode {
    let (options, file) = match arguments(words) {
        Ok(typed) => typed,
        Err(why) => return complain(&why),
    };
    let input = match read(&file) {
        Ok(input) => input,
        Err(error) => return complain(&format!("cannot read {file}: {error}")),
    };
    let (json, code) = check(&options, &input);
    // A reader that went away is no reason to panic.
    let _ = io::stdout().write_all(json.as_bytes());
    ExitCode::from(code)
}

fn complain(why: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "helios check: {why}");
    ExitCode::from(UNREADABLE)
}

fn arguments(words: &[String]) -> Result<(Options, String), String> {
    let mut options = Options::default();
    let mut file = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || {
            words
                .next()
                .ok_or_else(|| format!("{word} needs a value; {USAGE}"))
        };
        match word.as_str() {
            "--engine" => options.engine = true,
            "--as" => {
                options.kind = match value()?.as_str() {
                    "device" => Kind::Device,
                    "app" => Kind::App,
                    "release" => Kind::Release,
                    "service" => Kind::Service,
                    other => return Err(format!("--as cannot be {other}; {USAGE}")),
                }
            }
            "--context" => {
                let name = value()?;
                let text = read(name).map_err(|error| format!("cannot read {name}: {error}"))?;
                options.context = serde_json::from_slice(&text)
                    .map_err(|error| format!("{name} is no context: {error}"))?;
            }
            option if option.len() > 1 && option.starts_with('-') => {
                return Err(format!("unknown option {option}; {USAGE}"));
            }
            name if file.is_none() => file = Some(name.to_owned()),
            name => return Err(format!("one file is enough, {name} is another; {USAGE}")),
        }
    }
    Ok((options, file.ok_or(USAGE)?))
}

/// A file, or stdin for `-`; not more of it than could be a target.
fn read(name: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let most = TARGET_BYTES_MAX as u64 + 1;
    if name == "-" {
        io::stdin().lock().take(most).read_to_end(&mut bytes)?;
    } else {
        File::open(name)?.take(most).read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(kind: Kind, engine: bool, input: &str) -> (Value, u8) {
        let options = Options {
            engine,
            kind,
            context: Context::default(),
        };
        let (json, code) = check(&options, input.as_bytes());
        (crate::base::json::from_str(&json).unwrap(), code)
    }

    #[test]
    fn d_33_exit_codes() {
        #[rustfmt::skip]
        let cases = [
            (Kind::Device, r#"{"name":"d"}"#, 0),
            (Kind::Device, r#"{"0a1b":{"name":"d","apps":{}}}"#, 0),
            (Kind::Device, r#"{"0a1b":{"apps":{}}}"#, 1),
            (Kind::Device, r#"{"apps":{}}"#, 1),
            (Kind::Device, "[]", 1),
            (Kind::Device, "{", 2),
            (Kind::Device, "", 2),
            (Kind::Device, r#"{"name":"d","apps":{"a/b":{"id":1,"name":"a"}}}"#, 1),
            (Kind::App, r#"{"id":1,"name":"a"}"#, 0),
            (Kind::App, r#"{"id":1}"#, 1),
            (Kind::Release, "{}", 0),
            (Kind::Release, "null", 1),
            (Kind::Service, "{}", 0),
            (Kind::Service, r#"{"volumes":["v:/v"],"networks":["n"],"depends_on":["b"]}"#, 0),
            (Kind::Service, r#"{"volumes":["/etc:/v"]}"#, 1),
            (Kind::Service, r#"{"id":1,"image":"a:1","composition":{"pid":"service:x"}}"#, 0),
            (Kind::Service, r#"{"id":"1","image":"a:1"}"#, 1),
        ];
        for (kind, input, want) in cases {
            let (verdict, code) = verdict(kind, true, input);
            assert_eq!(code, want, "{input}: {verdict}");
            assert_eq!(verdict["accepted"], json!(want == 0), "{input}");
        }
    }

    #[test]
    fn d_33_what_a_verdict_has() {
        let input = r#"{"ports":["x"],"network_mode":"service:modem"}"#;
        let (refused, _) = verdict(Kind::Service, false, input);
        let app = &refused["apps"][PLACEHOLDER];
        assert_eq!(app["status"], "rejected");
        let path = "apps.placeholder.releases.placeholder.services.main.composition.ports[0]";
        assert_eq!(app["errors"][0]["path"], path);

        let (good, _) = verdict(Kind::Service, true, r#"{"network_mode":"service:modem"}"#);
        let main = &good["apps"][PLACEHOLDER]["releases"][PLACEHOLDER]["services"]["main"];
        assert_eq!(
            main["create"]["HostConfig"]["NetworkMode"],
            "container:modem"
        );
        assert_eq!(main["connect"], json!([]));
        assert_eq!(main["depends_on"]["modem"]["condition"], "service_started");

        let (plain, _) = verdict(Kind::Service, false, "{}");
        let release = &plain["apps"][PLACEHOLDER]["releases"][PLACEHOLDER];
        assert_eq!(release["services"], json!({ "main": { "depends_on": {} } }));
        assert_eq!(release["networks"], json!({ "default": {} }));
    }

    #[test]
    fn arguments_are_checked() {
        let run = |line: &str| {
            let words: Vec<String> = line.split_whitespace().map(String::from).collect();
            arguments(&words).map(|(options, file)| (options.engine, options.kind, file))
        };
        assert_eq!(
            run("--engine --as app -"),
            Ok((true, Kind::App, "-".to_owned()))
        );
        for bad in [
            "",
            "--as",
            "--as x -",
            "--context /nonexistent -",
            "--wat -",
            "a b",
        ] {
            assert!(run(bad).is_err(), "{bad}");
        }
    }
}
