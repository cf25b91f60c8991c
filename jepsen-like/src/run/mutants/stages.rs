//! Faults in an order and at moments that a plan drawn from a seed hardly ever comes to.
//!
//! All of them are told to three regions of one node each: A, B and C.

use std::time::Duration;

use crate::nemesis::{Action, Data, Disk, Nemesis, NodeIndex, Planned, Wire};

const A: NodeIndex = 0;
const B: NodeIndex = 1;
const C: NodeIndex = 2;

/// A stage being written down.
#[derive(Default)]
struct Stage(Vec<Planned>);

impl Stage {
    /// A fault begins with these, so many milliseconds after the load began and not before what was written down earlier.
    fn begin(self, ms: u64, of: Nemesis, actions: &[Action]) -> Stage {
        let first = self.0.len();
        let mut stage = self.then(ms, of, actions);
        if let Some(planned) = stage.0.get_mut(first) {
            planned.begins = true;
        }
        stage
    }

    /// It goes on or ends with these.
    fn then(mut self, ms: u64, of: Nemesis, actions: &[Action]) -> Stage {
        let planned = |action: &Action| Planned {
            at: Duration::from_millis(ms),
            action: *action,
            of,
            begins: false,
        };
        self.0.extend(actions.iter().map(planned));
        self
    }
}

/// Both directions between two nodes do this.
fn between(a: NodeIndex, b: NodeIndex, wire: Wire) -> [Action; 2] {
    [Action::Wire(a, b, wire), Action::Wire(b, a, wire)]
}

/// C hears nobody, and nobody it.
fn without_c(wire: Wire) -> Vec<Action> {
    [between(A, C, wire), between(B, C, wire)].concat()
}

/// A and B choose values without C. A loses power, and of what it had synced the last milliseconds; then B is cut off,
/// and A and C are a majority of which neither knows the last values.
pub(super) fn forgotten_votes(tail_ms: u64) -> Vec<Planned> {
    use Nemesis::{LostTail, RegionIsolation, Reset};
    let lost = Action::Data(A, Data::LoseTail(tail_ms));
    Stage::default()
        .begin(1_500, RegionIsolation, &without_c(Wire::Blackhole))
        .begin(4_500, LostTail, &[Action::Kill(A), lost])
        // What A said before has arrived at B, and never arrives at C.
        .begin(4_700, Reset, &between(A, C, Wire::Reset))
        .then(4_700, RegionIsolation, &between(A, B, Wire::Blackhole))
        .then(4_800, Reset, &between(A, C, Wire::Open))
        .then(4_800, LostTail, &[Action::Start(A)])
        .0
}

/// How much later than usual A hears from B, milliseconds.
const LATE_MS: u64 = 1_000;

/// A second start of A on one copy of its data: B, which knows the first one, answers late, and hands A's log back later
/// still. Between the two B is cut off, and A and C are a majority of which neither knows what A and B chose.
pub(super) fn started_twice() -> Vec<Planned> {
    use Nemesis::{Delay, OldCopy, RegionIsolation, Reset};
    let kept = Action::Data(A, Data::Keep);
    let restored = Action::Data(A, Data::Restore);
    let late = Action::Wire(B, A, Wire::Delay(LATE_MS));
    let again = [Action::Kill(A), restored, Action::Start(A)];
    Stage::default()
        .begin(800, RegionIsolation, &without_c(Wire::Blackhole))
        .begin(800, OldCopy, &[Action::Kill(A), kept, Action::Start(A)])
        .begin(3_000, Delay, &[late])
        .then(3_000, OldCopy, &again)
        // A link stands after one journey from B to A, B's answer comes with the next, A's log with two more.
        .begin(6_000, Reset, &between(A, C, Wire::Reset))
        .then(6_000, RegionIsolation, &between(A, B, Wire::Blackhole))
        .then(6_100, Reset, &between(A, C, Wire::Open))
        .0
}

/// How much longer a sync of B takes, milliseconds: more than lies between two questions of nodes to each other what they
/// hold.
const HELD_MS: u64 = 1_200;

/// C is cut off. B's syncs take long, and its power goes in the middle of one; then A's disk is replaced. What A
/// acknowledged with B's word for it is on no other disk.
pub(super) fn word_of_the_other() -> Vec<Planned> {
    use Nemesis::{PowerCut, Reset, SlowDisk, WipedNode};
    let slow = Action::Disk(B, Disk::Slow(HELD_MS));
    let cut = Action::Data(B, Data::DropUnsynced);
    let wiped = Action::Data(A, Data::Wipe);
    Stage::default()
        // Not a black hole: nothing is to come to C afterwards.
        .begin(4_500, Reset, &without_c(Wire::Reset))
        .begin(4_500, SlowDisk, &[slow])
        .begin(6_000, PowerCut, &[Action::Kill(B), cut])
        // What B said before has arrived at A, and been answered.
        .begin(6_200, WipedNode, &[Action::Kill(A), wiped])
        .then(6_200, SlowDisk, &[Action::Disk(B, Disk::Healthy)])
        .then(6_400, Reset, &[Action::HealWires])
        .then(6_400, PowerCut, &[Action::Start(B)])
        .then(6_400, WipedNode, &[Action::Start(A)])
        .0
}

/// The power of one node after the other goes in the middle of a sync, and of what was not synced a part is there.
pub(super) fn torn_often() -> Vec<Planned> {
    const EVERY_MS: u64 = 900;
    (1..=10)
        .fold(Stage::default(), |stage, number| {
            let node = (number % 3) as NodeIndex;
            let torn = Action::Data(node, Data::Tear);
            let all = [Action::Kill(node), torn, Action::Start(node)];
            stage.begin(number * EVERY_MS, Nemesis::TornWrite, &all)
        })
        .0
}
