//! Cases that need no accident.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use hansa_consistency::port::{Family, Write};
use hansa_node::store::{Engine, KEY_BYTES_MAX, Store, StoreError, VALUE_BYTES_MAX, View, open};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;

use super::groups::noise;
use super::{OPTIONS, delete, pairs, put, verify_all};

/// An empty store and the directory it lies in.
pub(crate) struct Bench {
    pub(crate) store: Arc<dyn Store>,
    _dir: TempDir,
}

impl Bench {
    pub(crate) fn new(engine: Engine) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        Bench {
            store: open(engine, dir.path(), OPTIONS).unwrap(),
            _dir: dir,
        }
    }
}

fn keys(view: &dyn View, from: &[u8], to: Option<&[u8]>) -> Vec<Vec<u8>> {
    let pairs = pairs(view, Family::Data, from, to);
    pairs.into_iter().map(|(key, _)| key).collect()
}

pub(crate) fn order(bench: &Bench) {
    let store = &*bench.store;
    let mut sorted: Vec<Vec<u8>> = (0..600u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[..1 + n as usize % 4].to_vec())
        .chain([vec![0], vec![0, 0], vec![0xff; 40], vec![0xff]])
        .collect();
    let batch: Vec<Write> = sorted
        .iter()
        .map(|key| put(Family::Data, key, key))
        .collect();
    // Neighbours in the list of families, to notice a scan that leaves its own.
    store
        .apply(&[
            put(Family::Meta, [0xff; 50], "m"),
            put(Family::Slot, [0], "s"),
        ])
        .unwrap();
    store.apply(&batch).unwrap();
    sorted.sort();
    sorted.dedup();
    assert_eq!(keys(store, &[], None), sorted);

    let bounds: [&[u8]; 7] = [
        &[],
        &[0],
        &[0, 0],
        &[0x40],
        &[0x80, 0],
        &[0xff],
        &[0xff; 41],
    ];
    for from in bounds {
        for to in bounds.into_iter().map(Some).chain([None]) {
            let inside = |key: &&Vec<u8>| key[..] >= *from && to.is_none_or(|to| key[..] < *to);
            let expected: Vec<Vec<u8>> = sorted.iter().filter(inside).cloned().collect();
            assert_eq!(keys(store, from, to), expected, "{from:?}..{to:?}");
        }
    }
    let mut visited = 0;
    store
        .scan(Family::Data, &[], None, &mut |_, _| {
            visited += 1;
            if visited == 3 {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })
        .unwrap();
    assert_eq!(visited, 3);
}

pub(crate) fn last_write_counts(bench: &Bench) {
    let store = &*bench.store;
    store
        .apply(&[
            put(Family::Data, "a", "1"),
            delete(Family::Data, "a"),
            put(Family::Data, "a", "2"),
            put(Family::Data, "b", "1"),
            delete(Family::Data, "b"),
            put(Family::Log, "b", "other family"),
        ])
        .unwrap();
    assert_eq!(store.get(Family::Data, b"a").unwrap().unwrap(), "2");
    assert_eq!(store.get(Family::Data, b"b").unwrap(), None);
    assert_eq!(
        store.get(Family::Log, b"b").unwrap().unwrap(),
        "other family"
    );
    assert_eq!(store.get(Family::Meta, b"b").unwrap(), None);
    store
        .apply(&[
            delete(Family::Data, "a"),
            delete(Family::Data, "never there"),
        ])
        .unwrap();
    assert_eq!(store.get(Family::Data, b"a").unwrap(), None);
}

/// While batches go in, every snapshot must show one number everywhere.
pub(crate) fn atomic_for_readers(bench: &Bench) {
    let store = &*bench.store;
    let write = |n: u32| -> Vec<Write> {
        let number = n.to_be_bytes();
        let long = number.repeat(5000);
        Family::ALL
            .into_iter()
            .flat_map(|family| [put(family, "a", number), put(family, "z", &long)])
            .collect()
    };
    store.apply(&write(0)).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..150 {
                store.apply(&write(n)).unwrap();
            }
            done.store(true, Ordering::Release);
        });
        let mut rounds = 0;
        while !done.load(Ordering::Acquire) || rounds == 0 {
            rounds += 1;
            let snapshot = store.snapshot().unwrap();
            let first = snapshot.get(Family::Log, b"z").unwrap().unwrap().slice(..4);
            for family in Family::ALL {
                assert_eq!(snapshot.get(family, b"a").unwrap().unwrap(), first);
                for (_, value) in pairs(&*snapshot, family, &[], None) {
                    assert!(value.chunks(4).all(|number| *number == first[..]));
                }
            }
            // Without a snapshot, a single value is of one moment.
            let now = store.get(Family::Data, b"z").unwrap().unwrap();
            assert!(now.chunks(4).all(|number| *number == now[..4]));
        }
    });
}

