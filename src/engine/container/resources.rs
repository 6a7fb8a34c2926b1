//! Limits and devices.

use super::Encoder;
use super::wire::{Device, DeviceRequest, Empty, HostConfig, Ulimit};

pub(super) fn encode<'a>(encoder: &Encoder<'a>, host: &mut HostConfig<'a>) {
    let config = encoder.config;
    let set = |number: i64| Some(number).filter(|number| *number != 0);
    host.cgroup_parent = config.cgroup_parent.as_deref();
    host.cpuset_cpus = config.cpuset.as_deref();
    host.cpu_quota = set(config.cpu_quota);
    host.cpu_realtime_period = set(config.cpu_rt_period);
    host.cpu_realtime_runtime = set(config.cpu_rt_runtime);
    host.cpu_shares = set(config.cpu_shares);
    host.memory = set(config.mem_limit);
    host.memory_reservation = set(config.mem_reservation);
    host.nano_cpus = set(config.nano_cpus);
    host.oom_kill_disable = Some(true).filter(|_| config.oom_kill_disable);
    host.oom_score_adj = config.oom_score_adj;
    host.pids_limit = config.pids_limit;
    host.shm_size = config.shm_size;
    host.device_cgroup_rules = &config.device_cgroup_rules;
    host.ulimits = config
        .ulimits
        .iter()
        .map(|(name, limit)| Ulimit {
            name,
            soft: limit.soft,
            hard: limit.hard,
        })
        .collect();
    host.devices = config
        .devices
        .iter()
        .map(|device| Device {
            path_on_host: &device.source,
            path_in_container: &device.target,
            cgroup_permissions: &device.permissions,
        })
        .collect();
    if encoder.feature("gpu") {
        host.device_requests.push(DeviceRequest {
            driver: "",
            count: 1,
            device_ids: [],
            capabilities: [["gpu"]],
            options: Empty {},
        });
    }
}
