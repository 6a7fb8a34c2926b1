//! The recorded exchanges (`tests/fixtures/recorded/backend/README.md`).

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
pub struct Scenario {
    #[serde(skip)]
    pub name: String,
    pub exchanges: Vec<Recorded>,
}

#[derive(Deserialize)]
pub struct Recorded {
    pub request: Request,
    pub response: Response,
}

#[derive(Deserialize)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<Value>,
}

#[derive(Deserialize)]
pub struct Response {
    pub status: u16,
    pub reason: String,
    pub headers: Vec<(String, String)>,
    pub framing: String,
    pub body: Option<Value>,
    pub chunk_sizes: Option<Vec<usize>>,
}

/// All of them, in order.
pub fn scenarios() -> Vec<Scenario> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/recorded/backend");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "json") {
            let text = std::fs::read_to_string(&path).unwrap();
            let mut scenario: Scenario = serde_json::from_str(&text).unwrap();
            scenario.name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            found.push(scenario);
        }
    }
    found.sort_by(|one, two| one.name.cmp(&two.name));
    assert_eq!(found.len(), 20);
    found
}

/// A body as it was sent; filler that was not kept is as long as it was.
pub fn sent(body: Option<&Value>) -> Vec<u8> {
    let Some(body) = body else {
        return Vec::new();
    };
    match (body["text"].as_str(), body["base64"].as_str()) {
        (Some(text), _) => text.as_bytes().to_vec(),
        (None, Some(coded)) => base64(coded),
        (None, None) => panic!("no bytes are kept of this body: {body}"),
    }
}

pub fn base64(text: &str) -> Vec<u8> {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = ALPHABET.iter().position(|known| *known == byte).unwrap();
        bits = bits << 6 | u32::try_from(value).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).unwrap());
        }
    }
    bytes
}

pub fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    let found = headers
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.as_str())
}

impl Recorded {
    pub fn is_poll(&self) -> bool {
        self.request.method == "GET" && self.device().is_some()
    }

    /// The device of a poll.
    pub fn device(&self) -> Option<&str> {
        let path = self.request.path.split('?').next()?;
        path.strip_prefix("/device/v3/")?.strip_suffix("/state")
    }

    /// The text without content coding.
    pub fn text(&self) -> String {
        let body = self.response.body.as_ref();
        let text = body.and_then(|body| {
            body["decoded_text"]
                .as_str()
                .or_else(|| body["text"].as_str())
        });
        text.unwrap_or_default().to_owned()
    }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// Every byte as it was on the wire.
    pub fn wire(&self) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} {}\r\n", self.status, self.reason).into_bytes();
        for (name, value) in &self.headers {
            out.extend(format!("{name}: {value}\r\n").bytes());
        }
        out.extend(b"\r\n");
        let body = sent(self.body.as_ref());
        match self.framing.as_str() {
            "none" => assert!(body.is_empty()),
            "content-length" => out.extend(&body),
            "chunked" => {
                let mut left = body.as_slice();
                for size in self.chunk_sizes.as_ref().unwrap() {
                    let (chunk, rest) = left.split_at(*size);
                    out.extend(format!("{size:x}\r\n").bytes());
                    out.extend(chunk);
                    out.extend(b"\r\n");
                    left = rest;
                }
                assert!(left.is_empty());
                out.extend(b"0\r\n\r\n");
            }
            other => panic!("{other}"),
        }
        out
    }
}
