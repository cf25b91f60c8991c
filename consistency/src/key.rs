//! Names of things: nodes, regions, keyspaces, shards and rows, and the byte
//! order in which rows are stored.
//!
//! A [`Row`] is the unit of everything: of storage, of the ballot register, of
//! a log entry's change. A register or counter is one row; a set is one row per
//! element. Its bytes are its storage key:
//!
//! ```text
//! keyspace u16 BE | shard u16 BE | partition key | 00 01 | sort key | 00 01 [ element ]
//! ```
//!
//! with `00` inside the keys written as `00 ff`, so that byte order is the order of
//! (partition key, sort key, element) and no row is a prefix of another key's row.

use bytes::{BufMut, Bytes, BytesMut};

use crate::limits::{ELEMENT_BYTES_MAX, KEY_BYTES_MAX};

/// A node: one process with one data directory. Named by the topology, unique in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct NodeId(pub u16);

/// A region: the domain of latency, failure and law. Its number is its position in the topology.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct RegionId(pub u8);

/// A keyspace. Its number is its position in the topology.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct KeyspaceId(pub u16);

/// The cluster, as the first eight bytes of a hash of its id: carried by every peer message and token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ClusterId(pub u64);

impl ClusterId {
    /// The short form of a cluster's textual id.
    pub fn of(id: &str) -> ClusterId {
        ClusterId(xxhash_rust::xxh3::xxh3_64(id.as_bytes()))
    }
}

/// A data piece: the rows of one keyspace whose partition keys hash to one number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct ShardId {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The piece of it, below the keyspace's shard count.
    pub index: u16,
}

/// A request the client made, as the caller's side of the core names it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct OpId(pub u64);

/// Why a key was refused. Nothing was applied.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// An empty partition key names nothing.
    #[error("the key is empty")]
    Empty,
    /// Partition key and sort key together are over the bound.
    #[error("the key is {bytes} bytes long, at most {KEY_BYTES_MAX} are allowed")]
    KeyTooLong {
        /// What was asked for.
        bytes: usize,
    },
    /// The set element is over the bound.
    #[error("the element is {bytes} bytes long, at most {ELEMENT_BYTES_MAX} are allowed")]
    ElementTooLong {
        /// What was asked for.
        bytes: usize,
    },
}

/// The name of one row, as its storage key. Order of bytes = order of rows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Row(Bytes);

/// The readable parts of a row's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RowParts {
    /// Decides the shard.
    pub partition: Bytes,
    /// Orders rows inside a partition key; empty when the caller gave none.
    pub sort: Bytes,
    /// The set element, for rows of a set.
    pub element: Option<Bytes>,
}

const HEAD: usize = 4;
const END: [u8; 2] = [0, 1];

impl Row {
    /// Names a row in `keyspace`, which has `shards` pieces.
    ///
    /// # Errors
    /// [`KeyError`] when a part is empty or over its bound.
    pub fn new(
        keyspace: KeyspaceId,
        shards: u16,
        partition: &[u8],
        sort: &[u8],
        element: Option<&[u8]>,
    ) -> Result<Row, KeyError> {
        if partition.is_empty() {
            return Err(KeyError::Empty);
        }
        let bytes = partition.len() + sort.len();
        if bytes > KEY_BYTES_MAX {
            return Err(KeyError::KeyTooLong { bytes });
        }
        if let Some(element) = element.filter(|e| e.len() > ELEMENT_BYTES_MAX) {
            return Err(KeyError::ElementTooLong {
                bytes: element.len(),
            });
        }
        let mut out = BytesMut::with_capacity(HEAD + bytes + 8 + element.map_or(0, <[u8]>::len));
        out.put_slice(&shard_of(keyspace, shards, partition).prefix());
        escape(&mut out, partition);
        escape(&mut out, sort);
        if let Some(element) = element {
            out.put_u8(b'e');
            out.put_slice(element);
        }
        Ok(Row(out.freeze()))
    }

    /// Takes a row's bytes back from a message or the store; `None` when they name no row.
    pub fn from_bytes(bytes: Bytes) -> Option<Row> {
        let row = Row(bytes);
        row.parts().map(|_| row)
    }

    /// The storage key.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The shard the row belongs to.
    pub fn shard(&self) -> ShardId {
        let at = |i: usize| u16::from_be_bytes([self.0[i], self.0[i + 1]]);
        ShardId {
            keyspace: KeyspaceId(at(0)),
            index: at(2),
        }
    }

    /// The name in readable parts; `None` when the bytes are not a row's.
    pub fn parts(&self) -> Option<RowParts> {
        let (partition, rest) = unescape(self.0.get(HEAD..)?)?;
        let (sort, rest) = unescape(rest)?;
        let element = match rest.split_first() {
            None => None,
            Some((b'e', element)) => Some(Bytes::copy_from_slice(element)),
            Some(_) => return None,
        };
        (!partition.is_empty()).then_some(RowParts {
            partition,
            sort,
            element,
        })
    }

