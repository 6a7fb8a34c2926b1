//! The board as a report (remote-api 3.2, 3.5). Pure.

use serde::Serialize;

use crate::base::json::{Blank, written};
use crate::base::map::{Map, Set};
use crate::model::current::{App, Container};
use crate::model::status::ContainerStatus;
use crate::model::target::{AppRelease, DeviceTarget, HostTarget};
use crate::model::{AppUuid, ImageUri, ReleaseUuid, ServiceName};
use crate::plan::board::{Board, Lane};
use crate::plan::host::Status;
use crate::plan::rules::{self, Situation};

struct AppReport<'a> {
    release_uuid: Option<&'a str>,
    releases: Map<&'a str, ReleaseReport<'a>>,
}

written!(AppReport<'_> {
    release_uuid, releases always,
});

struct ReleaseReport<'a> {
    update_status: Progress,
    services: Map<&'a str, ServiceReport>,
}

written!(ReleaseReport<'_> {
    update_status always, services always,
});

struct ServiceReport {
    image: String,
    status: &'static str,
    download_progress: Progressed,
}

written!(ServiceReport {
    image always, status always, download_progress,
});

/// How far a download is.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(untagged)]
enum Progressed {
    /// `None`, said as `null`: there is none. An absent value would keep the old one
    /// (remote-api 0.7 row 3).
    Told(Option<u8>),
    Untold,
}

impl Blank for Progressed {
    fn is_blank(&self) -> bool {
        *self == Progressed::Untold
    }
}

/// In the backend's order: the lowest counts.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    #[serde(rename = "rejected")]
    Rejected,
    #[serde(rename = "aborted")]
    Aborted,
    #[serde(rename = "downloading")]
    Downloading,
    #[serde(rename = "downloaded")]
    Downloaded,
    #[serde(rename = "applying changes")]
    Applying,
    #[serde(rename = "done")]
    Done,
}

/// How much is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// All of it.
    Full,
    /// Without the progress of downloads.
    Short,
    /// Also without rejected and former releases, which the backend may not know (R-REP-5).
    Lean,
}

/// The apps of a report, `None` while there is nothing to tell: no target of the
/// backend is known (R-REP-2), or the engine was not read yet.
#[must_use]
pub fn apps(board: &Board, detail: Detail) -> Option<Vec<u8>> {
    let authorized = board.authorized.as_ref().filter(|_| board.is_read)?;
    let target = board.target.as_deref()?;
    let apps: Map<&str, AppReport<'_>> = authorized
        .iter()
        .filter_map(|uuid| Some((uuid.as_str(), app(board, target, uuid, detail)?)))
        .filter(|(_, app)| !app.releases.is_empty())
        .collect();
    serde_json::to_vec(&apps).ok()
}

fn app<'a>(
    board: &'a Board,
    target: &'a DeviceTarget,
    uuid: &'a AppUuid,
    detail: Detail,
) -> Option<AppReport<'a>> {
    if let Some(supervisor) = target.supervisor.as_ref().filter(|app| app.app == *uuid) {
        return Some(supervisor_app(&supervisor.release, &supervisor.services));
    }
    if let Some(host) = target.host.as_ref().filter(|host| host.app == *uuid) {
        return Some(host_app(board, host));
    }
    static NOTHING: std::sync::OnceLock<App> = std::sync::OnceLock::new();
    let current = board
        .device
        .apps
        .get(uuid)
        .unwrap_or_else(|| NOTHING.get_or_init(App::default));
    let mut releases = Map::new();
    let mut seen = Set::new();
    let mut release_uuid = None;
    match target.apps.get(uuid).map(|app| &app.release) {
        Some(AppRelease::Wanted(release, _)) if board.known_releases.contains(release) => {
            let mut report = wanted(board, target, uuid, current, &mut seen)?;
            if detail != Detail::Full {
                for service in report.services.values_mut() {
                    service.download_progress = Progressed::Untold;
                }
            }
            if report.update_status == Progress::Done {
                release_uuid = Some(release.as_str());
            }
            releases.insert(release.as_str(), report);
        }
        Some(AppRelease::Rejected(rejection)) if detail != Detail::Lean => {
            if let Some(release) = &rejection.release {
                let report = ReleaseReport {
                    update_status: Progress::Rejected,
                    services: Map::new(),
                };
                releases.insert(release.as_str(), report);
            }
        }
        _ => {}
    }
    if detail != Detail::Lean {
        former(board, current, &seen, &mut releases);
    }
    Some(AppReport {
        release_uuid,
        releases,
    })
}

