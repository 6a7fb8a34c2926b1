//! What a machine offers an agent, one thing a row.

use crate::limits::TABLE_CELL_CHARS_MAX;

/// One thing that is there or not, and what follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capability {
    /// Its name for programs: `engine`.
    pub id: &'static str,
    /// Its name for people: `container engine`.
    pub what: &'static str,
    /// What was found, in a few words; `Err`: it is not there, and why.
    pub found: Result<String, String>,
    /// The same for programs, name and value.
    pub facts: Vec<(&'static str, String)>,
    /// What an agent does with it, or without it. May be empty.
    pub follows: &'static str,
    /// Without it an agent cannot do its work.
    pub is_needed: bool,
    /// What was found is another thing at each look.
    pub is_fleeting: bool,
}

impl Capability {
    /// One that an agent can do without; of the pair the first follows where it was found.
    #[must_use]
    pub fn new(
        (id, what): (&'static str, &'static str),
        found: Result<String, String>,
        (with, without): (&'static str, &'static str),
    ) -> Capability {
        let follows = if found.is_ok() { with } else { without };
        Capability {
            id,
            what,
            found,
            facts: Vec::new(),
            follows,
            is_needed: false,
            is_fleeting: false,
        }
    }

    /// The same, without which an agent cannot do its work.
    #[must_use]
    pub fn needed(self) -> Capability {
        Capability {
            is_needed: true,
            ..self
        }
    }

    /// The same with one more fact, as far as it is known.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: Option<String>) -> Capability {
        self.facts.extend(value.map(|value| (name, value)));
        self
    }
}

/// Whether an agent can work with these.
#[must_use]
pub fn suffice(rows: &[Capability]) -> bool {
    rows.iter().all(|row| !row.is_needed || row.found.is_ok())
}

/// The rows as lines of a table.
#[must_use]
pub fn lines(rows: &[&Capability]) -> Vec<String> {
    let cells = rows.iter().map(|row| match &row.found {
        Ok(found) => (row.what, "ok", short(found)),
        Err(why) => (row.what, "none", short(why)),
    });
    let cells: Vec<_> = cells.collect();
    let width = |each: &dyn Fn(&(&str, &str, String)) -> usize| cells.iter().map(each).max();
    let what = width(&|cell| cell.0.chars().count()).unwrap_or(0);
    let found = width(&|cell| cell.2.chars().count()).unwrap_or(0);
    let line = |((name, state, cell), row): (&(&str, &str, String), &&Capability)| {
        let line = format!("{name:what$}  {state:4}  {cell:found$}  {}", row.follows);
        line.trim_end().to_owned()
    };
    cells.iter().zip(rows).map(line).collect()
}

fn short(text: &str) -> String {
    let end = text.char_indices().nth(TABLE_CELL_CHARS_MAX);
    end.map_or_else(|| text.to_owned(), |(at, _)| format!("{}...", &text[..at]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_says_what_follows_and_the_columns_stand() {
        let engine = Capability::new(
            ("engine", "engine"),
            Ok("Docker 1".into()),
            ("apps run", "start it"),
        );
        let bus = Capability::new(
            ("bus", "a bus"),
            Err("no".into()),
            ("", "nothing of the host"),
        );
        let want = [
            "engine  ok    Docker 1  apps run",
            "a bus   none  no        nothing of the host",
        ];
        assert_eq!(lines(&[&engine, &bus]), want);
        assert!(suffice(&[engine.clone().needed(), bus.clone()]));
        assert!(!suffice(&[engine, bus.needed()]));
        let long = Capability::new(("x", "x"), Ok("y".repeat(1000)), ("", ""));
        assert!(lines(&[&long])[0].len() < 200);
    }
}
