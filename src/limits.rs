//! Everything that can grow, and how far. Adds up to the memory budget.
//!
//! Units are in the names. A limit that is hit has a chosen answer: refuse,
//! drop the oldest, or wait; the user of the constant says which.

use std::time::Duration;

/// A target document or a local app document as a whole; larger ones are refused unread.
pub const TARGET_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Bytes that the configurations of all services of a document may have, or as many as the
/// document itself: short forms stand for more than themselves.
pub const CONFIG_BYTES_MAX: usize = 4 * 1024 * 1024;
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
/// Free space of the engine below which nothing is pulled, unless `--disk-reserve-mib` says
/// otherwise (D-36).
pub const DISK_RESERVE_MIB: u64 = 256;
/// A manifest, a configuration or a token of a registry (FD-07).
pub const MANIFEST_BYTES_MAX: usize = 128 * 1024;
/// One of these in all: meanwhile its pull waits.
pub const MANIFEST_TIMEOUT: Duration = Duration::from_secs(15);
/// A registry whose manifest cannot be read, and that takes so long about it...
pub const MANIFEST_SLOW: Duration = Duration::from_secs(2);
/// ...is not asked for one for so long: its pulls wait for nothing.
pub const MANIFEST_SILENT: Duration = Duration::from_secs(10 * 60);
/// So many of those are remembered.
pub const MANIFEST_SILENT_MAX: usize = 8;
/// Images whose size is remembered because they did not fit.
pub const TOO_LARGE_MAX: usize = 64;
/// A pull publishes its progress in steps of this size.
pub const PULL_PROGRESS_STEP_PERCENT: u8 = 5;
/// Bytes of one small stored document (identity, name, app).
pub const DOCUMENT_BYTES_MAX: usize = TARGET_BYTES_MAX + 64 * 1024;
/// Of so many directories it is remembered that they are synced; the others are synced once more.
pub const STORE_DIRS_MET: usize = 64;

/// Any engine call but a pull, a stop and the event stream: until its answer's head.
pub const ENGINE_CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// To connect to the engine, whose backlog is full while it is busy.
pub const ENGINE_CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Added to a container's grace period before a stop is given up.
pub const ENGINE_STOP_MARGIN: Duration = Duration::from_secs(30);
/// A container's grace period when its configuration names none.
pub const STOP_GRACE_DEFAULT: Duration = Duration::from_secs(10);
/// A pull that sends nothing for so long is given up and begun again.
pub const PULL_IDLE_TIMEOUT: Duration = Duration::from_secs(300);
/// Wait before the engine's socket is tried again.
pub const ENGINE_RETRY: Duration = Duration::from_secs(2);
/// What of each stream of a command in a container is kept; the rest is dropped.
pub const EXEC_OUTPUT_BYTES_MAX: usize = 64 * 1024;
/// The end of such a command is looked for so often once its output has ended...
pub const EXEC_LOOKS_MAX: u32 = 50;
/// ...and so far apart.
pub const EXEC_LOOK: Duration = Duration::from_millis(100);
/// Events of an action of ours may come so long after its answer.
pub const OWN_EVENT_DELAY: Duration = Duration::from_secs(1);
/// Actions of ours that are remembered for that; the oldest is forgotten.
pub const OWN_EVENTS_MAX: usize = 64;
/// What a container's networks did is mostly told with its own start or end, which is looked
/// at anyway: so long that is waited for.
pub const EVENT_SETTLE: Duration = Duration::from_millis(200);
/// Everything is looked at so long after an event about no single container, also while plans
/// run (FD-23).
pub const EVENT_LOOK_MAX: Duration = Duration::from_secs(1);
/// The current state is compared with the target at least so often (drift that made no event).
pub const COMPARE_INTERVAL: Duration = Duration::from_secs(15 * 60);

