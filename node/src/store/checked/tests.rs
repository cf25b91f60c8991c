use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use hansa_consistency::port::Damaged;

use super::super::memory::MemoryStore;
use super::super::raw::Visit;
use super::*;
use crate::store::verify::{Unverified, verify};

/// A raw store whose calls can be made to fail, and which remembers how often the engine was asked.
#[derive(Default)]
struct Faulty {
    inner: MemoryStore,
    fail_apply: AtomicBool,
    fail_sync: AtomicBool,
    calls: Mutex<Vec<&'static str>>,
}

impl Faulty {
    fn call(&self, name: &'static str, fail: &AtomicBool) -> Result<(), StoreError> {
        self.calls.lock().unwrap().push(name);
        if fail.load(Ordering::Relaxed) {
            return Err(StoreError::io("testing")(std::io::Error::other("no")));
        }
        Ok(())
    }
}

impl RawView for Faulty {
    fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.inner.get(family, key)
    }

    fn scan(
        &self,
        family: Family,
        from: &[u8],
        to: Option<&[u8]>,
        visit: &mut Visit<'_>,
    ) -> Result<(), StoreError> {
        self.inner.scan(family, from, to, visit)
    }
}

impl RawStore for Faulty {
    fn snapshot(&self) -> Result<Box<dyn RawView>, StoreError> {
        RawStore::snapshot(&self.inner)
    }

    fn apply(&self, batch: Vec<Write>) -> Result<(), StoreError> {
        self.call("apply", &self.fail_apply)?;
        RawStore::apply(&self.inner, batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.call("sync", &self.fail_sync)
    }

    fn maintain(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn memory_bytes(&self) -> Option<u64> {
        None
    }
}

fn store() -> Checked<Faulty> {
    Checked::new(Faulty::default(), Engine::Memory, None, Options::default())
}

fn put(key: &'static [u8], value: &'static [u8]) -> Write {
    Write {
        family: Family::Data,
        key: Bytes::from_static(key),
        value: Some(Bytes::from_static(value)),
    }
}

#[test]
fn after_a_failed_sync_every_write_is_refused_and_reads_go_on() {
    let store = store();
    store.apply(&[put(b"a", b"1")]).unwrap();
    store.raw.fail_sync.store(true, Ordering::Relaxed);
    assert!(matches!(store.sync(), Err(StoreError::Io { .. })));

    // The disk is well again, and still nothing may pass: what the failed sync lost, no later one brings back.
    store.raw.fail_sync.store(false, Ordering::Relaxed);
    for _ in 0..2 {
        let cause = "a sync failed: testing: no";
        assert!(matches!(store.sync(), Err(StoreError::Poisoned { cause: c }) if c == cause));
        let refused = store.apply(&[put(b"b", b"2")]);
        assert!(matches!(refused, Err(StoreError::Poisoned { .. })));
        assert!(store.maintain().is_err());
    }
    assert_eq!(*store.raw.calls.lock().unwrap(), ["apply", "sync"]);
    assert!(store.stats().poisoned);
    assert_eq!(store.get(Family::Data, b"a").unwrap().unwrap(), "1");
    assert_eq!(store.get(Family::Data, b"b").unwrap(), None);
}

#[test]
fn a_failed_batch_poisons() {
    let store = store();
    store.raw.fail_apply.store(true, Ordering::Relaxed);
    assert!(matches!(
        store.apply(&[put(b"a", b"1")]),
        Err(StoreError::Io { .. })
    ));
    assert!(matches!(store.sync(), Err(StoreError::Poisoned { .. })));
}

#[test]
fn a_batch_out_of_bounds_is_refused_whole_and_harms_nothing() {
    let store = store();
    let long = Write {
        value: Some(vec![0; VALUE_BYTES_MAX + 1].into()),
        ..put(b"b", b"")
    };
    let refused = store.apply(&[put(b"a", b"1"), long]);
    assert!(matches!(refused, Err(StoreError::ValueTooLong { .. })));
    let refused = store.apply(&[put(b"a", b"1"), put(b"", b"2")]);
    assert!(matches!(
        refused,
        Err(StoreError::KeyLength { bytes: 0, .. })
    ));
    assert!(store.raw.calls.lock().unwrap().is_empty());
    store.apply(&[put(b"a", b"1")]).unwrap();
}

#[test]
fn a_damaged_record_is_reported_and_the_scan_goes_on() {
    let store = store();
    store
        .apply(&[put(b"a", b"1"), put(b"b", b"2"), put(b"c", b"3")])
        .unwrap();
    let mut record = store.raw.get(Family::Data, b"b").unwrap().unwrap().to_vec();
    *record.last_mut().unwrap() ^= 1;
    let rotten = Write {
        value: Some(record.into()),
        ..put(b"b", b"")
    };
    RawStore::apply(&store.raw, vec![rotten]).unwrap();

    let damaged = |error| matches!(error, StoreError::Damaged(Damaged { family, .. }) if family == Family::Data);
    assert!(damaged(store.get(Family::Data, b"b").unwrap_err()));
    let snapshot = store.snapshot().unwrap();
    assert!(damaged(snapshot.get(Family::Data, b"b").unwrap_err()));

    let mut seen = Vec::new();
    let first = store.scan(Family::Data, b"", None, &mut |key, _| {
        seen.push(key.to_vec());
        ControlFlow::Continue(())
    });
    assert!(damaged(first.unwrap_err()));
    assert_eq!(seen, [b"a"]);

    let stop = AtomicBool::new(false);
    let Err(Unverified::Failed(failed)) = verify(&store, &stop, &|_, _| Ok(())) else {
        panic!("damage is found");
    };
    assert_eq!((failed.number, failed.damages.len()), (1, 1));
    assert_eq!(failed.damages[0].key, "b");
    assert_eq!(failed.damages[0].damaged.family, Family::Data);
    let mut seen = Vec::new();
    store
        .scan_each(Family::Data, b"", None, &mut |key, value| {
            seen.push((key[0], value.is_ok()));
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(seen, [(b'a', true), (b'b', false), (b'c', true)]);
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::*;

    fn without(mutant: DiskMutant) -> Checked<Faulty> {
        Checked {
            rules: DiskRules::without(mutant),
            ..store()
        }
    }

    #[test]
    fn a_failed_sync_taken_for_success_lets_writes_pass() {
        let store = without(DiskMutant::SyncFailureIgnored);
        store.raw.fail_sync.store(true, Ordering::Relaxed);
        store.sync().unwrap();
        store.apply(&[put(b"a", b"1")]).unwrap();
        assert!(!store.stats().poisoned);
    }

    #[test]
    fn a_torn_batch_reaches_the_engine_in_pieces() {
        let store = without(DiskMutant::BatchTorn);
        store.apply(&[put(b"a", b"1"), put(b"b", b"2")]).unwrap();
        assert_eq!(*store.raw.calls.lock().unwrap(), ["apply", "apply"]);
    }
}
