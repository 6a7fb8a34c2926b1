//! Registries that ask who is there, on the storage of the test registry, and the token
//! server of one of them (remote-api 4.1, 4.3). They know one device.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use helios::base::base64;
use helios::base::hash;
use helios::base::percent::query_pairs;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::json;

use super::{Scratch, env, http, until};

/// The device that the registries know.
pub const DEVICE: &str = "0123456789abcdef0123456789abcdef";
/// Its key; the header looks different in the two alphabets of base64 (R-REG-AUTH-3).
pub const KEY: &str = "key~?>~~of??>>this-device";
/// bcrypt of [`KEY`], at the lowest cost.
const HASH: &str = "$2b$05$heliosheliosheliosheluj8fm6UUCKhD9OV2VZZsax3uGHGXtPYi";

/// Who is let in.
pub enum Auth<'a> {
    /// Basic credentials.
    Basic,
    /// The same, through TLS.
    BasicTls,
    /// A token of that server.
    Token(&'a Tokens),
}

/// A registry; it goes with its owner.
pub struct Registry {
    child: Child,
    pub port: u16,
    _dir: Scratch,
}

impl Registry {
    pub fn start(auth: &Auth<'_>) -> Registry {
        let dir = Scratch::new();
        let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/registry");
        let tls = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/fixtures");
        let users = dir.0.join("users");
        std::fs::write(&users, format!("d_{DEVICE}:{HASH}\n")).unwrap();
        let auth_part = match auth {
            Auth::Basic | Auth::BasicTls => {
                json!({"htpasswd": {"realm": "test", "path": users}})
            }
            Auth::Token(tokens) => json!({"token": {
                "realm": format!("http://{}/auth/v1/token", tokens.address),
                "service": "registry.test",
                "issuer": "api.test",
                "rootcertbundle": format!("{fixtures}/token.pem"),
            }}),
        };
        let port = super::free_port();
        let mut listen = json!({"addr": format!("127.0.0.1:{port}")});
        if matches!(auth, Auth::BasicTls) {
            listen["tls"] = json!({
                "certificate": format!("{tls}/good.pem"),
                "key": format!("{tls}/key.pem"),
            });
        }
        let config = json!({
            "version": 0.1,
            "log": {"level": "warn", "accesslog": {"disabled": true}},
            "storage": {"filesystem": {"rootdirectory": env("HELIOS_TEST_REGISTRY_DIR")}},
            "http": listen,
            "auth": auth_part,
        });
        let file = dir.0.join("config.yml");
        std::fs::write(&file, config.to_string()).unwrap();
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the registry", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Registry {
            child,
            port,
            _dir: dir,
        }
    }

    /// An image of the test registry as it is called here.
    pub fn name(&self, host: &str, image: &str) -> String {
        let (_, path) = image.split_once('/').unwrap();
        format!("{host}:{}/{path}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One request for a token.
#[derive(Debug, Clone)]
pub struct Asked {
    pub target: String,
    pub authorization: Option<String>,
}

/// A token server; it ends with the test's process.
pub struct Tokens {
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    refusals: Arc<AtomicU32>,
}

impl Tokens {
    pub fn start() -> Tokens {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tokens = Tokens {
            address: listener.local_addr().unwrap().to_string(),
            asked: Arc::default(),
            refusals: Arc::default(),
        };
        let (asked, refusals) = (tokens.asked.clone(), tokens.refusals.clone());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let Some(request) = request(&mut client) else {
                    continue;
                };
                let is_refused = refusals
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                        left.checked_sub(1)
                    })
                    .is_ok();
                let (status, body) = match is_refused {
                    true => ("401 Unauthorized", String::new()),
                    false => answer(&request),
                };
                asked.lock().unwrap().push(request);
                let length = body.len();
                let head = format!(
                    "HTTP/1.1 {status}\r\nContent-Type: application/json\r\n\
                     Content-Length: {length}\r\nConnection: close\r\n\r\n"
                );
                let _ = client.write_all(format!("{head}{body}").as_bytes());
                let _ = client.shutdown(Shutdown::Write);
            }
        });
        tokens
    }

    /// The next so many requests are refused.
    pub fn refuse(&self, times: u32) {
        self.refusals.store(times, Ordering::SeqCst);
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

fn request(client: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let target = lines.next()?.split(' ').nth(1)?.to_owned();
    let field = lines.find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        (name.eq_ignore_ascii_case("authorization")).then(|| value.to_owned())
    });
    Some(Asked {
        target,
        authorization: field,
    })
}

