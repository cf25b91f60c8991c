//! What clients do, whatever carries it out: the simulator, real processes, or another database.
//!
//! A [`Workload`] is a recipe; a [`Generator`] makes [`Intent`]s of it. Keys rotate, so that no key's history grows
//! beyond what a checker can judge; values are unique for their key and amounts name their increment, so that what a
//! read shows says which writes it has seen (`docs/history-format.md`, Rules).

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::history::{Datum, Expect, Held, Level, Membership, Op, Record, Status, Swap};
use crate::random::Random;

#[cfg(test)]
mod tests;

/// The keyspace of registers in every cluster that a harness starts.
pub const REGISTERS: &str = "registers";
/// The keyspace of counters.
pub const COUNTERS: &str = "counters";
/// The keyspace of sets.
pub const SETS: &str = "sets";

/// Eventual increments a counter key can tell apart: every other bit below 2^40.
const EVENTUAL_BITS: u64 = 19;
/// What one strong increment adds.
const STRONG_UNIT: i64 = 1 << 40;
/// Elements a set can have: `e0` to `e3`.
pub const ELEMENTS: u64 = 4;
/// The rows of a register key that has some, by their sort keys.
pub const ROWS: [&str; 4] = ["a0", "a1", "b0", "b1"];
/// Registers that are read in one call, at most.
const BATCH_MAX: u64 = 6;

/// What the clients of a run do.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Workload {
    /// Registers, counters and sets, in turns.
    #[value(name = "all-types")]
    #[serde(rename = "all-types")]
    All,
    /// Reads, writes, deletes and compare-and-sets of two registers at a time.
    Register,
    /// Increments without request ids: after an unknown outcome nobody may repeat them.
    Counter,
    /// Increments that all carry a request id and are repeated under it.
    CounterIds,
    /// Elements added, removed, asked for and listed.
    Set,
    /// Registers, spread over many keys, often read several in one call.
    ManyKeys,
    /// All levels on one register at a time.
    MixedKey,
    /// Sessions that hop between nodes and regions with an exported token at every other operation.
    Sessions,
    /// Registers with sort keys and sets: ranges of rows, whole keyspaces and whole sets, read in pages.
    Scan,
    /// One register at a time, written by everybody from everywhere.
    Contended,
}

/// The levels of a run's operations.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Levels {
    /// Only eventual.
    Eventual,
    /// Only session.
    Session,
    /// Only strong.
    Strong,
    /// All three, on the same keys.
    Mixed,
}

/// Chances of the levels, permille.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Eventual operations.
    pub eventual: u64,
    /// Session operations; the rest is strong.
    pub session: u64,
}

/// The name of a choice, as on the command line and in reports.
pub fn name_of(choice: &impl ValueEnum) -> String {
    let value = choice.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}

impl Levels {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }

    /// As chances.
    #[must_use]
    pub fn mix(self) -> Mix {
        let (eventual, session) = match self {
            Levels::Eventual => (1000, 0),
            Levels::Session => (0, 1000),
            Levels::Strong => (0, 0),
            Levels::Mixed => (333, 333),
        };
        Mix { eventual, session }
    }
}

impl Mix {
    fn draw(self, random: &mut Random) -> Level {
        match random.below(1000) {
            roll if roll < self.eventual => Level::Eventual,
            roll if roll < self.eventual + self.session => Level::Session,
            _ => Level::Strong,
        }
    }
}

/// What a workload is made of.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// Weight of operations on registers.
    pub registers: u64,
    /// Weight of operations on counters.
    pub counters: u64,
    /// Weight of operations on sets.
    pub sets: u64,
    /// Keys of each type at a time.
    pub keys: u64,
    /// Operations until the next keys take over.
    pub rotate_after: u64,
    /// How often a client moves to another node, permille per operation; `None`: as the run has it.
    pub hop: Option<u64>,
    /// How often a write carries a request id, permille; `None`: 800 at level strong, else 400.
    pub identified: Option<u64>,
    /// How often a set is read as a whole, permille of the operations on sets below level strong.
    pub whole: u64,
    /// How often several registers are read in one call, permille of the operations on registers.
    pub batches: u64,
    /// How often registers are scanned, permille of the operations on registers below level strong. Above 0, register
    /// keys have sort keys: [`ROWS`].
    pub scans: u64,
    /// How often a write waits until other regions have it durably, permille.
    pub acked: u64,
    /// For how many of them, at most.
    pub acking: u8,
}

