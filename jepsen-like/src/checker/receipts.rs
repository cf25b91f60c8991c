//! Receipts tell the truth: what a reply says of its level, who served it and where it is durable is so (own
//! definition, `docs/consistency-model.md`, Receipts).
//!
//! The level reached is not below the level asked for. The node and region that served are those that were asked. A
//! strong operation was decided by a majority of the regions, and where there are several it paid a round trip
//! between them; a strong read is not stale at all. A weaker write is durable in the region that served it and in as
//! many others as were asked for, and only one that had to wait for others paid for them. That a stated staleness
//! holds is the property `staleness`. Fields that a receipt does not have are not judged.

use std::collections::{BTreeMap, BTreeSet};

use super::receipt::Receipt;
use super::{Verdict, Violation};
use crate::history::{History, Level, Op, Record, Status};

/// Name of the property.
pub const NAME: &str = "receipts";

/// Decides the property over every successful client operation with a receipt.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let cluster = Cluster::of(history);
    let mut unknown = None;
    for (line, record) in history.records.iter().enumerate() {
        if !record.op.is_client() || record.status != Status::Ok {
            continue;
        }
        let fault = match Receipt::of(record) {
            Ok(None) => continue,
            Ok(Some(receipt)) => cluster.judge(record, &receipt),
            Err(why) => Err(why),
        };
        match fault {
            Ok(None) => {}
            Ok(Some(explanation)) => {
                return Violation::verdict(history, NAME, explanation, vec![line]);
            }
            Err(why) => unknown = unknown.or(Some(format!("line {}: {why}", line + 1))),
        }
    }
    unknown.map_or(Verdict::Ok, |why| Verdict::Unknown { why })
}

/// What the lines of a history say of the cluster.
struct Cluster<'h> {
    regions: BTreeSet<&'h str>,
    /// Nodes and, where a line names both, their regions.
    nodes: BTreeMap<&'h str, Option<&'h str>>,
}

impl<'h> Cluster<'h> {
    fn of(history: &'h History) -> Self {
        let mut cluster = Self {
            regions: BTreeSet::new(),
            nodes: BTreeMap::new(),
        };
        for record in history.records.iter().filter(|r| r.op != Op::Nemesis) {
            let region = record.region.as_deref();
            cluster.regions.extend(region);
            if let Some(node) = record.node.as_deref() {
                let known = cluster.nodes.entry(node).or_default();
                *known = known.or(region);
            }
        }
        cluster
    }

    fn majority(&self) -> usize {
        self.regions.len() / 2 + 1
    }

