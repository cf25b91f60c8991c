//! What people read of a run: a single HTML file beside `verdict.json` and the histories.
//!
//! It needs nothing else: no script, no font, no network. It is bounded, whatever the run was: figures are thinned, and
//! what has no room is named and stands in the histories. [`mod@bench`] is the report of a benchmark, drawn from the same parts.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;

use crate::history::{History, Level};
use crate::run::{Outcome, Round};

pub mod bench;
mod chart;
mod coverage;
mod escape;
mod faults;
mod figures;
mod findings;
mod frame;
mod page;
mod plot;
mod rounds;
mod shown;
mod table;
#[cfg(test)]
mod tests;
mod timeline;
mod words;

/// The name of the report in the folder of a run.
pub const FILE: &str = "report.html";

/// A time in which a level did nothing in a region, although it had to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The number of the round.
    pub round: u32,
    /// The level whose operations were not done.
    pub level: Level,
    /// Where; as in histories.
    pub region: String,
    /// When the last operation before it was done, nanoseconds since the round began.
    pub begin_ns: u64,
    /// When the next one was done; not before `begin_ns`.
    pub end_ns: u64,
    /// What was in force, in words: `isolated`, `majority`, or the kinds of fault.
    pub during: String,
}

impl Gap {
    fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.begin_ns)
    }
}

/// Gives the history of a round.
pub type Histories<'a> = dyn Fn(&Round) -> anyhow::Result<History> + 'a;

/// The histories that a run left in a folder.
pub fn in_folder(folder: &Path) -> impl Fn(&Round) -> anyhow::Result<History> + '_ {
    move |round| {
        let path = folder.join(round.history_name());
        let file = File::open(&path).with_context(|| format!("can not read {}", path.display()))?;
        History::read(BufReader::new(file))
            .with_context(|| format!("can not read {}", path.display()))
    }
}

/// Writes the report of a run. `replay` is the command that repeats it. Links in it lead to `verdict.json` and to the
/// histories in the folder of `path`.
///
/// A history that can not be had is named in the report, which then lacks the figures of that round.
///
/// # Errors
/// When `path` can not be written.
pub fn write(
    outcome: &Outcome,
    replay: &str,
    gaps: &[Gap],
    histories: &Histories<'_>,
    path: &Path,
) -> anyhow::Result<()> {
    let page = render(outcome, replay, gaps, histories);
    fs::write(path, page).with_context(|| format!("can not write {}", path.display()))
}

/// The report as text: see [`write()`].
#[must_use]
pub fn render(outcome: &Outcome, replay: &str, gaps: &[Gap], histories: &Histories<'_>) -> String {
    page::render(outcome, replay, gaps, histories)
}
