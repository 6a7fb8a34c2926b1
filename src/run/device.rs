//! What is known of this device before anybody is asked.

use crate::base::uptime::Uptime;
use crate::config::Config;
use crate::flows::register::IDENTITY;
use crate::host::{facts, own};
use crate::identity::Identity;
use crate::model::current::Device;
use crate::plan::board::{Board, Marks};
use crate::world::engine::HostFacts;

/// Says who this device is and where that is written down.
pub(super) fn announce(config: &Config, is_registering: bool, uuid: &str) {
    let place = Identity::below(&config.dirs.config).name(IDENTITY);
    let Some(remote) = &config.remote else { return };
    let from = match (is_registering, config.is_identity_stored) {
        (true, _) => format!("is being registered; the identity will be in {place}"),
        (false, true) => format!("is registered; the identity is in {place}"),
        (false, false) => "is told so by its arguments".to_owned(),
    };
    log::info!("this device is {uuid} at {} and {from}", remote.endpoint);
}

/// The board at the start.
pub(super) fn board(config: &Config, uuid: &str, since: Uptime) -> Board {
    Board {
        device: Device {
            uuid: uuid.into(),
            host: config.os.clone(),
            ..Device::default()
        },
        since,
        marks: Marks {
            own: own::container(),
            is_beside: config.legacy.is_some(),
            ..Marks::default()
        },
        ..Board::default()
    }
}

/// What containers are told about it.
pub(super) fn host_facts(config: &Config, uuid: &str) -> HostFacts {
    let os = config.os.as_ref();
    HostFacts {
        uuid: uuid.to_owned(),
        device_name: None,
        device_type: config.device_type.clone(),
        arch: facts::arch().to_owned(),
        os_version: os.map(|os| match &os.version {
            Some(version) => format!("{} {version}", os.name),
            None => os.name.to_string(),
        }),
        os_build: os.and_then(|os| os.build.as_deref()).map(str::to_owned),
        kernel: facts::kernel(),
        runtime_dir: config.host_runtime_dir.to_string_lossy().into_owned(),
        supervised: config.legacy.is_none(),
    }
}
