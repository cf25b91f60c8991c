//! One simulated node: the real replica between a simulated disk and a simulated clock, driven as the
//! real driver drives it. Everything a step says waits for the sync of everything written before it,
//! except a local read that used nothing pending.

use std::sync::Arc;
use std::time::Duration;

use hansa_consistency::clock::Now;
use hansa_consistency::codec::Encode;
use hansa_consistency::effect::Effect;
use hansa_consistency::event::Event;
use hansa_consistency::key::{NodeId, RegionId, Row};
use hansa_consistency::layout;
use hansa_consistency::port::{Family, Write};
use hansa_consistency::register::acceptor::Accepted;
use hansa_consistency::replica::{Config, Opened, Replica, next_start};
use hansa_consistency::rules::{Mutant, Rules};
use hansa_consistency::topology::Topology;
use hansa_consistency::version::Ballot;

use super::disk::{self, Disk, LostEntry};
use crate::nemesis::{Clock, Disk as DiskFault};

/// Wall time at the start of a run, milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// The sequence file is synced at least this often even without votes, microseconds.
const SEQUENCE_EVERY_US: u64 = 100_000;

/// What a step said, to be released when its group is synced.
#[derive(Debug)]
pub struct Said {
    /// The newest group that must be durable first.
    pub group: u64,
    /// The effects, in order.
    pub effects: Vec<Effect>,
    /// The store sequence to sync first when a vote is among them.
    pub sequence: Option<u64>,
    /// Ballots that the step accepted: votes once they are durable.
    pub accepted: Vec<(Row, Ballot)>,
}

/// What a crash does to synced data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The last synced groups are gone; 0 for none.
    Tail(usize),
    /// The disk was replaced by an empty one, and nobody tells the node.
    Whole,
}

/// A copy of a node's data directory.
#[derive(Clone, Debug)]
struct Kept {
    disk: disk::Copy,
    start: u64,
    incarnation: u32,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    /// Which.
    pub id: NodeId,
    /// Where.
    pub region: RegionId,
    /// Rises with every crash: what belongs to an earlier life is void.
    pub life: u64,
    /// The replica; `None` while the node is down.
    pub replica: Option<Replica>,
    /// Its disk.
    pub disk: Disk,
    /// How far its wall clock is off, milliseconds.
    pub skew_ms: i64,
    /// When the replica wants to be woken, microseconds of the run.
    pub wake_us: Option<u64>,
    /// When the newest group will be released.
    pub release_us: u64,
    /// Whether a crash cost it synced data.
    pub lost_data: bool,
    /// What its disk does.
    pub disk_fault: DiskFault,
    /// Whether its disk failed it: it answers nobody until it is started again.
    pub stranded: bool,
    /// Whether its process stands still.
    pub paused: bool,
    /// Percent of a processor that it gets.
    pub processor: u8,
    /// Until when its processor is busy, microseconds of the run.
    pub busy_until_us: u64,
    /// What its wall clock does, and since when, microseconds of the run.
    clock: (Clock, u64),
    /// Its identity and disk as they once were.
    kept: Option<Kept>,
    /// Whether its damaged store was put aside, so that it opens as one that lost data.
    rebuilt: bool,
    /// Its monotonic clock at the start of the run.
    boot: Duration,
    start: u64,
    incarnation: u32,
    sequence: u64,
    sequence_synced_us: u64,
}

impl Node {
    /// A node that was never started, of this skew and incarnation, whose monotonic clock stands at `boot`.
    #[must_use]
    pub fn new(
        id: NodeId,
        region: RegionId,
        skew_ms: i64,
        incarnation: u32,
        boot: Duration,
    ) -> Node {
        Node {
            id,
            region,
            life: 0,
            replica: None,
            disk: Disk::default(),
            skew_ms,
            wake_us: None,
            release_us: 0,
            lost_data: false,
            disk_fault: DiskFault::Healthy,
            stranded: false,
            paused: false,
            processor: 100,
            busy_until_us: 0,
            clock: (Clock::True, 0),
            kept: None,
            rebuilt: false,
            boot,
            start: 0,
            incarnation,
            sequence: 0,
            sequence_synced_us: 0,
        }
    }

