//! Which field lines of a message are passed on, and which belong to the connection that it
//! came in on (RFC 9110 7.6.1). Pure.

use crate::http::head::{Fields, elements, eq};

/// Gone whether `Connection` names them or not. Framing, `Host` and `Via` are written anew.
const HOP: &[&str] = &[
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What `Connection` cannot take away: without them the message would mean something else,
/// or come from somebody else.
const END_TO_END: &[&str] = &[
    "authorization",
    "cache-control",
    "content-encoding",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "location",
    "set-cookie",
    "via",
];

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names.iter().any(|one| eq(name, one))
}

/// The lines that are passed on, in order, each with its line end; but not those `without`.
#[must_use]
pub fn end_to_end(fields: Fields<'_>, without: &[&str]) -> Vec<u8> {
    let mut lines = Vec::with_capacity(512);
    // What it names nearly always is one of HOP, or no field at all.
    let connection = || fields.all("connection").flat_map(elements);
    let names_more = connection().any(|one| !matches!(one, b"close" | b"keep-alive"));
    for (name, value) in fields {
        let named = || {
            !is_one_of(name, END_TO_END) && connection().any(|one| one.eq_ignore_ascii_case(name))
        };
        if is_one_of(name, HOP) || is_one_of(name, without) || names_more && named() {
            continue;
        }
        lines.extend_from_slice(name);
        lines.extend_from_slice(b": ");
        lines.extend_from_slice(value);
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

/// Whether the message has passed a proxy of this name already (RFC 9110 7.6.3).
#[must_use]
pub fn has_passed(fields: Fields<'_>, via: &str) -> bool {
    let names = |hop: &str| hop.split_ascii_whitespace().nth(1) == Some(via);
    fields
        .all("via")
        .any(|value| String::from_utf8_lossy(value).split(',').any(names))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(lines: &str) -> String {
        let head = lines.replace('\n', "\r\n");
        let kept = end_to_end(Fields::lines(head.as_bytes()), &["x-without"]);
        String::from_utf8_lossy(&kept).replace("\r\n", "\n")
    }

    #[test]
    fn s_prx_13_s_prx_14_what_belongs_to_the_connection_stays_there() {
        let lines = "Connection: close, X-Foo\nX-Foo: 1\nKeep-Alive: timeout=5\n\
            TE: trailers, gzip\nProxy-Authorization: secret\nProxy-Connection: keep-alive\n\
            Upgrade: websocket\nX-Bar: a\nSet-Cookie: 1\nTransfer-Encoding: chunked\n\
            Trailer: X\nSet-Cookie: 2\nX-Bar: b\nX-Without: 1\n";
        let want = "X-Bar: a\nSet-Cookie: 1\nSet-Cookie: 2\nX-Bar: b\n";
        assert_eq!(kept(lines), want);
    }

    #[test]
    fn s_prx_13_connection_takes_away_no_key_and_no_meaning() {
        let lines = "Connection: Authorization, Content-Type, X-A\nauthorization: Bearer k\n\
            Content-Type: a/b\nx-a: 1\n";
        let want = "authorization: Bearer k\nContent-Type: a/b\n";
        assert_eq!(kept(lines), want);
    }

    #[test]
    fn r_prx_1_what_is_not_text_is_passed_on_byte_for_byte() {
        let lines = b"X-Name: caf\xe9 \xff\r\n";
        assert_eq!(end_to_end(Fields::lines(lines), &[]), lines);
    }

    #[test]
    fn s_prx_37_an_own_via_is_known() {
        let passed = |value: &str| {
            let line = format!("Via: {value}\r\n");
            has_passed(Fields::lines(line.as_bytes()), "helios-1")
        };
        assert!(passed("1.1 helios-1"));
        assert!(passed("1.0 a, HTTP/1.1 helios-1 (comment)"));
        for other in ["1.1 helios-12", "1.1 a", "helios-1", "1.1"] {
            assert!(!passed(other), "{other}");
        }
    }
}