    /// The first storage key behind this row's elements: the end of a scan over a set.
    pub fn elements_end(&self) -> Bytes {
        let mut end = BytesMut::from(&self.0[..]);
        end.put_u8(b'e' + 1);
        end.freeze()
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Keys are private: a log line may name the row only by its hash.
        let shard = self.shard();
        let hash = xxhash_rust::xxh3::xxh3_64(&self.0) as u32;
        write!(f, "{}/{}#{hash:08x}", shard.keyspace.0, shard.index)
    }
}

impl ShardId {
    /// The first four bytes of every storage key in this shard.
    pub fn prefix(self) -> [u8; HEAD] {
        let ([a, b], [c, d]) = (self.keyspace.0.to_be_bytes(), self.index.to_be_bytes());
        [a, b, c, d]
    }

    /// The first storage key behind this shard, or `None` behind the very last one.
    pub fn end(self) -> Option<[u8; HEAD]> {
        u32::from_be_bytes(self.prefix())
            .checked_add(1)
            .map(u32::to_be_bytes)
    }
}

/// The shard that holds a partition key: a stable hash, part of the stored format.
pub fn shard_of(keyspace: KeyspaceId, shards: u16, partition: &[u8]) -> ShardId {
    let hash = xxhash_rust::xxh3::xxh3_64(partition);
    ShardId {
        keyspace,
        index: (hash % u64::from(shards.max(1))) as u16,
    }
}

/// The storage key prefix of all sort keys under one partition key that start with `sort`.
pub fn sort_prefix(keyspace: KeyspaceId, shards: u16, partition: &[u8], sort: &[u8]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(&shard_of(keyspace, shards, partition).prefix());
    escape(&mut out, partition);
    escape_open(&mut out, sort);
    out.freeze()
}

/// The smallest byte string above everything that starts with `prefix`, or `None` when there is none.
pub fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = BytesMut::from(&prefix[..=last]);
    end[last] += 1;
    Some(end.freeze())
}

fn escape_open(out: &mut BytesMut, part: &[u8]) {
    for &byte in part {
        out.put_u8(byte);
        if byte == 0 {
            out.put_u8(0xff);
        }
    }
}

fn escape(out: &mut BytesMut, part: &[u8]) {
    escape_open(out, part);
    out.put_slice(&END);
}

fn unescape(bytes: &[u8]) -> Option<(Bytes, &[u8])> {
    let mut part = BytesMut::new();
    let mut at = 0;
    loop {
        match (*bytes.get(at)?, bytes.get(at + 1)) {
            (0, Some(0xff)) => {
                part.put_u8(0);
                at += 2;
            }
            (0, Some(1)) => return Some((part.freeze(), &bytes[at + 2..])),
            (0, _) => return None,
            (byte, _) => {
                part.put_u8(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(partition: &[u8], sort: &[u8], element: Option<&[u8]>) -> Row {
        Row::new(KeyspaceId(3), 64, partition, sort, element).unwrap()
    }

    #[test]
    fn bounds_are_named() {
        let long = vec![7; KEY_BYTES_MAX + 1];
        assert_eq!(
            Row::new(KeyspaceId(0), 1, b"", b"", None),
            Err(KeyError::Empty)
        );
        assert_eq!(
            Row::new(KeyspaceId(0), 1, &long, b"", None),
            Err(KeyError::KeyTooLong {
                bytes: KEY_BYTES_MAX + 1
            })
        );
        assert!(Row::new(KeyspaceId(0), 1, &long[1..], b"", None).is_ok());
    }

    proptest! {
        #[test]
        fn parts_come_back(p in proptest::collection::vec(0u8..4, 1..8), s in proptest::collection::vec(0u8..4, 0..8), e in proptest::option::of(proptest::collection::vec(0u8..4, 0..6))) {
            let row = row(&p, &s, e.as_deref());
            let parts = row.parts().unwrap();
            prop_assert_eq!(&parts.partition[..], &p[..]);
            prop_assert_eq!(&parts.sort[..], &s[..]);
            prop_assert_eq!(parts.element.as_deref(), e.as_deref());
            prop_assert_eq!(Row::from_bytes(row.as_bytes().clone()), Some(row));
        }

        #[test]
        fn byte_order_is_key_order(p in proptest::collection::vec(0u8..3, 1..4), a in proptest::collection::vec(0u8..3, 0..5), b in proptest::collection::vec(0u8..3, 0..5)) {
            prop_assert_eq!(row(&p, &a, None).cmp(&row(&p, &b, None)), a.cmp(&b));
            prop_assert_eq!(row(&p, b"", Some(&a)).cmp(&row(&p, b"", Some(&b))), a.cmp(&b));
        }

        #[test]
        fn damaged_names_are_refused_not_panicking(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let _ = Row::from_bytes(Bytes::from(bytes));
        }
    }
}