impl Workload {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> String {
        name_of(&self)
    }

    /// Its parts.
    #[must_use]
    pub fn recipe(self) -> Recipe {
        let all = Recipe {
            registers: 6,
            counters: 3,
            sets: 1,
            keys: 2,
            rotate_after: 90,
            hop: None,
            identified: None,
            whole: 250,
            batches: 60,
            scans: 0,
            acked: 60,
            acking: 2,
        };
        let only = |registers, counters, sets| Recipe {
            registers,
            counters,
            sets,
            ..all
        };
        match self {
            Workload::All => all,
            Workload::Register => Recipe {
                batches: 0,
                ..only(1, 0, 0)
            },
            Workload::Counter => Recipe {
                identified: Some(0),
                ..only(0, 1, 0)
            },
            Workload::CounterIds => Recipe {
                identified: Some(1000),
                ..only(0, 1, 0)
            },
            Workload::Set => only(0, 0, 1),
            Workload::ManyKeys => Recipe {
                keys: 100,
                rotate_after: 4000,
                batches: 250,
                ..only(1, 0, 0)
            },
            Workload::MixedKey | Workload::Contended => Recipe {
                keys: 1,
                rotate_after: 120,
                batches: 0,
                ..only(1, 0, 0)
            },
            Workload::Sessions => Recipe {
                hop: Some(500),
                ..all
            },
            Workload::Scan => Recipe {
                whole: 700,
                batches: 100,
                scans: 300,
                rotate_after: 240,
                ..only(3, 0, 1)
            },
        }
    }
}

/// How an operation and its client's session go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tie {
    /// Not at all.
    None,
    /// It carries no token, but the session keeps the one that comes back: an eventual write.
    Keeps,
    /// It carries the session's token and brings a new one back.
    Carries,
}

/// What a client is about to do.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The operation.
    pub op: Op,
    /// `KEYSPACE/KEY`; of a read of several keys, what a history has as its key.
    pub key: String,
    /// The argument, as a history has it.
    pub value: Option<Datum>,
    /// The level.
    pub level: Level,
    /// Whether it belongs to the client's session.
    pub tie: Tie,
    /// Whether it carries a request id, where the carrier can choose.
    pub identified: bool,
    /// Regions that must have it durably before the reply; 0 for what the level asks.
    pub ack_regions: u8,
}

impl Intent {
    /// An operation as a client does it that leaves everything else to its level: tied to its session where the level
    /// has one, a write under a request id.
    #[must_use]
    pub fn plain(op: Op, key: &str, value: Option<Datum>, level: Level) -> Intent {
        Intent {
            op,
            key: key.to_owned(),
            value,
            level,
            tie: match level {
                Level::Eventual => Tie::None,
                Level::Session | Level::Strong => Tie::Carries,
            },
            identified: op.is_write(),
            ack_regions: 0,
        }
    }

    /// The keyspace and bare key.
    #[must_use]
    pub fn address(&self) -> (&str, &str) {
        split_key(&self.key)
    }

    /// The record of it, as invoked now by this client; its session is named where the operation is tied to it.
    #[must_use]
    pub fn record(&self, process: u64, session: &str, invoke_ns: u64) -> Record {
        let mut record = Record::invoked(process, self.op, &self.key, self.level, invoke_ns);
        record.value = self.value.clone();
        record.session = (self.tie != Tie::None).then(|| session.to_owned());
        record.ack_regions = Some(self.ack_regions).filter(|regions| *regions > 0);
        record
    }
}

/// The keyspace and bare key of a record's `KEYSPACE/KEY`; a key without one is of no keyspace.
#[must_use]
pub fn split_key(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or(("", key))
}

/// The partition key and the sort key of a bare key; the sort key is what stands behind a slash.
#[must_use]
pub fn split_row(key: &str) -> (&str, &str) {
    key.split_once('/').unwrap_or((key, ""))
}

