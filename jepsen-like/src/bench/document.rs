//! All that was measured, and where: what `--json` prints and the report shows.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use super::bars::Bar;
use super::gaps::Loss;
use super::sweep::Series;
use super::{Database, Run, Setup};

/// The version of the format. Fields are added, never changed.
const VERSION: u32 = 1;

/// All that was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Document {
    /// Of this format.
    pub version: u32,
    /// The machine and the programs.
    pub facts: Facts,
    /// Every load on every database.
    pub runs: Vec<Run>,
    /// What was to come of them; none without `--bars`.
    pub bars: Vec<Bar>,
    /// Regions that were lost under load.
    pub losses: Vec<Loss>,
    /// How costs grow, where a dimension was varied.
    pub series: Option<Series>,
    /// Bars that need another run, by name.
    pub bars_not_decided: Vec<&'static str>,
}

impl Document {
    /// One without any run.
    #[must_use]
    pub fn new(facts: Facts) -> Document {
        Document {
            version: VERSION,
            facts,
            runs: Vec::new(),
            bars: Vec::new(),
            losses: Vec::new(),
            series: None,
            bars_not_decided: Vec::new(),
        }
    }
}

/// Where it was measured, and what. What can not be had is empty or zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Facts {
    /// The command that measured it.
    pub command: String,
    /// Processors that may be used.
    pub processors: usize,
    /// What they are called.
    pub processor: String,
    /// Memory of the machine, bytes.
    pub memory_bytes: u64,
    /// The operating system.
    pub system: String,
    /// Processes that ran or waited for a processor or a disk in the minute before, in the mean.
    pub load_before: f64,
    /// By database.
    pub versions: BTreeMap<&'static str, String>,
}

impl Facts {
    /// What there is to say before anything is measured on these databases.
    #[must_use]
    pub fn gather(command: String, databases: &[Database], setup: &Setup) -> Facts {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let versions = databases.iter().filter_map(|database| {
            let said = version_of(&database.program(setup).ok()?)?;
            Some((database.name(), said))
        });
        Facts {
            command,
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            memory_bytes: memory(&read("/proc/meminfo")).unwrap_or_default(),
            system: format!("Linux {}", read("/proc/sys/kernel/osrelease").trim()),
            load_before: load(&read("/proc/loadavg")).unwrap_or_default(),
            versions: versions.collect(),
        }
    }
}

/// The first line that a program prints about its version.
fn version_of(program: &Path) -> Option<String> {
    let said = Command::new(program).arg("--version").output().ok()?;
    let said = String::from_utf8_lossy(&said.stdout);
    said.lines().next().map(|line| line.trim().to_owned())
}

/// What stands behind a name and a colon.
fn field(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let found = pairs.find(|(key, _)| key.trim() == name);
    found.map(|(_, value)| value.trim().to_owned())
}

fn memory(meminfo: &str) -> Option<u64> {
    let total = field(meminfo, "MemTotal")?;
    let kibibytes: u64 = total.strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

/// The mean of the last minute.
fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::setup;
    use super::*;

    #[test]
    fn facts_are_read_from_what_the_system_says() {
        let cpu = "processor\t: 0\nmodel name\t: A: B\nmodel name\t: C\n";
        assert_eq!(field(cpu, "model name").as_deref(), Some("A: B"));
        assert_eq!(memory("MemTotal:       2048 kB\n"), Some(2 << 20));
        assert_eq!(load("1.50 0.70 0.30 1/2 3"), Some(1.5));
        assert_eq!((memory("x"), load("")), (None, None));
    }

    #[test]
    fn this_machine_has_processors_and_a_missing_program_no_version() {
        let missing = Setup {
            program: Some("/nowhere/hansa".into()),
            ..setup()
        };
        let facts = Facts::gather("bench".to_owned(), &[Database::Hansa], &missing);
        assert!(facts.processors > 0 && facts.memory_bytes > 0);
        assert!(facts.versions.is_empty(), "{facts:?}");
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("program");
        std::fs::write(&program, "#!/bin/sh\necho \"program 7 $1\"\necho more\n").unwrap();
        let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&program, executable).unwrap();
        let said = version_of(&program);
        assert_eq!(said.as_deref(), Some("program 7 --version"));
    }
}
