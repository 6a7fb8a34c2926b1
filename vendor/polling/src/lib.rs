//! Waits for events of descriptors, for `async-io` and on Linux only.
//!
//! A wait is one system call. The crate whose place this takes needs five: it sets a timer's
//! descriptor and arms it again for each wait, and reads and arms that by which it is notified.
//! Here the time goes with the call, in whole milliseconds, and whoever notifies is told apart by
//! an edge, so that nothing has to be read.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io::Errno;

/// Events that one wait tells of; the others are told by the next.
const EVENTS_MAX: usize = 64;
/// The longest wait, in milliseconds; a longer one ends early, with no event.
const WAIT_MS_MAX: i64 = 24 * 3600 * 1000;
/// The key of whoever notifies.
const NOTIFIED: u64 = u64::MAX;

/// What someone waits for, or what there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Whose it is.
    pub key: usize,
    /// Something can be read, or the end.
    pub readable: bool,
    /// Something can be written, or told that it cannot.
    pub writable: bool,
}

impl Event {
    /// Neither.
    #[must_use]
    pub const fn none(key: usize) -> Event {
        Event {
            key,
            readable: false,
            writable: false,
        }
    }

    /// Told once, and then not before it is asked for again.
    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::ONESHOT;
        flags.set(
            EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP,
            self.readable,
        );
        flags.set(EventFlags::OUT, self.writable);
        flags
    }

    /// An end, and a failure, is for whoever waits.
    fn of(event: epoll::Event) -> Event {
        let flags = event.flags;
        let both = EventFlags::HUP | EventFlags::ERR;
        let readable = both | EventFlags::IN | EventFlags::PRI | EventFlags::RDHUP;
        Event {
            // It was a `usize` before.
            key: usize::try_from(event.data.u64()).unwrap_or(usize::MAX),
            readable: flags.intersects(readable),
            writable: flags.intersects(both | EventFlags::OUT),
        }
    }
}

/// The events of one wait.
pub struct Events(Vec<epoll::Event>);

// SAFETY: the pointer that keeps it from being so is one of two names for a key; here it is a
// number, which was put in and is taken out as such.
unsafe impl Send for Events {}

