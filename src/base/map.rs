//! Sorted maps and sets in one piece of memory.
//!
//! What the agent keeps has a handful of entries, a few hundred at most, is read far more often
//! than it is changed, and is mostly filled in order. One vector of pairs does that with a
//! quarter of the code of a tree, once for each pair of types, and holds no empty slots.
//! Inserting in the middle moves what is behind: whoever fills one from a foreign document
//! collects it, which sorts once.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde::ser::{Serialize, Serializer};

/// Keys in their order, each with its value.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Map<K, V>(Vec<(K, V)>);

/// Keys in their order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Set<K>(Map<K, ()>);

impl<K, V> Map<K, V> {
    /// Without entries, and without memory.
    #[must_use]
    pub const fn new() -> Self {
        Map(Vec::new())
    }

    /// How many entries there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all of them.
    pub fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// The entries by key.
    #[must_use]
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(self.0.iter())
    }

    /// The same, to change the values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// The keys by their order.
    pub fn keys(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.0.iter().map(|(key, _)| key)
    }

    /// The values by their keys' order.
    pub fn values(&self) -> impl DoubleEndedIterator<Item = &V> + ExactSizeIterator + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// The same, to change them.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The keys alone.
    pub fn into_keys(self) -> impl Iterator<Item = K> {
        self.0.into_iter().map(|(key, _)| key)
    }

    /// The values alone.
    pub fn into_values(self) -> impl Iterator<Item = V> {
        self.0.into_iter().map(|(_, value)| value)
    }

    /// The entry of the least key.
    #[must_use]
    pub fn first_key_value(&self) -> Option<(&K, &V)> {
        self.0.first().map(|(key, value)| (key, value))
    }

    /// Takes the entry of the least key out.
    pub fn pop_first(&mut self) -> Option<(K, V)> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Keeps the entries for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keep(key, value));
    }

    /// Puts a pair at its place, with less to spare than a vector takes: most are never added to.
    // Not inlined, so that those of pairs of one size are one.
    #[inline(never)]
    fn put(&mut self, at: usize, pair: (K, V)) {
        if self.0.len() == self.0.capacity() {
            self.0.reserve_exact(1 + self.0.len() / 2);
        }
        self.0.insert(at, pair);
    }

    /// Puts a pair at the end.
    fn push(&mut self, pair: (K, V)) {
        self.put(self.0.len(), pair);
    }
}

impl<K: Ord, V> Map<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0
            .binary_search_by(|(known, _)| known.borrow().cmp(key))
    }

    /// The value of a key.
    #[must_use]
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The same, to change it.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// The value of a key, and the key as it is kept.
    #[must_use]
    pub fn get_key_value<Q: Ord + ?Sized>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
    {
        let (key, value) = &self.0[self.find(key).ok()?];
        Some((key, value))
    }

    /// Whether a key has a value.
    #[must_use]
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Gives a key a value, and returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.put(at, (key, value));
                None
            }
        }
    }

    /// Takes a key's value out.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.remove_entry(key).map(|(_, value)| value)
    }

    /// The same with the key as it was kept.
    pub fn remove_entry<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<(K, V)>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| self.0.remove(at))
    }

    /// The value of a key, which is about to get one if it has none.
    pub fn or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let at = match self.find(&key) {
            Ok(at) => at,
            Err(at) => {
                self.put(at, (key, value()));
                at
            }
        };
        &mut self.0[at].1
    }

    /// The same with the value that is a type's own.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// Of pairs in any order; of a repeated key the last one counts.
    fn sorted(mut pairs: Vec<(K, V)>) -> Self {
        let compare = |one: usize, other: usize| pairs[one].0.cmp(&pairs[other].0);
        if let Some((places, different)) = places(pairs.len(), &compare) {
            arrange(&mut pairs, places);
            pairs.truncate(different);
            // Of many that were one little is left, for as long as the map is.
            pairs.shrink_to_fit();
        }
        Map(pairs)
    }
}

