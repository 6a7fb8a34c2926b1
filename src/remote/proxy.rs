//! Which proxy leads to the backend: `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` (D-36). Pure.
//!
//! The lower-case forms count too, and before the others. An entry of `NO_PROXY` is `*`, a
//! host, or a domain with or without its dot, each with or without a port. What is on this
//! machine is never asked for through a proxy (S-NET-34).

use std::net::IpAddr;

use crate::base::base64;
use crate::base::percent::percent_decode;
use crate::http::proxy::Proxy;
use crate::http::url::Url;

/// The proxy for this URL; `None`: none.
///
/// # Errors
/// A sentence that names the variable, without its value: it may hold a password.
pub fn choose(url: &Url, env: &dyn Fn(&str) -> Option<String>) -> Result<Option<Proxy>, String> {
    let name = if url.is_tls() {
        "https_proxy"
    } else {
        "http_proxy"
    };
    let upper = name.to_ascii_uppercase();
    let filled = |name: &str| env(name).filter(|value| !value.trim().is_empty());
    let Some(value) = filled(name).or_else(|| filled(&upper)) else {
        return Ok(None);
    };
    let spared = filled("no_proxy").or_else(|| filled("NO_PROXY"));
    if is_local(url.host()) || spared.is_some_and(|list| is_spared(url, &list)) {
        return Ok(None);
    }
    let why = |why: &str| format!("{upper}: {why}");
    let proxy = read(value.trim()).map_err(|error| why(&error))?;
    Ok(Some(proxy))
}

fn read(value: &str) -> Result<Proxy, String> {
    let rest = match value.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return Err("only proxies of http:// are known".into()),
        None => value,
    };
    let rest = rest.trim_end_matches('/');
    let (user, place) = match rest.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, rest),
    };
    let url = Url::parse(&format!("http://{place}")).map_err(|error| error.to_string())?;
    let authorization = user.map(|user| {
        let (name, password) = user.split_once(':').unwrap_or((user, ""));
        let plain = |text: &str| percent_decode(text).unwrap_or_else(|| text.to_owned());
        let both = format!("{}:{}", plain(name), plain(password));
        let text = base64::url_safe(both.as_bytes());
        format!("Basic {}", text.replace('-', "+").replace('_', "/"))
    });
    Ok(Proxy {
        host: url.host().to_owned(),
        port: url.port(),
        authorization,
    })
}

fn is_local(host: &str) -> bool {
    let is_name = host == "localhost" || host.ends_with(".localhost");
    is_name || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_spared(url: &Url, list: &str) -> bool {
    let entries = list.split([',', ' ']).map(str::trim);
    entries.filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        let bare = entry.trim_start_matches('[').trim_end_matches(']');
        let (name, port) = match entry.rsplit_once(':') {
            // More than one colon: an address of IPv6, not a port.
            Some((name, _)) if name.contains(':') && !name.ends_with(']') => (bare, None),
            Some((name, port)) => (name.trim_matches(['[', ']']), Some(port)),
            None => (bare, None),
        };
        if port.is_some_and(|port| port.parse() != Ok(url.port())) {
            return false;
        }
        let domain = name.trim_start_matches('*').trim_start_matches('.');
        let host = url.host();
        let is_below = host
            .strip_suffix(domain)
            .is_some_and(|rest| rest.ends_with('.'));
        name == "*" || host == domain || !domain.is_empty() && is_below
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: &str, env: &[(&str, &str)]) -> Result<Option<String>, String> {
        let find = |name: &str| {
            let found = env.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let proxy = choose(&Url::parse(url).unwrap(), &find)?;
        Ok(proxy.map(|proxy| {
            let authorization = proxy.authorization.unwrap_or_default();
            format!("{}:{} {authorization}", proxy.host, proxy.port)
        }))
    }

    #[test]
    fn s_net_34_d_36_which_proxy_leads_where() {
        let http = ("HTTP_PROXY", "http://p:3128");
        let https = ("HTTPS_PROXY", "q");
        #[rustfmt::skip]
        let cases = [
            ("http://h", vec![], None),
            ("http://h", vec![http], Some("p:3128 ")),
            ("https://h", vec![http], None),
            ("https://h", vec![http, https], Some("q:80 ")),
            ("http://h", vec![http, ("http_proxy", "HTTP://r:1/")], Some("r:1 ")),
            ("http://h", vec![("HTTP_PROXY", "")], None),
            ("http://h", vec![("HTTP_PROXY", "http://u:p%40w@[::2]:8")], Some("::2:8 Basic dTpwQHc=")),
            ("http://h", vec![http, ("NO_PROXY", "*")], None),
            ("http://h", vec![http, ("NO_PROXY", "x, H")], None),
            ("http://a.h.example", vec![http, ("NO_PROXY", "h.example")], None),
            ("http://a.h.example", vec![http, ("NO_PROXY", ".h.example")], None),
            ("http://a.h.example", vec![http, ("NO_PROXY", "*.h.example")], None),
            ("http://ah.example", vec![http, ("NO_PROXY", "h.example")], Some("p:3128 ")),
            ("http://h:81", vec![http, ("NO_PROXY", "h:80")], Some("p:3128 ")),
            ("http://h:81", vec![http, ("NO_PROXY", "h:81")], None),
            ("http://10.0.0.1", vec![http, ("NO_PROXY", "10.0.0.1")], None),
            ("http://[fe80::1]:82", vec![http, ("NO_PROXY", "[fe80::1]:82")], None),
            ("http://[fe80::1]", vec![http, ("NO_PROXY", "fe80::1")], None),
            ("http://h", vec![http, ("NO_PROXY", ".")], Some("p:3128 ")),
            ("http://127.1.2.3", vec![http], None),
            ("http://[::1]", vec![http], None),
            ("http://localhost:8090", vec![http], None),
        ];
        for (url, env, want) in cases {
            assert_eq!(
                chosen(url, &env),
                Ok(want.map(str::to_owned)),
                "{url} {env:?}"
            );
        }
        for bad in ["socks5://p", "https://p", "http://", "http://s3cret@h:x"] {
            let why = chosen("http://h", &[("HTTP_PROXY", bad)]).unwrap_err();
            assert!(
                why.starts_with("HTTP_PROXY: ") && !why.contains("s3cret"),
                "{why}"
            );
        }
    }
}
