//! What a service is asked to be (state-engine 1.2).
//!
//! The JSON of [`ServiceConfig`] is three things at once: the identity of a
//! container (D-11), the planner's state and, with typed environment values,
//! the API's answer. Fields come in a fixed order and maps in key order, so
//! equal configurations have equal text.

use std::time::Duration;

use super::{NetworkName, VolumeName};
use crate::base::json::members;
use crate::base::map::Map;

pub mod environment;
pub mod healthcheck;
pub mod mounts;
pub mod networks;
pub mod ports;
pub mod process;
pub mod resources;
pub mod security;

pub use healthcheck::Healthcheck;
pub use mounts::{LOCK_TARGETS, Mount, Propagation, TmpfsOptions};
pub use networks::{Attachments, Endpoint};
pub use ports::{PortMapping, Protocol};
pub use process::RestartPolicy;
pub use resources::{Device, Ulimit};
pub use security::Cgroup;

/// A container that is asked to have no grace limit (a negative one) is waited for so long.
const GRACE_MAX: Duration = Duration::from_secs(24 * 3600);

/// A service's configuration as requested: composition and service level merged.
///
/// What equals its default is left out of the JSON, except `cgroup` and
/// `restart_policy` (state-engine 1.2).
#[derive(Debug, Clone, Default, PartialEq)]
#[allow(missing_docs)] // Named and explained in target-state 2.1, one by one.
pub struct ServiceConfig {
    pub annotations: Map<String, String>,
    pub cgroup: Cgroup,
    pub cgroup_parent: Option<String>,
    pub command: Option<Vec<String>>,
    pub cpuset: Option<String>,
    pub cpu_rt_period: i64,
    pub cpu_rt_runtime: i64,
    pub cpu_shares: i64,
    /// Beyond upstream.
    pub cpu_quota: i64,
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub group_add: Vec<String>,
    pub security_opt: Vec<String>,
    pub device_cgroup_rules: Vec<String>,
    /// In the order of their targets.
    pub devices: Vec<Device>,
    pub dns: Vec<String>,
    pub dns_opt: Vec<String>,
    pub dns_search: Vec<String>,
    pub domainname: Option<String>,
    pub entrypoint: Option<Vec<String>>,
    /// Text byte for byte (D-10); `None` names a variable without a value.
    pub environment: Map<String, Option<String>>,
    pub hostname: Option<String>,
    pub init: Option<bool>,
    /// Beyond upstream.
    pub ipc: Option<String>,
    pub labels: Map<String, String>,
    /// Beyond upstream: of the main network.
    pub mac_address: Option<String>,
    pub mem_limit: i64,
    pub mem_reservation: i64,
    pub nano_cpus: i64,
    /// Beyond upstream.
    pub oom_kill_disable: bool,
    pub privileged: bool,
    pub read_only: bool,
    pub tty: bool,
    pub restart_policy: RestartPolicy,
    pub runtime: Option<String>,
    pub shm_size: Option<i64>,
    /// Whole seconds.
    pub stop_grace_period: Option<i64>,
    pub stop_signal: Option<String>,
    pub user: Option<String>,
    pub userns_mode: Option<String>,
    pub uts: Option<String>,
    pub working_dir: Option<String>,
    pub oom_score_adj: Option<i64>,
    /// Beyond upstream.
    pub pid: Option<String>,
    pub pids_limit: Option<i64>,
    pub ulimits: Map<String, Ulimit>,
    pub extra_hosts: Map<String, String>,
    pub sysctls: Map<String, String>,
    pub tmpfs: Map<String, TmpfsOptions>,
    /// In the order in which they are connected; the first is the main one.
    pub networks: Attachments,
    /// `none`, `host`, `bridge`, or `service:NAME` (beyond upstream).
    pub network_mode: Option<String>,
    /// In the order of their targets.
    pub volumes: Vec<Mount>,
    /// Ordered, without repetitions.
    pub ports: Vec<PortMapping>,
    pub healthcheck: Option<Healthcheck>,
}

members!(ServiceConfig {
    annotations, cgroup always, cgroup_parent, command, cpuset, cpu_rt_period, cpu_rt_runtime,
    cpu_shares, cpu_quota, cap_add, cap_drop, group_add, security_opt, device_cgroup_rules,
    devices, dns, dns_opt, dns_search, domainname, entrypoint, environment, hostname, init, ipc,
    labels, mac_address, mem_limit, mem_reservation, nano_cpus, oom_kill_disable, privileged,
    read_only, tty, restart_policy always, runtime, shm_size, stop_grace_period, stop_signal,
    user, userns_mode, uts, working_dir, oom_score_adj, pid, pids_limit, ulimits, extra_hosts,
    sysctls, tmpfs, networks, network_mode, volumes, ports, healthcheck,
});

/// For `skip_serializing_if`.
#[allow(clippy::trivially_copy_pass_by_ref)]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

