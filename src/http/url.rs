//! The little of URLs we use. Pure.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::PathBuf;

/// Where a server is, and what its paths begin with (R-URL-1, R-URL-2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    is_tls: bool,
    host: String,
    port: u16,
    path: String,
}

/// Why a text is no such URL; shows as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlError(pub(super) &'static str);

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for UrlError {}

impl Url {
    /// Reads `http://host[:port][/base/path]`, or the same with `https`.
    pub fn parse(text: &str) -> Result<Url, UrlError> {
        let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
        if !text.bytes().all(fits) {
            return Err(UrlError(
                "it holds a space or another character no URL may hold",
            ));
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UrlError("it does not begin with http:// or https://"));
        };
        let (is_tls, implied) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, 80),
            "https" => (true, 443),
            _ => return Err(UrlError("its scheme is neither http nor https")),
        };
        if rest.contains('#') {
            return Err(UrlError("it has a fragment"));
        }
        if rest.contains('?') {
            return Err(UrlError("it has a query"));
        }
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = split_authority(authority)?;
        let path = path.trim_end_matches('/').to_owned();
        Ok(Url {
            is_tls,
            host,
            port: port.unwrap_or(implied),
            path,
        })
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.is_tls { "https" } else { "http" }
    }

    /// The host in lower case; an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, named or not.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What every path begins with: empty, or `/x` without a slash at its end.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it is spoken to through TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// `host[:port]` as in the field `Host`: the scheme's own port is left out.
    #[must_use]
    pub fn authority(&self) -> String {
        authority(&self.host, self.port, if self.is_tls { 443 } else { 80 })
    }
}

/// Whether this can stand in a request line as path and query.
#[must_use]
pub fn is_target(target: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
    (target.starts_with('/') || target == "*") && target.bytes().all(fits)
}

/// With a slash where there is no path, as browsers show it (R-URL-3).
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Some(&*self.path).filter(|path| !path.is_empty());
        let (scheme, path) = (self.scheme(), path.unwrap_or("/"));
        write!(f, "{scheme}://{}{path}", self.authority())
    }
}

/// `host[:port]`, the address of IPv6 in brackets, without the port that goes
/// without saying.
#[must_use]
pub fn authority(host: &str, port: u16, implied: u16) -> String {
    match (host.contains(':'), port == implied) {
        (true, true) => format!("[{host}]"),
        (true, false) => format!("[{host}]:{port}"),
        (false, true) => host.to_owned(),
        (false, false) => format!("{host}:{port}"),
    }
}

/// A socket of this machine or another, as in `unix:///run/x.sock` and `tcp://h:2375`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A path of the file system.
    Unix(PathBuf),
    /// A host, without brackets, and a port.
    Tcp(String, u16),
}

impl Address {
    /// Reads `unix:` with a path and `tcp:` with `host:port`, each with or
    /// without `//`.
    pub fn parse(text: &str) -> Result<Address, UrlError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(UrlError("it names no path")),
                path => Ok(Address::Unix(path.into())),
            };
        }
        let Some(rest) = text.strip_prefix("tcp:") else {
            return Err(UrlError("it begins with neither unix: nor tcp:"));
        };
        match split_authority(rest.strip_prefix("//").unwrap_or(rest))? {
            (host, Some(port)) => Ok(Address::Tcp(host, port)),
            (_, None) => Err(UrlError("it names no port")),
        }
    }
}

