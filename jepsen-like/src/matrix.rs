//! The matrix: every workload at every level under every fault, one simulated run a cell.
//!
//! It shows coverage of operations rather than of seeds: which combinations were tried, which hold, which were not
//! run, and which cannot be expressed and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use hansa_consistency::effect::Note;
use serde::Serialize;

use crate::history::Status;
use crate::nemesis::{Nemesis, Support};
use crate::random::Random;
use crate::sim::scenario::{Choice, Scenario};
use crate::sim::{self, Run};
use crate::workload::{Levels, Workload};

mod directed;
#[cfg(test)]
mod tests;

/// A cell's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Place {
    /// What clients do.
    pub workload: Workload,
    /// At which levels.
    pub levels: Levels,
    /// Under which fault.
    pub nemesis: Nemesis,
}

impl Place {
    /// All places, row by row.
    #[must_use]
    pub fn all() -> Vec<Place> {
        let mut all = Vec::new();
        for &workload in Workload::value_variants() {
            for &levels in Levels::value_variants() {
                for &nemesis in Nemesis::value_variants() {
                    all.push(Place {
                        workload,
                        levels,
                        nemesis,
                    });
                }
            }
        }
        all
    }

    /// `WORKLOAD LEVELS NEMESIS`.
    #[must_use]
    pub fn name(&self) -> String {
        let (workload, levels) = (self.workload.name(), self.levels.name());
        format!("{workload} {levels} {}", self.nemesis.name())
    }

    /// What its run is drawn from.
    #[must_use]
    pub fn choice(&self, load_ms: u64) -> Choice {
        Choice {
            workload: self.workload,
            levels: self.levels,
            nemeses: vec![self.nemesis],
            load_ms,
        }
    }
}

/// What is known of a cell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum State {
    /// Everything held, and something was done.
    Green,
    /// Something was violated, or nothing was done.
    Red {
        /// Property and explanation.
        violations: Vec<(String, String)>,
    },
    /// It was not run: the time was up.
    NotRun,
    /// It cannot be expressed.
    NotApplicable {
        /// The issue that brings it, or what the simulator lacks.
        reason: String,
    },
}

impl State {
    /// One character for the table.
    #[must_use]
    pub fn sign(&self) -> char {
        match self {
            State::Green => '.',
            State::Red { .. } => 'R',
            State::NotRun => '-',
            State::NotApplicable { .. } => '/',
        }
    }
}

/// A cell.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// What is known of it.
    #[serde(flatten)]
    pub state: State,
    /// Operations of clients that were done, failed, or ended without anybody knowing.
    pub operations: [u64; 3],
    /// Faults that struck.
    pub faults: usize,
}

/// A run beside the cells.
#[derive(Debug, Serialize)]
pub struct Directed {
    /// What it is.
    pub name: String,
    /// What it violated: property and explanation.
    pub violations: Vec<(String, String)>,
}

/// The whole matrix.
#[derive(Debug, Serialize)]
pub struct Matrix {
    /// The seed of all cells.
    pub seed: u64,
    /// How long clients acted in each, virtual milliseconds.
    pub load_ms: u64,
    /// The cells, row by row.
    pub cells: Vec<Cell>,
    /// Runs beside the cells, for paths that no cell can lead to.
    pub directed: Vec<Directed>,
    /// How often each rare path of the core was taken, by name.
    pub probes: BTreeMap<&'static str, u64>,
    /// Virtual time that passed in all runs, seconds.
    pub virtual_seconds: f64,
    /// Time that it took, seconds.
    pub seconds: f64,
}

/// What to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The seed of all cells.
    pub seed: u64,
    /// How long clients act in each, virtual milliseconds.
    pub load_ms: u64,
    /// No further cell is begun after this.
    pub budget: Option<Duration>,
    /// Only cells whose name contains this.
    pub only: Option<String>,
}

/// Runs the matrix by `run_one`, on all cores; `red` sees every red cell as it is found.
///
/// Cells are run in an order that the seed shuffles, so that a matrix cut short is a sample of the whole.
pub fn run(
    options: &Options,
    run_one: impl Fn(&Scenario) -> Run + Clone + Send + 'static,
    mut red: impl FnMut(&Place, &Scenario, &Run),
) -> Matrix {
    let begun = Instant::now();
    let mut places = Place::all();
    if let Some(part) = &options.only {
        places.retain(|place| place.name().contains(part.as_str()));
    }
    let mut cells: BTreeMap<Place, Cell> = BTreeMap::new();
    for place in &places {
        cells.insert(*place, Cell::unrun(*place));
    }
    let mut todo: Vec<Place> = places.clone();
    todo.retain(|place| place.nemesis.support() == Support::Yes);
    shuffle(&mut todo, options.seed);
    let mut matrix = Matrix {
        seed: options.seed,
        load_ms: options.load_ms,
        cells: Vec::new(),
        directed: Vec::new(),
        probes: Note::ALL.iter().map(|note| (note.name(), 0)).collect(),
        virtual_seconds: 0.0,
        seconds: 0.0,
    };
    let (seed, load_ms) = (options.seed, options.load_ms);
    let make = {
        let todo = todo.clone();
        move |at: u64| {
            let scenario = todo[at as usize].choice(load_ms).draw(seed);
            let run = run_one(&scenario);
            (scenario, run)
        }
    };
    for (place, (scenario, run)) in todo.iter().zip(sim::in_order(todo.len() as u64, make)) {
        matrix.count_run(&run);
        let cell = Cell::judged(*place, &scenario, &run);
        if matches!(cell.state, State::Red { .. }) {
            red(place, &scenario, &run);
        }
        cells.insert(*place, cell);
        if options.budget.is_some_and(|most| begun.elapsed() > most) {
            break;
        }
    }
    matrix.cells = cells.into_values().collect();
    if options.only.is_none() && matrix.count('-') == 0 {
        matrix.run_directed();
    }
    matrix.seconds = begun.elapsed().as_secs_f64();
    matrix
}