/// Where each of so many goes when they are sorted, and how many of them are different: of equal
/// ones the last one's place is among these, and the others' behind. `None` when they are sorted,
/// and all are different. One for all types: a sort of its own for each is much code.
fn places(count: usize, compare: &dyn Fn(usize, usize) -> Ordering) -> Option<(Vec<usize>, usize)> {
    if (1..count).all(|at| compare(at - 1, at).is_lt()) {
        return None;
    }
    let mut order: Vec<usize> = (0..count).collect();
    order.sort_unstable_by(|one, other| compare(*one, *other).then(other.cmp(one)));
    let is_first = |at: usize| at == 0 || compare(order[at - 1], order[at]).is_ne();
    let different = (0..count).filter(|at| is_first(*at)).count();
    let mut places = vec![0; count];
    let (mut ahead, mut behind) = (0, different);
    for (at, from) in order.iter().enumerate() {
        let next = if is_first(at) {
            &mut ahead
        } else {
            &mut behind
        };
        places[*from] = *next;
        *next += 1;
    }
    Some((places, different))
}

/// Moves each to its place.
fn arrange<T>(list: &mut [T], mut places: Vec<usize>) {
    for at in 0..places.len() {
        while places[at] != at {
            let to = places[at];
            exchange(list, at, to);
            places.swap(at, to);
        }
    }
}

/// A function of its own, so that those of types of one size are one.
#[inline(never)]
fn exchange<T>(list: &mut [T], one: usize, other: usize) {
    list.swap(one, other);
}

impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Map::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Map<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut all = Map::new();
        for pair in pairs {
            all.push(pair);
        }
        Map::sorted(all.0)
    }
}

impl<K: Ord, V> From<Vec<(K, V)>> for Map<K, V> {
    fn from(pairs: Vec<(K, V)>) -> Self {
        Map::sorted(pairs)
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Map<K, V> {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Map<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, pairs: I) {
        for (key, value) in pairs {
            self.insert(key, value);
        }
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> std::ops::Index<&Q> for Map<K, V> {
    type Output = V;

    /// Panics without such a key, as every index does.
    fn index(&self, key: &Q) -> &V {
        let at = self.find(key).unwrap_or(usize::MAX);
        &self.0[at].1
    }
}

/// The entries of a map by key.
#[derive(Debug)]
pub struct Iter<'a, K, V>(std::slice::Iter<'a, (K, V)>);

impl<K, V> Clone for Iter<'_, K, V> {
    fn clone(&self) -> Self {
        Iter(self.0.clone())
    }
}

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(key, value)| (key, value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<K, V> DoubleEndedIterator for Iter<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.0.next_back().map(|(key, value)| (key, value))
    }
}

impl<K, V> ExactSizeIterator for Iter<'_, K, V> {}

impl<'a, K, V> IntoIterator for &'a Map<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> IntoIterator for Map<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Map<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Map<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(PhantomData))
    }
}

struct Pairs<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Pairs<K, V> {
    type Value = Map<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut all = Map::new();
        while let Some(pair) = members.next_entry()? {
            all.push(pair);
        }
        Ok(Map::sorted(all.0))
    }
}

impl<K> Set<K> {
    /// Without members, and without memory.
    #[must_use]
    pub const fn new() -> Self {
        Set(Map::new())
    }

    /// How many members there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The members by their order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &K> + ExactSizeIterator + Clone {
        self.0.keys()
    }

    /// Keeps the members for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(&K) -> bool) {
        self.0.retain(|key, ()| keep(key));
    }
}

impl<K: Ord> Set<K> {
    /// Whether it is a member.
    #[must_use]
    pub fn contains<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.contains_key(key)
    }

    /// Makes it a member; whether it was none.
    pub fn insert(&mut self, key: K) -> bool {
        self.0.insert(key, ()).is_none()
    }

    /// Whether it was a member, which it is not any more.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.0.remove(key).is_some()
    }

    /// Whether all members are the other's as well.
    #[must_use]
    pub fn is_subset(&self, other: &Set<K>) -> bool {
        self.iter().all(|key| other.contains(key))
    }
}

impl<K> Default for Set<K> {
    fn default() -> Self {
        Set::new()
    }
}

impl<K: fmt::Debug> fmt::Debug for Set<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl<K: Ord> FromIterator<K> for Set<K> {
    fn from_iter<I: IntoIterator<Item = K>>(keys: I) -> Self {
        Set(keys.into_iter().map(|key| (key, ())).collect())
    }
}

impl<K: Ord, const N: usize> From<[K; N]> for Set<K> {
    fn from(keys: [K; N]) -> Self {
        keys.into_iter().collect()
    }
}

impl<K: Ord> Extend<K> for Set<K> {
    fn extend<I: IntoIterator<Item = K>>(&mut self, keys: I) {
        for key in keys {
            self.insert(key);
        }
    }
}

