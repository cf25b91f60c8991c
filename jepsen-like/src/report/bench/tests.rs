//! The report of benchmarks that were, and of one that hardly was.

use std::collections::BTreeMap;

use super::super::tests::{links_lead_somewhere, well_formed};
use super::*;
use crate::bench::Database;
use crate::bench::gaps::{Fault, Gap, Loss};
use crate::bench::mix::Kind;
use crate::bench::sweep::{Dimension, NotMeasured, Point, Series};
use crate::bench::testing::{row as sample_row, run, setup};

fn document(runs: Vec<Run>) -> Document {
    let mut document = Document::new(Facts {
        command: "hansa-jepsen bench --mix <a>".to_owned(),
        processors: 2,
        processor: "A & B".to_owned(),
        versions: BTreeMap::from([("hansa", "hansa 0.1.0".to_owned())]),
        ..Facts::default()
    });
    document.bars = bars::judge(&setup(), &runs);
    document.runs = runs;
    document
}

fn page(document: &Document) -> String {
    let page = render(document);
    assert_eq!(well_formed(&page), Ok(()));
    links_lead_somewhere(&page);
    for broken in ["NaN", "inf\"", "inf ", "-inf"] {
        assert!(!page.contains(broken), "{broken}");
    }
    assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("url("));
    page
}

fn regions(p50: f64) -> Vec<Row> {
    let names = ["us-east", "eu-central", "ap-northeast", ALL_REGIONS];
    names
        .map(|region| sample_row(Kind::Get, region, p50, 10.0))
        .to_vec()
}

#[test]
fn a_line_for_each_database_and_region_and_a_verdict_for_each_bar() {
    let gets = "strong get";
    let runs = vec![
        run(Database::Hansa, gets, regions(91.0)),
        run(Database::Etcd, gets, regions(182.0)),
    ];
    let document = document(runs);
    let page = page(&document);
    assert_eq!(
        page.matches("<path class=\"line hansa p").count(),
        2 * 3,
        "with their samples"
    );
    assert_eq!(page.matches("<path class=\"line etcd p").count(), 2 * 3);
    assert!(page.contains("strong get: latency by percentile"));
    let badges = page.matches("<i class=\"badge").count();
    assert_eq!(badges, document.bars.len());
    for part in [
        "A &amp; B",
        "--mix &lt;a&gt;",
        "hansa 0.1.0",
        ">182.00<",
        ">60 \u{b5}s<",
    ] {
        assert!(page.contains(part), "{part}");
    }
    assert!(
        page.contains("class=\"verdict bad\""),
        "the spread is over its bar"
    );
}

#[test]
fn without_delay_all_regions_are_one_line() {
    let mut near = run(Database::Hansa, "near", regions(0.2));
    near.wan_ms = vec![0.0; 3];
    let page = page(&document(vec![near]));
    assert_eq!(page.matches("<path class=\"line hansa p0").count(), 2);
    assert!(!page.contains("<path class=\"line hansa p1"));
}

#[test]
fn what_a_lost_region_costs_has_a_line_for_each_region_that_is_left() {
    let gap = |region: &str, longest_ms| Gap {
        operation: Kind::Put,
        region: region.to_owned(),
        written_there: true,
        longest_ms,
        done: 7,
        failed: 1,
        slowest_ms: None,
    };
    let mut document = document(Vec::new());
    document.losses = vec![Loss {
        target: Database::Hansa,
        fault: Fault::BlackHoled,
        region: "us-east".to_owned(),
        sync_p50_ms: 0.3,
        gaps: vec![gap("eu-central", 130.0), gap("ap-northeast", 8000.0)],
    }];
    let page = page(&document);
    for part in [
        "us-east black-holed",
        ">130 ms<",
        ">8.00 s<",
        "written there last",
    ] {
        assert!(page.contains(part), "{part}");
    }
}

#[test]
fn growth_is_drawn_by_database_and_what_is_missing_is_told() {
    let point = |value, target, cpu| Point {
        value,
        target,
        per_second: 100.0 * value as f64,
        p50_ms: Some(1.0),
        p99_ms: None,
        server_cpu_us_per_op: cpu,
        resident_bytes: 30_000_000,
    };
    let mut document = document(Vec::new());
    document.series = Some(Series {
        dimension: Dimension::Clients,
        points: vec![
            point(1, Database::Hansa, Some(50.0)),
            point(1, Database::Redis, Some(20.0)),
            point(64, Database::Hansa, None),
        ],
        not_measured: vec![NotMeasured {
            value: 64,
            target: Database::Redis,
            why: "no <time> left".to_owned(),
        }],
    });
    let drawn = page(&document);
    assert_eq!(drawn.matches("<path class=\"line hansa\"").count(), 3);
    assert_eq!(drawn.matches("<path class=\"line redis\"").count(), 3);
    assert!(drawn.contains("Not measured: clients 64 of redis: no &lt;time&gt; left."));
    // No size at all is a page as well.
    let series = document.series.as_mut().unwrap();
    series.points.clear();
    assert!(page(&document).contains("Growth over clients"));
}

#[test]
fn nothing_one_failure_and_too_much_are_pages_too() {
    let empty = page(&Document::new(Facts::default()));
    assert!(empty.contains(">Measured<") && empty.contains("Nothing was measured"));
    let mut failed = sample_row(Kind::Put, ALL_REGIONS, 1.0, 0.0);
    failed.curve.clear();
    failed.p50_ms = None;
    failed.failed = 3;
    failed.reasons = BTreeMap::from([("<DEADLINE>".to_owned(), 3)]);
    let failing = page(&document(vec![run(Database::Hansa, "x", vec![failed])]));
    assert!(failing.contains("3 failed with &lt;DEADLINE&gt;"));
    let many = (0..500).map(|at| run(Database::Hansa, &format!("load {at}"), regions(5.0)));
    let full = page(&document(many.collect()));
    assert!(full.contains("440 more"), "loads have a bound");
    assert!(full.len() < 2_000_000, "{}", full.len());
}

#[test]
fn the_heading_counts_what_is_missed_and_what_nobody_knows() {
    let runs = vec![run(Database::Hansa, "strong get", regions(91.0))];
    let mut all = document(runs).bars;
    assert!(heading(&all).contains("missed, "), "{}", heading(&all));
    all.retain(|bar| matches!(bar.verdict, Verdict::Met { .. }));
    assert_eq!(
        heading(&all),
        format!("{}, all met", words::plural(all.len() as u64, "bar"))
    );
    assert_eq!(heading(&[]), "Measured");
}
