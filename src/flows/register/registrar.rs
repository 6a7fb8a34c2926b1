//! What to do next to register a device (remote-api 1.4 and R-REG-1 to R-REG-7). Pure.

use std::time::Duration;

use crate::base::backoff::Backoff;
use crate::base::uptime::Uptime;
use crate::limits;
use crate::world::registration::{Confirmed, Registered, Retry};

/// One step. Its outcome is told to the machine by the method that is named after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Do {
    /// Write the candidate down, before anybody hears of it (R-REG-1).
    Keep,
    /// Ask for a device with the candidate's uuid and key.
    Register,
    /// Ask whether the device that is there is this one (R-REG-5).
    Confirm,
    /// Give the device that is there our key (remote-api 1.6).
    GiveKey,
    /// Draw another key for the candidate.
    DrawKey,
    /// Write the identity down, then forget the candidate.
    Settle,
    /// Nothing, until then.
    Wait(Uptime),
    /// The identity is good.
    Done,
    /// Nothing that these arguments could still bring about.
    Stop,
}

/// The machine.
#[derive(Debug)]
pub struct Registrar {
    step: Do,
    /// What follows [`Do::Keep`].
    kept_for: Do,
    not_before: Uptime,
    /// The server asked for this wait: a user does not get round it (R-POLL-4).
    held_by_server: Uptime,
    interval_min: Duration,
    backoff: Backoff,
    keys_drawn: u32,
    /// The last conflict was about the key, not about the uuid.
    key_is_taken: bool,
}

impl Registrar {
    /// `is_kept`: the candidate is on disk. Requests start at least `interval_min` apart.
    #[must_use]
    pub fn new(is_kept: bool, interval_min: Duration, now: Uptime) -> Registrar {
        Registrar {
            step: if is_kept { Do::Register } else { Do::Keep },
            kept_for: Do::Register,
            not_before: now,
            held_by_server: now,
            interval_min,
            backoff: Backoff::new(2 * interval_min, limits::BACKOFF_MAX),
            keys_drawn: 0,
            key_is_taken: false,
        }
    }

    /// What to do now.
    #[must_use]
    pub fn next(&self, now: Uptime) -> Do {
        let until = self.not_before.max(self.held_by_server);
        if now < until && !matches!(self.step, Do::Done | Do::Stop) {
            return Do::Wait(until);
        }
        self.step
    }

    /// Somebody wants it now: a wait of our own choice is over, after the minimum interval.
    pub fn on_request(&mut self, now: Uptime) {
        self.not_before = self.not_before.min(now + self.interval_min);
    }

    /// After [`Do::Keep`]. `chance` in `[0, 1)` is for jitter, here and below.
    pub fn on_kept(&mut self, now: Uptime, is_kept: bool, chance: f64) {
        if is_kept {
            self.go(self.kept_for);
        } else {
            self.trouble(now, Retry::Later(None), chance);
        }
    }

    /// After [`Do::Register`].
    pub fn on_registered(&mut self, now: Uptime, came: Result<&Registered, Retry>, chance: f64) {
        match came {
            Ok(Registered::AsAsked) => self.go(Do::Settle),
            Ok(Registered::WithKey(_)) => {
                self.kept_for = Do::Settle;
                self.go(Do::Keep);
            }
            Ok(Registered::Another) => self.step = Do::Stop,
            Ok(taken @ (Registered::UuidTaken | Registered::KeyTaken)) => {
                self.key_is_taken = *taken == Registered::KeyTaken;
                self.step = Do::Confirm;
            }
            Err(retry) => self.trouble(now, retry, chance),
        }
    }

    /// After [`Do::Confirm`].
    pub fn on_confirmed(&mut self, now: Uptime, came: Result<Confirmed, Retry>, chance: f64) {
        match came {
            Ok(Confirmed::Ours) => self.go(Do::Settle),
            Ok(Confirmed::OtherKey) => self.step = Do::GiveKey,
            Ok(Confirmed::Unknown) => {
                self.step = Do::Register;
                // A device that is frozen, or was deleted minutes ago, is not told from one
                // that is not there: while its uuid is taken it keeps its key.
                if !self.key_is_taken {
                    self.trouble(now, Retry::Later(None), chance);
                } else if self.keys_drawn < limits::REGISTER_KEYS_MAX {
                    self.keys_drawn += 1;
                    self.step = Do::DrawKey;
                } else {
                    self.trouble(now, Retry::Slowly, chance);
                }
            }
            Err(retry) => self.trouble(now, retry, chance),
        }
    }

    /// After [`Do::DrawKey`]: the candidate has another key, which is not on disk yet.
    pub fn on_drawn(&mut self) {
        self.kept_for = Do::Register;
        self.step = Do::Keep;
    }

