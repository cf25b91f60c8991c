//! What was acknowledged in a smoke run, and whether the final state holds it.
//!
//! The keys are the smoke run's own. Written values are unique, and every increment is named by the
//! bit it sets: eventual and session ones by every other bit below 2^40, strong ones count in units
//! of 2^40. So a total says which increments it contains, and one counted twice shows as a bit that
//! nobody added.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// One strong increment.
pub(crate) const STRONG_UNIT: i64 = 1 << 40;

/// Weak increments that one counter takes.
const WEAK_PER_COUNTER: u32 = 20;

/// How sure it is that a write took effect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// Acknowledged.
    Acked,
    /// Nobody knows.
    Maybe,
}

#[derive(Clone, Default, Debug)]
struct Counter {
    acked: i64,
    maybe: i64,
    acked_strong: i64,
    maybe_strong: i64,
}

#[derive(Clone, Default, Debug)]
struct Set {
    acked: BTreeSet<String>,
    maybe: BTreeSet<String>,
    /// Elements that somebody tried to remove: they may be there or not.
    removing: BTreeSet<String>,
}

#[derive(Default, Debug)]
struct Facts {
    acknowledged: u64,
    /// The greatest acknowledged version of each register.
    registers: BTreeMap<String, String>,
    counters: BTreeMap<String, Counter>,
    sets: BTreeMap<String, Set>,
    /// Weak increments given out.
    weak: u32,
}

/// The ledger of one run; shared by all who write.
#[derive(Default, Debug)]
pub(crate) struct Ledger(Mutex<Facts>);

impl Ledger {
    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A counter and an amount that no other weak increment has.
    pub(crate) fn next_weak(&self, run: &str) -> (String, i64) {
        let mut facts = self.facts();
        let number = facts.weak;
        facts.weak += 1;
        let (counter, bit) = (number / WEAK_PER_COUNTER, number % WEAK_PER_COUNTER);
        (format!("{run}/c{counter}"), 1 << (2 * bit))
    }

    /// The counter that the last weak increment went to.
    pub(crate) fn counter(&self, run: &str) -> String {
        let number = self.facts().weak.saturating_sub(1);
        format!("{run}/c{}", number / WEAK_PER_COUNTER)
    }

    /// A write of a register; `etag` in hexadecimal digits, if there is one.
    pub(crate) fn wrote(&self, key: &str, etag: Option<&str>, fate: Fate) {
        let mut facts = self.facts();
        facts.acknowledged += u64::from(fate == Fate::Acked);
        let newest = facts.registers.entry(key.to_owned()).or_default();
        if let (Fate::Acked, Some(etag)) = (fate, etag)
            && etag > newest.as_str()
        {
            etag.clone_into(newest);
        }
    }

    /// An increment of a counter.
    pub(crate) fn incremented(&self, key: &str, by: i64, fate: Fate) {
        let mut facts = self.facts();
        facts.acknowledged += u64::from(fate == Fate::Acked);
        let counter = facts.counters.entry(key.to_owned()).or_default();
        match (by >= STRONG_UNIT, fate) {
            (false, Fate::Acked) => counter.acked |= by,
            (false, Fate::Maybe) => counter.maybe |= by,
            (true, Fate::Acked) => counter.acked_strong += by,
            (true, Fate::Maybe) => counter.maybe_strong += by,
        }
    }

    /// An element added to a set.
    pub(crate) fn added(&self, key: &str, element: &str, fate: Fate) {
        let mut facts = self.facts();
        facts.acknowledged += u64::from(fate == Fate::Acked);
        let set = facts.sets.entry(key.to_owned()).or_default();
        match fate {
            Fate::Acked => set.acked.insert(element.to_owned()),
            Fate::Maybe => set.maybe.insert(element.to_owned()),
        };
    }

    /// An attempt to remove an element, before its outcome is known.
    pub(crate) fn removing(&self, key: &str, element: &str) {
        let mut facts = self.facts();
        let set = facts.sets.entry(key.to_owned()).or_default();
        set.removing.insert(element.to_owned());
    }

