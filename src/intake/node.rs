//! One value of a document with its path: the only way in which intake looks at JSON.
//!
//! A value is kept as the text it has in the document and looked at one level
//! at a time, so that nothing is built that is not asked for, the path of every
//! refusal is known, and what does not parse here does not fail its neighbours.
//! No error text of the JSON library gets out: it could quote a secret.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;
use crate::base::json::Text;
use crate::base::map::Map;

/// Where a value is in its document. Lives on the stack; becomes text only in a refusal.
#[derive(Clone, Copy)]
pub(crate) enum Path<'p> {
    /// The document.
    Root,
    /// A member of an object.
    Key(&'p Path<'p>, &'p str),
    /// An element of a list.
    Index(&'p Path<'p>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => Ok(()),
            Path::Key(Path::Root, key) => f.write_str(&shown(key)),
            Path::Key(parent, key) => write!(f, "{parent}.{}", shown(key)),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

impl<'p> Path<'p> {
    /// The path of a member.
    pub(crate) fn key(&'p self, key: &'p str) -> Path<'p> {
        Path::Key(self, key)
    }

    /// A refusal of the value at this path.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal {
            path: self.to_string(),
            reason: reason.into(),
        }
    }
}

/// Text of a document inside a message: no line breaks, not endless.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    const CHARS_MAX: usize = 80;
    if text.len() <= CHARS_MAX && !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut out: String = text
        .chars()
        .take(CHARS_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        out.push_str("...");
    }
    Cow::Owned(out)
}

/// The members of an object by key; of a repeated key the last one (target-state 1.6).
pub(crate) type Members<'d> = Map<Cow<'d, str>, &'d RawValue>;

/// One value of a document.
#[derive(Clone, Copy)]
pub(crate) struct Node<'d, 'p> {
    /// Its JSON text, without blanks around it.
    text: &'d str,
    /// Where it is.
    pub(crate) path: &'p Path<'p>,
}

impl<'d, 'p> Node<'d, 'p> {
    pub(crate) fn new(raw: &'d RawValue, path: &'p Path<'p>) -> Node<'d, 'p> {
        Node {
            text: raw.get(),
            path,
        }
    }

    /// Bytes of its text.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// A refusal of this value.
    pub(crate) fn refuse(&self, reason: impl Into<String>) -> Refusal {
        self.path.refuse(reason)
    }

    /// What kind of value it is, in words.
    pub(crate) fn kind(&self) -> &'static str {
        match self.text.as_bytes().first() {
            Some(b'"') => "a string",
            Some(b'{') => "an object",
            Some(b'[') => "a list",
            Some(b't' | b'f') => "a boolean",
            Some(b'n') => "null",
            _ => "a number",
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.starts_with(b'n')
    }

    pub(crate) fn is_string(&self) -> bool {
        self.starts_with(b'"')
    }

    pub(crate) fn is_object(&self) -> bool {
        self.starts_with(b'{')
    }

    pub(crate) fn is_list(&self) -> bool {
        self.starts_with(b'[')
    }

    pub(crate) fn is_number(&self) -> bool {
        self.kind() == "a number"
    }

    fn starts_with(&self, byte: u8) -> bool {
        self.text.as_bytes().first() == Some(&byte)
    }

    /// "expected X, got Y".
    pub(crate) fn unexpected(&self, expected: &str) -> Refusal {
        self.refuse(format!("expected {expected}, got {}", self.kind()))
    }