impl Events {
    /// Room for what one wait tells of.
    #[must_use]
    pub fn new() -> Events {
        Events(Vec::with_capacity(EVENTS_MAX))
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Event> + '_ {
        self.0.iter().map(|event| Event::of(*event))
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl Default for Events {
    fn default() -> Events {
        Events::new()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Where descriptors are waited for.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    bell: OwnedFd,
    /// The bell was rung, and whoever waits was not told yet.
    is_rung: AtomicBool,
}

impl Poller {
    /// One with nothing to wait for.
    ///
    /// # Errors
    /// The system has no more descriptors.
    pub fn new() -> io::Result<Poller> {
        let poller = Poller {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            bell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            is_rung: AtomicBool::new(false),
        };
        let (key, edge) = (
            EventData::new_u64(NOTIFIED),
            EventFlags::IN | EventFlags::ET,
        );
        epoll::add(&poller.epoll, &poller.bell, key, edge)?;
        Ok(poller)
    }

    /// Begins to wait for a descriptor.
    ///
    /// # Errors
    /// It is no descriptor that can be waited for, is here already, or there are too many.
    ///
    /// # Safety
    /// The descriptor must be open, and stay so until it is deleted here.
    pub unsafe fn add(&self, source: RawFd, interest: Event) -> io::Result<()> {
        // SAFETY: it is open, as the caller promises.
        let source = unsafe { BorrowedFd::borrow_raw(source) };
        let key = EventData::new_u64(interest.key as u64);
        Ok(epoll::add(&self.epoll, source, key, interest.flags())?)
    }

    /// Waits for something else, or for the same again.
    ///
    /// # Errors
    /// It is not here.
    pub fn modify(&self, source: impl AsFd, interest: Event) -> io::Result<()> {
        let key = EventData::new_u64(interest.key as u64);
        Ok(epoll::modify(&self.epoll, source, key, interest.flags())?)
    }

    /// Waits for it no more.
    ///
    /// # Errors
    /// It is not here.
    pub fn delete(&self, source: impl AsFd) -> io::Result<()> {
        Ok(epoll::delete(&self.epoll, source)?)
    }

    /// Waits for events, for so long at most, or until notified; how many there are. Without a
    /// time, for ever.
    ///
    /// # Errors
    /// A signal came, with [`io::ErrorKind::Interrupted`].
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        let timeout = timeout.map(whole);
        events.clear();
        epoll::wait(&self.epoll, spare_capacity(&mut events.0), timeout.as_ref())?;
        events.0.retain(|event| {
            let is_bell = event.data.u64() == NOTIFIED;
            if is_bell {
                // Who finds it rung before this has said before this what for.
                self.is_rung.swap(false, Ordering::SeqCst);
            }
            !is_bell
        });
        Ok(events.0.len())
    }

    /// Ends the wait, or the next one if there is none.
    ///
    /// # Errors
    /// None that is known of.
    pub fn notify(&self) -> io::Result<()> {
        if self.is_rung.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        match rustix::io::write(&self.bell, &1_u64.to_ne_bytes()) {
            // It is never read and counts on: full after more rings than a device lives for.
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// In whole milliseconds, and not before the time: whoever is woken early waits again, in circles.
fn whole(timeout: Duration) -> Timespec {
    let ms = timeout.as_nanos().div_ceil(1_000_000);
    let ms = i64::try_from(ms).unwrap_or(i64::MAX).min(WAIT_MS_MAX);
    Timespec {
        tv_sec: ms / 1000,
        tv_nsec: ms % 1000 * 1_000_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    const NOW: Option<Duration> = Some(Duration::ZERO);
    const LONG: Option<Duration> = Some(Duration::from_secs(20));
    /// By then whoever waits so long was not told.
    const LATE: Duration = Duration::from_secs(15);

    fn asked(readable: bool, writable: bool) -> Event {
        Event {
            key: 7,
            readable,
            writable,
        }
    }

    fn told(poller: &Poller, timeout: Option<Duration>) -> Vec<Event> {
        let mut events = Events::new();
        let count = poller.wait(&mut events, timeout).unwrap();
        let events: Vec<_> = events.iter().collect();
        assert_eq!(events.len(), count);
        events
    }

    fn pair(poller: &Poller) -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        // SAFETY: each test keeps it open while it waits.
        unsafe { poller.add(ours.as_raw_fd(), Event::none(7)) }.unwrap();
        (ours, theirs)
    }

    #[test]
    fn an_event_is_told_once_for_each_time_that_it_is_asked_for() {
        let poller = Poller::new().unwrap();
        let (mut ours, mut theirs) = pair(&poller);
        assert_eq!(told(&poller, NOW), []);
        theirs.write_all(b"ab").unwrap();
        assert_eq!(told(&poller, NOW), [], "nobody asked");
        for _ in 0..3 {
            poller.modify(&ours, asked(true, false)).unwrap();
            assert_eq!(told(&poller, LONG), [asked(true, false)]);
            assert_eq!(told(&poller, NOW), []);
        }
        poller.modify(&ours, asked(true, true)).unwrap();
        assert_eq!(told(&poller, LONG), [asked(true, true)]);
        ours.read_exact(&mut [0; 2]).unwrap();
        poller.modify(&ours, asked(true, false)).unwrap();
        assert_eq!(told(&poller, NOW), []);
        drop(theirs);
        let end = told(&poller, LONG);
        assert!(end[0].readable, "{end:?}");
        poller.delete(&ours).unwrap();
        assert!(poller.modify(&ours, asked(true, true)).is_err());
    }

    #[test]
    fn a_notice_ends_the_wait_or_the_next_one_each_time() {
        let poller = Poller::new().unwrap();
        let began = Instant::now();
        for _ in 0..1000 {
            poller.notify().unwrap();
            poller.notify().unwrap();
            assert_eq!(told(&poller, LONG), []);
            assert!(began.elapsed() < LATE, "it was not told");
        }
        let (began, timeout) = (Instant::now(), Duration::from_millis(3));
        assert_eq!(told(&poller, Some(timeout)), []);
        assert!(began.elapsed() >= timeout, "an old notice ends it");
        let began = Instant::now();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| told(&poller, LONG));
            poller.notify().unwrap();
            assert_eq!(waits.join().unwrap(), []);
        });
        assert!(began.elapsed() < LATE, "it was not told");
    }

    #[test]
    fn no_notice_is_lost_between_two_threads() {
        let poller = Poller::new().unwrap();
        let (said, heard) = (AtomicBool::new(false), AtomicBool::new(false));
        let began = Instant::now();
        let is_late = || began.elapsed() > LATE;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    said.store(true, Ordering::SeqCst);
                    poller.notify().unwrap();
                    while !heard.swap(false, Ordering::SeqCst) && !is_late() {
                        std::thread::yield_now();
                    }
                }
            });
            for _ in 0..20_000 {
                while !said.swap(false, Ordering::SeqCst) {
                    told(&poller, LONG);
                    assert!(!is_late(), "one is lost");
                }
                heard.store(true, Ordering::SeqCst);
            }
        });
    }

    #[test]
    fn more_events_than_one_wait_tells_of_come_with_the_next() {
        let poller = Poller::new().unwrap();
        let pairs: Vec<_> = (0..EVENTS_MAX + 10).map(|_| pair(&poller)).collect();
        for (ours, _) in &pairs {
            poller.modify(ours, asked(false, true)).unwrap();
        }
        assert_eq!(told(&poller, LONG).len(), EVENTS_MAX);
        assert_eq!(told(&poller, LONG).len(), 10);
        assert_eq!(told(&poller, NOW), []);
    }

    #[test]
    fn a_wait_does_not_end_before_its_time() {
        let ms = |timeout: Duration| {
            let whole = whole(timeout);
            whole.tv_sec * 1000 + whole.tv_nsec / 1_000_000
        };
        assert_eq!(ms(Duration::ZERO), 0);
        assert_eq!(ms(Duration::from_nanos(1)), 1);
        assert_eq!(ms(Duration::from_micros(1001)), 2);
        assert_eq!(ms(Duration::from_millis(2999)), 2999);
        assert_eq!(ms(Duration::MAX), WAIT_MS_MAX);
        let (poller, timeout) = (Poller::new().unwrap(), Duration::from_micros(1100));
        let began = Instant::now();
        assert_eq!(told(&poller, Some(timeout)), []);
        assert!(began.elapsed() >= timeout);
    }
}
