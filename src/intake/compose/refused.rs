//! What every engine refuses when a container is made: better known before anything of the
//! running release is touched.

use std::net::IpAddr;

use crate::intake::node::shown;
use crate::model::ServiceConfig;
use crate::model::config::Endpoint;

/// The least reservation of memory that engines take, bytes. (The same least limit is left
/// to the engine: target-state 2.6 has a limit of 717 bytes.)
const MEMORY_MIN: i64 = 6 * 1024 * 1024;
/// The least share of a CPU, billionths.
const NANO_CPUS_MIN: i64 = 10_000_000;
/// The least time of a CPU in each period, microseconds.
const CPU_QUOTA_MIN: i64 = 1_000;

/// Numbers of CPUs that engines look at.
const CPUS_MAX: u32 = 8192;

/// Fields whose values no engine takes, alone or together, each with the reason.
pub(super) fn faults(config: &ServiceConfig) -> Vec<(&'static str, &'static str)> {
    let mut faults = Vec::new();
    let mut fault = |field, is_wrong: bool, reason| {
        if is_wrong {
            faults.push((field, reason));
        }
    };
    let is = |field: &Option<String>, good: fn(&str) -> bool| {
        field
            .as_deref()
            .is_none_or(|text| text.is_empty() || good(text))
    };
    fault(
        "working_dir",
        !is(&config.working_dir, |dir| dir.starts_with('/')),
        "expected an absolute path",
    );
    fault(
        "stop_signal",
        !is(&config.stop_signal, is_signal),
        "expected the name or number of a signal",
    );
    fault(
        "cpuset",
        !is(&config.cpuset, is_cpu_list),
        "expected numbers and ranges of CPUs, such as 0-2,4",
    );
    fault("mac_address", !is(&config.mac_address, is_mac), MAC);
    fault(
        "ipc",
        !is(&config.ipc, is_ipc),
        "expected none, host, private, shareable or service:NAME",
    );
    fault(
        "pid",
        !is(&config.pid, is_pid),
        "expected host or service:NAME",
    );
    fault(
        "uts",
        !is(&config.uts, |uts| uts == "host"),
        "expected host",
    );
    let is_reset = config.entrypoint.as_deref() == Some(&[String::new()]);
    let has_command = config
        .command
        .as_ref()
        .is_some_and(|words| !words.is_empty());
    fault(
        "entrypoint",
        is_reset && !has_command,
        "it takes the image's command away, and there is no other",
    );
    fault(
        "annotations",
        config.annotations.contains_key(""),
        "one of them has no name",
    );
    let adjustment = config.oom_score_adj.unwrap_or_default();
    fault(
        "oom_score_adj",
        !(-1000..=1000).contains(&adjustment),
        "expected -1000 to 1000",
    );
    sizes(config, &mut fault);
    cpus(config, &mut fault);
    networks(config, &mut fault);
    host_namespaces(config, &mut fault);
    faults
}

const MAC: &str = "expected a MAC address of six bytes";

type Fault<'f> = dyn FnMut(&'static str, bool, &'static str) + 'f;

fn sizes(config: &ServiceConfig, fault: &mut Fault<'_>) {
    let (limit, reserved) = (config.mem_limit, config.mem_reservation);
    fault("mem_limit", limit < 0, "the size is negative");
    fault(
        "shm_size",
        config.shm_size.is_some_and(|size| size < 0),
        "the size is negative",
    );
    fault(
        "mem_reservation",
        reserved != 0 && reserved < MEMORY_MIN,
        "engines take no less than 6 MiB",
    );
    fault(
        "mem_reservation",
        limit > 0 && reserved > limit,
        "it is larger than mem_limit",
    );
}

fn cpus(config: &ServiceConfig, fault: &mut Fault<'_>) {
    let (nano, quota) = (config.nano_cpus, config.cpu_quota);
    fault(
        "cpus",
        (1..NANO_CPUS_MIN).contains(&nano),
        "engines take no less than 0.01",
    );
    fault(
        "cpu_quota",
        (1..CPU_QUOTA_MIN).contains(&quota),
        "engines take no less than 1000 microseconds",
    );
    fault(
        "cpu_quota",
        nano != 0 && quota != 0,
        "it cannot be used together with cpus",
    );
    let (period, runtime) = (config.cpu_rt_period, config.cpu_rt_runtime);
    fault(
        "cpu_rt_runtime",
        period != 0 && runtime > period,
        "it is longer than cpu_rt_period",
    );
}