pub(crate) fn snapshot_isolation(bench: &Bench) {
    let store = &*bench.store;
    let key = |n: u32| format!("{n:04}");
    let large = noise(1, 100_000);
    let batch: Vec<Write> = (0..1000)
        .map(|n| put(Family::Data, key(n), key(n)))
        .collect();
    store.apply(&batch).unwrap();
    store.apply(&[put(Family::Data, "0500", &large)]).unwrap();
    let before = pairs(store, Family::Data, &[], None);
    let snapshot = store.snapshot().unwrap();

    let changes: Vec<Write> = (0..1000)
        .map(|n| match n % 4 {
            0 => delete(Family::Data, key(n)),
            1 => put(Family::Data, key(n), "changed"),
            2 => put(Family::Data, format!("{n:04}+"), "new"),
            _ => put(Family::Log, key(n), "elsewhere"),
        })
        .collect();
    store.apply(&changes).unwrap();
    let later = store.snapshot().unwrap();
    store
        .apply(&[put(Family::Data, "0001", "changed again")])
        .unwrap();
    store.sync().unwrap();

    assert_eq!(pairs(&*snapshot, Family::Data, &[], None), before);
    let part = pairs(&*snapshot, Family::Data, b"0400", Some(b"0600"));
    assert_eq!(part, before[400..600]);
    assert_eq!(snapshot.get(Family::Data, b"0500").unwrap().unwrap(), large);
    assert_eq!(snapshot.get(Family::Data, b"0002+").unwrap(), None);
    assert_eq!(snapshot.get(Family::Log, b"0003").unwrap(), None);
    assert_eq!(
        later.get(Family::Data, b"0001").unwrap().unwrap(),
        "changed"
    );
    drop(snapshot);
    assert_eq!(later.get(Family::Data, b"0500").unwrap(), None);
    assert_eq!(
        store.get(Family::Data, b"0001").unwrap().unwrap(),
        "changed again"
    );
    assert_eq!(pairs(store, Family::Data, &[], None).len(), 1000);
}

