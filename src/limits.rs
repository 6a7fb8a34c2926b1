//! Everything that can grow, and how far. Adds up to the memory budget.
//!
//! Units are in the names. A limit that is hit has a chosen answer: refuse,
//! drop the oldest, or wait; the user of the constant says which.

use std::time::Duration;

/// A target document or a local app document as a whole; larger ones are refused unread.
pub const TARGET_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A local API request body. Fixed by the API's contract (local-api 1.4).
pub const API_BODY_BYTES_MAX: usize = 2 * 1024 * 1024;
/// One JSON answer of the engine (an inspect, one element of a list).
pub const ENGINE_BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One line of the engine's pull progress or event stream.
pub const ENGINE_LINE_BYTES_MAX: usize = 256 * 1024;

/// Services, networks or volumes that are planned and worked on at once, per app.
/// A plan's memory grows with the square of it (planner-memory.md).
pub const WINDOW_MAX: usize = 8;
/// Images pulled at once, unless `--pulls-max` says otherwise.
pub const PULLS_MAX: usize = 2;
/// A pull publishes its progress in steps of this size.
pub const PULL_PROGRESS_STEP_PERCENT: u8 = 5;
/// Bytes of one small stored document (identity, name, app).
pub const DOCUMENT_BYTES_MAX: usize = TARGET_BYTES_MAX + 64 * 1024;

/// Any engine call but a pull, a stop and the event stream: until its answer's head.
pub const ENGINE_CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// Added to a container's grace period before a stop is given up.
pub const ENGINE_STOP_MARGIN: Duration = Duration::from_secs(30);
/// A container's grace period when its configuration names none.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// A pull that sends nothing for so long is given up and begun again.
pub const PULL_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Wait before the engine's socket is tried again.
pub const ENGINE_RETRY: Duration = Duration::from_secs(2);
/// Events that come in a burst are answered by one comparison, so long after the first.
pub const EVENT_SETTLE: Duration = Duration::from_millis(200);
/// The current state is compared with the target at least so often (drift that made no event).
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// The longest wait between two tries of the same failing thing (D-19).
pub const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// `GET /v3/device*` waits so long for the first read of the engine (D-34).
pub const FIRST_READ_WAIT: Duration = Duration::from_secs(5);
/// A reader who comes too early is told to come back after this many seconds.
pub const FIRST_READ_RETRY_AFTER_SECS: u32 = 5;
/// From SIGTERM to exit, everything included (D-32).
pub const SHUTDOWN: Duration = Duration::from_secs(8);
/// The part of it that the last report may take (R-REP-12).
pub const SHUTDOWN_REPORT: Duration = Duration::from_secs(2);

/// Reports start at least so far apart (R-REP-6).
pub const REPORT_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// A report's body (R-REP-8).
pub const REPORT_BYTES_MAX: usize = 400 * 1024;
/// `Retry-After` is taken for at most this (R-POLL-2).
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// The known target is handed on again after so long without one (remote-api 2.3).
pub const REEMIT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// Poll intervals of the target's configuration are clamped to this range (R-POLL-1).
pub const POLL_INTERVAL_RANGE: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(24 * 3600));
