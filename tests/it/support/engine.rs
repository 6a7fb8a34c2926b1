//! The engine as a test sees it: what is there, and what somebody else does to it.

use std::path::PathBuf;

use helios::base::percent::percent_encode_segment;
use helios::http::client::Endpoint;
use serde_json::{Value, json};

use super::{env, http, image};

pub fn endpoint() -> Endpoint {
    let url = env("HELIOS_TEST_ENGINE");
    match url.strip_prefix("unix://") {
        Some(path) => Endpoint::Unix(PathBuf::from(path)),
        None => {
            let rest = url.split_once("://").unwrap().1;
            let (host, port) = rest.rsplit_once(':').unwrap();
            Endpoint::Tcp {
                host: host.into(),
                port: port.parse().unwrap(),
            }
        }
    }
}

pub fn call(method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let text = body.map(|body| body.to_string());
    let headers: &[(&str, &str)] = &[("content-type", "application/json")];
    let (status, bytes) = http(
        endpoint(),
        method,
        path,
        headers,
        text.as_ref().map(|text| text.as_bytes()),
    );
    (
        status,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

/// An app's objects on the engine; whatever is left of them goes with this value.
pub struct App(pub String);

impl App {
    pub fn new() -> App {
        App(super::unique())
    }

    fn filter(&self) -> String {
        let filter = json!({"label": [format!("io.balena.app-uuid={}", self.0)]});
        percent_encode_segment(&filter.to_string())
    }

    /// Its containers as listed, oldest first, running or not.
    pub fn containers(&self) -> Vec<Value> {
        let path = format!("/containers/json?all=true&filters={}", self.filter());
        let mut found = call("GET", &path, None)
            .1
            .as_array()
            .cloned()
            .unwrap_or_default();
        found.reverse();
        found
    }

    /// The container of a service, inspected.
    pub fn service(&self, name: &str) -> Option<Value> {
        let all = self.containers();
        let mine = all
            .iter()
            .find(|found| found["Labels"]["io.balena.service-name"] == name)?;
        let (status, found) = call(
            "GET",
            &format!("/containers/{}/json", mine["Id"].as_str()?),
            None,
        );
        (status == 200).then_some(found)
    }

    /// The id of a service's container.
    pub fn id(&self, name: &str) -> String {
        let found = self
            .service(name)
            .unwrap_or_else(|| panic!("no container of '{name}'"));
        found["Id"].as_str().unwrap().to_owned()
    }

    pub fn is_running(&self, name: &str) -> bool {
        self.service(name)
            .is_some_and(|found| found["State"]["Running"] == true)
    }

    pub fn networks(&self) -> Vec<Value> {
        let path = format!("/networks?filters={}", self.filter());
        call("GET", &path, None)
            .1
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    pub fn volumes(&self) -> Vec<String> {
        let path = format!("/volumes?filters={}", self.filter());
        let found = call("GET", &path, None).1;
        let found = found["Volumes"].as_array().cloned().unwrap_or_default();
        found
            .iter()
            .map(|volume| volume["Name"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Drop for App {
    fn drop(&mut self) {
        for found in self.containers() {
            let id = found["Id"].as_str().unwrap_or_default();
            call(
                "DELETE",
                &format!("/containers/{id}?force=true&v=true"),
                None,
            );
        }
        for found in self.networks() {
            call(
                "DELETE",
                &format!("/networks/{}", found["Id"].as_str().unwrap_or_default()),
                None,
            );
        }
        for name in self.volumes() {
            call("DELETE", &format!("/volumes/{name}"), None);
        }
    }
}

/// An image of the test's own, the small one and a layer on top: on the registry, and not on
/// the engine.
pub fn publish(name: &str) -> String {
    publish_from(&image(), name, "true")
}

/// The same on top of another image of the registry, and with what a command leaves behind.
pub fn publish_from(base: &str, name: &str, command: &str) -> String {
    let registry = image().split('/').next().unwrap().to_owned();
    let (repository, tag) = (format!("{registry}/helios-test/{name}"), super::unique());
    let (encoded, container) = (percent_encode_segment(&repository), format!("make-{tag}"));
    let say = |method: &str, path: &str, body: Option<&Value>| {
        let (status, said) = call(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {said}");
    };
    let encoded_base = percent_encode_segment(base);
    say(
        "POST",
        &format!("/images/create?fromImage={encoded_base}"),
        None,
    );
    let command = format!("echo {tag} >/own; {command}");
    let body = json!({"Image": base, "Cmd": ["sh", "-c", command]});
    let path = format!("/containers/create?name={container}");
    say("POST", &path, Some(&body));
    for step in ["start", "wait"] {
        say("POST", &format!("/containers/{container}/{step}"), None);
    }
    let path = format!("/commit?container={container}&repo={encoded}&tag={tag}");
    say("POST", &path, Some(&json!({"Cmd": ["sleep", "infinity"]})));
    upload(&repository, &tag);
    say("DELETE", &format!("/containers/{container}"), None);
    say("DELETE", &format!("/images/{repository}:{tag}"), None);
    format!("{repository}:{tag}")
}

fn upload(repository: &str, tag: &str) {
    let headers: &[(&str, &str)] = &[("x-registry-auth", "e30=")];
    let path = format!("/images/{repository}/push?tag={tag}");
    let (_, said) = http(endpoint(), "POST", &path, headers, None);
    let said = String::from_utf8_lossy(&said);
    assert!(!said.contains("errorDetail"), "{said}");
}

/// Puts an image that is on the engine on the registry under another name as well.
pub fn push(image: &str, name: &str) {
    let (repository, tag) = name.rsplit_once(':').unwrap();
    let to = format!("repo={}&tag={tag}", percent_encode_segment(repository));
    assert_eq!(
        call("POST", &format!("/images/{image}/tag?{to}"), None).0,
        201
    );
    upload(repository, tag);
    assert_eq!(call("DELETE", &format!("/images/{name}"), None).0, 200);
}

/// A service that runs until it is told to stop, and then does so at once.
pub fn service(id: u32, more: Value) -> Value {
    let mut composition = json!({"command": ["sleep", "infinity"], "stop_signal": "SIGKILL"});
    if let (Some(base), Value::Object(more)) = (composition.as_object_mut(), more) {
        base.extend(more);
    }
    json!({"id": id, "image": image(), "composition": composition})
}

/// An app document with one release.
pub fn app(release: &str, body: Value) -> Value {
    json!({"id": 12, "name": "test", "releases": {release: body}})
}