fn shuffle(places: &mut [Place], seed: u64) {
    let mut random = Random::new(seed);
    for at in (1..places.len()).rev() {
        places.swap(at, random.below(at as u64 + 1) as usize);
    }
}

impl Cell {
    fn unrun(place: Place) -> Cell {
        let state = match place.nemesis.support() {
            Support::Yes => State::NotRun,
            Support::NotApplicable(issue) => State::NotApplicable {
                reason: format!("issue {issue}"),
            },
        };
        Cell {
            place,
            state,
            operations: [0; 3],
            faults: 0,
        }
    }

    fn judged(place: Place, scenario: &Scenario, run: &Run) -> Cell {
        let mut operations = [0; 3];
        for record in run.history.records.iter().filter(|r| r.op.is_client()) {
            let kind = match record.status {
                Status::Ok => 0,
                Status::Fail => 1,
                Status::Info => 2,
            };
            operations[kind] += 1;
        }
        let mut violations = run.violations.clone();
        if operations[0] == 0 {
            let nothing = "not one operation was done, so nothing was tried".to_owned();
            violations.push(("floor".to_owned(), nothing));
        }
        let state = match run.refused.values().next() {
            _ if !violations.is_empty() => State::Red { violations },
            Some(reason) => State::NotApplicable {
                reason: reason.clone(),
            },
            None => State::Green,
        };
        Cell {
            place,
            state,
            operations,
            faults: scenario.faults().len(),
        }
    }
}

impl Matrix {
    fn count_run(&mut self, run: &Run) {
        self.virtual_seconds += run.virtual_us as f64 / 1e6;
        for (note, count) in &run.notes {
            *self.probes.entry(note.name()).or_default() += count;
        }
    }

    fn run_directed(&mut self) {
        let make = |place: u64| directed::run(place);
        for (name, run) in sim::in_order(directed::COUNT, make) {
            self.count_run(&run);
            self.directed.push(Directed {
                name,
                violations: run.violations,
            });
        }
    }

    /// Whether nothing was violated, in a cell or beside them.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.count('R') == 0 && self.directed.iter().all(|it| it.violations.is_empty())
    }

    /// How many cells have this sign.
    #[must_use]
    pub fn count(&self, sign: char) -> usize {
        let cells = self.cells.iter();
        cells.filter(|cell| cell.state.sign() == sign).count()
    }

    /// Rare paths of the core that no run took.
    #[must_use]
    pub fn never_hit(&self) -> Vec<&'static str> {
        let probes = self.probes.iter().filter(|(_, count)| **count == 0);
        probes.map(|(name, _)| *name).collect()
    }

    /// The table: a row per workload and level, a column per fault, and what the columns are.
    #[must_use]
    pub fn table(&self) -> String {
        let mut nemeses: Vec<Nemesis> = self.cells.iter().map(|cell| cell.place.nemesis).collect();
        nemeses.sort_unstable();
        nemeses.dedup();
        let mut rows: BTreeMap<(Workload, Levels), BTreeMap<Nemesis, &Cell>> = BTreeMap::new();
        for cell in &self.cells {
            let row = rows.entry((cell.place.workload, cell.place.levels));
            row.or_default().insert(cell.place.nemesis, cell);
        }
        let mut text = String::new();
        for digit in [10, 1] {
            let heads = (1..=nemeses.len()).map(|number| format!(" {}", number / digit % 10));
            let _ = writeln!(text, "{:<22}{}", "", heads.collect::<String>());
        }
        for ((workload, levels), row) in &rows {
            let name = format!("{} {}", workload.name(), levels.name());
            let _ = write!(text, "{name:<22}");
            for nemesis in &nemeses {
                let sign = row.get(nemesis).map_or(' ', |cell| cell.state.sign());
                let _ = write!(text, " {sign}");
            }
            text.push('\n');
        }
        text += "\n. green  R red  - not run  / n/a\n";
        for (number, nemesis) in (1..).zip(&nemeses) {
            let _ = writeln!(text, "{number:>3} {}", self.column(*nemesis));
        }
        text
    }

    /// What is to be said of a column.
    fn column(&self, nemesis: Nemesis) -> String {
        let cells = || {
            self.cells
                .iter()
                .filter(|cell| cell.place.nemesis == nemesis)
        };
        let count = |sign| cells().filter(|cell| cell.state.sign() == sign).count();
        let mut text = format!("{:<20}", nemesis.name());
        for (sign, word) in [('.', "green"), ('R', "red"), ('-', "not run"), ('/', "n/a")] {
            let count = count(sign);
            if count > 0 {
                let _ = write!(text, " {count} {word}");
            }
        }
        let reason = cells().find_map(|cell| match &cell.state {
            State::NotApplicable { reason } => Some(reason),
            _ => None,
        });
        match reason {
            Some(reason) => text + " (" + reason + ")",
            None => text,
        }
    }
}
