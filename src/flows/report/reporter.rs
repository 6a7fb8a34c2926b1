//! When to send a report. Pure.

use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::world::remote::RemoteKind;

/// The machine.
#[derive(Debug)]
pub struct Reporter {
    /// Hash of the last report that was accepted.
    sent: Option<u64>,
    /// Something may be different from what was sent.
    is_dirty: bool,
    not_before: Uptime,
    backoff: Backoff,
    /// The longest wait after a failure.
    ceiling: Duration,
}

impl Reporter {
    /// Nothing was reported by this run; `sent` is what a former one remembered.
    #[must_use]
    pub fn new(now: Uptime, ceiling: Duration, sent: Option<u64>) -> Reporter {
        Reporter {
            sent,
            is_dirty: true,
            not_before: now,
            backoff: Backoff::new(2 * limits::REPORT_INTERVAL_MIN, ceiling),
            ceiling,
        }
    }

    /// The board changed.
    pub fn on_change(&mut self) {
        self.is_dirty = true;
    }

    /// When to look at the board; `None`: after its next change.
    #[must_use]
    pub fn wake_at(&self) -> Option<Uptime> {
        self.is_dirty.then_some(self.not_before)
    }

    /// Call at [`Reporter::wake_at`] with the hash of what would be sent now: `true`
    /// means send it (R-REP-3: never what was sent already).
    pub fn on_time(&mut self, now: Uptime, hash: u64) -> bool {
        if !self.is_dirty || now < self.not_before {
            return false;
        }
        self.is_dirty = false;
        if self.sent == Some(hash) {
            return false;
        }
        self.not_before = now + limits::REPORT_INTERVAL_MIN;
        true
    }

    /// There is nothing to tell yet: until the next change.
    pub fn on_nothing(&mut self) {
        self.is_dirty = false;
    }

    /// The report with this hash was accepted.
    pub fn on_sent(&mut self, hash: u64) {
        self.sent = Some(hash);
        self.backoff.reset();
    }

    /// It was not. The next try is built from the newest state (R-REP-4).
    pub fn on_failed(&mut self, now: Uptime, kind: RemoteKind, chance: f64) -> Duration {
        self.is_dirty = true;
        let backoff = self.backoff.failed(chance);
        let delay = match kind {
            RemoteKind::Later(Some(wish)) => {
                wish.clamp(limits::REPORT_INTERVAL_MIN, limits::RETRY_AFTER_MAX)
            }
            RemoteKind::Later(None) | RemoteKind::Unauthorized => {
                backoff.max(limits::REPORT_INTERVAL_MIN)
            }
            // The same again would be refused again; never lost all the same (R-REP-5).
            RemoteKind::Refused(_) | RemoteKind::Unreadable => self.ceiling,
        };
        self.not_before = now + delay;
        delay
    }

    /// Whether the last accepted report is not this one.
    #[must_use]
    pub fn is_stale(&self, hash: u64) -> bool {
        self.sent != Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(secs: u32) -> Uptime {
        Uptime::from_start(S * secs)
    }

    fn reporter() -> Reporter {
        Reporter::new(at(0), 900 * S, None)
    }

    #[test]
    fn r_rep_3_the_same_is_not_sent_twice() {
        let mut reporter = reporter();
        assert!(reporter.on_time(at(0), 1));
        reporter.on_sent(1);
        reporter.on_change();
        assert!(!reporter.on_time(at(20), 1));
        assert_eq!(reporter.wake_at(), None, "until the next change");
        reporter.on_change();
        assert!(reporter.on_time(at(21), 2));
    }

    #[test]
    fn r_rep_4_a_restart_remembers_what_was_sent() {
        let mut reporter = Reporter::new(at(0), 900 * S, Some(7));
        assert!(!reporter.on_time(at(0), 7));
    }

    #[test]
    fn r_rep_6_reports_start_ten_seconds_apart() {
        let mut reporter = reporter();
        assert!(reporter.on_time(at(0), 1));
        reporter.on_sent(1);
        reporter.on_change();
        assert_eq!(reporter.wake_at(), Some(at(10)));
        assert!(!reporter.on_time(at(9), 2));
        assert!(reporter.on_time(at(10), 2));
    }

    #[test]
    fn r_rep_10_failures_back_off_and_are_never_final() {
        let mut reporter = reporter();
        let mut now = at(0);
        for _ in 0..20 {
            assert!(reporter.on_time(now, 1));
            reporter.on_failed(now, RemoteKind::Later(None), 1.0);
            let next = reporter.wake_at().unwrap();
            assert!(next - now >= 10 * S && next - now <= 900 * S);
            now = next;
        }
        assert!(reporter.on_time(now, 1));
        reporter.on_failed(now, RemoteKind::Later(Some(100_000 * S)), 0.0);
        assert_eq!(reporter.wake_at().unwrap() - now, 3600 * S);
        now = reporter.wake_at().unwrap();
        assert!(reporter.on_time(now, 1));
        reporter.on_failed(now, RemoteKind::Refused(400), 0.0);
        assert_eq!(reporter.wake_at().unwrap() - now, 900 * S);
    }
}
