//! How a value lies in an engine: wrapped with a format version and a checksum over where it belongs.
//!
//! ```text
//! format u8 | checksum u64 LE | payload
//! ```
//!
//! The checksum is xxh3-64 chained over family name, format, key and payload, so that a value read back
//! under another key or family does not pass. No engine finds all bit rot by itself, and some return
//! wrong bytes; this finds every single flip, and misses other damage once in 2^64.
//! Every later format keeps the first nine bytes as they are: that is how a newer
//! record is told from a damaged one.

use bytes::{BufMut, Bytes, BytesMut};
use hansa_consistency::port::{Damaged, Family};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::StoreError;
use crate::mutant::{DiskMutant, DiskRules};

/// The format written, and the newest one read.
const FORMAT: u8 = 1;

/// Bytes in front of the payload.
const HEAD: usize = 9;

/// A read may hand out a part of an engine's whole block; payloads shorter than this are copied out, so
/// that a small value kept for long does not keep a block in memory.
const COPY_BELOW: usize = 4096;

fn checksum(family: Family, format: u8, key: &[u8], payload: &[u8]) -> u64 {
    let place = xxh3_64_with_seed(family.name().as_bytes(), u64::from(format));
    xxh3_64_with_seed(payload, xxh3_64_with_seed(key, place))
}

/// The bytes to store for `payload` under `key`.
pub(super) fn wrap(family: Family, key: &[u8], payload: &[u8]) -> Bytes {
    wrap_as(FORMAT, family, key, payload)
}

fn wrap_as(format: u8, family: Family, key: &[u8], payload: &[u8]) -> Bytes {
    let mut record = BytesMut::with_capacity(HEAD + payload.len());
    record.put_u8(format);
    record.put_u64_le(checksum(family, format, key, payload));
    record.put_slice(payload);
    record.freeze()
}

/// The payload of the stored bytes `record`, when they are what was stored under `key`.
///
/// # Errors
/// [`StoreError::Damaged`], or [`StoreError::NewerFormat`] when a later version wrote it.
pub(super) fn unwrap(family: Family, key: &[u8], record: &Bytes) -> Result<Bytes, StoreError> {
    let damaged = |what: String| StoreError::Damaged(Damaged { family, what });
    let Some((&[format, ref sum @ ..], payload)) = record.split_first_chunk::<HEAD>() else {
        return Err(damaged(format!("{} bytes long", record.len())));
    };
    let holds = u64::from_le_bytes(*sum) == checksum(family, format, key, payload);
    if !holds && !DiskRules::of_process().broken(DiskMutant::ChecksumIgnored) {
        return Err(damaged("the checksum does not hold".into()));
    }
    if format != FORMAT {
        return Err(StoreError::NewerFormat {
            what: format!("a record of family {}", family.name()),
            found: format.into(),
            known: FORMAT.into(),
        });
    }
    Ok(if payload.len() < COPY_BELOW {
        Bytes::copy_from_slice(payload)
    } else {
        record.slice(HEAD..)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damaged(outcome: Result<Bytes, StoreError>) -> bool {
        matches!(outcome, Err(StoreError::Damaged(d)) if d.family == Family::Data)
    }

    #[test]
    fn what_was_wrapped_comes_back() {
        for size in [0, 1, COPY_BELOW - 1, COPY_BELOW, 1 << 20] {
            let payload = vec![7; size];
            let record = wrap(Family::Data, b"k", &payload);
            assert_eq!(record.len(), HEAD + size);
            assert_eq!(unwrap(Family::Data, b"k", &record).unwrap(), payload);
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let record = wrap(Family::Data, b"key", b"some payload");
        for bit in 0..record.len() * 8 {
            let mut flipped = record.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outcome = unwrap(Family::Data, b"key", &flipped.into());
            assert!(damaged(outcome), "bit {bit} was not found");
        }
    }

    #[cfg(feature = "mutants")]
    #[test]
    fn without_the_checksum_a_flipped_bit_is_served() {
        let mut record = wrap(Family::Data, b"key", b"some payload").to_vec();
        record[HEAD] ^= 1;
        let read = || unwrap(Family::Data, b"key", &record.clone().into());
        assert!(damaged(read()));
        let served = crate::mutant::breaking(DiskMutant::ChecksumIgnored, read);
        assert_eq!(served.unwrap(), "rome payload");
    }

    #[test]
    fn a_shortened_record_is_found() {
        let record = wrap(Family::Data, b"key", b"some payload");
        for len in 0..record.len() {
            assert!(damaged(unwrap(Family::Data, b"key", &record.slice(..len))));
        }
    }

    #[test]
    fn a_record_in_the_wrong_place_is_found() {
        let record = wrap(Family::Data, b"key", b"x");
        assert!(damaged(unwrap(Family::Data, b"kez", &record)));
        let other = wrap(Family::Slot, b"key", b"x");
        assert!(damaged(unwrap(Family::Data, b"key", &other)));
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let record = wrap_as(FORMAT + 1, Family::Log, b"key", b"from tomorrow");
        let text = unwrap(Family::Log, b"key", &record)
            .unwrap_err()
            .to_string();
        assert!(text.starts_with("a record of family log has format 2, this version knows"));
    }
}
