//! Networks: list, create, remove (state-engine 4.6).

use std::sync::Arc;

use super::container::objects::network_body;

use super::{Docker, gone_is_done, labels};
use crate::base::json::fields;
use crate::base::map::Map;
use crate::base::percent::percent_encode_segment;
use crate::model::current::Network;
use crate::model::{AppUuid, NetworkConfig, NetworkName};
use crate::world::engine::{EngineError, Kind, Owned};

#[derive(Default)]
struct Listed {
    id: String,
    name: String,
    labels: Option<Map<String, String>>,
}

fields!(Listed { "Id" => id needed, "Name" => name needed, "Labels" => labels });

#[derive(Default)]
struct Created {
    id: String,
}

fields!(Created { "Id" => id needed });

impl Docker {
    pub(super) async fn list_networks(
        &self,
    ) -> Result<Vec<Owned<(NetworkName, Network)>>, EngineError> {
        let doing = "list networks";
        let mut response = self.call("GET", "/networks", None, doing).await?;
        let listed: Vec<Listed> = self.json(&mut response, doing).await?;
        // Beside a legacy supervisor only our own label counts (D-08).
        let is_ours = |found: &Listed| {
            let labels = found.labels.as_ref();
            self.supervised || labels.is_some_and(|labels| labels.contains_key(labels::CONFIG))
        };
        let ours = listed.into_iter().filter(is_ours);
        Ok(ours.filter_map(attribute).collect())
    }

    pub(super) async fn make_network(
        &self,
        oci_name: &str,
        app: &AppUuid,
        name: &NetworkName,
        config: &NetworkConfig,
    ) -> Result<String, EngineError> {
        let doing = format!("create network '{oci_name}'");
        let body = network_body(oci_name, app, name, config, self.supervised)
            .map_err(|err| EngineError::new(Kind::Refused, doing.as_str(), err.to_string()))?;
        let mut response = self
            .call("POST", "/networks/create", Some(body.as_bytes()), &doing)
            .await?;
        let created: Created = self.json(&mut response, &doing).await?;
        Ok(created.id)
    }

    pub(super) async fn delete_network(&self, id: &str) -> Result<(), EngineError> {
        let doing = format!("remove network '{id}'");
        let path = format!("/networks/{}", percent_encode_segment(id));
        gone_is_done(self.order("DELETE", &path, None, &doing).await)
    }
}

/// Whose a network is: by our labels, or by upstream's label and its name.
fn attribute(listed: Listed) -> Option<Owned<(NetworkName, Network)>> {
    let Listed {
        id,
        name: oci_name,
        labels,
    } = listed;
    let labels = labels?;
    let name = labels.get(labels::NETWORK_NAME)?;
    let app = match labels.get(labels::APP_UUID) {
        Some(app) => app.as_str(),
        None => oci_name.strip_prefix(name.as_str())?.strip_prefix('_')?,
    };
    let config = labels
        .get(labels::CONFIG)
        .and_then(|label| labels::read_storage_identity(label));
    let network = Network {
        id: id.into(),
        oci_name: Arc::from(oci_name.as_str()),
        config,
    };
    Some((AppUuid::new(app), (NetworkName::new(name), network)))
}
