//! Bytes that change behind the store's back.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hansa_consistency::port::{Family, Write};
use hansa_node::store::verify::Unverified;
use hansa_node::store::{Engine, Store, StoreError, open};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::groups::noise;
use super::{OPTIONS, put, say, verify_all};

const RECORDS: u64 = 200;
const TRIALS: u64 = 24;

fn key(n: u64) -> String {
    format!("{n:04}")
}

fn write_records(store: &dyn Store) {
    for n in 0..RECORDS {
        let batch: Vec<Write> = Family::ALL
            .map(|family| put(family, key(n), noise(n, 300)))
            .into();
        store.apply(&batch).unwrap();
    }
    store.sync().unwrap();
}

/// Changes one byte of one value through the engine, so that all its own checks pass.
fn spoil(engine: Engine, db: &Path, at: &str, byte: usize) {
    match engine {
        Engine::Fjall => {
            let db = fjall::Database::builder(db).open().unwrap();
            let family = db
                .keyspace("data", fjall::KeyspaceCreateOptions::default)
                .unwrap();
            let mut value = family.get(at).unwrap().unwrap().to_vec();
            value[byte] ^= 0x10;
            family.insert(at, value).unwrap();
            db.persist(fjall::PersistMode::SyncAll).unwrap();
        }
        Engine::Sled => {
            let db = open_sled(db);
            let item = [&[Family::Data as u8], at.as_bytes()].concat();
            let mut value = db.get(&item).unwrap().unwrap().to_vec();
            value[byte + 1] ^= 0x10;
            db.insert(item, value).unwrap();
            db.flush().unwrap();
        }
        Engine::Memory => unreachable!("it keeps nothing"),
    }
}

/// Opens the engine itself. Its threads of the store just closed hold the file for a moment longer, so its
/// lock is waited for, as the adapter does.
fn open_sled(db: &Path) -> sled::Db {
    let config = sled::Config::new().path(db).segment_size(16 << 20);
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        match config.open() {
            Err(error) if error.to_string().contains("acquire lock") && Instant::now() < until => {
                std::thread::yield_now();
            }
            opened => return opened.unwrap(),
        }
    }
}

/// One byte of one record changes, in each of its parts: that record is reported, the others are served.
pub(crate) fn damaged_record(engine: Engine) {
    let dir = tempfile::tempdir().unwrap();
    write_records(&*open(engine, dir.path(), OPTIONS).unwrap());
    for (n, byte) in [(3, 0), (50, 1), (51, 8), (52, 9), (199, 308)] {
        spoil(engine, &dir.path().join("current/db"), &key(n), byte);
    }
    let store = open(engine, dir.path(), OPTIONS).unwrap();
    let snapshot = store.snapshot().unwrap();
    for n in 0..RECORDS {
        for found in [
            store.get(Family::Data, key(n).as_bytes()),
            snapshot.get(Family::Data, key(n).as_bytes()),
        ] {
            if [3, 50, 51, 52, 199].contains(&n) {
                let error = found.unwrap_err();
                assert!(
                    matches!(&error, StoreError::Damaged(d) if d.family == Family::Data),
                    "{error}"
                );
                assert!(!error.to_string().contains(&key(n)), "no keys in messages");
            } else {
                assert_eq!(found.unwrap().unwrap(), noise(n, 300));
            }
        }
    }
    let Err(Unverified::Failed(failed)) = verify_all(&*store) else {
        panic!("damage is found");
    };
    assert_eq!((failed.number, failed.damages.len()), (5, 5));
    assert_eq!(failed.to_string(), "5 damaged records");
    // A damaged record is mended by writing it again.
    store
        .apply(&[3, 50, 51, 52, 199].map(|n| put(Family::Data, key(n), "mended")))
        .unwrap();
    assert_eq!(verify_all(&*store).unwrap().records, [RECORDS; 4]);
}

fn files(dir: &Path, into: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            files(&path, into);
        } else if fs::metadata(&path).unwrap().len() > 0 {
            into.push(path);
        }
    }
}

/// Flips a bit or zeroes half a kilobyte somewhere where a file holds something.
fn damage(db: &Path, rng: &mut StdRng) {
    let mut all = Vec::new();
    files(db, &mut all);
    loop {
        let path = &all[rng.random_range(0..all.len())];
        let file = File::options().read(true).write(true).open(path).unwrap();
        // Files are allocated far ahead; the records are in the first part.
        let used = file.metadata().unwrap().len().min(300 << 10);
        let at = rng.random_range(0..used);
        let mut bytes = [0; 512];
        let len = file.read_at(&mut bytes, at).unwrap();
        if bytes[0] == 0 {
            continue;
        }
        if rng.random_bool(0.5) {
            bytes[0] ^= 1 << rng.random_range(0..8);
            file.write_all_at(&bytes[..1], at).unwrap();
        } else {
            file.write_all_at(&vec![0; len], at).unwrap();
        }
        return;
    }
}

/// Whatever happens to the files, the store never panics and never serves a wrong byte. It may report, refuse to
/// open, or miss records: the last is why there is a store sequence.
pub(crate) fn damaged_files(engine: Engine) {
    let mut rng = StdRng::seed_from_u64(3);
    let (mut refused, mut reported, mut missing, mut untouched) = (0, 0, 0, 0);
    for trial in 0..TRIALS {
        let dir = tempfile::tempdir().unwrap();
        let store = open(engine, dir.path(), OPTIONS).unwrap();
        write_records(&*store);
        if trial % 2 == 0 {
            store.maintain().unwrap();
        }
        drop(store);
        damage(&dir.path().join("current/db"), &mut rng);
        let Ok(store) = open(engine, dir.path(), OPTIONS) else {
            refused += 1;
            continue;
        };
        let (mut errors, mut absent) = (0, 0);
        for family in Family::ALL {
            for n in 0..RECORDS {
                match store.get(family, key(n).as_bytes()) {
                    Ok(Some(value)) => assert_eq!(value, noise(n, 300), "wrong bytes were served"),
                    Ok(None) => absent += 1,
                    Err(_) => errors += 1,
                }
            }
        }
        match (errors, absent) {
            (1.., _) => {
                reported += 1;
                verify_all(&*store).expect_err("verification finds what reads find");
            }
            (0, 1..) => missing += 1,
            _ => untouched += 1,
        }
    }
    say(&format!(
        "store {engine}: {TRIALS} damaged files: {refused} refused, {reported} reported, {missing} missing records, \
         {untouched} without effect, 0 wrong bytes"
    ));
    assert!(refused + reported > 0, "no damage was ever noticed");
}
