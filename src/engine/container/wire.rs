//! The engine's own spelling. Private to this directory.

use serde::Serialize;

use crate::base::json::written;
use crate::base::map::Map;

/// An empty object.
#[derive(Serialize)]
pub(super) struct Empty {}

#[derive(Default)]
pub(super) struct Body<'a> {
    pub image: &'a str,
    pub labels: Map<String, String>,
    pub env: Vec<String>,
    pub tty: bool,
    pub cmd: Option<&'a [String]>,
    pub entrypoint: Option<&'a [String]>,
    pub hostname: Option<&'a str>,
    pub domainname: Option<&'a str>,
    pub user: Option<&'a str>,
    pub working_dir: Option<&'a str>,
    pub stop_signal: Option<&'a str>,
    pub stop_timeout: Option<i64>,
    pub healthcheck: Option<Healthcheck<'a>>,
    pub exposed_ports: Map<String, Empty>,
    pub mac_address: Option<&'a str>,
    pub host_config: HostConfig<'a>,
    pub networking_config: Option<NetworkingConfig<'a>>,
}

written!(Body<'_> {
    "Image" => image always, "Labels" => labels always, "Env" => env always, "Tty" => tty always,
    "Cmd" => cmd, "Entrypoint" => entrypoint, "Hostname" => hostname, "Domainname" => domainname,
    "User" => user, "WorkingDir" => working_dir, "StopSignal" => stop_signal,
    "StopTimeout" => stop_timeout, "Healthcheck" => healthcheck, "ExposedPorts" => exposed_ports,
    "MacAddress" => mac_address, "HostConfig" => host_config always,
    "NetworkingConfig" => networking_config,
});

pub(super) struct Healthcheck<'a> {
    pub test: Option<&'a [String]>,
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
    pub retries: Option<i64>,
}

written!(Healthcheck<'_> {
    "Test" => test, "Interval" => interval, "Timeout" => timeout, "StartPeriod" => start_period,
    "StartInterval" => start_interval, "Retries" => retries,
});

#[derive(Default)]
pub(super) struct HostConfig<'a> {
    pub annotations: Option<&'a Map<String, String>>,
    pub binds: Vec<String>,
    pub mounts: Vec<Mount>,
    pub tmpfs: Map<&'a str, String>,
    pub network_mode: Option<String>,
    pub port_bindings: Map<String, Vec<PortBinding>>,
    pub privileged: bool,
    pub readonly_rootfs: bool,
    pub restart_policy: RestartPolicy,
    pub cgroupns_mode: &'static str,
    pub cgroup_parent: Option<&'a str>,
    pub cpuset_cpus: Option<&'a str>,
    pub cpu_quota: Option<i64>,
    pub cpu_realtime_period: Option<i64>,
    pub cpu_realtime_runtime: Option<i64>,
    pub cpu_shares: Option<i64>,
    pub memory: Option<i64>,
    pub memory_reservation: Option<i64>,
    pub nano_cpus: Option<i64>,
    pub oom_kill_disable: Option<bool>,
    pub oom_score_adj: Option<i64>,
    pub pids_limit: Option<i64>,
    pub shm_size: Option<i64>,
    pub ulimits: Vec<Ulimit<'a>>,
    pub devices: Vec<Device<'a>>,
    pub device_requests: Vec<DeviceRequest>,
    pub device_cgroup_rules: &'a [String],
    pub cap_add: &'a [String],
    pub cap_drop: &'a [String],
    pub group_add: &'a [String],
    pub security_opt: &'a [String],
    pub sysctls: Option<&'a Map<String, String>>,
    pub dns: &'a [String],
    pub dns_options: &'a [String],
    pub dns_search: &'a [String],
    pub extra_hosts: Vec<String>,
    pub init: Option<bool>,
    pub ipc_mode: Option<String>,
    pub pid_mode: Option<String>,
    pub runtime: Option<&'a str>,
    pub userns_mode: Option<&'a str>,
    pub uts_mode: Option<&'a str>,
}

