//! Power may fail at any write (FD-31): every system call that touches the disk fails once and is
//! the last once, for each kind of document, and the next start finds the old or the new content.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

#[path = "../power/kinds.rs"]
#[allow(dead_code)]
mod kinds;

use crate::register::Memory;
use crate::support::Scratch;

/// What is made to fail. What a machine or C library does not have is not met.
const CALLS: &str = "openat,open,creat,write,writev,pwrite64,fsync,fdatasync,ftruncate,close,\
    rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,getrandom";

fn power() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_helios")).parent().unwrap();
    beside.join("examples/power")
}

/// Runs the program under strace, with options of it; the exit code, `None` when it was killed.
fn traced(options: &[String], kind: &str, dir: &Path, value: &str) -> (Option<i32>, String) {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(power());
    command.args([Path::new(kind), dir, Path::new(value)]);
    let out = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
    let out = out.expect("strace is needed: run scripts/test");
    (
        out.status.code(),
        String::from_utf8_lossy(&out.stdout).into_owned(),
    )
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// How often each call is made when nothing fails.
fn positions(kind: &str, dir: &Path, value: &str) -> BTreeMap<String, usize> {
    let log = dir.with_extension("trace");
    let options = [
        format!("-etrace={CALLS}"),
        "-o".into(),
        log.to_str().unwrap().into(),
    ];
    let (code, _) = traced(&options, kind, dir, value);
    assert_eq!(code, Some(0), "{kind}: undisturbed");
    let mut counts = BTreeMap::new();
    for line in fs::read_to_string(&log).unwrap().lines() {
        let call = line.split_whitespace().nth(1).unwrap_or_default();
        let Some((name, _)) = call.split_once('(') else {
            continue;
        };
        *counts.entry(name.to_owned()).or_insert(0) += 1;
    }
    counts
}

/// One call of one kind, failing or being the last.
struct Fault {
    call: String,
    nth: usize,
    how: &'static str,
}

impl Fault {
    fn option(&self) -> String {
        let Fault { call, nth, how } = self;
        format!("-einject={call}:{how}:when={nth}")
    }
}

fn faults(counts: &BTreeMap<String, usize>) -> Vec<Fault> {
    let mut all = Vec::new();
    for (call, count) in counts {
        for nth in 1..=*count {
            for how in ["error=EIO", "signal=SIGKILL"] {
                let call = call.clone();
                all.push(Fault { call, nth, how });
            }
        }
    }
    all
}

/// Tries all faults of a kind on copies of `before`; `check` gets what the program said of
/// itself and the directory. Returns how many there were.
fn try_all(
    kind: &str,
    before: &Path,
    value: &str,
    check: impl Fn(&Fault, (Option<i32>, String), &Path) -> Result<(), String> + Sync,
) -> usize {
    let counted = before.with_extension("counted");
    copy(before, &counted);
    let faults = faults(&positions(kind, &counted, value));
    fs::remove_dir_all(counted).unwrap();
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let dir = before.with_extension(unique(fault));
            copy(before, &dir);
            let options = [format!("-etrace={CALLS}"), fault.option()];
            let ended = traced(&options, kind, &dir, value);
            if let Err(why) = check(fault, ended, &dir) {
                let at = fault.option();
                wrong.lock().unwrap().push(format!("{kind} {at}: {why}"));
            }
            let _ = fs::remove_dir_all(dir);
        }
    };
    // This thread is one of them: where there is only one, no thread begins or ends while it forks.
    std::thread::scope(|scope| {
        for _ in 1..workers() {
            scope.spawn(work);
        }
        work();
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    faults.len()
}

/// As many as the harness was told to run tests at once. One under emulation: a process that is
/// forked while another thread of the emulator holds a lock of its C library waits for that for ever.
fn workers() -> usize {
    let told = std::env::var("RUST_TEST_THREADS");
    told.ok().and_then(|told| told.parse().ok()).unwrap_or(2)
}

fn unique(fault: &Fault) -> String {
    format!("{}-{}-{}", fault.call, fault.nth, &fault.how[..3])
}

fn prepared(scratch: &Scratch, kind: &str, value: Option<&str>) -> PathBuf {
    let dir = scratch.0.join(kind.replace(' ', "-"));
    fs::create_dir_all(&dir).unwrap();
    if let Some(value) = value {
        kinds::write(kind, &dir, value).unwrap();
    }
    dir
}

/// Old or new, new if the program said so, and the next try brings the new one.
fn old_or_new(
    kind: &str,
    (old, new): (Option<&str>, Option<&str>),
    value: &str,
    code: Option<i32>,
    dir: &Path,
) -> Result<(), String> {
    let found = kinds::read(kind, dir)?;
    if found.as_deref() != new && found.as_deref() != old {
        return Err(format!("found {found:?}"));
    }
    if code == Some(0) && found.as_deref() != new {
        return Err("it said that it is written".into());
    }
    kinds::write(kind, dir, value)?;
    match kinds::read(kind, dir)? {
        found if found.as_deref() == new => Ok(()),
        found => Err(format!("afterwards {found:?}")),
    }
}

#[test]
fn fd_31_s_reg_05_documents_survive_a_power_cut_at_any_call() {
    let scratch = Scratch::new();
    // Longer than a buffer, so that a torn one would show.
    let (old, new) = ("o".repeat(9000), "n".repeat(9000));
    let mut report = Vec::new();
    for (kind, _) in kinds::DOCUMENTS {
        for before in [Some(old.as_str()), None] {
            let dir = prepared(&scratch, kind, before);
            let tried = try_all(kind, &dir, &new, |_, (code, _), dir| {
                old_or_new(kind, (before, Some(&new)), &new, code, dir)
            });
            report.push(format!(
                "{kind}, {}: {tried}",
                before.map_or("new", |_| "replaced")
            ));
            fs::remove_dir_all(dir).unwrap();
        }
    }
    let dir = prepared(&scratch, "local edit", Some(&old));
    let tried = try_all("forgotten edits", &dir, "", |_, (code, _), dir| {
        old_or_new("forgotten edits", (Some(&old), None), "", code, dir)
    });
    report.push(format!("forgotten edits: {tried}"));
    print(&report);
}

#[test]
fn fd_31_s_poll_09_the_target_cache_and_the_local_key_survive_a_power_cut_at_any_call() {
    let scratch = Scratch::new();
    let whole = |name: &str| {
        let uuid = "0123456789abcdef0123456789abcdef";
        format!("{{\"{uuid}\":{{\"name\":\"{name}\"}}}}")
    };
    let (old, new) = ("o".repeat(9000), "n".repeat(9000));
    let (was, is) = (whole(&old), whole(&new));
    let dir = prepared(&scratch, "target cache", Some(&old));
    let tried = try_all("target cache", &dir, &new, |_, (code, _), dir| {
        let both = (Some(was.as_str()), Some(is.as_str()));
        old_or_new("target cache", both, &new, code, dir)
    });
    let mut report = vec![format!("target cache: {tried}")];
    let dir = prepared(&scratch, "local key", None);
    let tried = try_all("local key", &dir, "", |_, (code, said), dir| {
        let found = kinds::read("local key", dir)?;
        if found.as_ref().is_some_and(|key| key.len() != 32) {
            return Err(format!("found {found:?}"));
        }
        if code == Some(0) && found.as_deref() != Some(said.trim()) {
            return Err("it printed another key".into());
        }
        kinds::write("local key", dir, "")?;
        let afterwards = kinds::read("local key", dir)?;
        match afterwards == found || found.is_none() {
            true => Ok(()),
            false => Err("the key changed".into()),
        }
    });
    report.push(format!("local key: {tried}"));
    print(&report);
}

const IDENTITY: &str = r#"{"uuid":"0123456789abcdef0123456789abcdef","fleet":1,"device_type":"t","remote":{"api_endpoint":"http://127.0.0.1:1/","api_key":"k","request":{"timeout":1,"poll_interval":2,"poll_min_interval":3,"poll_max_jitter":4}}}"#;

#[test]
fn fd_31_d_30_an_identity_survives_a_power_cut_at_any_call_of_a_start() {
    let scratch = Scratch::new();
    let candidate = helios::flows::register::candidate_path("http://127.0.0.1:1/");
    let cases: [(&str, Vec<(&str, &str)>); 4] = [
        ("adopted", vec![("provisioning", IDENTITY)]),
        (
            "tidied",
            vec![("provisioning", IDENTITY), (&candidate, IDENTITY)],
        ),
        (
            "damaged",
            vec![
                ("provisioning", "{\"uuid\""),
                ("provisioning.backup", IDENTITY),
            ],
        ),
        ("gone", vec![("provisioning.backup", IDENTITY)]),
    ];
    let mut report = Vec::new();
    for (name, files) in cases {
        let dir = scratch.0.join(name);
        fs::create_dir_all(dir.join("contents/0")).unwrap();
        for (file, text) in files {
            fs::write(dir.join("contents/0").join(file), text).unwrap();
        }
        let tried = try_all("identity", &dir, "", |_, _, dir| {
            for _ in 0..2 {
                let found = kinds::read("identity", dir)?;
                if found.as_deref() != Some(IDENTITY) {
                    return Err(format!("found {found:?}"));
                }
            }
            Ok(())
        });
        report.push(format!("identity, {name}: {tried}"));
    }
    print(&report);
}

/// From the first contact to the identity on disk: however it is cut off, the next start ends
/// with the one device that the backend has (FD-45, S-REG-02 to S-REG-05).
#[test]
fn fd_31_fd_45_a_registration_that_is_cut_off_anywhere_makes_one_device() {
    let scratch = Scratch::new();
    let dir = prepared(&scratch, "registration", None);
    let backend = Memory::start();
    let counted = dir.with_extension("counted");
    copy(&dir, &counted);
    let faults = faults(&positions("registration", &counted, &backend.url()));
    let mut wrong = Vec::new();
    for fault in &faults {
        let backend = Memory::start();
        let work = dir.with_extension(unique(fault));
        copy(&dir, &work);
        let options = [format!("-etrace={CALLS}"), fault.option()];
        let (code, _) = traced(&options, "registration", &work, &backend.url());
        let cut_off = kinds::read("registration", &work);
        let ended = kinds::write("registration", &work, &backend.url());
        let found = kinds::read("registration", &work)
            .ok()
            .flatten()
            .unwrap_or_default();
        let record: serde_json::Value = serde_json::from_str(&found).unwrap_or_default();
        let is_it = |(uuid, key): &(String, String)| {
            record["uuid"] == uuid.as_str() && record["remote"]["api_key"] == key.as_str()
        };
        let verdicts: Vec<bool> = backend.devices().iter().map(is_it).collect();
        let is_lost = code == Some(0) && matches!(cut_off, Ok(None) | Err(_));
        if verdicts != [true] || ended.is_err() || is_lost {
            wrong.push(format!(
                "{}: {ended:?}, {verdicts:?}, {cut_off:?}",
                fault.option()
            ));
        }
        fs::remove_dir_all(work).unwrap();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    print(&[format!("registration: {}", faults.len())]);
}

/// A kill leaves what was written in the kernel's hands; a power cut does not. So whatever gets
/// its name is synced before, and its directory after.
#[test]
fn fd_31_what_gets_a_name_is_synced_before_and_its_directory_after() {
    let scratch = Scratch::new();
    let kinds = ["local edit", "target cache", "local key", "identity"];
    for kind in kinds {
        let dir = prepared(&scratch, kind, None);
        if kind == "identity" {
            fs::create_dir_all(dir.join("contents/0")).unwrap();
            fs::write(dir.join("contents/0/provisioning"), IDENTITY).unwrap();
        }
        let log = dir.with_extension("trace");
        let place = log.to_str().unwrap().to_owned();
        let options = ["-y".into(), format!("-etrace={CALLS}"), "-o".into(), place];
        assert_eq!(traced(&options, kind, &dir, "new").0, Some(0));
        let trace = fs::read_to_string(&log).unwrap();
        let lines: Vec<&str> = trace.lines().filter(|line| line.contains(" = 0")).collect();
        let mut named = 0;
        for (at, line) in lines.iter().enumerate() {
            let gets_a_name = ["rename", "link"].iter().any(|call| {
                line.split_whitespace()
                    .nth(1)
                    .is_some_and(|word| word.starts_with(call))
            });
            if !gets_a_name {
                continue;
            }
            named += 1;
            let mut paths = line.split('"').skip(1).step_by(2);
            let (from, to) = (paths.next().unwrap(), Path::new(paths.next().unwrap()));
            let is_synced = |lines: &[&str], path: &str| {
                let synced = format!("<{path}>");
                lines
                    .iter()
                    .any(|line| line.contains("sync(") && line.contains(&synced))
            };
            assert!(
                is_synced(&lines[..at], from),
                "{kind}: {from} is not synced before {line}"
            );
            let dir = to.parent().unwrap().to_str().unwrap();
            assert!(
                is_synced(&lines[at..], dir),
                "{kind}: {dir} is not synced after {line}"
            );
        }
        assert!(named > 0, "{kind}: {trace}");
    }
}

/// What was tried goes where a person sees it, whatever the harness captures.
fn print(report: &[String]) {
    use std::io::Write as _;
    for line in report {
        let text = format!("power cuts and failed calls tried, none lost anything: {line}\n");
        let _ = std::io::stderr().write_all(text.as_bytes());
    }
}
