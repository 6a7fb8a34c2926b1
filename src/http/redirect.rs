//! Where a response sends a request on to (R-HTTP-8). Pure.

use super::url::{Url, UrlError, is_target};

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The server; its path is not used.
    pub server: Url,
    /// Path and query.
    pub target: String,
}

/// Why a redirect is not followed; shows as the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// From TLS to plain text.
    Downgrade,
    /// No place at all.
    Malformed(UrlError),
}

/// Whether a status with a `Location` repeats a `GET` elsewhere.
#[must_use]
pub fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// What `location` means to whoever asked `from` (RFC 9110 10.2.2).
///
/// # Errors
/// When it is malformed, or leads from https to http.
pub fn follow(from: &Place, location: &str) -> Result<Place, Refusal> {
    let location = location.split('#').next().unwrap_or_default();
    let place = if let Some(rest) = location.strip_prefix("//") {
        absolute(&format!("{}://{rest}", from.server.scheme()))?
    } else if has_scheme(location) {
        absolute(location)?
    } else {
        Place {
            server: from.server.clone(),
            target: join(&from.target, location),
        }
    };
    if !is_target(&place.target) {
        return Err(Refusal::Malformed(UrlError("it holds what no URL may")));
    }
    if from.server.is_tls() && !place.server.is_tls() {
        return Err(Refusal::Downgrade);
    }
    Ok(place)
}

/// Whether it begins with a scheme (RFC 3986 3.1) and not with a path.
fn has_scheme(text: &str) -> bool {
    let end = text.find([':', '/', '?']).unwrap_or(text.len());
    end > 0 && text[end..].starts_with(':')
}

fn absolute(text: &str) -> Result<Place, Refusal> {
    let authority = text.find("://").map_or(0, |at| at + "://".len());
    let end = text[authority..].find(['/', '?']);
    let (server, target) = text.split_at(end.map_or(text.len(), |end| authority + end));
    let server = Url::parse(server).map_err(Refusal::Malformed)?;
    let target = join("/", target);
    Ok(Place { server, target })
}

/// A relative reference on a target (RFC 3986 5.2.2).
fn join(base: &str, reference: &str) -> String {
    let (base_path, base_query) = base.split_once('?').unwrap_or((base, ""));
    let (path, query) = match reference.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (reference, None),
    };
    let directory = base_path.rfind('/').map_or("/", |at| &base_path[..=at]);
    let (merged, query) = match path {
        "" => (base_path.to_owned(), query.unwrap_or(base_query)),
        _ if path.starts_with('/') => (path.to_owned(), query.unwrap_or_default()),
        _ => (format!("{directory}{path}"), query.unwrap_or_default()),
    };
    let mut target = without_dots(&merged);
    if !query.is_empty() {
        target.push('?');
        target.push_str(query);
    }
    target
}

/// The path without `.` and `..` (RFC 3986 5.2.4).
fn without_dots(path: &str) -> String {
    let mut kept = Vec::new();
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    let mut is_open = false;
    for segment in segments {
        is_open = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    if is_open {
        kept.push("");
    }
    format!("/{}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r_http_8_where_a_location_leads() {
        let downgrade = Err(Refusal::Downgrade);
        let malformed = |why| Err(Refusal::Malformed(UrlError(why)));
        #[rustfmt::skip]
        let cases = [
            ("http://h/a/b?c", "/x", Ok("http://h/ /x")),
            ("http://h/a/b?c", "x", Ok("http://h/ /a/x")),
            ("http://h/a/b?c", "x?y=z", Ok("http://h/ /a/x?y=z")),
            ("http://h/a/b?c", "?y", Ok("http://h/ /a/b?y")),
            ("http://h/a/b?c", "", Ok("http://h/ /a/b?c")),
            ("http://h/a/b?c", "#x", Ok("http://h/ /a/b?c")),
            ("http://h/a/b", "../x", Ok("http://h/ /x")),
            ("http://h/a/b", "../../../x", Ok("http://h/ /x")),
            ("http://h/a/b/c", "./x/./y/..", Ok("http://h/ /a/b/x/")),
            ("http://h/a/b", ".", Ok("http://h/ /a/")),
            ("http://h/a", "//other:81/x", Ok("http://other:81/ /x")),
            ("https://h/a", "//other", Ok("https://other/ /")),
            ("http://h/a", "https://h/a", Ok("https://h/ /a")),
            ("http://h/a", "HTTPS://H?q#f", Ok("https://h/ /?q")),
            ("https://h/a", "https://other:444/b/../c", Ok("https://other:444/ /c")),
            ("http://h/a", "x/y:z", Ok("http://h/ /x/y:z")),
            ("https://h/a", "http://h/a", downgrade),
            ("https://h/a", "http://other/", downgrade),
            ("http://h/a", "ftp://h/a", malformed("its scheme is neither http nor https")),
            ("http://h/a", "mailto:x", malformed("it does not begin with http:// or https://")),
            ("http://h/a", "http://u:p@h/", malformed("it holds a user name or password")),
            ("http://h/a", "http:///x", malformed("it has no host")),
            ("http://h/a", "/x y", malformed("it holds what no URL may")),
            ("http://h/a", "/\u{e9}", malformed("it holds what no URL may")),
        ];
        for (from, location, want) in cases {
            let at = from["https://".len()..].find('/').unwrap() + "https://".len();
            let place = Place {
                server: Url::parse(&from[..at]).unwrap(),
                target: from[at..].into(),
            };
            let shown = follow(&place, location).map(|to| format!("{} {}", to.server, to.target));
            assert_eq!(shown, want.map(String::from), "{from} to {location}");
        }
    }
}