/// The name of the service's call (`proto/hansa/v1/kv.proto`) that carries an operation out; `None` for what no client
/// of a workload does.
#[must_use]
pub fn verb(op: Op) -> Option<&'static str> {
    Some(match op {
        Op::Get | Op::Read | Op::Contains => "Get",
        Op::Put => "Put",
        Op::Delete => "Delete",
        Op::Cas => "CompareAndSet",
        Op::Incr | Op::Add | Op::Remove => "Update",
        Op::BatchGet => "BatchGet",
        Op::Scan => "Scan",
        Op::Members => "Members",
        Op::Final | Op::Digest | Op::Nemesis | Op::Usage => return None,
    })
}

/// Makes operations; counts what was made so that values are unique.
#[derive(Debug, Default)]
pub struct Generator {
    /// What all keys begin with.
    prefix: String,
    made: u64,
    /// Eventual increments given out, by key.
    bits: BTreeMap<String, u64>,
    /// The number of the newest value seen or written, and its version, by key.
    newest: BTreeMap<String, (u64, Option<String>)>,
}

/// An operation and its argument.
type Act = (Op, Option<Datum>);

impl Generator {
    /// A generator whose keys all begin with `prefix`: several may follow each other on one cluster.
    #[must_use]
    pub fn prefixed(prefix: &str) -> Generator {
        Generator {
            prefix: prefix.to_owned(),
            ..Generator::default()
        }
    }

    /// The next operation of whoever asks.
    pub fn next(&mut self, random: &mut Random, recipe: &Recipe, mix: Mix) -> Intent {
        self.made += 1;
        let level = mix.draw(random);
        let generation = self.made / recipe.rotate_after;
        let number = random.below(recipe.keys);
        let prefix = &self.prefix;
        let key = generation * recipe.keys + number;
        let key = |space: &str| format!("{space}/{prefix}k{key}");
        let kind = random.below(recipe.registers + recipe.counters + recipe.sets);
        let (key, (op, value)) = match kind {
            kind if kind < recipe.registers => {
                let registers = Registers {
                    prefix,
                    generation,
                    recipe,
                };
                match registers.several(random, level, number) {
                    Some(several) => several,
                    None => {
                        let key = registers.one(random, number);
                        let act = self.on_register(random, level, &key);
                        (key, act)
                    }
                }
            }
            kind if kind < recipe.registers + recipe.counters => {
                let key = key(COUNTERS);
                let act = self.on_counter(random, level, &key);
                (key, act)
            }
            _ => (key(SETS), on_set(random, level, recipe.whole)),
        };
        let writes = op.is_write();
        let identified = recipe.identified.unwrap_or(match level {
            Level::Strong => 800,
            Level::Eventual | Level::Session => 400,
        });
        Intent {
            op,
            key,
            value,
            level,
            tie: tie(random, level, writes),
            identified: writes && random.chance(identified),
            ack_regions: match writes && random.chance(recipe.acked) {
                true => random.between(1, u64::from(recipe.acking)) as u8,
                false => 0,
            },
        }
    }

    fn on_register(&mut self, random: &mut Random, level: Level, key: &str) -> Act {
        let fresh = format!("v{}", self.made);
        match random.below(100) {
            0..45 => (Op::Get, None),
            45..70 => (Op::Put, Some(Datum::Text(fresh))),
            70..74 => (Op::Delete, None),
            _ if level != Level::Strong => (Op::Get, None),
            _ => (Op::Cas, Some(Datum::Swap(self.swap(random, fresh, key)))),
        }
    }

    /// A compare-and-set on a value written before, or on absence: about half of them succeed.
    fn swap(&mut self, random: &mut Random, new: String, key: &str) -> Swap {
        let newest = self.newest.get(key).filter(|_| random.chance(850));
        let expect = match newest {
            Some((_, Some(etag))) if random.chance(300) => Expect::Etag(etag.clone()),
            Some((made, _)) => Expect::Value(format!("v{made}")),
            None => Expect::Absent,
        };
        Swap { expect, new }
    }