/// What a client with the device's key sends.
pub fn basic() -> String {
    let pair = format!("d_{DEVICE}:{KEY}");
    // The standard alphabet here.
    let text = base64::url_safe(pair.as_bytes());
    format!("Basic {}", text.replace('-', "+").replace('_', "/"))
}

/// As the real token route: a wrong key is refused, nobody gets nothing (remote-api 4.3).
fn answer(asked: &Asked) -> (&'static str, String) {
    let is_known = match &asked.authorization {
        Some(given) if *given == basic() => true,
        Some(_) => return ("401 Unauthorized", String::new()),
        None => false,
    };
    let (_, query) = asked.target.split_once('?').unwrap_or_default();
    let scopes = query_pairs(query).filter(|(name, _)| name == "scope");
    let access = scopes.filter_map(|(_, scope)| {
        let mut parts = scope.split(':');
        let (kind, name) = (parts.next()?, parts.next()?);
        let actions: &[&str] = if is_known { &["pull"] } else { &[] };
        Some(json!({"type": kind, "name": name, "actions": actions}))
    });
    let access: Vec<_> = access.collect();
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "jti": super::unique(), "nbf": now - 10, "exp": now + 14_400, "iat": now,
        "iss": "api.test", "aud": "registry.test", "sub": DEVICE, "access": access,
    });
    let token = signed(&claims.to_string());
    ("200 OK", json!({"token": token}).to_string())
}

fn signed(claims: &str) -> String {
    let random = SystemRandom::new();
    let key = include_bytes!("../../fixtures/registry/token.key.der");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).unwrap();
    let part = |bytes: &[u8]| base64::url_safe(bytes).trim_end_matches('=').to_owned();
    let kid = key_id(pair.public_key().as_ref());
    let header = json!({"typ": "JWT", "alg": "ES256", "kid": kid}).to_string();
    let text = format!("{}.{}", part(header.as_bytes()), part(claims.as_bytes()));
    let signature = pair.sign(&random, text.as_bytes()).unwrap();
    format!("{text}.{}", part(signature.as_ref()))
}

/// The name under which the registry knows a key: the first 240 bits of the hash of its
/// SubjectPublicKeyInfo (RFC 5480) in base 32, in groups of four.
fn key_id(point: &[u8]) -> String {
    const HEAD: &[u8] = &[
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let digest = hash::sha256_hex(&[HEAD, point].concat());
    let bits = digest.chars().take(60).map(|hex| hex.to_digit(16).unwrap());
    let bits: Vec<u32> = bits
        .flat_map(|nibble| (0..4).rev().map(move |bit| nibble >> bit & 1))
        .collect();
    let letters: Vec<u8> = bits
        .chunks(5)
        .map(|five| BASE32[five.iter().fold(0, |sum, bit| sum << 1 | *bit as usize)])
        .collect();
    let groups: Vec<_> = letters
        .chunks(4)
        .map(|four| std::str::from_utf8(four).unwrap())
        .collect();
    groups.join(":")
}

/// The status that somebody without credentials gets.
pub fn anonymous(registry: &Registry) -> u16 {
    let endpoint = helios::http::client::Endpoint::Tcp {
        host: "127.0.0.1".into(),
        port: registry.port,
    };
    http(endpoint, "GET", "/v2/", &[], None).0
}
