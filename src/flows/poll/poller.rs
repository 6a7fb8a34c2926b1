//! When to ask the backend for the target, and what to do with the answer. Pure.

use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::flows::seek::seeker::Options;
use crate::limits;

/// The intervals of polling (state-engine 10.2, R-POLL-1).
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Between polls when neither option nor target says otherwise.
    pub interval: Duration,
    /// An option or variable was given: it wins over the target (D-23).
    pub is_fixed: bool,
    /// Between the starts of two requests.
    pub interval_min: Duration,
    /// Added at random.
    pub jitter_max: Duration,
}

/// One request to be made, or under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// Hand the known target on even if it did not change.
    pub reemit: bool,
    /// Ask without a condition, to see whether the backend still knows this device
    /// (R-POLL-6).
    pub in_full: bool,
    /// What to hand it on with.
    pub options: Options,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Another target than last time.
    Changed,
    /// The same.
    Unchanged,
    /// No answer: again after a back-off, and not before the server's own wish.
    Later(Option<Duration>),
    /// An answer that the same request will get again: at the next regular poll.
    Refused,
}

/// The machine.
#[derive(Debug)]
pub struct Poller {
    timing: Timing,
    /// What the target says the interval is.
    told: Option<Duration>,
    next_poll: Uptime,
    next_reemit: Uptime,
    /// No request starts before this.
    not_before: Uptime,
    /// Because a server said so: a user does not get round it (R-POLL-4).
    held_by_server: Uptime,
    backoff: Backoff,
    asking: Option<Ask>,
    /// What a user asked for while no request could start.
    wanted: Option<Ask>,
    /// What requests were made with that failed: the next one is made with it too.
    unserved: Ask,
}

impl Poller {
    /// Polls at once, or after the minimum interval when a cached target is being applied.
    #[must_use]
    pub fn new(timing: Timing, now: Uptime, has_cached: bool) -> Poller {
        let first = if has_cached {
            now + timing.interval_min
        } else {
            now
        };
        Poller {
            timing,
            told: None,
            next_poll: first,
            next_reemit: now + limits::REEMIT_INTERVAL,
            not_before: first,
            held_by_server: now,
            backoff: Backoff::steep(2 * timing.interval_min, timing.interval),
            asking: None,
            wanted: None,
            unserved: Ask::default(),
        }
    }

    /// Nothing happens by itself before this moment.
    #[must_use]
    pub fn wake_at(&self) -> Uptime {
        match (&self.asking, &self.wanted) {
            // The answer, or the driver's own time limit, comes first.
            (Some(_), _) => Uptime::from_start(Duration::MAX),
            (None, Some(_)) => self.not_before.max(self.held_by_server),
            (None, None) => {
                let regular = self.next_poll.min(self.next_reemit);
                regular.max(self.not_before).max(self.held_by_server)
            }
        }
    }

    /// Call at [`Poller::wake_at`] or later.
    pub fn on_time(&mut self, now: Uptime) -> Option<Ask> {
        if self.asking.is_some() || now < self.wake_at() {
            return None;
        }
        let is_daily = now >= self.next_reemit;
        let daily = Ask {
            reemit: is_daily,
            in_full: is_daily,
            ..Ask::default()
        };
        let wanted = merge(daily, self.wanted.take().unwrap_or_default());
        let ask = merge(std::mem::take(&mut self.unserved), wanted);
        self.asking = Some(ask);
        self.not_before = now + self.timing.interval_min;
        Some(ask)
    }

    /// Someone wants a poll now. It waits for neither period nor back-off, only for
    /// the minimum interval and for what the server asked. A request under way may
    /// have been answered before the change that the caller knows of: another follows.
    pub fn on_request(&mut self, now: Uptime, wish: Ask) {
        self.wanted = Some(merge(self.wanted.unwrap_or_default(), wish));
        // A wait that only back-off made is over.
        self.not_before = self.not_before.min(now + self.timing.interval_min);
    }

