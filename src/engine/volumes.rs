//! Volumes: list, create, remove (state-engine 4.7).

use super::container::objects::volume_body;

use super::{Docker, gone_is_done, labels};
use crate::base::json::fields;
use crate::base::map::Map;
use crate::base::percent::percent_encode_segment;
use crate::model::{AppUuid, VolumeConfig, VolumeName};
use crate::world::engine::{EngineError, FoundVolume, Kind};

#[derive(Default)]
struct List {
    volumes: Option<Vec<Listed>>,
}

fields!(List { "Volumes" => volumes });

#[derive(Default)]
struct Listed {
    name: String,
    labels: Option<Map<String, String>>,
}

fields!(Listed { "Name" => name needed, "Labels" => labels });

impl Docker {
    pub(super) async fn list_volumes(&self) -> Result<Vec<FoundVolume>, EngineError> {
        let doing = "list volumes";
        let mut response = self.call("GET", "/volumes", None, doing).await?;
        let list: List = self.json(&mut response, doing).await?;
        Ok(list
            .volumes
            .unwrap_or_default()
            .into_iter()
            .filter_map(found)
            .collect())
    }

    pub(super) async fn make_volume(
        &self,
        oci_name: &str,
        app: &AppUuid,
        name: &VolumeName,
        config: &VolumeConfig,
    ) -> Result<(), EngineError> {
        let doing = format!("create volume '{oci_name}'");
        let body = volume_body(oci_name, app, name, config, self.supervised)
            .map_err(|err| EngineError::new(Kind::Refused, doing.as_str(), err.to_string()))?;
        self.order("POST", "/volumes/create", Some(body.as_bytes()), &doing)
            .await
    }

    pub(super) async fn delete_volume(&self, oci_name: &str) -> Result<(), EngineError> {
        let doing = format!("remove volume '{oci_name}'");
        let path = format!("/volumes/{}", percent_encode_segment(oci_name));
        gone_is_done(self.order("DELETE", &path, None, &doing).await)
    }
}

/// A volume that an agent of this family made; anybody else's is none of our business.
fn found(listed: Listed) -> Option<FoundVolume> {
    let labels = listed.labels.unwrap_or_default();
    let ours = [labels::CONFIG, labels::SUPERVISED, labels::SUPERVISED_RESIN];
    if !ours.iter().any(|label| labels.contains_key(*label)) {
        return None;
    }
    let label = |key: &str| labels.get(key).map(String::as_str);
    Some(FoundVolume {
        oci_name: listed.name.into(),
        app: label(labels::APP_UUID).map(AppUuid::new),
        name: label(labels::VOLUME_NAME).map(VolumeName::new),
        config: label(labels::CONFIG).and_then(labels::read_storage_identity),
    })
}