    fn on_counter(&mut self, random: &mut Random, level: Level, key: &str) -> Act {
        let given = self.bits.entry(key.to_owned()).or_default();
        if random.chance(450) || (level != Level::Strong && *given >= EVENTUAL_BITS) {
            return (Op::Read, None);
        }
        let amount = match level {
            Level::Strong => STRONG_UNIT,
            Level::Eventual | Level::Session => {
                *given += 1;
                1 << (2 * (*given - 1))
            }
        };
        (Op::Incr, Some(Datum::Integer(amount)))
    }

    /// Remembers the newest value seen or written of a key, for later compare-and-sets.
    pub fn seen(&mut self, record: &Record) {
        let value = match record.op {
            Op::Put | Op::Cas if record.status == Status::Ok => record.stores(),
            Op::Get => record.text(),
            _ => None,
        };
        let made = value.and_then(|v| v.strip_prefix('v')?.parse().ok());
        if let (Some(key), Some(made)) = (&record.key, made) {
            self.newest.insert(key.clone(), (made, record.etag.clone()));
        }
    }
}

/// The registers of the moment: those of one generation.
struct Registers<'g> {
    prefix: &'g str,
    generation: u64,
    recipe: &'g Recipe,
}

impl Registers<'_> {
    /// A register of this number; where it has rows, one of them.
    fn one(&self, random: &mut Random, number: u64) -> String {
        match self.recipe.scans {
            0 => self.row(number, 0),
            _ => self.row(number, random.below(ROWS.len() as u64) as usize),
        }
    }

    fn row(&self, number: u64, row: usize) -> String {
        match self.recipe.scans {
            0 => {
                let key = self.generation * self.recipe.keys + number;
                format!("{REGISTERS}/{}k{key}", self.prefix)
            }
            _ => format!("{}{number}/{}", self.start(), ROWS[row % ROWS.len()]),
        }
    }

    /// What all keys with rows begin with.
    fn start(&self) -> String {
        format!("{REGISTERS}/{}g{}-", self.prefix, self.generation)
    }

    /// A read of several, if it is to be one: what it names, and the act. Recipes without such reads take nothing from
    /// the stream of chance.
    fn several(&self, random: &mut Random, level: Level, number: u64) -> Option<(String, Act)> {
        let Recipe { scans, batches, .. } = *self.recipe;
        if scans > 0 && level != Level::Strong && random.chance(scans) {
            let start = self.start();
            let key = match random.below(8) {
                // The whole keyspace is read, and what begins so is kept.
                0 => start,
                1 => format!("{start}{number}/a"),
                2 => format!("{start}{number}/b"),
                _ => format!("{start}{number}/"),
            };
            return Some((key, (Op::Scan, None)));
        }
        if batches == 0 || !random.chance(batches) {
            return None;
        }
        let rows = if scans > 0 { ROWS.len() as u64 } else { 1 };
        let all = self.recipe.keys * rows;
        let (first, count) = (random.below(all), random.between(2, BATCH_MAX).min(all));
        let keys = (first..first + count).map(|at| at % all);
        let asked = keys.map(|at| (self.row(at / rows, (at % rows) as usize), Held::default()));
        let asked = Datum::Rows(asked.collect());
        Some((format!("{REGISTERS}/"), (Op::BatchGet, Some(asked))))
    }
}

fn on_set(random: &mut Random, level: Level, whole: u64) -> Act {
    if level != Level::Strong && random.chance(whole) {
        return (Op::Members, None);
    }
    let element = format!("e{}", random.below(ELEMENTS));
    match random.below(100) {
        0..45 => (Op::Add, Some(Datum::Text(element))),
        45..65 => (Op::Remove, Some(Datum::Text(element))),
        _ => {
            let present = None;
            let asked = Membership { element, present };
            (Op::Contains, Some(Datum::Membership(asked)))
        }
    }
}

/// Some strong operations belong to no session; some eventual writes leave their token with one.
fn tie(random: &mut Random, level: Level, writes: bool) -> Tie {
    match level {
        Level::Session => Tie::Carries,
        Level::Strong if random.chance(150) => Tie::None,
        Level::Strong => Tie::Carries,
        Level::Eventual if writes && random.chance(300) => Tie::Keeps,
        Level::Eventual => Tie::None,
    }
}
