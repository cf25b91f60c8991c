//! The full verification pass: every record of every family read and its checksum checked.
//!
//! Run after opening and before serving. Takes as long as reading all data. Finds damaged records; what
//! is missing altogether (a journal tail cut off) is noticed by the store sequence.

use std::fmt;
use std::ops::ControlFlow;

use bytes::Bytes;
use hansa_consistency::port::{Damaged, Family};

use super::{StoreError, View};

/// Damaged records named, at most.
const NAMED_MAX: usize = 16;

/// What a whole store holds: a number per family, in the order of [`Family::ALL`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Records.
    pub records: [u64; Family::ALL.len()],
    /// Bytes of keys and values, without what the store adds.
    pub bytes: [u64; Family::ALL.len()],
}

/// A damaged record. Its key is there to refill it by, and not for any log.
#[derive(Clone, PartialEq, Eq)]
pub struct Damage {
    /// What does not hold, and in which family.
    pub damaged: Damaged,
    /// Which record.
    pub key: Bytes,
}

impl fmt::Debug for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (key of {} bytes)", self.damaged, self.key.len())
    }
}

/// Why a store did not pass.
#[derive(Debug, thiserror::Error)]
#[error(
    "{number} damaged records{}",
    unreadable.as_ref().map_or_else(String::new, |error| format!(", and {error}"))
)]
pub struct Failed {
    /// The first few, by family and key.
    pub damages: Vec<Damage>,
    /// How many damaged records were met in all.
    pub number: u64,
    /// Why some family could not be read to its end, when that is so: then the number is a lower bound.
    pub unreadable: Option<StoreError>,
}

impl Failed {
    /// Whether everything wrong is a damaged record of family [`Family::Data`]: that is refilled from peers
    /// and costs no vote.
    pub fn only_data(&self) -> bool {
        let data = |damage: &Damage| damage.damaged.family == Family::Data;
        self.unreadable.is_none()
            && self.damages.len() as u64 == self.number
            && self.damages.iter().all(data)
    }
}

/// Reads everything in `view`.
///
/// # Errors
/// [`Failed`] when a record is damaged or of a newer format, or the engine can not read on.
pub fn verify(view: &dyn View) -> Result<Counts, Failed> {
    let mut counts = Counts::default();
    let mut failed = Failed {
        damages: Vec::new(),
        number: 0,
        unreadable: None,
    };
    for family in Family::ALL {
        let scanned = view.scan_each(family, &[], None, &mut |key, value| {
            match value {
                Ok(value) => {
                    counts.records[family as usize] += 1;
                    counts.bytes[family as usize] += (key.len() + value.len()) as u64;
                }
                Err(error) => failed.note(family, key, error),
            }
            ControlFlow::Continue(())
        });
        if let Err(error) = scanned {
            failed.unreadable.get_or_insert(error);
        }
    }
    if failed.number == 0 && failed.unreadable.is_none() {
        Ok(counts)
    } else {
        Err(failed)
    }
}

impl Failed {
    fn note(&mut self, family: Family, key: &[u8], error: StoreError) {
        self.number += 1;
        if self.damages.len() == NAMED_MAX {
            return;
        }
        let damaged = match error {
            StoreError::Damaged(damaged) => damaged,
            error => Damaged {
                family,
                what: error.to_string(),
            },
        };
        self.damages.push(Damage {
            damaged,
            key: Bytes::copy_from_slice(key),
        });
    }
}
