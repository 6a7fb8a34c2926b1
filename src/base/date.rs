//! The one form in which times are shown: RFC 3339, UTC, `+00:00` (state-engine 1.1).

/// `1970-01-01T00:00:00+00:00` and so on, for seconds since the epoch.
#[must_use]
pub fn rfc3339(secs: i64) -> String {
    let (days, second) = (secs.div_euclid(86_400), secs.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

/// Year, month and day of a day since the epoch, in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of the year 0, so that the leap day is a year's last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// An engine's time stamp in our form: `Z` becomes `+00:00`, and a fraction has 3, 6
/// or 9 digits. Anything else is returned as it is.
#[must_use]
pub fn normalised(stamp: &str) -> String {
    let Some(rest) = stamp.strip_suffix('Z') else {
        return stamp.to_owned();
    };
    let Some((whole, fraction)) = rest.split_once('.') else {
        return format!("{rest}+00:00");
    };
    let fraction = fraction.trim_end_matches('0');
    let digits = fraction.len().div_ceil(3) * 3;
    match digits {
        0 => format!("{whole}+00:00"),
        digits => format!("{whole}.{fraction:0<digits$}+00:00"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_days() {
        #[rustfmt::skip]
        let cases = [
            (0, "1970-01-01T00:00:00+00:00"),
            (951_782_400, "2000-02-29T00:00:00+00:00"),
            (1_795_392_000 - 1, "2026-11-22T23:59:59+00:00"),
            (-1, "1969-12-31T23:59:59+00:00"),
            (253_402_300_799, "9999-12-31T23:59:59+00:00"),
        ];
        for (secs, want) in cases {
            assert_eq!(rfc3339(secs), want);
        }
    }

    #[test]
    fn stamps_of_the_engine() {
        #[rustfmt::skip]
        let cases = [
            ("2026-03-01T08:00:00.12Z", "2026-03-01T08:00:00.120+00:00"),
            ("2026-03-01T08:00:00.123456789Z", "2026-03-01T08:00:00.123456789+00:00"),
            ("2026-03-01T08:00:00.1000Z", "2026-03-01T08:00:00.100+00:00"),
            ("2026-03-01T08:00:00Z", "2026-03-01T08:00:00+00:00"),
            ("2026-03-01T08:00:00.000Z", "2026-03-01T08:00:00+00:00"),
            ("nonsense", "nonsense"),
        ];
        for (stamp, want) in cases {
            assert_eq!(normalised(stamp), want);
        }
    }
}
