//! The final reads of a history: which regions must have answered for each key, and which did not.

use std::collections::{BTreeMap, BTreeSet};

use super::index::KeyIndex;
use crate::history::{History, Op, Status};

/// Regions that were asked for the final state, by keyspace.
pub(super) struct Finals<'h> {
    history: &'h History,
    regions: BTreeMap<&'h str, BTreeSet<&'h str>>,
}

impl<'h> Finals<'h> {
    pub(super) fn of(history: &'h History) -> Self {
        let mut regions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for record in &history.records {
            if let (Op::Final, Some(key), Some(region)) = (record.op, &record.key, &record.region) {
                regions.entry(keyspace(key)).or_default().insert(region);
            }
        }
        Self { history, regions }
    }

    /// Lines of the final reads of a key that were answered, in order of time.
    ///
    /// # Errors
    /// Says which region's answer is missing. Every region that was asked about any key of the keyspace must have
    /// answered for this one.
    pub(super) fn answered(&self, key: &KeyIndex<'_>) -> Result<Vec<usize>, String> {
        let answered = key.finals.iter().copied();
        let answered: Vec<usize> = answered
            .filter(|&line| self.history.records[line].status == Status::Ok)
            .collect();
        let Some(regions) = self.regions.get(keyspace(key.key)) else {
            return Err(format!("{}: no final read", key.key));
        };
        for region in regions {
            let found = answered
                .iter()
                .any(|&line| self.history.records[line].region.as_deref() == Some(region));
            if !found {
                return Err(format!("{}: no final read from {region}", key.key));
            }
        }
        Ok(answered)
    }
}

/// The part of a key's name before the first slash.
fn keyspace(key: &str) -> &str {
    key.split_once('/').map_or(key, |(keyspace, _)| keyspace)
}
