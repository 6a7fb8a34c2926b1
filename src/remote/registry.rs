//! Which registries get the device's key (D-25, R-REG-AUTH-2, R-REG-AUTH-3). Pure.

use serde::Serialize;

use crate::base::base64;
use crate::model::ImageUri;

/// The explicit list of registries and what they get.
#[derive(Clone)]
pub struct Registries {
    hosts: Vec<String>,
    username: String,
    key: String,
}

#[derive(Serialize)]
struct Credentials<'a> {
    username: &'a str,
    password: &'a str,
    serveraddress: &'a str,
}

impl Registries {
    /// The API's host, `registry2.` with that host less a leading `api.`, and `extra`.
    #[must_use]
    pub fn new(api_host: &str, extra: &[String], uuid: &str, key: &str) -> Registries {
        let api = host(api_host);
        let mut hosts: Vec<_> = extra.iter().map(|extra| host(extra)).collect();
        match api.strip_prefix("api.") {
            // Less its `api.` it would be a whole top-level domain (R-REG-AUTH-1).
            Some(base) if !base.contains('.') => {}
            base => hosts.push(format!("registry2.{}", base.unwrap_or(&api))),
        }
        hosts.push(api);
        Registries {
            hosts,
            username: format!("d_{uuid}"),
            key: key.to_owned(),
        }
    }

    /// The value of `X-Registry-Auth` for an image; `None` when its registry gets none.
    #[must_use]
    pub fn auth(&self, image: &ImageUri) -> Option<String> {
        let registry = image.registry()?;
        if !self.has(registry) {
            return None;
        }
        let credentials = Credentials {
            username: &self.username,
            password: &self.key,
            serveraddress: registry,
        };
        serde_json::to_vec(&credentials)
            .ok()
            .map(|json| base64::url_safe(&json))
    }

    /// User and key, `user:key`, for a host that the agent itself talks to; `None` when it gets
    /// none.
    #[must_use]
    pub fn pair(&self, host: &str) -> Option<String> {
        let Registries { username, key, .. } = self;
        self.has(host).then(|| format!("{username}:{key}"))
    }

    fn has(&self, registry: &str) -> bool {
        self.hosts.contains(&host(registry))
    }
}

/// A host for comparison: lower case, without port and without a dot at its end; an address
/// of IPv6 without its brackets.
fn host(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    if let Some((address, _)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.to_owned();
    }
    let name = match text.split_once(':') {
        // More than one colon is an address of IPv6 as URLs hand it out.
        Some((name, port)) if !port.contains(':') => name,
        _ => &text,
    };
    name.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_25_s_img_03_w_36_only_the_listed_hosts_get_the_key() {
        let extra = ["Registry.local:5000".to_owned(), "[fe80::1]".to_owned()];
        let registries = Registries::new("api.example.co.uk", &extra, "u1", "secret");
        #[rustfmt::skip]
        let cases = [
            ("registry2.example.co.uk/v2/x", true),
            ("REGISTRY2.example.co.uk:443/v2/x", true),
            ("registry2.example.co.uk./v2/x", true),
            ("api.example.co.uk/x", true),
            ("registry.local:5000/x", true),
            ("registry.local/x", true),
            ("[fe80::1]:5000/x", true),
            ("[fe80::2]:5000/x", false),
            ("registry2.other.co.uk/v2/x", false),
            ("registry.example.co.uk/v2/x", false),
            ("evil-registry2.example.co.uk/x", false),
            ("evil.registry2.example.co.uk/x", false),
            ("registry2.example.co.uk.evil.org/x", false),
            ("evil.org:443/registry2.example.co.uk/x", false),
            ("evil/registry2.example.co.uk/x", false),
            ("registry2.example.co/x", false),
            ("example.co.uk/x", false),
            ("localhost:5000/x", false),
            ("alpine", false),
            ("docker.io/library/alpine", false),
        ];
        for (image, want) in cases {
            let uri = ImageUri::parse(image).unwrap();
            assert_eq!(registries.auth(&uri).is_some(), want, "{image}");
        }
    }

    #[test]
    fn d_25_the_registry_beside_an_api() {
        #[rustfmt::skip]
        let cases = [
            ("api.example.com", "registry2.example.com", true),
            ("example.com", "registry2.example.com", true),
            ("openbalena", "registry2.openbalena", true),
            ("10.0.0.1", "10.0.0.1:5000", true),
            ("::1", "[::1]:5000", true),
            // Whoever has `api.com` has not all of `com`.
            ("api.com", "registry2.com", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("::1", "[::2]", false),
        ];
        for (api, registry, want) in cases {
            let uri = ImageUri::parse(&format!("{registry}/x")).unwrap();
            let registries = Registries::new(api, &[], "u1", "secret");
            assert_eq!(registries.auth(&uri).is_some(), want, "{api} {registry}");
        }
    }

    /// An engine that cannot decode it pulls anonymously without a word (remote-api 4.2).
    #[test]
    fn r_reg_auth_3_s_img_04_the_header_is_url_safe_and_padded() {
        for offset in 0..3 {
            let key = format!("{}~?>~~??>>", "k".repeat(offset));
            let registries = Registries::new("api.example.com", &[], "u1", &key);
            let uri = ImageUri::parse("registry2.example.com:443/v2/x").unwrap();
            let auth = registries.auth(&uri).unwrap();
            assert_eq!(auth.len() % 4, 0, "{auth}");
            let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_=".contains(&byte);
            assert!(auth.bytes().all(legal), "{auth}");
            let want = format!(
                r#"{{"username":"d_u1","password":"{key}","serveraddress":"registry2.example.com:443"}}"#
            );
            assert_eq!(auth, base64::url_safe(want.as_bytes()));
        }
    }
}