/// The main service of the supervisor's own app is always running (D-09).
fn supervisor_app<'a>(
    release: &'a ReleaseUuid,
    services: &'a Map<ServiceName, ImageUri>,
) -> AppReport<'a> {
    let services = services.iter().map(|(name, uri)| {
        let report = ServiceReport {
            image: image(uri),
            status: "Running",
            download_progress: Progressed::Told(None),
        };
        (name.as_str(), report)
    });
    let report = ReleaseReport {
        update_status: Progress::Done,
        services: services.collect(),
    };
    AppReport {
        release_uuid: Some(release.as_str()),
        releases: Map::from([(release.as_str(), report)]),
    }
}

/// The host app: what runs is done, the rest is on its way or given up (state-engine 7.10).
fn host_app<'a>(board: &'a Board, host: &'a HostTarget) -> AppReport<'a> {
    let mut release_uuid = None;
    let known = board.host.releases.get_key_value(&host.release);
    let releases = known.into_iter().filter_map(|(release, record)| {
        let (update_status, status) = match (record.status, &board.host.lane) {
            (Status::Running, _) => {
                release_uuid = Some(release.as_str());
                (Progress::Done, "Running")
            }
            (_, Some(Lane::Blocked(_))) => (Progress::Aborted, "Installing"),
            _ => (Progress::Applying, "Installing"),
        };
        let service = ServiceReport {
            image: image(&ImageUri::parse(&record.image).ok()?),
            status,
            download_progress: Progressed::Told(None),
        };
        let report = ReleaseReport {
            update_status,
            services: Map::from([("hostapp", service)]),
        };
        Some((release.as_str(), report))
    });
    let releases = releases.collect();
    AppReport {
        release_uuid,
        releases,
    }
}

/// The release that is to run. `seen` gets the containers that are part of it.
fn wanted<'a>(
    board: &'a Board,
    target: &'a DeviceTarget,
    uuid: &'a AppUuid,
    current: &'a App,
    seen: &mut Set<&'a str>,
) -> Option<ReleaseReport<'a>> {
    let AppRelease::Wanted(name, release) = &target.apps.get(uuid)?.release else {
        return None;
    };
    let situation = Situation::plain((uuid, current), Some((name, release)), &board.marks);
    let lane = board.lanes.get(uuid);
    let unfinished = match lane {
        Some(Lane::Blocked(_)) => Progress::Aborted,
        _ => Progress::Applying,
    };
    let is_reached = lane == Some(&Lane::Reached) && current.installed.as_ref() == Some(name);
    let mut update_status = if is_reached {
        Progress::Done
    } else {
        unfinished
    };
    let mut services = Map::new();
    for (service, wanted) in &release.services {
        let found = rules::successor(&situation, service, wanted, (name, release));
        let status = match found {
            Some((_, found)) => {
                seen.insert(&found.id);
                container(found)
            }
            None => match download(board, &wanted.image) {
                Some(progress) => {
                    update_status = update_status.min(Progress::Downloading);
                    ("Downloading", Some(progress))
                }
                None if board.installing.contains(&(uuid.clone(), service.clone())) => {
                    ("Installing", None)
                }
                None => {
                    update_status = update_status.min(Progress::Downloaded);
                    ("Downloaded", None)
                }
            },
        };
        let report = ServiceReport {
            image: image(&wanted.image),
            status: status.0,
            download_progress: Progressed::Told(status.1),
        };
        services.insert(service.as_str(), report);
    }
    Some(ReleaseReport {
        update_status,
        services,
    })
}