/// Two containers of a service run beside each other for so long, unless the label says
/// otherwise (target-state 4.3).
pub const HAND_OVER_DEFAULT: Duration = Duration::from_secs(60);
/// Meanwhile the new one's word is looked for so often.
pub const HAND_OVER_LOOK: Duration = Duration::from_millis(100);
/// A container that cannot be started, or whose name is taken, may be on its way out by
/// somebody's hand: it has so long.
pub const REMOVAL_WAIT: Duration = Duration::from_secs(2);
/// Meanwhile it is looked at so often.
pub const REMOVAL_LOOK: Duration = Duration::from_millis(50);
/// The shortest base of the waits between two tries: with none at all a lock would be looked
/// at without end.
pub const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait between two tries of the same failing thing (D-19).
pub const BACKOFF_MAX: Duration = Duration::from_secs(15 * 60);
/// The same for what failed because the disk is full: who made room waits for no visit, and
/// a download that cannot fit is not begun all the time (FD-08).
pub const FULL_RETRY_MAX: Duration = Duration::from_secs(100);
/// The first try after a registry refused: its token may not have been good yet (R-REG-AUTH-6).
pub const DENIED_RETRY: Duration = Duration::from_secs(10);
/// `GET /v3/device*` waits so long for the first read of the engine (D-34).
pub const FIRST_READ_WAIT: Duration = Duration::from_secs(5);
/// A reader who comes too early is told to come back after this many seconds.
pub const FIRST_READ_RETRY_AFTER_SECS: u32 = 5;
/// A service manager is not told more often that the agent goes on (FD-44).
pub const WATCHDOG_TICK_MIN: Duration = Duration::from_millis(50);
/// The engine, and the bus, have so long to say what they are; then they are not there.
pub const CAPABILITY_WAIT: Duration = Duration::from_secs(5);
/// A cell of the table of what a machine offers is cut behind so many characters.
pub const TABLE_CELL_CHARS_MAX: usize = 64;
/// From SIGTERM to exit, everything included (D-32).
pub const SHUTDOWN: Duration = Duration::from_secs(8);
/// The part of it in which open answers of the local API are finished.
pub const SHUTDOWN_DRAIN: Duration = Duration::from_secs(3);
/// The part of it that the last report may take (R-REP-12).
pub const SHUTDOWN_REPORT: Duration = Duration::from_secs(2);

/// What is staged in a directory that others write to as well, and older than this, belongs to
/// a writer that is gone.
pub const STAGED_AGE_MAX: Duration = Duration::from_secs(60);
/// A command in the legacy supervisor's container (R-TKO-6).
pub const TAKEOVER_EXEC: Duration = Duration::from_secs(30);
/// Its restart (R-TKO-6).
pub const TAKEOVER_RESTART: Duration = Duration::from_secs(120);
/// What is so now and then, while a machine starts, is tried again for so long (R-TKO-5)...
pub const TAKEOVER_BUDGET: Duration = Duration::from_secs(120);
/// ...and so often.
pub const TAKEOVER_RETRY: Duration = Duration::from_secs(1);
/// Its container may be absent for so long...
pub const TAKEOVER_ABSENT: Duration = Duration::from_secs(60);
/// ...while the machine is up for less than this.
pub const TAKEOVER_BOOT: Duration = Duration::from_secs(300);
/// Who takes over or hands back waits so long for another one, or for an agent that ends...
pub const TAKEOVER_TURN: Duration = Duration::from_secs(15);
/// ...and looks so often.
pub const TAKEOVER_LOOK: Duration = Duration::from_millis(100);
/// `/ping` of a local API is answered within this, or not at all.
pub const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// After a takeover it has so long to answer (R-TKO-8)...
pub const TAKEOVER_ANSWER: Duration = Duration::from_secs(120);
/// ...and is asked so often.
pub const TAKEOVER_ANSWER_LOOK: Duration = Duration::from_millis(250);

/// A legacy supervisor that was handed back to keeps its device for so long (R-TKO-7).
pub const HANDED_BACK_REST: Duration = Duration::from_secs(6 * 3600);
/// A shorter time could not be told from a takeover, in minutes.
pub const GUARD_MINUTES_MIN: u32 = 5;
/// Handing back takes no longer, so that a health check does not end it.
pub const GUARD_HANDING: Duration = Duration::from_secs(600);
/// An agent that answers serves if it began so long ago; less than [`GUARD_MINUTES_MIN`]...
pub const GUARD_SERVED: Duration = Duration::from_secs(120);
/// ...and is asked so often until then...
pub const GUARD_LOOK: Duration = Duration::from_secs(2);
/// ...and one that hangs has so long to end.
pub const GUARD_GRACE: Duration = Duration::from_secs(10);

/// A flow that had nothing to do for so long gives back the memory that only work needs:
/// longer than connections are kept.
pub const REST_AFTER: Duration = Duration::from_secs(8);

