//! What is done while the clock is not set (FD-30): a board without a battery starts in 1970,
//! where no certificate is valid yet. Nobody is asked in vain meanwhile, and who waits goes on
//! within seconds of the clock being set.

use std::sync::Arc;

use crate::base::date::rfc3339;
use crate::http::client::{Error, ErrorKind};
use crate::limits;
use crate::world::clock::Clock;

/// The clock, where there is one to look at.
#[derive(Clone, Default)]
pub(super) struct Patience(pub(super) Option<Arc<dyn Clock>>);

impl Patience {
    /// Whether it is worth to ask again at once: the certificate is not valid yet by a clock
    /// that is not set. Waits until it is, or for [`limits::CLOCK_PATIENCE`], without traffic.
    pub(super) async fn has_helped(&self, error: &Error) -> bool {
        let Some(clock) = self.0.as_ref().filter(|_| error.kind == ErrorKind::NotYet) else {
            return false;
        };
        let is_set = || clock.wall_secs() >= limits::CLOCK_FLOOR_SECS;
        if is_set() {
            return false;
        }
        let says = rfc3339(clock.wall_secs());
        log::warn!("clock not set (it says {says}): {error}; waiting until it is");
        let until = clock.now() + limits::CLOCK_PATIENCE;
        while !is_set() && clock.now() < until {
            clock.sleep_until(clock.now() + limits::CLOCK_LOOK).await;
        }
        if is_set() {
            log::info!("the clock is set: it says {}", rfc3339(clock.wall_secs()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use std::time::Duration;

    use crate::base::uptime::Uptime;
    use crate::world::Pending;

    /// In 1970 until its time has come, then stepped by 56 years.
    struct Stepped(Mutex<Duration>, Duration);

    impl Clock for Stepped {
        fn now(&self) -> Uptime {
            Uptime::from_start(*self.0.lock().unwrap())
        }

        fn wall_secs(&self) -> i64 {
            let now = *self.0.lock().unwrap();
            let stepped = if now >= self.1 {
                limits::CLOCK_FLOOR_SECS
            } else {
                0
            };
            stepped + i64::try_from(now.as_secs()).unwrap()
        }

        fn sleep_until(&self, at: Uptime) -> Pending<'_, ()> {
            let days = at.since_start().as_secs() / 86_400;
            assert!(days < 10, "this wait has no end");
            *self.0.lock().unwrap() = at.since_start();
            Box::pin(async {})
        }
    }

    #[test]
    fn fd_30_s_net_06_in_1970_it_waits_for_the_clock_and_goes_on_within_10_s() {
        let set_at = Duration::from_secs(603);
        let clock = Arc::new(Stepped(Mutex::default(), set_at));
        let patience = Patience(Some(clock.clone()));
        let error = |kind| Error::new(kind, "its certificate is not valid yet");
        let helped = |kind| async_io::block_on(patience.has_helped(&error(kind)));
        for kind in [ErrorKind::Connect, ErrorKind::Tls, ErrorKind::Timeout] {
            assert!(!helped(kind), "nothing to do with the clock");
        }
        assert!(helped(ErrorKind::NotYet));
        let late = clock.now().since_start() - set_at;
        assert!(late < Duration::from_secs(10), "{late:?}");
        assert!(!helped(ErrorKind::NotYet), "the clock is not the reason");
    }

    /// A clock that nobody ever sets does not keep a device from its backend for ever.
    #[test]
    fn fd_30_it_asks_again_now_and_then_by_a_clock_that_is_never_set() {
        let clock = Arc::new(Stepped(Mutex::default(), Duration::MAX));
        let patience = Patience(Some(clock.clone()));
        let error = Error::new(ErrorKind::NotYet, "it is not valid yet");
        for times in 1..4 {
            assert!(async_io::block_on(patience.has_helped(&error)));
            assert_eq!(clock.now().since_start(), times * limits::CLOCK_PATIENCE);
        }
    }
}
