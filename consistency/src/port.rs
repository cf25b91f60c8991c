//! The core's view of storage: it reads through [`Reader`] and writes only by
//! leaving [`Write`]s among its effects.
//!
//! Keys and values are opaque bytes to the store. What they mean is decided in
//! `layout.rs` (keys) and `codec.rs` (values, each starting with its format
//! version); the store adds a checksum around every value and verifies it on
//! every read.

use std::ops::ControlFlow;

use bytes::Bytes;

/// A named part of the store. A batch is atomic over all of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Family {
    /// Clock bounds, store sequence, version vectors, epochs. Damage here costs the vote.
    Meta,
    /// One row per key, element or field: the eventual view. Damage here costs a refill.
    Data,
    /// One acceptor record per row that was ever used at level strong. Damage here costs the vote.
    Slot,
    /// The entries of every origin log this node holds. Damage here costs the vote.
    Log,
}

impl Family {
    /// All families, in the order in which engines create them.
    pub const ALL: [Family; 4] = [Family::Meta, Family::Data, Family::Slot, Family::Log];

    /// The stable lower-case name: used on disk, in metrics and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Family::Meta => "meta",
            Family::Data => "data",
            Family::Slot => "slot",
            Family::Log => "log",
        }
    }
}

/// One change of the store. The order of writes to one key inside a batch counts: the last one wins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Write {
    /// Where.
    pub family: Family,
    /// Under which key.
    pub key: Bytes,
    /// The new value, or `None` to delete.
    pub value: Option<Bytes>,
}

/// A stored value whose checksum or format does not hold.
///
/// Nothing was changed. Whoever reads decides what the damage costs, by family.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("damaged record in family {}: {what}", family.name())]
pub struct Damaged {
    /// The family that holds the damaged record.
    pub family: Family,
    /// What does not hold, without the key or the value in it.
    pub what: String,
}

/// The read-only view of storage the core is given at each step.
///
/// It must show every [`Write`] of every earlier step, durable or not: the
/// driver overlays the pending effects of the running group.
pub trait Reader {
    /// The value under `key`, or `None` when absent.
    ///
    /// # Errors
    /// [`Damaged`] when a value is there but fails its checksum.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged>;

    /// Visits the pairs with `from <= key < to` (no upper bound when `to` is `None`) in byte
    /// order of the keys, until `visit` breaks.
    ///
    /// # Errors
    /// [`Damaged`] at the first value that fails its checksum; pairs before it were visited.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
    ) -> Result<(), Damaged>;
}
