//! Answers in the forms of D-28, and the words of local-api 1.4. Pure.

use serde::Serialize;
use serde_json::Value;

use crate::base::json::fields;
use crate::model::capability::Capability;

/// One answer, ready to be written.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Fields besides the framing.
    pub fields: Vec<(&'static str, String)>,
    /// The body, may be empty.
    pub body: Vec<u8>,
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    errors: &'a [Wrong],
}

/// One thing that is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Wrong {
    /// Where.
    pub path: String,
    /// What.
    pub message: String,
}

impl Answer {
    /// A status and nothing else.
    #[must_use]
    pub const fn empty(status: u16) -> Answer {
        Answer {
            status,
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    /// `200` with text.
    #[must_use]
    pub fn text(text: &str) -> Answer {
        let kind = ("content-type", "text/plain; charset=utf-8".to_owned());
        Answer {
            status: 200,
            fields: vec![kind],
            body: text.as_bytes().to_vec(),
        }
    }

    /// A JSON document.
    #[must_use]
    pub fn json(status: u16, body: Vec<u8>) -> Answer {
        Answer {
            status,
            fields: vec![("content-type", "application/json".to_owned())],
            body,
        }
    }

    /// Problem details (RFC 9457), in the media type that the client takes.
    #[must_use]
    pub fn problem(status: u16, accept: Option<&str>, detail: &str, errors: &[Wrong]) -> Answer {
        let title = title(status);
        let problem = Problem {
            r#type: "about:blank",
            title,
            status,
            detail,
            errors,
        };
        let body = serde_json::to_vec(&problem).unwrap_or_default();
        let mut answer = Answer::json(status, body);
        if accept.is_some_and(|accept| accept.contains("application/problem+json")) {
            answer.fields[0].1 = "application/problem+json".to_owned();
        }
        answer
    }

    /// The same with one more field.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Answer {
        self.fields.push((name, value.into()));
        self
    }
}

/// The phrase that goes with a status code.
const fn title(status: u16) -> &'static str {
    match status {
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        413 => "Content Too Large",
        415 => "Unsupported Media Type",
        422 => "Unprocessable Content",
        423 => "Locked",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Error",
    }
}

/// `force` and `cancel` of a query: exactly `true` or `false`, each once (local-api 1.4).
///
/// # Errors
/// The detail of the 400.
pub fn flags<'q>(
    pairs: impl Iterator<Item = (std::borrow::Cow<'q, str>, std::borrow::Cow<'q, str>)>,
    names: &[&'static str],
) -> Result<Vec<bool>, String> {
    let mut values = vec![None; names.len()];
    for (key, value) in pairs {
        let Some(index) = names.iter().position(|name| *name == key) else {
            continue;
        };
        let say = |what: String| Err(format!("Failed to deserialize query string: {what}"));
        if values[index].is_some() {
            return say(format!("duplicate field `{key}`"));
        }
        values[index] = match &*value {
            "true" => Some(true),
            "false" => Some(false),
            _ => return say(format!("{key}: provided string was not `true` or `false`")),
        };
    }
    Ok(values
        .into_iter()
        .map(|value| value.unwrap_or(false))
        .collect())
}

/// What a machine offers: an object with one member for each thing, which says whether it is
/// `available`, what was found as `detail` or why not as `reason`, and what follows.
#[must_use]
pub fn capabilities(rows: &[Capability]) -> Vec<u8> {
    let members = rows.iter().map(|row| {
        let (name, text) = match &row.found {
            Ok(detail) => ("detail", detail),
            Err(why) => ("reason", why),
        };
        let texts = [(name, text.as_str()), ("follows", row.follows)];
        let facts = row.facts.iter().map(|(name, value)| (*name, &**value));
        let texts = texts.into_iter().filter(|(_, text)| !text.is_empty());
        let texts = texts
            .chain(facts)
            .map(|(name, text)| (name.to_owned(), Value::String(text.to_owned())));
        let is_there = ("available".to_owned(), Value::Bool(row.found.is_ok()));
        let body = texts.chain(std::iter::once(is_there)).collect();
        (row.id.to_owned(), Value::Object(body))
    });
    let body = Value::Object(members.collect());
    body.to_string().into_bytes()
}

