//! Labels on the engine's objects (state-engine 4.2, D-08, D-11).

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::base::json::{fields, from_str};

/// Marks an object as made by this agent, and says what was asked for.
pub const CONFIG: &str = "io.balena.private.config";
/// The app's uuid.
pub const APP_UUID: &str = "io.balena.app-uuid";
/// The service's name in its release.
pub const SERVICE_NAME: &str = "io.balena.service-name";
/// The backend's number of the service.
pub const SERVICE_ID: &str = "io.balena.service-id";
/// What the service waits for, as JSON.
pub const DEPENDS_ON: &str = "io.balena.private.depends-on";
/// The network's name in its release.
pub const NETWORK_NAME: &str = "io.balena.network-name";
/// The volume's name in its release.
pub const VOLUME_NAME: &str = "io.balena.volume-name";
/// By this the legacy supervisor and upstream find their objects.
pub const SUPERVISED: &str = "io.balena.supervised";
/// The same, on very old devices.
pub const SUPERVISED_RESIN: &str = "io.resin.supervised";

/// The app of an object that does not say (state-engine 0.2).
pub const UNKNOWN_APP: &str = "10c401";
/// The release of a container that does not say.
pub const UNKNOWN_RELEASE: &str = "10ca12e1ea5e";

/// The form of what [`CONFIG`] holds. A new one re-creates everything.
pub const FORMAT: u32 = 1;

/// What [`CONFIG`] holds on a network or volume.
#[must_use]
pub fn storage_identity(config: &impl Serialize) -> String {
    // A plain structure with text keys: there is nothing that could fail.
    let config = serde_json::to_string(config).unwrap_or_default();
    format!("{{\"format\":{FORMAT},\"config\":{config}}}")
}

#[derive(Default)]
struct Storage<'a> {
    format: u32,
    config: Option<&'a RawValue>,
}

fields!(Storage<'de> { format, config });

/// Reads it back; `None` for another form.
#[must_use]
pub fn read_storage_identity<T: DeserializeOwned>(label: &str) -> Option<T> {
    let Storage { format, config } = from_str(label).ok()?;
    let config = config.filter(|_| format == FORMAT)?;
    from_str(config.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{NetworkConfig, VolumeConfig};

    #[test]
    fn d_11_what_is_written_is_read_back() {
        let network = NetworkConfig {
            internal: true,
            ..NetworkConfig::default()
        };
        assert_eq!(
            read_storage_identity(&storage_identity(&network)),
            Some(network)
        );
        let volume = VolumeConfig::default();
        assert_eq!(
            read_storage_identity(&storage_identity(&volume)),
            Some(volume)
        );
        assert_eq!(
            read_storage_identity::<VolumeConfig>(r#"{"format":2,"config":{}}"#),
            None
        );
        assert_eq!(read_storage_identity::<VolumeConfig>("true"), None);
    }
}