/// What a namespace of somebody else's leaves no room for.
fn networks(config: &ServiceConfig, fault: &mut Fault<'_>) {
    let mode = config.network_mode.as_deref().unwrap_or_default();
    let shares = mode.starts_with("service:");
    let name = config
        .hostname
        .as_deref()
        .is_some_and(|name| !name.is_empty());
    let mac = config
        .mac_address
        .as_deref()
        .is_some_and(|mac| !mac.is_empty());
    let theirs = "with network_mode service:NAME this is the other service's";
    fault("hostname", shares && name, theirs);
    fault("dns", shares && !config.dns.is_empty(), theirs);
    fault(
        "extra_hosts",
        shares && !config.extra_hosts.is_empty(),
        theirs,
    );
    fault("ports", shares && !config.ports.is_empty(), theirs);
    fault(
        "mac_address",
        mac && (shares || mode == "host"),
        "there is no network of its own to have one",
    );
    for (_, endpoint) in &config.networks.0 {
        if let Some(reason) = endpoint_fault(endpoint) {
            fault("networks", true, reason);
        }
    }
}

/// Parameters that would change the host itself, whose namespace is used. (A name for it is
/// left to the engine: a vector has `uts: host` with one.)
fn host_namespaces(config: &ServiceConfig, fault: &mut Fault<'_>) {
    let is_host = |mode: &Option<String>| mode.as_deref() == Some("host");
    let any = |of_network| {
        let mut keys = config.sysctls.keys();
        keys.any(|key| key.starts_with("net.") == of_network)
    };
    fault(
        "sysctls",
        is_host(&config.network_mode) && any(true),
        "with network_mode host those of net.* are the host's",
    );
    // What is allowed (target-state 2.19) and not of the network is all of this namespace.
    fault(
        "sysctls",
        is_host(&config.ipc) && any(false),
        "with ipc host those of kernel.* and fs.mqueue.* are the host's",
    );
}

fn endpoint_fault(endpoint: &Endpoint) -> Option<&'static str> {
    let is = |text: &Option<String>, good: fn(&str) -> bool| {
        text.as_deref()
            .is_none_or(|text| text.is_empty() || good(text))
    };
    if !is(&endpoint.ipv4_address, |text| {
        matches!(text.parse(), Ok(IpAddr::V4(_)))
    }) {
        return Some("ipv4_address: expected an IPv4 address");
    }
    if !is(&endpoint.ipv6_address, |text| {
        matches!(text.parse(), Ok(IpAddr::V6(_)))
    }) {
        return Some("ipv6_address: expected an IPv6 address");
    }
    if endpoint
        .link_local_ips
        .iter()
        .any(|text| text.parse::<IpAddr>().is_err())
    {
        return Some("link_local_ips: expected IP addresses");
    }
    (!is(&endpoint.mac_address, is_mac))
        .then_some("mac_address: expected a MAC address of six bytes")
}

/// `0-2,4`.
fn is_cpu_list(text: &str) -> bool {
    text.split(',').all(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let number = text.parse::<u32>().ok();
            let number = number.filter(|number| *number < CPUS_MAX);
            number.filter(|_| !text.starts_with('+'))
        };
        number(first)
            .zip(number(last))
            .is_some_and(|(first, last)| first <= last)
    })
}

