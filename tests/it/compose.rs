//! Compositions made at random, over every field that is read (target-state 2.1).

use fastrand::Rng;
use serde_json::{Map, Value, json};

/// Every field with values to choose from: the forms it can have, its limits, and what
/// only looks right. What intake refuses is left out by the test.
#[rustfmt::skip]
pub fn fields() -> Vec<(&'static str, Value)> {
    vec![
    ("annotations", json!([{"a.example/x": "1"}, ["b=c", "d"], {}])),
    ("cap_add", json!([["NET_ADMIN", "SYS_TIME"], ["ALL"], ["cap_sys_nice"], ["NET_RAW", "NET_RAW"], [], null])),
    ("cap_drop", json!([["ALL"], ["MKNOD"], ["CAP_CHOWN", "KILL"], null])),
    ("cgroup", json!(["host", "private", null])),
    ("cgroup_parent", json!(["/helios-test", "", null])),
    ("command", json!(["sleep 1", "sh -c 'echo \"a b\" #'", ["sh", "-c", "echo $X"], "", [], [""], null])),
    ("cpu_quota", json!([50000, "25000", 1000, 500, 0, -1, "x", null])),
    ("cpu_rt_period", json!([0, "0s", 100_000, "1s", null])),
    ("cpu_rt_runtime", json!([0, 950, "10ms", null])),
    ("cpu_shares", json!([0, 2, 512, 262_144, -1, 1, null])),
    ("cpus", json!([0, 0.5, 1, 1.25, 0.01, 0.001, 64, null])),
    ("cpuset", json!(["0", "0-1", "0,1", "", "x", "0-", "1-0", "4096", null])),
    ("device_cgroup_rules", json!([["c 13:* rmw"], ["a *:* rwm", "b 8:0 r"], ["c 1"], [""], null])),
    ("devices", json!([["/dev/null:/dev/x"], ["/dev/zero:/dev/a:r", "/dev/full:/dev/b:rw"], ["/dev/none:/dev/none"], null])),
    ("dns", json!(["192.0.2.1", ["192.0.2.1", "2001:db8::1"], ["host.example"], [""], null])),
    ("dns_opt", json!([["ndots:2", "use-vc"], [""], null])),
    ("dns_search", json!(["example.net", ["."], ["a.example", "b.example"], ["a b"], [""], null])),
    ("domainname", json!(["example.net", "", "not a name", null])),
    ("entrypoint", json!(["/bin/sh -c", ["sleep"], "", [], null])),
    ("environment", json!([{"A": "b", "N": 5, "F": 1.5, "B": true, "E": "", "Z": null}, ["A=b=c", "PATH", "E="], ["A B=c"], {"\u{e9}": "\u{2603}\n"}])),
    ("extra_hosts", json!([["a:192.0.2.1"], {"b": "2001:db8::1"}, ["c=192.0.2.3"], ["d:host-gateway"], ["e:[2001:db8::2]"], ["f:none"], null])),
    ("group_add", json!([["audio", 20], ["65534"], [""], null])),
    ("healthcheck", json!([{"test": "true", "interval": "30s", "timeout": "5s", "retries": 3, "start_period": "1m"},
        {"test": ["CMD", "true"], "start_interval": "2s", "start_period": "10s"}, {"test": ["NONE"]}, {"disable": true},
        {"interval": "1s"}, {"test": ["CMD-SHELL", "exit 0"], "retries": 0}, {"test": ["true"]}, {"test": []}, {"timeout": "-1s"}, null])),
    ("hostname", json!(["box", "box.example.net", "", "not a name", "under_score", null])),
    ("init", json!([true, false, null])),
    ("ipc", json!(["host", "private", "shareable", "none", "service:other", "container:none", "", "other", null])),
    ("labels", json!([{"a": "b", "c": ""}, ["d=e", "f"], {"io.balena.features.procfs": "1", "io.resin.features.sysfs": "true"},
        {"io.balena.features.dbus": "1", "io.balena.features.kernel-modules": "1"}, {"io.balena.features.journal-logs": "1"},
        {"io.balena.features.firmware": "1", "io.balena.features.balena-socket": "1"}, {"io.balena.features.extra-firmware": "1"},
        {"io.balena.features.gpu": "1"}, {"io.balena.features.host-os.board-rev": "1"}, {"\u{e9}": "\"\\"}, {"": ""}])),
    ("mac_address", json!(["02:42:ac:11:00:07", "02-42-ac-11-00-08", "", "02:42", null])),
    ("mem_limit", json!(["64m", "1.5g", 0, 6_291_456, 6_291_455, "1k", -1, null])),
    ("mem_reservation", json!(["32m", "128m", 0, 6_291_456, "1k", null])),
    ("network_mode", json!(["none", "host", "bridge", "service:other"])),
    ("networks", json!([["front"], {"front": null, "back": {}}, {"back": {"ipv4_address": "10.219.7.9", "aliases": ["x", "y"]}},
        {"front": {"priority": 5}, "back": {"priority": 9, "link_local_ips": ["169.254.7.7"]}}, {"front": {"mac_address": "02:42:ac:11:00:09"}},
        {"front": {"gw_priority": 1}, "back": {"driver_opts": {"a": "b"}}}, {"six": {"ipv6_address": "fd00:219:7::9"}},
        {"front": {"ipv4_address": "192.0.2.7"}}, {"back": {"ipv4_address": "10.220.0.1"}}, {"back": {"ipv4_address": "x"}}, [], {}])),
    ("oom_kill_disable", json!([true, false, 0, "yes", null])),
    ("oom_score_adj", json!([0, 500, -1000, 1000, 1001, -1001, null])),
    ("pid", json!(["host", "service:other", "", "private", "other", null])),
    ("pids_limit", json!([0, 100, -1, -5, null])),
    ("ports", json!([["28080:80"], ["80", "53/udp"], ["28000-28002:7000-7002/tcp"], ["127.0.0.1:28081:81", "[::1]:28082:82"],
        [{"target": 80, "published": "28083", "protocol": "udp"}], [{"target": "90-91", "published": "28090-28091"}], [{"target": 80, "host_ip": "127.0.0.1", "mode": "host"}],
        ["28084:80", "28085:80"], ["28086:80", "28086:80"], ["x:80"], ["28100-28110:80"], []])),
    ("privileged", json!([true, false])),
    ("read_only", json!([true, false])),
    ("restart", json!(["no", "always", "unless-stopped", "on-failure", "on-failure:3", "on-failure:0"])),
    ("runtime", json!(["runc", "", "nvidia", null])),
    ("security_opt", json!([["no-new-privileges"], ["apparmor:unconfined", "seccomp=unconfined"], ["no-new-privileges:true"], [], null])),
    ("shm_size", json!(["128m", 0, 4096, -1, null])),
    ("stop_grace_period", json!(["1m30s", 3, 0, "-5s", "750ms", null])),
    ("stop_signal", json!(["SIGTERM", "SIGUSR1", "15", "SIGRTMIN+3", "term", "SIGNO", "99", "", null])),
    ("sysctls", json!([{"net.ipv4.ip_forward": 1}, ["net.core.somaxconn=1024", "kernel.msgmax=65536"], {"fs.mqueue.msg_max": "20"}, {"net.": ""}, [], null])),
    ("tmpfs", json!(["/run", ["/tmp/x:mode=755,uid=1000", "/var/cache"], "/a:size=1m", [], null])),
    ("tty", json!([true, false])),
    ("ulimits", json!([{"nofile": {"soft": 1000, "hard": 2000}, "nproc": 65535}, {"core": 0}, {"memlock": -1}, {"nofile": {"soft": 2, "hard": 1}}, {"other": 1}, null])),
    ("user", json!(["root", "1000:1000", "", null])),
    ("userns_mode", json!(["host", "", "private", "other", null])),
    ("uts", json!(["host", "", "private", "other", null])),
    ("volumes", json!([["data:/data"], ["data:/data:ro", "more:/more"], [{"type": "volume", "source": "data", "target": "/d", "read_only": true, "volume": {"nocopy": true}}],
        [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "1m", "mode": 448}}], [{"type": "bind", "source": "/proc", "target": "/host/proc", "read_only": true, "bind": {"propagation": "rslave"}}],
        ["/sys:/host/sys:ro"], [{"type": "volume", "source": "data", "target": "/s", "volume": {"subpath": "a/b"}}], ["data:/tmp/balena", "more:/run/"], ["data:/a/../b", "more:/b"], ["data:/a:b"], []])),
    ("working_dir", json!(["/data", "/data/", "data", "", null])),
    ]
}

