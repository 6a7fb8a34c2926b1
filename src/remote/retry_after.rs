//! `Retry-After` in both its forms (RFC 9110 section 10.2.3, R-POLL-2). Pure.

use std::time::Duration;

/// How long to wait. A date counts from the answer's own `Date`, so that a wrong
/// clock of ours does not matter; without one it counts from `now`, our own clock in
/// seconds. What is past is no wait; one beyond all measure is as long as can be said.
#[must_use]
pub fn parse(value: &str, date: Option<&str>, now: i64) -> Option<Duration> {
    let value = value.trim();
    let digits = value.strip_prefix('-').unwrap_or(value);
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        let secs = if value == digits {
            digits.parse().unwrap_or(u64::MAX)
        } else {
            0
        };
        return Some(Duration::from_secs(secs));
    }
    let until = http_date(value)?;
    let now = date.and_then(|date| http_date(date.trim())).unwrap_or(now);
    Some(Duration::from_secs(u64::try_from(until - now).unwrap_or(0)))
}

/// The IMF-fixdate, RFC 850 and asctime forms, as seconds since the epoch.
fn http_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text
        .split([' ', '-', ','])
        .filter(|part| !part.is_empty())
        .collect();
    let (day, month, year, time) = match parts.as_slice() {
        [_, day, month, year, time, "GMT"] => (*day, *month, *year, *time),
        [_, month, day, time, year] => (*day, *month, *year, *time),
        _ => return None,
    };
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let month = MONTHS
        .find(month)
        .filter(|at| at % 3 == 0 && month.len() == 3)?
        / 3
        + 1;
    let number = |text: &str| {
        let digits =
            !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (day, mut year) = (number(day)?, number(year)?);
    if year < 100 {
        year += if year < 70 { 2000 } else { 1900 };
    }
    let mut clock = time.split(':').map(number);
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    if clock.next().is_some() || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    Some(days(year, i64::try_from(month).ok()?, day) * 86_400 + hour * 3600 + minute * 60 + second)
}

/// Days since the epoch of a Gregorian date.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_poll_2_s_poll_15_s_poll_16_s_poll_17_both_forms() {
        let date = Some("Sun, 06 Nov 1994 08:49:37 GMT");
        // Our own clock is two years off, which only counts where the answer has no date.
        let now = 784_111_777 - 2 * 365 * 86_400;
        #[rustfmt::skip]
        let cases = [
            ("120", None, Some(120)),
            ("0", None, Some(0)),
            ("-5", None, Some(0)),
            ("99999999999", None, Some(99_999_999_999)),
            ("99999999999999999999999", None, Some(u64::MAX)),
            ("+5", None, None),
            ("1.5", None, None),
            ("abc", None, None),
            ("-", None, None),
            ("Sun, 06 Nov 1994 08:49:57 GMT", date, Some(20)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", date, Some(60)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", date, Some(60)),
            ("Sun Nov  6 08:50:37 1994", date, Some(60)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", date, Some(0)),
            ("Sat, 07 Nov 1992 08:49:57 GMT", None, Some(86_420)),
            ("Sat, 07 Nov 1992 08:49:57 GMT", Some("noon"), Some(86_420)),
            ("Sun, 06 Foo 1994 08:50:37 GMT", date, None),
            ("", date, None),
        ];
        for (value, date, want) in cases {
            let want = want.map(Duration::from_secs);
            assert_eq!(parse(value, date, now), want, "{value}");
        }
    }
}
