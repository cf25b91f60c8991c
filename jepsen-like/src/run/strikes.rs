//! The faults of a round: carried out in time, and written into its history with what they mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::forgive::Loss;
use super::gauge::Gauge;
use super::load::Desk;
use super::shipping::Shipping;
use crate::history::Record;
use crate::nemesis::{
    Action, Effect, Layout, Nemesis, NodeIndex, Plan, Planned, Refused, Situation,
};
use crate::target::{RunClock, Target};

/// What came of a plan.
#[derive(Debug, Default)]
pub(super) struct Struck {
    /// How often each kind of fault struck and did what it is about.
    pub(super) strikes: BTreeMap<Nemesis, u64>,
    /// How often each kind of fault was brought about and did nothing: what it was about was so already, or not there.
    pub(super) vain: BTreeMap<Nemesis, u64>,
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

/// What became of the strikes that are under way, by kind.
#[derive(Debug, Default)]
struct Tally(BTreeMap<Nemesis, Strike>);

/// One strike so far.
#[derive(Debug, Default)]
struct Strike {
    /// Whether any of its actions changed something.
    changed: bool,
    /// Whether there was nothing of the data that it is about: a power cut that took nothing away is a kill.
    missed: bool,
}

impl Tally {
    fn note(&mut self, struck: &mut Struck, planned: &Planned, effect: Effect) {
        if planned.begins {
            self.close(struck, planned.of);
            self.0.insert(planned.of, Strike::default());
        }
        // What ends a fault is not the fault. Of one that was broken off nothing is known.
        let strike = self.0.get_mut(&planned.of);
        if let Some(strike) = strike.filter(|_| !planned.action.heals()) {
            let nothing = effect == Effect::Nothing;
            strike.changed |= !nothing;
            strike.missed |= nothing && matches!(planned.action, Action::Data(..));
        }
    }

    fn close(&mut self, struck: &mut Struck, kind: Nemesis) {
        if let Some(strike) = self.0.remove(&kind) {
            let counts = match strike.changed && !strike.missed {
                true => &mut struck.strikes,
                false => &mut struck.vain,
            };
            *counts.entry(kind).or_default() += 1;
        }
    }

    /// Counts those that are still under way, too.
    fn close_all(mut self, struck: &mut Struck) {
        let kinds: Vec<Nemesis> = self.0.keys().copied().collect();
        for kind in kinds {
            self.close(struck, kind);
        }
    }
}

/// Carries a plan out and measures what nodes use all along; returns when the load is over. Its times count `pressed`
/// fold, 0 to 1.
pub(super) async fn carry_out<T: Target>(
    plan: &Plan,
    target: &mut T,
    desk: &Desk,
    (clock, until, pressed): (RunClock, Duration, f64),
) -> Struck {
    let mut gauge = Gauge::new(until);
    let struck = strike(plan, target, desk, (clock, until, pressed), &mut gauge).await;
    gauge.wait(target, desk, clock, until).await;
    struck
}

async fn strike<T: Target>(
    plan: &Plan,
    target: &mut T,
    desk: &Desk,
    (clock, until, pressed): (RunClock, Duration, f64),
    gauge: &mut Gauge,
) -> Struck {
    let layout = target.layout();
    let names = names(target, layout);
    let mut situation = Situation::new(layout);
    let mut shipping = Shipping::new(layout);
    let (mut struck, mut tally) = (Struck::default(), Tally::default());
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
        let due = planned.at.mul_f64(pressed);
        gauge.wait(target, desk, clock, due).await;
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
            Ok(effect) => {
                situation = after;
                tally.note(&mut struck, planned, effect);
                let now_ns = clock.now_ns();
                shipping.apply(&planned.action, began_ns, now_ns);
                note(&mut struck, planned, &shipping, now_ns);
            }
            Err(Refused::NotHere(why)) => {
                tally.0.remove(&planned.of);
                struck.strikes.remove(&planned.of);
                struck.vain.remove(&planned.of);
                struck.not_here.entry(planned.of).or_insert(why);
            }
            Err(Refused::Failed(why)) => struck.failed.push(format!("{}: {why}", planned.action)),
        }
        if ends || struck.not_here.contains_key(&planned.of) {
            desk.record(line(Some(planned), false, &situation, &names, clock));
        }
    }
    tally.close_all(&mut struck);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nemesis::Data;

    /// Notes actions, each with its effect; the first begins the strike.
    fn struck(kind: Nemesis, actions: &[(Action, Effect)]) -> (u64, u64) {
        let (mut struck, mut tally) = (Struck::default(), Tally::default());
        for (at, (action, effect)) in actions.iter().enumerate() {
            let planned = Planned {
                at: Duration::ZERO,
                action: *action,
                of: kind,
                begins: at == 0,
            };
            tally.note(&mut struck, &planned, *effect);
        }
        tally.close_all(&mut struck);
        let count = |of: &BTreeMap<Nemesis, u64>| of.values().sum();
        (count(&struck.strikes), count(&struck.vain))
    }

    #[test]
    fn a_strike_that_did_nothing_is_counted_apart() {
        use Effect::{Changed, Nothing};
        let (kill, start) = (Action::Kill(0), Action::Start(0));
        assert_eq!(
            struck(Nemesis::Kill, &[(kill, Changed), (start, Changed)]),
            (1, 0)
        );
        assert_eq!(
            struck(Nemesis::Kill, &[(kill, Nothing), (start, Changed)]),
            (0, 1)
        );
        let drop = Action::Data(0, Data::DropUnsynced);
        let cut = |lost| [(kill, Changed), (drop, lost), (start, Changed)];
        assert_eq!(struck(Nemesis::PowerCut, &cut(Changed)), (1, 0));
        assert_eq!(
            struck(Nemesis::PowerCut, &cut(Nothing)),
            (0, 1),
            "a kill and no more"
        );
        assert_eq!(struck(Nemesis::Calm, &[]), (0, 0));
    }
}