/// Definitions of networks: every form and what only looks right.
#[rustfmt::skip]
pub fn networks() -> Vec<Value> {
    [json!({}), json!({"driver": "bridge"}), json!({"internal": true}), json!({"labels": {"a": "b"}}), json!({"labels": ["c=d"]}),
    json!({"driver_opts": {"com.docker.network.bridge.enable_icc": "false", "n": 5}}), json!({"enable_ipv6": true, "ipam": {"config": [{"subnet": "fd00:219:1::/64"}]}}),
    json!({"ipam": {"driver": "default", "config": [{"subnet": "10.219.8.0/24", "gateway": "10.219.8.1", "ip_range": "10.219.8.128/25", "aux_addresses": {"host": "10.219.8.2"}}]}}),
    json!({"ipam": {"config": [{"subnet": "10.219.9.0/24"}], "options": {"a": "b"}}}), json!({"ipam": {"config": []}}), json!({"ipam": null}),
    json!({"ipam": {"config": [{"subnet": "10.219.10.0"}]}}), json!({"ipam": {"config": [{"subnet": "10.219.10.0/33"}]}}), json!({"ipam": {"config": [{"subnet": "x"}]}}),
    json!({"ipam": {"config": [{"gateway": "10.219.10.1"}]}}), json!({"ipam": {"config": [{"subnet": "10.219.11.0/24", "gateway": "10.219.12.1"}]}}),
    json!({"ipam": {"config": [{"subnet": "10.219.13.0/24", "gateway": "x"}]}}), json!({"ipam": {"config": [{"subnet": "10.219.14.0/24", "ip_range": "10.219.15.0/25"}]}}),
    json!({"ipam": {"config": [{"subnet": "10.219.16.0/24", "aux_addresses": {"a": "10.1.1.1"}}]}}), json!({"ipam": {"config": [{"subnet": "10.219.17.5/24"}]}}),
    json!({"driver": "macvlan", "driver_opts": {"parent": "none0"}}), json!({"driver": "host"}), json!({"driver": ""}), json!({"enable_ipv6": true}),
    json!({"ipam": {"config": [{"subnet": "10.219.18.0/24"}, {"subnet": "10.219.18.128/25"}]}}), json!({"attachable": true}), json!({"config_only": true}),
    json!({"ipam": {"driver": "null"}}), json!({"enable_ipv6": false, "driver_opts": {"com.docker.network.enable_ipv6": "true"}})].into()
}

