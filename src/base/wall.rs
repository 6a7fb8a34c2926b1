//! The wall clock.
//!
//! Not the standard library's: on 32-bit boards with musl its seconds have 32 bits, and to read a
//! clock that shows a time after January 2038 is a panic. Such a clock need not be right: one
//! whose battery is empty may show anything.

/// Seconds since the epoch by this machine's clock, which may be wrong.
#[must_use]
pub fn secs() -> i64 {
    rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec
}

#[cfg(test)]
mod tests {
    #[test]
    fn it_is_the_clock_of_the_system() {
        let shown = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
        let shown = i64::try_from(shown.as_secs()).unwrap();
        assert!((shown - super::secs()).abs() < 60);
    }
}
