//! What the legacy supervisor gets while this agent runs the user apps itself (D-08): its
//! target without their services, and only when ours can take their place.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::desk::Desk;
use crate::base::map::Map;
use crate::flows::contract_facts;
use crate::flows::seek::seeker::Options;
use crate::intake;
use crate::model::AppUuid;
use crate::model::current::App;
use crate::model::target::{AppRelease, DeviceTarget, ReleaseTarget};
use crate::plan::board::{Board, Part};
use crate::plan::rules::{Situation, successor};
use crate::plan::work::Tools;
use crate::plan::{images, names};

/// Lays targets out for it, each when it is time. Never ends.
pub async fn run(desk: Arc<Desk>, tools: Tools) {
    let mut seen = 0;
    let mut laid: Option<(Arc<DeviceTarget>, bool)> = None;
    let mut said = String::new();
    loop {
        seen = tools.board.newer(seen).await;
        let next = tools.board.look(|board| {
            let target = board.target.clone()?;
            let is_laid = laid.as_ref().is_some_and(|(known, forced)| {
                Arc::ptr_eq(known, &target) && (*forced || !board.host.is_forced)
            });
            (!is_laid).then(|| (target, board.host.is_forced, lacks(board)))
        });
        let Some((target, forced, lacks)) = next else {
            continue;
        };
        if let Some(why) = lacks {
            if why != said {
                log::info!("the legacy supervisor keeps its user apps: {why}");
                said = why;
            }
            continue;
        }
        said.clear();
        if lay(&desk, &tools, forced).await {
            laid = Some((target, forced));
        }
    }
}

/// `false`: the backend's document is not there, or one that the board does not know yet.
async fn lay(desk: &Desk, tools: &Tools, force: bool) -> bool {
    let Some(document) = desk.cached().await else {
        return false;
    };
    let (uuid, facts) = (&tools.facts.uuid, contract_facts(&tools.facts));
    let Ok(read) = intake::device_target_for(&document, uuid, &facts) else {
        return false;
    };
    let apps = read.value.apps;
    let is_known = tools.board.look(|board| {
        let target = board.target.as_deref();
        let knows = |app: &AppUuid| {
            let wanted = target.is_some_and(|target| target.apps.contains_key(app));
            wanted || board.deleted.contains(app)
        };
        apps.keys().all(knows) && lacks(board).is_none()
    });
    if !is_known {
        return false;
    }
    let is_ours = |app: &str| apps.keys().any(|ours| ours.as_str() == app);
    match without_services(&document, uuid, &is_ours) {
        Ok(modified) => {
            let options = Options {
                force,
                cancel: true,
            };
            desk.lay(modified.into_bytes().into(), options);
            true
        }
        Err(error) => {
            log::error!("the target for the legacy supervisor cannot be made: {error}");
            false
        }
    }
}

/// What has to be there before the legacy supervisor may lose its user apps: no device is
/// without them longer than it takes to stop one container and start the other.
fn lacks(board: &Board) -> Option<String> {
    let target = board.target.as_deref()?;
    if !board.is_read || board.is_preparing {
        return Some("the engine has not been read yet".to_owned());
    }
    if let Some(app) = board.marks.legacy_of_own() {
        return Some(format!(
            "this agent runs in one of its containers, of app '{app}', which it would remove"
        ));
    }
    let none = App::default();
    for (uuid, app) in &target.apps {
        let found = board.device.apps.get(uuid).unwrap_or(&none);
        match &app.release {
            AppRelease::None => {}
            AppRelease::Wanted(name, release) if board.marks.has_legacy(uuid) => {
                let situation =
                    Situation::plain((uuid, found), Some((name, release)), &board.marks);
                let why = lacks_service(board, &situation, release);
                if why.is_some() {
                    return why;
                }
            }
            AppRelease::Wanted(..) => {}
            AppRelease::Rejected(_) => {
                if board.marks.has_legacy(uuid) {
                    return Some(format!("the target of app '{uuid}' is rejected"));
                }
            }
        }
    }
    // It removes the volumes of an app that it does not find any more.
    let mut leaving = board.device.apps.iter();
    let leaving = leaving.find(|(uuid, app)| {
        let mut all = app.containers.values();
        !target.apps.contains_key(*uuid) && all.any(|found| !board.marks.is_own(found))
    });
    leaving.map(|(uuid, _)| format!("app '{uuid}' is still being removed"))
}