    /// `Some`: hand the target on. `chance` in `[0, 1)` is for jitter.
    pub fn on_answer(&mut self, now: Uptime, answer: Answer, chance: f64) -> Option<Ask> {
        let ask = self.asking.take()?;
        self.not_before = now + self.timing.interval_min;
        self.next_poll = now + self.period(chance);
        match answer {
            Answer::Changed | Answer::Unchanged => {
                self.backoff.reset();
                if answer == Answer::Unchanged && !ask.reemit {
                    return None;
                }
                self.next_reemit = now + limits::REEMIT_INTERVAL;
                let options = match answer {
                    // A new target from the backend interrupts (state-engine 7.1).
                    Answer::Changed => Options {
                        cancel: true,
                        ..ask.options
                    },
                    _ => ask.options,
                };
                Some(Ask { options, ..ask })
            }
            Answer::Refused => {
                self.keep(now, ask);
                None
            }
            Answer::Later(wish) => {
                let mut delay = self.backoff.failed(chance).max(self.timing.interval_min);
                if let Some(wish) = wish {
                    let longest = limits::RETRY_AFTER_MAX.max(self.timing.interval_min);
                    let wish = wish.clamp(self.timing.interval_min, longest);
                    self.held_by_server = now + wish.min(limits::RETRY_AFTER_HELD_MAX);
                    // All who were told the same would come back in the same second.
                    delay = wish + delay.mul_f64(chance);
                }
                self.next_poll = now + delay;
                // Who asked meanwhile waits for no back-off either (R-POLL-4).
                if self.wanted.is_none() {
                    self.not_before = now + delay;
                }
                self.keep(now, ask);
                None
            }
        }
    }

    /// What a failed request was made for is not lost with it: a user's `force` goes with the
    /// next one, and so does a re-emission, which does not make it come sooner.
    fn keep(&mut self, now: Uptime, ask: Ask) {
        self.unserved = merge(self.unserved, ask);
        if now >= self.next_reemit {
            self.next_reemit = self.next_poll;
        }
    }

    /// Whether a request that somebody asked for is still to be made.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    /// What the target says about the interval, if anything (R-POLL-1).
    pub fn on_told(&mut self, interval: Option<Duration>) {
        let (min, max) = limits::POLL_INTERVAL_RANGE;
        self.told = interval.map(|told| told.clamp(min, max));
    }

    /// Whether the configured interval is longer than the target's (D-23).
    #[must_use]
    pub fn is_slower_than_told(&self) -> bool {
        self.timing.is_fixed && self.told.is_some_and(|told| told < self.timing.interval)
    }

    fn period(&self, chance: f64) -> Duration {
        let told = self.told.filter(|_| !self.timing.is_fixed);
        let period = told.unwrap_or(self.timing.interval);
        let jitter = self.timing.jitter_max.min(period / 10);
        period + jitter.mul_f64(chance.clamp(0.0, 1.0))
    }
}

