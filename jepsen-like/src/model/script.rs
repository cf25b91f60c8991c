//! Schedules written by hand, for rules that chance reaches too seldom.

use hansa_consistency::rules::Rules;
use hansa_consistency::topology::ValueType;

use super::calls::Action;
use super::world::{Body, Envelope, Shape, World};
use crate::random::Random;

/// A read meets an acceptor that knows a later ballot chosen than the one it accepted (protocol.md 16.3, 1).
///
/// n0 proposes A, which n0 alone accepts. A read at n1 asks n2, which answers that it holds nothing. n1 proposes B,
/// which n1 and n2 accept: chosen. B's entry reaches n0, and only now n0 answers the read: it accepted A, and knows
/// B chosen. That proves nothing about A. Returned is the violation, if the rules in force take it for a proof.
///
/// A adds more than B, so that A's value does not lack B's: else the read would be proposed for another reason.
pub(super) fn commit_above_accepted(rules: Rules) -> Option<String> {
    let shape = Shape {
        per_region: 1,
        value_type: ValueType::Counter,
        dedup_sessions: 8,
        wipes: 0,
        eventual: 0,
    };
    let mut world = World::new(shape, Random::new(1), rules, false)?;
    world.faulty = false;
    world.call(0, Action::Add(64), 0);
    world.pass(|m| between(m, 0, 0) || between(m, 0, 1) && !is_accept(m));
    world.call(1, Action::Read, 1);
    world.pass(|m| between(m, 1, 2));
    world.call(2, Action::Add(32), 1);
    world.pass(|m| !is_read(m) && (between(m, 1, 1) || between(m, 1, 2)));
    let origin = world.nodes[1].origin;
    while world.apply_next(0, origin) {}
    world.pass(|m| is_read(m) && between(m, 0, 1));
    world.conclude().violation
}

/// Whether a message travels between two nodes, in either direction.
fn between(message: &Envelope, one: usize, other: usize) -> bool {
    let ends = (message.from, message.to);
    ends == (one, other) || ends == (other, one)
}

fn is_accept(message: &Envelope) -> bool {
    matches!(message.body, Body::Accept(..))
}

fn is_read(message: &Envelope) -> bool {
    matches!(message.body, Body::Read(_) | Body::Answer(_))
}

impl World {
    /// Delivers every message of a kind, and what it brings about of that kind.
    fn pass(&mut self, kind: impl Fn(&Envelope) -> bool) {
        while let Some(position) = self.network.iter().position(&kind) {
            self.now += 1;
            self.deliver(position);
        }
    }
}