/// Six bytes in hexadecimal, or three groups of two of them.
fn is_mac(text: &str) -> bool {
    let hex = |text: &str, len: usize| {
        text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    [(':', 2, 6), ('-', 2, 6), ('.', 4, 3)]
        .into_iter()
        .any(|(between, len, count)| {
            let mut parts = text.split(between);
            parts.clone().count() == count && parts.all(|part| hex(part, len))
        })
}

fn is_ipc(mode: &str) -> bool {
    matches!(mode, "none" | "host" | "private" | "shareable") || is_borrowed(mode)
}

fn is_pid(mode: &str) -> bool {
    mode == "host" || is_borrowed(mode)
}

/// A namespace of another service, or, as legacy has it, of any container.
fn is_borrowed(mode: &str) -> bool {
    let other = mode
        .strip_prefix("service:")
        .or_else(|| mode.strip_prefix("container:"));
    other.is_some_and(|other| !other.is_empty())
}

/// A signal of Linux by number, or by name with or without `SIG` in any case.
fn is_signal(text: &str) -> bool {
    #[rustfmt::skip]
    const NAMES: &[&str] = &[
        "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE", "POLL",
        "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU", "URG", "USR1",
        "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
    ];
    if let Ok(number) = text.parse::<u8>() {
        return (1..=64).contains(&number) && !text.starts_with('+');
    }
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = |sign: &str, max: u8| {
        let number = name
            .strip_prefix(sign)
            .and_then(|number| number.parse::<u8>().ok());
        number.is_some_and(|number| (1..=max).contains(&number))
    };
    NAMES.contains(&name) || real_time("RTMIN+", 15) || real_time("RTMAX-", 14)
}

/// An address of `extra_hosts`: compose writes IPv6 in brackets as well, engines do not.
pub(super) fn host_address(text: &str) -> Result<&str, String> {
    let inner = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = inner.unwrap_or(text);
    if address == "host-gateway" || address.parse::<IpAddr>().is_ok() {
        return Ok(address);
    }
    Err(format!(
        "`{}` is neither an IP address nor host-gateway",
        shown(text)
    ))
}

/// A path as the engine compares it: no repeated slashes, no `.` and `..`, none at the end.
pub(super) fn clean_path(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::read;
    use super::*;
    use crate::intake::node::{Node, Path};

    /// The fields of a composition that are refused.
    fn refused(composition: &str) -> Vec<String> {
        let raw = crate::base::json::from_str(composition).unwrap();
        let mut faults = Vec::new();
        let read = read(Node::new(raw, &Path::Root), &mut faults);
        assert!(read.ignored.is_empty(), "{composition}");
        faults.into_iter().map(|fault| fault.path).collect()
    }

    #[test]
    fn issue_4_what_no_engine_takes_is_refused_with_its_field() {
        #[rustfmt::skip]
        let cases: &[(&str, &[&str])] = &[
            (r#"{"working_dir":"data"}"#, &["working_dir"]), (r#"{"working_dir":"/data/"}"#, &[]), (r#"{"working_dir":""}"#, &[]),
            (r#"{"stop_signal":"SIGNO"}"#, &["stop_signal"]), (r#"{"cpuset":"1-0"}"#, &["cpuset"]), (r#"{"mac_address":"02"}"#, &["mac_address"]),
            (r#"{"ipc":"other","pid":"other","uts":"other"}"#, &["ipc", "pid", "uts"]),
            (r#"{"ipc":"private","pid":"private","uts":"private"}"#, &[]), (r#"{"ipc":"service:","pid":"container:x"}"#, &["ipc"]),
            (r#"{"oom_score_adj":1001}"#, &["oom_score_adj"]), (r#"{"oom_score_adj":-1000}"#, &[]),
            (r#"{"shm_size":-1,"mem_limit":-1}"#, &["mem_limit", "shm_size"]), (r#"{"mem_reservation":"1k"}"#, &["mem_reservation"]),
            (r#"{"mem_reservation":"8m","mem_limit":"7m"}"#, &["mem_reservation"]), (r#"{"mem_reservation":"8m","mem_limit":"8m"}"#, &[]),
            (r#"{"cpus":0.001}"#, &["cpus"]), (r#"{"cpus":0}"#, &[]), (r#"{"cpu_quota":999}"#, &["cpu_quota"]), (r#"{"cpu_quota":-1}"#, &[]),
            (r#"{"cpu_quota":1000,"cpus":1}"#, &["cpu_quota"]), (r#"{"cpu_rt_period":5,"cpu_rt_runtime":6}"#, &["cpu_rt_runtime"]),
            (r#"{"network_mode":"service:x","hostname":"h","dns":["192.0.2.1"],"extra_hosts":["a:192.0.2.1"],"ports":["80"],"mac_address":"02:42:ac:11:00:07"}"#,
                &["hostname", "dns", "extra_hosts", "ports", "mac_address"]),
            (r#"{"network_mode":"host","hostname":"h","dns":["192.0.2.1"],"ports":["80"]}"#, &[]),
            (r#"{"network_mode":"host","sysctls":{"net.core.somaxconn":"1"}}"#, &["sysctls"]), (r#"{"network_mode":"host","sysctls":{"kernel.sem":"1"}}"#, &[]),
            (r#"{"ipc":"host","sysctls":["fs.mqueue.msg_max=20"]}"#, &["sysctls"]), (r#"{"ipc":"host","sysctls":{"net.core.somaxconn":"1"}}"#, &[]),
            (r#"{"networks":{"n":{"ipv4_address":"::1"}}}"#, &["networks"]), (r#"{"networks":{"n":{"ipv6_address":"x"}}}"#, &["networks"]),
            (r#"{"networks":{"n":{"link_local_ips":["x"]}}}"#, &["networks"]), (r#"{"networks":{"n":{"mac_address":"x","ipv4_address":""}}}"#, &["networks"]),
            (r#"{"extra_hosts":["a:none"]}"#, &["extra_hosts[0]"]), (r#"{"extra_hosts":{"a":"x"}}"#, &["extra_hosts.a"]), (r#"{"extra_hosts":["a:[::1]"]}"#, &[]),
            (r#"{"ulimits":{"nofile":{"soft":2,"hard":1}}}"#, &["ulimits.nofile"]), (r#"{"ulimits":{"core":{"soft":-1,"hard":1}}}"#, &["ulimits.core"]),
            (r#"{"ulimits":{"core":{"soft":1,"hard":-1},"memlock":-1}}"#, &[]), (r#"{"ulimits":{"other":1}}"#, &["ulimits.other"]),
            (r#"{"entrypoint":[""]}"#, &["entrypoint"]), (r#"{"entrypoint":[""],"command":"x"}"#, &[]), (r#"{"annotations":[""]}"#, &["annotations"]),
            (r#"{"cap_add":["a:b"],"cap_drop":[""]}"#, &["cap_add[0]", "cap_drop[0]"]), (r#"{"cap_add":["cap_sys_nice","ALL"]}"#, &[]),
            (r#"{"tmpfs":"run"}"#, &["tmpfs"]), (r#"{"user":"a\u0000b","dns":["\u0000"]}"#, &["dns[0]", "user"]), (r#"{"cpuset":"0-9000"}"#, &["cpuset"]),
            (r#"{"tmpfs":["/a/../b"],"volumes":["v:/b"]}"#, &[""]), (r#"{"volumes":["v:/a/.."]}"#, &["volumes[0]"]),
        ];
        for (composition, want) in cases {
            assert_eq!(refused(composition), *want, "{composition}");
        }
    }

    /// Where the agent's own mounts are nothing else can be; what is there is left out.
    #[test]
    fn ts_5_1_a_mount_at_the_lock_directory_is_left_out_and_said() {
        let raw = r#"{"volumes":["v:/tmp/balena","w:/w"],"tmpfs":["/tmp//resin/","/t"]}"#;
        let raw = crate::base::json::from_str(raw).unwrap();
        let mut faults = Vec::new();
        let composition = read(Node::new(raw, &Path::Root), &mut faults);
        assert!(faults.is_empty());
        assert_eq!(composition.config.used_volumes().count(), 1);
        assert_eq!(composition.config.tmpfs.len(), 1);
        assert_eq!(composition.ignored.len(), 2);
    }

    #[test]
    fn issue_4_signals_cpus_and_addresses() {
        for good in [
            "TERM",
            "SIGTERM",
            "sigusr1",
            "9",
            "64",
            "RTMIN",
            "SIGRTMIN+15",
            "rtmax-14",
        ] {
            assert!(is_signal(good), "{good}");
        }
        for bad in [
            "0",
            "65",
            "-1",
            "+9",
            "SIGNO",
            "SIG",
            "RTMIN+16",
            "RTMIN+0",
            "RTMAX-15",
            "SIGSIGTERM",
        ] {
            assert!(!is_signal(bad), "{bad}");
        }
        for (list, good) in [
            ("0", true),
            ("0-2,4", true),
            ("3-3", true),
            ("2-1", false),
            ("0-", false),
            ("", false),
            ("1,", false),
            ("+1", false),
            ("x", false),
        ] {
            assert_eq!(is_cpu_list(list), good, "{list}");
        }
        for (mac, good) in [
            ("02:42:ac:11:00:07", true),
            ("02-42-AC-11-00-07", true),
            ("0242.ac11.0007", true),
            ("02:42", false),
            ("02:42:ac:11:00:07:08", false),
            ("02:42:ac:11:00:0g", false),
            ("02:42-ac:11:00:07", false),
        ] {
            assert_eq!(is_mac(mac), good, "{mac}");
        }
        assert_eq!(host_address("[::1]"), Ok("::1"));
        assert_eq!(host_address("192.0.2.1"), Ok("192.0.2.1"));
        assert!(host_address("none").is_err() && host_address("").is_err());
        for (path, clean) in [
            ("/a/../b", "/b"),
            ("//a//./b/", "/a/b"),
            ("/..", "/"),
            ("/a/b/..", "/a"),
        ] {
            assert_eq!(clean_path(path), clean);
        }
    }
}
