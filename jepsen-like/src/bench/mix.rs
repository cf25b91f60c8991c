//! What is asked: operations and levels by their chances.

use std::collections::BTreeMap;
use std::fmt::Display;

use serde::Serialize;

use crate::history::Level;
use crate::random::Random;

/// Largest weight of one choice.
const WEIGHT_MAX: u32 = 1_000_000;

/// One kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Reads one register.
    Get,
    /// Overwrites one register.
    Put,
    /// Overwrites one register if it holds what it holds; always strong.
    Cas,
    /// Adds 1 to a counter.
    Incr,
    /// Reads a page of rows.
    Scan,
    /// Writes a register that was not there.
    Insert,
    /// Reads a register, then overwrites it: one operation, two requests.
    ReadModifyWrite,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 7] = [
        Kind::Get,
        Kind::Put,
        Kind::Cas,
        Kind::Incr,
        Kind::Scan,
        Kind::Insert,
        Kind::ReadModifyWrite,
    ];

    /// Its name in options, tables and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Get => "get",
            Kind::Put => "put",
            Kind::Cas => "cas",
            Kind::Incr => "incr",
            Kind::Scan => "scan",
            Kind::Insert => "insert",
            Kind::ReadModifyWrite => "read-modify-write",
        }
    }
}

/// The name of a level in options and tables.
#[must_use]
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Eventual => "eventual",
        Level::Session => "session",
        Level::Strong => "strong",
    }
}

/// Choices and their weights; at least one weight is not zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighted<T> {
    parts: Vec<(T, u32)>,
    total: u64,
}

impl<T: Copy + PartialEq> Weighted<T> {
    /// These choices.
    ///
    /// # Errors
    /// When all weights are zero, one is larger than a million, or a choice is there twice.
    pub fn new(parts: Vec<(T, u32)>) -> Result<Weighted<T>, String> {
        let twice = |(at, (choice, _)): (usize, &(T, u32))| {
            parts[..at].iter().any(|(before, _)| before == choice)
        };
        if parts.iter().enumerate().any(twice) {
            return Err("a choice is named twice".to_owned());
        }
        if parts.iter().any(|(_, weight)| *weight > WEIGHT_MAX) {
            return Err(format!("a weight is larger than {WEIGHT_MAX}"));
        }
        let total = parts.iter().map(|(_, weight)| u64::from(*weight)).sum();
        match total {
            0 => Err("all weights are 0".to_owned()),
            total => Ok(Weighted { parts, total }),
        }
    }

    /// Always this.
    #[must_use]
    pub fn only(choice: T) -> Weighted<T> {
        Weighted {
            parts: vec![(choice, 1)],
            total: 1,
        }
    }

    /// One of them, by chance.
    pub fn draw(&self, random: &mut Random) -> T {
        let mut roll = random.below(self.total);
        let chosen = self.parts.iter().find(|(_, weight)| {
            let weight = u64::from(*weight);
            let hit = roll < weight;
            roll = roll.saturating_sub(weight);
            hit
        });
        // The roll is below the sum of the weights, so one of them is hit; there is a first one anyway.
        chosen.map_or(self.parts[0].0, |(choice, _)| *choice)
    }

    /// The part of a choice, 0 to 1.
    #[must_use]
    pub fn share(&self, choice: T) -> f64 {
        let part = self.parts.iter().find(|(other, _)| *other == choice);
        part.map_or(0.0, |(_, weight)| f64::from(*weight) / self.total as f64)
    }

    /// Whether it can be drawn.
    #[must_use]
    pub fn has(&self, choice: T) -> bool {
        self.share(choice) > 0.0
    }

    /// The part of each, by name; those that are never drawn are not named.
    #[must_use]
    pub fn shares(&self, name: impl Fn(T) -> &'static str) -> BTreeMap<&'static str, f64> {
        let drawn = self.parts.iter().filter(|(_, weight)| *weight > 0);
        drawn
            .map(|(choice, _)| (name(*choice), self.share(*choice)))
            .collect()
    }

    fn parse(text: &str, named: impl Fn(&str) -> Option<T>, known: &str) -> Result<Self, String> {
        let part = |part: &str| {
            let (name, weight) = part.split_once('=').unwrap_or((part, "1"));
            let choice = named(name).ok_or_else(|| wrong(name, known))?;
            let weight = weight.parse().map_err(|_| wrong(weight, "a number"))?;
            Ok((choice, weight))
        };
        let parts: Result<Vec<_>, String> = text.split(',').map(part).collect();
        Weighted::new(parts?)
    }
}

fn wrong(found: &str, known: impl Display) -> String {
    format!("{found:?} is not {known}")
}

/// Chances of levels, as `strong` or `eventual=90,strong=10`.
///
/// # Errors
/// Says what is no level or no weight.
pub fn levels(text: &str) -> Result<Weighted<Level>, String> {
    let all = [Level::Eventual, Level::Session, Level::Strong];
    let named = |name: &str| all.into_iter().find(|it| level_name(*it) == name);
    Weighted::parse(text, named, "one of eventual, session, strong")
}

/// Chances of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// The operations.
    pub kinds: Weighted<Kind>,
    /// Whether reads prefer the newest keys.
    pub latest: bool,
    /// Whether keys are drawn with a skew where nothing else is said: so are those of YCSB.
    pub skewed: bool,
}

