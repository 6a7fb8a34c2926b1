//! When to send a report, and how much of it. Pure.

use std::time::Duration;

use super::fields::{APPS, Field, Marks};
use super::wire::Detail;
use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::world::remote::RemoteKind;

/// The machine.
#[derive(Debug)]
pub struct Reporter {
    /// What the backend accepted.
    sent: Marks,
    /// Something may be different from what was sent.
    is_dirty: bool,
    /// There was nothing to tell when the board was looked at.
    has_nothing: bool,
    not_before: Uptime,
    backoff: Backoff,
    /// When the device's own fields are due.
    vitals_at: Uptime,
    vitals_backoff: Backoff,
    doubt: Option<Doubt>,
    /// The longest wait after a failure.
    ceiling: Duration,
}

/// The backend refused the apps: there may be something in them that it does not know,
/// which spoils the whole report (R-REP-5).
#[derive(Debug)]
struct Doubt {
    /// Whether it is the turn of what the backend knows for certain.
    is_lean: bool,
    /// When all of it is tried again even if nothing changed.
    full_at: Uptime,
    backoff: Backoff,
}

impl Reporter {
    /// Nothing was reported by this run; `sent` is what a former one remembered.
    #[must_use]
    pub fn new(now: Uptime, ceiling: Duration, sent: Marks) -> Reporter {
        Reporter {
            sent,
            is_dirty: true,
            has_nothing: false,
            not_before: now,
            backoff: Backoff::new(2 * limits::REPORT_INTERVAL_MIN, ceiling),
            vitals_at: now,
            vitals_backoff: Backoff::new(2 * ceiling, limits::REEMIT_INTERVAL),
            doubt: None,
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
        if self.is_dirty {
            return Some(self.not_before);
        }
        if self.has_nothing {
            return None;
        }
        let doubt = self.doubt.as_ref().filter(|doubt| doubt.is_lean);
        let full_at = doubt.map(|doubt| doubt.full_at);
        let due = full_at.map_or(self.vitals_at, |at| at.min(self.vitals_at));
        Some(due.max(self.not_before))
    }

    /// How much is told of the apps.
    #[must_use]
    pub fn detail(&self, now: Uptime) -> Detail {
        match &self.doubt {
            Some(doubt) if doubt.is_lean && now < doubt.full_at => Detail::Lean,
            _ => Detail::Full,
        }
    }

    /// Whether the device's own fields belong into a report of this moment.
    #[must_use]
    pub fn is_vitals_due(&self, now: Uptime) -> bool {
        now >= self.vitals_at
    }

    /// They were measured.
    pub fn on_vitals(&mut self, now: Uptime) {
        self.vitals_at = now + limits::VITALS_INTERVAL;
    }

    /// What of these is not what the backend accepted (R-REP-3).
    pub fn news(&self, fields: &mut Vec<Field>) {
        fields.retain(|field| field.is_news(&self.sent));
    }

    /// Call at [`Reporter::wake_at`] when there is news: `true` means send it.
    pub fn on_time(&mut self, now: Uptime, has_news: bool) -> bool {
        if now < self.not_before {
            return false;
        }
        self.is_dirty = false;
        self.has_nothing = false;
        if !has_news && self.detail(now) != Detail::Lean {
            // All that was refused is not there any more.
            self.doubt = None;
        }
        if has_news {
            self.not_before = now + limits::REPORT_INTERVAL_MIN;
        }
        has_news
    }

    /// There is nothing to tell yet: until the next change.
    pub fn on_nothing(&mut self) {
        self.is_dirty = false;
        self.has_nothing = true;
    }

    /// These are about to be sent. Until they are accepted nobody knows what the backend has:
    /// an answer may be lost.
    pub fn on_sending(&mut self, fields: &[Field]) {
        for field in fields {
            self.sent[field.at] = None;
        }
    }

    /// These were accepted.
    pub fn on_sent(&mut self, fields: &[Field], detail: Detail) {
        for field in fields {
            self.sent[field.at] = Some(field.mark);
            if field.at != APPS {
                self.vitals_backoff.reset();
            } else if detail != Detail::Lean {
                self.doubt = None;
            }
        }
        self.backoff.reset();
    }

    /// They were not. The next try is built from the newest state (R-REP-4). `chance` in
    /// `[0, 1)` is for jitter.
    pub fn on_failed(
        &mut self,
        now: Uptime,
        kind: RemoteKind,
        fields: &[Field],
        chance: f64,
    ) -> Duration {
        self.is_dirty = true;
        let backoff = self.backoff.failed(chance).max(limits::REPORT_INTERVAL_MIN);
        let is_first = self.backoff.failures() == 1;
        let delay = match kind {
            // All who were told the same would come back in the same second.
            RemoteKind::Later(Some(wish)) => {
                let wish = wish.clamp(limits::REPORT_INTERVAL_MIN, limits::RETRY_AFTER_MAX);
                wish + backoff.mul_f64(chance)
            }
            RemoteKind::Later(None) | RemoteKind::Unauthorized => backoff,
            // Once with less, and then not before the next poll.
            RemoteKind::Refused(400 | 413) if is_first => backoff,
            // The same again would be refused again; never lost all the same (R-REP-5).
            RemoteKind::Refused(_) | RemoteKind::Unreadable => self.ceiling,
        };
        let own = fields.iter().any(|field| field.at != APPS);
        self.vitals_at = match kind {
            // They may be what is wrong; the apps are worth more.
            RemoteKind::Refused(400 | 413) if own => now + self.vitals_backoff.failed(chance),
            _ if own => now,
            _ => self.vitals_at,
        };
        let apps = fields.iter().any(|field| field.at == APPS);
        if apps
            && matches!(
                kind,
                RemoteKind::Unauthorized | RemoteKind::Refused(400 | 413)
            )
        {
            self.doubt(now, chance);
        }
        self.not_before = now + delay;
        delay
    }

    /// The other form has its turn.
    fn doubt(&mut self, now: Uptime, chance: f64) {
        let ceiling = self.ceiling;
        let was_lean = self.detail(now) == Detail::Lean;
        let doubt = self.doubt.get_or_insert_with(|| Doubt {
            is_lean: false,
            full_at: now,
            backoff: Backoff::new(2 * ceiling, limits::REEMIT_INTERVAL.max(ceiling)),
        });
        doubt.is_lean = !was_lean;
        if doubt.is_lean {
            doubt.full_at = now + doubt.backoff.failed(chance);
        } else {
            // Neither form: it is not about what is in it.
            doubt.full_at = now;
            doubt.backoff.reset();
        }
    }

    /// Whether the board is to be looked at in any case.
    #[must_use]
    pub const fn is_dirty(&self) -> bool {
        self.is_dirty
    }

    /// What the backend accepted.
    #[must_use]
    pub const fn sent(&self) -> &Marks {
        &self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(secs: u32) -> Uptime {
        Uptime::from_start(S * secs)
    }

    /// A driver of apps alone: whether they would be sent.
    fn tries(reporter: &mut Reporter, now: Uptime, apps: &str) -> Option<Vec<Field>> {
        let mut fields = vec![Field::apps(apps.as_bytes().to_vec())];
        reporter.news(&mut fields);
        let has_news = !fields.is_empty();
        reporter.on_time(now, has_news).then_some(fields)
    }

    fn full(apps: &str) -> i64 {
        Field::apps(apps.as_bytes().to_vec()).mark
    }

    fn reporter() -> Reporter {
        let mut reporter = Reporter::new(at(0), 900 * S, Marks::default());
        reporter.on_vitals(at(0));
        reporter
    }

    fn fails(reporter: &mut Reporter, now: Uptime, kind: RemoteKind, chance: f64) -> Duration {
        let fields = tries(reporter, now, "x").unwrap();
        reporter.on_failed(now, kind, &fields, chance)
    }

    #[test]
    fn r_rep_3_s_rep_03_the_same_is_not_sent_twice() {
        let mut reporter = reporter();
        let sent = tries(&mut reporter, at(0), "x").unwrap();
        reporter.on_sent(&sent, Detail::Full);
        for second in 20..120 {
            reporter.on_change();
            assert!(tries(&mut reporter, at(second), "x").is_none());
        }
        assert_eq!(
            reporter.wake_at(),
            Some(at(300)),
            "until something is measured"
        );
        reporter.on_change();
        assert!(tries(&mut reporter, at(121), "y").is_some());
    }

    #[test]
    fn r_rep_4_s_rep_18_a_restart_remembers_what_was_sent() {
        let mut sent = Marks::default();
        sent[APPS] = Some(full("x"));
        let mut reporter = Reporter::new(at(0), 900 * S, sent);
        assert!(tries(&mut reporter, at(0), "x").is_none());
    }

    #[test]
    fn r_rep_6_s_rep_16_reports_start_ten_seconds_apart() {
        let mut reporter = reporter();
        let mut sent = 0;
        for second in 0..10 {
            reporter.on_change();
            if let Some(fields) = tries(&mut reporter, at(second), &second.to_string()) {
                reporter.on_sent(&fields, Detail::Full);
                sent += 1;
            }
        }
        assert_eq!(sent, 1);
        assert_eq!(reporter.wake_at(), Some(at(10)));
        assert!(tries(&mut reporter, at(10), "last").is_some());
    }

    #[test]
    fn s_rep_01_nothing_to_tell_waits_for_a_change_alone() {
        let mut reporter = Reporter::new(at(0), 900 * S, Marks::default());
        reporter.on_nothing();
        assert_eq!(reporter.wake_at(), None);
        reporter.on_change();
        assert_eq!(reporter.wake_at(), Some(at(0)));
        assert!(reporter.is_vitals_due(at(0)));
    }

    #[test]
    fn r_rep_10_s_rep_10_failures_back_off_and_are_never_final() {
        let mut reporter = reporter();
        let mut now = at(0);
        for _ in 0..20 {
            let delay = fails(&mut reporter, now, RemoteKind::Later(None), 1.0);
            assert!(delay >= 10 * S && delay <= 900 * S);
            now = reporter.wake_at().unwrap();
        }
        let wish = |secs| RemoteKind::Later(Some(secs * S));
        assert_eq!(fails(&mut reporter, now, wish(100_000), 0.0), 3600 * S);
        now = reporter.wake_at().unwrap();
        assert_eq!(fails(&mut reporter, now, wish(0), 0.0), 10 * S);
        now = reporter.wake_at().unwrap();
        let spread = fails(&mut reporter, now, wish(30), 0.5);
        assert!(
            spread > 300 * S,
            "after a long outage they come back one by one: {spread:?}"
        );
        now = reporter.wake_at().unwrap();
        assert_eq!(
            fails(&mut reporter, now, RemoteKind::Refused(404), 0.0),
            900 * S
        );
    }

    #[test]
    fn r_rep_5_s_rep_11_what_is_refused_is_tried_with_less() {
        for kind in [
            RemoteKind::Unauthorized,
            RemoteKind::Refused(400),
            RemoteKind::Refused(413),
        ] {
            let mut reporter = reporter();
            assert_eq!(reporter.detail(at(0)), Detail::Full);
            let delay = fails(&mut reporter, at(0), kind, 0.0);
            assert_eq!(delay, 10 * S, "{kind:?}: soon");
            let now = reporter.wake_at().unwrap();
            assert_eq!(reporter.detail(now), Detail::Lean);
            let less = tries(&mut reporter, now, "less").unwrap();
            reporter.on_sent(&less, Detail::Lean);
            // Nothing changes: not again, until all of it is tried much later.
            reporter.on_change();
            let later = at(400);
            assert_eq!(reporter.detail(later), Detail::Lean);
            assert!(tries(&mut reporter, later, "less").is_none());
            let again = at(2000);
            assert_eq!(reporter.detail(again), Detail::Full);
            fails(&mut reporter, again, kind, 0.0);
            let next = reporter.doubt.as_ref().unwrap().full_at;
            assert!(next - again >= 1800 * S, "and then ever more rarely");
        }
    }

    #[test]
    fn r_rep_5_s_rep_08_neither_form_is_forgotten() {
        let mut reporter = reporter();
        let mut now = at(0);
        let mut details = Vec::new();
        for _ in 0..12 {
            details.push(reporter.detail(now));
            let delay = fails(&mut reporter, now, RemoteKind::Unauthorized, 0.5);
            assert!(delay <= 900 * S);
            now = reporter.wake_at().unwrap();
        }
        let turns = details
            .chunks(2)
            .all(|pair| pair == [Detail::Full, Detail::Lean]);
        assert!(turns, "{details:?}");
        // The backend recovers, and nothing else changes.
        let all = tries(&mut reporter, now, "x").unwrap();
        reporter.on_sent(&all, Detail::Full);
        assert!(reporter.doubt.is_none());
        assert_eq!(
            reporter.wake_at(),
            Some(reporter.vitals_at.max(reporter.not_before))
        );
    }

    #[test]
    fn r_rep_5_s_rep_09_refused_fields_do_not_hold_up_the_apps() {
        let mut reporter = Reporter::new(at(0), 900 * S, Marks::default());
        let own = Field {
            at: 1,
            json: b"\"x\"".to_vec(),
            mark: 5,
            step: 0,
        };
        let fields = [Field::apps(b"x".to_vec()), own];
        assert!(reporter.on_time(at(0), true));
        reporter.on_vitals(at(0));
        reporter.on_failed(at(0), RemoteKind::Refused(400), &fields, 0.0);
        assert!(!reporter.is_vitals_due(at(800)));
        assert!(reporter.is_vitals_due(at(900)));
        // A transport that fails holds nothing back.
        assert!(reporter.on_time(at(900), true));
        reporter.on_failed(at(900), RemoteKind::Later(None), &fields, 0.0);
        assert!(reporter.is_vitals_due(at(900)));
    }
}
