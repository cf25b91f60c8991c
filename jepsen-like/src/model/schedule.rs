//! One random schedule: faults and calls by chance, then quiet and one last read, then the verdict.

use hansa_consistency::rules::Rules;

use super::calls::Action;
use super::client::{CALLS_MAX, CLIENTS};
use super::world::{Counts, REGIONS, Shape, World};
use super::{causes, linear};
use crate::random::Random;

/// Steps per schedule with one acceptor per region; more acceptors get more.
const STEPS: u64 = 340;

/// Steps in quiet after which the last read must have been answered.
const QUIET_STEPS: u64 = 20_000;

/// What became of a schedule.
pub(super) struct Outcome {
    pub(super) fingerprint: u64,
    pub(super) calls: u64,
    pub(super) completed: u64,
    pub(super) chosen: u64,
    pub(super) counts: Counts,
    pub(super) violation: Option<String>,
    /// Readable lines, if they were asked for.
    pub(super) lines: Vec<String>,
}

/// Runs the schedule that a seed stands for.
pub(super) fn run(seed: u64, rules: Rules, readable: bool) -> Option<Outcome> {
    let mut random = Random::new(seed);
    let shape = Shape::drawn(&mut random);
    let mut world = World::new(shape, random, rules, readable)?;
    let steps = STEPS * (1 + world.nodes.len() as u64) / 4;
    for _ in 0..steps {
        if world.ledger.violation().is_some() {
            break;
        }
        world.step();
    }
    Some(world.conclude())
}

impl World {
    fn step(&mut self) {
        self.now += 1;
        self.late_arrive(false);
        let draw = self.random.below(1000);
        match draw {
            0..640 => self.deliver_some(),
            640..760 => self.client_step(),
            760..860 => self.timer_step(),
            860..930 => self.ship_step(),
            930..955 => self.eventual_step(),
            955..970 => self.fault_step(),
            _ => self.hand_over(),
        }
    }

    /// Delivers a message: the oldest as often as any.
    fn deliver_some(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let position = match self.random.chance(500) {
            true => 0,
            false => self.random.below(self.network.len() as u64) as usize,
        };
        self.deliver(position);
    }

    fn timer_step(&mut self) {
        let at = self.any_proposer();
        if self.random.chance(10) && !self.history.calls.is_empty() {
            let call = self.random.below(self.history.calls.len() as u64) as usize;
            self.give_up(at, call);
        }
        self.wake(at);
    }

    /// A replica applies the next entry of some origin.
    fn ship_step(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let lags = |(origin, log): (&_, &Vec<_>)| {
            let applied = self.nodes[at].applied.get(origin).copied();
            (applied.unwrap_or(0) < log.len()).then_some(*origin)
        };
        let behind: Vec<_> = self.logs.iter().filter_map(lags).collect();
        if let Some(origin) = self.random.pick(&behind) {
            self.apply_next(at, *origin);
        }
    }

    fn eventual_step(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        self.read_eventually(at);
        if self.history.eventual.len() < self.shape.eventual {
            let client = self.random.below(CLIENTS as u64) as usize;
            self.write_eventually(client, at);
        }
    }

    fn fault_step(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        if self.shape.wipes > 0 && self.readmission.is_none() && self.random.chance(400) {
            self.shape.wipes -= 1;
            self.wipe(at);
        } else if self.random.chance(400) {
            self.crash(at);
        }
    }

    /// Quiet, one last read, and the verdict on everything.
    pub(super) fn conclude(mut self) -> Outcome {
        if self.ledger.violation().is_none() {
            self.look_at_the_end();
            self.judge();
        }
        let calls = &self.history.calls;
        let mut outcome = Outcome {
            fingerprint: self.trace.fingerprint(),
            calls: calls.len() as u64,
            completed: calls.iter().filter(|c| c.reply.is_some()).count() as u64,
            chosen: self.ledger.chosen() as u64,
            counts: self.counts,
            violation: self.ledger.violation().cloned(),
            lines: self.trace.into_lines(),
        };
        if !outcome.lines.is_empty() {
            outcome.lines.extend(self.history.describe());
        }
        outcome
    }

    /// Everything heals, nobody else asks, and one client reads once more.
    fn look_at_the_end(&mut self) {
        while self.readmission.is_some() {
            self.hand_over();
        }
        self.faulty = false;
        self.late_arrive(true);
        self.ship_all();
        for number in 0..REGIONS {
            let at = self.proposer(number);
            for call in 0..self.history.calls.len() {
                self.give_up(at, call);
            }
        }
        let at = self.any_proposer();
        let last = self.call(CLIENTS, Action::Read, at);
        for _ in 0..QUIET_STEPS {
            if self.history.calls[last].reply.is_some() || self.ledger.violation().is_some() {
                return;
            }
            self.now += 1;
            match self.random.below(10) {
                0..7 => self.deliver_some(),
                _ => self.timer_in_quiet(),
            }
        }
        self.ledger
            .violated(|| "S8: a read in quiet was never answered".to_owned());
    }

    fn timer_in_quiet(&mut self) {
        let at = self.any_proposer();
        self.wake(at);
    }

    fn judge(&mut self) {
        for at in 0..self.nodes.len() {
            self.read_eventually(at);
        }
        self.ledger.check_chain();
        let causes = causes::broken(&self.history);
        if let Some(what) = causes.or_else(|| causes::lacks_eventual(&self.history)) {
            self.ledger.violated(|| what);
        }
        debug_assert!(self.history.calls.len() <= CALLS_MAX + 1);
        if !linear::linearizable(&self.history) {
            self.ledger
                .violated(|| "S4: no order of the calls explains their replies".to_owned());
        }
    }
}
