//! The faults of a round: carried out in time, and written into its history with what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::forgive::Loss;
use super::load::Desk;
use super::shipping::Shipping;
use crate::history::Record;
use crate::nemesis::{Action, Layout, Nemesis, NodeIndex, Plan, Planned, Refused, Situation};
use crate::target::{RunClock, Target};

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Struck {
    /// How often each kind of fault began.
    pub(super) strikes: BTreeMap<Nemesis, u64>,
    /// Kinds of which something could not be done here, and what would be needed.
    pub(super) not_here: BTreeMap<Nemesis, String>,
    /// What failed: the harness is broken.
    pub(super) failed: Vec<String>,
    /// Disks that lost what they had synced.
    pub(super) destroyed: Vec<Loss>,
    /// Nodes of which there was a second process.
    pub(super) cloned: BTreeSet<NodeIndex>,
}

impl Struck {
    /// Nodes that may have lost something: they need not serve as before.
    pub(super) fn spoilt(&self) -> BTreeSet<NodeIndex> {
        let destroyed = self.destroyed.iter().map(|loss| loss.node);
        destroyed.chain(self.cloned.iter().copied()).collect()
    }
}

/// Carries a plan out; returns when its last action is done or the load is over.
pub(super) async fn carry_out<T: Target>(
    plan: &Plan,
    target: &mut T,
    desk: &Desk,
    (clock, until): (RunClock, Duration),
) -> Struck {
    let layout = target.layout();
    let names = names(target, layout);
    let mut situation = Situation::new(layout);
    let mut shipping = Shipping::new(layout);
    let mut struck = Struck::default();
    if !target.brings_faults() {
        // What is cut there is not known here: nothing is said of it.
        for planned in plan.planned() {
            if let Err(Refused::NotHere(why)) = target.act(planned.action).await {
                struck.not_here.insert(planned.of, why);
            }
        }
        return struck;
    }
    desk.record(line(None, false, &situation, &names, clock));
    for kind in plan.idle() {
        let why = "more nodes or a longer round: this plan has no place for it";
        struck.not_here.insert(kind, why.to_owned());
    }
    for planned in plan.planned() {
        tokio::time::sleep(planned.at.saturating_sub(clock.elapsed())).await;
        if clock.elapsed() >= until {
            break;
        }
        // Of a kind that can not be done here no more is done, but what of it was begun comes to its end.
        if struck.not_here.contains_key(&planned.of) && !planned.action.heals() {
            continue;
        }
        // A fault counts from before it strikes, its end from after it ended.
        let mut after = situation.clone();
        after.apply(&planned.action, clock.elapsed());
        let ends = planned.action.heals();
        if !ends {
            desk.record(line(Some(planned), false, &after, &names, clock));
        }
        let began_ns = clock.now_ns();
        let done = target.act(planned.action).await;
        match done {
            Ok(()) => {
                situation = after;
                let now_ns = clock.now_ns();
                shipping.apply(&planned.action, began_ns, now_ns);
                note(&mut struck, planned, &shipping, now_ns);
            }
            Err(Refused::NotHere(why)) => {
                struck.strikes.remove(&planned.of);
                struck.not_here.entry(planned.of).or_insert(why);
            }
            Err(Refused::Failed(why)) => struck.failed.push(format!("{}: {why}", planned.action)),
        }
        if ends || struck.not_here.contains_key(&planned.of) {
            desk.record(line(Some(planned), false, &situation, &names, clock));
        }
    }
    struck
}

/// The line that everything was healed; none where nobody here knows what was not.
pub(super) fn healed<T: Target>(target: &T, clock: RunClock) -> Option<Record> {
    let layout = target.layout();
    let (situation, names) = (Situation::new(layout), names(target, layout));
    let line = line(None, true, &situation, &names, clock);
    target.brings_faults().then_some(line)
}

fn note(struck: &mut Struck, planned: &Planned, shipping: &Shipping, now_ns: u64) {
    if planned.begins && !struck.not_here.contains_key(&planned.of) {
        *struck.strikes.entry(planned.of).or_default() += 1;
    }
    match planned.action {
        Action::Data(node, data) if data.destroys() => {
            struck.destroyed.push(Loss {
                node,
                shipped_before_ns: shipping.shipped_before(node, now_ns),
                when_ns: now_ns,
            });
        }
        Action::Clone(node) => {
            struck.cloned.insert(node);
        }
        _ => {}
    }
}

fn names<T: Target>(target: &T, layout: Layout) -> Vec<String> {
    let regions = 0..layout.regions;
    regions.map(|it| target.region_name(it)).collect()
}

/// A line of the history: what is done, and what each region is promised from now on.
fn line(
    planned: Option<&Planned>,
    ended: bool,
    situation: &Situation,
    names: &[String],
    clock: RunClock,
) -> Record {
    let now = clock.now_ns();
    situation.event(names, planned, ended).record(now, now)
}
