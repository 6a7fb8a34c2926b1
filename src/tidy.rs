//! The source checks itself: walls between rooms, sizes, unwanted words and crates
//! (examples 1.11, 3.2, 3.3).

use std::fs;
use std::path::{Path, PathBuf};

/// What a room may not mention outside its tests. A room is a directory or file of `src/`.
#[rustfmt::skip]
const WALLS: &[(&str, &[&str])] = &[
    ("base/", &["crate::model", "crate::world", "crate::http", "crate::plan", "crate::flows", "crate::engine", "log::"]),
    ("model/", &["async ", "std::fs", "std::net::Tcp", "std::net::Udp", "std::os::unix::net", "Instant::now", "SystemTime", "log::", "crate::world", "crate::http",
        "crate::engine", "crate::remote", "crate::plan", "crate::flows", "crate::intake"]),
    ("intake/", &["async ", "std::fs", "std::net::Tcp", "std::net::Udp", "std::os::unix::net", "Instant::now", "SystemTime", "log::", "crate::world", "crate::http",
        "crate::engine", "crate::remote", "crate::plan", "crate::flows"]),
    ("world/", &["std::fs", "std::net::Tcp", "std::net::Udp", "std::os::unix::net", "Instant::now", "crate::http", "crate::engine", "crate::remote", "crate::plan",
        "crate::flows", "crate::intake"]),
    ("http/", &["crate::model", "crate::world", "crate::engine", "crate::plan", "crate::flows", "serde"]),
    ("dbus/", &["crate::model", "crate::world", "crate::http", "crate::engine", "crate::plan", "crate::flows", "crate::host", "serde", "log::", "systemd1"]),
    ("engine/", &["crate::remote", "crate::store", "crate::host", "crate::plan", "crate::flows"]),
    ("remote/", &["crate::engine", "crate::store", "crate::host", "crate::plan", "crate::flows"]),
    ("store/", &["crate::engine", "crate::remote", "crate::host", "crate::plan", "crate::flows", "crate::http"]),
    ("host/", &["crate::engine", "crate::remote", "crate::store", "crate::plan", "crate::flows", "crate::http"]),
    ("legacy/", &["crate::engine", "crate::remote", "crate::store", "crate::host", "crate::plan", "crate::flows",
        "Instant::now", "SystemTime", "std::fs", "std::env"]),
    ("plan/", &["crate::http", "crate::engine", "crate::remote", "crate::store", "crate::host", "crate::flows",
        "Instant::now", "SystemTime", "std::fs"]),
    ("flows/", &["crate::engine", "crate::remote", "crate::store", "crate::host", "Instant::now", "SystemTime", "std::fs"]),
    ("", &["unsafe {", "dbg!(", "std::env::set_var", "FIXME", "todo!(", "unimplemented!("]),
];

/// Files that may be longer than the ratchet, and how long: never more.
const LONGER_FILES: &[(&str, usize)] = &[];
const FILE_LINES_MAX: usize = 600;
/// Functions that are tables: one line a case.
const LONGER_FUNCTIONS: &[&str] = &[];
const FUNCTION_LINES_MAX: usize = 70;
/// Today's value and a little, gzip, TLS, tunnels, proxies and what a gateway needs included;
/// 2,000 is the aim.
const HTTP_LINES_MAX: usize = 3_200;

fn sources() -> Vec<(String, String)> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|kind| kind == "rs") {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    walk(&root, &mut found);
    found.sort();
    let name = |path: &PathBuf| {
        path.strip_prefix(&root)
            .unwrap()
            .to_string_lossy()
            .into_owned()
    };
    found
        .iter()
        .map(|path| (name(path), fs::read_to_string(path).unwrap()))
        .collect()
}

/// Test files and the part of a file that is tests are left out, and so are comments.
fn production(name: &str, text: &str) -> Vec<String> {
    if ["tidy.rs", "http/tests.rs", "intake/vectors.rs"].contains(&name)
        || name.ends_with("tests.rs")
        || name.contains("/tests/")
    {
        return Vec::new();
    }
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    text[..end].lines().map(str::to_owned).collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

#[test]
fn rooms_keep_their_walls() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        for (number, line) in production(&name, &text).iter().enumerate() {
            let words = WALLS
                .iter()
                .filter(|(room, _)| name.starts_with(room))
                .flat_map(|(_, words)| *words);
            for word in words.filter(|word| !is_comment(line) && line.contains(**word)) {
                broken.push(format!("{name}:{}: '{word}'", number + 1));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn files_and_lines_keep_their_size() {
    let mut broken = Vec::new();
    let mut http = 0;
    for (name, text) in sources() {
        let lines = production(&name, &text).len();
        let max = LONGER_FILES
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(FILE_LINES_MAX, |(_, max)| *max);
        if lines > max {
            broken.push(format!(
                "{name}: {lines} lines before its tests, {max} allowed"
            ));
        }
        if name.starts_with("http/") {
            http += production(&name, &text)
                .iter()
                .filter(|line| !is_comment(line) && !line.trim().is_empty())
                .count();
        }
    }
    if http > HTTP_LINES_MAX {
        broken.push(format!(
            "http/: {http} lines of code, {HTTP_LINES_MAX} allowed"
        ));
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn functions_keep_their_size() {
    let mut broken = Vec::new();
    for (name, text) in sources() {
        let lines = production(&name, &text);
        for (start, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let head = line
                .trim_start()
                .trim_start_matches("pub(super) ")
                .trim_start_matches("pub(crate) ");
            let head = head
                .trim_start_matches("pub ")
                .trim_start_matches("async ")
                .trim_start_matches("const ");
            let Some(function) = head.strip_prefix("fn ") else {
                continue;
            };
            let function = function.split(['(', '<']).next().unwrap_or_default();
            let close = format!("{}}}", " ".repeat(indent));
            let Some(length) = lines[start..].iter().position(|line| *line == close) else {
                continue;
            };
            if length > FUNCTION_LINES_MAX && !LONGER_FUNCTIONS.contains(&function) {
                broken.push(format!(
                    "{name}:{}: {function} has {length} lines",
                    start + 1
                ));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn unwanted_crates_stay_away() {
    let lock =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock")).unwrap();
    // The list that cargo-deny reads, for whoever has none.
    let (_, unwanted) = include_str!("../scripts/deny.toml")
        .split_once("\ndeny = [")
        .unwrap();
    let unwanted: Vec<_> = unwanted
        .lines()
        .map_while(|line| (line != "]").then_some(line))
        .filter_map(|line| line.strip_prefix("    { crate = \"")?.split_once('"'))
        .collect();
    assert!(unwanted.len() > 5);
    for (name, why) in unwanted {
        assert!(
            !lock.contains(&format!("name = \"{name}\"\n")),
            "{name} is back{why}"
        );
    }
}

/// The table in the README names each direct dependency, in order, and nothing else.
#[test]
fn issue_9_dependencies_are_told_of() {
    let read = |name| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let part = |text: &str, from: &str, to: &str| {
        let (_, rest) = text.split_once(from).unwrap();
        rest.split_once(to).unwrap().0.to_owned()
    };
    let manifest = part(&read("Cargo.toml"), "\n[dependencies]\n", "\n[dev-dep");
    let mut wanted: Vec<_> = manifest
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| Some(line.split_once(" = ")?.0.to_owned()))
        .collect();
    wanted.sort();
    let told: Vec<_> = part(&read("README.md"), "\n## Dependencies\n", "\n## ")
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .inspect(|(name, reason)| assert!(reason.len() > 5, "{name}"))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(told, wanted);
}