/// Containers of other releases, as long as the backend knows those.
fn former<'a>(
    board: &Board,
    current: &'a App,
    seen: &Set<&str>,
    releases: &mut Map<&'a str, ReleaseReport<'a>>,
) {
    for found in current.containers.values() {
        let Some(identity) = &found.identity else {
            continue;
        };
        if seen.contains(&*found.id) || !board.known_releases.contains(&found.release) {
            continue;
        }
        let (status, progress) = container(found);
        let report = ServiceReport {
            image: image(&identity.image),
            status,
            download_progress: Progressed::Told(progress),
        };
        let release = releases.or_insert_with(found.release.as_str(), || ReleaseReport {
            update_status: Progress::Applying,
            services: Map::new(),
        });
        release
            .services
            .or_insert_with(found.service.as_str(), || report);
    }
}

fn container(found: &Container) -> (&'static str, Option<u8>) {
    let status = match found.status {
        ContainerStatus::Created => "Installed",
        ContainerStatus::Running => "Running",
        ContainerStatus::Stopping => "Stopping",
        ContainerStatus::Stopped => "Stopped",
        ContainerStatus::Dead => "Dead",
    };
    (status, None)
}

/// How far the download of an image is; `None` when it is there.
fn download(board: &Board, uri: &ImageUri) -> Option<u8> {
    match board.device.images.get(uri) {
        Some(image) if image.id.is_some() => None,
        Some(image) => Some(image.progress.min(99)),
        None => Some(0),
    }
}

