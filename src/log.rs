//! Where log lines go (state-engine 10.4).
//!
//! Plain lines without time stamps, which the journal adds: errors to standard
//! error, everything else to standard output. Where both are the journal, a line begins with its
//! priority and not with its level. `RUST_LOG` replaces the filter.
//! `env_filter` is the part of `env_logger` that is needed here; the rest of it
//! (time stamps, colours) would be paid for and not used.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;

use env_filter::Filter;
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::base::mask::masked;

/// What is shown when `RUST_LOG` says nothing.
/// The planner's own lines repeat what the jobs say better.
const DEFAULT_FILTER: &str = "warn,mahler=off,mahler_core=off,helios=info";

struct Lines {
    filter: Filter,
    /// Both streams go to the journal, which wants to know the priority of a line.
    is_journal: bool,
}

/// A level as the journal knows it (sd-daemon(3)).
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// One record as text.
fn line(record: &Record<'_>, is_journal: bool) -> String {
    let args = record.args();
    if !is_journal {
        return format!("{:<5} {args}\n", record.level());
    }
    let priority = priority(record.level());
    // The journal takes each line by itself.
    let text = args.to_string().replace('\n', &format!("\n<{priority}>"));
    format!("<{priority}>{text}\n")
}

/// Whether both streams are the one that `JOURNAL_STREAM` names: `DEVICE:INODE` (systemd.exec(5)).
fn is_journal(stream: &str) -> bool {
    ["/proc/self/fd/1", "/proc/self/fd/2"].iter().all(|file| {
        let found = std::fs::metadata(file);
        found.is_ok_and(|found| format!("{}:{}", found.dev(), found.ino()) == stream)
    })
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let line = masked(&line(record, self.is_journal));
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
    let is_journal = std::env::var("JOURNAL_STREAM").is_ok_and(|stream| is_journal(&stream));
    let lines = Lines { filter, is_journal };
    if log::set_boxed_logger(Box::new(lines)).is_ok() {
        log::set_max_level(if most == LevelFilter::Off {
            LevelFilter::Off
        } else {
            most
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_gets_priorities_and_a_terminal_words() {
        let text = |level, is_journal| {
            let record = Record::builder()
                .level(level)
                .args(format_args!("one\ntwo"))
                .build();
            line(&record, is_journal)
        };
        assert_eq!(text(Level::Info, false), "INFO  one\ntwo\n");
        assert_eq!(text(Level::Error, true), "<3>one\n<3>two\n");
        assert_eq!(text(Level::Warn, true), "<4>one\n<4>two\n");
        assert_eq!(text(Level::Info, true), "<6>one\n<6>two\n");
        assert_eq!(text(Level::Trace, true), "<7>one\n<7>two\n");
        assert!(!is_journal("0:0") && !is_journal(""));
    }
}