    /// The node's clocks at a moment of the run.
    #[must_use]
    pub fn now(&self, now_us: u64) -> Now {
        let truth = (EPOCH_MS + now_us / 1000).saturating_add_signed(self.skew_ms);
        let (clock, since_us) = self.clock;
        let passed = now_us.saturating_sub(since_us) / 1000;
        let wall_ms = match clock {
            Clock::True => truth,
            Clock::Offset(ms) => truth.saturating_add_signed(ms),
            Clock::Rate(permille) => truth - passed + passed * permille / 1000,
            Clock::Frozen => truth - passed,
        };
        Now {
            monotonic: self.boot + Duration::from_micros(now_us),
            wall_ms,
        }
    }

    /// Its wall clock does this from now on.
    pub fn set_clock(&mut self, clock: Clock, now_us: u64) {
        self.clock = (clock, now_us);
    }

    /// Opens the replica over what the disk holds.
    ///
    /// # Errors
    /// What the replica says when its store makes no sense.
    pub fn start(
        &mut self,
        topology: &Arc<Topology>,
        rules: Rules,
        now_us: u64,
        seed: u64,
    ) -> Result<(), String> {
        self.disk.settle();
        let wall = Duration::from_millis(self.now(now_us).wall_ms);
        self.start = next_start(self.start, wall, seed);
        let config = Config {
            node: self.id,
            topology: topology.clone(),
            rules,
        };
        let stored = self.probe(&config, now_us)?;
        let lost = stored < self.disk.sequence_file();
        if lost && !rules.broken(Mutant::IncarnationReused) {
            self.renew_incarnation();
        }
        let opened = self.opened(lost || self.rebuilt);
        let now = self.now(now_us);
        let replica = Replica::open(config, opened, seed, now, &self.disk);
        self.replica = Some(replica.map_err(|error| error.to_string())?);
        self.sequence = stored;
        self.wake_us = None;
        self.stranded = false;
        Ok(())
    }

    /// The process ends; the machine and its disk go on. Of what is not synced the oldest `handed_over` groups
    /// stay.
    pub fn end(&mut self, handed_over: usize) {
        self.replica = None;
        self.life += 1;
        self.release_us = 0;
        (self.paused, self.stranded) = (false, false);
        self.disk.end_process(handed_over);
    }

    /// The disk failed under a running replica, which is ahead of it: thrown away with all it had not synced.
    pub fn strand(&mut self) {
        self.end(0);
        self.stranded = true;
    }

    /// How much longer than usual a sync takes, microseconds.
    #[must_use]
    pub fn sync_takes_longer_us(&self) -> u64 {
        match self.disk_fault {
            DiskFault::Slow(ms) => ms * 1000,
            _ => 0,
        }
    }

    /// Whether what is to be synced now can not be.
    #[must_use]
    pub fn disk_fails(&self) -> bool {
        let fails = matches!(self.disk_fault, DiskFault::FailSyncs | DiskFault::Full);
        fails && !self.disk.is_clean()
    }

    /// A start found a damaged record, so the whole store is put aside, as `--rebuild` does. Returns the log
    /// entries that had been durable.
    pub fn put_aside(&mut self) -> Vec<LostEntry> {
        self.renew_incarnation();
        (self.rebuilt, self.lost_data) = (true, true);
        self.disk.wipe()
    }

    /// Puts a copy of the data aside.
    pub fn keep(&mut self) {
        self.kept = Some(Kept {
            disk: self.disk.copy(),
            start: self.start,
            incarnation: self.incarnation,
        });
    }

