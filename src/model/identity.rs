//! Who this device is to its backend, as it is stored (remote-api 1.5).

use std::fmt;

use crate::base::json::{Blank, fields, written};

/// The identity. Upstream reads and writes the same document; it needs every key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// The device's uuid.
    pub uuid: String,
    /// The fleet's number at the backend.
    pub fleet: Option<u32>,
    /// The device type's slug.
    pub device_type: Option<String>,
    /// The backend.
    pub remote: RecordRemote,
}

fields!(Record { uuid needed, fleet, device_type, remote needed });

written!(Record {
    uuid always, fleet always, device_type always, remote always,
});

/// The backend's part of [`Record`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RecordRemote {
    /// Its URL, with a slash where there is no path (R-URL-3).
    pub api_endpoint: String,
    /// The device's key. No `{:?}` shows it.
    pub api_key: String,
    /// How it is asked.
    pub request: RecordRequest,
}

fields!(RecordRemote { api_endpoint needed, api_key needed, request });

written!(RecordRemote {
    api_endpoint always, api_key always, request always,
});

impl Blank for RecordRemote {
    fn is_blank(&self) -> bool {
        self.api_endpoint.is_empty()
    }
}

/// Milliseconds that a start without options goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordRequest {
    /// One request in all.
    pub timeout: u64,
    /// Between two polls.
    pub poll_interval: u64,
    /// Between two requests.
    pub poll_min_interval: u64,
    /// Added at random.
    pub poll_max_jitter: u64,
}

fields!(RecordRequest {
    timeout,
    poll_interval,
    poll_min_interval,
    poll_max_jitter
});

written!(RecordRequest {
    timeout always, poll_interval always, poll_min_interval always, poll_max_jitter always,
});

impl Default for RecordRequest {
    fn default() -> RecordRequest {
        RecordRequest {
            timeout: 59_000,
            poll_interval: 900_000,
            poll_min_interval: 10_000,
            poll_max_jitter: 60_000,
        }
    }
}

impl fmt::Debug for RecordRemote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RecordRemote")
            .field(&self.api_endpoint)
            .finish()
    }
}