/// Both wishes in one (R-POLL-5).
pub(super) const fn merge(one: Ask, two: Ask) -> Ask {
    Ask {
        reemit: one.reemit || two.reemit,
        in_full: one.in_full || two.in_full,
        options: one.options.or(two.options),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);
    const NONE: Options = Options {
        force: false,
        cancel: false,
    };
    const FORCE: Options = Options {
        force: true,
        cancel: false,
    };

    fn at(secs: u32) -> Uptime {
        Uptime::from_start(S * secs)
    }

    const fn ask(options: Options) -> Ask {
        Ask {
            reemit: true,
            in_full: false,
            options,
        }
    }

    fn poller(has_cached: bool) -> Poller {
        let timing = Timing {
            interval: 900 * S,
            is_fixed: false,
            interval_min: 10 * S,
            jitter_max: 60 * S,
        };
        Poller::new(timing, at(0), has_cached)
    }

    #[test]
    fn s_poll_01_polls_at_once_then_every_period() {
        let mut poller = poller(false);
        assert!(poller.on_time(at(0)).is_some());
        let emit = poller.on_answer(at(1), Answer::Changed, 0.0).unwrap();
        let interrupts = Options {
            force: false,
            cancel: true,
        };
        assert_eq!(emit.options, interrupts, "a changed target interrupts");
        assert_eq!(poller.wake_at(), at(901));
        assert!(poller.on_time(at(901)).is_some());
        assert_eq!(poller.on_answer(at(902), Answer::Unchanged, 0.0), None);
    }

    #[test]
    fn s_poll_02_with_a_cached_target_the_first_poll_waits() {
        assert_eq!(poller(true).wake_at(), at(10));
    }

    #[test]
    fn r_poll_1_the_interval_of_the_target_counts_clamped() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        poller.on_told(Some(S));
        poller.on_answer(at(0), Answer::Changed, 0.0);
        assert_eq!(poller.wake_at(), at(60));
        poller.on_told(Some(600 * S));
        poller.on_time(at(60));
        poller.on_answer(at(60), Answer::Unchanged, 0.999);
        let period = poller.wake_at() - at(60);
        assert!(period > 650 * S && period <= 660 * S, "{period:?}");
    }

    #[test]
    fn d_23_a_configured_interval_wins() {
        let timing = Timing {
            interval: 5 * S,
            is_fixed: true,
            interval_min: S,
            jitter_max: Duration::ZERO,
        };
        let mut poller = Poller::new(timing, at(0), false);
        poller.on_told(Some(900 * S));
        assert!(!poller.is_slower_than_told());
        poller.on_time(at(0));
        poller.on_answer(at(0), Answer::Changed, 0.5);
        assert_eq!(poller.wake_at(), at(5));
    }

    #[test]
    fn r_poll_3_failures_back_off_up_to_the_period() {
        let mut poller = poller(false);
        let mut now = at(0);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            assert!(poller.on_time(now).is_some());
            assert_eq!(poller.on_answer(now, Answer::Later(None), 1.0), None);
            let delay = poller.wake_at() - now;
            assert!(
                delay >= last && delay >= 20 * S && delay <= 900 * S,
                "{delay:?}"
            );
            last = delay;
            now = poller.wake_at();
        }
        assert_eq!(last, 900 * S);
    }

    #[test]
    fn r_poll_4_s_poll_18_a_trigger_skips_the_back_off_but_not_the_minimum() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        for _ in 0..6 {
            poller.on_answer(at(0), Answer::Later(None), 1.0);
            poller.asking = Some(Ask::default());
        }
        poller.on_answer(at(0), Answer::Later(None), 1.0);
        poller.on_request(at(1), ask(FORCE));
        assert_eq!(poller.wake_at(), at(11));
        assert_eq!(poller.on_time(at(11)), Some(ask(FORCE)));
    }

    #[test]
    fn r_poll_4_a_trigger_during_a_request_that_fails_waits_for_no_back_off() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        for _ in 0..6 {
            poller.on_answer(at(0), Answer::Later(None), 1.0);
            poller.asking = Some(Ask::default());
        }
        poller.on_request(at(1), ask(FORCE));
        poller.on_answer(at(2), Answer::Later(None), 1.0);
        assert_eq!(poller.wake_at(), at(12));
        assert_eq!(poller.on_time(at(12)).map(|ask| ask.options), Some(FORCE));
    }

    #[test]
    fn r_poll_2_retry_after_is_honoured_and_clamped() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        poller.on_answer(at(0), Answer::Later(Some(100_000 * S)), 0.0);
        assert_eq!(poller.wake_at(), at(3600));
        poller.on_request(at(1), ask(NONE));
        assert_eq!(
            poller.wake_at(),
            at(60),
            "a user waits no longer than a minute"
        );
        poller.on_time(at(60));
        poller.on_answer(at(60), Answer::Later(Some(Duration::ZERO)), 0.0);
        assert_eq!(poller.wake_at(), at(70), "and not shorter than the minimum");
    }

    /// FD-29, and the spread of issue 6: of so many agents that lost the backend at any
    /// moment of their period, no second sees more than 2 % come back.
    #[test]
    fn fd_29_after_an_outage_they_come_back_one_by_one() {
        const AGENTS: usize = 500;
        let mut random = fastrand::Rng::with_seed(29);
        let longest = 900;
        for wish in [None, Some(30 * S)] {
            // All of them start in the same minute; only a longer outage spreads those.
            for (phases, outages) in [
                (900, [20, 90, 600, 3600, 86_400]),
                (60, [900, 1200, 1800, 3600, 86_400]),
            ] {
                for outage in outages {
                    let mut seconds = std::collections::BTreeMap::new();
                    for _ in 0..AGENTS {
                        let mut poller = poller(false);
                        let mut now = at(0) + S.mul_f64(f64::from(phases) * random.f64());
                        poller.next_poll = now;
                        while now < at(outage) {
                            now = poller.wake_at().max(now);
                            poller.on_time(now);
                            poller.on_answer(now, Answer::Later(wish), random.f64());
                            now = poller.wake_at();
                        }
                        *seconds.entry((now - at(0)).as_secs()).or_insert(0) += 1;
                    }
                    let most = *seconds.values().max().unwrap();
                    assert!(
                        most * 50 <= AGENTS,
                        "{wish:?} {phases} {outage}: {most} in one second"
                    );
                    let last = seconds.keys().last().unwrap() - u64::from(outage);
                    assert!(last <= longest + 30 + 60 + 900, "{last}");
                }
            }
        }
    }

    #[test]
    fn s_poll_35_slow_answers_stay_within_the_heartbeat_window() {
        for told in [600, 900, 3600] {
            let mut poller = poller(false);
            poller.on_told(Some(told * S));
            let (mut now, mut last) = (at(0), at(0));
            for round in 0..100 {
                assert!(poller.on_time(now).is_some());
                assert!(now - last < S * told * 3 / 2, "{told}: {:?}", now - last);
                last = now;
                let answered = now + 50 * S;
                poller.on_answer(answered, Answer::Unchanged, f64::from(round % 10) / 10.0);
                now = poller.wake_at();
            }
        }
    }

    #[test]
    fn r_poll_1_s_poll_10_to_12_jitter_is_in_bounds_and_not_constant() {
        let mut random = fastrand::Rng::with_seed(12);
        for (told, low, high) in [
            (Some(1200), 1200, 1260),
            (None, 900, 960),
            (Some(0), 60, 66),
            (Some(u32::MAX), 86_400, 86_460),
        ] {
            let mut poller = poller(false);
            poller.on_told(told.map(|told| told * S));
            poller.next_reemit = at(u32::MAX);
            let mut seen = std::collections::BTreeSet::new();
            let mut now = at(0);
            for _ in 0..1000 {
                assert!(poller.on_time(now).is_some());
                poller.on_answer(now, Answer::Unchanged, random.f64());
                let period = poller.wake_at() - now;
                assert!(
                    period >= low * S && period <= high * S,
                    "{told:?}: {period:?}"
                );
                seen.insert(period.as_millis());
                now = poller.wake_at();
            }
            assert!(seen.len() > 100);
        }
    }

    #[test]
    fn r_rep_5_a_doubt_polls_without_handing_on() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        poller.on_answer(at(1), Answer::Unchanged, 0.0);
        poller.on_request(at(20), Ask::default());
        assert!(poller.on_time(at(30)).is_some());
        assert_eq!(poller.on_answer(at(31), Answer::Unchanged, 0.0), None);
    }

    #[test]
    fn r_poll_5_s_poll_22_triggers_add_up_and_no_answer_is_lost() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        poller.on_request(at(1), ask(FORCE));
        let cancel = Options {
            force: false,
            cancel: true,
        };
        poller.on_request(at(1), ask(cancel));
        assert!(
            poller.on_answer(at(2), Answer::Changed, 0.0).is_some(),
            "it is handed on"
        );
        assert_eq!(poller.wake_at(), at(12));
        let ask = poller.on_time(at(12)).unwrap();
        assert_eq!(
            ask.options,
            Options {
                force: true,
                cancel: true
            }
        );
        let emit = poller.on_answer(at(13), Answer::Unchanged, 0.0).unwrap();
        assert_eq!(
            emit.options,
            Options {
                force: true,
                cancel: true
            }
        );
        assert_eq!(poller.wake_at(), at(913));
    }

    #[test]
    fn r_poll_4_s_poll_19_a_trigger_waits_for_the_rest_of_a_server_s_wish() {
        let mut poller = poller(false);
        poller.on_time(at(0));
        poller.on_answer(at(0), Answer::Later(Some(45 * S)), 0.9);
        poller.on_request(at(30), ask(FORCE));
        assert_eq!(poller.wake_at(), at(45));
        assert_eq!(poller.on_time(at(45)), Some(ask(FORCE)));
    }

    #[test]
    fn s_poll_25_the_known_target_is_handed_on_once_a_day() {
        let mut poller = poller(false);
        let (mut now, mut emitted) = (at(0), 0);
        while now < at(3 * 24 * 3600) {
            if poller.on_time(now).is_some() {
                emitted += usize::from(poller.on_answer(now, Answer::Unchanged, 0.0).is_some());
            }
            assert!(poller.wake_at() > now, "no timer stays in the past");
            now = poller.wake_at();
        }
        assert!((2..=3).contains(&emitted), "{emitted}");
    }

    #[test]
    fn r_poll_6_once_a_day_it_is_asked_without_a_condition() {
        let mut poller = poller(false);
        let (mut now, mut in_full) = (at(0), 0);
        while now < at(24 * 3600) {
            in_full += usize::from(poller.on_time(now).is_some_and(|ask| ask.in_full));
            poller.on_answer(now, Answer::Unchanged, 0.0);
            now = poller.wake_at();
        }
        assert_eq!(in_full, 0);
        let ask = poller.on_time(at(24 * 3600 + 900)).unwrap();
        assert!(ask.in_full && ask.reemit);
    }

    /// What a user asked for is served by the first request that gets an answer, and it makes
    /// none come sooner.
    #[test]
    fn s_poll_24_what_a_failed_request_was_made_for_goes_with_the_next() {
        for answer in [Answer::Later(None), Answer::Refused] {
            let mut poller = poller(false);
            poller.on_time(at(0));
            poller.on_answer(at(0), Answer::Unchanged, 0.0);
            poller.on_request(at(20), ask(FORCE));
            assert!(poller.on_time(at(20)).is_some());
            poller.on_answer(at(21), answer, 1.0);
            assert!(!poller.is_wanted());
            let mut now = poller.wake_at();
            assert!(now > at(31), "{answer:?}: {now:?}");
            assert_eq!(poller.on_time(now), Some(ask(FORCE)));
            poller.on_answer(now, answer, 1.0);
            now = poller.wake_at();
            // What comes in meanwhile adds up with it.
            poller.on_request(now, Ask::default());
            assert_eq!(poller.on_time(now), Some(ask(FORCE)));
            let emit = poller.on_answer(now, Answer::Unchanged, 0.0);
            assert_eq!(emit, Some(ask(FORCE)));
            now = poller.wake_at();
            assert_eq!(poller.on_time(now), Some(Ask::default()), "served once");
        }
    }

    #[test]
    fn no_timer_stays_in_the_past_when_nothing_works() {
        for answer in [Answer::Later(None), Answer::Refused, Answer::Later(Some(S))] {
            let mut poller = poller(false);
            let mut now = at(0);
            for _ in 0..300 {
                assert!(poller.on_time(now).is_some());
                poller.on_answer(now, answer, 0.0);
                assert!(poller.wake_at() >= now + 10 * S);
                now = poller.wake_at();
            }
        }
    }
}
