//! Networks: list, create, remove (state-engine 4.6).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Docker, gone_is_done, labels};
use crate::http::url::percent_encode_segment;
use crate::model::current::Network;
use crate::model::network::Pool;
use crate::model::{AppUuid, NetworkConfig, NetworkName};
use crate::world::engine::{EngineError, Owned};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Listed {
    id: String,
    name: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Create<'a> {
    name: &'a str,
    check_duplicate: bool,
    driver: &'a str,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    internal: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    config_only: bool,
    labels: BTreeMap<&'a str, &'a str>,
    options: &'a BTreeMap<String, String>,
    #[serde(rename = "IPAM")]
    ipam: Ipam<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam<'a> {
    driver: &'a str,
    config: Vec<IpamPool<'a>>,
    options: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamPool<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    subnet: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<&'a str>,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    ip_range: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: &'a BTreeMap<String, String>,
}

fn pool(pool: &Pool) -> IpamPool<'_> {
    IpamPool {
        subnet: pool.subnet.as_deref(),
        gateway: pool.gateway.as_deref(),
        ip_range: pool.ip_range.as_deref(),
        auxiliary_addresses: &pool.aux_addresses,
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    id: String,
}

impl Docker {
    pub(super) async fn list_networks(
        &self,
    ) -> Result<Vec<Owned<(NetworkName, Network)>>, EngineError> {
        let doing = "list networks";
        let mut response = self.call("GET", "/networks", None, doing).await?;
        let listed: Vec<Listed> = self.json(&mut response, doing).await?;
        Ok(listed.into_iter().filter_map(attribute).collect())
    }

    pub(super) async fn make_network(
        &self,
        oci_name: &str,
        app: &AppUuid,
        name: &NetworkName,
        config: &NetworkConfig,
    ) -> Result<String, EngineError> {
        let doing = format!("create network '{oci_name}'");
        let identity = labels::storage_identity(config);
        let mut labels: BTreeMap<&str, &str> = config
            .labels
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        labels.insert(labels::APP_UUID, app);
        labels.insert(labels::NETWORK_NAME, name);
        labels.insert(labels::CONFIG, &identity);
        let body = Create {
            name: oci_name,
            check_duplicate: true,
            driver: &config.driver,
            enable_ipv6: config.enable_ipv6,
            internal: config.internal,
            config_only: config.config_only,
            labels,
            options: &config.driver_opts,
            ipam: Ipam {
                driver: &config.ipam.driver,
                config: config.ipam.config.iter().map(pool).collect(),
                options: &config.ipam.options,
            },
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = self
            .call("POST", "/networks/create", Some(&body), &doing)
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
