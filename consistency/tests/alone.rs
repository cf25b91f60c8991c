//! One replica alone in its region, event by event: what the scripts, which move whole clusters through
//! time, can not bring about.

#[cfg(test)]
mod alone {
    use std::collections::{BTreeMap, BTreeSet, VecDeque};
    use std::ops::{Bound, ControlFlow};
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use hansa_consistency::clock::{Hlc, Now};
    use hansa_consistency::effect::{Effect, Note};
    use hansa_consistency::event::Event;
    use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, OpId, RegionId, Row};
    use hansa_consistency::limits::{ROW_QUEUE_MAX, SETTLE_ROWS_PER_TICK};
    use hansa_consistency::message::{Envelope, Message, Vote};
    use hansa_consistency::port::{Damaged, Family, Reader};
    use hansa_consistency::register::StrongValue;
    use hansa_consistency::replica::{Config, Opened, Replica};
    use hansa_consistency::request::{
        Answer, Applied, Command, Found, Level, Reason, Refusal, Reply, Request,
    };
    use hansa_consistency::rules::Rules;
    use hansa_consistency::session::Context;
    use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};
    use hansa_consistency::value::State;
    use hansa_consistency::version::{Ballot, Dot, Origin, ShardEpoch, Stamp, Tag};

    const ME: NodeId = NodeId(0);
    /// A node of the other region, of which nothing is heard but that it answers a start.
    const FAR: NodeId = NodeId(1);
    const WIDE_REGISTERS: u16 = 0;
    const REGISTERS: u16 = 1;
    const COUNTERS: u16 = 2;

    /// A disk on which every write is durable at once, and on which rows can be damaged.
    #[derive(Default)]
    struct Disk {
        stored: BTreeMap<(Family, Bytes), Bytes>,
        damaged: BTreeSet<(Family, Bytes)>,
    }

    impl Reader for Disk {
        fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
            let key = (family, Bytes::copy_from_slice(key));
            match self.damaged.contains(&key) {
                true => Err(Damaged {
                    family,
                    what: "its checksum does not hold".into(),
                }),
                false => Ok(self.stored.get(&key).cloned()),
            }
        }

        fn scan(
            &self,
            family: Family,
            from: &[u8],
            to: Option<&[u8]>,
            visit: &mut dyn FnMut(&[u8], Bytes) -> ControlFlow<()>,
        ) -> Result<(), Damaged> {
            let start = Bound::Included((family, Bytes::copy_from_slice(from)));
            for ((_, key), value) in self
                .stored
                .range((start, Bound::Unbounded))
                .take_while(|((f, key), _)| *f == family && to.is_none_or(|to| &key[..] < to))
            {
                if visit(key, value.clone()).is_break() {
                    break;
                }
            }
            Ok(())
        }
    }

    /// The replica, its disk, and what it said to itself and to its clients.
    struct Alone {
        replica: Replica,
        disk: Disk,
        now: Now,
        start: u64,
        asked: u64,
        to_self: VecDeque<Envelope>,
        replies: BTreeMap<OpId, Result<Reply, Refusal>>,
        notes: Vec<Note>,
    }

    fn open(disk: &Disk, start: u64, now: Now) -> Replica {
        let keyspace = |value_type, regions: &[RegionId]| Keyspace {
            value_type,
            regions: regions.into(),
            replicas: 1,
            shards: 1,
            mixing: Mixing::StrongWins,
        };
        let (here, there) = (RegionId(0), RegionId(1));
        let topology = Topology {
            cluster: ClusterId::of("alone"),
            regions: [(here, [ME].into()), (there, [FAR].into())].into(),
            keyspaces: vec![
                keyspace(ValueType::Register, &[here, there]),
                keyspace(ValueType::Register, &[here]),
                keyspace(ValueType::Counter, &[here]),
            ],
        };
        let config = Config {
            node: ME,
            topology: Arc::new(topology),
            rules: Rules::default(),
        };
        let opened = Opened {
            incarnation: 7,
            start,
            lost: false,
        };
        Replica::open(config, opened, start, now, disk).unwrap()
    }

    fn row(keyspace: u16, key: &str) -> Row {
        Row::new(KeyspaceId(keyspace), 1, key.as_bytes(), b"", None).unwrap()
    }

    fn said(from: NodeId, start: u64, message: Message) -> Envelope {
        Envelope {
            cluster: ClusterId::of("alone"),
            from,
            start,
            incarnation: 7,
            store_sequence: 0,
            hlc: Hlc::ZERO,
            message,
        }
    }

    impl Alone {
        fn new() -> Alone {
            let now = Now {
                monotonic: Duration::from_secs(10),
                wall_ms: 1_700_000_000_000,
            };
            let disk = Disk::default();
            let mut alone = Alone {
                replica: open(&disk, 1, now),
                disk,
                now,
                start: 1,
                asked: 0,
                to_self: VecDeque::new(),
                replies: BTreeMap::new(),
                notes: Vec::new(),
            };
            alone.begin();
            alone
        }

        fn begin(&mut self) {
            self.feed(Event::Started);
            let answer = Message::StartAnswer {
                seen: 0,
                seen_start: self.start,
                lost: false,
            };
            self.feed(Event::Received(said(FAR, 1, answer)));
            self.to_self.clear();
        }

        fn restart(&mut self) {
            self.start += 1;
            self.to_self.clear();
            self.replica = open(&self.disk, self.start, self.now);
            self.begin();
        }

        /// One step; what it says to itself stays queued.
        fn feed(&mut self, event: Event) {
            let mut effects = Vec::new();
            self.replica.step(self.now, event, &self.disk, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Persist(writes) => {
                        for write in writes {
                            let key = (write.family, write.key);
                            match write.value {
                                Some(value) => self.disk.stored.insert(key, value),
                                None => self.disk.stored.remove(&key),
                            };
                        }
                    }
                    Effect::Send { to: ME, envelope } => self.to_self.push_back(envelope),
                    Effect::Reply { id, result, .. } => {
                        self.replies.insert(id, result);
                    }
                    Effect::Note(note) => self.notes.push(note),
                    _ => {}
                }
            }
        }

        /// Delivers what it said to itself, until it has nothing to say any more.
        fn run(&mut self) {
            while let Some(envelope) = self.to_self.pop_front() {
                self.feed(Event::Received(envelope));
            }
        }

        /// Asks without waiting.
        fn ask(&mut self, level: Level, command: Command) -> OpId {
            self.asked += 1;
            let id = OpId(self.asked);
            let request = Request {
                command,
                level,
                context: Context::new(),
                request_id: None,
                retry_of: None,
                ack_regions: 0,
                deadline: self.now.monotonic + Duration::from_secs(5),
            };
            self.feed(Event::Request { id, request });
            id
        }

        /// Accepts a value that some proposer left behind.
        fn accept(&mut self, row: &Row) {
            self.accept_in(row, 9, "1");
        }

        fn accept_in(&mut self, row: &Row, round: u64, bytes: &'static str) {
            let origin = Origin {
                node: FAR,
                incarnation: 7,
            };
            let stamp = Stamp {
                strong_version: 1,
                hlc: Hlc(1),
                tag: Tag::Entry(Dot { origin, seq: 1 }),
            };
            let mut value = StrongValue::default();
            value.state = Some(State::register(stamp, Some(bytes.into())));
            let value = Arc::new(value);
            let ballot = Ballot { n: 1, origin };
            self.feed(to_me(row, round, |vote| Message::Accept {
                vote,
                ballot,
                value: value.clone(),
            }));
            self.to_self.clear();
        }

        /// The outcome of a request after everything said was heard.
        fn outcome(&mut self, id: OpId) -> Result<Reply, Refusal> {
            self.run();
            self.replies.remove(&id).expect("an outcome")
        }
    }

    #[test]
    fn a_proposed_read_of_one_region_reports_no_trip_between_regions() {
        let mut alone = Alone::new();
        let visits = row(COUNTERS, "visits");
        let one = Command::Increment(visits.clone(), 1);
        let write = alone.ask(Level::Strong, one.clone());
        assert_eq!(alone.outcome(write).unwrap().receipt.wan_round_trips, 0);
        // While the read waits for its answer, an eventual write is applied: the read must be proposed.
        let read = alone.ask(Level::Strong, Command::Get(visits));
        let write = alone.ask(Level::Eventual, one);
        assert!(alone.replies.remove(&write).unwrap().is_ok());
        let reply = alone.outcome(read).unwrap();
        let found = Found::Total(2);
        assert!(matches!(reply.answer, Answer::Read { found: f, .. } if f == found));
        assert!(reply.receipt.absorbed);
        assert_eq!(reply.receipt.wan_round_trips, 0);
    }

    /// A message of this node to itself, with a vote on a row.
    fn to_me(row: &Row, round: u64, message: impl Fn(Vote) -> Message) -> Event {
        let vote = Vote {
            row: row.clone(),
            epoch: ShardEpoch::default(),
            round,
        };
        Event::Received(said(ME, 1, message(vote)))
    }

    #[test]
    fn a_damaged_row_is_refused_and_its_acceptor_is_silent() {
        let mut alone = Alone::new();
        let cart = row(REGISTERS, "cart");
        let put = |value: &'static str| Command::Put(cart.clone(), value.into());
        let write = alone.ask(Level::Strong, put("apples"));
        assert!(alone.outcome(write).is_ok());
        let damaged = (Family::Data, cart.as_bytes().clone());
        alone.disk.damaged.insert(damaged.clone());
        for command in [Command::Get(cart.clone()), put("pears")] {
            let id = alone.ask(Level::Strong, command);
            let refusal = alone.outcome(id).unwrap_err();
            assert_eq!(
                (refusal.reason, refusal.applied),
                (Reason::Damaged, Applied::No)
            );
        }
        let ballot = Ballot {
            n: u64::MAX,
            ..Ballot::ZERO
        };
        alone.feed(to_me(&cart, 9, |vote| Message::Prepare { vote, ballot }));
        let have = Ballot::ZERO;
        alone.feed(to_me(&cart, 9, |vote| Message::Read { vote, have }));
        assert_eq!(alone.to_self, []);
        // Nothing was promised meanwhile, and a damaged row costs no vote.
        alone.disk.damaged.remove(&damaged);
        let write = alone.ask(Level::Strong, put("plums"));
        assert!(alone.outcome(write).is_ok());
    }

    #[test]
    fn what_was_proposed_before_its_row_was_damaged_may_have_been_applied() {
        let mut alone = Alone::new();
        let cart = row(REGISTERS, "cart");
        let put = |value: &'static str| Command::Put(cart.clone(), value.into());
        let first = alone.ask(Level::Strong, put("apples"));
        // The promise is heard, the value proposed, and the acceptance lost.
        let promised = alone.to_self.pop_front().unwrap();
        alone.feed(Event::Received(promised));
        alone.to_self.clear();
        let damaged = (Family::Data, cart.as_bytes().clone());
        alone.disk.damaged.insert(damaged);
        let second = alone.ask(Level::Strong, put("pears"));
        alone.now.monotonic += Duration::from_secs(1);
        alone.feed(Event::Tick);
        let refused = |result: Result<Reply, Refusal>| result.unwrap_err();
        let first = refused(alone.outcome(first));
        assert_eq!(
            (first.reason, first.applied),
            (Reason::Damaged, Applied::Maybe)
        );
        let second = refused(alone.outcome(second));
        assert_eq!(
            (second.reason, second.applied),
            (Reason::Damaged, Applied::No)
        );
    }

    #[test]
    fn after_a_restart_only_rows_without_an_entry_are_unsettled() {
        let mut alone = Alone::new();
        for key in ["apples", "pears"] {
            let put = Command::Put(row(REGISTERS, key), "1".into());
            let id = alone.ask(Level::Strong, put);
            assert!(alone.outcome(id).is_ok());
        }
        alone.accept(&row(REGISTERS, "plums"));
        assert_eq!(alone.replica.status(alone.now).unsettled, 1);
        alone.restart();
        assert_eq!(alone.replica.status(alone.now).unsettled, 1);
    }

    #[test]
    fn rows_that_nobody_can_settle_hold_up_no_others() {
        let mut alone = Alone::new();
        for number in 0..SETTLE_ROWS_PER_TICK {
            alone.accept(&row(WIDE_REGISTERS, &number.to_string()));
        }
        alone.accept(&row(REGISTERS, "plums"));
        for _ in 0..5 {
            alone.now.monotonic += Duration::from_secs(1);
            alone.now.wall_ms += 1000;
            alone.feed(Event::Tick);
            alone.run();
        }
        let unsettled = alone.replica.status(alone.now).unsettled;
        assert_eq!(unsettled, SETTLE_ROWS_PER_TICK);
    }

    #[test]
    fn no_message_puts_an_accepted_value_into_the_view() {
        let mut alone = Alone::new();
        let cart = row(REGISTERS, "cart");
        for round in [0, 9] {
            alone.accept_in(&cart, round, "1");
            let read = alone.ask(Level::Eventual, Command::Get(cart.clone()));
            let answer = alone.outcome(read).unwrap().answer;
            let found = Found::Nothing;
            assert!(matches!(answer, Answer::Read { found: f, .. } if f == found));
        }
    }

    #[test]
    fn a_second_value_under_an_accepted_ballot_is_refused() {
        let mut alone = Alone::new();
        let cart = row(REGISTERS, "cart");
        alone.accept_in(&cart, 9, "1");
        alone.notes.clear();
        alone.accept_in(&cart, 9, "2");
        assert_eq!(alone.notes, [Note::DamageMet]);
        let read = alone.ask(Level::Strong, Command::Get(cart));
        let answer = alone.outcome(read).unwrap().answer;
        let found = Found::Value("1".into());
        assert!(matches!(answer, Answer::Read { found: f, .. } if f == found));
    }

    #[test]
    fn operations_nobody_waits_for_leave_their_places_in_the_queue() {
        let mut alone = Alone::new();
        let put = Command::Put(row(REGISTERS, "cart"), "1".into());
        let first = alone.ask(Level::Strong, put.clone());
        let mut ask = |count| {
            (0..count)
                .map(|_| alone.ask(Level::Strong, put.clone()))
                .collect()
        };
        let queued: Vec<OpId> = ask(ROW_QUEUE_MAX);
        let refused: Vec<OpId> = ask(1);
        let refusal = alone.replies.remove(&refused[0]).unwrap().unwrap_err();
        assert_eq!(refusal.reason, Reason::Overloaded);
        for id in queued {
            alone.feed(Event::Cancelled { id });
        }
        let last = alone.ask(Level::Strong, put);
        assert!(alone.outcome(last).is_ok());
        assert!(alone.replies.remove(&first).unwrap().is_ok());
    }
}
