//! Where log lines go (state-engine 10.4).
//!
//! Plain lines without time stamps, which the journal adds: errors to standard
//! error, everything else to standard output. `RUST_LOG` replaces the filter.
//! `env_filter` is the part of `env_logger` that is needed here; the rest of it
//! (time stamps, colours) would be paid for and not used.

use std::io::Write as _;

use env_filter::Filter;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::base::mask::masked;

/// What is shown when `RUST_LOG` says nothing.
/// The planner's own lines repeat what the jobs say better.
const DEFAULT_FILTER: &str = "warn,mahler=off,mahler_core=off,helios=info";

struct Lines {
    filter: Filter,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let line = masked(&format!("{:<5} {}\n", record.level(), record.args()));
        // A log that cannot be written must not stop the agent.
        let _ = if record.level() == Level::Error {
            std::io::stderr().write_all(line.as_bytes())
        } else {
            std::io::stdout().write_all(line.as_bytes())
        };
    }

    fn flush(&self) {
        let _ = std::io::stdout().flush();
    }
}

/// Starts logging, once. `filter` is the value of `RUST_LOG`, if there is one.
pub fn start(filter: Option<&str>) {
    let filter = filter.map_or(DEFAULT_FILTER, |text| {
        if text.is_empty() {
            DEFAULT_FILTER
        } else {
            text
        }
    });
    let filter = env_filter::Builder::new().parse(filter).build();
    let most = filter.filter();
    if log::set_boxed_logger(Box::new(Lines { filter })).is_ok() {
        log::set_max_level(if most == LevelFilter::Off {
            LevelFilter::Off
        } else {
            most
        });
    }
}
