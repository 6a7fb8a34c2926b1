//! Requests in, answers out.

use std::sync::Arc;

use helios::base::hash;
use helios::base::percent::{percent_decode, query_pairs};
use helios::http::server::{Answering, Error, Exchange, Handler};
use serde_json::{Value, json};

use super::engine::Engine;
use super::state::{Event, Refusal, State, normal, refuse, repository};

const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The newest version of the API, 1.41.
const API: u32 = 41;
const JSON: (&str, &str) = ("content-type", "application/json");

pub struct Routes(pub Arc<Engine>);

/// A status and, unless there is none, the body.
type Answer = Result<(u16, Value), Refusal>;

/// A request without its body.
struct Asked {
    method: String,
    /// Decoded, without the version.
    path: String,
    query: Vec<(String, String)>,
}

impl Asked {
    fn of(exchange: &Exchange<'_>) -> Result<Asked, Refusal> {
        let path = percent_decode(exchange.path()).unwrap_or_default();
        let (version, rest) = match path.strip_prefix("/v1.") {
            Some(rest) => rest.split_once('/').unwrap_or((rest, "")),
            None => ("0", path.trim_start_matches('/')),
        };
        if version.parse().unwrap_or(u32::MAX) > API {
            let said = format!(
                "client version 1.{version} is too new. Maximum supported API version is 1.{API}"
            );
            return refuse(400, said);
        }
        let pairs = query_pairs(exchange.query());
        Ok(Asked {
            method: exchange.method().to_owned(),
            path: format!("/{rest}"),
            query: pairs
                .map(|(k, v)| (k.into_owned(), v.into_owned()))
                .collect(),
        })
    }

    fn value(&self, key: &str) -> &str {
        let found = self.query.iter().find(|(name, _)| name == key);
        found.map_or("", |(_, value)| value)
    }

    fn is_set(&self, key: &str) -> bool {
        matches!(self.value(key), "1" | "true" | "True")
    }

    /// What a filter names, in both spellings of it; `None` when it is not given.
    fn filter(&self, key: &str) -> Option<Vec<String>> {
        let filters: Value = serde_json::from_str(self.value("filters")).unwrap_or(Value::Null);
        match &filters[key] {
            Value::Array(all) => Some(
                all.iter()
                    .filter_map(Value::as_str)
                    .map(str::to_owned)
                    .collect(),
            ),
            Value::Object(all) => Some(all.keys().cloned().collect()),
            _ => None,
        }
    }

    /// Whether an object's labels and name are what the filters ask for.
    fn wants(&self, labels: &Value, name: &str) -> bool {
        let is_labelled = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels[key] == value,
            None => labels.get(wanted).is_some(),
        };
        let is_named = |wanted: &String| name.contains(wanted.as_str());
        self.filter("label")
            .is_none_or(|all| all.iter().all(is_labelled))
            && self
                .filter("name")
                .is_none_or(|all| all.iter().any(is_named))
    }
}

impl Handler for Routes {
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answering<'a> {
        Box::pin(async move {
            let asked = match Asked::of(exchange) {
                Ok(asked) => asked,
                Err(refusal) => return respond(exchange, Err(refusal)).await,
            };
            let Ok(body) = exchange.body(BODY_BYTES_MAX).await else {
                return respond(exchange, refuse(400, "no body")).await;
            };
            let body = match &body[..] {
                [] => Ok(Value::Null),
                bytes => serde_json::from_slice(bytes),
            };
            let Ok(body) = body else {
                return respond(exchange, refuse(400, "the body is no JSON")).await;
            };
            if !matches!(&*asked.method, "GET" | "HEAD") {
                async_io::Timer::after(self.0.latency).await;
                if let Err(refusal) = self.0.change() {
                    return respond(exchange, Err(refusal)).await;
                }
            }
            match (&*asked.method, &*asked.path) {
                ("GET", "/events") => self.events(exchange, &asked).await,
                ("POST", "/images/create") => self.pull(exchange, &asked).await,
                _ => respond(exchange, self.answer(&asked, body)).await,
            }
        })
    }
}

async fn respond(exchange: &mut Exchange<'_>, answer: Answer) -> Result<(), Error> {
    let (status, body) = answer.unwrap_or_else(|(status, said)| match status {
        304 => (304, Value::Null),
        _ => (status, json!({"message": said})),
    });
    if body.is_null() {
        return exchange.respond(status, &[], &[]).await;
    }
    if let Value::String(text) = &body {
        return exchange.respond(status, &[], text.as_bytes()).await;
    }
    let text = format!("{body}\n");
    exchange.respond(status, &[JSON], text.as_bytes()).await
}

