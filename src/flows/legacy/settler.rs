//! When to tell the legacy supervisor of a target, and when it has settled (R-TRG-*). Pure.

use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::flows::seek::seeker::Options;
use crate::limits;
use crate::world::legacy::{LegacyKind, Told};

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Nothing, until there is a target.
    Rest,
    /// Nothing, until then.
    Wait(Uptime),
    /// Tell it of the target.
    Trigger(Options),
    /// Ask whether what it has is applied.
    Look,
}

/// Where we are with the target that is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is none, or it has settled.
    Settled,
    /// It is to be told.
    Untold(Options),
    /// It was told, and is looked at.
    Watched {
        /// It is at its own time.
        deferred: bool,
        was_applying: bool,
        was_applied: bool,
    },
}

/// What became of a call, in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// It goes on.
    Underway,
    /// It was told and will not act before its own time (R-TRG-6).
    Deferred,
    /// The target that is laid out is applied.
    Settled,
}

/// The machine.
#[derive(Debug)]
pub struct Settler {
    phase: Phase,
    /// A target that interrupts nothing.
    queued: Option<Options>,
    not_before: Uptime,
    backoff: Backoff,
    /// Since when every call has failed.
    failing_since: Option<Uptime>,
    /// How long it may take to apply a target, and until when it may the one it was told of.
    limit: Option<Duration>,
    until: Option<Uptime>,
    has_given_up: bool,
}

impl Settler {
    /// Nothing is laid out.
    #[must_use]
    pub fn new(now: Uptime, limit: Option<Duration>) -> Settler {
        let (base, most) = limits::LEGACY_RETRY;
        Settler {
            phase: Phase::Settled,
            queued: None,
            not_before: now,
            backoff: Backoff::new(base, most),
            failing_since: None,
            limit,
            until: None,
            has_given_up: false,
        }
    }

    /// A target came in. `true`: lay it out now; else it has to wait until what it has is
    /// applied (S-TRG-10). `is_fetched`: it has this very document already.
    pub fn on_target(&mut self, now: Uptime, options: Options, is_fetched: bool) -> bool {
        let is_busy = matches!(self.phase, Phase::Watched { .. });
        if is_busy && !options.cancel && !options.force && !is_fetched {
            self.queued = Some(self.queued.unwrap_or_default().or(options));
            return false;
        }
        // It gets no document twice, unless somebody insists (R-TRG-9).
        if is_fetched && !options.force {
            // It may have gone on by itself.
            if std::mem::take(&mut self.has_given_up) {
                self.watch(now, false);
            }
            return true;
        }
        self.has_given_up = false;
        let before = match self.phase {
            Phase::Untold(before) => before,
            _ => Options::default(),
        };
        let options = self
            .queued
            .take()
            .unwrap_or_default()
            .or(before)
            .or(options);
        self.phase = Phase::Untold(options);
        // A newer target is not held up by what became of the former (R-TRG-4).
        self.not_before = now;
        self.backoff.reset();
        true
    }

