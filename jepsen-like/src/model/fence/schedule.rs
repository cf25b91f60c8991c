//! One random schedule: faults, writes and reads by chance, then quiet, in which the living must go on.

use std::sync::Arc;

use hansa_consistency::clock::Hlc;
use hansa_consistency::quorum::majority;
use hansa_consistency::roster::Acceptor;
use hansa_consistency::version::Ballot;

use super::broken::Broken;
use super::decree::Want;
use super::roster::{first_roster, is_closed};
use super::sessions::WRITES_MAX;
use super::world::{Counts, Life, ROWS, World};
use crate::random::Random;

/// How often, of a thousand steps, one delivers, writes, reads, tells, decides, jumps ahead in time, or is a fault.
pub(super) type Weights = [u64; 7];

/// Everything happens.
const MIXED: Weights = [600, 80, 100, 120, 50, 20, 30];

/// Few faults and many statements, and clocks that differ much: for what nodes believe while rosters change.
const HURRIED: Weights = [470, 70, 30, 250, 90, 80, 10];

/// Many proposals, many crashes, and a network that loses much.
const TORN: Weights = [450, 60, 40, 120, 190, 20, 120];

/// Steps per schedule.
const STEPS: u64 = 420;

/// Steps in quiet within which everybody alive must have everything.
const QUIET_STEPS: u64 = 20_000;

/// A proposal not decided after so many steps is given up.
const PROPOSAL_STEPS: u64 = 120;

/// What became of a schedule.
pub(super) struct Outcome {
    pub(super) fingerprint: u64,
    pub(super) writes: u64,
    pub(super) acknowledged: u64,
    pub(super) counts: Counts,
    pub(super) violation: Option<String>,
    /// Readable lines, if they were asked for.
    pub(super) lines: Vec<String>,
}

