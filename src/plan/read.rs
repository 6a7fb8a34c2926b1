//! The engine as a [`Device`]: what is, read afresh.

use std::sync::Arc;

use super::board::{Board, Lane, Marks};
use super::work::Tools;
use crate::base::hash;
use crate::base::map::{Map, Set};
use crate::model::current::{App, Container, Device, Image, Network, Volume};
use crate::model::target::{AppRelease, DeviceTarget};
use crate::model::{AppUuid, ImageUri, NetworkName, VolumeName};
use crate::world::engine::{EngineError, FoundVolume, Kind};

/// Reads everything and puts it on the board.
///
/// # Errors
/// When the engine does not answer; the board stays as it is.
pub async fn device(tools: &Tools) -> Result<(), EngineError> {
    for _ in 0..STALE_READS_MAX {
        if read_device(tools, false).await? {
            super::drift::look(tools).await;
            return Ok(());
        }
    }
    read_device(tools, true).await?;
    super::drift::look(tools).await;
    Ok(())
}

/// Reads that are thrown away because something changed meanwhile, before the next
/// one is taken as it is.
const STALE_READS_MAX: usize = 3;

/// `false`: something changed meanwhile, and the board stays as it is.
async fn read_device(tools: &Tools, anyway: bool) -> Result<bool, EngineError> {
    let touched = tools.board.look(|board| board.touched);
    let mut images = images(tools).await?;
    let mut apps: Map<AppUuid, App> = Map::new();
    let mut marks = tools.board.look(blank);
    for (app, (name, container)) in tools.engine.containers().await? {
        if !marks.is_elsewhere(&app, &container) {
            apps.or_default(app).containers.insert(name, container);
        }
    }
    for (app, (name, network)) in tools.engine.networks().await? {
        add_network(apps.or_default(app), name, network);
    }
    let target = tools.board.look(|board| board.target.clone());
    for volume in tools.engine.volumes().await? {
        if let Some((app, oci_name, volume)) = attribute(volume, target.as_deref()) {
            apps.or_default(app).volumes.insert(oci_name, volume);
        }
    }
    let known = known_apps(tools).await;
    Ok(tools.board.change(|board| {
        let is_stale = board.touched != touched;
        if is_stale && !anyway {
            return false;
        }
        board.marks.legacy = std::mem::take(&mut marks.legacy);
        let device = &mut board.device;
        name_apps(&mut apps, device, &known, target.as_deref());
        if board.active > 0 {
            // A lane at work knows its app better than a read beside it.
            let at_work = board.lanes.iter();
            for (uuid, _) in at_work.filter(|(_, lane)| **lane == Lane::Working) {
                apps.extend(device.apps.remove_entry(uuid));
            }
        }
        // What is being pulled is on no list yet.
        for uri in board.pulls.keys() {
            if let Some(image) = device.images.remove(uri) {
                images.or_insert_with(uri.clone(), || image);
            }
        }
        device.images = images;
        let before = std::mem::replace(&mut device.apps, apps);
        // The image of one that is gone may be clean-up's.
        board.plans += u64::from(has_lost(&before, &device.apps));
        board.is_read = true;
        true
    }))
}

/// Whether containers are gone.
fn has_lost(before: &Map<AppUuid, App>, now: &Map<AppUuid, App>) -> bool {
    let all = |apps: &Map<AppUuid, App>| {
        let all = apps.values().flat_map(|app| app.containers.values());
        all.map(|found| found.id.clone()).collect::<Set<_>>()
    };
    !all(before).is_subset(&all(now))
}

/// Reads one app again: after a failure nothing that was remembered counts (D-19).
///
/// # Errors
/// When the engine does not answer; the board stays as it is.
pub async fn app(tools: &Tools, uuid: &AppUuid) -> Result<(), EngineError> {
    for _ in 0..STALE_READS_MAX {
        if read_app(tools, uuid, false).await? {
            return Ok(());
        }
    }
    read_app(tools, uuid, true).await.map(drop)
}

async fn read_app(tools: &Tools, uuid: &AppUuid, anyway: bool) -> Result<bool, EngineError> {
    let touched = tools.board.look(|board| board.touched);
    let mut containers: Map<Arc<str>, Container> = Map::new();
    let mut marks = tools.board.look(blank);
    for (app, (name, container)) in tools.engine.containers().await? {
        if !marks.is_elsewhere(&app, &container) && app == *uuid {
            containers.insert(name, container);
        }
    }
    let mut storage = App::default();
    for (app, (name, network)) in tools.engine.networks().await? {
        if app == *uuid {
            add_network(&mut storage, name, network);
        }
    }
    let target = tools.board.look(|board| board.target.clone());
    let volumes = tools.engine.volumes().await?.into_iter();
    let volumes: Vec<_> = volumes
        .filter_map(|volume| attribute(volume, target.as_deref()))
        .filter(|(app, ..)| app == uuid)
        .map(|(_, oci_name, volume)| (oci_name, volume))
        .collect();
    Ok(tools.board.change(|board| {
        if board.touched != touched && !anyway {
            return false;
        }
        board.marks.legacy = std::mem::take(&mut marks.legacy);
        let app = board.device.apps.or_default(uuid.clone());
        app.containers = containers;
        app.networks = storage.networks;
        app.spare_networks = storage.spare_networks;
        app.volumes = volumes.into_iter().collect();
        true
    }))
}

