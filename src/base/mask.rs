//! Secrets out of log lines (state-engine 1.6, W-33, D-31).

/// A value under such a key is never shown.
const SECRET_KEYS: &[&str] = &[
    "auth", "card", "cert", "cookie", "cred", "cvv", "cvc", "email", "e-mail", "e_mail", "key",
    "pass", "phone", "pin", "private", "secret", "session", "ssn", "token", "bearer", "salt",
    "hash",
];

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// Whether the name of a variable says that its value is a secret.
#[must_use]
pub fn is_secret_key(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    SECRET_KEYS.iter().any(|secret| key.contains(secret))
}

/// `text` with the password of every `scheme://user:password@` in it, and every
/// value behind `Bearer `, `Basic ` or `apikey=`, replaced by [`MASK`].
#[must_use]
pub fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, len)) = next_secret(rest) {
        out.push_str(&rest[..at]);
        out.push_str(MASK);
        rest = &rest[at + len..];
    }
    out.push_str(rest);
    out
}

/// Where the first secret of `text` is, and how long.
fn next_secret(text: &str) -> Option<(usize, usize)> {
    let behind_word = ["Bearer ", "Basic ", "apikey=", "ApiKey "]
        .iter()
        .filter_map(|word| {
            let at = text.find(word)? + word.len();
            let len = text[at..].find(|c: char| c.is_whitespace() || "\"'&,;".contains(c));
            Some((at, len.unwrap_or(text.len() - at)))
        });
    behind_word
        .chain(password(text))
        .filter(|(_, len)| *len > 0)
        .min()
}

/// The password of the first URL that has one.
fn password(text: &str) -> Option<(usize, usize)> {
    let mut from = 0;
    while let Some(scheme) = text[from..].find("://") {
        let start = from + scheme + 3;
        let end = text[start..]
            .find(|c: char| c.is_whitespace() || "/?#\"'".contains(c))
            .map_or(text.len(), |len| start + len);
        if let Some(at) = text[start..end].rfind('@')
            && let Some(colon) = text[start..start + at].find(':')
        {
            return Some((start + colon + 1, at - colon - 1));
        }
        from = end;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_masked_by_key_and_by_value() {
        #[rustfmt::skip]
        let cases = [
            ("plain text", "plain text"),
            ("GET http://user:pw@host/x y", "GET http://user:***@host/x y"),
            ("http://user@host", "http://user@host"),
            ("a http://h/ b ftp://u:p@h2", "a http://h/ b ftp://u:***@h2"),
            ("Authorization: Bearer abc.def, more", "Authorization: Bearer ***, more"),
            ("/v1?apikey=abc&x=1", "/v1?apikey=***&x=1"),
            ("Bearer ", "Bearer "),
        ];
        for (text, want) in cases {
            assert_eq!(masked(text), want, "{text}");
        }
        assert!(is_secret_key("MY_API_KEY") && is_secret_key("dbPassword"));
        assert!(!is_secret_key("INTERVAL"));
    }
}