impl ServiceConfig {
    /// Reads back what [`ServiceConfig::to_json`] wrote; trusts it.
    ///
    /// # Errors
    ///
    /// When the text is something else.
    pub fn from_json(text: &str) -> Result<ServiceConfig, serde_json::Error> {
        crate::base::json::from_str(text)
    }

    /// The canonical compact JSON: the identity of D-11.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Writing to memory does not fail, and all keys are strings.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// As [`ServiceConfig::to_json`], for display: environment values that are the
    /// canonical text of a JSON number or boolean are shown as one (D-10, local-api D6).
    #[must_use]
    pub fn to_api_json(&self) -> String {
        environment::typed_for_display(&self.to_json(), &self.environment)
    }

    /// Networks of the release that this service joins, in order.
    pub fn used_networks(&self) -> impl Iterator<Item = &NetworkName> {
        self.networks.0.iter().map(|(name, _)| name)
    }

    /// Volumes of the release that this service mounts; one may come twice.
    pub fn used_volumes(&self) -> impl Iterator<Item = &VolumeName> {
        self.volumes.iter().filter_map(|mount| match mount {
            Mount::Volume { source, .. } => Some(source),
            Mount::Bind { .. } | Mount::Tmpfs { .. } => None,
        })
    }

    /// Services whose containers lend this one a namespace (`network_mode`, `ipc` or `pid` of
    /// `service:NAME`): it must be made anew when one of those is. One may come twice.
    pub fn shared_services(&self) -> impl Iterator<Item = &str> {
        [&self.network_mode, &self.ipc, &self.pid]
            .into_iter()
            .filter_map(|mode| mode.as_deref()?.strip_prefix("service:"))
    }

    /// How long the engine waits between the stop signal and the kill; `None`
    /// when the configuration does not say. Never more than a day.
    #[must_use]
    pub fn stop_grace(&self) -> Option<Duration> {
        let seconds = self.stop_grace_period?;
        // A negative period means "for ever" to the engine.
        Some(u64::try_from(seconds).map_or(GRACE_MAX, |s| Duration::from_secs(s).min(GRACE_MAX)))
    }

    /// When the engine starts the container again (D-21).
    #[must_use]
    pub fn restart(&self) -> RestartPolicy {
        self.restart_policy
    }

    /// A label by its `io.balena` name, also where the document spells it `io.resin`
    /// (target-state 4.1).
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        environment::label(&self.labels, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_left_out() {
        let json = ServiceConfig::default().to_json();
        assert_eq!(
            json,
            r#"{"cgroup":"private","restart_policy":{"name":"no"}}"#
        );
        assert_eq!(
            ServiceConfig::from_json("{}").unwrap(),
            ServiceConfig::default()
        );
    }

    #[test]
    fn what_is_written_reads_back_equal() {
        let text = concat!(
            r#"{"annotations":{"a":"b"},"cgroup":"host","command":[],"cpu_quota":5,"#,
            r#""devices":[{"source":"/dev/a","target":"/dev/b","permissions":"rw"}],"#,
            r#""environment":{"A":"007","B":null},"init":false,"labels":{"x":""},"#,
            r#""restart_policy":{"name":"on_failure","max_retries":3},"stop_grace_period":0,"#,
            r#""ulimits":{"core":{"soft":1,"hard":-1}},"tmpfs":{"/t":{"mode":null,"uid":7,"gid":null}},"#,
            r#""networks":{"z":{"aliases":["q"],"gw_priority":0},"a":{}},"#,
            r#""volumes":[{"type":"volume","target":"/d","source":"v","read_only":true},"#,
            r#"{"type":"bind","target":"/s","source":"/sys","propagation":"private","create_host_path":true},"#,
            r#"{"type":"tmpfs","target":"/t","size":9,"mode":448}],"#,
            r#""ports":[{"target":80,"protocol":"tcp"},{"target":80,"protocol":"udp","published":9,"host_ip":"::1"}],"#,
            r#""healthcheck":{"test":["NONE"],"retries":2}}"#,
        );
        let config = ServiceConfig::from_json(text).unwrap();
        assert_eq!(config.to_json(), text);
        let names: Vec<&str> = config.used_networks().map(|name| &**name).collect();
        assert_eq!(names, ["z", "a"]);
        assert_eq!(config.used_volumes().count(), 1);
    }

    #[test]
    fn a_grace_period_has_bounds() {
        let of = |seconds| {
            let config = ServiceConfig {
                stop_grace_period: seconds,
                ..ServiceConfig::default()
            };
            config.stop_grace()
        };
        assert_eq!(of(None), None);
        assert_eq!(of(Some(7)), Some(Duration::from_secs(7)));
        assert_eq!(of(Some(-1)), Some(GRACE_MAX));
        assert_eq!(of(Some(i64::MAX)), Some(GRACE_MAX));
    }
}
