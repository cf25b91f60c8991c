//! Schedules written by hand, for rules that chance reaches too seldom.

use std::sync::Arc;

use hansa_consistency::roster::Ends;

use super::broken::Broken;
use super::decree::Want;
use super::roster::{first_roster, node};
use super::world::{Body, Envelope, World};
use crate::random::Random;

/// How far the clocks of the others run ahead of the one that begins again.
const AHEAD: u64 = 1000;

/// A node is let in by one other, and writes under a clock below the one that everybody else has reached.
///
/// The logs of n0 have ended, as everybody knows. n0 begins again: n1 accepts, and that is a majority, but n1 does not
/// hear that it is. The clocks of n1 and n2 run ahead, and both state that they have told everything up to there: to
/// the reader n3, who does not know n0's roster; to the reader n4, who does, tells n3 in turn, and crashes; and n2
/// tells n1. Then n0 writes, n2 holds the entry, and it counts. Nobody may believe to have had everything.
pub(super) fn one_is_let_in(broken: Option<Broken>) -> Option<String> {
    let mut world = World::new(3, Random::new(1), broken, false)?;
    world.faulty = false;
    world.close_the_first();
    world.propose(0, Want::Begin);
    let decides = |m: &Envelope| !matches!(m.body, Body::Nothing);
    world.pass(|m| decides(m) && m.from < 2 && m.to < 2);
    world.pass(|m| m.from == 0 && m.to == 4);
    world.network.clear();
    for at in [1, 2] {
        world.nodes[at].clock += AHEAD;
    }
    for (from, to) in [(1, 3), (2, 3), (1, 4), (2, 4), (2, 1)] {
        world.heartbeat(from, to);
        world.pass(|_| true);
    }
    world.pull(3, 4);
    world.pass(|_| true);
    world.crash(4);
    world.resume(4);
    for at in 0..world.nodes.len() {
        world.note_safe_time(at);
    }
    world.write_of(0, 0, 0, false);
    world.pass(|m| m.from + m.to == 2 && m.from != m.to);
    if !world.calls.iter().any(|call| call.acknowledged) {
        return Some("the script's write is not answered".to_owned());
    }
    world.ledger.violation().cloned()
}

/// All but one are closed, and those two let each other in.
///
/// The logs of n0 have ended, and n2 would end those of n1 too, with n0's promise. If it may, n2 is all that the reader n3
/// counts. Then n0 begins again with n1's accept, and writes under a clock below the one that n2 has reached since.
pub(super) fn one_is_left(broken: Option<Broken>) -> Option<String> {
    let mut world = World::new(3, Random::new(1), broken, false)?;
    world.faulty = false;
    world.close_the_first();
    world.propose(2, Want::Close(1));
    world.pass(|_| true);
    world.propose(0, Want::Begin);
    let decides = |m: &Envelope| !matches!(m.body, Body::Nothing);
    world.pass(|m| decides(m) && m.from < 2 && m.to < 2);
    world.network.clear();
    world.nodes[2].clock += AHEAD;
    world.heartbeat(2, 3);
    world.pass(|_| true);
    world.write_of(0, 0, 0, false);
    world.pass(|m| m.from + m.to == 1);
    world.ledger.violation().cloned()
}

impl World {
    /// Everybody knows that the first node's logs ended, empty.
    fn close_the_first(&mut self) {
        let roster = first_roster(self.home).closing(node(0), Ends::new());
        let roster = Arc::new(roster);
        self.ledger.chosen(&roster);
        for at in 0..self.nodes.len() {
            self.learn_roster(at, &roster);
        }
    }

    /// Delivers every message of a kind, and what it brings about of that kind.
    fn pass(&mut self, kind: impl Fn(&Envelope) -> bool) {
        while let Some(position) = self.network.iter().position(&kind) {
            self.now += 1;
            self.deliver(position);
        }
    }
}
