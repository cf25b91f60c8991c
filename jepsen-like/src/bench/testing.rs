//! Runs as they could have been, for tests.

use std::collections::BTreeMap;

use super::mix::Kind;
use super::{Database, Row, Run, Settings, Setup};
use crate::nemesis::Layout;

/// Three regions at the default round trips.
pub(crate) fn setup() -> Setup {
    Setup {
        layout: Layout {
            regions: 3,
            nodes_per_region: 1,
        },
        round_trips: BTreeMap::new(),
        engine: "fjall".to_owned(),
        program: None,
    }
}

/// A strong operation, with a p99 20 ms above its p50.
pub(crate) fn row(operation: Kind, region: &str, p50: f64, per_second: f64) -> Row {
    Row {
        operation,
        level: "strong",
        region: region.to_owned(),
        limit_ms: None,
        count: 1,
        failed: 0,
        reasons: BTreeMap::new(),
        per_second,
        p50_ms: Some(p50),
        p90_ms: Some(p50),
        p99_ms: Some(p50 + 20.0),
        p999_ms: None,
        max_ms: None,
        over_limit_ms: None,
        curve: vec![(0.0, p50 - 1.0), (0.5, p50), (0.99, p50 + 20.0)],
    }
}

/// A run on a disk that is fast enough for the bars.
pub(crate) fn run(target: Database, series: &str, rows: Vec<Row>) -> Run {
    Run {
        target,
        series: series.to_owned(),
        schedule: "closed",
        rate: None,
        clients: vec![8; 3],
        settings: Settings {
            regions: 3,
            nodes_per_region: 1,
            ..Settings::default()
        },
        wan_ms: vec![90.0, 150.0, 220.0],
        seconds: 5.0,
        sync_p50_ms: 0.3,
        server_cpu_us_per_op: Some(60.0),
        generator_cpu_us_per_op: Some(5.0),
        generator_busy: 0.1,
        resident_bytes: vec![1],
        not_begun: 0,
        rows,
    }
}
