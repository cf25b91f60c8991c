//! What one value remembers: request ids, groups, versions, totals.

use super::*;
use crate::key::NodeId;
use crate::limits::DEDUP_SESSIONS_MAX;
use crate::version::Dot;

fn origin(node: u16) -> Origin {
    Origin {
        node: NodeId(node),
        incarnation: 1,
    }
}

fn place(n: u64, value_type: ValueType) -> Place {
    Place {
        ballot: Ballot {
            n,
            origin: origin((n % 3) as u16),
        },
        hlc: Hlc(n),
        value_type,
        dedup_sessions: 2,
        rules: Rules::default(),
    }
}

fn operation(action: Action, request: Option<RequestId>) -> Operation {
    Operation {
        action,
        request,
        deps: Context::new(),
    }
}

fn id(session: u64, seq: u32, issued: u64) -> Option<RequestId> {
    Some(RequestId {
        session,
        seq,
        issued: Hlc(issued),
    })
}

fn apply(value: &mut StrongValue, group: &[Operation], place: Place) -> Vec<Outcome> {
    value.apply_group(&errand(group, place.ballot), 0, place)
}

fn errand(group: &[Operation], ballot: Ballot) -> Errand {
    Errand {
        proposer: ballot.origin,
        group: ballot.n,
        oldest: ballot.n,
        operations: group.to_vec(),
        eventual: None,
    }
}

fn increment(value: &mut StrongValue, n: u64, request: Option<RequestId>) -> Outcome {
    let group = [operation(Action::Increment(1), request)];
    let mut outcomes = apply(value, &group, place(n, ValueType::Counter));
    outcomes.pop().unwrap()
}

fn total(value: &StrongValue) -> i64 {
    value.state.as_ref().map_or(0, |s| s.total().unwrap())
}

fn put(value: &str) -> Operation {
    operation(Action::Put(Bytes::copy_from_slice(value.as_bytes())), None)
}

#[test]
fn a_repeated_request_id_gets_the_recorded_outcome() {
    let mut value = StrongValue::default();
    let first = increment(&mut value, 1, id(7, 1, 0));
    assert!(matches!(first, Outcome::Done { total: 1, .. }));
    increment(&mut value, 2, None);
    assert_eq!(increment(&mut value, 3, id(7, 1, 0)), first);
    assert_eq!(total(&value), 2);
    // The session has moved on: what became of its older request is not remembered.
    increment(&mut value, 4, id(7, 3, 0));
    assert_eq!(increment(&mut value, 5, id(7, 2, 0)), Outcome::Unknown);
    assert_eq!(total(&value), 3);
}

#[test]
fn a_request_id_below_the_floor_is_unknown_and_not_applied() {
    let mut value = StrongValue::default();
    for session in 1..=3 {
        increment(&mut value, session, id(session, 1, 10 * session));
    }
    // Two sessions are remembered: the third took the place of the first, issued at 10.
    assert_eq!(increment(&mut value, 4, id(1, 1, 10)), Outcome::Unknown);
    assert_eq!(increment(&mut value, 5, id(9, 1, 10)), Outcome::Unknown);
    assert_eq!(total(&value), 3);
    // Issued later than whatever was forgotten: surely new.
    let new = increment(&mut value, 6, id(9, 1, 11));
    assert!(matches!(new, Outcome::Done { total: 4, .. }));
    let recalled = StrongValue::from_record(&value.to_record()).unwrap();
    assert_eq!(recalled, value);
}

#[test]
fn a_group_proposed_again_takes_effect_once() {
    let mut value = StrongValue::default();
    let group = [put("one"), put("two")];
    let place = place(5, ValueType::Register);
    let first = apply(&mut value, &group, place);
    let chosen = value.clone();
    let again = Place {
        ballot: Ballot {
            n: 99,
            ..place.ballot
        },
        ..place
    };
    let errand = errand(&group, place.ballot);
    assert_eq!(value.apply_group(&errand, 0, again), first);
    assert_eq!(value, chosen);
}

#[test]
fn a_group_that_comes_after_its_proposers_next_one_is_not_applied() {
    let mut value = StrongValue::default();
    let at = |n| Place {
        ballot: Ballot {
            n,
            origin: origin(0),
        },
        ..place(n, ValueType::Register)
    };
    let late = errand(&[put("late"), put("later")], at(5).ballot);
    apply(&mut value, &[put("next")], at(6));
    let before = value.clone();
    // Another node brings it along, under a higher ballot.
    let outcomes = value.apply_group(&late, 0, place(7, ValueType::Register));
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Unknown]);
    assert_eq!(value, before);
}

#[test]
fn groups_under_way_together_take_effect_once_in_any_order() {
    let mut value = StrongValue::default();
    let place = place(9, ValueType::Counter);
    let group = |number, oldest| Errand {
        group: number,
        oldest,
        ..errand(&[operation(Action::Increment(1), None)], place.ballot)
    };
    for number in [3, 1, 2, 1, 3, 2] {
        value.apply_group(&group(number, 1), 0, place);
    }
    assert_eq!(total(&value), 3);
    // The next one says that two of them are through: what became of those is forgotten, and they stay away.
    value.apply_group(&group(4, 3), 0, place);
    let late = value.apply_group(&group(2, 1), 0, place);
    assert_eq!((late, total(&value)), (vec![Outcome::Unknown], 4));
    value.apply_group(&group(3, 3), 0, place);
    assert_eq!(total(&value), 4);
    let recalled = StrongValue::from_record(&value.to_record()).unwrap();
    assert_eq!(recalled, value);
}

