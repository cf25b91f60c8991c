//! The generator against real processes: what it prints and what it leaves.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are not marked as tests

use std::process::{Command, Output};
use std::time::Duration;

use hansa_jepsen::bench::gaps::Fault;
use hansa_jepsen::bench::keys::Share;
use hansa_jepsen::bench::mix::{Kind, Mix, Weighted};
use hansa_jepsen::bench::{self, ALL_REGIONS, Bench, Database, Load, Setup};
use hansa_jepsen::history::Level;
use hansa_jepsen::nemesis::Layout;
use hansa_jepsen::target::etcd;
use serde_json::Value;

mod support;

/// Seconds that count in each run.
const TIME: u64 = 3;

fn bench_with(words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hansa-jepsen"));
    command.args(["bench", "--warm-up", "1", "--time", &TIME.to_string()]);
    command.args(words.split_whitespace());
    command.arg("--bin").arg(support::program());
    command.output().unwrap()
}

/// The JSON of a run that succeeded, and its tables.
fn measured(words: &str) -> (Value, String) {
    let output = bench_with(words);
    let tables = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{words}: {tables}");
    let text = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_str(&text).expect("one object"), tables)
}

fn rows<'a>(run: &'a Value, operation: &str) -> Vec<&'a Value> {
    let rows = run["rows"].as_array().unwrap().iter();
    rows.filter(|row| row["operation"] == operation).collect()
}

#[test]
fn an_open_loop_on_three_nodes_keeps_its_rate_and_counts_what_it_costs() {
    let words = "--json --wan 20,30,40 --rate 300 --clients 8 --mix get=1,put=1 --levels strong \
                 --keys 90 --keys-of own";
    let (json, tables) = measured(words);
    let run = &json["runs"][0];
    assert_eq!(run["schedule"], "open");
    assert_eq!(run["wan_ms"], serde_json::json!([20.0, 30.0, 40.0]));
    assert!(tables.contains("open loop, 300 a second"), "{tables}");
    for operation in ["get", "put"] {
        let rows = rows(run, operation);
        let regions: Vec<&str> = rows
            .iter()
            .map(|it| it["region"].as_str().unwrap())
            .collect();
        assert_eq!(regions, ["us-east", "eu-central", "ap-northeast", "all"]);
        for row in &rows {
            assert_eq!(row["level"], "strong");
            assert!(row["count"].as_u64().unwrap() > 0, "{row}");
            let limit = row["limit_ms"].as_f64().unwrap_or(20.0);
            let p50 = row["p50_ms"].as_f64().unwrap();
            // Nothing is faster than the link.
            assert!(p50 >= limit, "{row}");
            assert!(row["max_ms"].as_f64().unwrap() >= p50, "{row}");
        }
    }
    let due: u64 = ["get", "put"]
        .iter()
        .map(|operation| {
            let all = rows(run, operation).pop().unwrap();
            all["count"].as_u64().unwrap() + all["failed"].as_u64().unwrap()
        })
        .sum();
    let left = run["not_begun"].as_u64().unwrap();
    let wanted = 300 * TIME;
    assert!(
        (wanted * 8 / 10..wanted * 12 / 10).contains(&(due + left)),
        "{due} were due and {left} not begun, of about {wanted}"
    );
    for cost in [
        "server_cpu_us_per_op",
        "generator_cpu_us_per_op",
        "sync_p50_ms",
    ] {
        assert!(run[cost].as_f64().unwrap() > 0.0, "{cost}: {run}");
    }
    let resident = run["resident_bytes"].as_array().unwrap();
    assert_eq!(resident.len(), 3);
    assert!(resident.iter().all(|it| it.as_u64().unwrap() > 1 << 20));
}

#[test]
fn every_operation_is_served() {
    for (words, operations) in [
        (
            "--mix f --levels session",
            &["get", "read-modify-write"][..],
        ),
        ("--mix e --levels eventual --keys 300", &["scan", "insert"]),
        ("--mix d --clients 2,0,0", &["get", "insert"]),
        (
            "--mix cas,incr --levels strong --keys 900 --keys-of elsewhere",
            &["cas", "incr"],
        ),
    ] {
        let (json, tables) = measured(&format!("--json --wan 0 {words}"));
        for operation in operations {
            let rows = rows(&json["runs"][0], operation);
            let all = rows.last().unwrap();
            assert_eq!(all["region"], "all");
            assert!(all["count"].as_u64().unwrap() > 0, "{words}: {tables}");
            assert_eq!(all["failed"], 0, "{words}: {tables}");
        }
    }
}

#[test]
fn two_databases_are_measured_side_by_side() {
    if etcd::installed().is_none() {
        println!("not run: etcd is not installed (Debian: apt-get install etcd-server)");
        return;
    }
    let words = "--json --target hansa,etcd --wan 5 --mix cas,get --levels strong --keys 300";
    let (json, tables) = measured(words);
    let targets: Vec<&Value> = json["runs"].as_array().unwrap().iter().collect();
    let names: Vec<&Value> = targets.iter().map(|run| &run["target"]).collect();
    assert_eq!(names, ["hansa", "etcd"]);
    for run in targets {
        for operation in ["cas", "get"] {
            let rows = rows(run, operation);
            let all = rows.last().unwrap();
            assert!(all["count"].as_u64().unwrap() > 0, "{tables}");
            assert_eq!(all["failed"], 0, "{tables}");
        }
    }
    let lines = tables.lines().filter(|line| line.contains("us-east"));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 4, "{tables}");
    assert!(lines[0].contains("hansa") && lines[1].contains("etcd"));
}

