//! Laws of values, entries and encodings, over generated cases.
//!
//! Merging is a join; equal states have one encoding; what is encoded comes back; noise is
//! refused without a panic; the order in which replicas hear of entries leaves no trace; and
//! the `crdts` crate, an independent implementation, agrees on every value.

#[cfg(test)]
mod laws {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::sync::Arc;

    use bytes::Bytes;
    use crdts::{CmRDT, CvRDT, LWWReg, Orswot, PNCounter};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use hansa_consistency::clock::{Hlc, Now};
    use hansa_consistency::codec::Encode;
    use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, RegionId, Row};
    use hansa_consistency::record::{Change, Entry, Record, RequestId};
    use hansa_consistency::register::acceptor::Accepted;
    use hansa_consistency::register::strong_value::Place;
    use hansa_consistency::register::{Action, Errand, Operation, StrongValue};
    use hansa_consistency::rules::Rules;
    use hansa_consistency::session::{Context, SessionToken};
    use hansa_consistency::topology::ValueType;
    use hansa_consistency::value::{Actor, Counter, Element, State};
    use hansa_consistency::version::{Ballot, Dot, Origin, Seq, Stamp, Tag};

    const NODES: u16 = 3;

    /// Failing cases are printed, not written beside the sources.
    fn config() -> ProptestConfig {
        ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::default()
        }
    }

    fn origin(node: u16) -> Origin {
        Origin {
            node: NodeId(node),
            incarnation: 7,
        }
    }

    fn ballot(n: u64) -> Ballot {
        let origin = origin((n % u64::from(NODES)) as u16);
        Ballot { n, origin }
    }

    fn row(number: u8) -> Row {
        Row::new(KeyspaceId(0), 1, &[b'k', number], b"", None).unwrap()
    }

    // --- generated states

    fn stamps() -> impl Strategy<Value = Stamp> {
        let tag = prop_oneof![
            (1u64..4, 0u16..2).prop_map(|(n, index)| Tag::Strong(ballot(n), index)),
            (0..NODES, 1u64..4).prop_map(|(node, seq)| Tag::Entry(Dot {
                origin: origin(node),
                seq
            })),
        ];
        (0u32..3, 0u64..3, tag).prop_map(|(strong_version, hlc, tag)| Stamp {
            strong_version,
            hlc: Hlc(hlc),
            tag,
        })
    }

    /// A stamp names one write, so the bytes are a function of it; some writes are deletes.
    fn written(stamp: &Stamp) -> Option<Bytes> {
        let bytes = Bytes::copy_from_slice(&stamp.ordered_bytes());
        (stamp.hlc.0 != 2).then_some(bytes)
    }

    fn registers() -> impl Strategy<Value = State> {
        stamps().prop_map(|stamp| State::register(stamp, written(&stamp)))
    }

    fn counters() -> impl Strategy<Value = State> {
        vec((0..=NODES, 0u64..5, 0u64..5), 0..5).prop_map(|totals| {
            let mut counter = State::Counter(Counter::default());
            for (actor, up, down) in totals {
                let actor = match actor {
                    NODES => Actor::Strong,
                    node => Actor::Origin(origin(node)),
                };
                counter.merge(&State::Counter(Counter::of(actor, (up, down))));
            }
            counter
        })
    }

    /// What happened to an element: adds of both kinds, and removes of what was there.
    fn elements() -> impl Strategy<Value = State> {
        vec((0..=NODES + 1, 1u64..6), 0..8).prop_map(|steps| {
            let mut element = State::Element(Element::default());
            for (what, number) in steps {
                let change = match (&element, what) {
                    (State::Element(seen), NODES) => seen.remove_observed(),
                    (_, node) if node < NODES => Element::added(Dot {
                        origin: origin(node),
                        seq: number,
                    }),
                    _ => Element::strongly_added((number as u32, ballot(number), 0)),
                };
                element.merge(&State::Element(change));
            }
            element
        })
    }

    fn triples() -> impl Strategy<Value = (State, State, State)> {
        prop_oneof![
            (registers(), registers(), registers()),
            (counters(), counters(), counters()),
            (elements(), elements(), elements()),
        ]
    }

    fn states() -> impl Strategy<Value = State> {
        prop_oneof![registers(), counters(), elements()]
    }

    fn contexts() -> impl Strategy<Value = Context> {
        vec((0u8..16, 1u64..1 << 60), 0..5).prop_map(|pairs| {
            let mut context = Context::new();
            for (region, hlc) in pairs {
                context.raise(RegionId(region), Hlc(hlc));
            }
            context
        })
    }

    fn request_ids() -> impl Strategy<Value = RequestId> {
        (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(session, seq, issued)| RequestId {
            session,
            seq,
            issued: Hlc(issued),
        })
    }

    fn changes() -> impl Strategy<Value = Change> {
        (any::<u8>(), states(), 0u64..3).prop_map(|(number, state, n)| Change {
            row: row(number),
            state,
            chosen: if n == 0 { Ballot::ZERO } else { ballot(n) },
        })
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let request = proptest::option::of(request_ids());
        let extension = vec(any::<u8>(), 0..4).prop_map(Bytes::from);
        (
            any::<u64>(),
            contexts(),
            request,
            vec(changes(), 0..3),
            extension,
        )
            .prop_map(|(hlc, deps, request, changes, extension)| Entry {
                hlc: Hlc(hlc),
                deps,
                request,
                changes,
                extension,
            })
    }

    fn records() -> impl Strategy<Value = Record> {
        (states(), contexts(), contexts(), 1u64..9).prop_map(|(state, deps, touched, n)| Record {
            state,
            deps,
            touched,
            chosen: ballot(n),
        })
    }

    /// Values as groups of increments, some with request ids, make them.
    fn strong_values() -> impl Strategy<Value = StrongValue> {
        let operation = (
            any::<i32>(),
            proptest::option::of(request_ids()),
            contexts(),
        );
        vec(vec(operation, 1..3), 0..4).prop_map(|groups| {
            let mut value = StrongValue::default();
            for (number, group) in (1..).zip(groups) {
                let operations: Vec<Operation> = group
                    .into_iter()
                    .map(|(amount, request, deps)| Operation {
                        action: Action::Increment(i64::from(amount)),
                        request,
                        deps,
                    })
                    .collect();
                let place = Place {
                    ballot: ballot(number),
                    hlc: Hlc(number),
                    value_type: ValueType::Counter,
                    dedup_sessions: 3,
                    rules: Rules::default(),
                };
                let errand = Errand {
                    proposer: place.ballot.origin,
                    group: number,
                    oldest: number,
                    operations,
                    eventual: None,
                };
                value.apply_group(&errand, 0, place);
            }
            value
        })
    }

    fn joined(a: &State, b: &State) -> State {
        let mut join = a.clone();
        join.merge(b);
        join
    }

    // --- merging

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn merging_is_a_join((a, b, c) in triples()) {
            prop_assert_eq!(joined(&a, &a), a.clone(), "idempotent");
            prop_assert_eq!(joined(&a, &b), joined(&b, &a), "commutative");
            prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)), "associative");
        }

        #[test]
        fn merging_says_whether_it_changed_anything((a, b, _) in triples()) {
            let mut merged = a.clone();
            let changed = merged.merge(&b);
            prop_assert_eq!(changed, merged != a);
            prop_assert_eq!(b.beyond(Some(&a)), changed);
            prop_assert!(!b.beyond(Some(&merged)));
        }

        #[test]
        fn equal_states_have_one_encoding_digest_and_etag((a, b, c) in triples()) {
            let one = joined(&joined(&a, &b), &c);
            let other = joined(&c, &joined(&b, &a));
            prop_assert_eq!(one.to_record(), other.to_record());
            prop_assert_eq!(one.digest(), other.digest());
            prop_assert_eq!(one.etag(), other.etag());
            prop_assert_eq!(a == b, a.to_record() == b.to_record());
        }
    }

    // --- encodings

    fn comes_back<T: Encode + PartialEq + std::fmt::Debug>(value: &T) -> Result<(), TestCaseError> {
        prop_assert_eq!(&T::from_record(&value.to_record()).unwrap(), value);
        Ok(())
    }

    /// A damaged record is refused or is another value; it never panics. A shortened one is refused.
    fn survives_damage<T: Encode>(
        record: &Bytes,
        at: usize,
        bits: u8,
    ) -> Result<(), TestCaseError> {
        let mut damaged = record.to_vec();
        let at = at % damaged.len();
        damaged[at] ^= bits;
        let _ = T::from_record(&Bytes::from(damaged));
        prop_assert!(T::from_record(&record.slice(..at)).is_err());
        Ok(())
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn what_is_encoded_comes_back(
            state in states(), entry in entries(), record in records(), context in contexts(),
            value in strong_values(), n in 1u64..9,
        ) {
            comes_back(&state)?;
            comes_back(&entry)?;
            comes_back(&record)?;
            comes_back(&context)?;
            comes_back(&value)?;
            comes_back(&Accepted { ballot: ballot(n), value: Arc::new(value) })?;
        }

        #[test]
        fn damaged_encodings_never_panic(
            entry in entries(), record in records(), value in strong_values(),
            context in contexts(), at in any::<usize>(), bits in 1u8..,
        ) {
            survives_damage::<Entry>(&entry.to_record(), at, bits)?;
            survives_damage::<Record>(&record.to_record(), at, bits)?;
            survives_damage::<StrongValue>(&value.to_record(), at, bits)?;
            survives_damage::<Context>(&context.to_record(), at, bits)?;
        }

        #[test]
        fn noise_never_panics(noise in vec(any::<u8>(), 0..64)) {
            // With the right first byte the noise gets past the format version.
            let mut versioned = vec![1];
            versioned.extend_from_slice(&noise);
            for bytes in [Bytes::from(noise), Bytes::from(versioned)] {
                let _ = State::from_record(&bytes);
                let _ = Entry::from_record(&bytes);
                let _ = Record::from_record(&bytes);
                let _ = StrongValue::from_record(&bytes);
                let _ = Accepted::from_record(&bytes);
                let _ = Context::from_record(&bytes);
                let _ = Row::from_bytes(bytes.clone());
                let _ = SessionToken::decode(ClusterId(1), Now::default(), &bytes);
            }
        }
    }

    // --- delivery

    /// One replica's rows.
    #[derive(Clone, Default)]
    struct View(BTreeMap<Row, Record>);

    impl View {
        fn apply(&mut self, region: RegionId, entry: &Entry) {
            for change in &entry.changes {
                let before = self.0.remove(&change.row);
                let (record, _) = Record::apply(before, region, entry, change, Rules::default());
                self.0.insert(change.row.clone(), record);
            }
        }

        /// What must not depend on the order of delivery: states, and what is known chosen. (How a
        /// replica came to a state, `touched` and `deps`, may differ: each is a sound past of it.)
        fn essence(&self) -> Vec<(Row, Bytes, Ballot)> {
            let rows = self.0.iter();
            rows.map(|(row, r)| (row.clone(), r.state.to_record(), r.chosen))
                .collect()
        }
    }

    /// What one origin wrote.
    type Log = Vec<Entry>;

    /// Three regions write and hear of each other in the order of `steps`: (node, what, number).
    fn logs(steps: &[(u16, u8, u8)]) -> Vec<Log> {
        let mut views = vec![View::default(); usize::from(NODES)];
        let mut logs: Vec<Log> = vec![Vec::new(); usize::from(NODES)];
        let mut heard = vec![[0; NODES as usize]; usize::from(NODES)];
        for (time, (node, what, number)) in (1u64..).zip(steps) {
            let at = usize::from(*node);
            if *what == 0 {
                let from = usize::from(*number) % usize::from(NODES);
                let next = heard[at][from];
                if let Some(entry) = logs[from].get(next).filter(|_| from != at).cloned() {
                    views[at].apply(RegionId(from as u8), &entry);
                    heard[at][from] += 1;
                }
                continue;
            }
            let seq = logs[at].len() as Seq + 1;
            let row = row(what % 3);
            let dot = Dot {
                origin: origin(*node),
                seq,
            };
            let before = views[at].0.get(&row).map(|record| &record.state);
            let entry = Entry {
                hlc: Hlc(time),
                deps: Context::new(),
                request: None,
                changes: vec![change(row, before, dot, time, *number)],
                extension: Bytes::new(),
            };
            views[at].apply(RegionId(*node as u8), &entry);
            logs[at].push(entry);
        }
        logs
    }

    /// A change of row 0 (register), 1 (counter) or 2 (element); some carry a chosen value.
    fn change(row: Row, before: Option<&State>, dot: Dot, time: u64, number: u8) -> Change {
        let actor = Actor::Origin(dot.origin);
        let state = match (row.parts().unwrap().partition[1], before) {
            (0, _) => {
                let stamp = Stamp {
                    strong_version: before.map_or(0, State::strong_version),
                    hlc: Hlc(time),
                    tag: Tag::Entry(dot),
                };
                State::register(stamp, written(&stamp))
            }
            (1, Some(State::Counter(counter))) => {
                let totals = Counter::plus(counter.totals(actor), i64::from(number) - 4).unwrap();
                State::Counter(Counter::of(actor, totals))
            }
            (1, _) => State::Counter(Counter::of(actor, (u64::from(number), 0))),
            (_, Some(State::Element(element))) if number.is_multiple_of(2) => {
                State::Element(element.remove_observed())
            }
            _ => State::Element(Element::added(dot)),
        };
        // A commit entry carries everything its writer had seen.
        let chosen = number % 4 == 3;
        Change {
            row,
            state: match before.filter(|_| chosen) {
                Some(before) => joined(before, &state),
                None => state,
            },
            chosen: if chosen { ballot(time) } else { Ballot::ZERO },
        }
    }

    /// Delivers the logs, each in order, interleaved as `order` says; the rest at the end.
    fn delivered(logs: &[Log], order: &[u8]) -> View {
        let mut view = View::default();
        let mut left: Vec<VecDeque<&Entry>> = logs.iter().map(|l| l.iter().collect()).collect();
        let rest = (0..NODES as u8).flat_map(|node| std::iter::repeat_n(node, 100));
        for pick in order.iter().copied().chain(rest) {
            let from = usize::from(pick) % left.len();
            if let Some(entry) = left[from].pop_front() {
                view.apply(RegionId(from as u8), entry);
            }
        }
        assert!(left.iter().all(VecDeque::is_empty));
        view
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn the_order_of_delivery_leaves_no_trace(
            steps in vec((0..NODES, 0u8..4, 0u8..9), 0..60),
            order in vec(any::<u8>(), 0..60), other in vec(any::<u8>(), 0..60),
        ) {
            let logs = logs(&steps);
            let one = delivered(&logs, &order);
            prop_assert_eq!(one.essence(), delivered(&logs, &other).essence());
            // Hearing of everything twice changes nothing either.
            let mut twice = one.clone();
            for (region, log) in (0..).map(RegionId).zip(&logs) {
                log.iter().for_each(|entry| twice.apply(region, entry));
            }
            prop_assert_eq!(one.essence(), twice.essence());
        }
    }

    // --- the crdts crate as oracle

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn counters_agree_with_pncounter(steps in vec((0..NODES, 0..=NODES, -20i64..20), 0..60)) {
            let mut ours = vec![State::Counter(Counter::default()); usize::from(NODES)];
            let mut oracle = vec![PNCounter::<u16>::new(); usize::from(NODES)];
            for (node, from, amount) in steps {
                let at = usize::from(node);
                if from < NODES {
                    let (state, theirs) = (ours[usize::from(from)].clone(), oracle[usize::from(from)].clone());
                    ours[at].merge(&state);
                    oracle[at].merge(theirs);
                } else {
                    let actor = Actor::Origin(origin(node));
                    let State::Counter(counter) = &ours[at] else { unreachable!() };
                    let totals = Counter::plus(counter.totals(actor), amount).unwrap();
                    ours[at].merge(&State::Counter(Counter::of(actor, totals)));
                    let by = amount.unsigned_abs();
                    let op = match amount >= 0 {
                        true => oracle[at].inc_many(node, by),
                        false => oracle[at].dec_many(node, by),
                    };
                    oracle[at].apply(op);
                }
                prop_assert_eq!(ours[at].total().unwrap().to_string(), oracle[at].read().to_string());
            }
        }

        #[test]
        fn registers_agree_with_lwwreg(writes in vec(stamps(), 1..20)) {
            let first = writes[0];
            let mut ours = State::register(first, written(&first));
            let mut oracle = LWWReg { val: written(&first), marker: first };
            for stamp in writes {
                ours.merge(&State::register(stamp, written(&stamp)));
                oracle.update(written(&stamp), stamp);
                prop_assert_eq!(ours.bytes(), oracle.val.as_ref());
                prop_assert_eq!(&ours.etag()[..], &oracle.marker.ordered_bytes()[..]);
            }
        }

        /// Adds and removes of a few elements at three nodes; each hears of another's operations in
        /// the order in which that one made them, at any time. Our removes also tell of removes that
        /// their node had heard of, so on the way ours may know of a remove earlier than the oracle.
        #[test]
        fn elements_agree_with_orswot(steps in vec((0..NODES, 0u8..4, 0u8..4), 0..80)) {
            let mut nodes: Vec<SetNode> = (0..NODES).map(SetNode::new).collect();
            for (node, what, element) in steps {
                let at = usize::from(node);
                match what {
                    0 => nodes[at].add(element),
                    1 => nodes[at].remove(element),
                    _ => {
                        hear_next(&mut nodes, at, usize::from(element) % usize::from(NODES));
                    }
                }
                let (ours, oracle) = nodes[at].members();
                prop_assert!(ours.is_subset(&oracle), "{ours:?} shown, {oracle:?} live");
            }
            for (at, from) in (0..9).map(|pair| (pair / 3, pair % 3)) {
                while hear_next(&mut nodes, at, from) {}
            }
            for node in &nodes {
                let (ours, oracle) = node.members();
                prop_assert_eq!(&ours, &oracle);
                prop_assert_eq!(&ours, &nodes[0].members().0);
            }
        }
    }

    /// One node hears of the next operation of another; `false` when there is none.
    fn hear_next(nodes: &mut [SetNode], at: usize, from: usize) -> bool {
        let next = nodes[at].heard[from];
        let made = nodes[from].made.get(next).filter(|_| from != at).cloned();
        if let Some(made) = &made {
            nodes[at].hear(made);
            nodes[at].heard[from] += 1;
        }
        made.is_some()
    }

    /// An operation on a set: the element, our change, the oracle's operation.
    type Made = (u8, State, crdts::orswot::Op<u8, u16>);

    /// One node's set, twice.
    struct SetNode {
        id: u16,
        rows: BTreeMap<u8, State>,
        oracle: Orswot<u8, u16>,
        made: Vec<Made>,
        heard: [usize; NODES as usize],
    }

    impl SetNode {
        fn new(id: u16) -> SetNode {
            SetNode {
                id,
                rows: BTreeMap::new(),
                oracle: Orswot::new(),
                made: Vec::new(),
                heard: [0; NODES as usize],
            }
        }

        fn ours(&self, element: u8) -> State {
            let none = || State::Element(Element::default());
            self.rows.get(&element).cloned().unwrap_or_else(none)
        }

        /// The members by our rows and by the oracle.
        fn members(&self) -> (BTreeSet<u8>, BTreeSet<u8>) {
            let ours = self.rows.iter().filter(|(_, row)| row.present());
            let oracle = (0..4).filter(|element| self.oracle.contains(element).val);
            (
                ours.map(|(element, _)| *element).collect(),
                oracle.collect(),
            )
        }

        fn add(&mut self, element: u8) {
            let seq = self.made.len() as Seq + 1;
            let change = Element::added(Dot {
                origin: origin(self.id),
                seq,
            });
            let context = self.oracle.read_ctx().derive_add_ctx(self.id);
            self.make((
                element,
                State::Element(change),
                self.oracle.add(element, context),
            ));
        }

        fn remove(&mut self, element: u8) {
            let State::Element(seen) = self.ours(element) else {
                unreachable!()
            };
            let change = State::Element(seen.remove_observed());
            let context = self.oracle.contains(&element).derive_rm_ctx();
            self.make((element, change, self.oracle.rm(element, context)));
        }

        fn make(&mut self, made: Made) {
            self.hear(&made);
            self.made.push(made);
        }

        fn hear(&mut self, (element, change, op): &Made) {
            let none = || State::Element(Element::default());
            self.rows.entry(*element).or_insert_with(none).merge(change);
            self.oracle.apply(op.clone());
        }
    }
}
