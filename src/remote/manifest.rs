//! Manifests: how large an image is, before it is pulled (FD-07). The agent is a registry's
//! client here, with tokens of its own (D-25); an engine never learns of it.
//!
//! Nothing is kept: one connection for the two or three answers, which are gone with it.

use std::sync::{Arc, Mutex, OnceLock};

use serde_json::Value;

use super::registry::Registries;
use crate::base::base64;
use crate::base::lock::lock;
use crate::base::percent::percent_encode_segment;
use crate::base::uptime::Uptime;
use crate::http::client::{Client, Endpoint, Request, Response, Roots, Timeouts};
use crate::http::url::Url;
use crate::limits;
use crate::model::ImageUri;
use crate::world::Pending;
use crate::world::clock::Clock;
use crate::world::registry::{Layer, Registry, Weight};

/// What is understood: an image, or a list of them for several platforms.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// Reads manifests with the credentials that the device has.
pub struct Reader {
    /// Known once the device is known to its backend.
    registries: Arc<OnceLock<Registries>>,
    roots: Box<Roots>,
    clock: Arc<dyn Clock>,
    /// Registries that kept us waiting for nothing, and until when they are not asked again:
    /// each pull would be held up by that.
    silent: Mutex<Vec<(String, Uptime)>>,
}

impl Reader {
    /// A reader that gives the key to those of `registries`. `roots` are asked for when it
    /// reads for the first time.
    #[must_use]
    pub fn new(
        registries: Arc<OnceLock<Registries>>,
        roots: Box<Roots>,
        clock: Arc<dyn Clock>,
    ) -> Reader {
        let silent = Mutex::default();
        Reader {
            registries,
            roots,
            clock,
            silent,
        }
    }

    async fn read_unless_silent(
        &self,
        image: &ImageUri,
        arch: &str,
        enough: u64,
    ) -> Result<Weight, String> {
        let host = image.registry().ok_or("it names no registry")?;
        let begun = self.clock.now();
        let is_silent = {
            let mut silent = lock(&self.silent);
            silent.retain(|(_, until)| begun < *until);
            silent.iter().any(|(known, _)| known == host)
        };
        if is_silent {
            return Err("its registry did not answer a while ago".to_owned());
        }
        let read = self.read(image, arch, enough).await;
        let now = self.clock.now();
        if read.is_err() && now - begun >= limits::MANIFEST_SLOW {
            let mut silent = lock(&self.silent);
            silent.retain(|(known, _)| known != host);
            if silent.len() == limits::MANIFEST_SILENT_MAX {
                silent.remove(0);
            }
            silent.push((host.to_owned(), now + limits::MANIFEST_SILENT));
        }
        read
    }

    async fn read(&self, image: &ImageUri, arch: &str, enough: u64) -> Result<Weight, String> {
        let host = image.registry().ok_or("it names no registry")?;
        let name = &image.repository()[host.len() + 1..];
        let mut asking = Asking {
            reader: self,
            client: self.client(&server(host)?)?,
            host,
            name,
            authorization: None,
        };
        let reference = image.digest().or_else(|| image.tag()).unwrap_or("latest");
        let mut manifest = asking.json("manifests", reference).await?;
        if let Some(digest) = choose(list(&manifest, "manifests"), arch) {
            let digest = digest.to_owned();
            manifest = asking.json("manifests", &digest).await?;
        }
        let layers = list(&manifest, "layers");
        let sizes: Option<Vec<u64>> = layers.iter().map(size).collect();
        let sizes = sizes.filter(|sizes| !sizes.is_empty());
        let sizes = sizes.ok_or("its manifest is of an unknown kind")?;
        let bytes = sizes.iter().copied().fold(0, u64::saturating_add);
        if bytes <= enough {
            let layers = Vec::new();
            return Ok(Weight { bytes, layers });
        }
        let digest = text(&manifest["config"], "digest");
        let config = asking.json("blobs", digest).await?;
        let diff_ids = list(&config["rootfs"], "diff_ids");
        if diff_ids.len() != sizes.len() {
            return Err("its configuration is not that of its layers".to_owned());
        }
        let layers = diff_ids.iter().zip(sizes);
        let layers = layers.map(|(diff_id, bytes)| Layer {
            diff_id: diff_id.as_str().unwrap_or_default().to_owned(),
            bytes,
        });
        let layers = layers.collect();
        Ok(Weight { bytes, layers })
    }

