//! What the agent logs, for the history of a seed that failed.

use std::cell::RefCell;

use log::{LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Logged;

impl Log for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("helios")
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let line = format!("{} {}", record.level(), record.args());
            LINES.with(|lines| lines.borrow_mut().push(line));
        }
    }

    fn flush(&self) {}
}

/// Keeps what is logged from now on, a thread for itself.
pub fn begin() {
    // A second time it is there already.
    let _ = log::set_logger(&Logged);
    log::set_max_level(LevelFilter::Debug);
}

/// Hands on what was logged since the last time.
pub fn take(mut each: impl FnMut(String)) {
    LINES.with(|lines| lines.borrow_mut().drain(..).for_each(&mut each));
}
