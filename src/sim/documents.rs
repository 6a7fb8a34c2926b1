//! Targets, drawn at random.

use serde_json::{Map, Value, json};

use super::life::DEVICE;

/// The apps that there may be.
pub const APPS: [&str; 2] = ["appone", "apptwo"];

/// One document of the backend; `number` makes its releases new. Of the last one everything
/// can run.
pub fn target(rng: &mut fastrand::Rng, number: u64, is_last: bool) -> Value {
    let mut apps = Map::new();
    for app in APPS {
        if rng.u8(0..10) < 8 {
            apps.insert(app.to_owned(), one_app(rng, app, (number, is_last)));
        }
    }
    let config = if rng.u8(0..10) == 0 {
        json!({"SUPERVISOR_OVERRIDE_LOCK": "1"})
    } else {
        json!({})
    };
    json!({DEVICE: {"name": "device", "config": config, "apps": apps}})
}

/// One app of such a document, which may come through the local API as well.
pub fn one_app(rng: &mut fastrand::Rng, app: &str, (number, is_last): (u64, bool)) -> Value {
    // Sometimes the same release changes.
    let release = format!("{app}r{}", if rng.bool() { number } else { 0 });
    let mut services = Map::new();
    let mut below: Option<&str> = None;
    for (id, name) in ["db", "job", "net", "web"].into_iter().enumerate() {
        if rng.u8(0..10) < 3 {
            continue;
        }
        let mut service = service(rng, id + 1, (name, below));
        if !is_last && name != "job" && rng.u8(0..8) == 0 {
            service["composition"]["labels"]["sim"] = json!("broken");
        }
        services.insert(name.to_owned(), service);
        below = Some(name);
    }
    // Changed options make a new volume (D-12).
    let volume = if rng.u8(0..6) == 0 {
        json!({"driver_opts": {"o": "size=1m", "type": "tmpfs", "device": "tmpfs"}})
    } else {
        json!({})
    };
    let content = json!({
        "services": services,
        "networks": {"front": {"internal": rng.u8(0..4) == 0}},
        "volumes": {"data": volume},
    });
    json!({"id": if app == "appone" { 1 } else { 2 }, "name": app, "releases": {release: content}})
}

fn service(rng: &mut fastrand::Rng, id: usize, (name, below): (&str, Option<&str>)) -> Value {
    let mut composition = json!({
        "environment": {"A": rng.u8(0..3).to_string()},
        "labels": {},
        "restart": if rng.bool() { "always" } else { "unless-stopped" },
    });
    if name == "job" {
        composition["labels"]["sim"] = json!("once");
        composition["restart"] = json!("no");
    }
    if name == "db" {
        composition["volumes"] = json!(["data:/data"]);
        if rng.bool() {
            composition["labels"]["sim"] = json!("checked");
            composition["healthcheck"] = json!({"test": ["CMD", "true"]});
        }
    }
    if name == "net" {
        composition["networks"] = json!(["front"]);
    }
    let strategy = rng.choice([
        "",
        "",
        "",
        "kill-then-download",
        "delete-then-download",
        "hand-over",
    ]);
    if let Some(strategy) = strategy.filter(|strategy| !strategy.is_empty()) {
        composition["labels"]["io.balena.update.strategy"] = json!(strategy);
    }
    if let Some(below) = below.filter(|_| rng.bool()) {
        let condition = if below == "job" {
            "service_completed_successfully"
        } else {
            "service_started"
        };
        composition["depends_on"] = json!({below: {"condition": condition, "restart": rng.bool()}});
    }
    if name == "web" && rng.u8(0..8) == 0 {
        composition["network_mode"] = json!("none");
    }
    let image = format!("registry.example/image{}:1", rng.u8(0..6));
    json!({"id": id, "image": image, "composition": composition})
}
