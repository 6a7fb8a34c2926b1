//! The fault panel: what the next answers to devices get wrong.

use std::collections::BTreeMap;

use helios::base::date::HttpDate;
use serde::Deserialize;

use crate::wire::Answer;

/// What is done to so many of the next answers. Whatever is not given is left as it is.
#[derive(Deserialize, Clone, Default, Debug)]
#[serde(default, deny_unknown_fields)]
pub struct Fault {
    /// Answers it is for; one when absent.
    pub times: Option<u32>,
    /// `poll`, `report`, `register` or `token`; all of them when absent.
    pub route: Option<String>,
    /// This status with an empty body in place of the answer.
    pub status: Option<u16>,
    /// `Retry-After` as it is to be sent, a number or a text.
    pub retry_after: Option<serde_json::Value>,
    /// `Retry-After` as the date so many seconds after the answer's own.
    pub retry_after_date: Option<u64>,
    /// Further fields, in place of those of the same name.
    pub headers: BTreeMap<String, String>,
    /// This body in place of the answer's.
    pub body: Option<String>,
    /// Wait before the answer.
    pub delay_ms: u64,
    /// Wait behind each byte.
    pub slow_ms: u64,
    /// Close behind so many bytes.
    pub cut: Option<usize>,
    /// So many random bytes in place of all.
    pub garbage: Option<usize>,
    /// Added to the true `Content-Length`.
    pub length: isize,
    /// Take the request and never answer.
    #[serde(rename = "silent")]
    pub is_silent: bool,
}

/// One fault, or several that come one after the other.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Faults {
    One(Box<Fault>),
    Many(Vec<Fault>),
}

impl Faults {
    pub fn list(self) -> Vec<Fault> {
        let all = match self {
            Faults::One(fault) => vec![*fault],
            Faults::Many(faults) => faults,
        };
        all.into_iter()
            .filter(|fault| fault.times != Some(0))
            .collect()
    }
}

/// The fault of the next answer to a request of this route.
pub fn next(faults: &mut Vec<Fault>, route: &str) -> Fault {
    let fits = |fault: &Fault| fault.route.as_deref().is_none_or(|wanted| wanted == route);
    let Some(at) = faults.iter().position(fits) else {
        return Fault::default();
    };
    let fault = faults[at].clone();
    match fault.times.unwrap_or(1) {
        0 | 1 => drop(faults.remove(at)),
        left => faults[at].times = Some(left - 1),
    }
    fault
}

impl Fault {
    /// The answer with status, fields and body of the fault; `now` in seconds.
    pub fn applied(&self, mut answer: Answer, now: u64) -> Answer {
        if let Some(status) = self.status {
            answer = Answer::empty(status);
        }
        if let Some(body) = &self.body {
            answer.body = body.as_bytes().to_vec();
            answer.fields.retain(|(name, _)| name != "Content-Encoding");
        }
        for (name, value) in &self.headers {
            answer = answer.with(name, value);
        }
        if let Some(after) = &self.retry_after {
            let text = after
                .as_str()
                .map_or_else(|| after.to_string(), str::to_owned);
            answer = answer.with("Retry-After", text);
        }
        if let Some(secs) = self.retry_after_date {
            answer = answer.with("Retry-After", HttpDate(now + secs).to_string());
        }
        answer
    }

    /// The bytes that are sent in place of these.
    pub fn damaged(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if let Some(count) = self.garbage {
            bytes = std::iter::repeat_with(|| fastrand::u8(..))
                .take(count)
                .collect();
        }
        if self.is_silent {
            bytes.clear();
        }
        bytes.truncate(self.cut.unwrap_or(usize::MAX));
        bytes
    }

    /// Whether nothing sensible can follow on the connection.
    pub fn ends_connection(&self) -> bool {
        self.cut.is_some() || self.garbage.is_some() || self.length != 0 || self.is_silent
    }
}