    /// After [`Do::GiveKey`].
    pub fn on_key_given(&mut self, now: Uptime, came: Result<bool, Retry>, chance: f64) {
        match came {
            Ok(true) => self.go(Do::Settle),
            Ok(false) => self.step = Do::Stop,
            Err(retry) => self.trouble(now, retry, chance),
        }
    }

    /// After [`Do::Settle`].
    pub fn on_settled(&mut self, now: Uptime, is_settled: bool, chance: f64) {
        if is_settled {
            self.step = Do::Done;
        } else {
            self.trouble(now, Retry::Later(None), chance);
        }
    }

    fn go(&mut self, step: Do) {
        self.backoff.reset();
        self.step = step;
    }

    /// The same step again, or none.
    fn trouble(&mut self, now: Uptime, retry: Retry, chance: f64) {
        match retry {
            Retry::Later(wish) => {
                let delay = self.backoff.failed(chance).max(self.interval_min);
                self.not_before = now + delay;
                if let Some(wish) = wish {
                    let wish = wish.clamp(self.interval_min, limits::RETRY_AFTER_MAX);
                    self.not_before = now + wish;
                    self.held_by_server = now + wish.min(limits::RETRY_AFTER_HELD_MAX);
                }
            }
            Retry::Slowly => {
                let period = limits::REGISTER_REFUSED_RETRY;
                self.not_before = now + period + (period / 10).mul_f64(chance.clamp(0.0, 1.0));
            }
            Retry::Never => self.step = Do::Stop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn at(secs: u64) -> Uptime {
        Uptime::from_start(Duration::from_secs(secs))
    }

    fn registrar(is_kept: bool) -> Registrar {
        Registrar::new(is_kept, 10 * S, at(0))
    }

    #[test]
    fn r_reg_1_nothing_is_sent_before_the_candidate_is_on_disk() {
        let mut it = registrar(false);
        assert_eq!(it.next(at(0)), Do::Keep);
        it.on_kept(at(0), false, 0.0);
        assert_eq!(it.next(at(0)), Do::Wait(at(10)));
        assert_eq!(it.next(at(10)), Do::Keep, "s_reg_22: still not sent");
        it.on_kept(at(10), true, 0.0);
        assert_eq!(it.next(at(10)), Do::Register);
        it.on_registered(at(11), Ok(&Registered::AsAsked), 0.0);
        assert_eq!(it.next(at(11)), Do::Settle);
        it.on_settled(at(11), false, 0.0);
        assert_eq!(
            it.next(at(21)),
            Do::Settle,
            "a full disk loses no registration"
        );
        it.on_settled(at(21), true, 0.0);
        assert_eq!(it.next(at(21)), Do::Done);
    }

    #[test]
    fn s_reg_15_back_off_grows_with_jitter_up_to_its_ceiling_and_never_ends() {
        let mut it = registrar(true);
        let (mut now, mut waits) = (at(0), Vec::new());
        for _ in 0..12 {
            it.on_registered(now, Err(Retry::Later(None)), 0.999);
            let Do::Wait(until) = it.next(now) else {
                panic!("{it:?}")
            };
            waits.push((until - now).as_secs());
            now = until;
        }
        assert_eq!(waits[..4], [19, 39, 79, 159]);
        assert!(waits[7..].iter().all(|wait| (890..=900).contains(wait)));
        let mut other = registrar(true);
        other.on_registered(at(0), Err(Retry::Later(None)), 0.1);
        assert_eq!(other.next(at(0)), Do::Wait(at(11)), "jitter");
    }

    #[test]
    fn s_reg_16_retry_after_is_kept_even_when_a_user_asks() {
        let mut it = registrar(true);
        it.on_registered(at(0), Err(Retry::Later(Some(17 * S))), 0.0);
        it.on_request(at(1));
        assert_eq!(it.next(at(1)), Do::Wait(at(17)));
        it.on_registered(at(17), Err(Retry::Later(Some(Duration::MAX))), 0.0);
        assert_eq!(
            it.next(at(17)),
            Do::Wait(at(17) + limits::RETRY_AFTER_MAX),
            "clamped"
        );
        it.on_request(at(18));
        assert_eq!(
            it.next(at(18)),
            Do::Wait(at(77)),
            "a user waits for a minute"
        );
        let mut it = registrar(true);
        it.on_registered(at(0), Err(Retry::Later(Some(7 * S))), 0.0);
        assert_eq!(it.next(at(0)), Do::Wait(at(10)), "not before the minimum");
    }

    #[test]
    fn a_request_of_a_user_ends_a_wait_of_our_own() {
        let mut it = registrar(true);
        it.on_registered(at(0), Err(Retry::Slowly), 0.0);
        it.on_request(at(100));
        assert_eq!(it.next(at(100)), Do::Wait(at(110)));
        assert_eq!(it.next(at(110)), Do::Register);
    }

    #[test]
    fn fd_45_a_refusal_that_may_pass_is_asked_again_slowly_one_that_cannot_is_not() {
        let mut it = registrar(true);
        it.on_registered(at(0), Err(Retry::Slowly), 0.5);
        let Do::Wait(until) = it.next(at(0)) else {
            panic!()
        };
        assert!(until >= at(3600) && until <= at(3960), "{until:?}");
        assert_eq!(it.next(until), Do::Register);
        it.on_registered(until, Err(Retry::Never), 0.5);
        assert_eq!(it.next(until + 100_000 * S), Do::Stop);
    }

    #[test]
    fn s_reg_10_a_uuid_that_is_taken_is_ours_only_if_it_answers_to_our_key() {
        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::UuidTaken), 0.0);
        assert_eq!(it.next(at(0)), Do::Confirm);
        it.on_confirmed(at(0), Err(Retry::Later(None)), 0.0);
        assert_eq!(it.next(at(10)), Do::Confirm);
        it.on_confirmed(at(10), Ok(Confirmed::Ours), 0.0);
        assert_eq!(it.next(at(10)), Do::Settle);
    }