/// Marks to read with: of containers nothing is known yet.
fn blank(board: &Board) -> Marks {
    Marks {
        is_beside: board.marks.is_beside,
        ..Marks::default()
    }
}

/// Of two networks of one name the one this agent made counts; the other is to go (FD-21).
fn add_network(app: &mut App, name: NetworkName, mut found: Network) {
    if let Some(known) = app.networks.get_mut(&name) {
        if known.config.is_none() && found.config.is_some() {
            std::mem::swap(known, &mut found);
        }
        app.spare_networks.push((name, found.id));
    } else {
        app.networks.insert(name, found);
    }
}

/// All images that have a name, and what the names of the target resolve to (W-38).
async fn images(tools: &Tools) -> Result<Map<ImageUri, Image>, EngineError> {
    let mut images = Map::new();
    let mut configs: Map<Arc<str>, Option<Arc<str>>> = tools.board.look(|board| {
        let known = board.device.images.values();
        known
            .filter_map(|image| Some((image.id.clone()?, image.config.clone())))
            .collect()
    });
    for listed in tools.engine.images().await? {
        let Some(first) = listed.names.first() else {
            continue;
        };
        if !configs.contains_key(&listed.id) {
            match tools.engine.image(first).await {
                Ok(facts) => drop(configs.insert(facts.id, facts.config)),
                // Gone since the list was made, or damaged: it costs only itself (W-25).
                Err(error) if is_its_own(&error) => {
                    log::debug!("{error}");
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        let config = configs.get(&listed.id).cloned().flatten();
        for name in listed.names {
            let image = Image {
                id: Some(listed.id.clone()),
                progress: 100,
                config: config.clone(),
            };
            images.insert(name, image);
        }
    }
    let target = tools.board.look(|board| board.target.clone());
    let wanted = target
        .map(|target| super::sweep::wanted(&target))
        .unwrap_or_default();
    for uri in wanted {
        if images.contains_key(&uri) {
            continue;
        }
        match tools.engine.image(&uri).await {
            Ok(facts) => {
                let image = Image {
                    id: Some(facts.id),
                    progress: 100,
                    config: facts.config,
                };
                images.insert(uri, image);
            }
            Err(error) if is_its_own(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(images)
}

/// Whether a failure is about this one image, which counts as absent then. A pull finds out
/// what is wrong with it.
fn is_its_own(error: &EngineError) -> bool {
    matches!(error.kind, Kind::Gone | Kind::Refused | Kind::Damaged)
}

/// Whose a volume is (D-12): by its labels, or `{appId}_{name}` of an app in the
/// target; what cannot be attributed is nobody's and is left alone.
fn attribute(
    found: FoundVolume,
    target: Option<&DeviceTarget>,
) -> Option<(AppUuid, Arc<str>, Volume)> {
    let FoundVolume {
        oci_name,
        app,
        name,
        config,
    } = found;
    if let (Some(app), Some(name)) = (&app, &name)
        && (config.is_some() || *oci_name == *format!("{name}_{app}"))
    {
        return Some((
            app.clone(),
            oci_name,
            Volume {
                name: name.clone(),
                config,
            },
        ));
    }
    let apps = target.map(|target| &target.apps)?;
    let legacy = |uuid: &AppUuid, id: u32| {
        // An app whose entry could not be read has the number 0: nobody's, unless it is said.
        if id == 0 && app.is_none() {
            return None;
        }
        let rest = oci_name
            .strip_prefix(&format!("{id}_"))
            .filter(|rest| !rest.is_empty())?;
        (app.as_ref().is_none_or(|app| app == uuid)).then(|| VolumeName::new(rest))
    };
    // What upstream made carries its name in a label and its app in its own name.
    let upstream = |uuid: &AppUuid| {
        let name = name.as_ref()?;
        (*oci_name == *format!("{name}_{uuid}")).then(|| name.clone())
    };
    let (uuid, name) = apps.iter().find_map(|(uuid, app)| {
        let declared = |name: &VolumeName| match &app.release {
            AppRelease::Wanted(_, release) => release.volumes.contains_key(name),
            AppRelease::None | AppRelease::Rejected(_) => false,
        };
        let name = upstream(uuid).or_else(|| legacy(uuid, app.id).filter(declared))?;
        Some((uuid.clone(), name))
    })?;
    Some((uuid, oci_name, Volume { name, config: None }))
}

/// What the store knows about apps: upstream's documents (state-engine 8.2).
struct Known {
    uuid: AppUuid,
    id: u32,
    name: Option<Arc<str>>,
    releases: Vec<String>,
}

/// The directory of an app's documents. A uuid is free text: one that is no plain
/// name is replaced by its hash.
#[must_use]
pub fn app_dir(uuid: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if !uuid.is_empty() && uuid.len() <= 128 && uuid.bytes().all(plain) {
        format!("apps/{uuid}")
    } else {
        format!("apps/.{}", hash::sha256_hex(uuid.as_bytes()))
    }
}

async fn known_apps(tools: &Tools) -> Vec<Known> {
    let mut known = Vec::new();
    for uuid in tools.store.list("apps").await.unwrap_or_default() {
        let id: Option<u32> = document(tools, &format!("apps/{uuid}/id")).await;
        let name: Option<Option<String>> = document(tools, &format!("apps/{uuid}/name")).await;
        let Some(id) = id else { continue };
        let releases = tools
            .store
            .list(&format!("apps/{uuid}/releases"))
            .await
            .unwrap_or_default();
        let name = name.flatten().map(Into::into);
        known.push(Known {
            uuid: uuid.into(),
            id,
            name,
            releases,
        });
    }
    known
}

/// A stored document; one that does not parse is set aside and counts as absent (W-20).
pub(crate) async fn document<T: serde::de::DeserializeOwned>(
    tools: &Tools,
    path: &str,
) -> Option<T> {
    let bytes = match tools.store.get(path).await {
        Ok(bytes) => bytes?,
        Err(error) => {
            log::warn!("{error}");
            return None;
        }
    };
    match serde_json::from_slice(&bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            log::warn!("document '{path}' cannot be read and is set aside: {error}");
            let _ = tools.store.quarantine(path).await;
            None
        }
    }
}

fn name_apps(
    apps: &mut Map<AppUuid, App>,
    before: &Device,
    known: &[Known],
    target: Option<&DeviceTarget>,
) {
    for Known {
        uuid,
        id,
        name,
        releases,
    } in known
    {
        let app = apps.or_default(uuid.clone());
        app.id = *id;
        app.name.clone_from(name);
        app.installed = releases.first().map(|release| release.as_str().into());
    }
    // An app of which nothing is there yet has its refusal to show (HL-25).
    for (uuid, app) in target.into_iter().flat_map(|target| &target.apps) {
        if matches!(app.release, AppRelease::Rejected(_)) {
            apps.or_default(uuid.clone());
        }
    }
    for (uuid, app) in apps.iter_mut() {
        if let Some(before) = before.apps.get(uuid) {
            app.rejected.clone_from(&before.rejected);
            if before.installed.is_some() {
                app.installed.clone_from(&before.installed);
            }
        }
        if let Some(target) = target.and_then(|target| target.apps.get(uuid)) {
            app.id = target.id;
            app.name.clone_from(&target.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::target::{AppTarget, ReleaseTarget};

    fn target() -> DeviceTarget {
        let mut release = ReleaseTarget::default();
        release
            .volumes
            .insert("data".into(), crate::model::VolumeConfig::default());
        let release = AppRelease::Wanted("r".into(), Arc::new(release));
        let app = AppTarget {
            id: 12,
            name: None,
            release,
        };
        DeviceTarget {
            apps: [("a1".into(), app)].into(),
            ..DeviceTarget::default()
        }
    }

    fn found(oci: &str, app: Option<&str>, name: Option<&str>) -> Option<(String, String)> {
        let found = FoundVolume {
            oci_name: oci.into(),
            app: app.map(Into::into),
            name: name.map(Into::into),
            config: None,
        };
        let (app, _, volume) = attribute(found, Some(&target()))?;
        Some((app.to_string(), volume.name.to_string()))
    }

    #[test]
    fn w_07_d_12_volumes_of_others_are_adopted_or_left_alone() {
        let mine = Some(("a1".to_owned(), "data".to_owned()));
        assert_eq!(found("data_a1", None, Some("data")), mine, "upstream's");
        assert_eq!(found("data_a1", Some("a1"), Some("data")), mine);
        assert_eq!(found("12_data", Some("a1"), None), mine, "legacy's");
        assert_eq!(found("12_data", None, None), mine, "legacy's, very old");
        assert_eq!(
            found("12_other", Some("a1"), None),
            None,
            "not in the release"
        );
        assert_eq!(found("12_data", Some("a2"), None), None, "another app's");
        assert_eq!(found("13_data", None, None), None);
        assert_eq!(found("data", None, None), None);
    }
}