/// Reports start at least so far apart (R-REP-6).
pub const REPORT_INTERVAL_MIN: Duration = Duration::from_secs(10);
/// A report's body (R-REP-8).
pub const REPORT_BYTES_MAX: usize = 400 * 1024;
/// What the backend may say to a report.
pub const REPORT_ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The device's own fields are measured so often at most (FD-38).
pub const VITALS_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Thermal zones that are looked at for the processor's.
pub const THERMAL_ZONES_MAX: usize = 32;
/// Pieces of the kernel's list of addresses.
pub const NETLINK_ANSWERS_MAX: usize = 64;
/// `Retry-After` is taken for at most this (R-POLL-2).
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);
/// And a user who asks for a poll is kept waiting for so much of it (R-POLL-4).
pub const RETRY_AFTER_HELD_MAX: Duration = Duration::from_secs(60);
/// The known target is handed on again after so long without one (remote-api 2.3).
pub const REEMIT_INTERVAL: Duration = Duration::from_secs(24 * 3600);
/// 2026-11-01: no build of this source is older, and a clock that says less is not set (FD-30).
pub const CLOCK_FLOOR_SECS: i64 = 1_793_491_200;
/// How often it is looked at whether it is set now.
pub const CLOCK_LOOK: Duration = Duration::from_secs(5);
/// It may go unset for as long as the device runs, and be right enough one day: a server is
/// asked again after so long all the same.
pub const CLOCK_PATIENCE: Duration = BACKOFF_MAX;
/// A registration that was refused, and may not be for ever, is tried again so much later
/// (FD-45).
pub const REGISTER_REFUSED_RETRY: Duration = Duration::from_secs(3600);
/// Keys that are drawn in place of one that the backend has already, before that is taken
/// for a refusal.
pub const REGISTER_KEYS_MAX: u32 = 3;
/// An answer to a request to register, or to change a key.
pub const REGISTER_BODY_BYTES_MAX: usize = 64 * 1024;
/// What of it goes into the log.
pub const REGISTER_EXCERPT_CHARS: usize = 200;
/// Between polls when neither option nor target says otherwise (R-POLL-1).
pub const POLL_INTERVAL_DEFAULT: Duration = Duration::from_secs(900);
/// Poll intervals of the target's configuration are clamped to this range (R-POLL-1).
pub const POLL_INTERVAL_RANGE: (Duration, Duration) =
    (Duration::from_secs(60), Duration::from_secs(24 * 3600));

// ---- D-Bus and the host ----------------------------------------------------

/// One D-Bus message; what is larger ends the connection. The properties of a unit are 20 KiB.
pub const DBUS_MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Signals that wait while an answer is awaited; the oldest is forgotten.
pub const DBUS_WAITING_MAX: usize = 64;
/// A line of the authentication.
pub const DBUS_AUTH_LINE_BYTES_MAX: usize = 1024;

