//! Disks that run full.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use hansa_consistency::port::{Family, Write};
use hansa_node::store::{Engine, Options, Store, StoreError, open};

use super::disk::Small;
use super::groups::noise;
use super::{OPTIONS, put, say};

/// More batches than fit on any of the file systems here.
const BATCHES_MAX: u64 = 2000;

/// Batch `n`: 128 KiB in each family.
fn batch(n: u64) -> Vec<Write> {
    let value = noise(n, 128 << 10);
    Family::ALL
        .into_iter()
        .map(|family| put(family, format!("{n:05}"), &value))
        .collect()
}

/// Writes batches until one is refused. Returns its number and why it was.
fn fill(store: &dyn Store, first: u64) -> (u64, StoreError) {
    for n in first..BATCHES_MAX {
        if let Err(error) = store.apply(&batch(n)).and_then(|()| store.sync()) {
            return (n, error);
        }
    }
    panic!("the disk did not run full");
}

/// Whether all of batch `n` is there. Part of it never is.
fn look(store: &dyn Store, n: u64) -> Result<bool, StoreError> {
    let key = format!("{n:05}");
    let mut found = Vec::new();
    for family in Family::ALL {
        found.push(store.get(family, key.as_bytes())?);
    }
    let value = noise(n, 128 << 10);
    let whole = found
        .iter()
        .all(|found| found.as_deref() == Some(&value[..]));
    assert!(
        whole || found.iter().all(Option::is_none),
        "batch {n} is torn"
    );
    Ok(whole)
}

fn there(store: &dyn Store, n: u64) -> bool {
    look(store, n).unwrap()
}

/// Checks that batch `n` is there, or can not be read for want of space: only [`Engine::Sled`] may say that.
fn check_on_full_disk(store: &dyn Store, n: u64) {
    match look(store, n) {
        Ok(there) => assert!(there, "batch {n} is gone"),
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull => {
            assert_eq!(store.engine(), Engine::Sled);
        }
        Err(error) => panic!("batch {n}: {error}"),
    }
}

fn ballast(path: &Path, mebibytes: usize) {
    fs::write(path, vec![1; mebibytes << 20]).unwrap();
}

/// The usual case: the reserve is reached before the engine runs into the wall. Nothing breaks, and writes are
/// taken again once there is space.
pub(crate) fn with_reserve(engine: Engine) {
    let disk = Small::new(256);
    let options = Options {
        reserve_bytes: 64 << 20,
        ..OPTIONS
    };
    let extra = disk.path().join("ballast");
    ballast(&extra, 64);
    let dir = disk.path().join("store");
    let store = open(engine, &dir, options).unwrap();
    let (refused, error) = fill(&*store, 0);
    assert!(matches!(error, StoreError::Full { .. }), "{error}");
    assert!(refused > 10, "only {refused} batches fit");
    for n in 0..refused {
        assert!(there(&*store, n));
    }
    assert!(!there(&*store, refused));
    store.sync().expect("a full disk does not poison");

    fs::remove_file(extra).unwrap();
    store.apply(&batch(refused)).expect("there is space again");
    store.sync().unwrap();
    drop(store);
    let store = open(engine, &dir, options).unwrap();
    for n in 0..=refused {
        assert!(there(&*store, n));
    }
}

/// Without a reserve the engine itself runs out of space. Then the store may be poisoned and an engine may even
/// fail to read (`sled` writes when it reads), but nothing read is wrong, and what was synced is there afterwards.
pub(crate) fn without_reserve(engine: Engine) {
    let disk = Small::new(160);
    let options = Options {
        reserve_bytes: 0,
        ..OPTIONS
    };
    let extra = disk.path().join("ballast");
    ballast(&extra, 64);
    let dir = disk.path().join("store");
    let store = open(engine, &dir, options).unwrap();
    let (refused, error) = fill(&*store, 0);
    say(&format!(
        "store {engine}: out of space in batch {refused}: {error}"
    ));
    for n in 0..refused {
        check_on_full_disk(&*store, n);
    }
    drop(store);
    fs::remove_file(extra).unwrap();
    let store = open(engine, &dir, options).unwrap();
    for n in 0..refused {
        assert!(there(&*store, n), "batch {n} of {refused} was synced");
    }
    there(&*store, refused);
    store.apply(&batch(refused)).unwrap();
    store.sync().unwrap();
}
