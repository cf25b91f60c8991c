//! One load at several sizes of one thing, to see whether costs grow as they should.

use std::fmt::Display;

use serde::Serialize;

use super::{ALL_REGIONS, CLIENTS_MAX, Database, Run, keys};

/// Most sizes.
const VALUES_MAX: usize = 16;
/// Most regions, as without a series.
pub const REGIONS_MAX: u64 = 7;
/// Most nodes of a region, as without a series.
pub const NODES_PER_REGION_MAX: u64 = 5;

/// What is varied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dimension {
    /// Keys that are written before.
    Keys,
    /// Clients of each region.
    Clients,
    /// Regions.
    Regions,
    /// Nodes in each region.
    NodesPerRegion,
}

impl Dimension {
    const ALL: [Dimension; 4] = [
        Dimension::Keys,
        Dimension::Clients,
        Dimension::Regions,
        Dimension::NodesPerRegion,
    ];

    /// Its name, which is that of the option it takes the place of.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dimension::Keys => "keys",
            Dimension::Clients => "clients",
            Dimension::Regions => "regions",
            Dimension::NodesPerRegion => "nodes-per-region",
        }
    }

    fn most(self) -> u64 {
        match self {
            Dimension::Keys => keys::KEYS_MAX,
            Dimension::Clients => CLIENTS_MAX as u64,
            Dimension::Regions => REGIONS_MAX,
            Dimension::NodesPerRegion => NODES_PER_REGION_MAX,
        }
    }
}

/// What is varied, and its sizes, growing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// What is varied.
    pub dimension: Dimension,
    /// Its sizes.
    pub values: Vec<u64>,
}

impl Sweep {
    /// `keys=1000,10000` and the like.
    ///
    /// # Errors
    /// Says what is no dimension, or no size of it.
    pub fn parse(text: &str) -> Result<Sweep, String> {
        let wrong = |found: &str, known: &dyn Display| format!("{found:?} is not {known}");
        let (name, values) = text.split_once('=').unwrap_or((text, ""));
        let names = Dimension::ALL.map(Dimension::name).join(", ");
        let dimension = Dimension::ALL.into_iter().find(|it| it.name() == name);
        let dimension = dimension.ok_or_else(|| wrong(name, &format!("one of {names}")))?;
        let most = dimension.most();
        let value = |value: &str| match value.parse() {
            Ok(size) if (1..=most).contains(&size) => Ok(size),
            _ => Err(wrong(value, &format!("a number of {name}, 1 to {most}"))),
        };
        let values: Vec<u64> = values
            .split(',')
            .map(value)
            .collect::<Result<_, String>>()?;
        if values.len() > VALUES_MAX {
            return Err(format!("{} sizes: name at most {VALUES_MAX}", values.len()));
        }
        match values.is_sorted_by(|a, b| a < b) {
            true => Ok(Sweep { dimension, values }),
            false => Err("the sizes do not grow: name each once, the smallest first".to_owned()),
        }
    }

    /// The name of the load at one size.
    #[must_use]
    pub fn load_name(&self, value: u64) -> String {
        format!("{} {value}", self.dimension.name())
    }
}

/// What came of a sweep.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// What was varied.
    pub dimension: Dimension,
    /// In the order in which they were measured.
    pub points: Vec<Point>,
    /// What there was no time for.
    pub not_measured: Vec<NotMeasured>,
}

/// One size on one database.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The size.
    pub value: u64,
    /// The database.
    pub target: Database,
    /// Operations that ended well a second, all together.
    pub per_second: f64,
    /// Half of the operations took no longer, of the kind that takes longest; `None` when none ended well.
    pub p50_ms: Option<f64>,
    /// As `p50_ms`, of 99 %.
    pub p99_ms: Option<f64>,
    /// As in runs.
    pub server_cpu_us_per_op: Option<f64>,
    /// Memory of the node that has most, bytes.
    pub resident_bytes: u64,
}

/// One size that was not measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotMeasured {
    /// The size.
    pub value: u64,
    /// The database.
    pub target: Database,
    /// The reason.
    pub why: String,
}

impl Point {
    /// What a run says of its size.
    #[must_use]
    pub fn of(value: u64, run: &Run) -> Point {
        let rows = || run.rows.iter().filter(|row| row.region == ALL_REGIONS);
        Point {
            value,
            target: run.target,
            per_second: rows().map(|row| row.per_second).sum(),
            p50_ms: rows().filter_map(|row| row.p50_ms).reduce(f64::max),
            p99_ms: rows().filter_map(|row| row.p99_ms).reduce(f64::max),
            server_cpu_us_per_op: run.server_cpu_us_per_op,
            resident_bytes: run.resident_bytes.iter().max().copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mix::Kind;
    use super::super::testing::{row, run};
    use super::*;

    #[test]
    fn a_sweep_names_what_is_varied_and_its_sizes() {
        let sweep = Sweep::parse("nodes-per-region=1,3").unwrap();
        assert_eq!(sweep.dimension, Dimension::NodesPerRegion);
        assert_eq!(sweep.values, [1, 3]);
        assert_eq!(sweep.load_name(3), "nodes-per-region 3");
        for (text, part) in [
            ("size=1", "one of keys, clients, regions, nodes-per-region"),
            ("keys", "\"\" is not a number of keys"),
            ("keys=0", "1 to 100000000"),
            ("regions=3,8", "1 to 7"),
            ("clients=5000", "1 to 4096"),
            ("clients=4,4", "do not grow"),
            ("clients=4,1", "do not grow"),
            (
                "clients=1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17",
                "at most 16",
            ),
        ] {
            let why = Sweep::parse(text).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }

    #[test]
    fn a_point_is_of_all_operations_in_all_regions_and_of_the_largest_node() {
        let rows = vec![
            row(Kind::Get, "us-east", 1.0, 10.0),
            row(Kind::Get, ALL_REGIONS, 1.0, 30.0),
            row(Kind::Put, ALL_REGIONS, 4.0, 20.0),
        ];
        let mut run = run(Database::Hansa, "keys 7", rows);
        run.resident_bytes = vec![5, 9, 7];
        let point = Point::of(7, &run);
        assert!((point.per_second - 50.0).abs() < 1e-9);
        assert_eq!((point.p50_ms, point.p99_ms), (Some(4.0), Some(24.0)));
        assert_eq!((point.value, point.resident_bytes), (7, 9));
    }
}
