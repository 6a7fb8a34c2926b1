//! `helios volumes`: lists the volumes of this family of agents and removes one that nobody
//! uses (D-12). Asks the engine directly, so it works with and without a running agent.
//!
//! A volume is used when a container mounts it, whoever made that and whether it runs or
//! not, and when the last accepted target names it: its container may be on its way.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;

use serde_json::Value;

use crate::base::thread::wait_for;
use crate::config::Dirs;
use crate::engine::Docker;
use crate::http::client::Endpoint;
use crate::limits;
use crate::run::Failed;
use crate::world::engine::{Engine as _, EngineError, FoundVolume};

/// What stands where nothing is known.
const NONE: &str = "-";

/// The list, aligned and ready to be printed; or, with `remove`, a sentence about what was
/// removed.
///
/// # Errors
/// One sentence: the engine does not answer, or the volume is used or not one of ours.
pub fn main(endpoint: Endpoint, dirs: &Dirs, remove: Option<&str>) -> Result<String, Failed> {
    let engine = Docker::new(endpoint, Box::new(|_| None), true);
    wait_for(async {
        let rows = rows(&engine, dirs).await.map_err(failed)?;
        let Some(name) = remove else {
            return Ok(table(&rows));
        };
        let found = rows.iter().find(|row| row[0] == name);
        let Some([.., users]) = found else {
            let why = "it is not there, or nobody of ours made it; see helios volumes";
            return Err(Failed(format!("volume '{name}' is not removed: {why}")));
        };
        if !users.is_empty() {
            let why = format!("it is used by {users}; take it out of there first");
            return Err(Failed(format!("volume '{name}' is not removed: {why}")));
        }
        // Who began to use it meanwhile is seen by the engine, which refuses.
        engine.remove_volume(name).await.map_err(failed)?;
        Ok(format!("volume '{name}' and its data are removed\n"))
    })
}

fn failed(error: EngineError) -> Failed {
    Failed(error.to_string())
}

/// Name on the engine, app, name in the release, users.
type Row = [String; 4];

async fn rows(engine: &Docker, dirs: &Dirs) -> Result<Vec<Row>, EngineError> {
    let targets = targets(dirs);
    let mut rows = Vec::new();
    for found in engine.volumes().await? {
        let (app, name) = owner(&found);
        let mut users = engine.volume_users(&found.oci_name).await?;
        if targets.iter().any(|target| names(target, app, name)) {
            users.push("the target".to_owned());
        }
        let texts = [&*found.oci_name, app.unwrap_or(NONE), name];
        let [oci_name, app, name] = texts.map(str::to_owned);
        rows.push([oci_name, app, name, users.join(", ")]);
    }
    rows.sort_unstable_by(|a, b| a[0].cmp(&b[0]));
    Ok(rows)
}

/// The app and the name in its release, from the labels, else from the name on the engine:
/// `{name}_{app uuid}`, or the legacy supervisor's `{app number}_{name}`.
fn owner(found: &FoundVolume) -> (Option<&str>, &str) {
    let label = found.app.as_ref().map(|app| app.as_str());
    if let Some(name) = &found.name {
        let app = found.oci_name.strip_prefix(name.as_str());
        let app = app.and_then(|rest| rest.strip_prefix('_'));
        return (label.or(app), name.as_str());
    }
    let legacy = found.oci_name.split_once('_');
    let legacy = legacy.filter(|(id, _)| id.parse::<u32>().is_ok());
    (label, legacy.map_or(NONE, |(_, name)| name))
}

fn table(rows: &[Row]) -> String {
    let head = ["VOLUME", "APP", "NAME"];
    let mut widths = head.map(str::len);
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.len().max(*width);
        }
    }
    let [first, second, third] = widths;
    let mut text = String::new();
    let mut line = |[volume, app, name]: [&str; 3], users: &str| {
        let _ = writeln!(
            text,
            "{volume:first$}  {app:second$}  {name:third$}  {users}"
        );
    };
    line(head, "USED BY");
    for [volume, app, name, users] in rows {
        let users = if users.is_empty() { "unused" } else { users };
        line([volume, app, name], users);
    }
    text
}