    /// Puts the copy back, if there is one. Returns the log entries that had been durable and are gone.
    pub fn restore(&mut self) -> Vec<LostEntry> {
        let Some(kept) = self.kept.clone() else {
            return Vec::new();
        };
        self.lost_data = true;
        self.start = kept.start;
        self.incarnation = kept.incarnation;
        self.disk.restore(&kept.disk)
    }

    /// The store sequence that the store itself shows.
    fn probe(&self, config: &Config, now_us: u64) -> Result<u64, String> {
        let opened = self.opened(false);
        let replica = Replica::open(config.clone(), opened, 0, self.now(now_us), &self.disk);
        Ok(replica.map_err(|error| error.to_string())?.store_sequence())
    }

    fn opened(&self, lost: bool) -> Opened {
        Opened {
            incarnation: self.incarnation,
            start: self.start,
            lost,
        }
    }

    /// The machine loses power. Returns the log entries that had been durable and are gone.
    pub fn crash(&mut self, damage: Damage) -> Vec<LostEntry> {
        self.replica = None;
        self.life += 1;
        self.release_us = 0;
        match damage {
            Damage::Tail(tail) => {
                self.lost_data |= tail > 0;
                self.disk.crash(tail)
            }
            Damage::Whole => {
                self.lost_data = true;
                // A fresh identity.
                self.start = 0;
                self.renew_incarnation();
                self.disk.wipe()
            }
        }
    }

    fn renew_incarnation(&mut self) {
        self.incarnation = self.incarnation.wrapping_mul(31).wrapping_add(7).max(1);
    }

    /// Feeds an event. Returns what may leave at once, and what must wait for its group.
    pub fn step(&mut self, now_us: u64, event: Event) -> (Vec<Effect>, Option<Said>) {
        let now = self.now(now_us);
        let Some(replica) = &mut self.replica else {
            return (Vec::new(), None);
        };
        let mut effects = Vec::new();
        self.disk.take_touched_pending();
        replica.step(now, event, &self.disk, &mut effects);
        let touched = self.disk.take_touched_pending();
        let (mut at_once, mut said) = (Vec::new(), Vec::new());
        let mut votes = false;
        let mut accepted = Vec::new();
        for effect in effects {
            match effect {
                Effect::Persist(writes) => {
                    accepted.extend(writes.iter().filter_map(vote_of));
                    self.disk.write(&writes);
                }
                Effect::StoreSequence { sequence, counted } => {
                    self.sequence = sequence;
                    votes |= counted;
                }
                Effect::Wake(at) => {
                    self.wake_us = Some(at.saturating_sub(self.boot).as_micros() as u64)
                }
                Effect::Reply { waits: false, .. } | Effect::Note(_) if !touched => {
                    at_once.push(effect);
                }
                other => said.push(other),
            }
        }
        let group = self.disk.newest();
        let sequence = self.sequence_for(now_us, votes, &said);
        let said = (!said.is_empty() || !self.disk.is_clean()).then_some(Said {
            group,
            effects: said,
            sequence,
            accepted,
        });
        (at_once, said)
    }

    /// The sequence to sync before a group leaves: always when it carries votes, else now and then.
    fn sequence_for(&mut self, now_us: u64, votes: bool, said: &[Effect]) -> Option<u64> {
        let vote = |effect: &Effect| matches!(effect, Effect::Send { envelope, .. } if envelope.message.is_vote());
        let due = now_us >= self.sequence_synced_us + SEQUENCE_EVERY_US;
        if !due && !votes && !said.iter().any(vote) {
            return None;
        }
        self.sequence_synced_us = now_us;
        Some(self.sequence)
    }
}

/// The ballot that a write accepts, if it is an acceptor's record.
fn vote_of(write: &Write) -> Option<(Row, Ballot)> {
    if write.family != Family::Slot {
        return None;
    }
    let (row, part) = layout::slot_row(&write.key)?;
    let accepted = Accepted::from_record(write.value.as_ref()?).ok();
    let accepted = accepted.filter(|_| part == layout::ACCEPTED)?;
    Some((row, accepted.ballot))
}