    /// The members of an object.
    pub(crate) fn members(&self) -> Result<Members<'d>, Refusal> {
        if !self.is_object() {
            return Err(self.unexpected("an object"));
        }
        let members: Result<MembersOf<'d>, _> = crate::base::json::from_str(self.text);
        members
            .map(|MembersOf(members)| members)
            .map_err(|_| self.refuse("a key in here is not valid text"))
    }

    /// Calls `f` with every member, in key order, until it fails.
    pub(crate) fn each_member<F>(&self, mut f: F) -> Result<(), Refusal>
    where
        F: FnMut(&str, Node<'d, '_>) -> Result<(), Refusal>,
    {
        self.members_to(&mut f)
    }

    /// The loop of [`Node::each_member`]: one piece of code for all its many callers.
    fn members_to(
        &self,
        f: &mut dyn FnMut(&str, Node<'d, '_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        for (key, raw) in &self.members()? {
            let path = self.path.key(key);
            f(key, Node::new(raw, &path))?;
        }
        Ok(())
    }

    /// Calls `f` with every element of a list, until it fails.
    pub(crate) fn each_element<F>(&self, mut f: F) -> Result<(), Refusal>
    where
        F: FnMut(Node<'d, '_>) -> Result<(), Refusal>,
    {
        self.elements_to(&mut f)
    }

    /// The loop of [`Node::each_element`], likewise.
    fn elements_to(
        &self,
        f: &mut dyn FnMut(Node<'d, '_>) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if !self.is_list() {
            return Err(self.unexpected("a list"));
        }
        let elements: Result<ElementsOf<'d>, _> = crate::base::json::from_str(self.text);
        let ElementsOf(elements) = elements.map_err(|_| self.refuse("not a valid list"))?;
        for (index, raw) in elements.into_iter().enumerate() {
            let path = Path::Index(self.path, index);
            f(Node::new(raw, &path))?;
        }
        Ok(())
    }

    /// A list, each element read by `read`.
    pub(crate) fn list<T, F>(&self, mut read: F) -> Result<Vec<T>, Refusal>
    where
        F: FnMut(Node<'d, '_>) -> Result<T, Refusal>,
    {
        let mut list = Vec::new();
        self.each_element(|node| {
            list.push(read(node)?);
            Ok(())
        })?;
        Ok(list)
    }

    /// An object as a map, each value read by `read`.
    pub(crate) fn map<T, F>(&self, mut read: F) -> Result<Map<String, T>, Refusal>
    where
        F: FnMut(Node<'d, '_>) -> Result<T, Refusal>,
    {
        let mut map = Map::new();
        self.each_member(|key, node| {
            map.insert(key.to_owned(), read(node)?);
            Ok(())
        })?;
        Ok(map)
    }

    /// A string.
    pub(crate) fn str(&self) -> Result<Cow<'d, str>, Refusal> {
        if !self.is_string() {
            return Err(self.unexpected("a string"));
        }
        let text: Result<Text<'d>, _> = crate::base::json::from_str(self.text);
        text.map(|Text(text)| text)
            .map_err(|_| self.refuse("the string is not valid text"))
    }

    /// A string of its own.
    pub(crate) fn string(&self) -> Result<String, Refusal> {
        self.str().map(Cow::into_owned)
    }

    /// A boolean.
    pub(crate) fn bool(&self) -> Result<bool, Refusal> {
        match self.text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(self.unexpected("a boolean")),
        }
    }

    /// A number as it is written.
    pub(crate) fn number(&self) -> Result<&'d str, Refusal> {
        if self.is_number() {
            Ok(self.text)
        } else {
            Err(self.unexpected("a number"))
        }
    }

    /// A number, if a float can be as large.
    pub(crate) fn float(&self) -> Result<f64, Refusal> {
        let number = crate::base::json::from_str(self.number()?);
        number.map_err(|_| self.refuse("the number is out of range"))
    }

    /// Whether it is a number without fraction and exponent.
    pub(crate) fn is_integer(&self) -> bool {
        self.is_number() && !self.text.contains(['.', 'e', 'E'])
    }

    /// A 64-bit integer.
    pub(crate) fn int(&self) -> Result<i64, Refusal> {
        if !self.is_number() {
            return Err(self.unexpected("an integer"));
        }
        if !self.is_integer() {
            return Err(self.refuse("expected an integer, got a fraction"));
        }
        self.text
            .parse()
            .map_err(|_| self.refuse("the integer is out of range"))
    }

    /// An integer that fits `T`.
    pub(crate) fn int_as<T: TryFrom<i64>>(&self) -> Result<T, Refusal> {
        T::try_from(self.int()?).map_err(|_| self.refuse("the integer is out of range"))
    }

    /// `None` for null, else what `read` makes of it.
    pub(crate) fn nullable<T, F>(self, read: F) -> Result<Option<T>, Refusal>
    where
        F: FnOnce(Node<'d, 'p>) -> Result<T, Refusal>,
    {
        if self.is_null() {
            Ok(None)
        } else {
            read(self).map(Some)
        }
    }

    /// What `read` makes of the member `key` of `members`, if there is one.
    pub(crate) fn member<T, F>(
        &self,
        members: &Members<'d>,
        key: &str,
        read: F,
    ) -> Result<Option<T>, Refusal>
    where
        F: FnOnce(Node<'d, '_>) -> Result<T, Refusal>,
    {
        match members.get(key) {
            Some(raw) => read(Node::new(raw, &self.path.key(key))).map(Some),
            None => Ok(None),
        }
    }
}

struct MembersOf<'d>(Members<'d>);

impl<'de> Deserialize<'de> for MembersOf<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<MembersOf<'de>, D::Error> {
        struct LastWins;
        impl<'de> Visitor<'de> for LastWins {
            type Value = MembersOf<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<MembersOf<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Text(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(MembersOf(members.into()))
            }
        }
        deserializer.deserialize_map(LastWins)
    }
}

struct ElementsOf<'d>(Vec<&'d RawValue>);

impl<'de> Deserialize<'de> for ElementsOf<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ElementsOf<'de>, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = ElementsOf<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<ElementsOf<'de>, A::Error> {
                let mut elements = Vec::new();
                while let Some(element) = seq.next_element()? {
                    elements.push(element);
                }
                Ok(ElementsOf(elements))
            }
        }
        deserializer.deserialize_seq(InOrder)
    }
}
