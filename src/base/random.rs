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

/// A version 4 UUID (RFC 9562 5.4) without dashes.
///
/// # Errors
/// As [`hex`].
pub fn uuid() -> std::io::Result<String> {
    let mut text = hex(16)?;
    text.replace_range(12..13, "4");
    let variant = match text.as_bytes()[16] % 4 {
        0 => "8",
        1 => "9",
        2 => "a",
        _ => "b",
    };
    text.replace_range(16..17, variant);
    Ok(text)
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

    #[test]
    fn uuids_are_of_version_4() {
        for _ in 0..100 {
            let uuid = uuid().unwrap();
            assert_eq!((uuid.len(), &uuid[12..13]), (32, "4"), "{uuid}");
            assert!("89ab".contains(&uuid[16..17]), "{uuid}");
        }
    }
}