    /// The target that waits for the former, once its time has come.
    pub fn queued(&mut self) -> Option<Options> {
        match self.phase {
            Phase::Settled => self.queued.take(),
            _ => None,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn order(&self, now: Uptime) -> Order {
        match self.phase {
            Phase::Settled => Order::Rest,
            _ if now < self.not_before => Order::Wait(self.not_before),
            Phase::Untold(options) => Order::Trigger(options),
            Phase::Watched { .. } => Order::Look,
        }
    }

    /// It was told.
    pub fn on_told(&mut self, now: Uptime, told: Told) -> Became {
        self.answered();
        self.watch(now, told == Told::Deferred);
        match told {
            Told::Accepted => Became::Underway,
            Told::Deferred => Became::Deferred,
        }
    }

    fn watch(&mut self, now: Uptime, deferred: bool) {
        self.phase = Phase::Watched {
            deferred,
            was_applying: false,
            was_applied: false,
        };
        self.until = self.limit.map(|limit| now + limit);
        self.not_before = now + self.interval();
    }

    /// It said whether what it has is applied. `is_fetched`: it has what is laid out.
    pub fn on_looked(&mut self, now: Uptime, applied: bool, is_fetched: bool) -> Became {
        self.answered();
        self.not_before = now + self.interval();
        let Phase::Watched {
            deferred,
            was_applying,
            was_applied,
        } = &mut self.phase
        else {
            return Became::Settled;
        };
        let settled = applied && (*was_applying || is_fetched && *was_applied);
        *was_applying |= !applied;
        // One that was seen before the document was fetched says nothing of it (R-TRG-7).
        *was_applied = applied && is_fetched;
        match (settled, *deferred && !is_fetched) {
            (true, false) => {
                self.phase = Phase::Settled;
                Became::Settled
            }
            (_, true) => Became::Deferred,
            _ => Became::Underway,
        }
    }

    /// A call failed; when there is another, and for how long all of them have failed.
    pub fn on_failed(
        &mut self,
        now: Uptime,
        kind: LegacyKind,
        chance: f64,
    ) -> (Duration, Duration) {
        let since = *self.failing_since.get_or_insert(now);
        let delay = match kind {
            LegacyKind::Later => self.backoff.failed(chance).max(limits::LEGACY_RETRY.0),
            LegacyKind::Unauthorized => limits::LEGACY_REFUSED_RETRY,
            LegacyKind::Locked => limits::LEGACY_LOCKED_RETRY,
        };
        self.not_before = now + delay;
        (delay, now - since)
    }

    /// Whether it has had all the time it may take, and is not waited for any longer (R-TRG-8).
    pub fn gives_up(&mut self, now: Uptime) -> bool {
        let is_watched = matches!(self.phase, Phase::Watched { .. });
        let gives_up = is_watched && self.until.is_some_and(|until| now >= until);
        if gives_up {
            self.phase = Phase::Settled;
            self.has_given_up = true;
        }
        gives_up
    }

    fn answered(&mut self) {
        self.backoff.reset();
        self.failing_since = None;
    }

    fn interval(&self) -> Duration {
        match self.phase {
            Phase::Watched { deferred: true, .. } => limits::LEGACY_DEFERRED_LOOK,
            _ => limits::LEGACY_LOOK,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const PLAIN: Options = Options {
        force: false,
        cancel: false,
    };
    const CANCEL: Options = Options {
        force: false,
        cancel: true,
    };
    const FORCE: Options = Options {
        force: true,
        cancel: false,
    };

    fn at(secs: u64) -> Uptime {
        Uptime::default() + Duration::from_secs(secs)
    }

    /// One that was told of a target at second 0.
    fn told() -> Settler {
        let mut settler = Settler::new(at(0), None);
        assert_eq!(settler.order(at(0)), Order::Rest);
        assert!(settler.on_target(at(0), CANCEL, false));
        assert_eq!(settler.order(at(0)), Order::Trigger(CANCEL));
        assert_eq!(settler.on_told(at(0), Told::Accepted), Became::Underway);
        assert_eq!(settler.order(at(0)), Order::Wait(at(1)), "a second apart");
        settler
    }

    #[test]
    fn s_trg_01_applying_and_then_applied_is_settled() {
        let mut settler = told();
        for second in 1..4 {
            assert_eq!(settler.order(at(second)), Order::Look);
            assert_eq!(settler.on_looked(at(second), false, true), Became::Underway);
        }
        assert_eq!(settler.on_looked(at(4), true, true), Became::Settled);
        assert_eq!(settler.order(at(100)), Order::Rest);
    }

    #[test]
    fn s_trg_02_r_trg_7_applied_says_nothing_before_it_has_the_document() {
        let mut settler = told();
        for second in 1..50 {
            assert_eq!(settler.on_looked(at(second), true, false), Became::Underway);
        }
        assert_eq!(settler.on_looked(at(50), true, true), Became::Underway);
        assert_eq!(settler.on_looked(at(51), true, true), Became::Settled);
    }

    #[test]
    fn s_trg_03_r_trg_6_what_is_deferred_is_not_done() {
        let mut settler = Settler::new(at(0), None);
        settler.on_target(at(0), PLAIN, false);
        assert_eq!(settler.on_told(at(0), Told::Deferred), Became::Deferred);
        let Order::Wait(next) = settler.order(at(1)) else {
            panic!("it is not looked at all the time");
        };
        assert_eq!(settler.on_looked(next, true, false), Became::Deferred);
        assert_eq!(settler.on_looked(next, true, true), Became::Underway);
        assert_eq!(settler.on_looked(next, true, true), Became::Settled);
    }

    #[test]
    fn s_trg_04_r_trg_4_a_refused_key_holds_up_no_newer_target() {
        let mut settler = Settler::new(at(0), None);
        settler.on_target(at(0), PLAIN, false);
        for round in 0..20 {
            let now = at(60 * round);
            assert_eq!(settler.order(now), Order::Trigger(PLAIN));
            let (delay, _) = settler.on_failed(now, LegacyKind::Unauthorized, 1.0);
            assert_eq!(delay, 60 * S);
        }
        let now = at(60 * 19 + 1);
        assert!(settler.on_target(now, CANCEL, false));
        assert_eq!(settler.order(now), Order::Trigger(CANCEL), "at once");
    }

    #[test]
    fn s_trg_05_s_trg_06_r_trg_3_failures_back_off_up_to_30_s() {
        let mut settler = Settler::new(at(0), None);
        settler.on_target(at(0), FORCE, false);
        let mut now = at(0);
        let mut waits = Vec::new();
        for _ in 0..12 {
            let (delay, _) = settler.on_failed(now, LegacyKind::Later, 0.5);
            assert_eq!(settler.order(now), Order::Wait(now + delay));
            now = now + delay;
            waits.push(delay);
            assert_eq!(
                settler.order(now),
                Order::Trigger(FORCE),
                "the wish is kept"
            );
        }
        assert!(waits[0] >= S && waits[0] <= 2 * S, "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= 30 * S), "{waits:?}");
        assert!(waits[11] > 10 * S, "{waits:?}");
        let (_, failing) = settler.on_failed(now, LegacyKind::Later, 0.5);
        assert!(failing > 60 * S, "{failing:?}");
        settler.on_told(now, Told::Accepted);
        let (delay, failing) = settler.on_failed(now, LegacyKind::Later, 0.5);
        assert!(delay <= 2 * S && failing.is_zero(), "an answer ends it");
    }

    #[test]
    fn s_trg_09_r_trg_5_locks_are_looked_at_again_after_30_s() {
        let mut settler = Settler::new(at(0), None);
        settler.on_target(at(0), PLAIN, false);
        for _ in 0..5 {
            let (delay, _) = settler.on_failed(at(0), LegacyKind::Locked, 0.1);
            assert_eq!(delay, 30 * S);
        }
    }

    #[test]
    fn r_trg_8_it_is_waited_for_no_longer_than_the_limit() {
        let mut settler = Settler::new(at(0), Some(60 * S));
        settler.on_target(at(0), CANCEL, false);
        settler.on_failed(at(0), LegacyKind::Later, 0.5);
        assert!(!settler.gives_up(at(100)), "it was not told yet");
        settler.on_told(at(100), Told::Accepted);
        assert!(!settler.on_target(at(101), PLAIN, false));
        settler.on_looked(at(159), false, true);
        assert!(!settler.gives_up(at(159)));
        settler.on_failed(at(160), LegacyKind::Later, 0.5);
        assert!(settler.gives_up(at(160)), "however it says nothing");
        assert_eq!(settler.order(at(160)), Order::Rest);
        assert_eq!(settler.queued(), Some(PLAIN), "what waited is next");
        assert!(!settler.gives_up(at(161)), "once");
        // It may have gone on: that is looked at with the next poll, as long again.
        assert!(settler.on_target(at(900), PLAIN, true));
        assert!(!settler.gives_up(at(959)));
        settler.on_looked(at(902), true, true);
        assert_eq!(settler.on_looked(at(903), true, true), Became::Settled);
        assert!(!settler.gives_up(at(960)));
    }

    #[test]
    fn s_trg_10_a_target_without_cancel_waits_for_the_former() {
        let mut settler = told();
        assert!(!settler.on_target(at(1), PLAIN, false));
        assert_eq!(settler.queued(), None);
        settler.on_looked(at(2), false, true);
        assert_eq!(settler.on_looked(at(3), true, true), Became::Settled);
        let queued = settler.queued().unwrap();
        assert!(settler.on_target(at(3), queued, false));
        assert_eq!(settler.order(at(3)), Order::Trigger(PLAIN));
        // One that insists does not wait.
        settler.on_told(at(3), Told::Accepted);
        assert!(settler.on_target(at(4), CANCEL, false));
    }

    #[test]
    fn s_trg_12_r_trg_9_no_document_twice_unless_it_is_forced() {
        let mut settler = told();
        settler.on_looked(at(1), false, true);
        settler.on_looked(at(2), true, true);
        assert!(settler.on_target(at(3), CANCEL, true));
        assert_eq!(settler.order(at(3)), Order::Rest);
        assert!(settler.on_target(at(4), FORCE, true));
        assert_eq!(settler.order(at(4)), Order::Trigger(FORCE));
    }
}
