//! The consistency level of a request, as users see it.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// What a request asks for. Chosen per request; one key takes all of them.
///
/// The contract of every (write level, read level) pair is printed in
/// `docs/consistency-model.md` of the repository.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub enum Consistency {
    /// What the topology file declares for the keyspace.
    #[default]
    KeyspaceDefault,
    /// Served by one region alone, at once, also when that region is cut off. Converges.
    Eventual,
    /// As eventual, plus everything the [`Session`](crate::Session) has seen: read your writes,
    /// monotonic reads, monotonic writes, writes follow reads, in any region.
    Session,
    /// Linearizable: a majority of regions. Refused with `QUORUM_UNREACHABLE` where no majority is
    /// reachable, at once when the node knows.
    Strong,
}

impl Consistency {
    /// The word used on the wire, in metrics, on the command line and in the docs;
    /// `default` for [`Consistency::KeyspaceDefault`].
    pub fn name(self) -> &'static str {
        match self {
            Consistency::KeyspaceDefault => "default",
            Consistency::Eventual => "eventual",
            Consistency::Session => "session",
            Consistency::Strong => "strong",
        }
    }

    /// The one of two levels that a reply reached which promises less.
    pub(crate) fn weaker(self, other: Consistency) -> Consistency {
        let strength = |level| match level {
            Consistency::KeyspaceDefault => 0,
            Consistency::Eventual => 1,
            Consistency::Session => 2,
            Consistency::Strong => 3,
        };
        std::cmp::min_by_key(self, other, |level| strength(*level))
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Consistency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// A word that names no level.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{0}` is no level: say eventual, session, strong or default")]
pub struct UnknownLevel(pub String);

impl FromStr for Consistency {
    type Err = UnknownLevel;

    fn from_str(word: &str) -> Result<Consistency, UnknownLevel> {
        [
            Consistency::KeyspaceDefault,
            Consistency::Eventual,
            Consistency::Session,
            Consistency::Strong,
        ]
        .into_iter()
        .find(|level| level.name() == word)
        .ok_or_else(|| UnknownLevel(word.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back() {
        for word in ["default", "eventual", "session", "strong"] {
            assert_eq!(word.parse::<Consistency>().unwrap().name(), word);
        }
        assert!("quorum".parse::<Consistency>().is_err());
    }
}
