//! The board in the words of the third API (local-api 1.5, state-engine 1.2). Pure.

use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::date;
use crate::base::json::written;
use crate::base::map::Map;
use crate::base::uptime::Uptime;
use crate::model::current::{App, Container, Image};
use crate::model::status::{ContainerStatus, Health, UpdateStatus};
use crate::model::target::{AppRelease, AppTarget, Dependency, ReleaseTarget, ServiceTarget};
use crate::model::{
    AppUuid, ImageUri, NetworkConfig, ReleaseUuid, ServiceConfig, ServiceName, VolumeConfig,
};
use crate::plan::board::{Board, Lane, Part};
use crate::plan::rules::{self, Situation, Wait};
use crate::plan::{converge, host};

/// When it is, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// The monotonic clock.
    pub uptime: Uptime,
    /// The wall clock, seconds since the epoch.
    pub wall_secs: i64,
}

impl Now {
    fn date(self, at: Uptime) -> String {
        let secs = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
        date::rfc3339(self.wall_secs + secs(at - self.uptime) - secs(self.uptime - at))
    }
}

struct StatusBody<'a> {
    status: UpdateStatus,
    since: Option<String>,
    reason: Option<&'a str>,
    backend: Option<&'a str>,
}

written!(StatusBody<'_> {
    status always, since, reason, backend,
});

struct DeviceBody<'a> {
    uuid: &'a str,
    name: Option<&'a str>,
    images: Map<&'a str, ImageBody<'a>>,
    apps: Map<&'a str, AppBody<'a>>,
    host: Option<HostBody<'a>>,
}

written!(DeviceBody<'_> {
    uuid always, name, images always, apps always, host,
});

struct HostBody<'a> {
    meta: MetaBody<'a>,
    releases: Map<&'a str, HostReleaseBody<'a>>,
}

written!(HostBody<'_> {
    meta always, releases always,
});

struct HostReleaseBody<'a> {
    app: &'a str,
    image: &'a str,
    build: &'a str,
    updater: &'a str,
    status: host::Status,
    install_attempts: u32,
    detail: Option<HostDetailBody<'a>>,
}

written!(HostReleaseBody<'_> {
    app always, image always, build always, updater always, status always,
    install_attempts always, detail,
});

/// Only with `?detail=true` (D-28a).
struct HostDetailBody<'a> {
    /// What it waits for, or why it is not done, in one line.
    waits_for: Option<&'a str>,
    last_error: Option<&'a str>,
    last_attempt: Option<String>,
}

written!(HostDetailBody<'_> {
    waits_for, last_error always, last_attempt always,
});

struct MetaBody<'a> {
    name: &'a str,
    version: Option<&'a str>,
    build: Option<&'a str>,
}

written!(MetaBody<'_> {
    name always, version, build,
});

struct ImageBody<'a> {
    oci_id: Option<&'a str>,
    download_progress: u8,
    config: &'a RawValue,
}

written!(ImageBody<'_> {
    oci_id always, download_progress always, config always,
});

struct AppBody<'a> {
    id: u32,
    name: Option<&'a str>,
    locked: bool,
    lockfiles: Vec<String>,
    releases: Map<&'a str, ReleaseBody<'a>>,
    rejected_release: Option<&'a str>,
}

written!(AppBody<'_> {
    id always, name, locked always, lockfiles always, releases always, rejected_release,
});

#[derive(Default)]
struct ReleaseBody<'a> {
    installed: bool,
    services: Map<&'a str, ServiceBody<'a>>,
    networks: Map<&'a str, NetworkBody<'a>>,
    volumes: Map<&'a str, VolumeBody<'a>>,
}

written!(ReleaseBody<'_> {
    installed always, services always, networks always, volumes always,
});

struct ServiceBody<'a> {
    id: u32,
    oci: Option<ContainerBody<'a>>,
    installing: bool,
    started: bool,
    image: &'a str,
    config: Box<RawValue>,
    depends_on: &'a Map<ServiceName, Dependency>,
    detail: Option<DetailBody<'a>>,
}

written!(ServiceBody<'_> {
    id always, oci, installing always, started always, image always, config always,
    depends_on always, detail,
});

/// Only with `?detail=true` (D-28a).
struct DetailBody<'a> {
    /// What it waits for, in one line; absent when it waits for nothing.
    waits_for: Option<String>,
    last_error: Option<&'a str>,
    failures: u32,
    next_try: Option<String>,
}

written!(DetailBody<'_> {
    waits_for, last_error always, failures always, next_try always,
});

struct ContainerBody<'a> {
    name: &'a str,
    created: &'a str,
    status: ContainerStatus,
    exit_code: Option<i64>,
    health: Health,
}

written!(ContainerBody<'_> {
    name always, created always, status always, exit_code always, health always,
});

struct NetworkBody<'a> {
    oci_name: &'a str,
    config: NetworkConfig,
}

written!(NetworkBody<'_> {
    oci_name always, config always,
});