/// Host and port of an authority.
fn split_authority(authority: &str) -> Result<(String, Option<u16>), UrlError> {
    if authority.contains('@') {
        return Err(UrlError("it holds a user name or password"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest
                .split_once(']')
                .ok_or(UrlError("its host is malformed"))?;
            if !port.is_empty() && !port.starts_with(':') {
                return Err(UrlError("its port is malformed"));
            }
            (ipv6(host)?, port.strip_prefix(':').unwrap_or(port))
        }
        None => {
            let (host, port) = authority.split_once(':').unwrap_or((authority, ""));
            (name(host)?, port)
        }
    };
    if port.is_empty() {
        return Ok((host, None));
    }
    // Digits only: `parse` would also take a leading `+`.
    match port.parse::<u16>() {
        Ok(number @ 1..) if !port.starts_with('+') => Ok((host, Some(number))),
        _ => Err(UrlError("its port is malformed")),
    }
}

/// A name or an address of IPv4.
fn name(host: &str) -> Result<String, UrlError> {
    if host.is_empty() {
        return Err(UrlError("it has no host"));
    }
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    if host.len() > 253 || !host.bytes().all(fits) {
        return Err(UrlError("its host is malformed"));
    }
    Ok(host.to_ascii_lowercase())
}

/// An address of IPv6, with its zone if it has one (`fe80::1%25eth0`).
fn ipv6(host: &str) -> Result<String, UrlError> {
    let (address, zone) = match host.split_once('%') {
        Some((address, zone)) => (address, Some(zone.strip_prefix("25").unwrap_or(zone))),
        None => (host, None),
    };
    if address.parse::<Ipv6Addr>().is_err() || zone.is_some_and(|zone| name(zone).is_err()) {
        return Err(UrlError("its host is malformed"));
    }
    let address = address.to_ascii_lowercase();
    Ok(match zone {
        Some(zone) => format!("{address}%{zone}"),
        None => address,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        #[rustfmt::skip]
        let cases = [
            ("http://h", Ok("http://h/ h 80 ")),
            ("https://h/", Ok("https://h/ h 443 ")),
            ("HTTPS://API.Example.COM:443/x//", Ok("https://api.example.com/x api.example.com 443 /x")),
            ("http://h:8080/a/b", Ok("http://h:8080/a/b h 8080 /a/b")),
            ("http://h:/a", Ok("http://h/a h 80 /a")),
            ("http://h_1.local", Ok("http://h_1.local/ h_1.local 80 ")),
            ("http://[::1]:81", Ok("http://[::1]:81/ ::1 81 ")),
            ("http://[FE80::1%25eth0]", Ok("http://[fe80::1%eth0]/ fe80::1%eth0 80 ")),
            ("http://10.0.0.1", Ok("http://10.0.0.1/ 10.0.0.1 80 ")),
            ("", Err("it does not begin with http:// or https://")),
            ("h:80", Err("it does not begin with http:// or https://")),
            ("ftp://h", Err("its scheme is neither http nor https")),
            ("http://", Err("it has no host")),
            ("http:///x", Err("it has no host")),
            ("http://:80", Err("it has no host")),
            ("http://u:p@h", Err("it holds a user name or password")),
            ("http://h?q", Err("it has a query")),
            ("http://h/x#f", Err("it has a fragment")),
            ("http://h/x#f?", Err("it has a fragment")),
            ("http://h x", Err("it holds a space or another character no URL may hold")),
            ("http://h\\x", Err("it holds a space or another character no URL may hold")),
            ("http://h\u{e9}", Err("it holds a space or another character no URL may hold")),
            ("http://h:0", Err("its port is malformed")),
            ("http://h:+80", Err("its port is malformed")),
            ("http://h:65536", Err("its port is malformed")),
            ("http://h:8x", Err("its port is malformed")),
            ("http://[::1", Err("its host is malformed")),
            ("http://[::1]80", Err("its port is malformed")),
            ("http://[h]", Err("its host is malformed")),
            ("http://h%41", Err("its host is malformed")),
            ("http://a,b", Err("its host is malformed")),
        ];
        for (text, want) in cases {
            let shown = Url::parse(text)
                .map(|url| format!("{url} {} {} {}", url.host(), url.port(), url.path()));
            assert_eq!(shown, want.map(String::from).map_err(UrlError), "{text}");
        }
    }

    #[test]
    fn addresses() {
        let tcp = |host: &str, port| Ok(Address::Tcp(host.into(), port));
        #[rustfmt::skip]
        let cases = [
            ("unix:///run/x.sock", Ok(Address::Unix("/run/x.sock".into()))),
            ("unix:/run/x.sock", Ok(Address::Unix("/run/x.sock".into()))),
            ("tcp://h:2375", tcp("h", 2375)),
            ("tcp:[::1]:1", tcp("::1", 1)),
            ("tcp:127.0.0.1:65535", tcp("127.0.0.1", 65535)),
            ("unix:", Err(UrlError("it names no path"))),
            ("tcp:h", Err(UrlError("it names no port"))),
            ("h:80", Err(UrlError("it begins with neither unix: nor tcp:"))),
            ("tcp:h:+80", Err(UrlError("its port is malformed"))),
        ];
        for (text, want) in cases {
            assert_eq!(Address::parse(text), want, "{text}");
        }
    }
}