/// One request to the legacy supervisor about its state (R-TRG-1).
pub const LEGACY_CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// What it may answer to that; its containers and images are in it.
pub const LEGACY_BODY_BYTES_MAX: usize = 1024 * 1024;
/// Between two questions whether it has settled.
pub const LEGACY_LOOK: Duration = Duration::from_secs(1);
/// The same, where it waits for its own time.
pub const LEGACY_DEFERRED_LOOK: Duration = Duration::from_secs(30);
/// The first and the longest wait after it did not answer (R-TRG-3).
pub const LEGACY_RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The wait after it refused our key (R-TRG-4).
pub const LEGACY_REFUSED_RETRY: Duration = Duration::from_secs(60);
/// The wait while update locks are set (R-TRG-5).
pub const LEGACY_LOCKED_RETRY: Duration = Duration::from_secs(30);
/// It has failed for so long that the status says so (R-TRG-3).
pub const LEGACY_DEGRADED: Duration = Duration::from_secs(5 * 60);
/// Its word on a key counts for so long (R-SEC-3).
pub const LEGACY_KEY_MEMORY: Duration = Duration::from_secs(60);
/// From a passed on request to its answer's head, where the backend answers (R-PRX-4)...
pub const PROXY_CLOUD_HEAD: Duration = Duration::from_secs(60);
/// ...and the longest silence in that answer.
pub const PROXY_CLOUD_IDLE: Duration = Duration::from_secs(60);
/// The same, where the legacy supervisor does: some of its answers wait for containers to
/// stop...
pub const PROXY_LEGACY_HEAD: Duration = Duration::from_secs(120);
/// ...and its logs may be silent for long.
pub const PROXY_LEGACY_IDLE: Duration = Duration::from_secs(15 * 60);
/// Idle connections to each side that are kept for it.
pub const PROXY_POOL_MAX: usize = 16;
/// Requests that are passed on at once; the rest of [`HTTP_CONNECTIONS_MAX`] is for what is
/// ours, whatever the other side does. More are told to come back.
pub const PROXY_REQUESTS_MAX: usize = 112;
/// `Retry-After` in seconds where that is so.
pub const PROXY_BUSY_RETRY_SECS: u32 = 5;
/// `Retry-After` in seconds while there is no target for the legacy supervisor (R-INT-3).
pub const PROXY_NO_TARGET_RETRY_SECS: u32 = 15;
/// The same where there is no backend to pass a request on to.
pub const PROXY_NO_CLOUD_RETRY_SECS: u32 = 600;
/// A report of the legacy supervisor of which the apps are taken out; the backend takes no
/// longer one.
pub const PROXY_REPORT_BYTES_MAX: usize = 512 * 1024;
/// One call over D-Bus, the connection included.
pub const BUS_CALL_TIMEOUT: Duration = Duration::from_secs(25);
/// Wait before a bus that went away is tried again.
pub const BUS_RETRY: Duration = Duration::from_secs(1);
/// A unit's job: its start, stop or restart. systemd gives a service 90 s for each.
pub const UNIT_JOB_TIMEOUT: Duration = Duration::from_secs(200);
/// A unit that runs is looked at so often although no signal came.
pub const UNIT_LOOK: Duration = Duration::from_secs(60);
/// Bytes of the host's updater, unpacked...
pub const UPDATER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// ...and its files; a larger one is refused.
pub const UPDATER_FILES_MAX: usize = 4096;
/// The updater's unit is ended when it runs longer: a slow disk writes some GiB.
pub const UPDATER_RUN_MAX: Duration = Duration::from_secs(4 * 3600);
/// Whoever asks for a reboot has his answer before it.
pub const POWER_DELAY: Duration = Duration::from_secs(1);
/// A machine that was told to start anew and did not is told again.
pub const REBOOT_WAIT: Duration = Duration::from_secs(10 * 60);
/// Attempts to install a release of the host's OS (state-engine 6.6)...
pub const HOST_ATTEMPTS_MAX: u32 = 3;
/// ...until there was none for so long.
pub const HOST_ATTEMPTS_RESET_SECS: i64 = 24 * 3600;
/// What the manager has to end a unit that ran too long, before the agent does.
pub const UNIT_STOP_TIMEOUT: Duration = Duration::from_secs(120);

// ---- drive -----------------------------------------------------------------

/// Events are counted over so long, to choose how the next one is waited for...
pub const HASTE_SPAN: Duration = Duration::from_millis(100);
/// ...and so many of them are in haste.
pub const HASTE_EVENTS: u32 = 40;
/// Tasks run between two looks for events.
pub const TASKS_A_TURN: usize = 4;

// ---- http ------------------------------------------------------------------

