//! The shared vectors as documents for a real engine.

use std::path::Path;

use serde_json::{Value, json};

use super::Case;
use crate::support::image;

/// Every vector of a kind.
pub fn all(kind: &'static str) -> impl Iterator<Item = Value> {
    documents("target")
        .filter(move |(_, vector)| vector["kind"] == kind)
        .map(|(_, vector)| vector)
}

/// The realistic apps, less what this machine may not have: as many CPUs, other runtimes,
/// an engine that mounts parts of volumes.
pub fn realistic() -> impl Iterator<Item = Value> {
    let documents = documents("apps");
    let apps = documents.filter(|(name, _)| !name.ends_with(".expected") && name != "context");
    apps.flat_map(|(_, mut document)| {
        let devices = document.as_object_mut().unwrap();
        let only = devices.values_mut().next().unwrap();
        let device = if only["apps"].is_object() {
            only.take()
        } else {
            document
        };
        apps_of(&device)
    })
    .map(|mut app| {
        for release in app["releases"].as_object_mut().unwrap().values_mut() {
            for service in release["services"].as_object_mut().unwrap().values_mut() {
                let volumes = service.pointer_mut("/composition/volumes");
                if let Some(volumes) = volumes.and_then(Value::as_array_mut) {
                    volumes.retain(|mount| mount["volume"]["subpath"].is_null());
                }
                if let Some(composition) = service["composition"].as_object_mut() {
                    composition
                        .retain(|field, _| !["cpus", "cpuset", "runtime"].contains(&&**field));
                }
            }
        }
        app
    })
}

fn documents(kind: &str) -> impl Iterator<Item = (String, Value)> + use<> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(kind);
    let mut paths: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    paths.sort();
    paths.into_iter().map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (
            name,
            serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap(),
        )
    })
}

/// A vector of one service; the service that it borrows from is called `other` here.
pub fn case(vector: Value) -> Case {
    let context = &vector["context"];
    let mut service = json!({
        "composition": vector["input"],
        "labels": context["labels"],
        "environment": context["environment"],
        "needs": {"networks": context["networks"], "volumes": context["volumes"]},
    });
    for key in ["labels", "environment"] {
        if service[key].is_null() {
            service[key] = json!({});
        }
    }
    for (name, _) in context["container_ids"].as_object().into_iter().flatten() {
        let text = service.to_string();
        let renamed = text.replace(&format!("service:{name}"), "service:other");
        service =
            serde_json::from_str(&renamed.replace(&format!("service: {name}"), "service:other"))
                .unwrap();
    }
    let name = vector["id"].as_str().unwrap().to_owned();
    Case { name, service }
}

/// The user apps of a device's vector.
pub fn apps(vector: &Value) -> Vec<Value> {
    apps_of(&vector["input"])
}

fn apps_of(device: &Value) -> Vec<Value> {
    let apps = device["apps"].as_object();
    apps.into_iter()
        .flatten()
        .map(|(_, app)| app.clone())
        .collect()
}

/// An app with an image that is there, for any device, and none of its services running; `None` when it is
/// refused, belongs to the host, or has nothing in it.
pub fn runnable(mut app: Value) -> Option<Value> {
    let releases = app["releases"].as_object_mut()?;
    for (_, release) in releases {
        for (_, service) in release["services"].as_object_mut().into_iter().flatten() {
            service.as_object_mut()?.remove("contract");
            service["image"] = json!(image());
            service["running"] = json!(false);
        }
    }
    let text = app.to_string();
    let is_good = helios::intake::app_target("a", text.as_bytes()).is_ok();
    (is_good && app["is_host"] != true).then_some(app)
}