    fn client(&self, url: &Url) -> Result<Client, String> {
        let (host, port) = (url.host().to_owned(), url.port());
        let endpoint = if url.is_tls() {
            let roots = (self.roots)()?;
            Endpoint::Tls { host, port, roots }
        } else {
            Endpoint::Tcp { host, port }
        };
        let timeouts = Timeouts {
            resolve: limits::HTTP_RESOLVE_TIMEOUT,
            connect: limits::HTTP_CONNECT_TIMEOUT,
            tls: limits::HTTP_TLS_TIMEOUT,
            head: limits::MANIFEST_TIMEOUT,
            idle: limits::MANIFEST_TIMEOUT,
            total: Some(limits::MANIFEST_TIMEOUT),
        };
        Ok(Client::new(endpoint, timeouts))
    }

    /// The answer to a challenge (RFC 7235 4.1, RFC 6750 3): what to send, or why nothing.
    async fn answer(&self, challenge: &str, (host, name): (&str, &str)) -> Result<String, String> {
        let (scheme, parameters) = challenge.split_once(' ').unwrap_or((challenge, ""));
        if scheme.eq_ignore_ascii_case("basic") {
            let basic = self.basic(host, host);
            return basic.ok_or_else(|| "it wants credentials".into());
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("it wants credentials of an unknown kind".to_owned());
        }
        let realm = parameter(parameters, "realm").ok_or("its challenge names no realm")?;
        let realm = Url::parse(realm).map_err(|err| format!("the realm it names: {err}"))?;
        // In clear only on this machine.
        let basic = self.basic(host, realm.host());
        if !realm.is_tls() && !is_local(realm.host()) {
            return Err("the realm it names is not https".to_owned());
        }
        let service = parameter(parameters, "service").unwrap_or_default();
        let service = percent_encode_segment(service);
        let scope = percent_encode_segment(&format!("repository:{name}:pull"));
        let target = format!("{}?service={service}&scope={scope}", realm.path());
        let fields = basic.as_deref().map(|basic| ("authorization", basic));
        let request = Request {
            method: "GET",
            target: &target,
            headers: fields.as_slice(),
            ..Request::default()
        };
        let response = self.client(&realm)?.send(request).await;
        let answer = json(response.map_err(|err| err.to_string())?, "its token").await?;
        match (text(&answer, "token"), text(&answer, "access_token")) {
            ("", "") => Err("its token is none".to_owned()),
            ("", token) | (token, _) => Ok(format!("Bearer {token}")),
        }
    }

    /// Basic credentials for a server that a registry names, if both get the key: a stranger
    /// would be handed the token that the device gets for it.
    fn basic(&self, registry: &str, server: &str) -> Option<String> {
        let registries = self.registries.get()?;
        registries.pair(registry)?;
        let pair = registries.pair(server)?;
        Some(format!("Basic {}", base64::standard(pair.as_bytes())))
    }
}

/// One image's answers.
struct Asking<'a> {
    reader: &'a Reader,
    client: Client,
    host: &'a str,
    name: &'a str,
    authorization: Option<String>,
}

impl Asking<'_> {
    async fn json(&mut self, what: &str, reference: &str) -> Result<Value, String> {
        let target = format!("/v2/{}/{what}/{reference}", self.name);
        let mut response = self.get(&target).await?;
        if response.status() == 401 && self.authorization.is_none() {
            let challenge = response.header("www-authenticate").unwrap_or_default();
            let challenge = challenge.to_owned();
            // Its connection serves the next request, or is gone.
            response.discard().await;
            let about = (self.host, self.name);
            self.authorization = Some(self.reader.answer(&challenge, about).await?);
            response = self.get(&target).await?;
        }
        json(response, what).await
    }

    async fn get(&self, target: &str) -> Result<Response, String> {
        let mut headers = vec![("accept", ACCEPT)];
        let authorization = self.authorization.as_deref();
        headers.extend(authorization.map(|value| ("authorization", value)));
        let request = Request {
            method: "GET",
            target,
            headers: &headers,
            ..Request::default()
        };
        // Blobs are often somewhere else, where the token does not go (R-HTTP-8).
        let response = self.client.get(request, &*self.reader.roots).await;
        response.map_err(|error| error.to_string())
    }
}

