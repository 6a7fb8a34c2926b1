//! Locks that nobody leaves poisoned.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks. A panic aborts the program, so a poisoned lock is never seen by another
/// thread; going on with the value is right in tests.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
