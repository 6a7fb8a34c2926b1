//! Polls, reports and registers from 1970 on, until the clock is set (FD-30).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_io::block_on;
use helios::base::lock::lock;
use helios::base::uptime::Uptime;
use helios::http::client::Endpoint;
use helios::http::tls::TlsRoots;
use helios::http::url::Url;
use helios::limits;
use helios::model::identity::{Record, RecordRemote, RecordRequest};
use helios::remote::Backend;
use helios::remote::register::{About, Registrar};
use helios::world::Pending;
use helios::world::clock::Clock;
use helios::world::registration::{Registered, Registration as _};
use helios::world::remote::{Polled, Remote as _};

use crate::serve::{KEY, PATIENT, Scratch, UUID};
use crate::wire::{CA, accept, secure};

const EARLY: &[u8] = include_bytes!("../../src/http/fixtures/early.pem");
const GOOD: &[u8] = include_bytes!("../../src/http/fixtures/good.pem");

/// Somebody sets it after a time; who sleeps by it is there at once.
struct Stepped {
    passed: Mutex<Duration>,
    set_at: Duration,
}

impl Stepped {
    fn is_set(&self) -> bool {
        *lock(&self.passed) >= self.set_at
    }
}

impl Clock for Stepped {
    fn now(&self) -> Uptime {
        Uptime::from_start(*lock(&self.passed))
    }

    fn wall_secs(&self) -> i64 {
        let passed = i64::try_from(lock(&self.passed).as_secs()).unwrap();
        match self.is_set() {
            true => limits::CLOCK_FLOOR_SECS + passed,
            false => passed,
        }
    }

    fn sleep_until(&self, at: Uptime) -> Pending<'_, ()> {
        *lock(&self.passed) = at.since_start();
        Box::pin(async {})
    }
}

/// A backend whose certificate is not valid yet until the clock is set, since what judges it is
/// the machine's own clock; how often it was asked.
fn backend(clock: &Arc<Stepped>, says: &'static str) -> (u16, Arc<AtomicUsize>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, asked) = (
        listener.local_addr().unwrap().port(),
        Arc::<AtomicUsize>::default(),
    );
    let (clock, count) = (clock.clone(), asked.clone());
    let (early, good) = (secure(EARLY), secure(GOOD));
    std::thread::spawn(move || {
        for tcp in listener.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            let config = if clock.is_set() { &good } else { &early };
            accept(tcp.unwrap(), Some(config), |_| says);
        }
    });
    (port, asked)
}

#[test]
fn fd_30_polls_reports_and_registers_within_seconds_of_the_clock_being_set() {
    let (day, cache) = (Duration::from_secs(24 * 3600 + 3), Scratch::new());
    let begin = |says| {
        let passed = Mutex::default();
        let clock = Arc::new(Stepped {
            passed,
            set_at: day,
        });
        let (port, asked) = backend(&clock, says);
        let roots = Arc::new(TlsRoots::load(Some(CA), None).unwrap());
        let url = Url::parse(&format!("https://127.0.0.1:{port}")).unwrap();
        let host = url.host().to_owned();
        (clock, asked, url, Endpoint::Tls { host, port, roots })
    };
    let ended = |clock: &Stepped, asked: &AtomicUsize| {
        let late = *lock(&clock.passed) - day;
        assert!(late <= Duration::from_secs(10), "{late:?}");
        // Once a quarter of an hour, should it be the clock that is right.
        let asked = asked.load(Ordering::SeqCst);
        assert!((2..=98).contains(&asked), "{asked}");
    };
    let device = |url: &Url, endpoint, clock: &Arc<Stepped>| {
        Backend::new(url, endpoint, PATIENT, (UUID, KEY), &cache.0).with_clock(clock.clone())
    };

    let (clock, asked, url, endpoint) =
        begin("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}");
    let poll = block_on(device(&url, endpoint, &clock).poll());
    assert!(matches!(poll, Ok(Polled::Changed(_))), "{poll:?}");
    ended(&clock, &asked);

    let (clock, asked, url, endpoint) =
        begin("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    block_on(device(&url, endpoint, &clock).report(b"{}")).unwrap();
    ended(&clock, &asked);

    let (clock, asked, url, endpoint) = begin(concat!(
        "HTTP/1.1 201 Created\r\nContent-Length: 95\r\nConnection: close\r\n\r\n",
        r#"{"id":1,"uuid":"c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1","api_key":"DeviceKeyC1C1C1C1C1C1C1C1C1C1C1C"}"#
    ));
    let record = Record {
        uuid: UUID.into(),
        fleet: Some(1),
        device_type: Some("generic-amd64".into()),
        remote: RecordRemote {
            api_endpoint: url.to_string(),
            api_key: KEY.into(),
            request: RecordRequest::default(),
        },
    };
    let roots = Box::new(|| Err("nobody asked for them".to_owned()));
    let registrar = Registrar::new(&url, (endpoint, PATIENT), roots, "pk", About::default());
    let came = block_on(registrar.with_clock(clock.clone()).register(&record));
    assert!(matches!(came, Ok(Registered::AsAsked)), "{came:?}");
    ended(&clock, &asked);
}
