//! Base64, padded: in the URL-safe alphabet, as `X-Registry-Auth` wants it (R-REG-AUTH-3), and
//! in the standard one.

const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

/// The text for `bytes` (RFC 4648 section 5).
#[must_use]
pub fn url_safe(bytes: &[u8]) -> String {
    encoded(bytes, *b"-_")
}

/// The same for Basic credentials (RFC 4648 section 4, RFC 7617).
#[must_use]
pub fn standard(bytes: &[u8]) -> String {
    encoded(bytes, *b"+/")
}

fn encoded(bytes: &[u8], last: [u8; 2]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(*group.get(index).unwrap_or(&0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for position in 0..4 {
            if position > group.len() {
                text.push('=');
            } else {
                let index = (bits >> (18 - 6 * position)) as usize & 63;
                let letter = ALPHABET.get(index).unwrap_or(&last[index & 1]);
                text.push(char::from(*letter));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4648_section_10_and_the_url_safe_letters() {
        #[rustfmt::skip]
        let cases: &[(&[u8], &str)] = &[
            (b"", ""), (b"f", "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="), (b"fooba", "Zm9vYmE="), (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xff\xfe", "-__-"),
        ];
        for (bytes, want) in cases {
            assert_eq!(url_safe(bytes), *want);
            let want = want.replace('-', "+").replace('_', "/");
            assert_eq!(standard(bytes), want);
        }
    }
}
