//! Taking a command line apart: names of nodes, keyspaces, durations and messages.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::key::{KeyError, KeyspaceId, NodeId, Row};
use hansa_consistency::register::Expect;
use hansa_consistency::request::Level;

use super::post::Pattern;

/// The keyspaces of the cluster, in order of their ids. `nowhere` names none.
const KEYSPACES: [&str; 4] = ["registers", "counters", "sets", "locks"];

/// The words of a line: plain ones in order, and `name=value` ones.
pub(crate) struct Words<'a> {
    line: &'a str,
    plain: Vec<&'a str>,
    named: Vec<(&'a str, &'a str)>,
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Words<'a> {
        let (named, plain): (Vec<&str>, Vec<&str>) =
            line.split_whitespace().partition(|word| word.contains('='));
        Words {
            line,
            plain,
            named: named.iter().filter_map(|w| w.split_once('=')).collect(),
        }
    }

    /// The plain word at a position.
    pub(crate) fn at(&self, position: usize) -> &'a str {
        let word = self.plain.get(position);
        word.unwrap_or_else(|| panic!("a word is missing: {}", self.line))
    }

    /// All plain words from a position on.
    pub(crate) fn from(&self, position: usize) -> &[&'a str] {
        self.plain.get(position..).unwrap_or(&[])
    }

    /// The value of a named word.
    pub(crate) fn named(&self, name: &str) -> Option<&'a str> {
        let found = self.named.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| *value)
    }

    /// Panics unless every named word is one of these: a misspelt option must not pass.
    pub(crate) fn allow(&self, names: &[&str]) {
        for (name, _) in &self.named {
            assert!(names.contains(name), "unknown option {name}: {}", self.line);
        }
    }
}

/// `90ms`, `2s` or `10m`.
pub(crate) fn duration(word: &str) -> Duration {
    let digits = word.trim_end_matches(char::is_alphabetic);
    let number: u64 = digits.parse().unwrap_or_else(|_| panic!("no time: {word}"));
    match &word[digits.len()..] {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(60 * number),
        _ => panic!("no time: {word}"),
    }
}

/// `a` or `c` with one node per region, `a1` to `c3` with three.
pub(crate) fn node(word: &str, per_region: u16) -> NodeId {
    let mut letters = word.bytes();
    let region = match letters.next() {
        Some(letter @ b'a'..=b'c') => u16::from(letter - b'a'),
        _ => panic!("no node: {word}"),
    };
    let number = match (letters.next(), per_region) {
        (None, 1) => 0,
        (Some(digit @ b'1'..=b'3'), 3) => u16::from(digit - b'1'),
        _ => panic!("no node: {word}"),
    };
    NodeId(region * per_region + number)
}

/// The name that [`node`] takes.
pub(crate) fn node_name(node: NodeId, per_region: u16) -> String {
    let region = (b'a' + (node.0 / per_region) as u8) as char;
    match per_region {
        1 => region.to_string(),
        _ => format!("{region}{}", node.0 % per_region + 1),
    }
}

/// One node, a region's nodes (`a` with three nodes each), or all (`*`).
pub(crate) fn nodes(word: &str, per_region: u16) -> BTreeSet<NodeId> {
    let region = |letter: u8| {
        let first = u16::from(letter - b'a') * per_region;
        (first..first + per_region).map(NodeId)
    };
    match word.as_bytes() {
        [b'*'] => (b'a'..=b'c').flat_map(region).collect(),
        [letter @ b'a'..=b'c'] => region(*letter).collect(),
        _ => BTreeSet::from([node(word, per_region)]),
    }
}

/// `append,accept a>b`: kinds (or `any`), then ends.
pub(crate) fn pattern(kinds: &str, ends: &str, per_region: u16) -> Pattern {
    let (from, to) = ends.split_once('>').expect("FROM>TO");
    let kinds = kinds.split(',').filter(|kind| *kind != "any");
    Pattern {
        kinds: kinds.map(str::to_owned).collect(),
        from: nodes(from, per_region),
        to: nodes(to, per_region),
    }
}

/// The level of a name.
pub(crate) fn level(word: &str) -> Level {
    [Level::Eventual, Level::Session, Level::Strong]
        .into_iter()
        .find(|level| level.name() == word)
        .unwrap_or_else(|| panic!("no level: {word}"))
}

/// `KEYSPACE/KEY` as a row.
pub(crate) fn row(word: &str, element: Option<&[u8]>) -> Result<Row, KeyError> {
    let (keyspace, key) = word.split_once('/').expect("KEYSPACE/KEY");
    let id = KEYSPACES.iter().position(|name| *name == keyspace);
    assert!(id.is_some() || keyspace == "nowhere", "no keyspace: {word}");
    let id = KeyspaceId(id.unwrap_or(KEYSPACES.len()) as u16);
    Row::new(id, 1, &bytes(key), b"", element)
}

/// The name of a keyspace.
pub(crate) fn keyspace_name(id: KeyspaceId) -> &'static str {
    KEYSPACES[usize::from(id.0)]
}

/// The word's bytes; `x*9` is nine times x.
pub(crate) fn bytes(word: &str) -> Bytes {
    match word.split_once('*') {
        Some((unit, times)) => Bytes::from(unit.repeat(times.parse().expect("a number of times"))),
        None => Bytes::copy_from_slice(word.as_bytes()),
    }
}

/// `absent` or `value:V`; an etag is looked up by the caller.
pub(crate) fn expect(word: &str, etag: impl Fn(&str) -> Bytes) -> Expect {
    match word.split_once(':') {
        None if word == "absent" => Expect::Absent,
        Some(("value", value)) => Expect::Value(bytes(value)),
        Some(("etag", name)) => Expect::Etag(etag(name)),
        _ => panic!("no expectation: {word}"),
    }
}
