//! Which workload meets which faults in a round.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::Options;
use crate::nemesis::{Nemesis, Support};
use crate::random::Random;
use crate::workload::{Levels, Workload};

/// Kinds of fault composed in one round, at most.
const COMPOSED_MAX: u64 = 3;

/// What one round does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// What clients do.
    pub workload: Workload,
    /// At which levels.
    pub levels: Levels,
    /// The kinds of fault that strike.
    pub nemeses: Vec<Nemesis>,
}

impl Cell {
    /// Whether a disk may lose what it had synced.
    #[must_use]
    pub fn destroys(&self) -> bool {
        self.nemeses.iter().any(|nemesis| nemesis.destroys())
    }

    /// One line for people.
    #[must_use]
    pub fn describe(&self) -> String {
        let nemeses: Vec<String> = self.nemeses.iter().map(|it| it.name()).collect();
        format!(
            "{} x {} x {}",
            self.workload.name(),
            self.levels.name(),
            nemeses.join("+")
        )
    }
}

/// Deals the cells of a run: every workload, level and kind of fault comes up before any comes up again.
#[derive(Debug)]
pub struct Deck {
    random: Random,
    workloads: Pile<Workload>,
    levels: Pile<Levels>,
    nemeses: Pile<Nemesis>,
    upcoming: VecDeque<Cell>,
}

impl Deck {
    /// The deck of a run.
    #[must_use]
    pub fn new(options: &Options) -> Deck {
        let able = |nemesis: &&Nemesis| nemesis.support() == Support::Yes;
        let nemeses = options.nemeses.iter().filter(able).copied().collect();
        Deck {
            random: Random::new(options.seed ^ 0x6465_636b),
            workloads: Pile::new(options.workloads.clone()),
            levels: Pile::new(options.levels.clone()),
            nemeses: Pile::new(nemeses),
            upcoming: VecDeque::new(),
        }
    }

    /// The next cells, without taking them; they end with the first that destroys a disk.
    pub fn upcoming(&mut self, count: usize) -> Vec<Cell> {
        while self.upcoming.len() < count {
            let cell = self.make();
            self.upcoming.push_back(cell);
        }
        let last = self.upcoming.iter().position(Cell::destroys);
        let until = last.map_or(count, |last| count.min(last + 1));
        self.upcoming.iter().take(until).cloned().collect()
    }

    /// Takes the next cell.
    pub fn draw(&mut self) -> Cell {
        match self.upcoming.pop_front() {
            Some(cell) => cell,
            None => self.make(),
        }
    }

    fn make(&mut self) -> Cell {
        let random = &mut self.random;
        let workload = self.workloads.next(random).unwrap_or(Workload::All);
        let levels = self.levels.next(random).unwrap_or(Levels::Mixed);
        let count = 1 + random.below(COMPOSED_MAX);
        let mut nemeses: Vec<Nemesis> = (0..count)
            .filter_map(|_| self.nemeses.next(random))
            .collect();
        nemeses.sort();
        nemeses.dedup();
        // One disk may be destroyed in one way: two ways on one node are more than an operator is promised.
        let mut destroyed = false;
        nemeses.retain(|it| !it.destroys() || !std::mem::replace(&mut destroyed, true));
        // Without a fault, or with nothing but faults.
        if nemeses.len() > 1 {
            nemeses.retain(|nemesis| *nemesis != Nemesis::Calm);
        }
        if nemeses.is_empty() {
            nemeses.push(Nemesis::Calm);
        }
        Cell {
            workload,
            levels,
            nemeses,
        }
    }
}

/// Things that come up in random order, each once before any comes again.
#[derive(Debug)]
struct Pile<T> {
    all: Vec<T>,
    left: Vec<T>,
}

impl<T: Copy> Pile<T> {
    fn new(all: Vec<T>) -> Pile<T> {
        Pile {
            all,
            left: Vec::new(),
        }
    }

    fn next(&mut self, random: &mut Random) -> Option<T> {
        if self.left.is_empty() {
            self.left.clone_from(&self.all);
        }
        if self.left.is_empty() {
            return None;
        }
        let at = random.below(self.left.len() as u64) as usize;
        Some(self.left.swap_remove(at))
    }
}
