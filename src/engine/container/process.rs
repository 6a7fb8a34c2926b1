//! How the process is started, ended and started again.

use super::Encoder;
use super::wire::{Body, RestartPolicy};
use crate::model::config::RestartPolicy as Policy;

pub(super) fn encode<'a>(encoder: &Encoder<'a>, body: &mut Body<'a>) {
    let config = encoder.config;
    body.tty = config.tty;
    body.cmd = config.command.as_deref();
    body.entrypoint = config.entrypoint.as_deref();
    body.hostname = config.hostname.as_deref();
    body.domainname = config.domainname.as_deref();
    body.user = config.user.as_deref();
    body.working_dir = config.working_dir.as_deref();
    body.stop_signal = config.stop_signal.as_deref();
    body.stop_timeout = config.stop_grace_period;
    body.host_config.init = config.init;
    body.host_config.runtime = config.runtime.as_deref();
    let (name, maximum_retry_count) = match config.restart_policy {
        Policy::No => ("no", None),
        Policy::Always => ("always", None),
        Policy::OnFailure { max_retries } => ("on-failure", max_retries),
        Policy::UnlessStopped => ("unless-stopped", None),
    };
    body.host_config.restart_policy = RestartPolicy {
        name,
        maximum_retry_count,
    };
}
