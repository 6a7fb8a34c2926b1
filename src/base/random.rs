//! Random values: kind ones for jitter, strong ones for keys.

use std::time::Duration;

/// Uniform in `[0, max]`. For spreading load, never for secrets.
#[must_use]
pub fn jitter(max: Duration) -> Duration {
    let nanos = u64::try_from(max.as_nanos()).unwrap_or(u64::MAX);
    Duration::from_nanos(fastrand::u64(0..=nanos))
}

/// `bytes` bytes from the operating system's generator, as lower-case hex.
///
/// # Errors
/// When the system has no randomness to give, which a caller cannot repair.
pub fn hex(bytes: usize) -> std::io::Result<String> {
    let mut raw = vec![0; bytes];
    getrandom::getrandom(&mut raw).map_err(|err| std::io::Error::other(err.to_string()))?;
    Ok(super::hash::to_hex(&raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_below_its_maximum() {
        for _ in 0..1000 {
            assert!(jitter(Duration::from_millis(3)) <= Duration::from_millis(3));
        }
        assert_eq!(jitter(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn strong_values_differ_and_have_their_length() {
        let (one, two) = (hex(16).unwrap(), hex(16).unwrap());
        assert_eq!((one.len(), two.len()), (32, 32));
        assert_ne!(one, two);
    }
}
