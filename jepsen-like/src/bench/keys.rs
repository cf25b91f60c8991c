//! Which key is asked, by chance, and what it holds.

use bytes::Bytes;
use clap::ValueEnum;
use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::random::Random;

/// Rows of one partition where scans are asked; a page has at most as many, as YCSB's have.
pub const ROWS: u64 = 100;
/// Most keys: the sum behind the skew is taken over each of them.
pub const KEYS_MAX: u64 = 100_000_000;
/// The steps of a number between 0 and 1: what a double can tell apart.
const UNIT_STEPS: u64 = 1 << 53;

/// A number in `0.0..1.0`.
pub(super) fn unit(random: &mut Random) -> f64 {
    random.below(UNIT_STEPS) as f64 / UNIT_STEPS as f64
}

/// Whose keys a region asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// All regions ask for all keys.
    #[default]
    All,
    /// Each region has its own part of the keys, which it wrote itself: nothing is contended between regions.
    Own,
    /// Each region has its own part of the keys, which another region wrote last, and goes through it once.
    Elsewhere,
    /// Each region goes through all keys once.
    Each,
}

impl Share {
    /// Whether each key is asked for once by a region, and then no more.
    #[must_use]
    pub fn once(self) -> bool {
        matches!(self, Share::Elsewhere | Share::Each)
    }
}

/// Ranks below a bound, the lower ones more often: the generator that YCSB uses (Gray and others, SIGMOD 1994).
#[derive(Clone, Debug)]
pub struct Zipf {
    count: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

impl Zipf {
    /// Ranks `0..count`, at least one, with a skew in `0.0..1.0`, where 0 is uniform.
    #[must_use]
    pub fn new(count: u64, theta: f64) -> Zipf {
        let count = count.max(1);
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-theta)).sum::<f64>();
        let zeta = zeta_of(count);
        let eta = (1.0 - (2.0 / count as f64).powf(1.0 - theta)) / (1.0 - zeta_of(2) / zeta);
        Zipf {
            count,
            theta,
            alpha: 1.0 / (1.0 - theta),
            zeta,
            eta,
        }
    }

    /// One rank.
    pub fn draw(&self, random: &mut Random) -> u64 {
        if self.theta == 0.0 {
            return random.below(self.count);
        }
        let unit = unit(random);
        let scaled = unit * self.zeta;
        if scaled < 1.0 || self.count == 1 {
            return 0;
        }
        if scaled < 1.0 + 0.5_f64.powf(self.theta) {
            return 1;
        }
        let base = self.eta * unit - self.eta + 1.0;
        let rank = (self.count as f64 * base.powf(self.alpha)) as u64;
        rank.min(self.count - 1)
    }
}

/// How the keys of one region are drawn.
#[derive(Clone, Debug)]
pub struct Keys {
    zipf: Zipf,
    step: u64,
    first: u64,
}

impl Keys {
    /// The keys `0..count` of a region among so many, as they are shared. At least one for each region is needed.
    #[must_use]
    pub fn new(count: u64, skew: f64, share: Share, (region, regions): (usize, usize)) -> Keys {
        let (first, step) = match share {
            Share::All | Share::Each => (0, 1),
            Share::Own | Share::Elsewhere => (region as u64, regions as u64),
        };
        let own = count.saturating_sub(first).div_ceil(step);
        Keys {
            zipf: Zipf::new(own, skew),
            step,
            first,
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.zipf.count
    }

    /// One of them. The popular ones are spread over the whole range.
    pub fn draw(&self, random: &mut Random) -> u64 {
        let rank = self.zipf.draw(random);
        match self.zipf.theta == 0.0 {
            true => self.at(rank),
            false => self.at(hash(rank, 0) % self.zipf.count),
        }
    }

    /// The one that was inserted so long ago as is drawn, when there are `known` keys: mostly a new one.
    pub fn draw_latest(&self, known: u64, random: &mut Random) -> u64 {
        known.saturating_sub(1 + self.zipf.draw(random))
    }

    /// The one at a position.
    #[must_use]
    pub fn at(&self, position: u64) -> u64 {
        self.first + position * self.step
    }
}

fn hash(number: u64, seed: u64) -> u64 {
    xxh3_64_with_seed(&number.to_le_bytes(), seed)
}

/// The name of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What decides who holds it.
    pub partition: String,
    /// Empty where there are no scans.
    pub sort: String,
}

