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
        let base = api.strip_prefix("api.").unwrap_or(&api);
        let mut hosts = vec![format!("registry2.{base}"), api];
        hosts.extend(extra.iter().map(|extra| host(extra)));
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
        if !self.hosts.contains(&host(registry)) {
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
}

/// A host for comparison: lower case, without port and without a dot at its end.
fn host(text: &str) -> String {
    let text = text.trim().to_ascii_lowercase();
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => &text,
    };
    name.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_25_w_36_only_the_listed_hosts_get_the_key() {
        let extra = ["registry.local:5000".to_owned()];
        let registries = Registries::new("api.example.co.uk", &extra, "u1", "secret");
        #[rustfmt::skip]
        let cases = [
            ("registry2.example.co.uk/v2/x", true),
            ("REGISTRY2.example.co.uk:443/v2/x", true),
            ("api.example.co.uk/x", true),
            ("registry.local:5000/x", true),
            ("registry2.other.co.uk/x", false),
            ("evil-registry2.example.co.uk/x", false),
            ("registry2.example.co.uk.evil.org/x", false),
            ("example.co.uk/x", false),
            ("alpine", false),
            ("docker.io/library/alpine", false),
        ];
        for (image, want) in cases {
            let Ok(uri) = ImageUri::parse(image) else {
                continue;
            };
            assert_eq!(registries.auth(&uri).is_some(), want, "{image}");
        }
    }
}