/// The same of one app.
fn lacks_service(
    board: &Board,
    situation: &Situation<'_>,
    release: &ReleaseTarget,
) -> Option<String> {
    let (uuid, (release_uuid, _)) = (situation.uuid, situation.release?);
    // The legacy supervisor's may take the addresses that ours asks for: it has to go first.
    let mut networks = release.networks.keys();
    let is_refused = networks.any(|name| {
        let part = Part::Network(uuid.clone(), name.clone());
        !situation.app.networks.contains_key(name) && board.troubles.contains_key(&part)
    });
    for (name, service) in &release.services {
        if !images::is_there(&board.device, &service.image) {
            return Some(format!(
                "the image of service '{name}' of app '{uuid}' is not there yet"
            ));
        }
        let made = successor(situation, name, service, (release_uuid, release));
        if made.is_none() && !is_refused {
            let container = names::container_name(name, release_uuid);
            return Some(format!(
                "container '{container}' of app '{uuid}' is not made yet"
            ));
        }
    }
    None
}

/// The document, and the apps that are ours with neither services nor networks: with their
/// volumes, which are not to be removed.
fn without_services(
    document: &[u8],
    uuid: &str,
    is_ours: &dyn Fn(&str) -> bool,
) -> Result<String, String> {
    let release = |key: &str, value: &str| match key {
        "services" | "networks" => Ok(Some("{}".to_owned())),
        _ => same(value),
    };
    let releases = |_: &str, value: &str| members(value, &release);
    let app = |key: &str, value: &str| match key {
        "releases" => members(value, &releases),
        _ => same(value),
    };
    let apps = |key: &str, value: &str| match is_ours(key) {
        true => members(value, &app),
        false => same(value),
    };
    let device = |key: &str, value: &str| match key {
        "apps" => members(value, &apps),
        _ => same(value),
    };
    of_device(document, uuid, &device)
}

/// The legacy supervisor's report without its apps, which we report (D-24); `None`: nothing is
/// left of it.
///
/// # Errors
/// It is no JSON.
pub fn without_apps(report: &[u8], uuid: &str) -> Result<Option<String>, String> {
    let device = |key: &str, value: &str| match key {
        "apps" => Ok(None),
        _ => same(value),
    };
    let rest = of_device(report, uuid, &device)?;
    let nothing = format!("{{\"{uuid}\":{{}}}}");
    Ok((rest != nothing).then_some(rest))
}

/// Changes the members of this device's part of a document.
fn of_device(document: &[u8], uuid: &str, change: &Change<'_>) -> Result<String, String> {
    let text = std::str::from_utf8(document).map_err(|error| error.to_string())?;
    let devices = |key: &str, value: &str| match key == uuid {
        true => members(value, change),
        false => same(value),
    };
    let changed = members(text, &devices)?;
    Ok(changed.unwrap_or_default())
}

/// What becomes of a member, by its name and value; `None`: it goes.
type Change<'c> = dyn Fn(&str, &str) -> Changed + 'c;
type Changed = Result<Option<String>, String>;

fn same(value: &str) -> Changed {
    Ok(Some(value.to_owned()))
}