written!(HostConfig<'_> {
    "Annotations" => annotations, "Binds" => binds, "Mounts" => mounts, "Tmpfs" => tmpfs,
    "NetworkMode" => network_mode, "PortBindings" => port_bindings,
    "Privileged" => privileged always, "ReadonlyRootfs" => readonly_rootfs always,
    "RestartPolicy" => restart_policy always, "CgroupnsMode" => cgroupns_mode always,
    "CgroupParent" => cgroup_parent, "CpusetCpus" => cpuset_cpus, "CpuQuota" => cpu_quota,
    "CpuRealtimePeriod" => cpu_realtime_period, "CpuRealtimeRuntime" => cpu_realtime_runtime,
    "CpuShares" => cpu_shares, "Memory" => memory, "MemoryReservation" => memory_reservation,
    "NanoCpus" => nano_cpus, "OomKillDisable" => oom_kill_disable, "OomScoreAdj" => oom_score_adj,
    "PidsLimit" => pids_limit, "ShmSize" => shm_size, "Ulimits" => ulimits, "Devices" => devices,
    "DeviceRequests" => device_requests, "DeviceCgroupRules" => device_cgroup_rules,
    "CapAdd" => cap_add, "CapDrop" => cap_drop, "GroupAdd" => group_add,
    "SecurityOpt" => security_opt, "Sysctls" => sysctls, "Dns" => dns,
    "DnsOptions" => dns_options, "DnsSearch" => dns_search, "ExtraHosts" => extra_hosts,
    "Init" => init, "IpcMode" => ipc_mode, "PidMode" => pid_mode, "Runtime" => runtime,
    "UsernsMode" => userns_mode, "UTSMode" => uts_mode,
});

#[derive(Default)]
pub(super) struct RestartPolicy {
    pub name: &'static str,
    pub maximum_retry_count: Option<u32>,
}

written!(RestartPolicy {
    "Name" => name always, "MaximumRetryCount" => maximum_retry_count,
});

pub(super) struct Mount {
    pub kind: &'static str,
    pub target: String,
    pub source: Option<String>,
    pub read_only: Option<bool>,
    pub volume_options: Option<VolumeOptions>,
    pub bind_options: Option<BindOptions>,
    pub tmpfs_options: Option<TmpfsOptions>,
}

written!(Mount {
    "Type" => kind always, "Target" => target always, "Source" => source, "ReadOnly" => read_only,
    "VolumeOptions" => volume_options, "BindOptions" => bind_options,
    "TmpfsOptions" => tmpfs_options,
});

pub(super) struct VolumeOptions {
    pub no_copy: bool,
    pub subpath: Option<String>,
}

written!(VolumeOptions {
    "NoCopy" => no_copy, "Subpath" => subpath,
});

pub(super) struct BindOptions {
    pub propagation: &'static str,
    pub create_mountpoint: bool,
}

written!(BindOptions {
    "Propagation" => propagation always, "CreateMountpoint" => create_mountpoint,
});

pub(super) struct TmpfsOptions {
    pub size_bytes: Option<i64>,
    pub mode: Option<u32>,
}

written!(TmpfsOptions {
    "SizeBytes" => size_bytes, "Mode" => mode,
});

pub(super) struct PortBinding {
    pub host_ip: Option<String>,
    pub host_port: Option<String>,
}

written!(PortBinding {
    "HostIp" => host_ip, "HostPort" => host_port,
});

pub(super) struct Ulimit<'a> {
    pub name: &'a str,
    pub soft: i64,
    pub hard: i64,
}

written!(Ulimit<'_> {
    "Name" => name always, "Soft" => soft always, "Hard" => hard always,
});

pub(super) struct Device<'a> {
    pub path_on_host: &'a str,
    pub path_in_container: &'a str,
    pub cgroup_permissions: &'a str,
}

written!(Device<'_> {
    "PathOnHost" => path_on_host always, "PathInContainer" => path_in_container always,
    "CgroupPermissions" => cgroup_permissions always,
});

pub(super) struct DeviceRequest {
    pub driver: &'static str,
    pub count: i64,
    pub device_ids: [&'static str; 0],
    pub capabilities: [[&'static str; 1]; 1],
    pub options: Empty,
}

written!(DeviceRequest {
    "Driver" => driver always, "Count" => count always, "DeviceIDs" => device_ids always,
    "Capabilities" => capabilities always, "Options" => options always,
});

pub(super) struct NetworkingConfig<'a> {
    pub endpoints_config: Map<String, Endpoint<'a>>,
}

written!(NetworkingConfig<'_> {
    "EndpointsConfig" => endpoints_config always,
});

#[derive(Default)]
pub(super) struct Endpoint<'a> {
    pub ipam_config: Option<IpamConfig<'a>>,
    pub aliases: Vec<&'a str>,
    pub mac_address: Option<&'a str>,
    pub driver_opts: Option<&'a Map<String, String>>,
    pub gw_priority: Option<i32>,
}

written!(Endpoint<'_> {
    "IPAMConfig" => ipam_config, "Aliases" => aliases, "MacAddress" => mac_address,
    "DriverOpts" => driver_opts, "GwPriority" => gw_priority,
});

pub(super) struct IpamConfig<'a> {
    pub ipv4_address: Option<&'a str>,
    pub ipv6_address: Option<&'a str>,
    pub link_local_ips: &'a [String],
}

written!(IpamConfig<'_> {
    "IPv4Address" => ipv4_address, "IPv6Address" => ipv6_address,
    "LinkLocalIPs" => link_local_ips,
});