/// The repository, with the digest if the target named one, never a tag (R-REP-11).
fn image(uri: &ImageUri) -> String {
    match uri.digest() {
        Some(digest) => format!("{}@{digest}", uri.repository()),
        None => uri.repository().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use super::*;
    use crate::model::current::{Identity, Image, Restart};
    use crate::model::status::Health;

    /// A device whose target has these apps.
    fn board(apps: Value) -> Board {
        let document = json!({"u": {"name": "x", "config": {}, "apps": apps}}).to_string();
        let facts = crate::intake::Facts::default();
        let read = crate::intake::device_target_for(document.as_bytes(), "u", &facts).unwrap();
        let target = read.value;
        let mut board = Board {
            is_read: true,
            authorized: Some(target.apps.keys().cloned().collect()),
            ..Board::default()
        };
        for app in target.apps.values() {
            if let AppRelease::Wanted(release, _) = &app.release {
                board.known_releases.insert(release.clone());
            }
        }
        board.target = Some(Arc::new(target));
        board
    }

    fn app(release: &str, images: &[(String, String)]) -> Value {
        let services: serde_json::Map<String, Value> = images
            .iter()
            .map(|(service, image)| (service.clone(), json!({"id": 1, "image": image})))
            .collect();
        json!({"id": 1, "name": "f", "releases": {release: {"services": services}}})
    }

    fn one(service: &str, image: &str) -> [(String, String); 1] {
        [(service.to_owned(), image.to_owned())]
    }

    fn runs(board: &mut Board, app: &str, release: &str, service: &str, image: &str) {
        let container = Container {
            id: format!("{app}-{release}-{service}").into(),
            service: service.into(),
            service_id: 1,
            release: release.into(),
            identity: Some(Identity {
                image: ImageUri::parse(image).unwrap(),
                config: "{}".into(),
            }),
            maker: crate::model::current::Maker::Us,
            image_id: "sha256:1".into(),
            depends_on: Map::new(),
            status: ContainerStatus::Running,
            exit_code: None,
            health: Health::None,
            created: "2026-01-01T00:00:00+00:00".into(),
            restart: Restart::Always,
            networks: Vec::new(),
            volumes: Vec::new(),
            lenders: Vec::new(),
            lock_dir: None,
            is_paused: false,
            started: 0,
            fingerprint: 0,
        };
        let name = format!("{service}_{release}").into();
        let app = board.device.apps.or_default(app.into());
        app.containers.insert(name, container);
    }

    fn told(board: &Board, detail: Detail) -> Value {
        serde_json::from_slice(&apps(board, detail).unwrap()).unwrap()
    }

    #[test]
    fn r_rep_2_s_rep_01_nothing_before_a_target_and_a_look() {
        let mut known = board(json!({}));
        assert_eq!(told(&known, Detail::Full), json!({}));
        known.is_read = false;
        assert_eq!(apps(&known, Detail::Full), None);
        let local = Board {
            is_read: true,
            target: board(json!({"a": app("r1", &one("main", "x"))})).target,
            ..Board::default()
        };
        assert_eq!(apps(&local, Detail::Full), None, "a local app alone");
    }

    #[test]
    fn r_rep_11_s_rep_12_s_rep_13_an_image_of_two_releases_is_in_both() {
        let digest = format!("sha256:{}", "5".repeat(64));
        let image = format!("r.example/v2/aa:3@{digest}");
        let mut board = board(json!({"a": app("bb22", &one("main", &image))}));
        board.known_releases.insert("aa11".into());
        runs(&mut board, "a", "aa11", "main", &image);
        runs(&mut board, "a", "00", "main", "r.example/v2/never-named");
        let found = told(&board, Detail::Full);
        let releases = &found["a"]["releases"];
        for release in ["aa11", "bb22"] {
            let service = &releases[release]["services"]["main"];
            assert_eq!(service["image"], json!(format!("r.example/v2/aa@{digest}")));
        }
        assert_eq!(
            releases.as_object().unwrap().len(),
            2,
            "never an unknown release"
        );
        let lean = told(&board, Detail::Lean);
        let lean = lean["a"]["releases"].as_object().unwrap();
        assert_eq!(lean.keys().collect::<Vec<_>>(), ["bb22"]);
    }

    /// The words of 3.5 for two services on their way, and when a release is there (R-REP-9).
    #[test]
    fn s_rep_02_r_rep_9_from_download_to_running() {
        let images = ["one", "two"].map(|name| (name, format!("r.example/{name}")));
        let service = |(name, image): &(&str, String)| {
            let alone = json!({"network_mode": "none"});
            let service = json!({"id": 1, "image": image, "composition": alone});
            ((*name).to_owned(), service)
        };
        let services: serde_json::Map<_, _> = images.iter().map(service).collect();
        let app = json!({"id": 1, "name": "f", "releases": {"aa11": {"services": services}}});
        let mut board = board(json!({"a": app}));
        let seen = |board: &Board| {
            let found = told(board, Detail::Full)["a"].clone();
            let release = &found["releases"]["aa11"];
            let of = |service: &str| {
                let service = &release["services"][service];
                let progress = service["download_progress"].as_u64();
                (service["status"].as_str().unwrap().to_owned(), progress)
            };
            let is_current = found["release_uuid"] == "aa11";
            let status = release["update_status"].as_str().unwrap().to_owned();
            (status, of("one"), of("two"), is_current)
        };
        let want = |status: &str, one: (&str, Option<u64>), two: (&str, Option<u64>), is: bool| {
            let of = |(status, progress): (&str, _)| (status.to_owned(), progress);
            (status.to_owned(), of(one), of(two), is)
        };
        let here = Image {
            id: Some("sha256:1".into()),
            ..Image::default()
        };
        let halfway = Image {
            progress: 40,
            ..Image::default()
        };
        let uri = |at: usize| ImageUri::parse(&images[at].1).unwrap();
        let loads = ("Downloading", Some(0));
        assert_eq!(seen(&board), want("downloading", loads, loads, false));
        board.device.images.insert(uri(0), here.clone());
        board.device.images.insert(uri(1), halfway);
        let (there, half) = (("Downloaded", None), ("Downloading", Some(40)));
        assert_eq!(seen(&board), want("downloading", there, half, false));
        board.device.images.insert(uri(1), here);
        assert_eq!(seen(&board), want("downloaded", there, there, false));
        board.installing.insert(("a".into(), "one".into()));
        let makes = ("Installing", None);
        assert_eq!(seen(&board), want("downloaded", makes, there, false));
        board.installing.insert(("a".into(), "two".into()));
        assert_eq!(seen(&board), want("applying changes", makes, makes, false));
        board.installing.clear();
        for (name, image) in &images {
            runs(&mut board, "a", "aa11", name, image);
        }
        let target = board.target.clone().unwrap();
        let AppRelease::Wanted(_, release) = &target.apps["a"].release else {
            panic!()
        };
        let app = board.device.apps.get_mut("a").unwrap();
        for found in app.containers.values_mut() {
            let wanted = &release.services[&found.service];
            found.identity.as_mut().unwrap().config = wanted.config.clone();
        }
        let app = board.device.apps.get_mut("a").unwrap();
        let first = app.containers.values_mut().next().unwrap();
        first.status = ContainerStatus::Created;
        let (made, runs) = (("Installed", None), ("Running", None));
        assert_eq!(seen(&board), want("applying changes", made, runs, false));
        let app = board.device.apps.get_mut("a").unwrap();
        app.containers.values_mut().next().unwrap().status = ContainerStatus::Running;
        app.installed = Some("aa11".into());
        assert_eq!(
            seen(&board),
            want("applying changes", runs, runs, false),
            "not before its lane says so"
        );
        board.lanes.insert("a".into(), Lane::Reached);
        assert_eq!(seen(&board), want("done", runs, runs, true));
    }

    #[test]
    fn s_rep_04_s_rep_05_s_rep_14_every_app_of_the_target_and_no_other() {
        let apps = json!({"a": app("r1", &one("main", "x")), "b": app("r2", &one("main", "y"))});
        let mut board = board(apps);
        runs(&mut board, "c", "r3", "main", "z");
        let names = |board: &Board| -> Vec<String> {
            let found = told(board, Detail::Full);
            found.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(names(&board), ["a", "b"]);
        board.authorized.as_mut().unwrap().remove("a");
        assert_eq!(names(&board), ["b"]);
    }

    #[test]
    fn r_rep_8_s_rep_15_progress_goes_first() {
        let long = "x".repeat(200);
        let images = |prefix: &str| -> Vec<_> {
            let image = |at| (format!("s{at}"), format!("r.example/{prefix}{at}/{long}"));
            (0..200).map(image).collect()
        };
        let mut board = board(json!({"a": app("bb22", &images("new"))}));
        let text = apps(&board, Detail::Full).unwrap();
        assert!(
            text.len() < crate::limits::REPORT_BYTES_MAX,
            "{}",
            text.len()
        );
        let halfway = Image {
            progress: 40,
            ..Image::default()
        };
        for (_, image) in images("new") {
            let uri = ImageUri::parse(&image).unwrap();
            board.device.images.insert(uri, halfway.clone());
        }
        let full = told(&board, Detail::Full);
        let service = &full["a"]["releases"]["bb22"]["services"]["s7"];
        assert_eq!(service["download_progress"], json!(40));
        assert_eq!(service["status"], json!("Downloading"));
        let short = told(&board, Detail::Short);
        let service = &short["a"]["releases"]["bb22"]["services"]["s7"];
        assert_eq!(service.get("download_progress"), None);
        assert_eq!(service["status"], json!("Downloading"));
        let size = |detail| apps(&board, detail).unwrap().len();
        assert!(size(Detail::Short) < size(Detail::Full));
    }
}
