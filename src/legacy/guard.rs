//! Whether the legacy supervisor gets its device back, because no agent has served for so long
//! (R-TKO-7). Pure.
//!
//! Time is that of the machine since its start: a clock that is set, as on boards without one of
//! their own, hands nothing back. With another start of the machine, or another version of the
//! agent, everything begins anew.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What is remembered from one start of an agent to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The machine's start that all of this is of.
    boot: Option<String>,
    version: String,
    /// Seconds of the machine's time since which no agent was seen to serve.
    #[serde(default)]
    silent_since: Option<u64>,
    /// When an agent began that has not yet served for long enough.
    #[serde(default)]
    begun: Option<u64>,
    /// When handing back began...
    #[serde(default)]
    handing: Option<u64>,
    /// ...and was done.
    #[serde(default)]
    handed_back: Option<u64>,
}

/// Where we are.
#[derive(Debug, Clone)]
pub struct Now {
    /// The machine's start.
    pub boot: Option<String>,
    /// The agent's version.
    pub version: &'static str,
    /// Since that start.
    pub up: Duration,
    /// For so long no agent may serve.
    pub limit: Duration,
}

/// What an agent that begins is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Take over, and serve.
    Serve,
    /// Hand back, and come here again.
    HandBack,
    /// Nothing for so long, and come here again.
    StandBy(Duration),
}

impl Guard {
    /// An agent begins.
    pub fn begins(&mut self, now: &Now) -> Then {
        self.renew(now);
        let up = now.up.as_secs();
        if let Some(at) = self.handed_back {
            let rest = at.saturating_add(limits::HANDED_BACK_REST.as_secs());
            let rest = rest.saturating_sub(up);
            if rest > 0 {
                return Then::StandBy(Duration::from_secs(rest));
            }
            self.forget();
        }
        match self.has_been_silent(now) {
            true => {
                self.handing = Some(up);
                Then::HandBack
            }
            false => {
                self.begun = Some(up);
                Then::Serve
            }
        }
    }

    /// It was handed back.
    pub fn is_handed_back(&mut self, now: &Now) {
        self.forget();
        self.handed_back = Some(now.up.as_secs());
    }

    /// Whether an agent that begins would stand by.
    #[must_use]
    pub fn stands_by(&self) -> bool {
        self.handed_back.is_some()
    }

    /// The agent was seen to serve. `false`: for too short a time to count, as one that answers
    /// and then ends does at each of its starts.
    pub fn served(&mut self, now: &Now) -> bool {
        self.renew(now);
        let up = now.up.as_secs();
        let enough = limits::GUARD_SERVED.as_secs();
        let lasts = |begun: u64| up.saturating_sub(begun) >= enough;
        let counts = self.begun.is_none_or(lasts);
        if counts {
            self.forget();
        }
        counts
    }

    /// The agent did not answer. `true`: it had its time and is to begin anew, and will then
    /// hand back.
    pub fn was_silent(&mut self, now: &Now) -> bool {
        self.renew(now);
        let up = now.up.as_secs();
        let hands_back = |at: u64| up.saturating_sub(at) < limits::GUARD_HANDING.as_secs();
        let is_busy = self.handed_back.is_some() || self.handing.is_some_and(hands_back);
        !is_busy && self.has_been_silent(now)
    }

    fn forget(&mut self) {
        (self.silent_since, self.begun) = (None, None);
        (self.handing, self.handed_back) = (None, None);
    }

    fn has_been_silent(&mut self, now: &Now) -> bool {
        let up = now.up.as_secs();
        let since = *self.silent_since.get_or_insert(up);
        up.saturating_sub(since) >= now.limit.as_secs()
    }

    fn renew(&mut self, now: &Now) {
        if self.boot != now.boot || self.version != now.version {
            *self = Guard {
                boot: now.boot.clone(),
                version: now.version.to_owned(),
                ..Guard::default()
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: u64 = limits::HANDED_BACK_REST.as_secs();
    const SERVED: u64 = limits::GUARD_SERVED.as_secs();

    fn at(secs: u64) -> Now {
        Now {
            boot: Some("b1".into()),
            version: "1",
            up: Duration::from_secs(secs),
            limit: Duration::from_secs(600),
        }
    }

    #[test]
    fn r_tko_7_an_agent_that_ends_again_and_again_gives_the_device_back() {
        let mut guard = Guard::default();
        for second in [10, 20, 300, 609] {
            assert_eq!(guard.begins(&at(second)), Then::Serve);
        }
        assert_eq!(guard.begins(&at(610)), Then::HandBack);
        assert!(!guard.was_silent(&at(615)), "it is at it");
        assert_eq!(guard.begins(&at(620)), Then::HandBack, "that failed");
        guard.is_handed_back(&at(630));
        assert_eq!(
            guard.begins(&at(630)),
            Then::StandBy(limits::HANDED_BACK_REST)
        );
        assert!(guard.stands_by() && !guard.was_silent(&at(20_000)));
        let left = Duration::from_secs(5);
        assert_eq!(guard.begins(&at(625 + REST)), Then::StandBy(left));
        // Its turn again, with all of its time.
        assert_eq!(guard.begins(&at(630 + REST)), Then::Serve);
        assert_eq!(guard.begins(&at(1229 + REST)), Then::Serve);
        assert_eq!(guard.begins(&at(1230 + REST)), Then::HandBack);
    }

    #[test]
    fn r_tko_7_one_that_answers_and_then_ends_each_time_gives_it_back() {
        let mut guard = Guard::default();
        for second in [10, 150, 290, 430, 570] {
            assert_eq!(guard.begins(&at(second)), Then::Serve);
            assert!(!guard.served(&at(second + SERVED - 1)));
        }
        assert_eq!(guard.begins(&at(710)), Then::HandBack);
        guard.is_handed_back(&at(715));
        assert!(matches!(guard.begins(&at(716)), Then::StandBy(_)));
    }

    #[test]
    fn r_tko_7_one_that_serves_keeps_it() {
        let mut guard = Guard::default();
        assert_eq!(guard.begins(&at(10)), Then::Serve);
        assert!(!guard.served(&at(10 + SERVED - 1)));
        assert!(guard.served(&at(10 + SERVED)));
        let quiet = guard.clone();
        assert!(guard.served(&at(320)));
        assert_eq!(guard, quiet, "nothing to be written down");
        assert_eq!(guard.begins(&at(5000)), Then::Serve, "it was updated");
        assert!(guard.served(&at(5000 + SERVED)));
        // Then it hangs.
        assert!(!guard.was_silent(&at(6000)));
        assert!(!guard.was_silent(&at(6599)));
        assert!(guard.was_silent(&at(6600)));
        assert_eq!(guard.begins(&at(6601)), Then::HandBack);
    }

    #[test]
    fn r_tko_7_another_start_or_version_begins_anew() {
        let mut guard = Guard::default();
        guard.begins(&at(10));
        let other_boot = Now {
            boot: Some("b2".into()),
            ..at(9000)
        };
        assert_eq!(guard.clone().begins(&other_boot), Then::Serve);
        guard.is_handed_back(&at(700));
        let update = Now {
            version: "2",
            ..at(701)
        };
        assert_eq!(guard.clone().begins(&update), Then::Serve);
        assert_eq!(guard.clone().begins(&other_boot), Then::Serve);
        assert!(matches!(guard.begins(&at(701)), Then::StandBy(_)));
    }
}
