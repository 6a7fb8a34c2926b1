//! Things std lacks. Knows nothing of containers, clouds or HTTP.

pub mod backoff;
pub mod base64;
pub mod date;
pub mod hash;
pub mod json;
pub mod latest;
pub mod lock;
pub mod map;
pub mod mask;
pub mod percent;
pub mod random;
pub mod socket;
pub mod tar;
pub mod task;
pub mod thread;
pub mod uptime;
pub mod wall;
