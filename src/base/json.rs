//! JSON is read in one way.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap};

use crate::base::map::Map;

/// What a text says.
///
/// The library has a reader of texts and one of bytes, and each type that is read by both has its
/// code twice: all of the agent reads bytes.
///
/// # Errors
/// The library's.
pub fn from_str<'d, T: Deserialize<'d>>(text: &'d str) -> serde_json::Result<T> {
    serde_json::from_slice(text.as_bytes())
}

/// A string or key, borrowed where it has no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<'d>(pub Cow<'d, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Text<'de>, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// A type whose members are set one by one on its default, as they come: of a repeated one the
/// last counts, and what is not known is passed over. Half the code of what the library derives,
/// which keeps each member aside until it has seen all of them.
pub trait Fields<'de>: Default {
    /// Reads the value of a member; the name tells which it is.
    ///
    /// # Errors
    /// The reader's.
    fn set<A: MapAccess<'de>>(&mut self, name: &str, members: &mut A) -> Result<(), A::Error>;

    /// What was to be there and was not, when all members were read.
    fn missing(&self) -> Option<&'static str>;
}

/// Reads such a type.
///
/// # Errors
/// The reader's.
pub fn one_by_one<'de, T: Fields<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    deserializer.deserialize_map(OneByOne(PhantomData))
}

struct OneByOne<T>(PhantomData<T>);

impl<'de, T: Fields<'de>> Visitor<'de> for OneByOne<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<T, A::Error> {
        let mut read = T::default();
        while let Some(Text(name)) = members.next_key()? {
            read.set(&name, &mut members)?;
        }
        match read.missing() {
            Some(name) => Err(A::Error::missing_field(name)),
            None => Ok(read),
        }
    }
}

/// Reads the value of a member to where it belongs. Its code is there once for each type of member
/// that there is, not for each member.
///
/// # Errors
/// The reader's.
#[inline(never)]
pub fn read_into<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    field: &mut T,
    members: &mut A,
) -> Result<(), A::Error> {
    *field = members.next_value()?;
    Ok(())
}

/// Reads the value of a member that is not known.
///
/// # Errors
/// The reader's.
pub fn pass_over<'de, A: MapAccess<'de>>(members: &mut A) -> Result<(), A::Error> {
    members.next_value::<IgnoredAny>().map(drop)
}

/// Makes a type readable member by member ([`Fields`]): `fields!(Type { one, two, "type" => kind })`.
/// A type that borrows has the lifetime `'de`. Without a member that is `needed`, or with nothing in
/// it ([`Blank`]), it cannot be read: `fields!(Type { id needed })`.
macro_rules! fields {
    (@ $type:ty, $([$field:ident $($needed:ident)?, $($name:tt)+])*) => {
        impl<'de> $crate::base::json::Fields<'de> for $type {
            fn set<A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                members: &mut A,
            ) -> Result<(), A::Error> {
                match name {
                    $($($name)+ => $crate::base::json::read_into(&mut self.$field, members),)*
                    _ => $crate::base::json::pass_over(members),
                }
            }

            fn missing(&self) -> Option<&'static str> {
                // All of them: one that is new and not in the list does not compile.
                let Self { $($field: _),* } = self;
                $($crate::base::json::fields!(? $($needed)? [&self.$field] $($name)+);)*
                None
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                $crate::base::json::one_by_one(reader)
            }
        }
    };
    (? [$value:expr] $name:expr) => {};
    (? needed [$value:expr] $name:expr) => {
        if $crate::base::json::Blank::is_blank($value) {
            return Some($name);
        }
    };
    ($type:ty { $($name:literal => $field:ident $($needed:ident)?),+ $(,)? }) => {
        $crate::base::json::fields!(@ $type, $([$field $($needed)?, $name])*);
    };
    ($type:ty {
        $($field:ident $($needed:ident)?),+ $(, $name:literal => $other:ident)* $(,)?
    }) => {
        $crate::base::json::fields!(
            @ $type, $([$field $($needed)?, stringify!($field)])* $([$other, $name])*
        );
    };
}
pub(crate) use fields;

/// A value of which there may be nothing to say.
pub trait Blank {
    /// Whether it says no more than its absence would.
    fn is_blank(&self) -> bool;
}

impl<T> Blank for Option<T> {
    fn is_blank(&self) -> bool {
        self.is_none()
    }
}

impl Blank for String {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Blank for Text<'_> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Blank for Vec<T> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T> Blank for [T] {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Blank + ?Sized> Blank for &T {
    fn is_blank(&self) -> bool {
        (**self).is_blank()
    }
}

impl<K, V> Blank for Map<K, V> {
    fn is_blank(&self) -> bool {
        self.is_empty()
    }
}

