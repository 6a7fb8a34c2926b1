//! What was done, against what has to be done: each call once, and some before others.

use std::collections::BTreeSet;

use super::super::world::Call;

/// Whether a name is meant; `*` at the end stands for any rest.
pub fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => pattern == name,
    }
}

fn text(call: &Call) -> String {
    let how = if call.done { "" } else { " (refused)" };
    format!("{}{how}", call.what)
}

/// What is missing, too much or in the wrong order.
pub fn compare(chains: &[String], repeated: &[String], made: &[Call]) -> Vec<String> {
    let made: Vec<String> = made.iter().map(text).collect();
    // Chains of groups of calls.
    let chains: Vec<Vec<Vec<&str>>> = chains
        .iter()
        .map(|chain| {
            chain
                .split(" -> ")
                .map(|group| group.split(", ").collect())
                .collect()
        })
        .collect();
    let mut wrong = Vec::new();
    let once: BTreeSet<&str> = chains.iter().flatten().flatten().copied().collect();
    let mut known = vec![false; made.len()];
    for pattern in once {
        let is_it = |name: &String| fits(pattern, name);
        let times = made.iter().filter(|name| is_it(name)).count();
        if times != 1 {
            wrong.push(format!("'{pattern}' happened {times} times"));
        }
        for (known, name) in known.iter_mut().zip(&made) {
            *known |= is_it(name);
        }
    }
    for (known, name) in known.into_iter().zip(&made) {
        if !known && !repeated.iter().any(|pattern| fits(pattern, name)) {
            wrong.push(format!("'{name}' happened"));
        }
    }
    let place = |pattern: &str| made.iter().position(|name| fits(pattern, name));
    for pair in chains.iter().flat_map(|chain| chain.windows(2)) {
        for (before, after) in pair[0]
            .iter()
            .flat_map(|one| pair[1].iter().map(move |two| (one, two)))
        {
            if let (Some(first), Some(second)) = (place(before), place(after))
                && first > second
            {
                wrong.push(format!("'{after}' came before '{before}'"));
            }
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(chains: &[&str], repeated: &[&str], made: &[&str]) -> Vec<String> {
        let own = |list: &[&str]| {
            list.iter()
                .map(|text| (*text).to_owned())
                .collect::<Vec<_>>()
        };
        let made: Vec<Call> = made
            .iter()
            .map(|what| Call {
                what: what.trim_end_matches('!').to_owned(),
                done: !what.ends_with('!'),
            })
            .collect();
        compare(&own(chains), &own(repeated), &made)
    }

    #[test]
    fn what_a_document_demands_of_calls() {
        assert_eq!(wrong(&["a -> b", "c"], &[], &["c", "a", "b"]), [""; 0]);
        let order = wrong(&["a -> b"], &[], &["b", "a"]);
        assert_eq!(order, ["'b' came before 'a'"]);
        let groups = ["a, b -> c, d"];
        assert_eq!(wrong(&groups, &[], &["b", "a", "d", "c"]), [""; 0]);
        let order = wrong(&groups, &[], &["b", "c", "a", "d"]);
        assert_eq!(order, ["'c' came before 'a'"]);
        assert_eq!(wrong(&["a"], &[], &["a", "a"]), ["'a' happened 2 times"]);
        assert_eq!(wrong(&["a"], &[], &[]), ["'a' happened 0 times"]);
        assert_eq!(wrong(&["a"], &[], &["a", "b"]), ["'b' happened"]);
        assert_eq!(wrong(&["a*"], &["b"], &["b", "ab", "b"]), [""; 0]);
        let refused = wrong(&["a"], &["a (refused)"], &["a!", "a!", "a"]);
        assert_eq!(refused, [""; 0]);
        assert_eq!(wrong(&["a"], &[], &["a!"]).len(), 2, "refused is not done");
    }
}