impl Mix {
    /// A workload of YCSB by its letter, a to f, or `get=50,put=50` and the like.
    ///
    /// # Errors
    /// Says what is no operation or no weight.
    pub fn parse(text: &str) -> Result<Mix, String> {
        let parts = match text {
            "a" => vec![(Kind::Get, 50), (Kind::Put, 50)],
            "b" => vec![(Kind::Get, 95), (Kind::Put, 5)],
            "c" => vec![(Kind::Get, 100)],
            "d" => vec![(Kind::Get, 95), (Kind::Insert, 5)],
            "e" => vec![(Kind::Scan, 95), (Kind::Insert, 5)],
            "f" => vec![(Kind::Get, 50), (Kind::ReadModifyWrite, 50)],
            _ => {
                let named = |name: &str| Kind::ALL.into_iter().find(|it| it.name() == name);
                let names = Kind::ALL.map(Kind::name).join(", ");
                let known = format!("a workload of YCSB, a to f, or one of {names}");
                let kinds = Weighted::parse(text, named, &known)?;
                return Ok(Mix::of(kinds));
            }
        };
        Ok(Mix {
            latest: text == "d",
            skewed: true,
            ..Mix::of(Weighted::new(parts)?)
        })
    }

    /// Only this operation.
    #[must_use]
    pub fn only(kind: Kind) -> Mix {
        Mix::of(Weighted::only(kind))
    }

    fn of(kinds: Weighted<Kind>) -> Mix {
        Mix {
            kinds,
            latest: false,
            skewed: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 20_000;

    /// How often each operation of a mix is drawn, percent.
    fn drawn(mix: &str) -> Vec<(Kind, f64)> {
        let mix = Mix::parse(mix).unwrap();
        let mut random = Random::new(7);
        let drawn: Vec<Kind> = (0..DRAWS).map(|_| mix.kinds.draw(&mut random)).collect();
        let percent = |kind| {
            let count = drawn.iter().filter(|it| **it == kind).count();
            count as f64 * 100.0 / f64::from(DRAWS)
        };
        let all = Kind::ALL.map(|kind| (kind, percent(kind)));
        all.into_iter().filter(|(_, it)| *it > 0.0).collect()
    }

    #[test]
    fn the_mixes_of_ycsb_are_as_published_and_add_up() {
        use Kind::{Get, Insert, Put, ReadModifyWrite, Scan};
        let published: [(&str, &[(Kind, f64)]); 6] = [
            ("a", &[(Get, 50.0), (Put, 50.0)]),
            ("b", &[(Get, 95.0), (Put, 5.0)]),
            ("c", &[(Get, 100.0)]),
            ("d", &[(Get, 95.0), (Insert, 5.0)]),
            ("e", &[(Scan, 95.0), (Insert, 5.0)]),
            ("f", &[(Get, 50.0), (ReadModifyWrite, 50.0)]),
        ];
        for (letter, parts) in published {
            let mix = Mix::parse(letter).unwrap();
            let shares = Kind::ALL.map(|kind| mix.kinds.share(kind));
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{letter}");
            assert_eq!((mix.latest, mix.skewed), (letter == "d", true));
            let drawn = drawn(letter);
            assert_eq!(drawn.len(), parts.len(), "{letter}: {drawn:?}");
            for ((kind, percent), (wanted, share)) in drawn.iter().zip(parts) {
                assert_eq!(kind, wanted, "{letter}");
                assert!((percent - share).abs() < 1.5, "{letter}: {drawn:?}");
            }
        }
    }

    #[test]
    fn chances_are_weights_and_wrong_ones_are_named() {
        let drawn = drawn("get=1,cas=3,incr=0");
        assert_eq!(drawn.len(), 2, "{drawn:?}");
        assert!((drawn[0].1 - 25.0).abs() < 1.5, "{drawn:?}");
        let levels = levels("eventual=9,strong=1").unwrap();
        assert!((levels.share(Level::Strong) - 0.1).abs() < 1e-9);
        assert!(!levels.has(Level::Session));
        for (mix, part) in [
            ("z", "a workload of YCSB"),
            ("get=x", "a number"),
            ("get=0", "all weights are 0"),
            ("get,get", "named twice"),
            ("get=2000000", "larger than"),
        ] {
            let why = Mix::parse(mix).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
        assert!(super::levels("weak").unwrap_err().contains("strong"));
    }
}
