//! The ids of transactions and branches, and the names of topics, checked once where they enter and believed from there on.

use std::fmt;
use std::sync::Arc;

use crate::limits;

/// The id of a global transaction: `[A-Za-z0-9_:/-]{1,128}`.
///
/// ```
/// use tcc_core::Gid;
///
/// let gid: Gid = "orders/2026-11-20:17".parse()?;
/// assert_eq!(gid.as_str(), "orders/2026-11-20:17");
/// assert!("no spaces".parse::<Gid>().is_err());
/// # Ok::<(), tcc_core::BadId>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9_:/-]{1,128}$", example = "order/1042"))]
pub struct Gid(Arc<str>);

/// The id of a branch, unique in its transaction: `[A-Za-z0-9_:/-]{1,64}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9_:/-]{1,64}$", example = "stock"))]
pub struct BranchId(Arc<str>);

/// The name of a topic: `[A-Za-z0-9_:/.-]{1,64}`, as in `order.created`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9_:/.-]{1,64}$", example = "order.created"))]
pub struct TopicName(Arc<str>);

/// The id of a subscriber, unique in its topic: `[A-Za-z0-9_:/-]{1,32}`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(value_type = String, pattern = "^[A-Za-z0-9_:/-]{1,32}$", example = "points"))]
pub struct SubscriberId(Arc<str>);

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadId {
    /// It has no characters.
    #[error("is empty")]
    Empty,
    /// It has more than this many characters.
    #[error("is longer than {0} characters")]
    TooLong(usize),
    /// It holds this character; besides letters and digits only these may stand in it.
    #[error("holds {0:?}; letters, digits and {list} may stand in it", list = spaced(.1))]
    Character(char, &'static str),
}

fn spaced(marks: &str) -> String {
    marks.chars().map(String::from).collect::<Vec<_>>().join(" ")
}

fn check(text: &str, longest: usize, marks: &'static str) -> Result<(), BadId> {
    if text.is_empty() {
        return Err(BadId::Empty);
    }
    if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !marks.contains(*c)) {
        return Err(BadId::Character(bad, marks));
    }
    if text.len() > longest { Err(BadId::TooLong(longest)) } else { Ok(()) }
}

macro_rules! id {
    ($name:ident, $longest:expr, $marks:expr) => {
        impl $name {
            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                check(text, $longest, $marks).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl TryFrom<&str> for $name {
            type Error = BadId;
            fn try_from(text: &str) -> Result<Self, BadId> {
                text.parse()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.serialize_str(&self.0)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(Gid, limits::GID_LENGTH, "_:/-");
id!(BranchId, limits::BRANCH_ID_LENGTH, "_:/-");
id!(TopicName, limits::TOPIC_LENGTH, "_:/-.");
id!(SubscriberId, limits::SUBSCRIBER_ID_LENGTH, "_:/-");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_to_their_letters_and_lengths() {
        assert_eq!("".parse::<Gid>(), Err(BadId::Empty));
        assert_eq!("a b".parse::<Gid>(), Err(BadId::Character(' ', "_:/-")));
        assert_eq!("a~b".parse::<Gid>(), Err(BadId::Character('~', "_:/-")));
        assert_eq!("a\r\nb".parse::<BranchId>(), Err(BadId::Character('\r', "_:/-")));
        assert_eq!("ü".parse::<BranchId>(), Err(BadId::Character('ü', "_:/-")));
        assert_eq!("a.b".parse::<SubscriberId>(), Err(BadId::Character('.', "_:/-")));
        assert!("a.b".parse::<TopicName>().is_ok());
        let why = "a,b".parse::<TopicName>().unwrap_err().to_string();
        assert_eq!(why, "holds ','; letters, digits and _ : / - . may stand in it");
        assert!("x".repeat(128).parse::<Gid>().is_ok());
        assert_eq!("x".repeat(129).parse::<Gid>(), Err(BadId::TooLong(128)));
        assert_eq!("x".repeat(65).parse::<BranchId>(), Err(BadId::TooLong(64)));
    }
}