/// Whether a media type is JSON: `application/json` or `application/*+json`.
#[must_use]
pub fn is_json(content_type: Option<&str>) -> bool {
    let essence = content_type
        .unwrap_or("")
        .split(';')
        .next()
        .unwrap_or("")
        .trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json"
        || essence.strip_prefix("application/").is_some_and(|rest| {
            rest.strip_suffix("+json")
                .is_some_and(|name| !name.is_empty())
        })
}

/// `force` and `cancel` of a `/v1/update` body (D-17): booleans, or the legacy
/// supervisor's spellings of them. An empty body means neither.
///
/// # Errors
/// The message of the 400.
pub fn update_body(body: &[u8]) -> Result<(bool, bool), String> {
    #[derive(Default)]
    struct Body {
        force: Option<Value>,
        cancel: Option<Value>,
    }

    fields!(Body { force, cancel });

    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok((false, false));
    }
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err("the body is not a JSON object".to_owned());
    }
    let read: Body = serde_json::from_slice(body).map_err(|err| format!("invalid body: {err}"))?;
    let flag = |name: &str, value: Option<Value>| match value {
        None => Ok(false),
        Some(value) => truthy(&value).ok_or_else(|| format!("{name}: expected a boolean")),
    };
    Ok((flag("force", read.force)?, flag("cancel", read.cancel)?))
}

fn truthy(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(value) => Some(*value),
        Value::Number(number) => match number.as_u64() {
            Some(1) => Some(true),
            Some(0) => Some(false),
            _ => None,
        },
        Value::String(text) => match text.as_str() {
            "1" | "true" | "on" => Some(true),
            "0" | "false" | "off" => Some(false),
            _ => None,
        },
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::percent::query_pairs;

    #[test]
    fn la_1_4_query_flags() {
        #[rustfmt::skip]
        let cases = [
            ("", Ok(vec![false, false])),
            ("force=true", Ok(vec![true, false])),
            ("cancel=true&force=false&x=1", Ok(vec![false, true])),
            ("force=1", Err("force: provided string")),
            ("force", Err("force: provided string")),
            ("cancel=TRUE", Err("cancel: provided string")),
            ("force=true&force=true", Err("duplicate field `force`")),
        ];
        for (query, want) in cases {
            match (flags(query_pairs(query), &["force", "cancel"]), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{query}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{query}: {got}"),
                (got, want) => panic!("{query}: {got:?}, not {want:?}"),
            }
        }
    }

    #[test]
    fn la_1_4_media_types() {
        for good in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/x+json",
        ] {
            assert!(is_json(Some(good)), "{good}");
        }
        for bad in [
            "",
            "text/json",
            "application/x-www-form-urlencoded",
            "application/+json",
        ] {
            assert!(!is_json(Some(bad)), "{bad}");
        }
        assert!(!is_json(None));
    }

    #[test]
    fn d_17_s_poll_20_21_update_bodies() {
        #[rustfmt::skip]
        let cases: &[(&str, Result<(bool, bool), ()>)] = &[
            ("", Ok((false, false))), (" \n", Ok((false, false))), ("{}", Ok((false, false))),
            (r#"{"force":true}"#, Ok((true, false))),
            (r#"{"force":"on","cancel":1}"#, Ok((true, true))),
            (r#"{"force":0,"cancel":"false"}"#, Ok((false, false))),
            (r#"{"force":"yes"}"#, Err(())), (r#"{"force":2}"#, Err(())),
            (r#"{"force":[]}"#, Err(())), ("null", Err(())), ("[]", Err(())),
            ("{", Err(())), ("force=true", Err(())), ("{}x", Err(())),
        ];
        for (body, want) in cases {
            assert_eq!(
                update_body(body.as_bytes()).map_err(|_| ()),
                *want,
                "{body}"
            );
        }
    }

    #[test]
    fn d_28_problems_are_json_whatever_the_text() {
        let wrong = [Wrong {
            path: "a".into(),
            message: "a \"quote\"\n".into(),
        }];
        let answer = Answer::problem(422, None, "line\n\"x\"", &wrong);
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(body["detail"], "line\n\"x\"");
        assert_eq!(body["errors"][0]["message"], "a \"quote\"\n");
        assert_eq!(answer.fields[0].1, "application/json");
        let asked = Answer::problem(404, Some("application/problem+json"), "", &[]);
        assert_eq!(asked.fields[0].1, "application/problem+json");
    }
}
