//! Names of rows.

use bytes::Bytes;

/// A key: a partition key and an optional sort key, both any bytes.
///
/// Rows of one partition key lie in one shard, ordered by their sort keys. Both parts together are
/// at most 4096 bytes and the partition key is not empty; the server refuses anything else.
/// An empty sort key is the same as none.
///
/// Everything that looks like a key converts into one: `"alice"`, `b"\x00\x01"`, a `Vec<u8>`, or a
/// pair `("views/DE", "2026-01-01")` of partition key and sort key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Hash)]
pub struct Key {
    /// Chooses the shard.
    pub partition: Bytes,
    /// Orders the rows of one partition key.
    pub sort: Bytes,
}

macro_rules! from_bytes_like {
    ($($type:ty),*) => {$(
        impl From<$type> for Key {
            fn from(partition: $type) -> Key {
                Key { partition: into_bytes(partition), sort: Bytes::new() }
            }
        }
    )*};
}

from_bytes_like!(&str, String, &[u8], Vec<u8>, Bytes);

impl<const N: usize> From<&[u8; N]> for Key {
    fn from(partition: &[u8; N]) -> Key {
        Key::from(&partition[..])
    }
}

impl<P: AsRef<[u8]>, S: AsRef<[u8]>> From<(P, S)> for Key {
    fn from((partition, sort): (P, S)) -> Key {
        Key {
            partition: into_bytes(partition),
            sort: into_bytes(sort),
        }
    }
}

fn into_bytes(part: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(part.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_have_a_sort_key_and_single_names_have_none() {
        let pair = Key::from(("views/DE", b"2026"));
        assert_eq!(
            (&pair.partition[..], &pair.sort[..]),
            (&b"views/DE"[..], &b"2026"[..])
        );
        assert_eq!(Key::from("a"), Key::from(("a", "")));
        assert_eq!(Key::from(b"a"), Key::from("a".to_owned()));
    }
}
