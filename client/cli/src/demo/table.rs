//! The live table: redrawn on a terminal, one line per period elsewhere.

use std::fmt::Write as _;
use std::time::Duration;

use hansa_client::admin::StatusReply;

use super::board::{Cell, Cells, LEVELS};
use super::shape::REGIONS;

/// How a region's replication stands, as its worst node sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Lag {
    /// Nodes that did not answer.
    pub(crate) silent: usize,
    /// Shards in which entries it was told of are missing.
    pub(crate) shards_behind: u64,
}

impl Lag {
    /// From the answers of a region's nodes.
    pub(crate) fn of(answers: &[Option<StatusReply>]) -> Lag {
        let behind =
            |status: &StatusReply| status.peers.iter().map(|peer| peer.shards_behind).max();
        Lag {
            silent: answers.iter().filter(|answer| answer.is_none()).count(),
            shards_behind: answers
                .iter()
                .flatten()
                .filter_map(behind)
                .max()
                .unwrap_or(0),
        }
    }
}

/// What two columns mean, and in which unit.
pub(crate) const LEGEND: &str =
    "stale: worst bound in a receipt, ms   lag: shards that miss entries known of\n";

/// Everything one drawing shows.
pub(crate) struct View<'a> {
    /// Time since the demo was ready.
    pub(crate) up: Duration,
    /// The length of the period.
    pub(crate) period: Duration,
    /// What was measured in it.
    pub(crate) cells: &'a Cells,
    /// Per region.
    pub(crate) lags: [Lag; REGIONS.len()],
    /// What is cut, as words.
    pub(crate) cut: Vec<String>,
    /// The names of the nodes that do not answer.
    pub(crate) silent: Vec<String>,
}

impl View<'_> {
    /// The table, with a line end after each line.
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String does not fail, here and below.
        let _ = writeln!(
            out,
            "up {}   {}{}",
            clock(self.up),
            self.links(),
            self.down()
        );
        let _ = writeln!(
            out,
            "{:<13} {:<8} {:>6} {:>8} {:>8} {:>6} {:>8} {:>6} {:>6}",
            "region", "level", "ops/s", "p50 ms", "p99 ms", "failed", "stale ms", "merges", "lag"
        );
        for (region, name) in REGIONS.iter().enumerate() {
            for (level, cell) in LEVELS.iter().zip(&self.cells[region]) {
                // It is the region's: it stands in the region's first row.
                let lag = match *level == LEVELS[0] {
                    true => lag_word(self.lags[region]),
                    false => String::new(),
                };
                let row = self.row(name, level.name(), cell);
                let _ = writeln!(out, "{}", format!("{row} {lag:>6}").trim_end());
            }
        }
        out + LEGEND
    }

    fn row(&self, region: &str, level: &str, cell: &Cell) -> String {
        format!(
            "{region:<13} {level:<8} {:>6.1} {:>8} {:>8} {:>6} {:>8} {:>6}",
            self.rate(cell),
            milliseconds(cell.quantile(0.5)),
            milliseconds(cell.quantile(0.99)),
            cell.failed(),
            cell.staleness()
                .map_or("-".to_owned(), |time| time.as_millis().to_string()),
            cell.merges(),
        )
    }

    /// The same in one line, with a line end.
    pub(crate) fn line(&self) -> String {
        let mut out = format!("up={}s cut={}", self.up.as_secs(), comma(&self.cut));
        if !self.silent.is_empty() {
            let _ = write!(out, " no-answer={}", comma(&self.silent));
        }
        for (region, name) in REGIONS.iter().enumerate() {
            let lag = self.lags[region];
            let _ = write!(out, " | {name} lag={}", lag.shards_behind);
            if lag.silent > 0 {
                let _ = write!(out, " silent={}", lag.silent);
            }
            for (level, cell) in LEVELS.iter().zip(&self.cells[region]) {
                let _ = write!(
                    out,
                    " {level}={:.1}/s p50={} p99={} failed={} stale={} merges={}",
                    self.rate(cell),
                    milliseconds(cell.quantile(0.5)),
                    milliseconds(cell.quantile(0.99)),
                    cell.failed(),
                    cell.staleness()
                        .map_or("-".to_owned(), |time| time.as_millis().to_string()),
                    cell.merges(),
                );
            }
        }
        out.push('\n');
        out
    }

    fn links(&self) -> String {
        match self.cut.is_empty() {
            true => "all links open".to_owned(),
            false => format!("CUT: {}", self.cut.join(", ")),
        }
    }

    fn down(&self) -> String {
        match self.silent.is_empty() {
            true => String::new(),
            false => format!("   NO ANSWER: {}", self.silent.join(", ")),
        }
    }

    fn rate(&self, cell: &Cell) -> f64 {
        cell.operations() as f64 / self.period.as_secs_f64()
    }
}

/// Shards behind, or that a node does not answer.
fn lag_word(lag: Lag) -> String {
    match lag.silent {
        0 => lag.shards_behind.to_string(),
        _ => "silent".to_owned(),
    }
}

fn comma(words: &[String]) -> String {
    match words {
        [] => "none".to_owned(),
        words => words.join(",").replace(' ', ""),
    }
}

/// Minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

fn milliseconds(time: Option<Duration>) -> String {
    time.map_or("-".to_owned(), |time| {
        format!("{:.2}", time.as_secs_f64() * 1000.0)
    })
}

/// Where the table goes.
pub(crate) struct Screen {
    terminal: bool,
    /// Lines of the last drawing, to draw over.
    drawn: usize,
}

impl Screen {
    /// A screen that redraws (`terminal`) or only adds lines.
    pub(crate) fn new(terminal: bool) -> Screen {
        Screen { terminal, drawn: 0 }
    }

    /// The text that shows this view now.
    pub(crate) fn draw(&mut self, view: &View<'_>) -> String {
        if !self.terminal {
            return view.line();
        }
        let table = view.table();
        // Up to the first line of the last drawing, and clear to the end of the screen.
        let over = match self.drawn {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        };
        self.drawn = table.lines().count();
        over + &table
    }

    /// A line of news, in order with the table: the next drawing goes below it.
    pub(crate) fn news(&mut self, text: &str) -> String {
        self.drawn = 0;
        format!("{text}\n")
    }
}

#[cfg(test)]
mod tests;
