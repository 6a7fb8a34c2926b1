//! `GET /auth/v1/token`: rights for a registry (remote-api 4.3).
//!
//! Its tokens have the real shape. Their signature is made up, as in the recorded
//! exchanges: a registry that checks it is no registry for this backend.

use std::time::{SystemTime, UNIX_EPOCH};

use helios::base::base64::url_safe;
use helios::base::random;
use serde_json::{Value, json};

use crate::state::{State, members};
use crate::wire::{Answer, Call};

/// A token lives so long.
const LIFE_SECS: u64 = 14_400;

pub fn answer(state: &State, call: &Call) -> Answer {
    let basic = call
        .field("authorization")
        .and_then(|value| value.strip_prefix("Basic "));
    let (user, key) = match basic.map(decoded) {
        Some(pair) => match pair.split_once(':') {
            Some((user, key)) => (user.to_owned(), Some(key.to_owned())),
            None => return Answer::empty(401),
        },
        None => (String::new(), call.key()),
    };
    if key.as_ref().is_some_and(|key| !state.is_key(key)) {
        return Answer::empty(401);
    }
    let owner = state
        .devices
        .iter()
        .find(|(_, device)| key.is_some() && device.key == key);
    let owner = owner.map(|(uuid, _)| uuid.as_str());
    let is_owner = owner.is_some_and(|uuid| user.strip_prefix("d_").unwrap_or(&user) == uuid);
    let access: Vec<Value> = call
        .asked("scope")
        .filter_map(|scope| grant(state, owner, &scope))
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs());
    let claims = json!({
        "jti": random::hex(16).unwrap_or_default(),
        "nbf": now - 10,
        "access": access,
        "iat": now,
        "exp": now + LIFE_SECS,
        "aud": call.asked("service").next().unwrap_or_default(),
        "iss": "api.example.test",
        "sub": if is_owner { user.as_str() } else { "" },
    });
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": "MADE:UPXX"});
    let part = |bytes: &[u8]| url_safe(bytes).trim_end_matches('=').to_owned();
    let (header, claims) = (header.to_string(), claims.to_string());
    let signature = part(&[b's'; 64]);
    let token = format!(
        "{}.{}.{signature}",
        part(header.as_bytes()),
        part(claims.as_bytes())
    );
    Answer::json(200, &json!({"token": token}))
}

/// What is granted of a scope; `None` when it is malformed.
fn grant(state: &State, owner: Option<&str>, scope: &str) -> Option<Value> {
    let rest = scope.strip_prefix("repository:")?;
    let (rest, actions) = rest.rsplit_once(':')?;
    if !actions
        .split(',')
        .all(|action| matches!(action, "pull" | "push"))
    {
        return None;
    }
    let name = rest.split(['@', ':']).next()?;
    let is_part = |part: &str| {
        let known =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
        !part.is_empty() && part.bytes().all(known)
    };
    if !name.contains('/') || !name.split('/').all(is_part) {
        return None;
    }
    let is_public =
        name == "resin/resinos" || name.starts_with("resin/") && name.ends_with("-supervisor");
    let mine = owner.and_then(|uuid| state.targets.get(uuid));
    let is_mine = mine.is_some_and(|target| names_image(target.get(), name));
    let may = actions.contains("pull") && (is_public || is_mine);
    let granted: &[&str] = if may { &["pull"] } else { &[] };
    Some(json!({"name": name, "type": "repository", "actions": granted}))
}

/// Whether a target has an image whose name, less the registry, is this.
fn names_image(target: &str, name: &str) -> bool {
    let Ok(target) = serde_json::from_str::<Value>(target) else {
        return false;
    };
    let releases = members(&target["apps"]).flat_map(|(_, app)| members(&app["releases"]));
    let services = releases.flat_map(|(_, release)| members(&release["services"]));
    let mut images = services.filter_map(|(_, service)| service["image"].as_str());
    images.any(|image| {
        let path = image.split_once('/').map_or(image, |(_, path)| path);
        path.split(['@', ':']).next() == Some(name)
    })
}

/// Basic credentials (RFC 4648 section 4); what is none comes out empty.
fn decoded(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.trim().trim_end_matches('=').bytes() {
        let Some(value) = ALPHABET.iter().position(|known| *known == byte) else {
            return String::new();
        };
        bits = bits << 6 | u32::try_from(value).unwrap_or_default();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    String::from_utf8(bytes).unwrap_or_default()
}
