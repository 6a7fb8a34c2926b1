//! A look at a document's shape before anything is built from it.
//!
//! One pass over the bytes, no allocation. Bounds depth, counts and lengths;
//! whether it is JSON at all is for the parser to say.

use crate::limits::TARGET_BYTES_MAX;

/// Nesting; a real target needs about 12.
const DEPTH_MAX: usize = 64;
/// Values in all, keys not counted.
const VALUES_MAX: usize = 200_000;
/// Members of one object or elements of one list.
const MEMBERS_MAX: u32 = 16 * 1024;
/// Bytes of one string or key. Linux takes no longer argument or variable than half of it.
const STRING_BYTES_MAX: usize = 256 * 1024;

/// Refuses documents that are out of proportion.
pub(super) fn check(body: &[u8]) -> Result<(), String> {
    if body.len() > TARGET_BYTES_MAX {
        return Err(format!("larger than {TARGET_BYTES_MAX} bytes"));
    }
    let mut members = [0_u32; DEPTH_MAX];
    let (mut depth, mut values) = (0_usize, 1_usize);
    let mut bytes = body.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => {
                let mut escaped = false;
                let end = bytes.find(|(_, byte)| {
                    let ends = !escaped && **byte == b'"';
                    escaped = !escaped && **byte == b'\\';
                    ends
                });
                if end.map_or(body.len(), |(end, _)| end) - at > STRING_BYTES_MAX {
                    return Err(format!("a string is longer than {STRING_BYTES_MAX} bytes"));
                }
            }
            b'{' | b'[' => {
                let Some(count) = members.get_mut(depth) else {
                    return Err(format!("nested deeper than {DEPTH_MAX}"));
                };
                *count = 1;
                depth += 1;
                values += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => {
                values += 1;
                if let Some(count) = depth.checked_sub(1).and_then(|at| members.get_mut(at)) {
                    *count += 1;
                    if *count > MEMBERS_MAX {
                        return Err(format!(
                            "an object or list has more than {MEMBERS_MAX} entries"
                        ));
                    }
                }
            }
            _ => {}
        }
        if values > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_proportion_is_refused() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        let listed = |n: usize| format!("[0{}]", ",0".repeat(n));
        let text = |n: usize| format!("\"{}\"", "\\\"".repeat(n / 2));
        #[rustfmt::skip]
        let cases = [
            (nested(DEPTH_MAX), None),
            (nested(1024 * 1024), Some("nested")),
            ("[".repeat(1024 * 1024), Some("nested")),
            (listed(1000), None),
            (listed(20_000), Some("entries")),
            (format!("[{0}{1}]", listed(16_000), format!(",{}", listed(16_000)).repeat(20)), Some("values")),
            (text(1000), None),
            (text(7 << 20), Some("string")),
            (" ".repeat(TARGET_BYTES_MAX), None),
            (" ".repeat(TARGET_BYTES_MAX + 1), Some("larger")),
            ("\"".to_owned(), None),
            ("]]]]".to_owned(), None),
        ];
        for (body, want) in cases {
            let got = check(body.as_bytes());
            let start = &body[..body.len().min(20)];
            match want {
                None => assert_eq!(got, Ok(()), "{start}"),
                Some(want) => assert!(got.unwrap_err().contains(want), "{start}"),
            }
        }
    }
}