    fn region_of(&self, node: &str) -> Option<&'h str> {
        self.nodes.get(node).copied().flatten()
    }

    /// What is not true of a receipt.
    fn judge(&self, record: &Record, receipt: &Receipt<'_>) -> Result<Option<String>, String> {
        let reached = receipt.level()?;
        if let (Some(reached), Some(asked)) = (reached, record.level)
            && reached < asked
        {
            let text = format!("level {reached:?} was reached and {asked:?} asked for");
            return Ok(Some(text.to_lowercase()));
        }
        let fault = self
            .server(record, receipt)
            .or_else(|| self.participants(receipt));
        let fault = fault.or_else(|| match record.level == Some(Level::Strong) {
            true => self.strong(record, receipt),
            false => self.weak(record, receipt),
        });
        Ok(fault)
    }

    /// Who served it, against who was asked.
    fn server(&self, record: &Record, receipt: &Receipt<'_>) -> Option<String> {
        if let Some(served_by) = receipt.served_by {
            match record.node.as_deref() {
                Some(node) if node != served_by => {
                    return Some(format!("{served_by} served it and {node} was asked"));
                }
                None if !self.nodes.is_empty() && !self.nodes.contains_key(served_by) => {
                    return Some(format!(
                        "{served_by} served it, which is no node of the run"
                    ));
                }
                _ => {}
            }
        }
        let (served_in, region) = (receipt.served_in?, record.region.as_deref()?);
        (served_in != region)
            .then(|| format!("it was served in {served_in} and {region} was asked"))
    }

    /// Regions that do not exist.
    fn participants(&self, receipt: &Receipt<'_>) -> Option<String> {
        let regions = receipt.regions.as_deref()?;
        let durable = receipt.durable_regions.iter().flatten();
        let mut named = regions.iter().chain(durable);
        let alien = named.find(|region| !self.regions.contains(**region))?;
        Some(format!("it names {alien}, which is no region of the run"))
    }

    fn strong(&self, record: &Record, receipt: &Receipt<'_>) -> Option<String> {
        let majority = self.majority();
        let writes = record.op.is_write().then_some(&receipt.durable_regions);
        let lists = [
            ("was decided in", Some(&receipt.regions)),
            ("is durable in", writes),
        ];
        for (what, list) in lists {
            let Some(Some(list)) = list else { continue };
            let named: BTreeSet<&str> = list.iter().copied().collect();
            if named.len() < majority {
                return Some(format!(
                    "a strong operation {what} {} of {} regions",
                    named.len(),
                    self.regions.len()
                ));
            }
        }
        if let (Some(regions), Some(replicas)) = (&receipt.regions, &receipt.replicas) {
            // One voter of a region is not the region, so the other way round does not hold.
            let voted: BTreeSet<&str> = replicas.iter().filter_map(|r| self.region_of(r)).collect();
            let known = replicas.iter().all(|r| self.region_of(r).is_some());
            let silent = regions.iter().find(|region| !voted.contains(**region));
            if let Some(region) = silent.filter(|_| known) {
                return Some(format!(
                    "{region} took part, and none of its nodes is named"
                ));
            }
        }
        if self.regions.len() > 1 && receipt.wan_round_trips == Some(0) {
            return Some("a strong operation paid no round trip between regions".to_owned());
        }
        match receipt.staleness_ms {
            Some(0) => None,
            _ if record.op.is_write() => None,
            Some(stale) => Some(format!("a strong read is {stale} ms stale")),
            None => Some("a strong read names no staleness".to_owned()),
        }
    }

    fn weak(&self, record: &Record, receipt: &Receipt<'_>) -> Option<String> {
        let asked = u64::from(record.ack_regions.unwrap_or(0));
        if receipt.forwarded_to.is_none() && record.level == Some(Level::Eventual) {
            match receipt.wan_round_trips {
                Some(trips) if trips > 0 && asked == 0 => {
                    return Some(format!(
                        "{trips} round trips paid for nothing but local work"
                    ));
                }
                Some(0) if asked > 0 => {
                    return Some(format!("{asked} regions waited for without a round trip"));
                }
                _ => {}
            }
        }
        if !record.op.is_write() {
            return None;
        }
        let durable = receipt.durable_regions.as_deref()?;
        let served = match receipt.forwarded_to.or(receipt.served_by) {
            Some(node) => self.region_of(node),
            None => receipt.served_in,
        };
        if let Some(region) = served.filter(|region| !durable.contains(region)) {
            return Some(format!("a write that {region} served is not durable there"));
        }
        let named: BTreeSet<&str> = durable.iter().copied().collect();
        (named.len() as u64 <= asked).then(|| {
            format!(
                "a write is durable in {} regions, and {asked} beyond its own were asked for",
                named.len()
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::checker::testing::*;

    /// A receipt as real runs record it, with some fields changed.
    fn receipt(level: &str, changed: Value) -> Value {
        let strong = level == "strong";
        let regions = if strong {
            json!(["eu", "us"])
        } else {
            json!(["eu"])
        };
        let mut receipt = json!({
            "level": level,
            "staleness_ms": if strong { 0 } else { 7 },
            "served_by": "eu-1",
            "served_in": "eu",
            "replicas": if strong { json!(["eu-1", "us-1"]) } else { json!(["eu-1"]) },
            "regions": regions,
            "durable_regions": regions,
            "wan_round_trips": u8::from(strong),
            "absorbed": false,
            "merged": false,
            "forwarded_to": null,
            "epoch": 1,
            "attempts": 1,
            "elapsed_us": 900,
        });
        for (name, value) in changed.as_object().unwrap() {
            receipt[name] = value.clone();
        }
        receipt
    }

    fn asked(what: Op, level: Level, changed: Value) -> Record {
        let name = serde_json::to_value(level).unwrap();
        Record {
            node: Some("eu-1".into()),
            region: Some("eu".into()),
            receipt: Some(receipt(name.as_str().unwrap(), changed)),
            ..op(1, what, level, 10, 20)
        }
    }

    fn judged(record: Record) -> Verdict {
        let end = |node: &str| Record {
            node: Some(format!("{node}-1")),
            ..last(node, None)
        };
        check(&history([record, end("eu"), end("us"), end("ap")]))
    }

    #[track_caller]
    fn lies(record: Record, part: &str) {
        assert_violation(&judged(record), part, &[0]);
    }

    #[test]
    fn true_receipts_pass() {
        for level in [Eventual, Session, Strong] {
            for what in [Op::Get, Op::Put] {
                assert_eq!(judged(asked(what, level, json!({}))), Verdict::Ok);
            }
        }
        let more =
            json!({"durable_regions": ["eu", "ap"], "regions": ["eu", "ap"], "wan_round_trips": 1});
        let mut acked = asked(Op::Put, Eventual, more);
        acked.ack_regions = Some(1);
        assert_eq!(judged(acked), Verdict::Ok);
        let forwarded = json!({
            "forwarded_to": "us-1", "replicas": ["us-1"], "regions": ["us"], "durable_regions": ["us"],
            "wan_round_trips": 1, "staleness_ms": null,
        });
        assert_eq!(judged(asked(Op::Put, Session, forwarded)), Verdict::Ok);
        // A better level than asked for, and a receipt of somebody who has less to say.
        let mut better = asked(Op::Get, Strong, json!({}));
        better.level = Some(Eventual);
        better.receipt.as_mut().unwrap()["wan_round_trips"] = json!(0);
        assert_eq!(judged(better), Verdict::Ok);
        let mut other = asked(Op::Get, Strong, json!({}));
        other.receipt = Some(json!({"level": "strong", "staleness_ms": 0, "revision": 5}));
        assert_eq!(judged(other), Verdict::Ok);
    }

    #[test]
    fn levels_and_servers_are_those_asked() {
        lies(
            asked(Op::Get, Strong, json!({"level": "session"})),
            "level session was reached and strong asked for",
        );
        lies(
            asked(Op::Get, Eventual, json!({"served_by": "us-1"})),
            "us-1 served it and eu-1 was asked",
        );
        lies(
            asked(Op::Get, Eventual, json!({"served_in": "us"})),
            "it was served in us and eu was asked",
        );
        let mut alone = asked(Op::Get, Eventual, json!({"served_by": "xx-1"}));
        alone.node = None;
        lies(alone, "xx-1 served it, which is no node of the run");
        lies(
            asked(Op::Get, Session, json!({"regions": ["eu", "mars"]})),
            "it names mars",
        );
    }

    #[test]
    fn strong_operations_name_a_majority_and_its_price() {
        let few = json!({"regions": ["eu"], "replicas": ["eu-1"]});
        lies(asked(Op::Get, Strong, few), "decided in 1 of 3 regions");
        let twice = json!({"durable_regions": ["eu", "eu"]});
        lies(asked(Op::Put, Strong, twice), "durable in 1 of 3 regions");
        lies(
            asked(Op::Put, Strong, json!({"replicas": ["eu-1", "ap-1"]})),
            "us took part, and none of its nodes is named",
        );
        // A voter of a region of which no majority voted.
        let one_more = json!({"replicas": ["eu-1", "us-1", "ap-1"]});
        assert_eq!(judged(asked(Op::Put, Strong, one_more)), Verdict::Ok);
        lies(
            asked(Op::Put, Strong, json!({"wan_round_trips": 0})),
            "paid no round trip",
        );
        lies(
            asked(Op::Get, Strong, json!({"staleness_ms": 3})),
            "a strong read is 3 ms stale",
        );
        lies(
            asked(Op::Get, Strong, json!({"staleness_ms": null})),
            "names no staleness",
        );
    }

    #[test]
    fn weak_writes_are_durable_where_they_were_served_and_where_that_was_asked_for() {
        lies(
            asked(Op::Put, Eventual, json!({"durable_regions": []})),
            "a write that eu served is not durable there",
        );
        let elsewhere = json!({"forwarded_to": "us-1", "wan_round_trips": 1});
        lies(
            asked(Op::Put, Session, elsewhere),
            "a write that us served is not durable there",
        );
        let mut acked = asked(Op::Add, Eventual, json!({"wan_round_trips": 1}));
        acked.ack_regions = Some(1);
        lies(acked.clone(), "durable in 1 regions, and 1 beyond its own");
        acked.receipt.as_mut().unwrap()["wan_round_trips"] = json!(0);
        lies(acked, "1 regions waited for without a round trip");
        lies(
            asked(Op::Get, Eventual, json!({"wan_round_trips": 1})),
            "1 round trips paid for nothing",
        );
    }

    #[test]
    fn what_cannot_be_read_is_unknown_and_what_failed_is_not_judged() {
        let strange = asked(Op::Get, Eventual, json!({"level": "sturdy"}));
        assert_unknown(&judged(strange), "line 1: a receipt with the unknown level");
        let broken = asked(Op::Get, Eventual, json!({"regions": 5}));
        assert_unknown(&judged(broken), "line 1: a receipt that cannot be read");
        let failed = asked(Op::Get, Eventual, json!({"served_by": "us-1"})).failed();
        assert_eq!(judged(failed), Verdict::Ok);
    }
}
