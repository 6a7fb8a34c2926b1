//! JSON is read in one way.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
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
        Ok(read)
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
/// A type that borrows has the lifetime `'de`.
macro_rules! fields {
    (@ $type:ty, $([$($name:tt)+] $field:ident)*) => {
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
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
                $crate::base::json::one_by_one(reader)
            }
        }
    };
    ($type:ty { $($name:literal => $other:ident),+ $(,)? }) => {
        $crate::base::json::fields!(@ $type, $([$name] $other)*);
    };
    ($type:ty { $($field:ident),+ $(, $name:literal => $other:ident)* $(,)? }) => {
        $crate::base::json::fields!(@ $type, $([stringify!($field)] $field)* $([$name] $other)*);
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
                let mut members = writer.serialize_map(None)?;
                $($crate::base::json::written!(+ members, $($name)+, &self.$field $(, $always)?);)*
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