/// Runs the schedule that a seed stands for.
pub(super) fn run(seed: u64, broken: Option<Broken>, readable: bool) -> Option<Outcome> {
    let mut random = Random::new(seed);
    let home = match random.below(10) {
        0 => 1,
        1 | 2 => 5,
        _ => 3,
    };
    let (weights, lost_permille) = match random.below(10) {
        0..3 => (MIXED, 60),
        3..7 => (HURRIED, 60),
        _ => (TORN, 300),
    };
    let mut world = World::new(home, random, broken, readable)?;
    world.weights = weights;
    world.lost_permille = lost_permille;
    for _ in 0..STEPS {
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
        let mut draw = self.random.below(1000);
        for (what, weight) in (0..).zip(self.weights) {
            if draw < weight {
                self.step_of(what);
                break;
            }
            draw -= weight;
        }
        // Clocks go on by themselves: everybody's turn comes.
        let at = (self.now % self.nodes.len() as u64) as usize;
        if self.nodes[at].life == Life::Up {
            self.note_safe_time(at);
        }
    }

    fn step_of(&mut self, what: usize) {
        match what {
            0 => self.deliver_some(),
            1 => self.client_writes(),
            2 => self.client_reads(),
            3 => self.tell_some(),
            4 => self.decide_some(),
            5 => self.jump_clock(),
            _ => self.fault(),
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

    /// Somebody sends a heartbeat, asks for entries or pushes its own again.
    fn tell_some(&mut self) {
        let nodes = self.nodes.len() as u64;
        let at = self.random.below(nodes) as usize;
        let to = self.random.below(nodes) as usize;
        if at == to || self.nodes[at].life != Life::Up {
            return;
        }
        match self.random.below(10) {
            0..5 => self.heartbeat(at, to),
            5..9 => self.pull(at, to),
            _ => self.push(at),
        }
    }

    /// Somebody closes whom it takes for dead, rightly or not, begins again or settles what is open.
    fn decide_some(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let other = self.random.below(self.home as u64) as usize;
        if self.nodes[at].life != Life::Up || at == other {
            return;
        }
        if self.home == 1 && at > 0 && self.broken(Broken::ClosedFromOutside) {
            self.close_from_outside(at, other);
        }
        if at >= self.home || self.busy(at) {
            return;
        }
        let begins = self.may_begin(at) || self.random.chance(20);
        let want = match self.nodes[at].acceptor.unresolved() {
            Some(_) if self.random.chance(500) => Want::Settle,
            _ if begins && self.random.chance(700) => Want::Begin,
            _ => Want::Close(other),
        };
        let down = self.nodes[other].life != Life::Up || self.nodes[other].lost;
        if !matches!(want, Want::Close(_)) || down || self.random.chance(300) {
            self.propose(at, want);
        }
    }

    /// Whether a proposal of a node is under way.
    fn busy(&mut self, at: usize) -> bool {
        let now = self.now;
        let proposal = self.nodes[at].proposal.as_ref();
        proposal.is_some_and(|p| now < p.since + PROPOSAL_STEPS)
    }

    /// Whether a node's logs ended, or will, and it may begin new ones.
    fn may_begin(&self, at: usize) -> bool {
        let node = &self.nodes[at];
        !node.lost && (node.refused || is_closed(&node.roster, at))
    }

    fn jump_clock(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        self.nodes[at].clock += self.random.between(1, 30);
    }

    fn fault(&mut self) {
        let at = self.random.below(self.nodes.len() as u64) as usize;
        match self.random.below(100) {
            0..18 if self.nodes[at].life == Life::Up => self.nodes[at].life = Life::Paused,
            18..40 if self.nodes[at].life != Life::Down => self.crash(at),
            40..75 => self.resume(at),
            75..80 if at < self.home && self.wipes > 0 && !self.nodes[at].lost => self.wipe(at),
            80..90 => {
                let to = self.random.below(self.nodes.len() as u64) as usize;
                self.cut.insert((at, to));
            }
            90..100 => self.cut.clear(),
            _ => {}
        }
    }

    /// A node ends. Its disk keeps everything but what nobody relies on.
    pub(super) fn crash(&mut self, at: usize) {
        let (fence, roster) = (Broken::FenceNotDurable, Broken::RosterNotKept);
        let no_promise = self.broken(Broken::PromiseNotDurable);
        let (no_fence, no_roster) = (self.broken(fence), self.broken(roster) && at >= self.home);
        let node = &mut self.nodes[at];
        node.life = Life::Down;
        node.proposal = None;
        node.waiting.clear();
        node.acknowledged.clear();
        node.refused = false;
        if no_fence {
            node.acceptor.fences.clear();
        }
        if no_roster {
            node.roster = node.roster_before.clone();
        }
        if no_promise {
            node.acceptor.promised = Ballot::ZERO;
            node.acceptor.accepted = None;
        }
        let now = self.now;
        self.trace
            .note(now, (b'c', at), || format!("n{at} crashes"));
    }

    /// A node runs again; one that crashed may log under a fresh name, since it is not sure of the old one's end.
    pub(super) fn resume(&mut self, at: usize) {
        let fresh = self.random.chance(300);
        let node = &mut self.nodes[at];
        let crashed = node.life == Life::Down;
        node.life = Life::Up;
        if crashed
            && fresh
            && !node.lost
            && let Some((_, term)) = node.writes
        {
            node.writes = Some((node.next_origin(at), term));
        }
        let now = self.now;
        self.trace.note(now, (b's', at), || format!("n{at} runs"));
    }

    /// A node loses its disk.
    fn wipe(&mut self, at: usize) {
        self.crash(at);
        self.wipes -= 1;
        let home = self.home;
        let node = &mut self.nodes[at];
        node.lost = true;
        node.life = Life::Up;
        node.roster = Arc::new(first_roster(home));
        node.acceptor = Acceptor::default();
        node.logs.clear();
        node.view = vec![None; ROWS];
        node.known = vec![Hlc::ZERO; home];
        node.stated = vec![None; home];
        node.writes = None;
        node.rest.clear();
        self.ledger.forgets(at);
        // What it had acknowledged before does not count any more, once others hear of it.
        for other in &mut self.nodes {
            other.acknowledged.retain(|(_, node), _| *node != at);
        }
        let now = self.now;
        self.trace
            .note(now, (b'x', at), || format!("n{at} loses its disk"));
    }

    /// Quiet, and the verdict on everything.
    pub(super) fn conclude(mut self) -> Outcome {
        if self.ledger.violation().is_none() {
            self.calm();
            self.look_at_the_end();
        }
        let acknowledged = self.calls.iter().filter(|call| call.acknowledged);
        Outcome {
            writes: self.calls.len() as u64,
            acknowledged: acknowledged.count() as u64,
            fingerprint: self.trace.fingerprint(),
            counts: self.counts,
            violation: self.ledger.violation().cloned(),
            lines: self.trace.into_lines(),
        }
    }

    /// The network is whole; who is down comes back or stays away for good.
    fn calm(&mut self) {
        self.faulty = false;
        self.cut.clear();
        for at in 0..self.nodes.len() {
            let stays_away = at < self.home && self.random.chance(400);
            match self.nodes[at].life {
                Life::Down if stays_away => {}
                Life::Up => {}
                Life::Down | Life::Paused => self.resume(at),
            }
        }
    }

    /// Whether a node of the region is there, with its disk.
    fn sound(&self, at: usize) -> bool {
        at < self.home && self.nodes[at].life == Life::Up && !self.nodes[at].lost
    }

    fn look_at_the_end(&mut self) {
        let sound = (0..self.home).filter(|at| self.sound(*at)).count();
        let must_go_on = sound >= majority(self.home);
        let mut wrote = false;
        for step in 0..QUIET_STEPS {
            if self.ledger.violation().is_some() {
                return;
            }
            let settled = step % 16 == 0 && self.settled();
            if settled && wrote {
                break;
            }
            if settled {
                wrote = true;
                self.write_everywhere();
            }
            self.now += 1;
            match self.random.below(100) {
                0..80 => self.deliver_some(),
                80..97 => self.tell_some(),
                _ => self.decide_in_quiet(),
            }
        }
        let done = wrote && self.settled();
        let wants = self.calls.len() < WRITES_MAX;
        self.ledger.violated_if(must_go_on && wants && !done, || {
            "F6: in quiet somebody alive lacks something, or is not served".to_owned()
        });
        if done && must_go_on {
            self.look_for_every_write();
            self.look_at_heartbeats();
        }
    }

    /// Every sound node takes one more write.
    fn write_everywhere(&mut self) {
        for at in (0..self.home)
            .filter(|at| self.sound(*at))
            .collect::<Vec<_>>()
        {
            self.write_of(0, at, 0, false);
        }
    }

    /// Everybody alive serves every session, and everybody sound writes.
    fn settled(&self) -> bool {
        let newest = self.newest_token();
        let alive = (0..self.nodes.len()).filter(|at| self.nodes[*at].life == Life::Up);
        let serves = |at: usize| self.safe_time(at) >= newest;
        let shows = |at: usize| self.shown_at(at) == self.shown_at(self.nodes.len() - 1);
        let writes = |at: usize| {
            let node = &self.nodes[at];
            let open = node.writes.is_some() && !node.refused;
            let decided = node.acceptor.unresolved().is_none();
            let open = open && decided && self.oldest_uncommitted(at).is_none();
            !self.sound(at) || open && node.waiting.is_empty() && node.rest.is_empty()
        };
        alive.into_iter().all(|at| {
            // Who lost its disk and was not closed yet is waited for by its own sessions too.
            serves(at) && shows(at) && (at >= self.home || writes(at))
        })
    }

    fn decide_in_quiet(&mut self) {
        let at = self.random.below(self.home as u64) as usize;
        if !self.sound(at) || self.busy(at) {
            return;
        }
        let node = &self.nodes[at];
        let gone = |other: &usize| !self.sound(*other) && !is_closed(&node.roster, *other);
        if node.acceptor.unresolved().is_some() {
            self.propose(at, Want::Settle);
        } else if self.may_begin(at) {
            self.propose(at, Want::Begin);
        } else if let Some(other) = (0..self.home).find(gone) {
            self.propose(at, Want::Close(other));
        }
    }

    /// Where everything is, one more heartbeat of everybody is believed by everybody, without anybody's relay.
    fn look_at_heartbeats(&mut self) {
        self.network.clear();
        let alive = |world: &World, at: &usize| world.nodes[*at].life == Life::Up;
        let nodes: Vec<usize> = (0..self.nodes.len()).filter(|at| alive(self, at)).collect();
        let sound: Vec<usize> = nodes.iter().copied().filter(|at| self.sound(*at)).collect();
        for at in &sound {
            for to in nodes.iter().filter(|to| *to != at) {
                self.heartbeat(*at, *to);
            }
        }
        while !self.network.is_empty() {
            self.deliver(0);
        }
        for at in nodes {
            let open = sound
                .iter()
                .find(|about| self.nodes[at].stated[**about].is_some());
            self.ledger.violated_if(open.is_some(), || {
                format!("F6: n{at} waits in vain for what n{open:?} stated")
            });
        }
    }

    /// No acknowledged write is missing anywhere.
    fn look_for_every_write(&mut self) {
        for at in 0..self.nodes.len() {
            if self.nodes[at].life != Life::Up {
                continue;
            }
            let shown = self.shown_at(at);
            let lacks = |w: &usize| self.calls[*w].acknowledged && shown & (1 << w) == 0;
            let lost = (0..self.calls.len()).find(lacks);
            self.ledger.violated_if(lost.is_some(), || {
                format!("F7: write {lost:?} was acknowledged and is not at n{at}")
            });
        }
    }
}
