//! How long to wait before the next try. Pure: the jitter is drawn by the caller.

use std::time::Duration;

/// Exponential back-off with a ceiling (D-19, R-POLL-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    base: Duration,
    ceiling: Duration,
    failures: u32,
    /// Each delay is two to the power of this times the former one.
    growth: u32,
}

impl Backoff {
    /// No failure yet. The first delay is around `base`, none is longer than `ceiling`.
    #[must_use]
    pub const fn new(base: Duration, ceiling: Duration) -> Backoff {
        Backoff {
            base,
            ceiling,
            failures: 0,
            growth: 1,
        }
    }

    /// The same where each delay is four times the former one: for many that fail at once and are
    /// to come back one by one.
    #[must_use]
    pub const fn steep(base: Duration, ceiling: Duration) -> Backoff {
        Backoff {
            growth: 2,
            ..Backoff::new(base, ceiling)
        }
    }

    /// Tries that failed in a row.
    #[must_use]
    pub const fn failures(self) -> u32 {
        self.failures
    }

    /// Forgets all failures.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }

    /// Notes one more failure and says how long to wait: half of the full delay
    /// for certain, the other half times `chance`, which is in `[0, 1)`.
    pub fn failed(&mut self, chance: f64) -> Duration {
        let full = self
            .base
            .saturating_mul(1 << (self.growth * self.failures.min(20)).min(20))
            .min(self.ceiling);
        self.failures = self.failures.saturating_add(1);
        full / 2 + (full / 2).mul_f64(chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    #[test]
    fn fd_17_delays_double_up_to_the_ceiling_and_reset() {
        let mut backoff = Backoff::new(10 * S, 60 * S);
        let delays: Vec<_> = (0..5).map(|_| backoff.failed(1.0)).collect();
        assert_eq!(delays, [10 * S, 20 * S, 40 * S, 60 * S, 60 * S]);
        backoff.reset();
        assert_eq!(backoff.failed(0.0), 5 * S);
        let mut steep = Backoff::steep(10 * S, 900 * S);
        let delays: Vec<_> = (0..5).map(|_| steep.failed(1.0)).collect();
        assert_eq!(delays, [10 * S, 40 * S, 160 * S, 640 * S, 900 * S]);
    }

    #[test]
    fn never_ends_and_never_overflows() {
        let mut backoff = Backoff::new(30 * S, 900 * S);
        for _ in 0..10_000 {
            assert!(backoff.failed(0.5) <= 900 * S);
        }
    }
}