pub(crate) fn visitor_may_write(bench: &Bench) {
    let store = &*bench.store;
    let batch: Vec<Write> = (0..700)
        .map(|n| put(Family::Log, format!("{n:03}"), "x"))
        .collect();
    store.apply(&batch).unwrap();
    let mut visited = 0;
    store
        .scan(Family::Log, &[], None, &mut |key, _| {
            visited += 1;
            let behind = [key, b"+"].concat();
            store
                .apply(&[delete(Family::Log, key), put(Family::Log, behind, "y")])
                .unwrap();
            ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(visited, 700, "a scan is of one moment");
    let after = pairs(store, Family::Log, &[], None);
    assert!(
        after.len() == 700
            && after
                .iter()
                .all(|(key, value)| key.ends_with(b"+") && value == "y")
    );
}

pub(crate) fn sizes(bench: &Bench) {
    let store = &*bench.store;
    let sizes = [0, 1, 7167, 7168, 7169, 14_336, 100_000, 1 << 20, 3 << 20];
    for (n, size) in sizes.into_iter().enumerate() {
        // One key grows and shrinks, so that leftovers of a longer value would show.
        for key in ["same".to_owned(), format!("key {n}")] {
            store
                .apply(&[put(Family::Data, &key, noise(n as u64, size))])
                .unwrap();
            let value = store.get(Family::Data, key.as_bytes()).unwrap().unwrap();
            assert!(value == noise(n as u64, size), "{size} bytes");
        }
    }
    store.apply(&[put(Family::Data, "same", "short")]).unwrap();
    assert_eq!(pairs(store, Family::Data, b"same", None).len(), 1);
    assert_eq!(store.get(Family::Data, b"same").unwrap().unwrap(), "short");

    // Long keys that differ only at their end, more than a node holds.
    let long = |n: usize| [&vec![b'k'; KEY_BYTES_MAX - 4], format!("{n:04}").as_bytes()].concat();
    for n in 0..400 {
        store
            .apply(&[put(Family::Slot, long(n), format!("{n}"))])
            .unwrap();
    }
    store.sync().unwrap();
    let found = pairs(store, Family::Slot, &[], None);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(n, (key, value))| *key == long(n) && value == &n.to_string())
    );
    assert_eq!(found.len(), 400);

    let too_long = store.apply(&[put(Family::Data, vec![1; KEY_BYTES_MAX + 1], "")]);
    assert!(
        matches!(too_long, Err(StoreError::KeyLength { bytes, .. }) if bytes == KEY_BYTES_MAX + 1)
    );
    let empty = store.apply(&[put(Family::Data, "", "")]);
    assert!(matches!(empty, Err(StoreError::KeyLength { bytes: 0, .. })));
    let too_long = store.apply(&[put(Family::Data, "v", vec![0; VALUE_BYTES_MAX + 1])]);
    assert!(matches!(too_long, Err(StoreError::ValueTooLong { .. })));
    assert_eq!(store.get(Family::Data, b"").unwrap(), None);
    assert_eq!(
        store
            .get(Family::Data, &vec![1; KEY_BYTES_MAX + 1])
            .unwrap(),
        None
    );
    assert_eq!(store.get(Family::Data, b"v").unwrap(), None);
    store.sync().expect("a refused write harms nothing");
}

pub(crate) fn random_batches(bench: &Bench) {
    let store = &*bench.store;
    let mut rng = StdRng::seed_from_u64(11);
    let mut model: BTreeMap<(Family, Vec<u8>), Vec<u8>> = BTreeMap::new();
    for round in 0..150 {
        let batch: Vec<Write> = (0..rng.random_range(1..20))
            .map(|_| {
                let family = Family::ALL[rng.random_range(0..4)];
                let key = vec![rng.random_range(0..4u8); rng.random_range(1..6)];
                if rng.random_bool(0.3) {
                    model.remove(&(family, key.clone()));
                    delete(family, key)
                } else {
                    let value = noise(round, 1 << rng.random_range(0..15));
                    model.insert((family, key.clone()), value.clone());
                    put(family, key, value)
                }
            })
            .collect();
        store.apply(&batch).unwrap();
        if round % 10 == 0 {
            store.sync().unwrap();
        }
        if round % 50 == 49 {
            store.maintain().unwrap();
        }
    }
    for family in Family::ALL {
        let expected: Vec<(Vec<u8>, Bytes)> = model
            .iter()
            .filter(|((of, _), _)| *of == family)
            .map(|((_, key), value)| (key.clone(), value.clone().into()))
            .collect();
        assert!(pairs(store, family, &[], None) == expected, "{family:?}");
    }
    let counts = verify_all(store).unwrap();
    assert_eq!(counts.records.iter().sum::<u64>(), model.len() as u64);
}

