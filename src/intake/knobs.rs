//! The target's `config`, as far as it has a meaning here (target-state 6, D-40).

use std::time::Duration;

use super::node::{Members, Node, Path};
use crate::model::target::Knobs;

/// Reads the settings; what is not as it should be counts as absent (target-state 6.1).
pub(super) fn read(node: Node<'_, '_>) -> Knobs {
    let Ok(members) = node.members() else {
        return Knobs::default();
    };
    let flag = |name: &str| text(&members, name).and_then(|text| flag(&text));
    let interval = text(&members, "SUPERVISOR_POLL_INTERVAL");
    Knobs {
        poll_interval: interval.and_then(|text| milliseconds(&text)),
        override_lock: flag("SUPERVISOR_OVERRIDE_LOCK")
            .or_else(|| flag("OVERRIDE_LOCK"))
            .unwrap_or(false),
        instant_update: flag("SUPERVISOR_INSTANT_UPDATE_TRIGGER"),
        hardware_metrics: flag("SUPERVISOR_HARDWARE_METRICS"),
    }
}

/// The setting as text: with the first prefix that is there, then without.
fn text(members: &Members<'_>, name: &str) -> Option<String> {
    let raw = ["BALENA_", "RESIN_", ""]
        .iter()
        .find_map(|prefix| members.get(format!("{prefix}{name}").as_str()))?;
    let node = Node::new(raw, &Path::Root);
    if node.is_string() {
        return node.string().ok();
    }
    let bare = node.is_number() || node.bool().is_ok();
    bare.then(|| raw.get().to_owned())
}

/// Legacy's spellings of yes and no.
fn flag(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "on" => Some(true),
        "0" | "false" | "off" => Some(false),
        _ => None,
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| text.parse().ok().map(Duration::from_millis))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Knobs {
        read(Node::new(
            crate::base::json::from_str(text).unwrap(),
            &Path::Root,
        ))
    }

    #[test]
    fn ts_6_1_settings() {
        for text in [
            "null",
            "[]",
            "5",
            "\"x\"",
            "{}",
            r#"{"BALENA_SUPERVISOR_POLL_INTERVAL":[]}"#,
        ] {
            assert_eq!(of(text), Knobs::default(), "{text}");
        }
        let knobs = of(
            r#"{"RESIN_SUPERVISOR_POLL_INTERVAL":"900000","SUPERVISOR_POLL_INTERVAL":"1",
            "BALENA_SUPERVISOR_OVERRIDE_LOCK":"On","RESIN_SUPERVISOR_OVERRIDE_LOCK":"0",
            "RESIN_SUPERVISOR_INSTANT_UPDATE_TRIGGER":false,"BALENA_SUPERVISOR_HARDWARE_METRICS":"maybe"}"#,
        );
        let want = Knobs {
            poll_interval: Some(Duration::from_secs(900)),
            override_lock: true,
            instant_update: Some(false),
            hardware_metrics: None,
        };
        assert_eq!(knobs, want);
        assert!(of(r#"{"RESIN_OVERRIDE_LOCK":1}"#).override_lock);
        assert_eq!(
            of(r#"{"BALENA_SUPERVISOR_POLL_INTERVAL":600000}"#).poll_interval,
            Some(Duration::from_secs(600))
        );
        assert_eq!(
            of(r#"{"BALENA_SUPERVISOR_POLL_INTERVAL":"-5"}"#).poll_interval,
            None
        );
    }
}