struct VolumeBody<'a> {
    oci_name: &'a str,
    config: VolumeConfig,
}

written!(VolumeBody<'_> {
    oci_name always, config always,
});

fn bytes(body: &impl Serialize) -> Vec<u8> {
    // Maps with text keys and plain values: there is nothing that could fail.
    serde_json::to_vec(body).unwrap_or_default()
}

/// `GET /v3/status`: exactly `{"status":...}` unless details are asked for (D-28a).
#[must_use]
pub fn status(board: &Board, now: Now, detail: bool) -> Vec<u8> {
    bytes(&StatusBody {
        status: board.status,
        since: detail.then(|| now.date(board.since)),
        reason: board.reason.as_deref().filter(|_| detail),
        backend: board.backend_down.as_deref().filter(|_| detail),
    })
}

/// `GET /v3/device`.
#[must_use]
pub fn device(board: &Board, now: Now, detail: bool) -> Vec<u8> {
    let device = &board.device;
    let view = View { board, now, detail };
    bytes(&DeviceBody {
        uuid: &device.uuid,
        name: device.name.as_deref(),
        images: device
            .images
            .iter()
            .map(|(uri, found)| (uri.as_str(), image(found)))
            .collect(),
        apps: device
            .apps
            .iter()
            .map(|(uuid, app)| (uuid.as_str(), view.app(uuid, app)))
            .collect(),
        host: device.host.as_ref().map(|os| HostBody {
            meta: MetaBody {
                name: &os.name,
                version: os.version.as_deref(),
                build: os.build.as_deref(),
            },
            releases: view.host_releases(),
        }),
    })
}

/// `GET /v3/device/apps/{uuid}`; `None` when there is no such app.
#[must_use]
pub fn app(board: &Board, now: Now, detail: bool, uuid: &str) -> Option<Vec<u8>> {
    let (uuid, app) = board.device.apps.get_key_value(uuid)?;
    Some(bytes(&View { board, now, detail }.app(uuid, app)))
}

fn image(found: &Image) -> ImageBody<'_> {
    const NOTHING: &str = "{}";
    let raw = |text| crate::base::json::from_str::<&RawValue>(text).ok();
    let config = found
        .config
        .as_deref()
        .and_then(raw)
        .or_else(|| raw(NOTHING));
    ImageBody {
        oci_id: found.id.as_deref(),
        download_progress: found.progress,
        // `{}` is JSON.
        config: config.expect("an empty object parses"),
    }
}

/// What parts of an app wait for.
type Waits = Map<String, Wait>;

#[derive(Clone, Copy)]
struct View<'a> {
    board: &'a Board,
    now: Now,
    detail: bool,
}

impl<'a> View<'a> {
    fn host_releases(self) -> Map<&'a str, HostReleaseBody<'a>> {
        let board = self.board;
        let wanted = host::wanted(board).map(|wanted| &wanted.release);
        let releases = board.host.releases.iter().map(|(release, record)| {
            let waits_for = match &board.host.lane {
                Some(Lane::Waiting(why) | Lane::Blocked(why)) if wanted == Some(release) => {
                    Some(&**why)
                }
                _ => None,
            };
            let detail = self.detail.then(|| HostDetailBody {
                waits_for,
                last_error: record.last_error.as_deref(),
                last_attempt: record.attempted_at.map(date::rfc3339),
            });
            let body = HostReleaseBody {
                app: &record.app,
                image: &record.image,
                build: &record.build,
                updater: &record.updater,
                status: record.status,
                install_attempts: record.install_attempts,
                detail,
            };
            (release.as_str(), body)
        });
        releases.collect()
    }