/// Connections a server holds at once (D-41). At rest each holds one buffer of
/// [`HTTP_BUF_BYTES`]; the one longest without a complete request gives way.
pub const HTTP_CONNECTIONS_MAX: usize = 128;
/// Connections beyond those, each only there to be told 503.
pub const HTTP_BUSY_MAX: usize = 8;
/// A request line; longer is 414.
pub const HTTP_REQUEST_LINE_BYTES_MAX: usize = 8 * 1024;
/// A request head as a whole; longer is 431 (D-41).
pub const HTTP_REQUEST_HEAD_BYTES_MAX: usize = 16 * 1024;
/// A status line (R-HTTP-1).
pub const HTTP_STATUS_LINE_BYTES_MAX: usize = 16 * 1024;
/// A response head as a whole (R-HTTP-1).
pub const HTTP_RESPONSE_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Field lines of a head; more is 431, or a broken response.
pub const HTTP_FIELDS_MAX: usize = 100;
/// A chunk-size line with its extensions.
pub const HTTP_CHUNK_LINE_BYTES_MAX: usize = 1024;
/// All trailer lines of a chunked body together.
pub const HTTP_TRAILER_BYTES_MAX: usize = 8 * 1024;
/// To find the addresses of a name. With the next two at most 20 s (R-HTTP-3).
pub const HTTP_RESOLVE_TIMEOUT: Duration = Duration::from_secs(6);
/// To connect to one of them: the third try of a lost first packet is still in time.
pub const HTTP_CONNECT_TIMEOUT: Duration = Duration::from_secs(6);
/// To agree on TLS.
pub const HTTP_TLS_TIMEOUT: Duration = Duration::from_secs(8);
/// Redirects of one `GET` that are followed (R-HTTP-8).
pub const HTTP_REDIRECTS_MAX: usize = 5;
/// 1xx answers skipped before the real one (R-HTTP-1).
pub const HTTP_INTERIM_MAX: usize = 16;
/// What most heads fit into, lines that are passed on apart.
pub const HTTP_HEAD_BYTES: usize = 256;
/// What a connection reads into at rest.
pub const HTTP_BUF_BYTES: usize = 2 * 1024;
/// What it grows to, behind the head, while much arrives.
pub const HTTP_BUF_BYTES_MAX: usize = 16 * 1024;
/// Unread bytes of a request that are read past, to keep or to close a connection in peace.
pub const HTTP_DRAIN_BYTES_MAX: usize = 64 * 1024;
/// Idle connections a client keeps.
pub const HTTP_POOL_MAX: usize = 4;
/// A client keeps one for so long, or for as long as the server's hint says if that is shorter.
pub const HTTP_POOL_IDLE: Duration = Duration::from_secs(5);
/// A peer that waits for its answer is listened to only after so long, for its going away.
pub const HTTP_GONE_LOOK: Duration = Duration::from_secs(1);
/// Unread bytes that are read past before a refused connection is torn down.
pub const HTTP_LINGER_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The header of a gzip stream, file name and all.
pub const HTTP_GZIP_HEAD_BYTES_MAX: usize = 512;
/// Decoded bytes of a gzip stream before its ratio counts...
pub const HTTP_GZIP_FREE_BYTES: usize = 1024 * 1024;
/// ...and how many times what arrived they may be from then on (R-HTTP-4).
pub const HTTP_GZIP_RATIO_MAX: u64 = 200;
/// What a tunnel holds, each way.
pub const HTTP_TUNNEL_BUF_BYTES: usize = 8 * 1024;
/// A tunnel that carried nothing for so long, and at most twice as long, ends.
pub const HTTP_TUNNEL_IDLE: Duration = Duration::from_secs(15 * 60);
/// A server that says nothing to a request that expects its word gets the body after so long.
pub const HTTP_CONTINUE_WAIT: Duration = Duration::from_secs(2);
/// Bytes given to a TLS session that it has not sent yet; a writer waits.
pub const HTTP_TLS_OUT_BYTES_MAX: usize = 16 * 1024;
/// Servers whose TLS session is remembered, to resume it.
pub const HTTP_TLS_SESSIONS_MAX: usize = 4;
/// Addresses of one name that are tried.
pub const HTTP_ADDRESSES_MAX: usize = 8;
/// The next address is tried beside the ones before it after so long.
pub const HTTP_CONNECT_STAGGER: Duration = Duration::from_millis(300);

/// A client's request head must be complete so long after its first byte.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection without a request is closed after so long.
pub const HTTP_KEEP_ALIVE: Duration = Duration::from_secs(60);
/// The longest silence within a request's body.
pub const HTTP_BODY_IDLE: Duration = Duration::from_secs(15);
/// A request's body as a whole, where it is read at once.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that takes nothing for so long is dropped.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// A refused peer has so long to take its answer before the connection is torn down.
pub const HTTP_LINGER: Duration = Duration::from_secs(2);
/// Wait before the next `accept` when the process is out of file descriptors.
pub const HTTP_ACCEPT_RETRY: Duration = Duration::from_millis(200);

const _: () = assert!(HTTP_CONNECTIONS_MAX * HTTP_BUF_BYTES <= 256 * 1024);
const _: () = assert!(REST_AFTER.as_secs() > HTTP_POOL_IDLE.as_secs());
