//! Numbers with units: durations and byte sizes (target-state 2.6, 2.7).

/// A number written in decimal, exact: `digits / 10^scale`.
struct Decimal {
    digits: i128,
    scale: u32,
}

/// The decimal number at the start of `text`, and what stands behind it. Digits
/// that cannot matter are cut off; one that is too large is `None`.
fn decimal(text: &str) -> Option<(Decimal, &str)> {
    const SCALE_MAX: u32 = 18;
    let mut digits: i128 = 0;
    let mut scale = 0;
    let mut behind_point = false;
    let mut seen = false;
    let mut end = text.len();
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'0'..=b'9' => {
                seen = true;
                if behind_point && scale == SCALE_MAX {
                    continue;
                }
                digits = digits * 10 + i128::from(byte - b'0');
                scale += u32::from(behind_point);
                // Far above any limit, far below an overflow of the steps that follow.
                if digits > 10_i128.pow(19 + SCALE_MAX) / 10_i128.pow(SCALE_MAX - scale) {
                    return None;
                }
            }
            b'.' if !behind_point => behind_point = true,
            _ => {
                end = at;
                break;
            }
        }
    }
    seen.then(|| (Decimal { digits, scale }, &text[end..]))
}

/// A duration such as `1m30s` in nanoseconds; the sign is kept (target-state 2.7).
pub(super) fn nanoseconds(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (number, behind) = decimal(rest)?;
        let len = behind
            .find(|c: char| !c.is_ascii_lowercase())
            .unwrap_or(behind.len());
        let unit: i128 = match &behind[..len] {
            "ns" => 1,
            "us" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        total += scaled(&number, unit)?;
        // So that no sum of them overflows.
        i64::try_from(total).ok()?;
        rest = &behind[len..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// `number * unit`, cut toward zero.
fn scaled(number: &Decimal, unit: i128) -> Option<i128> {
    Some(number.digits.checked_mul(unit)? / 10_i128.pow(number.scale))
}

/// A size such as `1.5 GiB` in bytes, rounded, halves up (target-state 2.6).
pub(super) fn bytes(text: &str) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let (number, unit) = decimal(text)?;
    if text[..text.len() - unit.len()].ends_with('.') {
        return None;
    }
    let unit = unit.strip_prefix(' ').unwrap_or(unit).to_ascii_lowercase();
    let power = match unit.as_bytes().first() {
        None | Some(b'b') => 0,
        Some(b'k') => 1,
        Some(b'm') => 2,
        Some(b'g') => 3,
        Some(b't') => 4,
        Some(b'p') => 5,
        Some(b'e') => 6,
        Some(_) => return None,
    };
    let rest = unit.get(1..).unwrap_or_default();
    if !(rest.is_empty() || (power > 0 && matches!(rest, "b" | "ib" | "i"))) {
        return None;
    }
    let unit = 1024_i128.pow(power);
    let ten = 10_i128.pow(number.scale);
    // Within range if the whole part is; else the product could overflow.
    if number.digits / ten > i128::from(i64::MAX) / unit {
        return None;
    }
    let (whole, part) = (number.digits / ten, number.digits % ten);
    let rounded = whole * unit + (2 * part * unit + ten) / (2 * ten);
    i64::try_from(rounded).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ts_2_7_durations() {
        #[rustfmt::skip]
        let cases = [
            ("0", Some(0)), ("1s", Some(1_000_000_000)), ("1m30s", Some(90_000_000_000)),
            (".5s", Some(500_000_000)), ("5.s", Some(5_000_000_000)), ("1.9s", Some(1_900_000_000)),
            ("750ms", Some(750_000_000)), ("-1s", Some(-1_000_000_000)), ("+1us", Some(1_000)),
            ("2h", Some(7_200_000_000_000)), ("7ns", Some(7)), ("-0", Some(0)),
            ("0.1234567891234567891s", Some(123_456_789)),
            ("", None), ("5", None), ("1d", None), ("1 s", None), ("s", None), ("1S", None),
            ("1µs", None), ("-", None), ("1s ", None), (".s", None), ("1..5s", None),
            ("9223372036855s", None), ("99999999999999999999999999999999999999999999h", None),
            ("2562047h48m", None), ("1e3s", None), ("ns", None), ("1ss", None),
        ];
        for (text, want) in cases {
            assert_eq!(nanoseconds(text), want, "{text}");
        }
    }

    #[test]
    fn ts_2_6_byte_sizes() {
        #[rustfmt::skip]
        let cases = [
            ("0", Some(0)), ("1073741824", Some(1 << 30)), ("64m", Some(64 << 20)),
            ("64M", Some(64 << 20)), ("1 GiB", Some(1 << 30)), ("1gi", Some(1 << 30)),
            ("2kb", Some(2048)), ("7b", Some(7)), ("0.5", Some(1)), ("0.7k", Some(717)),
            ("1.5k", Some(1536)), ("0.49", Some(0)), ("7e", Some(7 << 60)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None), ("8e", None), ("", None), ("k", None), ("-64m", None),
            ("64q", None), ("1bb", None), ("1bib", None), ("1  k", None), (" 1", None), ("1 ", Some(1)),
            ("1.", None), (".5k", None), ("1.k", None), ("1,5k", None), ("1e3k", None), ("1kk", None),
        ];
        for (text, want) in cases {
            assert_eq!(bytes(text), want, "{text}");
        }
    }
}
