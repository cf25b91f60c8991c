//! What nodes count of rare paths, over all their lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::nemesis::NodeIndex;

/// How long a page of metrics may take. Short, because one is read before every kill.
const PAGE_WITHIN: Duration = Duration::from_millis(500);

/// The largest page that is read, bytes.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// The counter of rare paths, up to the name of one.
const NOTES: &str = "hansa_notes_total{";

type Counts = BTreeMap<String, u64>;

/// The counts of all nodes. Those of a life that ended between two looks are lost from the last look on.
#[derive(Debug)]
pub(super) struct Probes {
    /// Of lives that are over.
    earlier: Counts,
    /// Of each node: the process that was looked at last, and what it had counted.
    newest: Vec<(u32, Counts)>,
}

impl Probes {
    /// Nothing counted.
    pub(super) fn new(nodes: usize) -> Probes {
        Probes {
            earlier: Counts::new(),
            newest: vec![(0, Counts::new()); nodes],
        }
    }

    /// Looks at what a node's process has counted; one that does not answer is left as it was.
    pub(super) async fn look(&mut self, node: NodeIndex, process: u32, page: SocketAddr) {
        if let Ok(Ok(text)) = timeout(PAGE_WITHIN, read(page)).await {
            self.counted(node, process, notes(&text));
        }
    }

    fn counted(&mut self, node: NodeIndex, process: u32, counts: Counts) {
        let newest = &mut self.newest[node];
        if newest.0 != process {
            add(&mut self.earlier, &newest.1);
        }
        *newest = (process, counts);
    }

    /// The sums over all nodes and lives.
    pub(super) fn totals(&self) -> Counts {
        let mut totals = self.earlier.clone();
        for (_, counts) in &self.newest {
            add(&mut totals, counts);
        }
        totals
    }
}

fn add(sums: &mut Counts, counts: &Counts) {
    for (name, count) in counts {
        *sums.entry(name.clone()).or_default() += count;
    }
}

async fn read(page: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(page).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    let mut bounded = stream.take(PAGE_BYTES_MAX);
    bounded.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The rare paths of a page, by name.
fn notes(page: &str) -> Counts {
    let series = page.lines().filter_map(|line| {
        let (labels, count) = line.strip_prefix(NOTES)?.rsplit_once("} ")?;
        let note = labels.split(',').find_map(|it| it.strip_prefix("note=\""));
        let name = note?.trim_end_matches('"').to_owned();
        Some((name, count.parse().ok()?))
    });
    series.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
HTTP/1.1 200 OK\r
# HELP hansa_notes rare paths of the core.
hansa_notes_total{region=\"us-east\",node=\"us-east-1\",note=\"absorbed\"} 4
hansa_notes_total{region=\"us-east\",node=\"us-east-1\",note=\"merged\"} 0
hansa_groups_total{region=\"us-east\",node=\"us-east-1\"} 9
";

    #[test]
    fn notes_are_read_by_name() {
        let counts = notes(PAGE);
        assert_eq!(counts.len(), 2);
        assert_eq!((counts["absorbed"], counts["merged"]), (4, 0));
    }

    #[test]
    fn lives_are_summed_and_looks_at_one_life_are_not() {
        let mut probes = Probes::new(2);
        let counts = |count| Counts::from([("absorbed".to_owned(), count)]);
        probes.counted(0, 70, counts(3));
        probes.counted(0, 70, counts(5));
        probes.counted(1, 71, counts(1));
        assert_eq!(probes.totals()["absorbed"], 6);
        probes.counted(0, 72, counts(6));
        assert_eq!(probes.totals()["absorbed"], 12);
    }
}
