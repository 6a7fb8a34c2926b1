use serde_json::{Value, json};

use super::*;
use crate::model::target::{Condition, Dependency};
use crate::model::{AppUuid, ImageUri, NetworkName, ReleaseUuid, ServiceName, VolumeName};
use crate::world::engine::HostFacts;

/// The body for a configuration, with the facts of a device that has told all of them.
fn made(config: &Value, api: u16) -> Result<(Value, CreateBody), String> {
    with(config, api, true, &Extra::default())
}

fn with(
    config: &Value,
    api: u16,
    supervised: bool,
    extra: &Extra<'_>,
) -> Result<(Value, CreateBody), String> {
    of_image(config, api, supervised, extra, None)
}

/// The same, with what is known of the image.
fn of_image(
    config: &Value,
    api: u16,
    supervised: bool,
    extra: &Extra<'_>,
    image_config: Option<&str>,
) -> Result<(Value, CreateBody), String> {
    let config = ServiceConfig::from_json(&config.to_string()).unwrap();
    let on_db = Dependency {
        condition: Condition::Healthy,
        restart: false,
        required: true,
    };
    let new = NewContainer {
        name: "web_r1",
        app: &AppUuid::new("app1"),
        app_id: 7,
        app_name: Some("garden"),
        release: &ReleaseUuid::new("r1"),
        service: &ServiceName::new("web"),
        service_id: 5,
        image: &ImageUri::parse("nginx").unwrap(),
        image_config,
        config: &config,
        config_json: &config.to_json(),
        depends_on: &Map::from([(ServiceName::new("db"), on_db)]),
        network: &|name: &NetworkName| format!("{name}_app1"),
        volume: &|name: &VolumeName| format!("{name}_app1"),
        container: &|service: &str| format!("id-of-{service}"),
        host: &HostFacts {
            uuid: "dev1".to_owned(),
            runtime_dir: "/run/helios".to_owned(),
            supervised,
            ..HostFacts::default()
        },
    };
    let made = create_body_with(&new, ApiVersion(api), extra)?;
    Ok((serde_json::from_str(&made.body).unwrap(), made))
}

