//! As much of semantic versions as contracts use: comparisons joined by blanks, alternatives
//! by `||`, `^`, `~`, `x` and hyphen ranges.

/// A version without its build part. A pre-release counts as lower than its release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version {
    numbers: [u64; 3],
    released: bool,
}

/// The leading numbers of a partial version: `1`, `1.2`, `1.2.x`, `*`.
struct Partial {
    numbers: [u64; 3],
    given: usize,
    released: bool,
}

impl Version {
    /// Reads `1.2.3`, also without the last numbers; what follows a `+` is passed over.
    pub(super) fn parse(text: &str) -> Option<Version> {
        let partial = Partial::parse(text)?;
        (partial.given > 0).then_some(Version {
            numbers: partial.numbers,
            released: partial.released,
        })
    }
}

impl Partial {
    fn parse(text: &str) -> Option<Partial> {
        let text = text.trim().trim_start_matches(['v', '=']);
        let text = text.split('+').next().unwrap_or_default();
        let (numbers_text, tail) = text.split_once('-').map_or((text, ""), |(a, b)| (a, b));
        let mut numbers = [0; 3];
        let mut given = 0;
        for (at, part) in numbers_text.split('.').enumerate() {
            if matches!(part, "x" | "X" | "*") {
                break;
            }
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if !digits {
                return None;
            }
            // Versions of balenaOS may have a fourth number, which does not count.
            if let Some(place) = numbers.get_mut(at) {
                *place = part.parse().ok()?;
                given = at + 1;
            }
        }
        Some(Partial {
            numbers,
            given,
            released: tail.is_empty(),
        })
    }

    fn lowest(&self) -> Version {
        Version {
            numbers: self.numbers,
            released: self.released,
        }
    }

    /// The first version beyond all that agree in the first `kept` numbers.
    fn beyond(&self, kept: usize) -> Option<Version> {
        let mut numbers = [0; 3];
        numbers[..kept].copy_from_slice(&self.numbers[..kept]);
        let last = kept.checked_sub(1)?;
        numbers[last] = numbers[last].saturating_add(1);
        Some(Version {
            numbers,
            released: false,
        })
    }
}

/// At least the first, below the second.
type Span = (Option<Version>, Option<Version>);

/// A range of versions: one of the alternatives, all spans of it.
pub(super) struct Range(Vec<Vec<Span>>);

impl Range {
    /// Reads a range; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Range> {
        text.split("||")
            .map(alternative)
            .collect::<Option<_>>()
            .map(Range)
    }

    pub(super) fn contains(&self, version: &Version) -> bool {
        self.0.iter().any(|spans| {
            spans.iter().all(|(low, below)| {
                low.is_none_or(|low| *version >= low) && below.is_none_or(|below| *version < below)
            })
        })
    }
}

fn alternative(text: &str) -> Option<Vec<Span>> {
    if let Some((low, high)) = text.split_once(" - ") {
        let (low, high) = (Partial::parse(low)?, Partial::parse(high)?);
        return Some(vec![(Some(low.lowest()), after(&high))]);
    }
    let mut spans = Vec::new();
    let mut operator = "";
    for word in text.split_whitespace() {
        let number = word.trim_start_matches(['<', '>', '=', '^', '~']);
        let own = &word[..word.len() - number.len()];
        if number.is_empty() {
            operator = own; // `>= 1.2`
            continue;
        }
        let operator = if own.is_empty() {
            std::mem::take(&mut operator)
        } else {
            own
        };
        spans.push(span(operator, &Partial::parse(number)?)?);
    }
    operator.is_empty().then_some(spans)
}

/// The first version that a partial version no longer means.
fn after(partial: &Partial) -> Option<Version> {
    if partial.given == 3 {
        // Just above the version itself: its own numbers plus one in the last place.
        return Some(Version {
            numbers: [
                partial.numbers[0],
                partial.numbers[1],
                partial.numbers[2].saturating_add(1),
            ],
            released: false,
        });
    }
    partial.beyond(partial.given)
}

fn span(operator: &str, partial: &Partial) -> Option<Span> {
    let low = Some(partial.lowest());
    Some(match operator {
        "" | "=" => (low, after(partial)),
        ">=" => (low, None),
        "<" => (None, low),
        ">" if partial.given == 0 => (None, low), // above everything: nothing
        ">" => (after(partial), None),
        "<=" => (None, after(partial)),
        "~" => (low, partial.beyond(partial.given.min(2))),
        "^" => {
            let zeros = partial.numbers.iter().take_while(|n| **n == 0).count();
            let kept = (zeros + 1).min(partial.given.max(1)).min(3);
            (
                low,
                partial.beyond(if partial.given == 0 { 0 } else { kept }),
            )
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        #[rustfmt::skip]
        let cases = [
            (">=14", "19.0.5", true), (">=20", "19.0.5", false), (">7", "7.1.0", false), (">7", "8.0.0", true),
            ("<=7", "7.9.9", true), ("<7", "7.0.0", false), ("<7", "6.9.9", true),
            ("1.2", "1.2.9", true), ("1.2", "1.3.0", false), ("1.2.3", "1.2.3", true), ("1.2.3", "1.2.4", false),
            ("=1.2.3", "1.2.3+rev1", true), ("1.x", "1.9.0", true), ("*", "0.0.1", true), ("", "1.0.0", true),
            ("^1.2.3", "1.9.0", true), ("^1.2.3", "2.0.0", false), ("^0.2.3", "0.2.9", true), ("^0.2.3", "0.3.0", false),
            ("^0.0.3", "0.0.4", false), ("~1.2.3", "1.2.9", true), ("~1.2.3", "1.3.0", false), ("~1", "1.9.0", true),
            (">=1.2 <2", "1.5.0", true), (">=1.2 <2", "2.0.0", false), (">= 1.2", "1.5.0", true),
            ("1.0.0 - 2.0", "2.0.9", true), ("1.0.0 - 2.0", "2.1.0", false),
            ("<1 || >=3", "3.0.0", true), ("<1 || >=3", "2.0.0", false),
            (">=6.4.2", "6.4.2+rev1", true), (">=6.4.2", "6.4.2-rc1", false), ("<6.4.2", "6.4.2-rc1", true),
            (">*", "1.0.0", false), ("^*", "1.0.0", true), (">=4", "4.9.140-l4t-r32.3.1", true),
        ];
        for (range, version, want) in cases {
            let got = Range::parse(range)
                .unwrap()
                .contains(&Version::parse(version).unwrap());
            assert_eq!(got, want, "{range} of {version}");
        }
        for bad in ["new", ">=", "1..2", ">>1", "a || 1"] {
            assert!(Range::parse(bad).is_none(), "{bad}");
        }
    }
}