pub(crate) fn reopen(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..6u32 {
        let store = open(engine, dir.path(), OPTIONS).unwrap();
        for family in Family::ALL {
            let found = pairs(&*store, family, &[], None);
            assert_eq!(found.len() as u32, n * 20, "{family:?}");
        }
        let batch: Vec<Write> = (0..20)
            .flat_map(|i| Family::ALL.map(|family| put(family, format!("{n}/{i}"), noise(1, 9000))))
            .collect();
        store.apply(&batch).unwrap();
        // Also without a sync: a clean end keeps what was applied.
        if n % 2 == 0 {
            store.sync().unwrap();
        }
        let again = open(engine, dir.path(), OPTIONS);
        assert!(matches!(again, Err(StoreError::InUse { .. })));
        // A snapshot keeps the directory: nobody else may open it while it is being read.
        let snapshot = store.snapshot().unwrap();
        drop(store);
        assert!(matches!(
            open(engine, dir.path(), OPTIONS),
            Err(StoreError::InUse { .. })
        ));
        drop(snapshot);
    }
    let other = if engine == Engine::Sled {
        Engine::Fjall
    } else {
        Engine::Sled
    };
    let refused = open(other, dir.path(), OPTIONS);
    assert!(
        matches!(refused, Err(StoreError::WrongEngine { found, .. }) if found == engine.name())
    );
}

pub(crate) fn checkpoint(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let store = open(engine, &from, OPTIONS).unwrap();
    let batch: Vec<Write> = (0..300)
        .flat_map(|n| Family::ALL.map(|family| put(family, format!("{n}"), noise(n, 5000))))
        .collect();
    store.apply(&batch).unwrap();
    store.checkpoint(&to).unwrap();
    store.apply(&[put(Family::Data, "0", "later")]).unwrap();

    let copy = open(engine, &to, OPTIONS).unwrap();
    for family in Family::ALL {
        let found = pairs(&*copy, family, &[], None);
        assert_eq!(found.len(), 300);
        for (key, value) in found {
            let n = String::from_utf8(key).unwrap().parse().unwrap();
            assert_eq!(value, noise(n, 5000));
        }
    }
    drop(copy);
    let refused = store.checkpoint(&to);
    assert!(
        matches!(refused, Err(StoreError::NotAStore { .. })),
        "never into a directory in use"
    );
}

pub(crate) fn memory_has_no_checkpoint() {
    let bench = Bench::new(Engine::Memory);
    let refused = bench.store.checkpoint("anywhere".as_ref());
    let text = refused.unwrap_err().to_string();
    assert_eq!(text, "engine memory can not write a checkpoint");
}

/// What is on disk after everything was overwritten often is bounded by what is live: three times that, and
/// the engine's fixed files.
pub(crate) fn space_after_overwrite(engine: Engine) {
    const FIXED: u64 = 96 << 20;
    let dir = tempfile::tempdir().unwrap();
    let store = open(engine, dir.path(), OPTIONS).unwrap();
    let mut live = 0;
    for round in 0..12u64 {
        live = 0;
        for n in 0..48 {
            let value = noise(round * 100 + n, 256 << 10);
            live += value.len() as u64;
            store
                .apply(&[put(Family::Data, format!("{n}"), value)])
                .unwrap();
        }
        store.sync().unwrap();
    }
    store.maintain().unwrap();
    // What compaction replaced goes at the latest when the store is opened again.
    drop(store);
    let store = open(engine, dir.path(), OPTIONS).unwrap();
    let disk = store.stats().disk_bytes;
    assert!(
        disk > live,
        "{disk} bytes on disk for {live} live ones is too good to be true"
    );
    assert!(
        disk < 3 * live + FIXED,
        "{disk} bytes on disk for {live} live ones"
    );
    assert_eq!(verify_all(&*store).unwrap().records.iter().sum::<u64>(), 48);
}
