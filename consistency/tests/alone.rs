//! One replica alone in its region, event by event: what the scripts, which move whole clusters through
//! time, can not bring about.

#[cfg(test)]
mod alone {
    use std::collections::{BTreeMap, VecDeque};
    use std::ops::{Bound, ControlFlow};
    use std::sync::Arc;
    use std::time::Duration;

    use bytes::Bytes;

    use hansa_consistency::clock::Now;
    use hansa_consistency::effect::Effect;
    use hansa_consistency::event::Event;
    use hansa_consistency::key::{ClusterId, KeyspaceId, NodeId, OpId, RegionId, Row};
    use hansa_consistency::message::Envelope;
    use hansa_consistency::port::{Damaged, Family, Reader};
    use hansa_consistency::replica::{Config, Opened, Replica};
    use hansa_consistency::request::{Answer, Command, Found, Level, Refusal, Reply, Request};
    use hansa_consistency::rules::Rules;
    use hansa_consistency::session::Context;
    use hansa_consistency::topology::{Keyspace, Mixing, Topology, ValueType};

    const ME: NodeId = NodeId(0);

    /// A disk on which every write is durable at once.
    #[derive(Default)]
    struct Disk {
        stored: BTreeMap<(Family, Bytes), Bytes>,
    }

    impl Reader for Disk {
        fn get(&self, family: Family, key: &[u8]) -> Result<Option<Bytes>, Damaged> {
            let key = (family, Bytes::copy_from_slice(key));
            Ok(self.stored.get(&key).cloned())
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
        asked: u64,
        to_self: VecDeque<Envelope>,
        replies: BTreeMap<OpId, Result<Reply, Refusal>>,
    }

    fn open(disk: &Disk, now: Now) -> Replica {
        let keyspace = |value_type| Keyspace {
            value_type,
            regions: [RegionId(0)].into(),
            replicas: 1,
            shards: 1,
            mixing: Mixing::StrongWins,
        };
        let topology = Topology {
            cluster: ClusterId::of("alone"),
            regions: [(RegionId(0), [ME].into())].into(),
            keyspaces: vec![keyspace(ValueType::Register), keyspace(ValueType::Counter)],
        };
        let config = Config {
            node: ME,
            topology: Arc::new(topology),
            rules: Rules::default(),
        };
        let opened = Opened {
            incarnation: 7,
            start: 1,
            lost: false,
        };
        Replica::open(config, opened, 1, now, disk).unwrap()
    }

    fn row(keyspace: u16, key: &str) -> Row {
        Row::new(KeyspaceId(keyspace), 1, key.as_bytes(), b"", None).unwrap()
    }

    impl Alone {
        fn new() -> Alone {
            let now = Now {
                monotonic: Duration::from_secs(10),
                wall_ms: 1_700_000_000_000,
            };
            let disk = Disk::default();
            let mut alone = Alone {
                replica: open(&disk, now),
                disk,
                now,
                asked: 0,
                to_self: VecDeque::new(),
                replies: BTreeMap::new(),
            };
            alone.feed(Event::Started);
            alone
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
                    Effect::Send { envelope, .. } => self.to_self.push_back(envelope),
                    Effect::Reply { id, result, .. } => {
                        self.replies.insert(id, result);
                    }
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

        /// The outcome of a request after everything said was heard.
        fn outcome(&mut self, id: OpId) -> Result<Reply, Refusal> {
            self.run();
            self.replies.remove(&id).expect("an outcome")
        }
    }

    #[test]
    fn a_proposed_read_of_one_region_reports_no_trip_between_regions() {
        let mut alone = Alone::new();
        let visits = row(1, "visits");
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
}
