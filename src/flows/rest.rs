//! When the memory that only work needs is given back. Pure but for the giving.

use crate::base::thread;
use crate::base::uptime::Uptime;
use crate::limits;

/// Of one flow: what it did is the reason why there is something to give back.
#[derive(Debug)]
pub(super) struct Rest(Option<Uptime>);

impl Rest {
    /// The start was work.
    pub(super) fn new(now: Uptime) -> Rest {
        Rest(Some(now + limits::REST_AFTER))
    }

    /// Something was done.
    pub(super) fn stir(&mut self, now: Uptime) {
        *self = Rest::new(now);
    }

    /// When it is quiet enough, if nothing is done until then.
    pub(super) fn wake_at(&self) -> Uptime {
        self.0
            .unwrap_or_else(|| Uptime::from_start(std::time::Duration::MAX))
    }

    /// Call at [`Rest::wake_at`] or later.
    pub(super) fn on_time(&mut self, now: Uptime) {
        if self.0.take_if(|at| *at <= now).is_some() {
            thread::rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_rests_once_after_the_last_of_its_work() {
        let at = |secs| Uptime::from_start(std::time::Duration::from_secs(secs));
        let after = limits::REST_AFTER;
        let mut rest = Rest::new(at(0));
        assert_eq!(rest.wake_at(), at(0) + after);
        rest.stir(at(5));
        rest.on_time(at(6));
        assert_eq!(rest.wake_at(), at(5) + after, "it was too early");
        rest.on_time(at(5) + after);
        assert!(rest.wake_at() > at(u64::MAX / 2), "and not again");
        rest.stir(at(900));
        assert_eq!(rest.wake_at(), at(900) + after);
    }
}