#[test]
fn redis_serves_from_its_replicas_and_writes_through_its_primary() {
    let words = "--json --target redis --wan 20 --clients 2 --mix get,put,cas,incr \
                 --levels eventual,strong --keys 300";
    let output = bench_with(words);
    let told = String::from_utf8(output.stderr).unwrap();
    if told.contains("there is no redis-server in PATH") {
        println!("not run: redis is not installed (Debian: apt-get install redis-server)");
        return;
    }
    assert!(output.status.success(), "{told}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &json["runs"][0];
    let p50 = |operation: &str, level: &str, region: &str| {
        let rows = rows(run, operation).into_iter();
        let found = rows.filter(|it| it["level"] == level && it["region"] == region);
        let found: Vec<&Value> = found.collect();
        assert_eq!(found[0]["failed"], 0, "{told}");
        found[0]["p50_ms"].as_f64().unwrap()
    };
    // A replica answers by itself; the primary of another region is a round trip away.
    assert!(p50("get", "eventual", "eu-central") < 20.0, "{told}");
    assert!(p50("get", "strong", "eu-central") >= 20.0, "{told}");
    // The primary waits for a replica; from elsewhere the way to the primary comes before that.
    assert!(p50("put", "strong", "us-east") >= 20.0, "{told}");
    assert!(p50("cas", "strong", "ap-northeast") >= 40.0, "{told}");
    assert!(p50("incr", "eventual", "us-east") < 20.0, "{told}");
    assert_eq!(run["resident_bytes"].as_array().unwrap().len(), 3);
}

#[test]
fn a_series_measures_each_size_on_a_cluster_of_its_own() {
    let (json, tables) = measured("--json --wan 0 --series clients=1,8 --mix c --keys 50");
    let series = &json["series"];
    assert_eq!(series["dimension"], "clients");
    let points = series["points"].as_array().unwrap();
    let values: Vec<&Value> = points.iter().map(|it| &it["value"]).collect();
    assert_eq!(values, [1, 8]);
    for (point, run) in points.iter().zip(json["runs"].as_array().unwrap()) {
        assert!(point["per_second"].as_f64().unwrap() > 0.0, "{tables}");
        assert!(point["resident_bytes"].as_u64().unwrap() > 1 << 20);
        let name = format!("clients {}", point["value"]);
        assert_eq!(run["series"], name);
        assert_eq!(run["clients"], serde_json::json!(vec![&point["value"]; 3]));
    }
    let (json, tables) = measured("--json --wan 0 --series keys=50,60 --within 1");
    assert_eq!(json["series"]["points"], serde_json::json!([]));
    assert!(
        tables.contains("60                hansa  not measured"),
        "{tables}"
    );
}

#[test]
fn a_lost_region_costs_the_others_a_gap_and_comes_back() {
    let regions = 3;
    let pairs = (0..regions).flat_map(|b| (0..b).map(move |a| (a, b)));
    let setup = Setup {
        layout: Layout {
            regions,
            nodes_per_region: 1,
        },
        round_trips: pairs
            .map(|pair| (pair, Duration::from_millis(20)))
            .collect(),
        engine: "fjall".to_owned(),
        program: Some(support::program()),
    };
    let load = Load {
        clients: vec![1; regions],
        rate: None,
        warm_up: Duration::ZERO,
        time: Duration::from_secs(1),
        seed: 1,
        mix: Mix::only(Kind::Get),
        levels: Weighted::only(Level::Strong),
        keys: 90,
        skew: 0.0,
        share: Share::All,
        value_bytes: 100,
    };
    let generator = bench::generator().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let mut bench = Bench::start(Database::Hansa, &setup, generator.handle())
            .await
            .unwrap();
        for fault in Fault::ALL {
            let loss = bench.lose(fault, &load).await.unwrap();
            assert_eq!((loss.fault, loss.region.as_str()), (fault, "us-east"));
            // Two operations, two regions that are left, all keys and those of the lost region.
            assert_eq!(loss.gaps.len(), 8);
            for gap in &loss.gaps {
                // One of each kind is due every 10 ms.
                assert!(
                    gap.longest_ms >= 10.0 && gap.longest_ms < 12_000.0,
                    "{gap:?}"
                );
                assert!(gap.done > gap.failed, "{gap:?}");
            }
        }
        let after = bench.measure("after", &load).await.unwrap();
        assert_eq!(after.row(Kind::Get, ALL_REGIONS).unwrap().failed, 0);
        bench.stop().await.unwrap();
    });
    generator.shutdown_background();
}

#[test]
fn a_report_is_written_beside_the_tables() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.html");
    let words = format!("--wan 0 --clients 1 --mix c --report {}", path.display());
    let output = bench_with(&words);
    assert!(output.status.success(), "{output:?}");
    let page = std::fs::read_to_string(&path).unwrap();
    for part in [
        "hansa 0.",
        "eventual get: latency by percentile",
        "Disk sync",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn what_can_not_be_measured_is_refused_before_anything_is_started() {
    for (words, part) in [
        ("--target hansa,etcd --mix incr", "no counters"),
        ("--target redis --mix e", "no order of keys to scan"),
        (
            "--mix e --levels strong",
            "scans at level eventual or session",
        ),
        ("--clients 1,2", "names 2 regions"),
        ("--keys-of elsewhere --rate 5", "once"),
    ] {
        let output = bench_with(words);
        assert_eq!(output.status.code(), Some(2), "{words}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.contains(part), "{words}: {told}");
        assert!(output.stdout.is_empty(), "{words}");
    }
}
