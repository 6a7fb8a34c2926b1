//! HTTP dates, to and from seconds since the epoch. Pure.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];
const DAY_SECS: u64 = 24 * 3600;
/// From 1st March of the year 0 to the epoch.
const EPOCH_DAYS: u64 = 719_468;

/// The moment in the form of `Date`: `Sun, 06 Nov 1994 08:49:37 GMT`.
#[must_use]
pub fn format(epoch_secs: u64) -> String {
    let (days, secs) = (epoch_secs / DAY_SECS, epoch_secs % DAY_SECS);
    let (year, month, day) = civil(days);
    let name = DAYS.iter().cycle().nth((days % 7) as usize).unwrap_or(&"");
    let month = MONTHS.iter().nth(month as usize - 1).unwrap_or(&"");
    let (hour, minute, second) = (secs / 3600, secs / 60 % 60, secs % 60);
    format!("{name}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT")
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

/// Year, month and day of a day since the epoch (Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + EPOCH_DAYS;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = year + era * 400 + u64::from(month <= 2);
    (year, month, day - (153 * march_month + 2) / 5 + 1)
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
            assert_eq!(format(secs), text);
            assert_eq!(parse(text), Some(secs), "{text}");
        }
        for day in 0..60_000 {
            assert_eq!(parse(&format(day * DAY_SECS)), Some(day * DAY_SECS));
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