/// The documents of the last accepted target: the backend's, and local edits. What cannot be
/// read is not there.
fn targets(dirs: &Dirs) -> Vec<Value> {
    let mut documents = Vec::new();
    for dir in [&dirs.cache, &dirs.state.join("contents/0/local")] {
        let Ok(files) = fs::read_dir(dir) else {
            continue;
        };
        for file in files.flatten() {
            documents.extend(read(&file.path()));
        }
    }
    documents
}

fn read(path: &Path) -> Option<Value> {
    let file = File::open(path).ok()?;
    let mut bytes = Vec::new();
    let mut file = file.take(limits::DOCUMENT_BYTES_MAX as u64);
    file.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(&bytes).ok()
}

/// Whether a release in the document declares the volume. One whose app is not known counts
/// as that of every app.
fn names(document: &Value, app: Option<&str>, name: &str) -> bool {
    // A local edit says in a member which app it is about.
    if document["uuid"].is_string() {
        let is_its = app.is_none_or(|app| document["uuid"] == *app);
        return is_its && declares(&document["app"], name);
    }
    let Some(members) = document.as_object() else {
        return false;
    };
    members.iter().any(|(key, value)| {
        app.is_none_or(|app| key == app) && declares(value, name) || names(value, app, name)
    })
}

fn declares(app: &Value, name: &str) -> bool {
    let releases = app["releases"].as_object();
    releases.is_some_and(|all| all.values().any(|one| one["volumes"].get(name).is_some()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn d_12_what_the_target_names_is_used() {
        let apps = json!({"a1": {"releases": {"r": {"volumes": {"data": {}}}}},
            "a2": {"releases": {"r": {"volumes": {"other": {}}, "services": {"data": {}}}}}});
        let cached = json!({"etag": "1", "value": {"d": {"name": "n", "apps": apps}}});
        let edit = json!({"uuid": "a3", "app": {"releases": {"r": {"volumes": {"data": {}}}}}});
        let gone = json!({"uuid": "a1", "app": null});
        #[rustfmt::skip]
        let cases = [
            (&cached, Some("a1"), "data", true), (&cached, Some("a2"), "data", false),
            (&cached, Some("a1"), "other", false), (&cached, None, "other", true),
            (&cached, None, "nothing", false), (&edit, Some("a3"), "data", true),
            (&edit, Some("a1"), "data", false), (&gone, Some("a1"), "data", false),
        ];
        for (document, app, name, want) in cases {
            assert_eq!(names(document, app, name), want, "{app:?} {name}");
        }
    }

    #[test]
    fn d_12_whose_a_volume_is() {
        let found = |oci: &str, app: Option<&str>, name: Option<&str>| FoundVolume {
            oci_name: oci.into(),
            app: app.map(Into::into),
            name: name.map(Into::into),
            config: None,
        };
        let own = found("data_a1", Some("a1"), Some("data"));
        assert_eq!(owner(&own), (Some("a1"), "data"));
        let upstream = found("data_a1", None, Some("data"));
        assert_eq!(owner(&upstream), (Some("a1"), "data"));
        assert_eq!(owner(&found("12_data", None, None)), (None, "data"));
        assert_eq!(owner(&found("data", Some("a1"), None)), (Some("a1"), NONE));
    }

    #[test]
    fn the_table_is_aligned() {
        let row = |texts: [&str; 4]| texts.map(str::to_owned);
        let text = table(&[
            row(["v_a1", "a1", "v", ""]),
            row(["12_w", NONE, "w", "web_r1"]),
        ]);
        let want =
            "VOLUME  APP  NAME  USED BY\nv_a1    a1   v     unused\n12_w    -    w     web_r1\n";
        assert_eq!(text, want);
    }
}
