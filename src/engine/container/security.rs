//! What keeps containers apart.

use super::Encoder;
use super::wire::HostConfig;

pub(super) fn encode<'a>(encoder: &Encoder<'a>, host: &mut HostConfig<'a>) {
    let config = encoder.config;
    let mode = |mode: &Option<String>| mode.as_deref().map(|mode| encoder.mode(mode));
    host.cap_add = &config.cap_add;
    host.cap_drop = &config.cap_drop;
    host.group_add = &config.group_add;
    host.security_opt = &config.security_opt;
    host.cgroupns_mode = config.cgroup.as_str();
    host.ipc_mode = mode(&config.ipc);
    host.pid_mode = mode(&config.pid);
    host.privileged = config.privileged;
    host.readonly_rootfs = config.read_only;
    host.sysctls = Some(&config.sysctls).filter(|sysctls| !sysctls.is_empty());
    host.userns_mode = config.userns_mode.as_deref();
    host.uts_mode = config.uts.as_deref();
}