async fn json(mut response: Response, what: &str) -> Result<Value, String> {
    let status = response.status();
    if status != 200 {
        return Err(format!("it answers {status} to a request for {what}"));
    }
    let body = response.bytes(limits::MANIFEST_BYTES_MAX).await;
    let body = body.map_err(|error| error.to_string())?;
    // The text of the error may quote a token.
    serde_json::from_slice(&body).map_err(|_| format!("{what} cannot be read"))
}

/// As the engine does it: through TLS, but for this machine.
fn server(host: &str) -> Result<Url, String> {
    if host.contains('/') {
        return Err("its registry is none".to_owned());
    }
    let url = Url::parse(&format!("https://{host}"));
    match url {
        Ok(url) if is_local(url.host()) => Url::parse(&format!("http://{host}")),
        url => url,
    }
    .map_err(|error| format!("its registry: {error}"))
}

fn is_local(host: &str) -> bool {
    let address = host.parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// A member that is text; empty when it is not.
fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// A member that is a list; empty when it is not.
fn list<'v>(value: &'v Value, key: &str) -> &'v [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

/// Bytes of a layer. A delta, or something of another kind, says nothing of an image's size.
fn size(layer: &Value) -> Option<u64> {
    let kind = text(layer, "mediaType");
    let is_plain = kind.contains(".image.layer.v1.tar") || kind.contains(".image.rootfs.diff.tar");
    layer["size"].as_u64().filter(|_| is_plain)
}

/// The image of a list that the engine takes; `None` when there is none, or no list.
fn choose<'m>(entries: &'m [Value], arch: &str) -> Option<&'m str> {
    let (name, newest) = match arch {
        "amd64" => ("amd64", 0),
        "aarch64" => ("arm64", 8),
        "armv7hf" => ("arm", 7),
        "rpi" => ("arm", 6),
        "i386" => ("386", 0),
        _ => return None,
    };
    let mut best: Option<(u8, &Value)> = None;
    for entry in entries {
        let platform = &entry["platform"];
        let variant = text(platform, "variant").trim_start_matches('v');
        let variant = variant.parse().unwrap_or(0);
        let is_ours = text(platform, "os") == "linux" && text(platform, "architecture") == name;
        // The first of equals.
        if is_ours && variant <= newest && best.is_none_or(|(best, _)| variant > best) {
            best = Some((variant, entry));
        }
    }
    best.map(|(_, entry)| text(entry, "digest"))
}

/// The value of a challenge's parameter (RFC 7235 2.1); without escapes, which no URL needs.
fn parameter<'c>(parameters: &'c str, name: &str) -> Option<&'c str> {
    let mut rest = parameters;
    loop {
        let (known, behind) = rest.split_once('=')?;
        let known = known.trim_matches([' ', ',', '\t']);
        let (value, next) = match behind.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => behind.split_once(',').unwrap_or((behind, "")),
        };
        if known.eq_ignore_ascii_case(name) {
            return Some(value.trim());
        }
        rest = next;
    }
}