impl Place {
    /// The name of a key, one of [`ROWS`] in its partition where scans are asked.
    #[must_use]
    pub fn of(key: u64, rows: bool) -> Place {
        match rows {
            true => Place {
                partition: format!("part{:010}", key / ROWS),
                sort: format!("row{:02}", key % ROWS),
            },
            false => Place {
                partition: format!("user{key:010}"),
                sort: String::new(),
            },
        }
    }
}

/// What a key holds, always: bytes that do not compress, drawn from its number. So a compare-and-set knows what it will
/// find without having read it.
#[must_use]
pub fn value(key: u64, bytes: usize) -> Bytes {
    let words = (1..=bytes.div_ceil(8) as u64).flat_map(|word| hash(key, word).to_le_bytes());
    words.take(bytes).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    const DRAWS: u32 = 100_000;

    #[test]
    fn the_skew_is_the_one_asked_for() {
        let count = 1000;
        let zipf = Zipf::new(count, 0.99);
        let mut random = Random::new(1);
        let mut seen = BTreeMap::new();
        for _ in 0..DRAWS {
            *seen.entry(zipf.draw(&mut random)).or_insert(0_u32) += 1;
        }
        assert!(*seen.last_key_value().unwrap().0 < count);
        let sum: f64 = (1..=count).map(|i| (i as f64).powf(-0.99)).sum();
        for rank in [0, 1] {
            let wanted = ((rank + 1) as f64).powf(-0.99) / sum;
            let found = f64::from(seen[&rank]) / f64::from(DRAWS);
            assert!((found / wanted - 1.0).abs() < 0.1, "{rank}: {found}");
        }
        let head: u32 = (0..10).map(|rank| seen[&rank]).sum();
        let share = f64::from(head) / f64::from(DRAWS);
        assert!((0.33..0.45).contains(&share), "the first ten get {share}");
    }

    #[test]
    fn without_skew_all_keys_are_as_likely() {
        let keys = Keys::new(10, 0.0, Share::All, (0, 3));
        let mut random = Random::new(1);
        let mut seen = [0_u32; 10];
        for _ in 0..DRAWS {
            seen[keys.draw(&mut random) as usize] += 1;
        }
        let even = DRAWS / 10;
        assert!(seen.iter().all(|it| it.abs_diff(even) < even / 10));
    }

    #[test]
    fn a_skewed_draw_stays_in_its_range_and_the_newest_are_the_latest() {
        for count in [1, 2, 3, 1000] {
            let keys = Keys::new(count, 0.99, Share::All, (0, 1));
            let mut random = Random::new(count);
            for _ in 0..1000 {
                assert!(keys.draw(&mut random) < count);
                assert!(keys.draw_latest(count + 5, &mut random) < count + 5);
            }
        }
        let keys = Keys::new(1000, 0.99, Share::All, (0, 1));
        let mut random = Random::new(3);
        let late = (0..1000).filter(|_| keys.draw_latest(5000, &mut random) > 4900);
        assert!(late.count() > 500);
    }

    #[test]
    fn regions_share_all_keys_or_none() {
        let of = |share, region| -> BTreeSet<u64> {
            let keys = Keys::new(10, 0.0, share, (region, 3));
            (0..keys.count()).map(|it| keys.at(it)).collect()
        };
        assert_eq!(of(Share::All, 1), (0..10).collect());
        for share in [Share::Own, Share::Elsewhere] {
            let parts = [0, 1, 2].map(|region| of(share, region));
            assert_eq!(parts.iter().map(BTreeSet::len).sum::<usize>(), 10);
            let all: BTreeSet<u64> = parts.into_iter().flatten().collect();
            assert_eq!(all, (0..10).collect());
        }
    }

    #[test]
    fn a_value_is_its_keys_own_and_has_the_length_asked_for() {
        for bytes in [0, 1, 8, 100] {
            assert_eq!(value(4, bytes).len(), bytes);
        }
        assert_eq!(value(4, 100), value(4, 100));
        assert_ne!(value(4, 100), value(5, 100));
        let places = [99, 100].map(|key| Place::of(key, true));
        assert_ne!(places[0].partition, places[1].partition);
        assert_eq!(places[1].sort, "row00");
        assert_eq!(Place::of(7, false).partition, "user0000000007");
    }
}
