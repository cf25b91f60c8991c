//! Schedules written by hand, for rules that chance reaches too seldom.

use hansa_consistency::rules::Rules;
use hansa_consistency::topology::ValueType;

use super::calls::Action;
use super::world::{Body, Envelope, Shape, World};
use crate::sim::random::Random;

/// A log entry names a later ballot than the newest accepted one that a read sees (protocol.md 16.3, 1).
///
/// n0 proposes A, which n0 alone accepts. A read at n1 asks n2, which answers that it holds nothing. n1 proposes B,
/// which n1 and n2 accept: chosen. B's entry reaches n0, and only now n0 answers the read: it accepted A, and knows B
/// chosen. That proves nothing about A. The violation, if the rules in force let the read take it for a proof.
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
    world.call(0, Action::Add(32), 0);
    world.pass(|m| matches!(m.body, Body::Prepare(_) | Body::Promised(..)) && touches(m, [0, 1]));
    world.pass(|m| matches!(m.body, Body::Accept(..)) && m.to == 0);
    world.call(1, Action::Read, 1);
    world.pass(|m| {
        matches!(m.body, Body::Read(_) | Body::Answer(_))
            && touches(m, [1, 2])
            && m.to + m.from != 2
    });
    world.call(2, Action::Add(64), 1);
    // The first ballot of n1 may lie below A's: refusals lift its clock, and it tries again.
    for _ in 0..8 {
        world.now += world.patience();
        world.wake(1);
        world.pass(|m| !is_read(m) && touches(m, [1, 2]));
    }
    let origin = world.nodes[1].origin;
    while world.apply_next(0, origin) {}
    world.pass(|m| is_read(m) && touches(m, [0, 1]));
    world.conclude().violation
}

fn touches(message: &Envelope, nodes: [usize; 2]) -> bool {
    nodes.contains(&message.from) && nodes.contains(&message.to)
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
