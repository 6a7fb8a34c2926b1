//! What Podman 4.3 cannot do, or does and shows in other words (D-22), found by these tests.

/// Whether the engine under test is Podman: `scripts/test podman` says so.
pub fn is_it() -> bool {
    std::env::var("HELIOS_TEST_PODMAN").is_ok()
}

/// Refusals that Docker does not have, or not before the start, and what they are about.
#[rustfmt::skip]
pub const REFUSES: &[(&str, &str)] = &[
    ("container create: stat /dev/", "devices: looked for when the container is made"),
    ("systemd slice received as cgroup parent", "cgroup_parent: a slice only where systemd manages cgroups"),
    ("cannot set hostname when running in the host UTS", "hostname: not with uts host"),
    ("no container with name or ID \"none\"", "ipc, pid: which containers of others there are"),
    ("requested CPUs are not available", "cpuset: which the machine has"),
    ("invalid IP address <nil>", "dns: only addresses"),
    ("container-init binary not found", "init: only where catatonit is installed"),
    ("cannot unmarshal number 18446744073709551615", "cpu_shares: a negative one makes a container that cannot be inspected"),
    ("unrecognized namespace mode", "userns_mode: only the modes it has itself"),
    ("must provide at least one UID or GID mapping", "userns_mode: private needs mappings"),
    ("unknown mount option \"uid=", "tmpfs: no owner"),
    ("invalid label format", "labels: none without a name"),
    ("cannot set shmsize when running in the", "shm_size: only with a private ipc"),
    ("volume options size and inodes not supported", "volumes: a size only on a file system with project quotas"),
];

/// Members of a create body that inspect does not show, or shows in other words.
#[rustfmt::skip]
const SHOWS_OTHERWISE: &[(&str, &str)] = &[
    ("Binds", "mount options are spelled out"),
    ("CapAdd", "ALL is spelled out, less what there is anyway"),
    ("CapDrop", "ALL is spelled out"),
    ("CgroupnsMode", "private is not shown"),
    ("CpuQuota", "-1 is shown as 0"),
    ("DeviceCgroupRules", "not shown"),
    ("DeviceRequests", "ignored: no gpu label"),
    ("Devices", "permissions are not shown"),
    ("Domainname", "ignored"),
    ("Env", "a variable without a value takes that of the service's own environment"),
    ("Healthcheck", "without a test of its own the image's is not taken over"),
    ("IpcMode", "host is shown as shareable"),
    ("Mounts", "volumes are shown under Mounts of the container only"),
    ("NetworkMode", "the network's name is shown under NetworkSettings only"),
    ("PortBindings", "an ephemeral port is chosen when the container is made"),
    ("Runtime", "shown as oci"),
    ("SecurityOpt", "=true is cut off"),
    ("StopSignal", "shown as a number"),
    ("Sysctls", "not shown"),
    ("Ulimits", "names are spelled in the kernel's way"),
    ("UsernsMode", "host is not shown"),
    ("endpoint DriverOpts", "ignored"),
    ("endpoint IPAMConfig", "the address is shown, the wish for it is not"),
    ("IPAM", "ip_range, aux_addresses and options are not shown, the driver is always its own"),
    ("ConfigOnly", "ignored: there are no such networks"),
];

/// Whether a difference is one of those.
pub fn shows_otherwise(fault: &str) -> bool {
    let mut known = SHOWS_OTHERWISE.iter();
    known.any(|(member, _)| {
        fault
            .strip_prefix(member)
            .is_some_and(|rest| rest.starts_with(':'))
    })
}