/// Changes the members of an object; what is none stays as it is.
fn members(text: &str, change: &Change<'_>) -> Changed {
    if !text.trim_start().starts_with('{') {
        return same(text);
    }
    let members: Map<String, &RawValue> =
        crate::base::json::from_str(text).map_err(|error| error.to_string())?;
    let mut out = String::from("{");
    for (key, value) in members.iter() {
        if let Some(changed) = change(key, value.get())? {
            if out.len() > 1 {
                out.push(',');
            }
            // Writing a string does not fail.
            out.push_str(&serde_json::to_string(key).unwrap_or_default());
            out.push(':');
            out.push_str(&changed);
        }
    }
    out.push('}');
    Ok(Some(out))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::current::{Network, Volume};
    use crate::model::status::ContainerStatus;
    use serde_json::{Value, json};

    fn document() -> Value {
        let web = json!({"id": 2, "image": "img:1", "composition": {"volumes": ["data:/data"]}});
        json!({"d1": {"name": "d", "config": {"RESIN_X": "1.0"}, "apps": {
            "a1": {"id": 12, "name": "a", "class": "fleet", "releases": {"r1": {
                "id": 3, "services": {"web": web}, "networks": {"n": {}},
                "volumes": {"data": {"driver": "local"}},
            }}},
            "h1": {"id": 13, "name": "h", "is_host": true, "releases": {"r2": {"services": {"x": {}}}}},
        }}})
    }

    #[test]
    fn d_08_the_apps_stay_with_their_volumes_and_everything_else_as_it_is() {
        let text = document().to_string().replace("\"1.0\"", "1.0");
        let modified = without_services(text.as_bytes(), "d1", &|app| app == "a1").unwrap();
        assert!(modified.contains("\"RESIN_X\":1.0"), "byte for byte");
        let modified: Value = serde_json::from_str(&modified).unwrap();
        let mut want: Value = serde_json::from_str(&text).unwrap();
        let release = &mut want["d1"]["apps"]["a1"]["releases"]["r1"];
        (release["services"], release["networks"]) = (json!({}), json!({}));
        assert_eq!(modified, want);
        for odd in [
            "{}",
            r#"{"d1":{"apps":null}}"#,
            r#"{"d1":{"apps":{"a1":[]}}}"#,
        ] {
            let same = without_services(odd.as_bytes(), "d1", &|_| true);
            assert_eq!(same.as_deref(), Ok(odd));
        }
        assert!(without_services(b"{\"d1\":", "d1", &|_| true).is_err());
    }

    /// A board whose target is the document's, beside a legacy supervisor that runs it.
    fn board() -> Board {
        let facts = contract_facts(&Default::default());
        let read = intake::device_target_for(document().to_string().as_bytes(), "d1", &facts);
        let mut board = Board {
            target: Some(Arc::new(read.unwrap().value)),
            is_read: true,
            ..Board::default()
        };
        board.marks.is_beside = true;
        let web = (AppUuid::new("a1"), "web".into());
        board.marks.legacy.insert("l1".into(), web);
        board
    }

    #[test]
    fn d_08_it_keeps_its_apps_until_ours_can_take_their_place() {
        let mut board = board();
        assert!(lacks(&board).unwrap().contains("image of service 'web'"));
        let target = board.target.clone().unwrap();
        let AppRelease::Wanted(_, release) = &target.apps["a1"].release else {
            panic!("it is refused");
        };
        let image = crate::model::current::Image {
            id: Some("sha256:1".into()),
            progress: 100,
            config: None,
        };
        let service = &release.services["web"];
        board.device.images.insert(service.image.clone(), image);
        assert!(lacks(&board).unwrap().contains("'web_r1'"));
        let mut app = App::default();
        let volume = Volume {
            name: "data".into(),
            config: None,
        };
        app.volumes.insert("12_data".into(), volume);
        for (name, config) in &release.networks {
            let network = Network {
                id: "n".into(),
                oci_name: names::network_name(&"a1".into(), name).into(),
                config: Some(config.clone()),
            };
            app.networks.insert(name.clone(), network);
        }
        let mut made = crate::plan::tests::container("web", service, ContainerStatus::Created);
        made.networks = app.networks.values().map(|n| n.oci_name.clone()).collect();
        made.volumes = vec!["12_data".into()];
        app.containers.insert("web_r1".into(), made);
        board.device.apps.insert("a1".into(), app.clone());
        assert_eq!(lacks(&board), None);
        // What leaves is gone before the other one hears of it.
        board.device.apps.insert("a9".into(), app);
        assert!(lacks(&board).unwrap().contains("'a9'"));
        board.device.apps.remove("a9");
        board.is_preparing = true;
        assert!(lacks(&board).is_some());
    }

    #[test]
    fn d_08_addresses_that_the_other_one_holds_are_no_reason_to_wait_for_it() {
        let mut board = board();
        let target = board.target.clone().unwrap();
        let AppRelease::Wanted(_, release) = &target.apps["a1"].release else {
            panic!("it is refused");
        };
        let image = crate::model::current::Image::default();
        let image = crate::model::current::Image {
            id: Some("sha256:1".into()),
            progress: 100,
            ..image
        };
        board
            .device
            .images
            .insert(release.services["web"].image.clone(), image);
        assert!(lacks(&board).is_some());
        let trouble = crate::plan::board::Trouble {
            said: "pool overlaps".into(),
            backoff: crate::base::backoff::Backoff::new(
                std::time::Duration::from_secs(1),
                std::time::Duration::from_secs(1),
            ),
            retry_at: Default::default(),
        };
        let part = Part::Network("a1".into(), "n".into());
        board.troubles.insert(part, trouble);
        assert_eq!(lacks(&board), None);
    }

    #[test]
    fn d_08_an_app_of_which_it_runs_nothing_holds_nothing_up() {
        let mut board = board();
        board.marks.own = Some("l".into());
        assert!(lacks(&board).unwrap().contains("runs in"), "FD-41");
        board.marks.legacy.clear();
        assert_eq!(lacks(&board), None);
    }

    #[test]
    fn d_24_the_other_one_s_report_loses_its_apps_and_nothing_else() {
        let told = |report: &str| without_apps(report.as_bytes(), "d1");
        let rest = r#"{"d1":{"api_port":48484,"x":1.0}}"#;
        let report = r#"{"d1": {"api_port": 48484, "apps": {"a1": {}}, "x": 1.0}}"#;
        assert_eq!(told(report), Ok(Some(rest.to_owned())));
        assert_eq!(told(rest), Ok(Some(rest.to_owned())));
        assert_eq!(told(r#"{"d1": {"apps": {}}}"#), Ok(None));
        assert!(told(r#"{"d1": "#).is_err());
    }
}
