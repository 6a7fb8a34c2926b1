//! Who asks, and what for (remote-api 7.2, D-26). Pure.

use crate::http::head::Fields;

/// What a request that is none of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// Somebody calls the legacy supervisor.
    Legacy,
    /// The legacy supervisor asks for its target.
    Target,
    /// It reports its state.
    Report,
    /// It calls the backend for something else.
    Cloud,
}

/// What the request is for, by its sender's own word; who may is judged later.
#[must_use]
pub fn errand(fields: Fields<'_>, method: &str, path: &str, uuid: &str) -> Errand {
    if !is_supervisor(fields) {
        return Errand::Legacy;
    }
    let path = plain(path);
    let path = path.strip_suffix('/').unwrap_or(&path);
    let segments: Vec<&str> = path.split('/').collect();
    let is = |segment: &str, known: &str| segment.eq_ignore_ascii_case(known);
    match segments[..] {
        ["", device, v3, whose, state]
            if is(device, "device") && is(v3, "v3") && whose == uuid && is(state, "state") =>
        {
            match method {
                "GET" | "HEAD" => Errand::Target,
                // Only these two are ours to answer (R-PRX-10).
                _ => Errand::Cloud,
            }
        }
        ["", device, v3, state]
            if method == "PATCH" && is(device, "device") && is(v3, "v3") && is(state, "state") =>
        {
            Errand::Report
        }
        _ => Errand::Cloud,
    }
}

/// Whether it says that it is the legacy supervisor.
fn is_supervisor(fields: Fields<'_>) -> bool {
    let agent = fields.all("user-agent").next().unwrap_or_default();
    let is_plain = agent.iter().all(|byte| matches!(byte, b' '..=b'~'));
    is_plain && agent.starts_with(b"Supervisor/")
}

/// The path without escapes of characters that need none (RFC 3986 6.2.2.2): however it is
/// spelled, the backend would take it for the same (R-PRX-9).
fn plain(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let hex = rest.get(at + 1..at + 3);
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        let unreserved = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        match byte.filter(unreserved) {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &rest[at + 3..];
            }
            None => {
                plain.push('%');
                rest = &rest[at + 1..];
            }
        }
    }
    plain.push_str(rest);
    plain
}

/// The key that a request comes with, for the backend (D-26).
#[must_use]
pub fn bearer(fields: Fields<'_>) -> Option<&str> {
    let value = fields.get("authorization")?;
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(agent: &[u8], method: &str, path: &str) -> Errand {
        let line = [b"User-Agent: ", agent, b"\r\n"].concat();
        errand(Fields::lines(&line), method, path, "u1")
    }

    const REAL: &[u8] = b"Supervisor/19.0.5 (Linux; x; prod)";

    #[test]
    fn s_prx_02_s_prx_03_only_the_exact_agent_is_the_supervisor() {
        let none = errand(Fields::lines(b""), "GET", "/device/v3/u1/state", "u1");
        assert_eq!(none, Errand::Legacy);
        let others: &[&[u8]] = &[
            b"curl/8",
            b"MySupervisor/1",
            b"supervisor/1",
            b"Supervisor",
            b"Supervisor/19 \xff",
            b"Supervisor/19 \tx",
        ];
        for agent in others {
            assert_eq!(ask(agent, "GET", "/v1/device"), Errand::Legacy);
            // S-PRX-08.
            assert_eq!(ask(agent, "GET", "/device/v3/u1/state"), Errand::Legacy);
        }
        assert_eq!(ask(REAL, "GET", "/v1/device"), Errand::Cloud);
    }

    #[test]
    fn s_prx_09_s_prx_10_r_prx_9_however_the_path_is_spelled() {
        #[rustfmt::skip]
        let cases = [
            ("GET", "/device/v3/u1/state", Errand::Target),
            ("HEAD", "/device/v3/u1/state", Errand::Target),
            ("GET", "/device/v3/u1/state/", Errand::Target),
            ("GET", "/Device/V3/u1/STATE", Errand::Target),
            ("GET", "/device/v3/u1/%73tate", Errand::Target),
            ("GET", "/%64evice/v3/%751/state", Errand::Target),
            ("GET", "/device/v3/u1/state//", Errand::Cloud),
            ("GET", "/device/v3/u1%2Fstate", Errand::Cloud),
            ("GET", "/device/v3/u1/state%", Errand::Cloud),
            ("GET", "/device/v3/u2/state", Errand::Cloud),
            ("GET", "/device/v2/u1/state", Errand::Cloud),
            ("PATCH", "/device/v3/u1/state", Errand::Cloud),
            ("DELETE", "/device/v3/u1/state", Errand::Cloud),
            ("PATCH", "/device/v3/state", Errand::Report),
            ("PATCH", "/device/V3/stat%65/", Errand::Report),
            ("GET", "/device/v3/state", Errand::Cloud),
            ("PATCH", "/device/v3/tags", Errand::Cloud),
        ];
        for (method, path, want) in cases {
            assert_eq!(ask(REAL, method, path), want, "{method} {path}");
        }
    }

    #[test]
    fn d_26_a_key_is_a_bearer_s() {
        let key = |value: &str| {
            let line = format!("Authorization: {value}\r\n");
            bearer(Fields::lines(line.as_bytes())).map(str::to_owned)
        };
        assert_eq!(key("Bearer k"), Some("k".into()));
        assert_eq!(key("bearer  k"), Some("k".into()));
        for none in ["Basic k", "k", "Bearer"] {
            assert_eq!(key(none), None, "{none}");
        }
    }
}
