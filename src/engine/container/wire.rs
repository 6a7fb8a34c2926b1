//! The engine's own spelling. Private to this directory.

use serde::Serialize;

use crate::base::map::Map;

/// An empty object.
#[derive(Serialize)]
pub(super) struct Empty {}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Body<'a> {
    pub image: &'a str,
    pub labels: Map<String, String>,
    pub env: Vec<String>,
    pub tty: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domainname: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_dir: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck<'a>>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub exposed_ports: Map<String, Empty>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<&'a str>,
    pub host_config: HostConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub networking_config: Option<NetworkingConfig<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Healthcheck<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<&'a [String]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retries: Option<i64>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<&'a Map<String, String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub binds: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub tmpfs: Map<&'a str, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network_mode: Option<String>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub port_bindings: Map<String, Vec<PortBinding>>,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub restart_policy: RestartPolicy,
    pub cgroupns_mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup_parent: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpuset_cpus: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_period: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_realtime_runtime: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_shares: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_reservation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kill_disable: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ulimits: Vec<Ulimit<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub device_requests: Vec<DeviceRequest>,
    #[serde(skip_serializing_if = "no_items")]
    pub device_cgroup_rules: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub cap_add: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub cap_drop: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub group_add: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub security_opt: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sysctls: Option<&'a Map<String, String>>,
    #[serde(skip_serializing_if = "no_items")]
    pub dns: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub dns_options: &'a [String],
    #[serde(skip_serializing_if = "no_items")]
    pub dns_search: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid_mode: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub userns_mode: Option<&'a str>,
    #[serde(rename = "UTSMode", skip_serializing_if = "Option::is_none")]
    pub uts_mode: Option<&'a str>,
}

fn no_items(list: &[String]) -> bool {
    list.is_empty()
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    pub name: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum_retry_count: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub kind: &'static str,
    pub target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bind_options: Option<BindOptions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeOptions {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_copy: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subpath: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct BindOptions {
    pub propagation: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub create_mountpoint: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TmpfsOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_port: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Ulimit<'a> {
    pub name: &'a str,
    pub soft: i64,
    pub hard: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Device<'a> {
    pub path_on_host: &'a str,
    pub path_in_container: &'a str,
    pub cgroup_permissions: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DeviceRequest {
    pub driver: &'static str,
    pub count: i64,
    #[serde(rename = "DeviceIDs")]
    pub device_ids: [&'static str; 0],
    pub capabilities: [[&'static str; 1]; 1],
    pub options: Empty,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkingConfig<'a> {
    pub endpoints_config: Map<String, Endpoint<'a>>,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint<'a> {
    #[serde(rename = "IPAMConfig", skip_serializing_if = "Option::is_none")]
    pub ipam_config: Option<IpamConfig<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mac_address: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver_opts: Option<&'a Map<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw_priority: Option<i32>,
}

#[derive(Serialize)]
pub(super) struct IpamConfig<'a> {
    #[serde(rename = "IPv4Address", skip_serializing_if = "Option::is_none")]
    pub ipv4_address: Option<&'a str>,
    #[serde(rename = "IPv6Address", skip_serializing_if = "Option::is_none")]
    pub ipv6_address: Option<&'a str>,
    #[serde(rename = "LinkLocalIPs", skip_serializing_if = "no_items")]
    pub link_local_ips: &'a [String],
}
