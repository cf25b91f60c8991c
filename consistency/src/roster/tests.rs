use proptest::prelude::*;

use super::*;

const X: NodeId = NodeId(0);
const SHARD: ShardId = ShardId {
    keyspace: KeyspaceId(1),
    index: 2,
};

fn nodes(count: u16) -> impl Iterator<Item = NodeId> {
    (0..count).map(NodeId)
}

fn origin(node: NodeId, incarnation: u32) -> Origin {
    Origin { node, incarnation }
}

fn ballot(n: u64) -> Ballot {
    Ballot {
        n,
        origin: origin(NodeId(1), 1),
    }
}

fn ends(incarnation: u32, seq: Seq) -> Ends {
    Ends::from([((SHARD, origin(X, incarnation)), seq)])
}

#[test]
fn a_term_ends_when_its_node_is_closed_or_begins_again() {
    let first = Roster::first(nodes(3));
    assert!(!first.has_ended(X, 0));
    let closed = first.closing(X, ends(1, 5));
    assert!(closed.has_ended(X, 0) && closed.term(X).is_none());
    let opened = closed.opening(X, ends(2, 0));
    assert_eq!(opened.term(X), Some(2));
    assert!(opened.has_ended(X, 0) && !opened.has_ended(X, 2));
    assert_eq!(first.opening(X, Ends::new()).term(X), Some(1));
    assert!(!opened.has_ended(NodeId(1), 0));
}

#[test]
fn an_end_never_changes() {
    let closed = Roster::first(nodes(3)).closing(X, ends(1, 5));
    let again = closed.opening(X, ends(1, 9)).closing(X, ends(1, 7));
    assert_eq!(again.ends(), &ends(1, 5));
    assert_eq!(again.new_ends(&closed).count(), 0);
}

#[test]
fn a_majority_stays_open() {
    for (count, closable) in [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2), (7, 3)] {
        let mut roster = Roster::first(nodes(count));
        let mut closed = 0;
        for node in nodes(count) {
            if roster.may_close(node) {
                roster = roster.closing(node, Ends::new());
                closed += 1;
                assert!(!roster.may_close(node), "twice");
            }
        }
        assert_eq!(closed, closable, "{count} replicas");
    }
}

#[test]
fn the_longest_prefix_counts() {
    let log = (SHARD, origin(X, 1));
    let other = (SHARD, origin(X, 2));
    let found = longest([(log, 3), (other, 0), (log, 5), (log, 4)]);
    assert_eq!(found, Ends::from([(log, 5), (other, 0)]));
}

#[test]
fn a_promise_refuses_lower_ballots_and_the_fenced_node() {
    let known = Roster::first(nodes(3));
    let mut acceptor = Acceptor::default();
    assert!(acceptor.takes(X, 0, &known));
    assert_eq!(acceptor.prepare(ballot(2), 1, Some(X), &known), Ok(None));
    assert!(!acceptor.takes(X, 0, &known));
    assert!(acceptor.takes(NodeId(1), 0, &known));
    let nack = Err(Nack {
        promised: ballot(2),
    });
    assert_eq!(acceptor.prepare(ballot(1), 1, None, &known), nack.clone());
    // Only the next version.
    assert_eq!(acceptor.prepare(ballot(3), 2, None, &known), nack);
    let next = Arc::new(known.closing(X, Ends::new()));
    assert!(acceptor.accept(ballot(1), &next, &known).is_err());
    // A fence outlives the attempt it was given to: the node has to begin a new term.
    let begun = known.opening(X, ends(1, 1));
    acceptor.learn(&begun);
    assert!(acceptor.takes(X, 1, &begun) && acceptor.refuses(X, 0));
}

#[test]
fn what_is_accepted_counts_until_its_version_is_known_to_be_chosen() {
    let known = Roster::first(nodes(3));
    let mut acceptor = Acceptor::default();
    let closed = Arc::new(known.closing(X, ends(1, 5)));
    assert_eq!(acceptor.newest(&known), 0);
    assert_eq!(acceptor.accept(ballot(1), &closed, &known), Ok(()));
    assert_eq!(
        (acceptor.unresolved(), acceptor.newest(&known)),
        (Some(1), 1)
    );
    acceptor.learn(&known);
    assert_eq!(
        acceptor.unresolved(),
        Some(1),
        "an older one settles nothing"
    );
    let found = acceptor.prepare(ballot(2), 1, None, &known);
    assert_eq!(found, Ok(Some((ballot(1), closed.clone()))));
    acceptor.learn(&closed);
    assert_eq!((acceptor.unresolved(), acceptor.newest(&closed)), (None, 1));
}

fn rosters() -> impl Strategy<Value = Roster> {
    let step = (0u16..5, any::<bool>(), 1u32..4, 0u64..300);
    (1u16..6, proptest::collection::vec(step, 0..6)).prop_map(|(count, steps)| {
        let mut roster = Roster::first(nodes(count));
        for (node, open, incarnation, seq) in steps {
            let node = NodeId(node % count);
            let ends = Ends::from([((SHARD, origin(node, incarnation)), seq)]);
            roster = match open {
                true => roster.opening(node, ends),
                false => roster.closing(node, ends),
            };
        }
        roster
    })
}

proptest! {
    #[test]
    fn what_is_stored_is_read_again(roster in rosters(), n in 0u64..9, fence in 0u16..5) {
        prop_assert_eq!(Roster::from_record(&roster.to_record()), Ok(roster.clone()));
        let mut acceptor = Acceptor::default();
        let version = roster.version() + 1;
        let next = Arc::new(roster.closing(NodeId(fence), Ends::new()));
        prop_assert!(acceptor.prepare(ballot(n), version, Some(NodeId(fence)), &roster).is_ok());
        prop_assert_eq!(Acceptor::from_record(&acceptor.to_record()), Ok(acceptor.clone()));
        prop_assert!(acceptor.accept(ballot(n), &next, &roster).is_ok());
        prop_assert_eq!(Acceptor::from_record(&acceptor.to_record()), Ok(acceptor));
    }
}
