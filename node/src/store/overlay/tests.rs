use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::store::{Engine, Options, Store, VisitEach, open};

fn memory() -> Arc<dyn Store> {
    open(Engine::Memory, "".as_ref(), Options::default()).unwrap()
}

fn write(key: &str, value: Option<&str>) -> Write {
    Write {
        family: Family::Data,
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.map(|v| Bytes::copy_from_slice(v.as_bytes())),
    }
}

fn pairs(overlay: &Overlay<'_>, from: &str, to: Option<&str>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    overlay
        .scan(
            Family::Data,
            from.as_bytes(),
            to.map(str::as_bytes),
            &mut |key, value| {
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
                pairs.push((text(key), text(&value)));
                ControlFlow::Continue(())
            },
        )
        .unwrap();
    pairs
}

fn get(overlay: &Overlay<'_>, key: &str) -> Option<Bytes> {
    overlay.get(Family::Data, key.as_bytes()).unwrap()
}

#[test]
fn a_pending_write_hides_what_is_stored_until_its_group_is_retired() {
    let store = memory();
    store
        .apply(&[write("a", Some("old")), write("b", Some("old"))])
        .unwrap();
    let mut pending = Pending::default();
    pending.push(1, &[write("a", Some("one")), write("b", None)]);
    pending.push(2, &[write("a", Some("two"))]);
    let overlay = Overlay::new(&*store, &pending);
    assert_eq!(get(&overlay, "a").unwrap(), "two");
    assert_eq!(get(&overlay, "b"), None);

    pending.retire(1);
    assert!(pending.holds(Family::Data, b"a") && !pending.holds(Family::Data, b"b"));
    let overlay = Overlay::new(&*store, &pending);
    assert_eq!(get(&overlay, "a").unwrap(), "two");
    assert_eq!(get(&overlay, "b").unwrap(), "old");

    pending.retire(2);
    let overlay = Overlay::new(&*store, &pending);
    assert_eq!(get(&overlay, "a").unwrap(), "old");
    assert!(pending.groups.is_empty());
    assert!(pending.rows.iter().all(BTreeMap::is_empty));
}

#[test]
fn a_read_tells_the_newest_group_it_rests_on() {
    let store = memory();
    store.apply(&[write("a", Some("x"))]).unwrap();
    let mut pending = Pending::default();
    pending.push(7, &[write("b", Some("y")), write("d", None)]);
    pending.push(8, &[write("c", Some("z"))]);
    let overlay = Overlay::new(&*store, &pending);

    get(&overlay, "a");
    pairs(&overlay, "a", Some("b"));
    assert_eq!(overlay.touched_pending(), None);
    get(&overlay, "b");
    assert_eq!(overlay.touched_pending(), Some(7));
    get(&overlay, "c");
    get(&overlay, "b");
    assert_eq!(overlay.touched_pending(), Some(8));

    let overlay = Overlay::new(&*store, &pending);
    assert_eq!(overlay.touched_pending(), None);
    get(&overlay, "d");
    assert_eq!(overlay.touched_pending(), Some(7), "a delete counts");
    let overlay = Overlay::new(&*store, &pending);
    pairs(&overlay, "d", None);
    assert_eq!(overlay.touched_pending(), Some(7), "also in a scan");
    let overlay = Overlay::new(&*store, &pending);
    pairs(&overlay, "c", Some("d"));
    assert_eq!(overlay.touched_pending(), Some(8));
}

