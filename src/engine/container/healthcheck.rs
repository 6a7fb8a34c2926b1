//! The health check.

use super::wire::{Body, Healthcheck};
use super::{API_START_INTERVAL, Encoder};

pub(super) fn encode<'a>(encoder: &mut Encoder<'a>, body: &mut Body<'a>) {
    let Some(check) = &encoder.config.healthcheck else {
        return;
    };
    body.healthcheck = Some(Healthcheck {
        test: check.test.as_deref(),
        interval: check.interval,
        timeout: check.timeout,
        start_period: check.start_period,
        start_interval: check
            .start_interval
            .filter(|_| encoder.knows(API_START_INTERVAL, "healthcheck.start_interval")),
        retries: check.retries,
    });
}