    #[test]
    fn s_reg_11_a_taken_key_is_replaced_and_kept_before_it_is_used() {
        let mut it = registrar(true);
        for _ in 0..limits::REGISTER_KEYS_MAX {
            it.on_registered(at(0), Ok(&Registered::KeyTaken), 0.0);
            it.on_confirmed(at(0), Ok(Confirmed::Unknown), 0.0);
            assert_eq!(it.next(at(0)), Do::DrawKey);
            it.on_drawn();
            assert_eq!(it.next(at(0)), Do::Keep);
            it.on_kept(at(0), true, 0.0);
            assert_eq!(it.next(at(0)), Do::Register);
        }
        // Whoever finds every random key taken is not asked in a loop.
        it.on_registered(at(0), Ok(&Registered::KeyTaken), 0.0);
        it.on_confirmed(at(0), Ok(Confirmed::Unknown), 0.0);
        assert_eq!(it.next(at(0)), Do::Wait(at(3600)));
    }

    #[test]
    fn r_reg_5_a_device_that_is_not_shown_keeps_its_key_while_its_uuid_is_taken() {
        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::UuidTaken), 0.0);
        it.on_confirmed(at(0), Ok(Confirmed::Unknown), 0.0);
        assert_eq!(it.next(at(0)), Do::Wait(at(10)));
        assert_eq!(it.next(at(10)), Do::Register);
    }

    #[test]
    fn s_reg_12_s_reg_13_another_key_is_replaced_if_we_may_and_never_the_uuid() {
        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::UuidTaken), 0.0);
        it.on_confirmed(at(0), Ok(Confirmed::OtherKey), 0.0);
        assert_eq!(it.next(at(0)), Do::GiveKey);
        it.on_key_given(at(0), Err(Retry::Later(None)), 0.0);
        assert_eq!(it.next(at(10)), Do::GiveKey);
        it.on_key_given(at(10), Ok(true), 0.0);
        assert_eq!(it.next(at(10)), Do::Settle);

        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::UuidTaken), 0.0);
        it.on_confirmed(at(0), Ok(Confirmed::OtherKey), 0.0);
        it.on_key_given(at(0), Ok(false), 0.0);
        assert_eq!(it.next(at(0)), Do::Stop);
    }

    #[test]
    fn s_reg_17_s_reg_18_an_echo_that_differs() {
        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::Another), 0.0);
        assert_eq!(it.next(at(0)), Do::Stop);

        let mut it = registrar(true);
        it.on_registered(at(0), Ok(&Registered::WithKey("k".into())), 0.0);
        assert_eq!(it.next(at(0)), Do::Keep, "kept first (R-REG-7)");
        it.on_kept(at(0), true, 0.0);
        assert_eq!(it.next(at(0)), Do::Settle);
    }

    #[test]
    fn s_reg_19_an_answer_that_cannot_be_read_leads_to_the_question_whose_device_it_is() {
        let mut it = registrar(true);
        it.on_registered(at(0), Err(Retry::Later(None)), 0.0);
        assert_eq!(it.next(at(10)), Do::Register);
        it.on_registered(at(10), Ok(&Registered::UuidTaken), 0.0);
        it.on_confirmed(at(10), Ok(Confirmed::Ours), 0.0);
        assert_eq!(it.next(at(10)), Do::Settle);
    }
}