#[test]
fn d_11_labels_are_ours_whatever_the_document_says() {
    let config = json!({ "labels": {
        "io.balena.supervised": "1", "io.resin.supervised": "1", "io.balena.app-id": "1",
        "io.balena.private.config": "x", "io.balena.app-uuid": "x", "a": "b",
        "io.resin.update.strategy": "hand-over",
    } });
    let (body, _) = with(&config, 51, false, &Extra::default()).unwrap();
    let canonical = ServiceConfig::from_json(&config.to_string())
        .unwrap()
        .to_json();
    let mut want = json!({
        "a": "b",
        "io.balena.app-uuid": "app1",
        "io.balena.service-id": "5",
        "io.balena.service-name": "web",
        "io.balena.private.release": "r1",
        "io.balena.private.depends-on":
            r#"{"db":{"condition":"service_healthy","restart":false,"required":true}}"#,
        "io.balena.update.strategy": "hand-over",
    });
    let identity = format!(r#"{{"format":1,"image":"nginx:latest","config":{canonical}}}"#);
    want["io.balena.private.config"] = json!(identity);
    assert_eq!(body["Labels"], want);
    let (body, _) = with(&config, 51, true, &Extra::default()).unwrap();
    assert_eq!(body["Labels"]["io.balena.supervised"], "");
}

#[test]
fn d_22_what_an_engine_does_not_know_is_left_out_and_said() {
    let config = json!({
        "annotations": { "a": "b" },
        "healthcheck": { "start_interval": 5_000_000, "retries": 2 },
        "networks": {
            "a": { "mac_address": "02:00:00:00:00:01", "gw_priority": 1 },
            "b": { "mac_address": "02:00:00:00:00:02" },
        },
    });
    let (body, made_old) = made(&config, 41).unwrap();
    assert_eq!(body["HostConfig"]["Annotations"], Value::Null);
    assert_eq!(body["Healthcheck"], json!({ "Retries": 2 }));
    assert_eq!(body["MacAddress"], "02:00:00:00:00:01");
    assert_eq!(
        body["NetworkingConfig"]["EndpointsConfig"],
        json!({ "a_app1": { "Aliases": ["web"] } })
    );
    let other = r#"{"Aliases":["web"]}"#.to_owned();
    assert_eq!(made_old.connect, [("b_app1".to_owned(), other)]);
    let fields: Vec<&str> = made_old
        .warnings
        .iter()
        .filter_map(|w| w.split(' ').next())
        .collect();
    assert_eq!(
        fields,
        [
            "annotations",
            "healthcheck.start_interval",
            "networks.a.gw_priority",
            "networks.b.mac_address"
        ]
    );

    let (body, made_new) = made(&config, 51).unwrap();
    assert_eq!(made_new.warnings, [""; 0]);
    assert_eq!(body["HostConfig"]["Annotations"], json!({ "a": "b" }));
    assert_eq!(body["Healthcheck"]["StartInterval"], 5_000_000);
    assert_eq!(body["MacAddress"], Value::Null);
    assert_eq!(
        body["NetworkingConfig"]["EndpointsConfig"]["a_app1"],
        json!({ "Aliases": ["web"], "MacAddress": "02:00:00:00:00:01", "GwPriority": 1 })
    );
    assert!(made_new.connect[0].1.contains("02:00:00:00:00:02"));
}

/// What `helios check` does not show: the settings of the networks after the first.
#[test]
fn ts_2_14_further_networks_have_all_their_settings() {
    let config = json!({
        "networks": {
            "a": {},
            "b": {
                "aliases": ["plc", "cell-5"], "ipv4_address": "10.87.3.10", "ipv6_address": "fd5e:77::10",
                "link_local_ips": ["169.254.34.68"], "mac_address": "02:42:0a:57:03:0a",
                "driver_opts": { "k": "v" }, "gw_priority": 1,
            },
            "c": {},
        },
    });
    let (_, made) = made(&config, 51).unwrap();
    let connect: Vec<(&str, Value)> = made
        .connect
        .iter()
        .map(|(name, settings)| (name.as_str(), serde_json::from_str(settings).unwrap()))
        .collect();
    let further = json!({
        "IPAMConfig": {
            "IPv4Address": "10.87.3.10", "IPv6Address": "fd5e:77::10", "LinkLocalIPs": ["169.254.34.68"],
        },
        "Aliases": ["plc", "cell-5", "web"], "MacAddress": "02:42:0a:57:03:0a",
        "DriverOpts": { "k": "v" }, "GwPriority": 1,
    });
    let want = [
        ("b_app1", further),
        ("c_app1", json!({ "Aliases": ["web"] })),
    ];
    assert_eq!(connect, want);
}

#[test]
fn d_22_a_subpath_is_not_left_out() {
    let config = json!({ "volumes": [
        { "type": "volume", "source": "v", "target": "/d", "subpath": "x" },
    ] });
    assert!(made(&config, 44).unwrap_err().contains("subpath"));
    let (body, _) = made(&config, 45).unwrap();
    let want = json!({ "Type": "volume", "Source": "v_app1", "Target": "/d", "ReadOnly": false,
        "VolumeOptions": { "Subpath": "x" } });
    assert_eq!(body["HostConfig"]["Mounts"][0], want);
}

/// Before API 1.42 only `Binds` makes a missing source.
#[test]
fn d_22_sources_that_must_be_made() {
    let config = json!({ "volumes": [
        { "type": "bind", "source": "/sys", "target": "/s", "propagation": "rslave",
          "create_host_path": true, "read_only": true },
        { "type": "bind", "source": "/proc", "target": "/p", "propagation": "private" },
        { "type": "volume", "source": "v", "target": "/tmp/aa" },
    ], "tmpfs": { "/t": { "mode": 511, "gid": 3 } } });
    let (body, _) = made(&config, 41).unwrap();
    let host = &body["HostConfig"];
    assert_eq!(
        host["Binds"],
        json!([
            "/sys:/s:ro,rslave",
            "/run/helios/update-locks/app1/web:/tmp/balena:rw,private",
            "/run/helios/update-locks/app1/web:/tmp/resin:rw,private",
        ])
    );
    let targets = |host: &Value| -> Vec<String> {
        let mounts = host["Mounts"].as_array().unwrap();
        mounts
            .iter()
            .map(|m| m["Target"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(targets(host), ["/p", "/tmp/aa"]);
    assert_eq!(host["Tmpfs"], json!({ "/t": "mode=777,gid=3" }));

    let (body, _) = made(&config, 42).unwrap();
    let host = &body["HostConfig"];
    assert_eq!(host["Binds"], Value::Null);
    assert_eq!(
        targets(host),
        ["/p", "/s", "/tmp/aa", "/tmp/balena", "/tmp/resin"]
    );
    assert_eq!(host["Mounts"][0].get("BindOptions"), None);
    assert_eq!(
        host["Mounts"][1]["BindOptions"],
        json!({ "Propagation": "rslave", "CreateMountpoint": true })
    );
}

/// W-17: an alias that is the service's own name.
#[test]
fn se_w_17_the_service_name_is_an_alias_once() {
    let config = json!({ "networks": { "a": { "aliases": ["web", "x"] } } });
    let (body, _) = made(&config, 51).unwrap();
    let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["a_app1"];
    assert_eq!(endpoint["Aliases"], json!(["web", "x"]));
}

#[test]
fn mac_address_of_the_container() {
    let mac = "02:00:00:00:00:09";
    let config = json!({ "mac_address": mac, "networks": { "a": {}, "b": {} } });
    for (api, top, endpoint) in [
        (43, json!(mac), Value::Null),
        (44, json!(mac), json!(mac)),
        (52, Value::Null, json!(mac)),
    ] {
        let (body, made) = made(&config, api).unwrap();
        assert_eq!(body["MacAddress"], top, "{api}");
        let main = &body["NetworkingConfig"]["EndpointsConfig"]["a_app1"];
        assert_eq!(main["MacAddress"], endpoint, "{api}");
        assert_eq!(made.connect[0].1, r#"{"Aliases":["web"]}"#, "{api}");
    }
    let config = json!({ "mac_address": mac, "network_mode": "bridge" });
    let (body, _) = made(&config, 52).unwrap();
    assert_eq!(
        body["NetworkingConfig"]["EndpointsConfig"],
        json!({ "bridge": { "MacAddress": mac } })
    );
}

#[test]
fn features_without_what_they_need_are_said() {
    let config = json!({ "labels": {
        "io.balena.features.balena-api": "1", "io.balena.features.supervisor-api": "1",
    }, "networks": { "a": {} } });
    let (body, bare) = made(&config, 51).unwrap();
    assert_eq!(bare.warnings.len(), 2);
    assert_eq!(bare.connect, []);
    let has = |body: &Value, start: &str| {
        let env = body["Env"].as_array().unwrap();
        env.iter()
            .any(|entry| entry.as_str().unwrap().starts_with(start))
    };
    assert!(!has(&body, "BALENA_API_KEY") && !has(&body, "RESIN_SUPERVISOR"));
    let extra = Extra {
        supervisor: Some(SupervisorApi {
            key: "k",
            port: 1,
            gateway: Some("10.1.1.1"),
        }),
        ..Extra::default()
    };
    let (body, told) = with(&config, 51, true, &extra).unwrap();
    assert_eq!(told.connect, [("supervisor0".to_owned(), "{}".to_owned())]);
    assert!(has(&body, "RESIN_SUPERVISOR_ADDRESS=http://10.1.1.1:1"));
}

#[test]
fn a_namespace_of_another_service() {
    let config = json!({ "network_mode": "service:db", "pid": "service:db", "ipc": "host" });
    let (body, made) = made(&config, 51).unwrap();
    assert_eq!(body["HostConfig"]["NetworkMode"], "container:id-of-db");
    assert_eq!(body["HostConfig"]["PidMode"], "container:id-of-db");
    assert_eq!(body["HostConfig"]["IpcMode"], "host");
    assert_eq!(body["NetworkingConfig"], Value::Null);
    assert_eq!(made.connect, []);
}

/// Target-state 4.1: an image can switch on features by its own labels; the document wins.
#[test]
fn ts_4_1_labels_of_the_image_switch_features_on() {
    let image = r#"{"cmd":["x"],"labels":{"io.resin.features.sysfs":"1","io.balena.features.procfs":"true"}}"#;
    let body = |config: Value, image: &str| {
        of_image(&config, 51, true, &Extra::default(), Some(image))
            .unwrap()
            .0
    };
    let targets = |config: Value, image: &str| -> Vec<String> {
        let mounts = body(config, image)["HostConfig"]["Mounts"]
            .as_array()
            .unwrap()
            .clone();
        let target = |mount: &Value| mount["Target"].as_str().unwrap().to_owned();
        mounts.iter().map(target).collect()
    };
    let locks = ["/tmp/balena", "/tmp/resin"];
    assert_eq!(
        targets(json!({}), image),
        ["/proc", "/sys", locks[0], locks[1]]
    );
    let off =
        json!({"labels": {"io.balena.features.procfs": "0", "io.resin.features.sysfs": "no"}});
    assert_eq!(targets(off, image), locks);
    for odd in ["", "{}", r#"{"labels":null}"#, r#"{"labels":5}"#] {
        assert_eq!(targets(json!({}), odd), locks, "{odd}");
    }
    // The engine itself adds what the image has.
    let labels = &body(json!({}), image)["Labels"];
    assert_eq!(labels["io.balena.features.procfs"], Value::Null);
}
