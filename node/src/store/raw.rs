//! What an engine adapter does: move raw bytes. Checks, checksums and poisoning stand above it, in `checked`.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};

use super::{Engine, StoreError};

/// Takes each pair of a raw scan.
pub(super) type Visit<'a> = dyn FnMut(&[u8], Bytes) -> ControlFlow<()> + 'a;

/// Raw reading. Keys are within bounds; `from` may be empty, `from < to` holds.
pub(super) trait RawView: Send + Sync {
    /// The bytes under `key`.
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// The pairs of one moment, in order. `visit` may call the store.
    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError>;
}

/// A raw engine.
pub(super) trait RawStore: RawView + 'static {
    /// The store as it is now.
    fn snapshot(&self) -> Result<Box<dyn RawView>, StoreError>;

    /// Applies a batch as a whole. Keys are within bounds and distinct inside a family.
    fn apply(&self, batch: Vec<Write>) -> Result<(), StoreError>;

    /// Makes durable what was applied before.
    fn sync(&self) -> Result<(), StoreError>;

    /// Compacts.
    fn maintain(&self) -> Result<(), StoreError>;

    /// Bytes of caches and buffers, where known.
    fn memory_bytes(&self) -> Option<u64>;
}

/// Runs a call into an engine that may panic where it should fail, and turns the panic into an error.
///
/// Unwind safety: after a panic in a write the store is poisoned, and a panic in a read leaves no
/// state of ours half-changed. (With `panic = "abort"` this could not work; the workspace unwinds.)
pub(super) fn guarded<T>(
    engine: Engine,
    call: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("no message");
        Err(StoreError::Broken {
            engine,
            what: format!("it panicked: {text}"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_that_names_engine_and_text() {
        let formatted = guarded::<()>(Engine::Sled, || panic!("page {} is gone", 7));
        let text = formatted.unwrap_err().to_string();
        assert_eq!(text, "engine sled failed: it panicked: page 7 is gone");
        let plain = guarded::<()>(Engine::Fjall, || panic!("lock is poisoned"));
        assert!(plain.unwrap_err().to_string().ends_with("lock is poisoned"));
        assert_eq!(guarded(Engine::Sled, || Ok(1)).unwrap(), 1);
    }
}
