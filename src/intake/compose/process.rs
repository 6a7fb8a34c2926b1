//! How the process is started, ended and started again (target-state 2.7, 2.8, 2.17).

use super::units;
use super::{Node, Refusal, ServiceConfig, opt_string};
use crate::intake::node::shown;
use crate::model::config::RestartPolicy;

pub(super) fn read(
    key: &str,
    node: Node<'_, '_>,
    into: &mut ServiceConfig,
) -> Result<bool, Refusal> {
    match key {
        "command" => into.command = node.nullable(words)?,
        "domainname" => into.domainname = opt_string(node)?,
        "entrypoint" => into.entrypoint = node.nullable(words)?,
        "hostname" => into.hostname = opt_string(node)?,
        "init" => into.init = node.nullable(|node| node.bool())?,
        "restart" => into.restart_policy = restart(node)?,
        "runtime" => into.runtime = opt_string(node)?,
        "stop_grace_period" => {
            let period = node.nullable(|node| duration(node, 1_000_000_000))?;
            into.stop_grace_period = period.map(|ns| ns / 1_000_000_000);
        }
        "stop_signal" => into.stop_signal = opt_string(node)?,
        "tty" => into.tty = node.bool()?,
        "user" => into.user = opt_string(node)?,
        "working_dir" => into.working_dir = opt_string(node)?,
        _ => return Ok(false),
    }
    Ok(true)
}

/// A duration in nanoseconds: a string with units, or an integer of `unit` nanoseconds.
pub(super) fn duration(node: Node<'_, '_>, unit: i64) -> Result<i64, Refusal> {
    if node.is_string() {
        let text = node.str()?;
        return units::nanoseconds(&text)
            .ok_or_else(|| node.refuse(format!("`{}` is no duration", shown(&text))));
    }
    if !node.is_number() {
        return Err(node.unexpected("a duration"));
    }
    node.int()?
        .checked_mul(unit)
        .ok_or_else(|| node.refuse("the duration is too long"))
}

/// A command: a list as it is, or a string that is split.
fn words(node: Node<'_, '_>) -> Result<Vec<String>, Refusal> {
    if node.is_string() {
        return split(&node.str()?).map_err(|reason| node.refuse(reason));
    }
    if node.is_list() {
        return node.list(|node| node.string());
    }
    Err(node.unexpected("a string or a list of strings"))
}

/// Splits like a POSIX shell splits words, and does nothing else (target-state 2.8).
fn split(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            '\'' => quoted(&mut chars, word.get_or_insert_default())?,
            '"' => double_quoted(&mut chars, word.get_or_insert_default())?,
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(c) => word.get_or_insert_default().push(c),
                None => word.get_or_insert_default().push('\\'),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

const UNCLOSED: &str = "a quote is not closed";

/// The rest of a single-quoted part.
fn quoted(chars: &mut impl Iterator<Item = char>, word: &mut String) -> Result<(), &'static str> {
    loop {
        match chars.next() {
            Some('\'') => return Ok(()),
            Some(c) => word.push(c),
            None => return Err(UNCLOSED),
        }
    }
}

/// The rest of a double-quoted part.
fn double_quoted(
    chars: &mut impl Iterator<Item = char>,
    word: &mut String,
) -> Result<(), &'static str> {
    loop {
        match chars.next() {
            Some('"') => return Ok(()),
            Some('\\') => match chars.next() {
                Some('\n') => {}
                Some(c @ ('$' | '`' | '"' | '\\')) => word.push(c),
                Some(c) => word.extend(['\\', c]),
                None => return Err(UNCLOSED),
            },
            Some(c) => word.push(c),
            None => return Err(UNCLOSED),
        }
    }
}

/// A restart policy (target-state 2.17).
fn restart(node: Node<'_, '_>) -> Result<RestartPolicy, Refusal> {
    let text = node.str()?;
    Ok(match &*text {
        "no" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure {
            max_retries: Some(0),
        },
        other => {
            let tries = other.strip_prefix("on-failure:").and_then(|tries| {
                let digits = tries.bytes().all(|byte| byte.is_ascii_digit());
                digits.then(|| tries.parse().ok()).flatten()
            });
            let Some(tries) = tries else {
                return Err(node.refuse(format!(
                    "`{}` is no restart policy; they are no, always, unless-stopped, \
                     on-failure and on-failure:N",
                    shown(other)
                )));
            };
            RestartPolicy::OnFailure {
                max_retries: Some(tries),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ts_2_8_words() {
        #[rustfmt::skip]
        let cases: &[(&str, Result<&[&str], &str>)] = &[
            ("", Ok(&[])),
            ("  \t\n ", Ok(&[])),
            ("a b\tc\nd", Ok(&["a", "b", "c", "d"])),
            ("a 'b c' \"d e\"", Ok(&["a", "b c", "d e"])),
            ("a'b'\"c\"d", Ok(&["abcd"])),
            ("'' \"\"", Ok(&["", ""])),
            (r#""\$ \` \" \\ \x""#, Ok(&[r#"$ ` " \ \x"#])),
            (r"'\'", Ok(&[r"\"])),
            (r"a\ b \'", Ok(&["a b", "'"])),
            ("a\\\nb", Ok(&["ab"])),
            ("\"a\\\nb\"", Ok(&["ab"])),
            ("a\\", Ok(&["a\\"])),
            ("\\", Ok(&["\\"])),
            ("a # b\nc", Ok(&["a", "c"])),
            ("a#b '#' \"#\"", Ok(&["a#b", "#", "#"])),
            ("a && $B | c > d; *", Ok(&["a", "&&", "$B", "|", "c", ">", "d;", "*"])),
            ("a 'b", Err(UNCLOSED)),
            ("a \"b\\", Err(UNCLOSED)),
        ];
        for (text, want) in cases {
            let want = want.map(|words| words.iter().map(|w| (*w).to_owned()).collect());
            assert_eq!(split(text), want, "{text}");
        }
    }
}