/// Definitions of volumes.
#[rustfmt::skip]
pub fn volumes() -> Vec<Value> {
    [json!({}), json!({"driver": "local"}), json!({"labels": {"a": "b"}}), json!({"labels": ["c=d", "e"]}), json!({"driver": ""}),
    json!({"driver_opts": {"type": "tmpfs", "device": "tmpfs", "o": "size=1m"}}), json!({"driver_opts": {"size": 5}}), json!({"driver_opts": {"none-such": "x"}}),
    json!({"driver_opts": {"type": "tmpfs"}}), json!({"driver_opts": {"o": "size=1m", "type": "tmpfs"}}), json!({"driver_opts": {"device": "/x", "type": "none", "o": "bind"}})].into()
}

/// The networks and volumes that the fields name.
pub fn declared() -> (Value, Value) {
    let networks = json!({
        "front": {},
        "back": {"ipam": {"config": [{"subnet": "10.219.7.0/24"}]}},
        "six": {"enable_ipv6": true, "ipam": {"config": [{"subnet": "fd00:219:7::/64"}]}},
    });
    let volumes = json!({"data": {}, "more": {"labels": {"a": "b"}}});
    (networks, volumes)
}

/// What fits nearly nowhere.
fn odd(rng: &mut Rng) -> Value {
    let values = json!([
        null, true, -1, 0, 1, 1.5, 65_536, 4_294_967_296_u64, i64::MAX, i64::MIN, u64::MAX, "", " ", "0", "-1", "a:b:c:d", "/", "//", "..", "/..", "a/b",
        "a=b", "=", ":", "1-65535", "service:other", "host", "none", "\u{0}", "a\u{0}b", "\n", "\u{e9}\u{2603}", "99999999999999999999g", "0.0000001", "1h",
        "x".repeat(300), "x".repeat(5000), [], {}, [null], [""], ["x", "x"], ["a\u{0}"], [[]], {"": ""}, {"a": null}, {"a\u{0}": "b"}, {"type": "volume"}
    ]);
    let values = values.as_array().unwrap();
    values[rng.usize(..values.len())].clone()
}

/// Puts something odd in the place of one value, however deep.
fn spoil(value: &mut Value, rng: &mut Rng) {
    let len = match &*value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if len == 0 || rng.u8(..4) == 0 {
        *value = odd(rng);
        return;
    }
    let at = rng.usize(..len);
    let inner = match value {
        Value::Object(map) => map.values_mut().nth(at),
        Value::Array(list) => list.get_mut(at),
        _ => None,
    };
    spoil(inner.unwrap(), rng);
}

/// A composition with up to eight fields, one in three with something odd in it.
pub fn random(rng: &mut Rng) -> Value {
    let fields = fields();
    let mut composition = Map::new();
    for _ in 0..=rng.usize(..8) {
        let (name, values) = &fields[rng.usize(..fields.len())];
        let values = values.as_array().unwrap();
        composition.insert(
            (*name).to_owned(),
            values[rng.usize(..values.len())].clone(),
        );
    }
    let mut composition = Value::Object(composition);
    if rng.u8(..3) == 0 {
        spoil(&mut composition, rng);
    }
    if !composition.is_object() {
        return json!({});
    }
    composition
}

/// Each value of each field alone.
pub fn each() -> Vec<Value> {
    let fields = fields();
    let all = fields.iter().flat_map(|(name, values)| {
        let values = values.as_array().unwrap().iter();
        values.map(|value| json!({*name: value}))
    });
    all.collect()
}
