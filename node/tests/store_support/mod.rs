//! What the conformance suite is made of.

pub(crate) mod cases;
pub(crate) mod crash;
pub(crate) mod disk;
pub(crate) mod full;
pub(crate) mod groups;
pub(crate) mod rot;

use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};
use hansa_node::store::verify::{Counts, Unverified, verify};
use hansa_node::store::{Options, View};

/// Small caches, and a reserve that a small test file system can spare.
pub(crate) const OPTIONS: Options = Options {
    cache_bytes: 4 << 20,
    reserve_bytes: 1 << 20,
};

/// A write of `value` under `key`.
pub(crate) fn put(family: Family, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Write {
    Write {
        family,
        key: Bytes::copy_from_slice(key.as_ref()),
        value: Some(Bytes::copy_from_slice(value.as_ref())),
    }
}

/// A delete of `key`.
pub(crate) fn delete(family: Family, key: impl AsRef<[u8]>) -> Write {
    Write {
        family,
        key: Bytes::copy_from_slice(key.as_ref()),
        value: None,
    }
}

/// The pairs of a range.
pub(crate) fn pairs(
    view: &(impl View + ?Sized),
    family: Family,
    from: &[u8],
    to: Option<&[u8]>,
) -> Vec<(Vec<u8>, Bytes)> {
    let mut pairs = Vec::new();
    view.scan(family, from, to, &mut |key, value| {
        pairs.push((key.to_vec(), value));
        ControlFlow::Continue(())
    })
    .expect("a healthy store is scanned");
    pairs
}

/// Verifies a store to its end, whatever its values mean.
pub(crate) fn verify_all(view: &dyn View) -> Result<Counts, Unverified> {
    verify(view, &AtomicBool::new(false), &|_, _| Ok(()))
}

/// Prints one line that the test runner does not swallow: what was measured, or what was not run.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