impl Blank for bool {
    fn is_blank(&self) -> bool {
        !self
    }
}

impl Blank for i64 {
    fn is_blank(&self) -> bool {
        *self == 0
    }
}

/// Writes a member. Its code is there once for each type of member, as that of [`read_into`].
///
/// # Errors
/// The writer's.
#[inline(never)]
pub fn write_always<M: SerializeMap, T: Serialize>(
    members: &mut M,
    name: &'static str,
    value: &T,
) -> Result<(), M::Error> {
    write_name(members, name)?;
    members.serialize_value(value)
}

/// The same, if there is something to say.
///
/// # Errors
/// The writer's.
#[inline(never)]
pub fn write_if_any<M: SerializeMap, T: Serialize + Blank>(
    members: &mut M,
    name: &'static str,
    value: &T,
) -> Result<(), M::Error> {
    if value.is_blank() {
        return Ok(());
    }
    write_name(members, name)?;
    members.serialize_value(value)
}

#[inline(never)]
fn write_name<M: SerializeMap>(members: &mut M, name: &'static str) -> Result<(), M::Error> {
    members.serialize_key(name)
}

/// Makes a type writable member by member, in this order: `written!(Type { one, two always })` or
/// `written!(Type { "One" => one, "Two" => two always })`. What is [`Blank`] is left out, unless it
/// is told always. A third of the code of what the library derives, which counts the members first.
macro_rules! written {
    (@ $type:ty, $([$field:ident $($always:ident)?, $($name:tt)+])*) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
                // All of them: one that is new and not in the list does not compile.
                let Self { $($field),* } = self;
                let mut members = writer.serialize_map(None)?;
                $($crate::base::json::written!(+ members, $($name)+, $field $(, $always)?);)*
                serde::ser::SerializeMap::end(members)
            }
        }
    };
    (+ $members:ident, $name:expr, $value:expr) => {
        $crate::base::json::write_if_any(&mut $members, $name, $value)?
    };
    (+ $members:ident, $name:expr, $value:expr, always) => {
        $crate::base::json::write_always(&mut $members, $name, $value)?
    };
    ($type:ty { $($name:literal => $field:ident $($always:ident)?),+ $(,)? }) => {
        $crate::base::json::written!(@ $type, $([$field $($always)?, $name])*);
    };
    ($type:ty { $($field:ident $($always:ident)?),+ $(,)? }) => {
        $crate::base::json::written!(@ $type, $([$field $($always)?, stringify!($field)])*);
    };
}
pub(crate) use written;

/// Both: [`fields!`] and [`written!`].
macro_rules! members {
    ($type:ty { $($field:ident $($always:ident)?),+ $(,)? }) => {
        $crate::base::json::fields!($type { $($field),+ });
        $crate::base::json::written!($type { $($field $($always)?),+ });
    };
}
pub(crate) use members;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Thing<'a> {
        id: Text<'a>,
        count: i64,
        on: bool,
        rest: Option<Vec<String>>,
    }

    fields!(Thing<'de> { "Id" => id needed, "count" => count, "on" => on, "rest" => rest });
    written!(Thing<'_> { "Id" => id always, "count" => count, "on" => on always, "rest" => rest });

    impl Serialize for Text<'_> {
        fn serialize<S: serde::Serializer>(&self, writer: S) -> Result<S::Ok, S::Error> {
            writer.serialize_str(self)
        }
    }

    #[test]
    fn members_come_in_any_order_and_the_last_of_a_name_counts() {
        let read: Thing<'_> =
            from_str(r#"{"x":{"Id":1},"count":1,"Id":"a\n","rest":["b"],"count":2}"#).unwrap();
        let want = Thing {
            id: Text("a\n".into()),
            count: 2,
            on: false,
            rest: Some(vec!["b".into()]),
        };
        assert_eq!(read, want);
    }

    #[test]
    fn what_is_needed_has_to_be_there() {
        for text in ["{}", r#"{"count":1}"#, r#"{"Id":""}"#] {
            let error = from_str::<Thing<'_>>(text).unwrap_err().to_string();
            assert!(error.starts_with("missing field `Id`"), "{text}: {error}");
        }
        for text in [r#"{"Id":null}"#, r#"{"Id":"a","count":"b"}"#, "[]", "null"] {
            assert!(from_str::<Thing<'_>>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_says_nothing_is_left_out() {
        let mut thing = Thing::default();
        let written = |thing: &Thing<'_>| serde_json::to_string(thing).unwrap();
        assert_eq!(written(&thing), r#"{"Id":"","on":false}"#);
        thing.count = -1;
        thing.rest = Some(Vec::new());
        assert_eq!(
            written(&thing),
            r#"{"Id":"","count":-1,"on":false,"rest":[]}"#
        );
    }
}