    fn app(self, uuid: &'a AppUuid, app: &'a App) -> AppBody<'a> {
        let mut releases: Map<&str, ReleaseBody<'_>> = Map::new();
        let target = self
            .board
            .target
            .as_deref()
            .and_then(|target| target.apps.get(uuid));
        let waits = self.waits(uuid, app, target);
        if let Some(AppRelease::Wanted(name, release)) = target.map(|target| &target.release) {
            let known = self.services(uuid, app, (name, release), &waits);
            // A release without a trace on the engine is not there yet.
            if !app.containers.is_empty()
                || app.installed.as_ref() == Some(name)
                || !known.is_empty()
            {
                releases.or_default(name.as_str()).services = known;
            }
        }
        for (name, found) in &app.containers {
            let release = releases.or_default(found.release.as_str());
            if !release.services.contains_key(found.service.as_str()) {
                let body = self.container(uuid, (name, found), &waits);
                release.services.insert(found.service.as_str(), body);
            }
        }
        for (name, release) in releases.iter_mut() {
            release.installed = app.installed.as_deref() == Some(*name);
            release.networks = networks(app);
            release.volumes = volumes(app);
        }
        let held = self.board.locks_of(uuid);
        let held = held.map_or(&[][..], |locks| &locks.held);
        AppBody {
            id: app.id,
            name: app.name.as_deref(),
            locked: !held.is_empty(),
            lockfiles: held
                .iter()
                .map(|dir| format!("{dir}/updates.lock"))
                .collect(),
            releases,
            rejected_release: app.rejected.as_deref(),
        }
    }

    /// What parts of the app wait for, where details are asked for.
    fn waits(self, uuid: &AppUuid, app: &App, target: Option<&AppTarget>) -> Waits {
        if !self.detail {
            return Waits::new();
        }
        let release = match target.map(|target| &target.release) {
            Some(AppRelease::Wanted(name, release)) => Some((name, &**release)),
            // What runs is kept.
            Some(AppRelease::Rejected(_)) => return Waits::new(),
            Some(AppRelease::None) | None => None,
        };
        let uptime = self.now.uptime;
        converge::reasons(self.board, (uuid, app), release, target.is_none(), uptime)
    }

    /// The services of the target's release, those without a container too.
    fn services(
        self,
        uuid: &'a AppUuid,
        app: &'a App,
        (name, release): (&'a ReleaseUuid, &'a ReleaseTarget),
        waits: &Waits,
    ) -> Map<&'a str, ServiceBody<'a>> {
        let situation = Situation::plain((uuid, app), Some((name, release)), &self.board.marks);
        let services = release.services.iter().map(|(service, wanted)| {
            let found = rules::successor(&situation, service, wanted, (name, release));
            let body = self.service((uuid, service), wanted, found, waits);
            (service.as_str(), body)
        });
        services.collect()
    }

    fn service(
        self,
        (uuid, service): (&AppUuid, &ServiceName),
        wanted: &'a ServiceTarget,
        found: Option<(&'a std::sync::Arc<str>, &'a Container)>,
        waits: &Waits,
    ) -> ServiceBody<'a> {
        let key = (uuid.clone(), service.clone());
        ServiceBody {
            id: wanted.id,
            oci: found.map(|(name, found)| container(name, found)),
            installing: self.board.installing.contains(&key),
            started: found.is_some_and(|(_, found)| found.status != ContainerStatus::Created),
            image: wanted.image.as_str(),
            config: config(Some(&wanted.config)),
            depends_on: &wanted.depends_on,
            detail: self.service_detail((uuid, service), Some(&wanted.image), waits),
        }
    }

    /// A container that is not what the target asks for.
    fn container(
        self,
        uuid: &AppUuid,
        (name, found): (&'a str, &'a Container),
        waits: &Waits,
    ) -> ServiceBody<'a> {
        let identity = found.identity.as_ref();
        ServiceBody {
            id: found.service_id,
            oci: Some(container(name, found)),
            installing: false,
            started: found.status != ContainerStatus::Created,
            image: identity.map_or(&*found.image_id, |identity| identity.image.as_str()),
            config: config(identity.map(|identity| &*identity.config)),
            depends_on: &found.depends_on,
            detail: self.service_detail((uuid, &found.service), None, waits),
        }
    }

    fn service_detail(
        self,
        (uuid, service): (&AppUuid, &ServiceName),
        image: Option<&ImageUri>,
        waits: &Waits,
    ) -> Option<DetailBody<'a>> {
        if !self.detail {
            return None;
        }
        let troubles = &self.board.troubles;
        let of_image = || troubles.get(&Part::Image(image?.clone()));
        let part = Part::Service(uuid.clone(), service.clone());
        let trouble = troubles.get(&part).or_else(of_image);
        Some(DetailBody {
            waits_for: waits
                .get(&format!("service '{service}'"))
                .map(Wait::to_string),
            last_error: trouble.map(|trouble| &*trouble.said),
            failures: trouble.map_or(0, |trouble| trouble.backoff.failures()),
            next_try: trouble.map(|trouble| self.now.date(trouble.retry_at)),
        })
    }
}

fn container<'a>(name: &'a str, found: &'a Container) -> ContainerBody<'a> {
    ContainerBody {
        name,
        created: &found.created,
        status: found.status,
        exit_code: found.exit_code,
        health: found.health,
    }
}

/// The configuration as the API shows it (D-10); a container that was not made by this
/// agent shows the defaults.
fn config(json: Option<&str>) -> Box<RawValue> {
    let config = json
        .and_then(|json| ServiceConfig::from_json(json).ok())
        .unwrap_or_default();
    RawValue::from_string(config.to_api_json()).unwrap_or_default()
}

fn networks(app: &App) -> Map<&str, NetworkBody<'_>> {
    let networks = app.networks.iter().map(|(name, found)| {
        let config = found.config.clone().unwrap_or_default();
        (
            name.as_str(),
            NetworkBody {
                oci_name: &found.oci_name,
                config,
            },
        )
    });
    networks.collect()
}

fn volumes(app: &App) -> Map<&str, VolumeBody<'_>> {
    let volumes = app.volumes.iter().map(|(oci_name, found)| {
        let config = found.config.clone().unwrap_or_default();
        (found.name.as_str(), VolumeBody { oci_name, config })
    });
    volumes.collect()
}
