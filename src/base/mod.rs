//! Things std lacks. Knows nothing of containers, clouds or HTTP.

pub mod backoff;
pub mod hash;
pub mod latest;
pub mod mask;
pub mod random;
pub mod uptime;