    /// How many writes were acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.facts().acknowledged
    }

    /// The keys of all registers, counters and sets that were written.
    pub(crate) fn keys(&self) -> [Vec<String>; 3] {
        let facts = self.facts();
        [
            facts.registers.keys().cloned().collect(),
            facts.counters.keys().cloned().collect(),
            facts.sets.keys().cloned().collect(),
        ]
    }

    /// What is wrong with a register's final version in one region.
    pub(crate) fn register_fault(&self, key: &str, etag: &str) -> Option<String> {
        let facts = self.facts();
        let newest = facts.registers.get(key)?;
        let lost = etag < newest.as_str();
        lost.then(|| {
            format!("profiles {key}: version {etag} is older than the acknowledged {newest}")
        })
    }

    /// What is wrong with a counter's final total in one region.
    pub(crate) fn counter_fault(&self, key: &str, total: i64) -> Option<String> {
        let facts = self.facts();
        let counter = facts.counters.get(key)?;
        let (weak, strong) = split(total);
        let lost = counter.acked & !weak;
        if lost != 0 {
            return Some(format!(
                "counters {key}: the acknowledged increments {lost:#x} are missing"
            ));
        }
        let alien = weak & !(counter.acked | counter.maybe);
        if alien != 0 {
            return Some(format!(
                "counters {key}: nobody added {alien:#x}, or somebody's counted twice"
            ));
        }
        let most = counter.acked_strong + counter.maybe_strong;
        let units = |amount: i64| amount / STRONG_UNIT;
        let fits = (counter.acked_strong..=most).contains(&strong);
        (!fits).then(|| {
            format!(
                "counters {key}: {} strong increments, {} to {} were acknowledged or may have been",
                units(strong),
                units(counter.acked_strong),
                units(most)
            )
        })
    }

    /// What is wrong with a set's final elements in one region.
    pub(crate) fn set_fault(&self, key: &str, elements: &BTreeSet<String>) -> Option<String> {
        let facts = self.facts();
        let set = facts.sets.get(key)?;
        let lost = set
            .acked
            .iter()
            .find(|it| !elements.contains(*it) && !set.removing.contains(*it));
        if let Some(lost) = lost {
            return Some(format!(
                "carts {key}: the acknowledged element {lost} is missing"
            ));
        }
        let added = |it: &String| set.acked.contains(it) || set.maybe.contains(it);
        let alien = elements.iter().find(|it| !added(it));
        alien.map(|alien| format!("carts {key}: nobody added {alien}"))
    }
}

/// The weak and the strong part of a total.
pub(crate) fn split(total: i64) -> (i64, i64) {
    let weak = total & (STRONG_UNIT - 1);
    (weak, total - weak)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_increments_are_distinct_and_change_counters_in_time() {
        let ledger = Ledger::default();
        let all: BTreeSet<_> = (0..45).map(|_| ledger.next_weak("r")).collect();
        assert_eq!(all.len(), 45);
        assert!(all.iter().all(|(_, by)| *by < STRONG_UNIT));
        assert_eq!(ledger.counter("r"), "r/c2");
    }

    #[test]
    fn a_lost_register_write_is_noticed() {
        let ledger = Ledger::default();
        for (etag, fate) in [
            ("05", Fate::Acked),
            ("03", Fate::Acked),
            ("09", Fate::Maybe),
        ] {
            ledger.wrote("k", Some(etag), fate);
        }
        assert_eq!(ledger.register_fault("k", "05"), None);
        assert_eq!(ledger.register_fault("k", "09"), None);
        assert!(ledger.register_fault("k", "04").unwrap().contains("older"));
        assert!(ledger.register_fault("k", "").is_some(), "nothing there");
        assert_eq!(ledger.acknowledged(), 2);
    }

    #[test]
    fn lost_doubled_and_alien_increments_are_noticed() {
        let ledger = Ledger::default();
        ledger.incremented("k", 1, Fate::Acked);
        ledger.incremented("k", 4, Fate::Maybe);
        ledger.incremented("k", STRONG_UNIT, Fate::Acked);
        ledger.incremented("k", STRONG_UNIT, Fate::Maybe);
        for good in [1 + STRONG_UNIT, 5 + STRONG_UNIT, 1 + 2 * STRONG_UNIT] {
            assert_eq!(ledger.counter_fault("k", good), None, "{good}");
        }
        for (bad, part) in [
            (4 + STRONG_UNIT, "missing"),
            (2 + STRONG_UNIT, "missing"),
            (1 + 8 + STRONG_UNIT, "counted twice"),
            (1, "0 strong increments"),
            (1 + 3 * STRONG_UNIT, "3 strong increments"),
        ] {
            let fault = ledger.counter_fault("k", bad).unwrap();
            assert!(fault.contains(part), "{bad}: {fault}");
        }
    }

    #[test]
    fn lost_and_alien_elements_are_noticed() {
        let ledger = Ledger::default();
        ledger.added("k", "kept", Fate::Acked);
        ledger.added("k", "removed", Fate::Acked);
        ledger.added("k", "unknown", Fate::Maybe);
        ledger.removing("k", "removed");
        let set = |elements: &[&str]| elements.iter().map(|it| (*it).to_owned()).collect();
        for good in [&["kept"][..], &["kept", "removed", "unknown"]] {
            assert_eq!(ledger.set_fault("k", &set(good)), None);
        }
        assert!(
            ledger
                .set_fault("k", &set(&["removed"]))
                .unwrap()
                .contains("missing")
        );
        assert!(
            ledger
                .set_fault("k", &set(&["kept", "x"]))
                .unwrap()
                .contains("nobody")
        );
    }
}
