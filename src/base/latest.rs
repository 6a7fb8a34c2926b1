//! A shared value to look at and to await a change of.
//!
//! Readers look through a closure and copy nothing. Every change bumps a
//! version; whoever has seen an older one is woken.

use std::sync::{Mutex, MutexGuard};

use event_listener::{Event, listener};

use super::lock::lock;

/// One value, its version, and those who wait for the next.
#[derive(Debug, Default)]
pub struct Latest<T> {
    value: Mutex<(u64, T)>,
    changed: Event,
}

impl<T> Latest<T> {
    /// Version zero of `value`.
    pub const fn new(value: T) -> Latest<T> {
        Latest {
            value: Mutex::new((0, value)),
            changed: Event::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, (u64, T)> {
        lock(&self.value)
    }

    /// Looks at the value. The closure must be quick and must not await.
    pub fn look<R>(&self, see: impl FnOnce(&T) -> R) -> R {
        see(&self.lock().1)
    }

    /// Changes the value and wakes all who wait.
    pub fn change<R>(&self, set: impl FnOnce(&mut T) -> R) -> R {
        let mut guard = self.lock();
        guard.0 += 1;
        let result = set(&mut guard.1);
        drop(guard);
        self.changed.notify(usize::MAX);
        result
    }

    /// Changes the value; wakes only if `set` says that something is different.
    pub fn change_if(&self, set: impl FnOnce(&mut T) -> bool) -> bool {
        let mut guard = self.lock();
        let changed = set(&mut guard.1);
        if changed {
            guard.0 += 1;
            drop(guard);
            self.changed.notify(usize::MAX);
        }
        changed
    }

    /// The number of changes so far.
    pub fn version(&self) -> u64 {
        self.lock().0
    }

    /// Returns the version once it is newer than `seen`.
    pub async fn newer(&self, seen: u64) -> u64 {
        loop {
            listener!(self.changed => listener);
            let version = self.version();
            if version > seen {
                return version;
            }
            listener.await;
        }
    }
}

/// A mailbox of one: what is put in before it is taken adds up.
impl<T> Latest<Option<T>> {
    /// Takes the content once there is some. For one taker.
    pub async fn take(&self) -> T {
        loop {
            let seen = {
                let mut guard = self.lock();
                if let Some(content) = guard.1.take() {
                    return content;
                }
                guard.0
            };
            self.newer(seen).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn a_change_wakes_and_a_non_change_does_not() {
        let latest = Latest::new(1);
        block_on(async {
            let mut next = std::pin::pin!(latest.newer(0));
            assert_eq!(poll_once(&mut next).await, None);
            assert!(!latest.change_if(|_| false));
            assert_eq!(poll_once(&mut next).await, None);
            latest.change(|value| *value = 2);
            assert_eq!(next.await, 1);
            assert_eq!(latest.look(|value| *value), 2);
        });
    }

    #[test]
    fn a_mailbox_is_emptied_once_and_waits_for_the_next() {
        let mailbox = Latest::new(Some(1));
        block_on(async {
            assert_eq!(mailbox.take().await, 1);
            let mut next = std::pin::pin!(mailbox.take());
            assert_eq!(poll_once(&mut next).await, None);
            mailbox.change(|content| *content = Some(2));
            mailbox.change(|content| *content = content.map(|content| content + 1));
            assert_eq!(next.await, 3);
        });
    }
}