#[test]
fn groups_under_one_ballot_have_their_own_tie_breakers() {
    let mut value = StrongValue::default();
    let place = place(4, ValueType::Set);
    let add = [operation(Action::AddElement, None)];
    let other = Errand {
        proposer: origin(9),
        ..errand(&add, place.ballot)
    };
    value.apply_group(&errand(&add, place.ballot), 0, place);
    let once = value.clone();
    value.apply_group(&other, 1, place);
    assert_ne!(value.state, once.state);
    assert_eq!(value.strong_version, 2);
}

#[test]
fn operations_of_a_group_have_their_own_versions_and_outcomes() {
    let mut value = StrongValue::default();
    let swap = |from: &str, to: &str| {
        let expect = Expect::Value(Bytes::copy_from_slice(from.as_bytes()));
        operation(
            Action::CompareAndSet(expect, Some(Bytes::copy_from_slice(to.as_bytes()))),
            None,
        )
    };
    let group = [put("one"), swap("one", "two"), swap("one", "three")];
    let outcomes = apply(&mut value, &group, place(1, ValueType::Register));
    assert_eq!(value.strong_version, 2);
    let Outcome::Done { etag: second, .. } = &outcomes[1] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(*second, value.etag());
    assert_eq!(
        outcomes[2],
        Outcome::ConditionFailed {
            etag: second.clone()
        }
    );
    assert_ne!(
        outcomes[0],
        Outcome::Done {
            etag: second.clone(),
            total: 0
        }
    );
}

#[test]
fn reading_changes_nothing() {
    let mut value = StrongValue::default();
    apply(&mut value, &[put("one")], place(1, ValueType::Register));
    let before = value.clone();
    let read = [operation(Action::Read, None)];
    apply(&mut value, &read, place(2, ValueType::Register));
    assert_eq!(value, before);
}

#[test]
fn a_deleted_counter_keeps_increments_it_had_not_seen() {
    let mut value = StrongValue::default();
    increment(&mut value, 1, None);
    let seen = Counter::of(Actor::Origin(origin(0)), (5, 0));
    value.absorb(&State::Counter(seen), &Context::new(), Rules::default());
    let delete = [operation(Action::Delete, None)];
    apply(&mut value, &delete, place(2, ValueType::Counter));
    assert_eq!(total(&value), 0);
    let late = Counter::of(Actor::Origin(origin(0)), (8, 0));
    value.absorb(&State::Counter(late), &Context::new(), Rules::default());
    assert_eq!(total(&value), 3);
}

#[test]
fn a_strong_remove_takes_away_what_it_saw_and_no_more() {
    let mut value = StrongValue::default();
    let add = |seq| {
        State::Element(Element::added(Dot {
            origin: origin(0),
            seq,
        }))
    };
    let add_strongly = [operation(Action::AddElement, None)];
    let remove = [operation(Action::RemoveElement, None)];
    value.absorb(&add(1), &Context::new(), Rules::default());
    apply(&mut value, &add_strongly, place(1, ValueType::Set));
    apply(&mut value, &remove, place(2, ValueType::Set));
    let present = |value: &StrongValue| value.state.as_ref().is_some_and(State::present);
    assert!(!present(&value));
    value.absorb(&add(1), &Context::new(), Rules::default());
    assert!(!present(&value), "a removed add came back");
    value.absorb(&add(2), &Context::new(), Rules::default());
    assert!(
        present(&value),
        "an add that the remove had not seen was lost"
    );
}

#[test]
fn an_increment_that_would_overflow_is_not_applied() {
    let mut value = StrongValue::default();
    let group = [
        operation(Action::Increment(i64::MAX), None),
        operation(Action::Increment(1), None),
        operation(Action::Increment(-1), None),
    ];
    let outcomes = apply(&mut value, &group, place(1, ValueType::Counter));
    assert_eq!(outcomes[1], Outcome::Overflow);
    assert_eq!(total(&value), i64::MAX - 1);
}

/// The bytes of a value that remembers as many sessions as it may, each with one operation of its own.
fn encoded_with_all_sessions(value_type: ValueType, action: &Action) -> usize {
    let moment = 1_700_000_000_000 << 16;
    let mut value = StrongValue::default();
    for n in 1..=DEDUP_SESSIONS_MAX as u64 + 1 {
        let session = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let request = id(session, 1000, moment + n);
        let place = Place {
            hlc: Hlc(moment + n),
            dedup_sessions: DEDUP_SESSIONS_MAX,
            ..place(moment + n, value_type)
        };
        apply(&mut value, &[operation(action.clone(), request)], place);
    }
    assert_eq!(value.dedup.len(), DEDUP_SESSIONS_MAX);
    value.to_record().len()
}

/// What the sessions' latest requests add to every vote that carries the value: see
/// `docs/decisions/0009-request-ids-travel-with-the-value.md`.
#[test]
fn remembering_all_sessions_costs_a_known_number_of_bytes() {
    let put = Action::Put(Bytes::from_static(b"x"));
    let register = encoded_with_all_sessions(ValueType::Register, &put);
    let counter = encoded_with_all_sessions(ValueType::Counter, &Action::Increment(1));
    assert!(register <= 65_536, "{register}");
    assert!(counter <= 53_248, "{counter}");
}
