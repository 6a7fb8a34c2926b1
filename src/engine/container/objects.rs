//! What the engine is asked for when a network or volume is made (state-engine 4.6, 4.7).

use serde::Serialize;

use crate::base::json::written;
use crate::base::map::Map;
use crate::engine::labels::{
    APP_UUID, CONFIG, NETWORK_NAME, SUPERVISED, SUPERVISED_RESIN, VOLUME_NAME, storage_identity,
};
use crate::model::{AppUuid, NetworkConfig, NetworkName, VolumeConfig, VolumeName};

struct NetworkBody<'a> {
    name: &'a str,
    check_duplicate: bool,
    driver: &'a str,
    enable_ipv6: bool,
    internal: bool,
    config_only: bool,
    labels: Map<&'a str, String>,
    options: &'a Map<String, String>,
    ipam: Ipam<'a>,
}

written!(NetworkBody<'_> {
    "Name" => name always, "CheckDuplicate" => check_duplicate always, "Driver" => driver always,
    "EnableIPv6" => enable_ipv6 always, "Internal" => internal always,
    "ConfigOnly" => config_only, "Labels" => labels always, "Options" => options always,
    "IPAM" => ipam always,
});

struct Ipam<'a> {
    driver: &'a str,
    config: Vec<Pool<'a>>,
    options: &'a Map<String, String>,
}

written!(Ipam<'_> {
    "Driver" => driver always, "Config" => config always, "Options" => options always,
});

struct Pool<'a> {
    subnet: Option<&'a str>,
    gateway: Option<&'a str>,
    ip_range: Option<&'a str>,
    aux_addresses: &'a Map<String, String>,
}

written!(Pool<'_> {
    "Subnet" => subnet, "Gateway" => gateway, "IPRange" => ip_range,
    "AuxiliaryAddresses" => aux_addresses,
});

/// The body of `POST /networks/create`. `supervised` as in
/// [`HostFacts`](crate::world::engine::HostFacts).
///
/// # Errors
///
/// Never in practice: plain data with string keys.
pub fn network_body(
    oci_name: &str,
    app: &AppUuid,
    name: &NetworkName,
    config: &NetworkConfig,
    supervised: bool,
) -> Result<String, serde_json::Error> {
    let requested = storage_identity(config);
    serde_json::to_string(&NetworkBody {
        name: oci_name,
        check_duplicate: true,
        driver: &config.driver,
        enable_ipv6: config.enable_ipv6,
        internal: config.internal,
        config_only: config.config_only,
        labels: labels(
            &config.labels,
            app,
            (NETWORK_NAME, name),
            requested,
            supervised,
        ),
        options: &config.driver_opts,
        ipam: Ipam {
            driver: &config.ipam.driver,
            config: config
                .ipam
                .config
                .iter()
                .map(|pool| Pool {
                    subnet: pool.subnet.as_deref(),
                    gateway: pool.gateway.as_deref(),
                    ip_range: pool.ip_range.as_deref(),
                    aux_addresses: &pool.aux_addresses,
                })
                .collect(),
            options: &config.ipam.options,
        },
    })
}

/// The body of `POST /volumes/create`. Beside a legacy supervisor it is one of that one's, in
/// every respect: data is to outlast this agent, and its maker would never find, and make again
/// and again, what bears other labels (D-08).
///
/// # Errors
///
/// As [`network_body`].
pub fn volume_body(
    oci_name: &str,
    app: &AppUuid,
    name: &VolumeName,
    config: &VolumeConfig,
    supervised: bool,
) -> Result<String, serde_json::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Body<'a> {
        name: &'a str,
        driver: &'a str,
        driver_opts: &'a Map<String, String>,
        labels: Map<&'a str, String>,
    }
    let requested = storage_identity(config);
    let mut labels = labels(
        &config.labels,
        app,
        (VOLUME_NAME, name),
        requested,
        supervised,
    );
    if !supervised {
        labels.remove(&VOLUME_NAME);
        labels.remove(&CONFIG);
        labels.insert(SUPERVISED, "true".to_owned());
    }
    serde_json::to_string(&Body {
        name: oci_name,
        driver: &config.driver,
        driver_opts: &config.driver_opts,
        labels,
    })
}

/// The document's labels, then ours (D-11).
fn labels<'a>(
    document: &'a Map<String, String>,
    app: &AppUuid,
    (name_label, name): (&'a str, &str),
    requested: String,
    supervised: bool,
) -> Map<&'a str, String> {
    let mut labels: Map<&str, String> = document
        .iter()
        .filter(|(key, _)| ![SUPERVISED, SUPERVISED_RESIN].contains(&key.as_str()))
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    labels.insert(APP_UUID, app.as_str().to_owned());
    labels.insert(name_label, name.to_owned());
    labels.insert(CONFIG, requested);
    if supervised {
        labels.insert(SUPERVISED, String::new());
    }
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_08_a_volume_made_beside_a_legacy_supervisor_is_as_that_one_makes_it() {
        let config = VolumeConfig {
            labels: [("a".to_owned(), "b".to_owned())].into(),
            ..VolumeConfig::default()
        };
        let labels = |supervised| {
            let body = volume_body("12_v", &"a1".into(), &"v".into(), &config, supervised);
            let body: serde_json::Value = serde_json::from_str(&body.unwrap()).unwrap();
            body["Labels"].clone()
        };
        let want = serde_json::json!({"a": "b", APP_UUID: "a1", SUPERVISED: "true"});
        assert_eq!(labels(false), want);
        assert_eq!(labels(true)[VOLUME_NAME], "v");
        assert!(labels(true)[CONFIG].is_string());
    }
}
