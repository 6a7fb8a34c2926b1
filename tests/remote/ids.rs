//! Which test stands for which scenario of remote-api 10.

use std::collections::BTreeSet;
use std::path::Path;

/// Scenarios of each kind: 10.1 to 10.4 and 10.6 to 10.9. Those of logs (10.5) come with logs.
const KINDS: &[(&str, u32)] = &[
    ("REG", 26),
    ("POLL", 36),
    ("REP", 21),
    ("IMG", 10),
    ("PRX", 45),
    ("TKO", 22),
    ("TRG", 13),
    ("NET", 34),
];

/// Those without a test, and why.
#[rustfmt::skip]
const WITHOUT: &[(&str, &str)] = &[
    ("S-IMG-08", "a name with a digest cannot be given by hand: the pull moves the manifest only, the engine has the rest"),
    ("S-REP-21", "the real backend's storing; what is sent, and how often, are R-REP-6's and FD-38's tests"),
];

fn walk(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(&path, found);
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            text.lines().for_each(|line| collect(line, found));
        }
    }
}

/// The ids in the name of a test, `s_poll_03_to_06_09_...`, or at the head of a row of a table
/// of cases, `("S-POLL-14 401", ...`.
fn collect(line: &str, found: &mut BTreeSet<String>) {
    if let Some((_, rest)) = line.split_once("\"S-") {
        let id = rest.split([' ', '"']).next().unwrap();
        found.insert(format!("S-{id}"));
    }
    let Some(name) = line.trim_start().strip_prefix("fn ") else {
        return;
    };
    let words: Vec<_> = name.split(['_', '(']).collect();
    for (at, pair) in words.windows(2).enumerate() {
        let kind = pair[1].to_uppercase();
        if pair[0] != "s" || !KINDS.iter().any(|(known, _)| *known == kind) {
            continue;
        }
        let (mut last, mut is_range) = (0, false);
        for word in &words[at + 2..] {
            let Ok(number) = word.parse::<u32>() else {
                is_range = *word == "to";
                if is_range { continue } else { break }
            };
            let first = if is_range { last } else { number };
            found.extend((first..=number).map(|one| format!("S-{kind}-{one:02}")));
            (last, is_range) = (number, false);
        }
    }
}

#[test]
fn every_scenario_has_its_test() {
    let (root, mut found) = (Path::new(env!("CARGO_MANIFEST_DIR")), BTreeSet::new());
    walk(&root.join("src"), &mut found);
    walk(&root.join("tests"), &mut found);
    let all = KINDS.iter();
    let all =
        all.flat_map(|(kind, count)| (1..=*count).map(move |one| format!("S-{kind}-{one:02}")));
    let left = |id: &String| WITHOUT.iter().any(|(known, _)| known == id);
    let missing: Vec<_> = all.filter(|id| !found.contains(id) && !left(id)).collect();
    assert!(missing.is_empty(), "no test for {missing:?}");
}
