//! `demo --bench-strong`: what a strong get and a strong put cost from each region, one client, one
//! operation at a time, nothing else running.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use hansa_client::{Client, Consistency, Receipt};
use hdrhistogram::Histogram;
use tokio::time::{Instant, sleep, timeout};

use super::board::{count, histogram};
use super::cluster::Cluster;
use super::ready::{LOOK_EVERY, status};
use super::shape::REGIONS;

/// Operations of each kind per region.
const OPERATIONS: u32 = 200;

/// Rows per region, used in turn.
const ROWS: u32 = 20;

/// How long the strong writes may take until every node knows them chosen.
const SETTLE_WITHIN: Duration = Duration::from_secs(15);

/// WAN round trips that a receipt must show.
const GET_ROUND_TRIPS: u32 = 1;

/// As [`GET_ROUND_TRIPS`], of a put: one where the nearest region completes a majority by one node, else two.
fn put_round_trips(cluster: &Cluster) -> u32 {
    match cluster.shape.nodes_per_region {
        1 => 1,
        _ => 2,
    }
}

/// One kind of operation in one region.
struct Series {
    latency: Histogram<u64>,
    /// Receipts by the round trips they show: 0, 1, 2, and 3 or more.
    round_trips: [u32; 4],
}

impl Series {
    fn new() -> Series {
        Series {
            latency: histogram(3),
            round_trips: [0; 4],
        }
    }

    fn done(&mut self, receipt: &Receipt) {
        count(&mut self.latency, receipt.elapsed);
        let last = self.round_trips.len() - 1;
        let trips = receipt.wan_round_trips as usize;
        self.round_trips[trips.min(last)] += 1;
    }

    /// How many receipts show other round trips than these.
    fn others(&self, expected: u32) -> u32 {
        let all: u32 = self.round_trips.iter().sum();
        all - self.round_trips[expected as usize]
    }

    /// One row of the report; `ideal` is what the links alone cost.
    fn row(&self, region: &str, operation: &str, ideal: Duration, expected: u32) -> String {
        let at = |share: f64| self.latency.value_at_quantile(share) as f64 / 1000.0;
        let ideal = ideal.as_secs_f64() * 1000.0;
        let [_, one, two, more] = self.round_trips;
        let verdict = match self.others(expected) {
            0 => "ok".to_owned(),
            others => format!("{others} NOT {expected}"),
        };
        format!(
            "{region:<13} {operation:<5} {:>9.2} {:>9.2} {ideal:>9.0} {:>9.2}   {one:>4} {two:>4} {more:>4}   {verdict}",
            at(0.5),
            at(0.99),
            at(0.5) - ideal,
        )
    }
}

/// Runs it and prints the report to standard output. `Ok(false)` when a receipt shows other round
/// trips than 1 for a get, and for a put 1, or 2 with several nodes per region.
///
/// # Errors
/// When an operation fails, or the rows do not settle.
pub(crate) async fn run(cluster: &Cluster) -> Result<bool> {
    let mut rows = Vec::new();
    let mut good = true;
    for (region, name) in REGIONS.into_iter().enumerate() {
        eprintln!("{name}: {OPERATIONS} strong gets and {OPERATIONS} strong puts");
        let round_trip = cluster.shape.majority_round_trip(region);
        let (gets, puts) = measure(cluster, region).await?;
        let put_trips = put_round_trips(cluster);
        rows.push(gets.row(name, "get", round_trip * GET_ROUND_TRIPS, GET_ROUND_TRIPS));
        rows.push(puts.row(name, "put", round_trip * put_trips, put_trips));
        good &= gets.others(GET_ROUND_TRIPS) == 0 && puts.others(put_trips) == 0;
    }
    let mut report = format!(
        "{:<13} {:<5} {:>9} {:>9} {:>9} {:>9}   {:>4} {:>4} {:>4}\n",
        "region", "op", "p50 ms", "p99 ms", "links ms", "over ms", "1 rt", "2 rt", "more"
    );
    for row in rows {
        report += &format!("{row}\n");
    }
    report += "links: what the delays alone cost; over: p50 above that; rt: WAN round trips in the receipts\n";
    std::io::stdout()
        .write_all(report.as_bytes())
        .context("can not write the report")?;
    Ok(good)
}

async fn measure(cluster: &Cluster, region: usize) -> Result<(Series, Series)> {
    let client = &cluster.clients[region];
    let key = |number: u32| format!("bench/{}/{}", REGIONS[region], number % ROWS);
    for number in 0..ROWS {
        put(client, &key(number), number).await?;
    }
    settle(cluster).await?;
    let (mut gets, mut puts) = (Series::new(), Series::new());
    for number in 0..OPERATIONS {
        let get = client
            .get("profiles", key(number))
            .level(Consistency::Strong);
        gets.done(&get.await.context("a strong get failed")?.receipt);
    }
    for number in 0..OPERATIONS {
        puts.done(&put(client, &key(number), number).await?);
    }
    Ok((gets, puts))
}

async fn put(client: &Client, key: &str, number: u32) -> Result<Receipt> {
    let call = client.put("profiles", key, format!("bench {number}"));
    let written = call.level(Consistency::Strong).await;
    Ok(written.context("a strong put failed")?.receipt)
}

/// Waits until no node has a strong value that it does not know chosen.
async fn settle(cluster: &Cluster) -> Result<()> {
    let settled = async {
        for node in 0..cluster.shape.nodes() {
            while status(cluster.ports, node)
                .await
                .is_none_or(|it| it.unsettled > 0)
            {
                // The nodes tell nobody: they have to be asked.
                sleep(LOOK_EVERY).await;
            }
        }
    };
    let started = Instant::now();
    if timeout(SETTLE_WITHIN, settled).await.is_err() {
        bail!(
            "strong writes were not settled after {} s",
            started.elapsed().as_secs()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::receipt;
    use super::*;

    #[test]
    fn other_round_trips_are_counted_and_shown() {
        let mut series = Series::new();
        for trips in [1, 1, 2, 9] {
            series.done(&Receipt {
                wan_round_trips: trips,
                ..receipt(92, 0, false)
            });
        }
        assert_eq!((series.others(1), series.others(2)), (2, 3));
        let row = series.row("us-east", "get", Duration::from_millis(90), 1);
        assert!(row.starts_with("us-east       get       92."), "{row}");
        assert!(row.ends_with("2    1    1   2 NOT 1"), "{row}");
    }

    #[test]
    fn the_overhead_is_the_p50_above_the_links() {
        let mut series = Series::new();
        series.done(&Receipt {
            wan_round_trips: 2,
            ..receipt(184, 0, false)
        });
        let row = series.row("us-east", "put", Duration::from_millis(180), 2);
        let fields: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(fields[4], "180");
        let over: f64 = fields[5].parse().unwrap();
        assert!(
            (4.0..6.0).contains(&over),
            "two digits of precision: {over}"
        );
        assert_eq!(fields.last(), Some(&"ok"));
    }
}
