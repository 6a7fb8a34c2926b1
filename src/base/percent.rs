//! Escapes of URLs (RFC 3986 2.1) and of forms. Pure.

use std::borrow::Cow;

/// The text with its `%XX` decoded; none when an escape is malformed or what
/// comes out is not UTF-8.
#[must_use]
pub fn percent_decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        bytes.push(match (first, tail) {
            (b'%', [high, low, ..]) => {
                rest = &tail[2..];
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%', _) => return None,
            (byte, _) => *byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

/// The pairs of a query, decoded: `+` is a space, and what is malformed stays
/// as it is.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (form_decode(key), form_decode(value))
        })
}

fn form_decode(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let text = text.replace('+', " ");
    Cow::Owned(percent_decode(&text).unwrap_or(text))
}

/// The text as a path segment or a query's value: all but letters, digits and
/// `-._~` escaped.
#[must_use]
pub fn percent_encode_segment(text: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        #[rustfmt::skip]
        let cases = [
            ("plain", Some("plain")), ("a%20b", Some("a b")), ("%e2%82%AC", Some("\u{20ac}")),
            ("a+b", Some("a+b")), ("%", None), ("%4", None), ("%4g", None), ("%+1", None), ("%ff", None),
        ];
        for (text, want) in cases {
            assert_eq!(percent_decode(text).as_deref(), want, "{text}");
        }
        for text in ["", "a b/c?d&e=f%", "\u{20ac}~-._"] {
            let encoded = percent_encode_segment(text);
            assert_eq!(percent_decode(&encoded).as_deref(), Some(text));
            assert!(
                encoded
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"%-._~".contains(&b))
            );
        }
    }

    #[test]
    fn queries() {
        let pairs = |query| {
            query_pairs(query)
                .map(|(k, v)| format!("{k}:{v}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            pairs("a=b&c=d%20e+f&&g&=h&i=j=k"),
            ["a:b", "c:d e f", "g:", ":h", "i:j=k"]
        );
        assert_eq!(pairs(""), [""; 0]);
        assert_eq!(pairs("%zz=%"), ["%zz:%"]);
    }
}
