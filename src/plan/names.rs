//! Names on the engine (state-engine 3.3, D-12, D-37). Pure.

use crate::base::hash;
use crate::model::current::App;
use crate::model::{AppUuid, NetworkName, ReleaseUuid, ServiceName, VolumeConfig, VolumeName};

/// The prefix of a container whose successor has taken its name (D-37).
pub const OLD: &str = "old_";

/// The engine name of a network (state-engine 3.3).
#[must_use]
pub fn network_name(app: &AppUuid, name: &NetworkName) -> String {
    format!("{name}_{app}")
}

/// The engine name of a volume of the release, and whether it is there (D-12).
///
/// A volume of that name in the same place is used, adopted ones included. One in
/// another place is left alone, and a new one gets a name of its own. `is_beside`: a legacy
/// supervisor runs beside us, and a new one has its name (D-08).
#[must_use]
pub fn volume_name(
    uuid: &AppUuid,
    app: &App,
    name: &VolumeName,
    config: &VolumeConfig,
    is_beside: bool,
) -> (String, bool) {
    let plain = match is_beside {
        true => format!("{}_{name}", app.id),
        false => format!("{name}_{uuid}"),
    };
    let fits = |oci_name: &str| {
        app.volumes.get(oci_name).is_some_and(|volume| {
            volume.name == *name
                && volume
                    .config
                    .as_ref()
                    .is_none_or(|found| found.same_place(config))
        })
    };
    if fits(&plain) {
        return (plain, true);
    }
    if let Some((oci_name, _)) = app.volumes.iter().find(|(oci_name, _)| fits(oci_name)) {
        return (oci_name.to_string(), true);
    }
    if !app.volumes.contains_key(plain.as_str()) {
        return (plain, false);
    }
    let place = format!("{}\n{:?}", config.driver, config.driver_opts);
    let digest = hash::sha256_hex(place.as_bytes());
    (format!("{plain}_{}", &digest[..8]), false)
}

/// The engine name of a service's container (state-engine 3.3).
#[must_use]
pub fn container_name(service: &ServiceName, release: &ReleaseUuid) -> String {
    format!("{service}_{release}")
}

/// The same with the app's uuid, for when another app has that name (W-32).
#[must_use]
pub fn container_name_long(service: &ServiceName, release: &ReleaseUuid, app: &AppUuid) -> String {
    format!("{service}_{release}_{app}")
}

/// Whether a container of this name needs no renaming.
#[must_use]
pub fn is_right_name(
    name: &str,
    service: &ServiceName,
    release: &ReleaseUuid,
    app: &AppUuid,
) -> bool {
    let rest = name
        .strip_prefix(service.as_str())
        .and_then(|rest| rest.strip_prefix('_'));
    let rest = rest.and_then(|rest| rest.strip_prefix(release.as_str()));
    rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('_') == Some(app.as_str()))
}
