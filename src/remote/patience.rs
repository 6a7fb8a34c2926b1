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
    /// Whether it is worth to ask again at once: no certificate could be judged by a clock
    /// that was not set, and now it is. Waits for that, without limit and without traffic.
    pub(super) async fn has_helped(&self, error: &Error) -> bool {
        let Some(clock) = self.0.as_ref().filter(|_| error.kind == ErrorKind::Tls) else {
            return false;
        };
        if clock.wall_secs() >= limits::CLOCK_FLOOR_SECS {
            return false;
        }
        let says = rfc3339(clock.wall_secs());
        log::warn!("clock not set (it says {says}): {error}; waiting until it is");
        while clock.wall_secs() < limits::CLOCK_FLOOR_SECS {
            clock.sleep_until(clock.now() + limits::CLOCK_LOOK).await;
        }
        log::info!("the clock is set: it says {}", rfc3339(clock.wall_secs()));
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
            *self.0.lock().unwrap() = at.since_start();
            Box::pin(async {})
        }
    }

    #[test]
    fn fd_30_s_net_06_in_1970_it_waits_for_the_clock_and_goes_on_within_10_s() {
        let set_at = Duration::from_secs(86_403);
        let clock = Arc::new(Stepped(Mutex::default(), set_at));
        let patience = Patience(Some(clock.clone()));
        let error = |kind| Error::new(kind, "its certificate is not valid yet");
        let helped = |kind| async_io::block_on(patience.has_helped(&error(kind)));
        assert!(!helped(ErrorKind::Connect), "nothing to do with the clock");
        assert!(helped(ErrorKind::Tls));
        let late = clock.now().since_start() - set_at;
        assert!(late < Duration::from_secs(10), "{late:?}");
        assert!(!helped(ErrorKind::Tls), "the clock is not the reason");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn fd_30_nobody_is_asked_while_the_clock_is_not_set() {
        use crate::http::client::{Endpoint, Timeouts};
        use crate::http::{tls::TlsRoots, url::Url};
        use crate::remote::Backend;
        use crate::world::remote::Remote as _;
        use std::net::TcpListener;
        use std::sync::atomic::{AtomicUsize, Ordering};

        const TIMES: Timeouts = Timeouts {
            resolve: Duration::from_secs(9),
            connect: Duration::from_secs(9),
            tls: Duration::from_secs(9),
            head: Duration::from_secs(9),
            idle: Duration::from_secs(9),
            total: None,
        };

        let asked = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, count) = (listener.local_addr().unwrap().port(), asked.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                drop(stream);
            }
        });
        let clock = Stepped(Mutex::default(), Duration::from_secs(86_400));
        let host = "127.0.0.1".to_owned();
        let roots = Arc::new(TlsRoots::load(None, None).unwrap());
        let endpoint = Endpoint::Tls { host, port, roots };
        let url = Url::parse("https://127.0.0.1").unwrap();
        let dir = std::env::temp_dir().join("helios-no-such-cache");
        let backend = Backend::new(&url, endpoint, TIMES, ("u", "k"), &dir);
        let backend = backend.with_clock(Arc::new(clock));
        let polled = async_io::block_on(backend.poll());
        assert!(polled.is_err());
        assert_eq!(
            asked.load(Ordering::SeqCst),
            2,
            "once in 1970, once with the clock set"
        );
    }
}