impl Routes {
    fn answer(&self, asked: &Asked, body: Value) -> Answer {
        let path = &*asked.path;
        let (room, rest) = path[1..]
            .split_once('/')
            .unwrap_or_else(|| (&path[1..], ""));
        match room {
            "containers" => self.containers(asked, rest, body),
            "images" => self.images(asked, rest),
            "networks" => self.networks(asked, rest, &body),
            "volumes" => self.volumes(asked, rest, &body),
            "version" => Ok((200, version())),
            "info" => Ok((200, self.info())),
            "_ping" => Ok((200, json!("OK"))),
            _ => refuse(404, "page not found"),
        }
    }

    fn info(&self) -> Value {
        self.0.with(|state| {
            json!({
                "DockerRootDir": self.0.root, "Driver": "overlay2", "ServerVersion": "20.10.24",
                "Containers": state.containers.len(), "Images": state.images.len(),
                "OSType": "linux", "Architecture": "x86_64", "Name": "fake", "NCPU": 1,
            })
        })
    }

    fn containers(&self, asked: &Asked, rest: &str, body: Value) -> Answer {
        let (name, verb) = rest.split_once('/').unwrap_or((rest, ""));
        let done = |result: Result<(), Refusal>| result.map(|()| (204, Value::Null));
        match (&*asked.method, name, verb) {
            ("GET", "json", "") => self
                .0
                .with(|state| Ok((200, list_containers(state, asked)))),
            ("POST", "create", "") => {
                let name = asked.value("name");
                let id = self.0.with(|state| state.create_container(name, body))?;
                Ok((201, json!({"Id": id, "Warnings": []})))
            }
            ("GET", _, "json") => self.0.with(|state| {
                let id = state.container_id(name)?;
                Ok((200, state.containers[&id].inspected(state)))
            }),
            ("POST", _, "start") => done(self.0.start(name)),
            ("POST", _, "stop") => done(
                self.0
                    .with(|state| state.stop(name, &["kill", "die", "stop"])),
            ),
            ("POST", _, "kill") => match self.0.with(|state| state.stop(name, &["kill", "die"])) {
                Err((304, _)) => refuse(409, format!("Container {name} is not running")),
                result => done(result),
            },
            ("POST", _, "restart") => {
                match self
                    .0
                    .with(|state| state.stop(name, &["kill", "die", "stop"]))
                {
                    Ok(()) | Err((304, _)) => done(self.0.start(name)),
                    Err(refusal) => Err(refusal),
                }
            }
            ("POST", _, "rename") => {
                done(self.0.with(|state| state.rename(name, asked.value("name"))))
            }
            ("POST", _, "pause" | "unpause") => {
                done(self.0.with(|state| state.pause(name, verb == "pause")))
            }
            ("DELETE", _, "") => {
                let force = asked.is_set("force");
                done(self.0.with(|state| state.remove_container(name, force)))
            }
            _ => refuse(404, "page not found"),
        }
    }

    fn images(&self, asked: &Asked, rest: &str) -> Answer {
        let (name, verb) = match rest.rsplit_once('/') {
            Some((name, verb @ ("json" | "tag"))) => (name, verb),
            _ => (rest, ""),
        };
        self.0.with(|state| match (&*asked.method, name, verb) {
            ("GET", "json", "") => {
                let all = state.images.iter();
                Ok((200, all.map(|(id, image)| image.listed(id)).collect()))
            }
            ("GET", _, "json") => match state.image_id(name) {
                Some(id) => Ok((200, state.images[&id].inspected(&id))),
                None => refuse(404, format!("No such image: {}", normal(name))),
            },
            ("POST", _, "tag") => {
                let tag = match asked.value("tag") {
                    "" => asked.value("repo").to_owned(),
                    tag => format!("{}:{tag}", asked.value("repo")),
                };
                state.tag(name, &tag).map(|()| (201, Value::Null))
            }
            ("DELETE", _, "") => state.remove_image(name).map(|said| (200, said)),
            _ => refuse(404, "page not found"),
        })
    }

    fn networks(&self, asked: &Asked, rest: &str, body: &Value) -> Answer {
        let (name, verb) = rest.split_once('/').unwrap_or((rest, ""));
        self.0.with(|state| match (&*asked.method, name, verb) {
            ("GET", "", "") => {
                let all = state.networks.values();
                let mine = all.filter(|one| asked.wants(&one.body["Labels"], &one.name));
                Ok((200, mine.map(|one| one.body.clone()).collect()))
            }
            ("POST", "create", "") => {
                let id = state.create_network(body)?;
                Ok((201, json!({"Id": id, "Warning": ""})))
            }
            ("GET", _, "") => match state.network_id(name) {
                Some(id) => Ok((200, state.networks[&id].body.clone())),
                None => refuse(404, format!("network {name} not found")),
            },
            ("POST", _, "connect" | "disconnect") => {
                let connected = state.connect(name, body, verb == "connect");
                connected.map(|()| (200, Value::Null))
            }
            ("DELETE", _, "") => state.remove_network(name).map(|()| (204, Value::Null)),
            _ => refuse(404, "page not found"),
        })
    }

