//! Whatever happens to a document, reading it does not panic, and what is accepted can be sent.

use serde_json::{Value, json};

use super::vectors::{all, bodies_on, document_of};
use super::{AppRefusal, app_target, device_target};
use crate::model::target::AppRelease;

const DEVICE: &str = "7c1e5b20f4a94d0b8e6f3a2d9c0b1a58";

/// Mutations of each vector; more with `MUTATIONS=n`.
const MUTATIONS: u64 = 8;

/// Reproducible numbers (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap()
    }
}

const PIECES: &[&str] = &[
    "null",
    "true",
    "-1",
    "0",
    "1.5",
    "1e999",
    "18446744073709551616",
    "\"\"",
    "\"\\ud800\"",
    "\"\\u0000\"",
    "[]",
    "{}",
    "[[[[",
    "}}}}",
    ",",
    ":",
    "\"",
    "\\",
    "\"a\":1,",
    "{\"a\":{}}",
    "65535",
    "1-65535",
    "9223372036854775807",
    "-9223372036854775808",
    "h",
    "\u{e9}",
    "\u{0}",
];

/// Changes some bytes.
fn mutated(text: &str, numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(bytes.len());
        let to = (at + numbers.below(12)).min(bytes.len());
        match numbers.below(4) {
            0 => drop(bytes.drain(at..to)),
            1 => {
                let piece = PIECES[numbers.below(PIECES.len())];
                drop(bytes.splice(at..to, piece.bytes()));
            }
            2 => {
                let copy = bytes[at..to].to_vec();
                let other = numbers.below(bytes.len());
                drop(bytes.splice(other..other, copy));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(numbers.below(256)).unwrap();
                }
            }
        }
    }
    bytes
}

/// Puts another value in the place of one, so that the document stays JSON.
fn reshaped(value: &mut Value, numbers: &mut Numbers) {
    let len = match &*value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if len > 0 && numbers.below(8) > 0 {
        let at = numbers.below(len);
        let inner = match value {
            Value::Object(map) => map.values_mut().nth(at),
            Value::Array(list) => list.get_mut(at),
            _ => None,
        };
        return inner.map_or((), |inner| reshaped(inner, numbers));
    }
    let others = [
        json!(null),
        json!(true),
        json!(-1),
        json!(0),
        json!(1.5),
        json!(u64::MAX),
        json!(""),
        json!("a:b:c:d"),
        json!("/"),
        json!("99999999999999999999999g"),
        json!("-1s"),
        json!([]),
        json!({}),
        json!([null]),
        json!({ "": null }),
        json!("1-65535"),
        json!(["x", "x"]),
        json!("service:main"),
        json!({ "type": "volume" }),
        json!("\u{0}=\u{0}"),
    ];
    *value = others[numbers.below(others.len())].clone();
}

/// Keys that mean something at some level.
#[rustfmt::skip]
const KEYS: &[&str] = &[
    "name", "apps", "config", "id", "is_host", "releases", "services", "networks", "volumes", "image", "labels", "environment", "composition",
    "running", "contract", "requires", "or", "type", "slug", "version", "depends_on", "condition", "healthcheck", "test", "ports", "target",
    "published", "source", "bind", "tmpfs", "ulimits", "soft", "hard", "ipam", "subnet", "command", "network_mode", "driver_opts", "main", "a", "",
];

/// Any JSON at all, of known words where there is a choice.
fn arbitrary(numbers: &mut Numbers, depth: usize) -> Value {
    let len = numbers.below(5);
    match numbers.below(if depth == 0 { 6 } else { 9 }) {
        0 => json!(null),
        1 => json!(numbers.below(2) == 0),
        2 => json!(i64::try_from(numbers.next() >> 1).unwrap() >> numbers.below(63)),
        3 => json!(f64::from_bits(numbers.next())),
        4 => json!(KEYS[numbers.below(KEYS.len())]),
        5 => json!(PIECES[numbers.below(PIECES.len())]),
        6 => (0..len).map(|_| arbitrary(numbers, depth - 1)).collect(),
        _ => {
            let member = |_| {
                let key = KEYS[numbers.below(KEYS.len())];
                (key.to_owned(), arbitrary(numbers, depth - 1))
            };
            Value::Object((0..len).map(member).collect())
        }
    }
}

/// Arbitrary JSON in every place where a document could have it.
#[test]
fn issue_4_no_json_makes_it_panic() {
    let mut numbers = Numbers(44);
    for _ in 0..4_000 {
        let mut any = || arbitrary(&mut numbers, 7);
        let composition =
            json!({"services": {"main": {"id": 1, "image": "i", "composition": any()}}});
        let service = json!({"services": {"main": any()}, "networks": any(), "volumes": any()});
        for release in [composition, service, any()] {
            let app = json!({"id": 1, "name": "x", "releases": {"r": release}});
            let _ = app_target("a", app.to_string().as_bytes());
            let device =
                json!({DEVICE: {"name": "n", "config": any(), "apps": {"a": app, "b": any()}}});
            read("arbitrary", device.to_string().as_bytes());
        }
        for document in [any(), json!({DEVICE: any()})] {
            read("arbitrary", document.to_string().as_bytes());
        }
    }
}

#[test]
fn issue_4_no_mutation_of_a_vector_makes_it_panic() {
    let count = std::env::var("MUTATIONS").map_or(MUTATIONS, |n| n.parse().unwrap());
    let mut numbers = Numbers(4);
    for (id, vector) in all() {
        let document = document_of(&vector);
        let text = document.to_string();
        let app = document[DEVICE]["apps"]
            .as_object()
            .and_then(|apps| apps.values().next());
        for _ in 0..count {
            read(&id, &mutated(&text, &mut numbers));
            let mut other = document.clone();
            reshaped(&mut other, &mut numbers);
            read(&id, other.to_string().as_bytes());
            if let Some(app) = app {
                let mut app = app.clone();
                reshaped(&mut app, &mut numbers);
                match app_target("a", app.to_string().as_bytes()) {
                    Ok(_) => {}
                    Err(AppRefusal::Shape(refusals)) => assert!(!refusals.is_empty()),
                    Err(refusal) => panic!("{id}: {refusal}"),
                }
            }
        }
    }
}

fn read(id: &str, body: &[u8]) {
    let Ok(intake) = device_target(body, DEVICE) else {
        return;
    };
    for (uuid, app) in &intake.value.apps {
        match &app.release {
            AppRelease::Rejected(rejection) => assert!(!rejection.reasons.is_empty(), "{id}"),
            AppRelease::None => {}
            AppRelease::Wanted(..) => {
                for api in [41, 44, 51, 55] {
                    let _ = bodies_on(&intake.value, uuid, api);
                }
            }
        }
    }
}
