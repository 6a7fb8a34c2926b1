use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

const ENDPOINT: &str = "https://api.example.test/";
/// As upstream 0.26.2 writes it (remote-api 1.5).
const UPSTREAM: &str = r#"{
  "uuid": "0123456789abcdef0123456789abcdef",
  "fleet": 7,
  "device_type": "generic-amd64",
  "remote": {
    "api_endpoint": "https://api.example.test/",
    "api_key": "k1",
    "request": {
      "timeout": 59000,
      "poll_interval": 900000,
      "poll_min_interval": 10000,
      "poll_max_jitter": 60000
    }
  }
}"#;

struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("helios-id-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(dir.join("contents/0")).unwrap();
        Dir(dir)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join("contents/0").join(name)
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.file(name), text).unwrap();
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.file(name)).ok()
    }

    fn known(&self, registers_at: Option<&str>) -> Result<Known, String> {
        let identity = Identity::below(&self.0);
        identity
            .known(registers_at, false)
            .map_err(|Failed(why)| why)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn upstream() -> Record {
    record(UPSTREAM.as_bytes()).unwrap()
}

fn other() -> Record {
    let mut other = upstream();
    other.uuid = "f".repeat(32);
    other
}

fn json(record: &Record) -> String {
    serde_json::to_string(record).unwrap()
}

const ASIDE: &str = "provisioning.unreadable";

#[test]
fn s_reg_25_upstream_s_identity_is_adopted_unchanged_and_copied() {
    let dir = Dir::new("adopt");
    dir.put(IDENTITY, UPSTREAM);
    let known = dir.known(Some(ENDPOINT)).unwrap();
    assert_eq!(known.stored, Some(upstream()));
    assert_eq!(known.candidate, None);
    assert_eq!(dir.text(IDENTITY).unwrap(), UPSTREAM);
    assert_eq!(record(&fs::read(dir.file(BACKUP)).unwrap()), Ok(upstream()));
    let mode = fs::metadata(dir.file(BACKUP)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "R-REG-9");
    // What we write is read by upstream, which needs every key.
    let ours: serde_json::Value = serde_json::from_str(&json(&upstream())).unwrap();
    let theirs: serde_json::Value = serde_json::from_str(UPSTREAM).unwrap();
    assert_eq!(ours, theirs);
}

#[test]
fn ra_b_the_candidate_is_named_as_upstream_names_it() {
    let path = candidate_path("https://api.balena-cloud.com/");
    let digest = "aeda07a63774a0267ebd9ca301b8d2ed532cc119cc221266a65ec4e2ff09af15";
    assert_eq!(path, format!("provisioning.{digest}"));
    assert_eq!(
        rendered("HTTPS://API.Balena-Cloud.com:443"),
        "https://api.balena-cloud.com/"
    );
}

#[test]
fn s_reg_04_an_identity_makes_its_candidate_superfluous() {
    let dir = Dir::new("both");
    dir.put(IDENTITY, UPSTREAM);
    dir.put(&candidate_path(ENDPOINT), UPSTREAM);
    assert_eq!(dir.known(None).unwrap().stored, Some(upstream()));
    assert_eq!(dir.text(&candidate_path(ENDPOINT)), None);
}

#[test]
fn r_reg_2_of_an_identity_and_another_candidate_the_identity_wins() {
    let dir = Dir::new("differ");
    dir.put(IDENTITY, UPSTREAM);
    dir.put(&candidate_path(ENDPOINT), &json(&other()));
    let known = dir.known(Some(ENDPOINT)).unwrap();
    assert_eq!((known.stored, known.candidate), (Some(upstream()), None));
    assert_eq!(dir.text(&candidate_path(ENDPOINT)), None);
}

#[test]
fn s_reg_06_a_candidate_that_cannot_be_read_is_discarded() {
    for text in ["", "\0\0\0\0", "{\"uuid\": \"ab", "[]", "{\"version\": 9}"] {
        let dir = Dir::new("candidate");
        dir.put(&candidate_path(ENDPOINT), text);
        let known = dir.known(Some(ENDPOINT)).unwrap();
        assert_eq!(known, Known::default(), "{text}");
        assert_eq!(dir.text(&candidate_path(ENDPOINT)), None, "{text}");
    }
}

#[test]
fn s_reg_07_d_30_a_damaged_identity_is_set_aside_and_no_new_one_is_made() {
    let damaged = UPSTREAM.replace("\"uuid\"", "\"id\"");
    for text in [
        "",
        "\0\0\0\0",
        "{\"uuid\": \"ab",
        &damaged,
        "{\"version\": 9}",
    ] {
        let dir = Dir::new("damaged");
        dir.put(IDENTITY, text);
        for _ in 0..3 {
            let why = dir.known(Some(ENDPOINT)).unwrap_err();
            assert!(why.contains(ASIDE), "{text}: {why}");
        }
        assert_eq!(dir.text(ASIDE).as_deref(), Some(text));
        // Somebody repaired it, or decided to register anew.
        dir.put(IDENTITY, UPSTREAM);
        assert_eq!(dir.known(None).unwrap().stored, Some(upstream()));
    }
}

#[test]
fn d_30_the_copy_counts_when_the_identity_is_damaged_or_gone() {
    let dir = Dir::new("copy");
    dir.put(IDENTITY, UPSTREAM);
    dir.known(None).unwrap();
    for text in [Some(""), Some("{\"uuid\""), None] {
        match text {
            Some(text) => dir.put(IDENTITY, text),
            None => fs::remove_file(dir.file(IDENTITY)).unwrap(),
        }
        let known = dir.known(Some(ENDPOINT)).unwrap();
        assert_eq!(known.stored, Some(upstream()), "{text:?}");
        assert_eq!(
            record(dir.text(IDENTITY).unwrap().as_bytes()),
            Ok(upstream())
        );
    }
    // A directory is in its place: nothing is moved, and the copy counts.
    fs::remove_file(dir.file(IDENTITY)).unwrap();
    fs::create_dir(dir.file(IDENTITY)).unwrap();
    assert_eq!(dir.known(None).unwrap().stored, Some(upstream()));
}

#[test]
fn w_01_who_removes_all_of_it_registers_anew() {
    let dir = Dir::new("forget");
    dir.put(IDENTITY, UPSTREAM);
    dir.known(None).unwrap();
    for entry in fs::read_dir(dir.0.join("contents/0")).unwrap().flatten() {
        fs::remove_file(entry.path()).unwrap();
    }
    assert_eq!(dir.known(Some(ENDPOINT)).unwrap(), Known::default());
}

#[test]
fn d_30_an_identity_that_the_system_does_not_read_is_left_where_it_is() {
    let dir = Dir::new("unreadable");
    fs::create_dir(dir.file(IDENTITY)).unwrap();
    let why = dir.known(Some(ENDPOINT)).unwrap_err();
    assert!(why.contains("cannot be read"), "{why}");
    assert!(dir.file(IDENTITY).is_dir());
}

#[test]
fn r_reg_3_with_a_candidate_a_damaged_identity_is_registered_again_as_the_same_device() {
    let dir = Dir::new("resume");
    dir.put(IDENTITY, "{");
    dir.put(&candidate_path(ENDPOINT), UPSTREAM);
    let known = dir.known(Some(ENDPOINT)).unwrap();
    assert_eq!(known.candidate, Some(upstream()));
    assert_eq!(known.stored, None);
}

#[test]
fn s_reg_08_a_candidate_for_another_endpoint_is_left_alone() {
    let dir = Dir::new("endpoints");
    dir.put(&candidate_path(ENDPOINT), UPSTREAM);
    let known = dir.known(Some("https://other.example.test/")).unwrap();
    assert_eq!(known, Known::default());
    assert_eq!(dir.text(&candidate_path(ENDPOINT)).unwrap(), UPSTREAM);
    assert_eq!(
        dir.known(Some(ENDPOINT)).unwrap().candidate,
        Some(upstream())
    );
}

#[test]
fn s_reg_21_a_given_identity_touches_nothing() {
    let dir = Dir::new("given");
    dir.put(IDENTITY, "{");
    dir.put(&candidate_path(ENDPOINT), "");
    let known = Identity::below(&dir.0).known(None, true).map_err(|_| ());
    assert_eq!(known, Ok(Known::default()));
    assert_eq!(dir.text(IDENTITY).as_deref(), Some("{"));
    assert_eq!(dir.text(&candidate_path(ENDPOINT)).as_deref(), Some(""));
}

fn empty() -> Record {
    let mut empty = upstream();
    empty.uuid.clear();
    empty.remote.api_key.clear();
    empty
}

#[test]
fn r_reg_1_r_reg_8_what_is_drawn_is_kept_before_it_is_used() {
    let dir = Dir::new("claim");
    let claim = |record| {
        let claimed = Identity::below(&dir.0).claim(record);
        claimed.map_err(|Failed(why)| why).unwrap()
    };
    let (first, is_kept) = claim(empty());
    assert!(is_kept);
    assert_eq!((first.uuid.len(), first.remote.api_key.len()), (32, 32));
    // s_reg_24: a second agent at the same time gets the same.
    assert_eq!(claim(empty()), (first.clone(), true));
    assert_eq!(dir.known(Some(ENDPOINT)).unwrap().candidate, Some(first));
}

#[test]
fn s_reg_22_a_candidate_that_cannot_be_written_is_said_to_be() {
    let dir = Dir::new("readonly");
    fs::remove_dir_all(dir.0.join("contents")).unwrap();
    fs::write(dir.0.join("contents"), "in the way").unwrap();
    let claimed = Identity::below(&dir.0).claim(empty());
    let (record, is_kept) = claimed.map_err(|Failed(why)| why).unwrap();
    assert!(!is_kept && !record.uuid.is_empty());
}

/// A directory in its place stands for a file that the disk does not give.
#[test]
fn r_reg_3_a_candidate_that_cannot_be_read_is_no_reason_for_another_device() {
    let dir = Dir::new("eio");
    let path = candidate_path(ENDPOINT);
    fs::create_dir(dir.file(&path)).unwrap();
    let why = dir.known(Some(ENDPOINT)).unwrap_err();
    assert!(why.contains(&path) && why.contains("remove it"), "{why}");
    let mut wanted = upstream();
    wanted.remote.api_key.clear();
    let claimed = Identity::below(&dir.0).claim(wanted);
    assert!(claimed.is_err(), "{:?}", claimed.map(|(record, _)| record));
    // With an identity it does not matter.
    dir.put(IDENTITY, UPSTREAM);
    assert_eq!(dir.known(Some(ENDPOINT)).unwrap().stored, Some(upstream()));
}

#[test]
fn d_30_who_removes_all_of_it_gets_a_new_device_whatever_was_set_aside() {
    let dir = Dir::new("anew");
    dir.put(IDENTITY, "{");
    dir.put(BACKUP, UPSTREAM);
    assert_eq!(dir.known(None).unwrap().stored, Some(upstream()));
    assert_eq!(dir.text(ASIDE).unwrap(), "{");
    for entry in fs::read_dir(dir.0.join("contents/0")).unwrap().flatten() {
        // What `rm provisioning*` removes.
        if entry
            .file_name()
            .to_string_lossy()
            .starts_with("provisioning")
        {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    let known = dir.known(Some(ENDPOINT)).unwrap();
    assert_eq!((known.stored, known.candidate), (None, None));
}
