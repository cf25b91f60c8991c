//! The deterministic simulator: the real core between simulated disks, clocks and a simulated network,
//! in virtual time.
//!
//! A run has two phases. First clients act while faults strike: safety must hold. Then everything
//! heals, and within a bound every replica must show the same: liveness. The history is judged by the
//! same checkers as one of real processes, and invariants no client can see are watched on the way.

pub mod client;
pub mod disk;
pub mod faults;
pub mod invariants;
pub mod liveness;
pub mod loss;
#[cfg(feature = "mutants")]
pub mod mutants;
pub mod nemesis;
pub mod network;
pub mod node;
pub mod profile;
pub mod scenario;
pub mod several;
pub mod world;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use hansa_consistency::effect::Note;
use hansa_consistency::rules::Rules;

use crate::checker::{self, Verdict};
use crate::history::History;
use crate::nemesis::{Nemesis, Planned};
use crate::random::Random;
use profile::{Profile, Shape};
use scenario::Scenario;
use world::World;

/// How long after healing all replicas must be equal, virtual microseconds.
const CONVERGED_WITHIN_US: u64 = 60_000_000;

/// The outcome of one seed.
#[derive(Debug)]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// What was recorded.
    pub history: History,
    /// A fingerprint of the whole run: equal for equal seeds and code.
    pub trace: u64,
    /// Virtual time that passed, microseconds.
    pub virtual_us: u64,
    /// Steps taken by all replicas.
    pub steps: u64,
    /// Rare paths that were taken, with their counts.
    pub notes: BTreeMap<Note, u64>,
    /// Kinds of planned faults that could not be carried out, and why.
    pub refused: BTreeMap<Nemesis, String>,
    /// What was violated: property and explanation.
    pub violations: Vec<(String, String)>,
}

thread_local! {
    /// Where and why this thread panicked last.
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps panics off the screen: one in a run is reported as a violation of its seed, with its place.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        PANIC.set(Some(panic.to_string()));
    }));
}

/// Runs one seed under the given rules, with the shape the seed stands for.
#[must_use]
pub fn run(seed: u64, rules: Rules) -> Run {
    run_shaped(seed, rules, None, |_| {})
}

/// Runs one seed, bent by `shape` instead of the one it stands for, and then by `disk`.
#[must_use]
pub fn run_shaped(
    seed: u64,
    rules: Rules,
    shape: Option<Shape>,
    disk: impl Fn(&mut Profile),
) -> Run {
    let mut profile = Profile::drawn(&mut Random::new(seed ^ 0x5eed));
    if let Some(shape) = shape.or_else(|| Shape::drawn(seed)) {
        shape.bend(&mut profile);
    }
    disk(&mut profile);
    guarded(seed, || simulate(seed, profile, rules, &[]))
}

/// Runs a scenario, bent by `disk`.
#[must_use]
pub fn run_scenario(scenario: &Scenario, rules: Rules, disk: impl Fn(&mut Profile)) -> Run {
    let mut profile = scenario.profile();
    disk(&mut profile);
    let seed = scenario.seed;
    guarded(seed, || simulate(seed, profile, rules, &scenario.planned))
}

/// A panic in a run is a violation.
fn guarded(seed: u64, run: impl FnOnce() -> Run) -> Run {
    let outcome = catch_unwind(AssertUnwindSafe(run));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
        let text = PANIC.take().or(text);
        Run {
            seed,
            history: History::default(),
            trace: 0,
            virtual_us: 0,
            steps: 0,
            notes: BTreeMap::new(),
            refused: BTreeMap::new(),
            violations: vec![("assertion".into(), text.unwrap_or_default())],
        }
    })
}

/// Runs seeds on as many threads as there are cores; results come in order of the seeds.
pub fn in_parallel(
    first: u64,
    count: u64,
    run: impl Fn(u64) -> Run + Clone + Send + 'static,
) -> impl Iterator<Item = Run> {
    let count = count.min(u64::MAX - first);
    in_order(count, move |place| run(first + place))
}

/// Makes the things of places `0..count` on as many threads as there are cores; they come in order. When the
/// iterator is dropped no further one is begun.
pub fn in_order<T: Send + 'static>(
    count: u64,
    make: impl Fn(u64) -> T + Clone + Send + 'static,
) -> impl Iterator<Item = T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (sender, receiver) = std::sync::mpsc::sync_channel(64);
    for thread in 0..threads {
        let (sender, make) = (sender.clone(), make.clone());
        let places = (0..count).skip(thread).step_by(threads);
        std::thread::spawn(move || {
            for place in places {
                if sender.send((place, make(place))).is_err() {
                    return;
                }
            }
        });
    }
    drop(sender);
    let mut waiting: BTreeMap<u64, T> = BTreeMap::new();
    let mut next = 0;
    std::iter::from_fn(move || {
        loop {
            if let Some(made) = waiting.remove(&next) {
                next += 1;
                return Some(made);
            }
            let (place, made) = receiver.recv().ok()?;
            waiting.insert(place, made);
        }
    })
}

fn simulate(seed: u64, profile: Profile, rules: Rules, planned: &[Planned]) -> Run {
    let load_us = profile.load_us;
    let mut world = World::new(seed, profile, rules);
    world.follow(planned);
    world.run_until(load_us + 4_000_000);
    world.heal();
    let deadline = world.now_us + CONVERGED_WITHIN_US;
    while world.now_us < deadline {
        world.run_until(world.now_us + 1_000_000);
        if world.converged() {
            break;
        }
    }
    let converged = world.converged();
    world.record_finals();
    let unanswered = match converged {
        true => liveness::demand(&mut world),
        false => Vec::new(),
    };
    // With more replicas nothing is acknowledged that one disk alone holds.
    if world.profile.replicas == 1 {
        world.losses.forgive(&world.nodes, &mut world.history);
    }
    for record in &mut world.history.records {
        record.run = "sim".into();
        record.seed = seed;
    }
    let mut violations: Vec<(String, String)> = Vec::new();
    let named = |name: &str, text: &String| (name.to_owned(), text.clone());
    violations.extend(world.failures.iter().map(|f| named("opens", f)));
    violations.extend(
        world
            .invariants
            .violations()
            .iter()
            .map(|v| named("invariant", v)),
    );
    if !converged {
        let mut text = "replicas were not equal a minute after everything had healed".to_owned();
        for status in world.statuses() {
            text += &format!("\n{status:?}");
        }
        violations.push(("converges".into(), text));
    }
    violations.extend(unanswered.iter().take(3).map(|u| named("liveness", u)));
    violations.extend(judge(&world.history));
    Run {
        seed,
        trace: world.trace(),
        virtual_us: world.now_us,
        steps: world.steps(),
        notes: world.notes,
        refused: world.faults.refused,
        history: world.history,
        violations,
    }
}

/// What every checker has to say against a history; an undecided one counts.
#[must_use]
pub fn judge(history: &History) -> Vec<(String, String)> {
    checker::check_all(history)
        .into_iter()
        .filter_map(|(name, verdict)| match verdict {
            Verdict::Ok => None,
            Verdict::Violation(violation) => Some((name.to_owned(), violation.render(history))),
            Verdict::Unknown { why } => Some((name.to_owned(), format!("undecided: {why}"))),
        })
        .collect()
}
