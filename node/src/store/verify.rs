//! The full verification pass: every record of every family read and its checksum checked.
//!
//! Run after opening and before serving. Takes as long as reading all data. Finds damaged records; what
//! is missing altogether (a journal tail cut off) is noticed by the store sequence.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};

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
pub enum Unverified {
    /// Something does not hold.
    #[error(transparent)]
    Failed(#[from] Failed),
    /// The system refused to read on, or a later version wrote a record. That says nothing against the data.
    #[error(transparent)]
    Refused(StoreError),
    /// It was told to stop.
    #[error("stopped before everything was read")]
    Stopped,
}

/// What does not hold in a store.
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

/// Says whether a value that is whole may be served: an error as a read would give it.
pub type Inspect<'a> = dyn Fn(Family, &Bytes) -> Result<(), StoreError> + 'a;

/// Reads everything in `view`, and shows `inspect` every value; ends early when `stop` is set.
///
/// # Errors
/// [`Unverified::Failed`] when a record is damaged or the engine finds its files so; [`Unverified::Refused`]
/// at the first record of a newer format, and when the system refuses to read; [`Unverified::Stopped`].
pub fn verify(
    view: &dyn View,
    stop: &AtomicBool,
    inspect: &Inspect<'_>,
) -> Result<Counts, Unverified> {
    let mut counts = Counts::default();
    let mut failed = Failed {
        damages: Vec::new(),
        number: 0,
        unreadable: None,
    };
    for family in Family::ALL {
        let mut ended = None;
        let scanned = view.scan_each(family, &[], None, &mut |key, value| {
            if stop.load(Ordering::Relaxed) {
                ended = Some(Unverified::Stopped);
                return ControlFlow::Break(());
            }
            match value.and_then(|value| inspect(family, &value).map(|()| value)) {
                Ok(value) => {
                    counts.records[family as usize] += 1;
                    counts.bytes[family as usize] += (key.len() + value.len()) as u64;
                }
                Err(StoreError::Damaged(damaged)) => failed.note(key, damaged),
                Err(error) => {
                    ended = Some(Unverified::Refused(error));
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        if let Some(ended) = ended {
            return Err(ended);
        }
        match scanned {
            Ok(()) => {}
            Err(error) if error.condemns() => {
                failed.unreadable.get_or_insert(error);
            }
            Err(error) => return Err(Unverified::Refused(error)),
        }
    }
    if failed.number == 0 && failed.unreadable.is_none() {
        Ok(counts)
    } else {
        Err(failed.into())
    }
}

impl Failed {
    fn note(&mut self, key: &[u8], damaged: Damaged) {
        self.number += 1;
        if self.damages.len() < NAMED_MAX {
            self.damages.push(Damage {
                damaged,
                key: Bytes::copy_from_slice(key),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use hansa_consistency::port::Write;

    use super::*;
    use crate::store::{Engine, Options, Store, VisitEach, open};

    fn filled() -> std::sync::Arc<dyn Store> {
        let store = open(Engine::Memory, "".as_ref(), Options::default()).unwrap();
        let writes = Family::ALL.map(|family| Write {
            family,
            key: Bytes::from_static(b"key"),
            value: Some(Bytes::from_static(b"value")),
        });
        store.apply(&writes).unwrap();
        store
    }

    #[test]
    fn it_stops_at_the_next_record_when_told_to() {
        let stop = AtomicBool::new(false);
        let counting = std::cell::Cell::new(0);
        let stopped = verify(&*filled(), &stop, &|_, _| {
            counting.set(counting.get() + 1);
            stop.store(counting.get() == 2, Ordering::Relaxed);
            Ok(())
        });
        assert!(matches!(stopped, Err(Unverified::Stopped)));
        assert_eq!(counting.get(), 2);
    }

    /// A store that the system does not let it read.
    struct Refusing(i32);

    impl View for Refusing {
        fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
            Err(StoreError::io("testing")(io::Error::from_raw_os_error(
                self.0,
            )))
        }

        fn scan_each(
            &self,
            family: Family,
            from: &[u8],
            _: Option<&[u8]>,
            _: &mut VisitEach<'_>,
        ) -> Result<(), StoreError> {
            self.get(family, from).map(drop)
        }
    }

    #[test]
    fn a_refusal_of_the_system_is_no_damage_and_a_missing_file_or_a_failing_device_is() {
        let verified = |number| {
            let stop = AtomicBool::new(false);
            verify(&Refusing(number), &stop, &|_, _| Ok(()))
        };
        for may_be_lifted in [13, 24] {
            let refused = verified(may_be_lifted);
            assert!(matches!(refused, Err(Unverified::Refused(_))));
        }
        for lost in [2, 5] {
            assert!(matches!(verified(lost), Err(Unverified::Failed(_))));
        }
    }
}
