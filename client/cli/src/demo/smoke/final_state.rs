//! After the heal: equal digests everywhere, and every acknowledged write in every region.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use hansa_client::Consistency::Eventual;
use hansa_client::{Client, Error, Receipt};
use serde_json::Value as Json;

use super::super::cluster::Cluster;
use super::super::history::{Line, Op};
use super::super::ready::admin;
use super::super::shape::REGIONS;
use super::actor::{COUNTERS, Desk, REGISTERS, SETS};
use super::{Figures, millis, until};

/// How long the regions may take to hold the same after the load ended.
const CONVERGED_WITHIN: Duration = Duration::from_secs(20);

/// One node's digests: keyspace and hexadecimal digits.
type Digests = Vec<(String, String)>;

/// Waits for equal digests, then reads everything in every region. What is missing is noted at the
/// desk, for the verdict at the end.
pub(super) async fn run(cluster: &Cluster, desk: &Arc<Desk>, figures: &mut Figures) -> Result<()> {
    let equal = until("all nodes have equal digests", CONVERGED_WITHIN, || async {
        match digests(cluster).await {
            Some(all) => difference(&all),
            None => Some("a node does not answer".to_owned()),
        }
    });
    figures.insert("converged_after_ms".to_owned(), millis(equal.await?));
    record_digests(cluster, desk).await?;
    let [registers, counters, sets] = desk.ledger.keys();
    for (region, name) in REGIONS.iter().enumerate() {
        let reader = Reader { desk, region };
        let read = async {
            for key in &registers {
                reader.register(key).await?;
            }
            for key in &counters {
                reader.counter(key).await?;
            }
            for key in &sets {
                reader.set(key).await?;
            }
            anyhow::Ok(())
        };
        read.await
            .with_context(|| format!("the final state of {name}"))?;
    }
    let keys = registers.len() + counters.len() + sets.len();
    figures.insert("keys_checked".to_owned(), keys.into());
    Ok(())
}

/// The digests of all nodes, in order; `None` when one does not answer.
async fn digests(cluster: &Cluster) -> Option<Vec<Digests>> {
    let mut all = Vec::with_capacity(cluster.shape.nodes());
    for node in 0..cluster.shape.nodes() {
        let reply = admin(cluster.ports, node)
            .await?
            .digest("", false)
            .await
            .ok()?;
        let pairs = reply
            .keyspaces
            .into_iter()
            .map(|it| (it.keyspace, it.digest));
        all.push(pairs.collect());
    }
    Some(all)
}

/// The keyspaces in which not all nodes agree, in words.
fn difference(all: &[Digests]) -> Option<String> {
    let (first, others) = all.split_first()?;
    let differs = |at: &usize| others.iter().any(|it| it.get(*at) != first.get(*at));
    let names: Vec<&str> = (0..first.len())
        .filter(differs)
        .map(|at| first[at].0.as_str())
        .collect();
    (!names.is_empty()).then(|| format!("{} differ", names.join(", ")))
}

async fn record_digests(cluster: &Cluster, desk: &Desk) -> Result<()> {
    let all = digests(cluster).await.context("a node does not answer")?;
    for (node, digests) in all.into_iter().enumerate() {
        for (keyspace, digest) in digests {
            desk.history.write(&Line {
                node: Some(cluster.shape.node_name(node)),
                key: Some(keyspace),
                value: Some(digest.into()),
                ..Line::event(Op::Digest, desk.history.now_ns())
            });
        }
    }
    Ok(())
}

/// Reads the final state in one region.
struct Reader<'a> {
    desk: &'a Desk,
    region: usize,
}

impl Reader<'_> {
    fn client(&self) -> &Client {
        &self.desk.clients[self.region]
    }

    /// Notes a fault and goes on: the history of a bad run is whole, too.
    fn judge(&self, fault: Option<String>) {
        if let Some(fault) = fault {
            self.desk
                .broke(format!("in {}: {fault}", REGIONS[self.region]));
        }
    }

    async fn register(&self, key: &str) -> Result<()> {
        let got = self.client().get(REGISTERS, key).level(Eventual).await?;
        let etag = got.found.etag.to_string();
        let value = got
            .bytes()
            .map(|bytes| String::from_utf8_lossy(bytes).into());
        let version = (!etag.is_empty()).then(|| etag.clone());
        self.record((REGISTERS, key), value, version, &got.receipt);
        self.judge(self.desk.ledger.register_fault(key, &etag));
        Ok(())
    }

    async fn counter(&self, key: &str) -> Result<()> {
        let got = self.client().get(COUNTERS, key).level(Eventual).await?;
        let total = got.total().unwrap_or(0);
        self.record((COUNTERS, key), Some(total.into()), None, &got.receipt);
        self.judge(self.desk.ledger.counter_fault(key, total));
        Ok(())
    }

    async fn set(&self, key: &str) -> Result<()> {
        let (elements, receipt) = self.elements(key).await?;
        let value = elements.iter().cloned().map(Json::from).collect::<Vec<_>>();
        self.record((SETS, key), Some(value.into()), None, &receipt);
        self.judge(self.desk.ledger.set_fault(key, &elements));
        Ok(())
    }

    async fn elements(&self, key: &str) -> Result<(BTreeSet<String>, Receipt), Error> {
        let mut call = self.client().members(SETS, key).level(Eventual);
        let mut elements = BTreeSet::new();
        loop {
            let page = call.clone().await?;
            let texts = page
                .elements
                .iter()
                .map(|it| String::from_utf8_lossy(it).into_owned());
            elements.extend(texts);
            if page.next.is_empty() {
                return Ok((elements, page.receipt));
            }
            call = call.page_token(page.next);
        }
    }

    fn record(
        &self,
        (keyspace, key): (&str, &str),
        value: Option<Json>,
        etag: Option<String>,
        receipt: &Receipt,
    ) {
        self.desk.history.write(&Line {
            region: Some(REGIONS[self.region]),
            node: Some(receipt.served_by.clone()),
            key: Some(format!("{keyspace}/{key}")),
            value,
            etag,
            ..Line::event(Op::Final, self.desk.history.now_ns())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_digests_are_named() {
        let node = |a: &str, b: &str| {
            vec![
                ("carts".to_owned(), a.to_owned()),
                ("stock".to_owned(), b.to_owned()),
            ]
        };
        assert_eq!(difference(&[node("1", "2"), node("1", "2")]), None);
        let all = [node("1", "2"), node("1", "2"), node("1", "3")];
        assert_eq!(difference(&all).unwrap(), "stock differ");
        assert_eq!(
            difference(&[node("1", "2"), Vec::new()]).unwrap(),
            "carts, stock differ"
        );
    }
}
