//! The receipt of a reply, as histories record it: the JSON of `hansa --json`. Every field may be missing, so that
//! another database can record what it has.

use serde::Deserialize;

use crate::history::{Level, Record};

/// What a reply says it is worth. Fields that no checker needs are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Receipt<'h> {
    #[serde(borrow)]
    pub(super) level: Option<&'h str>,
    pub(super) staleness_ms: Option<u64>,
    pub(super) served_by: Option<&'h str>,
    pub(super) served_in: Option<&'h str>,
    pub(super) replicas: Option<Vec<&'h str>>,
    pub(super) regions: Option<Vec<&'h str>>,
    pub(super) durable_regions: Option<Vec<&'h str>>,
    pub(super) wan_round_trips: Option<u64>,
    pub(super) forwarded_to: Option<&'h str>,
}

impl<'h> Receipt<'h> {
    /// The receipt of a line; `None` where there is none.
    ///
    /// # Errors
    /// Says what is no receipt about it.
    pub(super) fn of(record: &'h Record) -> Result<Option<Self>, String> {
        let Some(receipt) = &record.receipt else {
            return Ok(None);
        };
        match Self::deserialize(receipt) {
            Ok(receipt) => Ok(Some(receipt)),
            Err(error) => Err(format!("a receipt that cannot be read: {error}")),
        }
    }

    /// The level that was reached; `None` where it is not named.
    ///
    /// # Errors
    /// Names a level that histories do not know.
    pub(super) fn level(&self) -> Result<Option<Level>, String> {
        Ok(Some(match self.level {
            None => return Ok(None),
            Some("eventual") => Level::Eventual,
            Some("session") => Level::Session,
            Some("strong") => Level::Strong,
            Some(other) => return Err(format!("a receipt with the unknown level {other}")),
        }))
    }
}