impl Registry for Reader {
    fn weigh<'a>(
        &'a self,
        image: &'a ImageUri,
        arch: &'a str,
        enough: u64,
    ) -> Pending<'a, Result<Weight, String>> {
        Box::pin(self.read_unless_silent(image, arch, enough))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Time passes while somebody is waited for, and only then.
    struct Slow(Mutex<Uptime>);

    impl Clock for Slow {
        fn now(&self) -> Uptime {
            let mut now = lock(&self.0);
            *now = *now + limits::MANIFEST_SLOW;
            *now
        }

        fn wall_secs(&self) -> i64 {
            0
        }

        fn sleep_until(&self, _: Uptime) -> Pending<'_, ()> {
            Box::pin(async {})
        }
    }

    #[test]
    fn a_registry_that_keeps_us_waiting_is_left_alone_for_a_while() {
        // Bound and gone: nobody listens there. The clock says that it took long to find out.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let clock = Arc::new(Slow(Mutex::default()));
        let roots = Box::new(|| Err("no TLS here".to_owned()));
        let reader = Reader::new(Arc::default(), roots, clock.clone());
        let weigh = |image: &str| {
            let image = ImageUri::parse(image).unwrap();
            let weighed = async_io::block_on(reader.weigh(&image, "amd64", 0));
            weighed.unwrap_err().contains("a while ago")
        };
        // Others may listen on that port of the first address before long.
        let image = |number: usize| format!("127.0.1.{number}:{port}/a:1");
        let (one, two) = (1, 2);
        assert!(!weigh(&image(one)), "it is asked");
        assert!(weigh(&image(one)), "and left alone");
        assert!(!weigh(&image(two)), "the other one is another one");
        assert!(weigh(&image(two)));
        let later = clock.now() + limits::MANIFEST_SILENT;
        *lock(&clock.0) = later;
        assert!(!weigh(&image(one)), "it is asked again");
        for number in 0..2 * limits::MANIFEST_SILENT_MAX {
            assert!(!weigh(&image(10 + number)));
        }
        assert_eq!(lock(&reader.silent).len(), limits::MANIFEST_SILENT_MAX);
    }

    #[test]
    fn rfc_7235_parameters_of_a_challenge() {
        let given =
            r#"realm="https://a.test/auth/v1/token",service=reg , Scope="repository:a,b:pull""#;
        #[rustfmt::skip]
        let cases = [
            ("realm", Some("https://a.test/auth/v1/token")),
            ("service", Some("reg")),
            ("scope", Some("repository:a,b:pull")),
            ("error", None),
        ];
        for (name, want) in cases {
            assert_eq!(parameter(given, name), want, "{name}");
        }
        for odd in ["", "=", "realm", "realm=\"x", ",,,", "a=,realm=x"] {
            let _ = parameter(odd, "realm");
        }
    }

    #[test]
    fn the_platform_of_a_list_is_the_engines() {
        let entry = |digest: &str, os: &str, architecture: &str, variant: &str| {
            let platform = json!({"os": os, "architecture": architecture, "variant": variant});
            json!({"digest": digest, "platform": platform})
        };
        let entries = [
            entry("w", "windows", "amd64", ""),
            entry("a", "linux", "amd64", ""),
            entry("5", "linux", "arm", "v5"),
            entry("7", "linux", "arm", "v7"),
            entry("6", "linux", "arm", "v6"),
            entry("8", "linux", "arm64", "v8"),
        ];
        #[rustfmt::skip]
        let cases = [
            ("amd64", Some("a")), ("aarch64", Some("8")), ("armv7hf", Some("7")),
            ("rpi", Some("6")), ("i386", None), ("s390x", None),
        ];
        for (arch, want) in cases {
            assert_eq!(choose(&entries, arch), want, "{arch}");
        }
        assert_eq!(choose(&[], "amd64"), None);
    }

    #[test]
    fn fd_07_what_is_no_layer_has_no_size() {
        #[rustfmt::skip]
        let cases = [
            (json!({"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "size": 5}), Some(5)),
            (json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+zstd", "size": 5}), Some(5)),
            (json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "size": -5}), None),
            (json!({"mediaType": "application/vnd.oci.image.layer.v1.tar"}), None),
            (json!({"mediaType": "application/vnd.example.delta", "size": 5}), None),
            (json!({"size": 5}), None),
            (json!("x"), None),
        ];
        for (layer, want) in cases {
            assert_eq!(size(&layer), want, "{layer}");
        }
    }

    #[test]
    fn r_reg_auth_4_plain_http_is_for_this_machine() {
        #[rustfmt::skip]
        let cases = [
            ("localhost:5000", "http://localhost:5000/"),
            ("127.0.0.2", "http://127.0.0.2/"),
            ("registry2.example.com", "https://registry2.example.com/"),
            ("10.0.0.1:5000", "https://10.0.0.1:5000/"),
            ("localhost.evil.org", "https://localhost.evil.org/"),
        ];
        for (host, want) in cases {
            assert_eq!(server(host).unwrap().to_string(), want);
        }
        assert!(server("a/b.c").is_err());
    }
}
