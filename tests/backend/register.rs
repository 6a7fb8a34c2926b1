//! `POST /device/register` (remote-api 1.2, 1.3).

use helios::base::hash;
use serde::Deserialize;

use crate::state::State;
use crate::wire::Answer;

#[derive(Deserialize)]
struct Register {
    uuid: String,
    application: serde_json::Value,
    device_type: String,
    api_key: Option<String>,
}

pub fn answer(state: &mut State, key: Option<&str>, body: &[u8]) -> Answer {
    if key.is_none() {
        return Answer::json(401, &serde_json::json!({"error": "API key required"}));
    }
    let Ok(asked) = serde_json::from_slice::<Register>(body) else {
        return Answer::empty(400);
    };
    let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let hex = asked.uuid.bytes().all(is_hex);
    let good = hex && matches!(asked.uuid.len(), 32 | 62) && asked.application.is_u64();
    if !good || asked.device_type.is_empty() {
        return Answer::empty(400);
    }
    let device = state.device(&asked.uuid);
    if device.key.is_some() {
        return Answer::text(409, "\"uuid\" must be unique.")
            .with("Content-Type", "text/html; charset=utf-8");
    }
    let made = asked.api_key.filter(|key| !key.is_empty());
    let key = made.unwrap_or_else(|| hash::sha256_hex(asked.uuid.as_bytes())[..32].to_owned());
    device.key = Some(key.clone());
    let answer = serde_json::json!({"id": device.id, "uuid": asked.uuid, "api_key": key});
    Answer::json(201, &answer)
}