impl<K> IntoIterator for Set<K> {
    type Item = K;
    type IntoIter = std::iter::Map<std::vec::IntoIter<(K, ())>, fn((K, ())) -> K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter().map(|(key, ())| key)
    }
}

impl<'a, K> IntoIterator for &'a Set<K> {
    type Item = &'a K;
    type IntoIter = std::iter::Map<Iter<'a, K, ()>, fn((&'a K, &'a ())) -> &'a K>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter().map(|(key, ())| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// The same calls come to the same as with the trees of the standard library.
    #[test]
    fn it_is_what_a_tree_is() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..200 {
            let (mut map, mut tree) = (Map::new(), BTreeMap::new());
            let (mut set, mut branches) = (Set::new(), BTreeSet::new());
            for _ in 0..random.usize(..60) {
                let (key, value) = (random.u8(..20).to_string(), random.u8(..));
                match random.u8(..6) {
                    0 => assert_eq!(map.remove(&*key), tree.remove(&*key)),
                    1 => assert_eq!(
                        map.or_default(key.clone()),
                        tree.entry(key.clone()).or_default()
                    ),
                    2 => assert_eq!(map.pop_first(), tree.pop_first()),
                    3 => {
                        map.retain(|_, kept| *kept > value);
                        tree.retain(|_, kept| *kept > value);
                        assert_eq!(set.remove(&*key), branches.remove(&*key));
                    }
                    _ => assert_eq!(
                        map.insert(key.clone(), value),
                        tree.insert(key.clone(), value)
                    ),
                }
                assert_eq!(set.insert(key.clone()), branches.insert(key.clone()));
                assert_eq!(map.get(&*key), tree.get(&*key));
                assert_eq!(map.get_key_value(&*key), tree.get_key_value(&*key));
                assert_eq!(map.contains_key(&*key), tree.contains_key(&*key));
                assert!(map.iter().eq(tree.iter()) && map.iter().rev().eq(tree.iter().rev()));
                assert!(set.iter().eq(branches.iter()) && (&set).into_iter().eq(&branches));
                assert_eq!((map.len(), set.len()), (tree.len(), branches.len()));
                assert_eq!(format!("{map:?} {set:?}"), format!("{tree:?} {branches:?}"));
            }
        }
    }

    /// Documents come in any order, and of a repeated key the last one counts
    /// (target-state 1.6).
    #[test]
    fn what_is_collected_is_sorted_and_the_last_of_a_key_counts() {
        let text = r#"{"b":1,"a":2,"b":3,"c":4,"a":5}"#;
        let map: Map<String, u8> = serde_json::from_str(text).unwrap();
        assert_eq!(
            serde_json::to_string(&map).unwrap(),
            r#"{"a":5,"b":3,"c":4}"#
        );
        assert_eq!(
            (map["a"], map.first_key_value()),
            (5, Some((&"a".to_owned(), &5)))
        );
        let pairs = [("b", 1), ("a", 2), ("b", 3)];
        assert_eq!(Map::from(pairs), [("a", 2), ("b", 3)].into_iter().collect());
        let large: Map<u32, u32> = (0..10_000).rev().map(|key| (key, key)).collect();
        assert!(large.keys().copied().eq(0..10_000));
    }

    #[test]
    fn whatever_is_collected_is_what_a_tree_makes_of_it() {
        let mut random = fastrand::Rng::with_seed(8);
        for _ in 0..2000 {
            let most = random.u8(1..40);
            let pairs: Vec<(String, usize)> = (0..random.usize(..40))
                .map(|at| (random.u8(..most).to_string(), at))
                .collect();
            let tree: BTreeMap<String, usize> = pairs.iter().cloned().collect();
            let map = Map::from(pairs.clone());
            assert!(map.iter().eq(tree.iter()), "{pairs:?}: {map:?}");
            assert_eq!(map, pairs.into_iter().collect());
        }
    }

    /// What was filled one by one has less than half of it to spare.
    #[test]
    fn it_holds_little_more_than_what_is_in_it() {
        let mut map = Map::new();
        for key in 0..100 {
            map.insert(key, ());
            assert!(map.0.capacity() <= 1 + map.len() * 3 / 2);
        }
        let one: Set<u8> = std::iter::repeat_n(7, 1000).collect();
        assert_eq!((one.len(), one.0.0.capacity()), (1, 1));
    }
}