#[test]
fn a_scan_ends_where_the_visitor_breaks() {
    let store = memory();
    store
        .apply(&[write("b", Some("s")), write("d", Some("s"))])
        .unwrap();
    let mut pending = Pending::default();
    pending.push(
        1,
        &[
            write("a", Some("p")),
            write("c", Some("p")),
            write("e", Some("p")),
        ],
    );
    let overlay = Overlay::new(&*store, &pending);
    for stop_after in 1..=5 {
        let mut seen = 0;
        overlay
            .scan(Family::Data, b"", None, &mut |_, _| {
                seen += 1;
                match seen == stop_after {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            })
            .unwrap();
        assert_eq!(seen, stop_after);
    }
}

/// Random groups, some applied and retired, against a plain map.
#[test]
fn the_overlay_reads_as_if_everything_were_stored() {
    let mut rng = StdRng::seed_from_u64(7);
    for _ in 0..60 {
        let (store, mut pending) = (memory(), Pending::default());
        let mut model = BTreeMap::new();
        let mut waiting = VecDeque::new();
        for group in 0..12 {
            let key = |rng: &mut StdRng| format!("{:02}", rng.random_range(0..20));
            let batch: Vec<Write> = (0..rng.random_range(0..6))
                .map(|n| {
                    let value = rng.random_bool(0.7).then(|| format!("{group}.{n}"));
                    write(&key(&mut rng), value.as_deref())
                })
                .collect();
            for write in &batch {
                match &write.value {
                    Some(value) => model.insert(write.key.clone(), value.clone()),
                    None => model.remove(&write.key),
                };
            }
            // In two parts, as the driver does.
            let (first, second) = batch.split_at(batch.len() / 2);
            pending.push(group, first);
            pending.push(group, second);
            waiting.push_back((group, batch));
            while waiting.len() > rng.random_range(0..4) {
                let (group, batch) = waiting.pop_front().unwrap();
                store.apply(&batch).unwrap();
                if rng.random_bool(0.8) {
                    pending.retire(group);
                }
            }
            let overlay = Overlay::new(&*store, &pending);
            let (from, to) = (key(&mut rng), key(&mut rng));
            let expected: Vec<(String, String)> = model
                .iter()
                .filter(|(k, _)| **k >= from.as_bytes() && **k < to.as_bytes())
                .map(|(k, v)| {
                    let text = |b: &Bytes| String::from_utf8(b.to_vec()).unwrap();
                    (text(k), text(v))
                })
                .collect();
            assert_eq!(pairs(&overlay, &from, Some(&to)), expected);
            assert_eq!(pairs(&overlay, "", None).len(), model.len());
            assert_eq!(get(&overlay, &from), model.get(from.as_bytes()).cloned());
        }
    }
}

/// A store that can not be read.
struct Unreadable;

impl Unreadable {
    fn error() -> StoreError {
        StoreError::io("testing")(std::io::Error::other("gone"))
    }
}

impl View for Unreadable {
    fn get(&self, _: Family, _: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Err(Unreadable::error())
    }

    fn scan_each(
        &self,
        _: Family,
        _: &[u8],
        _: Option<&[u8]>,
        visit: &mut VisitEach<'_>,
    ) -> Result<(), StoreError> {
        let damaged = Damaged {
            family: Family::Data,
            what: "rot".into(),
        };
        let _ = visit(b"b", Err(damaged.into()));
        Ok(())
    }
}

#[test]
fn failures_reach_the_core_as_damage_and_the_driver_as_they_are() {
    let mut pending = Pending::default();
    let overlay = Overlay::new(&Unreadable, &pending);
    let damaged = overlay.get(Family::Slot, b"a").unwrap_err();
    assert_eq!(damaged.family, Family::Slot);
    let failure = overlay.take_failure();
    assert!(matches!(failure, Some(StoreError::Io { .. })));
    assert!(overlay.take_failure().is_none());

    let scan = |overlay: &Overlay<'_>| {
        overlay.scan(Family::Data, b"", None, &mut |_, _| {
            ControlFlow::Continue(())
        })
    };
    assert_eq!(scan(&overlay).unwrap_err().what, "rot");
    assert!(overlay.take_failure().is_none(), "damage is no failure");

    pending.push(1, &[write("b", Some("new"))]);
    let overlay = Overlay::new(&Unreadable, &pending);
    scan(&overlay).expect("a pending write hides a damaged record");
}
