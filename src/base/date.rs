//! Times: shown as RFC 3339, UTC, `+00:00` (state-engine 1.1), and HTTP's form of
//! them both ways (RFC 9110 5.6.7). Pure.

use std::fmt;

const DAY_SECS: u64 = 24 * 3600;
/// From 1 March of the year 0 to the epoch.
const EPOCH_DAYS: u64 = 719_468;

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
    let shifted = days + EPOCH_DAYS.cast_signed();
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

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Seconds since the epoch; shows as in `Date`: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HttpDate(pub u64);

impl fmt::Display for HttpDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, secs) = (self.0 / DAY_SECS, self.0 % DAY_SECS);
        let (year, month, day) = civil(days.cast_signed());
        let nth = |names: &[&'static str], at: u64| {
            usize::try_from(at)
                .ok()
                .and_then(|at| names.get(at).copied())
                .unwrap_or("")
        };
        let (name, month) = (nth(&DAYS, days % 7), nth(&MONTHS, month.unsigned_abs() - 1));
        let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
        write!(
            f,
            "{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT"
        )
    }
}

/// The moment such a text names; other, older forms are not understood.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let bytes = text.as_bytes();
    let fixed = [
        (3, b","),
        (4, b" "),
        (7, b" "),
        (11, b" "),
        (16, b" "),
        (19, b":"),
        (22, b":"),
    ];
    if bytes.len() != 29 || !text.ends_with(" GMT") || !DAYS.contains(&text.get(..3)?) {
        return None;
    }
    if fixed.iter().any(|(at, mark)| bytes[*at] != mark[0]) {
        return None;
    }
    let month = 1 + MONTHS
        .iter()
        .position(|name| Some(*name) == text.get(8..11))? as u64;
    let (year, day) = (number(&bytes[12..16])?, number(&bytes[5..7])?);
    let (hour, minute) = (number(&bytes[17..19])?, number(&bytes[20..22])?);
    let second = number(&bytes[23..25])?;
    if year < 1970 || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    Some(days_to(year, month, day) * DAY_SECS + hour * 3600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Days since the epoch (Hinnant's `days_from_civil`).
fn days_to(year: u64, month: u64, day: u64) -> u64 {
    let year = year - u64::from(month <= 2);
    let (era, year) = (year / 400, year % 400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - EPOCH_DAYS
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

    #[test]
    fn dates_go_both_ways() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_107_542_399, "Sun, 28 Feb 2100 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
        ];
        for (secs, text) in cases {
            assert_eq!(HttpDate(secs).to_string(), text);
            assert_eq!(parse(text), Some(secs), "{text}");
        }
        for day in 0..60_000 {
            assert_eq!(
                parse(&HttpDate(day * DAY_SECS).to_string()),
                Some(day * DAY_SECS)
            );
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        #[rustfmt::skip]
        let cases = [
            "", "120", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994",
            "Sun, 06 Nov 1994 08:49:37 UTC", "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 1969 08:49:37 GMT", "Sun, 06 N\u{e9}v 1994 8:49:37 GMT",
            "Xyz, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08-49-37 GMT",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