    fn volumes(&self, asked: &Asked, name: &str, body: &Value) -> Answer {
        self.0.with(|state| match (&*asked.method, name) {
            ("GET", "") => {
                let all = state.volumes.iter();
                let mine = all.filter(|(name, one)| asked.wants(&one["Labels"], name));
                let mine: Vec<_> = mine.map(|(_, one)| one.clone()).collect();
                Ok((200, json!({"Volumes": mine, "Warnings": null})))
            }
            ("POST", "create") => Ok((201, state.create_volume(body))),
            ("GET", _) => match state.volumes.get(name) {
                Some(volume) => Ok((200, volume.clone())),
                None => refuse(404, format!("get {name}: no such volume")),
            },
            ("DELETE", _) => state.remove_volume(name).map(|()| (204, Value::Null)),
            _ => refuse(404, "page not found"),
        })
    }

    /// The event stream, for as long as somebody takes it.
    async fn events(&self, exchange: &mut Exchange<'_>, asked: &Asked) -> Result<(), Error> {
        let heard = self.0.listen();
        let (types, actions) = (asked.filter("type"), asked.filter("event"));
        let is_in = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref()
                .is_none_or(|list| list.iter().any(|one| one == word))
        };
        exchange.stream(200, &[JSON]).await?;
        while let Ok(event) = heard.recv().await {
            let event: &Event = &event;
            if is_in(&types, event.what) && is_in(&actions, event.action) {
                exchange.write(event.line().as_bytes()).await?;
            }
        }
        Ok(())
    }

    /// A pull and its progress, which is made up.
    async fn pull(&self, exchange: &mut Exchange<'_>, asked: &Asked) -> Result<(), Error> {
        let (from, tag) = (asked.value("fromImage"), asked.value("tag"));
        let name = match tag {
            "" => normal(from),
            digest if digest.starts_with("sha256:") => normal(&format!("{from}@{digest}")),
            tag => normal(&format!("{from}:{tag}")),
        };
        let last = repository(&name).rsplit('/').next().unwrap_or_default();
        if last.starts_with("nothing") {
            let said = format!("manifest for {name} not found: manifest unknown: manifest unknown");
            return respond(exchange, refuse(404, said)).await;
        }
        exchange.stream(200, &[JSON]).await?;
        let was_here = self.0.with(|state| state.image_id(&name).is_some());
        let tag = name.rsplit([':', '@']).next().unwrap_or_default();
        let mut lines =
            vec![json!({"status": format!("Pulling from {}", repository(&name)), "id": tag})];
        if !was_here {
            lines.extend(layers(&name));
        }
        for line in lines {
            exchange.write(format!("{line}\r\n").as_bytes()).await?;
        }
        let (_, digest) = self.0.with(|state| state.pulled(&name));
        let end = if was_here {
            "Image is up to date"
        } else {
            "Downloaded newer image"
        };
        let end = [
            format!("Digest: {digest}"),
            format!("Status: {end} for {name}"),
        ];
        for status in end {
            let line = format!("{}\r\n", json!({"status": status}));
            exchange.write(line.as_bytes()).await?;
        }
        Ok(())
    }
}

/// What is said of the layers of an image.
fn layers(name: &str) -> Vec<Value> {
    let mut lines = Vec::new();
    let sizes = [4000, 9000];
    let layer = |n: usize| hash::sha256_hex(format!("{n} {name}").as_bytes())[..12].to_owned();
    let mut say = |n: usize, status: &str, detail: Value| {
        lines.push(json!({"status": status, "progressDetail": detail, "id": layer(n)}));
    };
    for n in 0..sizes.len() {
        say(n, "Pulling fs layer", json!({}));
    }
    for (n, size) in sizes.into_iter().enumerate() {
        for part in 1..=4 {
            say(
                n,
                "Downloading",
                json!({"current": size * part / 4, "total": size}),
            );
        }
        say(n, "Download complete", json!({}));
    }
    for (n, size) in sizes.into_iter().enumerate() {
        say(n, "Extracting", json!({"current": size, "total": size}));
        say(n, "Pull complete", json!({}));
    }
    lines
}

fn list_containers(state: &State, asked: &Asked) -> Value {
    let all = state.containers.values().filter(|one| {
        let listed = asked.is_set("all") || one.status.word() == "running";
        let mounts = |wanted: &String| {
            one.mounts
                .iter()
                .any(|mount| mount["Name"] == wanted.as_str())
        };
        let volume = asked.filter("volume");
        listed
            && asked.wants(&one.config["Labels"], &one.name)
            && volume.is_none_or(|all| all.iter().any(mounts))
    });
    // Newest first, as engines do.
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.created));
    all.into_iter().map(|one| one.listed(state)).collect()
}

fn version() -> Value {
    json!({
        "Platform": {"Name": ""}, "Version": "20.10.24", "ApiVersion": format!("1.{API}"),
        "MinAPIVersion": "1.12", "Os": "linux", "Arch": "amd64",
        "Components": [{"Name": "Engine", "Version": "20.10.24", "Details": {}}],
    })
}
