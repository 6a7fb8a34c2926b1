//! Environment and labels.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::base::map::Map;

/// `json` with the values of its member `environment` typed for display.
///
/// The member is found by writing it again: canonical text is written in one way.
pub(super) fn typed_for_display(json: &str, environment: &Map<String, Option<String>>) -> String {
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Shown<'a> {
        Text(&'a str),
        Typed(&'a RawValue),
        Unset(()),
    }
    if environment.is_empty() {
        return json.to_owned();
    }
    let shown: Map<&str, Shown<'_>> = environment
        .iter()
        .map(|(name, value)| {
            let shown = match value {
                None => Shown::Unset(()),
                Some(value) => canonical(value).map_or(Shown::Text(value), Shown::Typed),
            };
            (name.as_str(), shown)
        })
        .collect();
    let (Ok(plain), Ok(shown)) = (
        serde_json::to_string(environment),
        serde_json::to_string(&shown),
    ) else {
        return json.to_owned(); // writing to memory does not fail
    };
    // `"environment":{` inside a string value would have its quotes escaped, and
    // no member before this one holds a member of that name: annotations have text.
    let key = "\"environment\":";
    match json.find(&format!("{key}{plain}")) {
        Some(at) => {
            let (start, rest) = (at + key.len(), at + key.len() + plain.len());
            format!("{}{shown}{}", &json[..start], &json[rest..])
        }
        None => json.to_owned(),
    }
}

/// The text as a JSON number or boolean, if it is exactly what JSON would write for it.
fn canonical(text: &str) -> Option<&RawValue> {
    let integer = text.parse::<i64>().is_ok_and(|n| n.to_string() == text)
        || text.parse::<u64>().is_ok_and(|n| n.to_string() == text);
    let fraction = || {
        crate::base::json::from_str::<f64>(text)
            .is_ok_and(|n| serde_json::to_string(&n).is_ok_and(|written| written == text))
    };
    if text == "true" || text == "false" || integer || fraction() {
        crate::base::json::from_str(text).ok()
    } else {
        None
    }
}

/// The `io.balena` spelling of a label that the document may spell `io.resin`
/// (target-state 4.1); `None` when it is no old spelling.
#[must_use]
pub fn modern_label(key: &str) -> Option<String> {
    key.starts_with("io.resin.")
        .then(|| key.replace("resin", "balena"))
}

/// A label by its `io.balena` name; the old spelling counts where the new one is absent.
#[must_use]
pub fn label<'a>(labels: &'a Map<String, String>, name: &str) -> Option<&'a str> {
    if let Some(value) = labels.get(name) {
        return Some(value);
    }
    labels
        .iter()
        .filter(|(key, _)| key.starts_with("io.resin."))
        .find(|(key, _)| modern_label(key).as_deref() == Some(name))
        .map(|(_, value)| value.as_str())
}

/// Whether a feature label's value switches it on (target-state 4.1).
#[must_use]
pub fn is_on(value: &str) -> bool {
    value == "1" || value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("on")
}

#[cfg(test)]
mod tests {
    use super::super::ServiceConfig;
    use super::*;

    #[test]
    fn la_d6_values_are_typed_only_if_nothing_is_lost() {
        #[rustfmt::skip]
        let cases = [
            ("123", "123"), ("-5", "-5"), ("true", "true"), ("1.5", "1.5"), ("0", "0"),
            ("18446744073709551615", "18446744073709551615"),
            ("007", "\"007\""), ("1.10", "\"1.10\""), ("1e3", "\"1e3\""), ("+5", "\"+5\""),
            ("-0", "\"-0\""), ("nan", "\"nan\""), ("inf", "\"inf\""), ("TRUE", "\"TRUE\""),
            ("", "\"\""), (" 1", "\" 1\""), ("null", "\"null\""),
            ("99999999999999999999", "\"99999999999999999999\""),
        ];
        for (text, want) in cases {
            let config = ServiceConfig {
                environment: [
                    ("A".to_owned(), Some(text.to_owned())),
                    ("B".to_owned(), None),
                ]
                .into(),
                ..ServiceConfig::default()
            };
            let want = format!(
                r#"{{"cgroup":"private","environment":{{"A":{want},"B":null}},"restart_policy":{{"name":"no"}}}}"#
            );
            assert_eq!(config.to_api_json(), want, "{text}");
        }
    }

    #[test]
    fn ts_4_1_old_label_names() {
        let labels: Map<String, String> = [
            ("io.resin.features.resin-api", "1"),
            ("io.resin.features.dbus", "1"),
            ("io.balena.features.dbus", "0"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into();
        assert_eq!(label(&labels, "io.balena.features.balena-api"), Some("1"));
        assert_eq!(label(&labels, "io.balena.features.dbus"), Some("0"));
        assert_eq!(label(&labels, "io.balena.features.sysfs"), None);
    }
}
