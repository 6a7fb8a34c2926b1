//! Says in the log what this machine offers: at the start, and whatever changes.

use futures_lite::future;

use crate::base::hash;
use crate::limits;
use crate::model::capability::{self, Capability};
use crate::plan::board::Board;
use crate::plan::work::Tools;
use crate::world::capabilities::Capabilities;

/// What was said of a row, and a digest of that.
type Said = (&'static str, u64);

/// Never ends.
pub async fn run(tools: &Tools, machine: &dyn Capabilities) {
    let mut said: Vec<Said> = Vec::new();
    loop {
        let engine = read(tools).await;
        tell(machine.look().await, &mut said);
        let late = tools.clock.now() + limits::COMPARE_INTERVAL;
        // An engine that comes or goes is seen by the flow that reads it; the rest says nothing
        // when it changes.
        let change = async {
            let mut seen = 0;
            while tools.board.look(engine_of) == engine {
                seen = tools.board.newer(seen).await;
            }
        };
        future::or(change, tools.clock.sleep_until(late)).await;
    }
}

/// Whether the engine answers, and a digest of who it is.
fn engine_of(board: &Board) -> (bool, u64) {
    let name = board.engine.as_deref().unwrap_or_default();
    (board.engine_down.is_none(), hash::short(name.as_bytes()))
}

/// Waits for the first word of the engine: at the start others have to ask it first.
async fn read(tools: &Tools) -> (bool, u64) {
    let mut seen = 0;
    loop {
        let known = tools.board.look(|board| {
            let is_known = board.is_read || board.engine_down.is_some();
            is_known.then(|| engine_of(board))
        });
        match known {
            Some(known) => return known,
            None => seen = tools.board.newer(seen).await,
        }
    }
}

/// Logs what is new of the rows, as a table.
fn tell(rows: Vec<Capability>, said: &mut Vec<Said>) {
    let now: Vec<Said> = rows.iter().map(|row| (row.id, digest(row))).collect();
    let new: Vec<&Capability> = rows
        .iter()
        .zip(&now)
        .filter(|(_, now)| !said.contains(now))
        .map(|(row, _)| row)
        .collect();
    if !new.is_empty() {
        match said.is_empty() {
            true => log::info!("what this machine offers:"),
            false => log::info!("what this machine offers has changed:"),
        }
        for line in capability::lines(&new) {
            log::info!("  {line}");
        }
    }
    *said = now;
}

/// Tells whether a row changed; of what changes all the time only whether it is there counts.
fn digest(row: &Capability) -> u64 {
    let text = match &row.found {
        Ok(_) if row.is_fleeting => "+",
        Ok(text) => text,
        Err(text) => text,
    };
    hash::short(format!("{} {text}", row.found.is_ok()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(found: Result<&str, &str>, is_fleeting: bool) -> Capability {
        let found = found.map(str::to_owned).map_err(str::to_owned);
        Capability {
            is_fleeting,
            ..Capability::new(("x", "x"), found, ("", ""))
        }
    }

    #[test]
    fn issue_8_free_space_alone_is_no_change() {
        let same = |one: Capability, other: Capability| digest(&one) == digest(&other);
        assert!(same(row(Ok("1"), true), row(Ok("2"), true)));
        assert!(!same(row(Ok("1"), false), row(Ok("2"), false)));
        assert!(!same(row(Ok("1"), true), row(Err("1"), true)));
        assert!(!same(row(Ok("1"), false), row(Err("1"), false)));
        let mut said = Vec::new();
        tell(vec![row(Ok("1"), false)], &mut said);
        let before = said.clone();
        tell(vec![row(Ok("1"), false)], &mut said);
        assert_eq!(said, before);
        tell(vec![row(Err("gone"), false)], &mut said);
        assert_ne!(said, before);
    }
}
