//! Memory, disk and open files stay bounded, whatever happens to a node (own definition, the bounds below).
//!
//! Judged are the usage lines: each tells what one node used at one moment. A node's data may grow with what was
//! written until then, by a stated factor, and by a stated amount that does not depend on it. A history without usage
//! lines has nothing to judge, and is no violation.

use super::{Verdict, Violation};
use crate::history::events::UsageEvent;
use crate::history::{Datum, History, Record, Status};

/// Name of the property.
pub const NAME: &str = "resources";

/// Most resident memory of a node, bytes.
pub const MEMORY_BYTES: u64 = 512 << 20;
/// Most open files of a node: what Linux grants a process that does not ask for more.
pub const FILES: u64 = 1024;
/// Disk that a node may use before anything is written, bytes: journals grow to a size before they are cut.
pub const DISK_BASE_BYTES: u64 = 256 << 20;
/// How often what was written may stand on a node's disk: in the log and in the data, each in the journal and, while
/// it is compacted, twice.
pub const DISK_FACTOR: u64 = 16;
/// What a write counts beside its key and value, bytes: version, dot, clocks and the entry's frame.
pub const WRITE_BYTES: u64 = 256;

/// Decides the property.
#[must_use]
pub fn check(history: &History) -> Verdict {
    let written = Written::of(history);
    for (line, record) in history.records.iter().enumerate() {
        let usage = match UsageEvent::of(record) {
            Ok(None) => continue,
            Ok(Some(usage)) => usage,
            Err(why) => {
                return Verdict::Unknown {
                    why: format!("line {}: {why}", line + 1),
                };
            }
        };
        let now = record.complete_ns.unwrap_or(record.invoke_ns);
        let disk = DISK_BASE_BYTES.saturating_add(written.until(now).saturating_mul(DISK_FACTOR));
        let bounds = [
            ("bytes of memory", usage.memory, MEMORY_BYTES),
            ("bytes of disk", usage.disk, disk),
            ("open files", usage.files, FILES),
        ];
        if let Some((what, used, bound)) = bounds.iter().find(|(_, used, bound)| used > bound) {
            let node = record.node.as_deref().unwrap_or("?");
            let explanation =
                format!("node {node} used {used} {what}, and at most {bound} are accepted");
            return Violation::verdict(history, NAME, explanation, vec![line]);
        }
    }
    Verdict::Ok
}

/// Bytes written so far, by invocation.
struct Written(Vec<(u64, u64)>);

impl Written {
    fn of(history: &History) -> Self {
        let writes = history.records.iter();
        let writes = writes.filter(|r| r.op.is_write() && r.status != Status::Fail);
        let mut sizes: Vec<(u64, u64)> = writes.map(|r| (r.invoke_ns, size(r))).collect();
        sizes.sort_unstable();
        let mut sum = 0;
        for (_, size) in &mut sizes {
            sum += *size;
            *size = sum;
        }
        Self(sizes)
    }

    fn until(&self, now: u64) -> u64 {
        let count = self.0.partition_point(|(invoke, _)| *invoke <= now);
        count.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Bytes that a write stands for.
fn size(record: &Record) -> u64 {
    let value = match &record.value {
        Some(Datum::Text(text)) => text.len(),
        Some(Datum::Swap(swap)) => swap.new.len(),
        _ => 0,
    };
    WRITE_BYTES + (record.key.as_deref().map_or(0, str::len) + value) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::testing::*;
    use crate::history::Op;

    fn used(memory: u64, disk: u64, files: u64) -> Record {
        let usage = UsageEvent {
            memory,
            disk,
            files,
        };
        usage.record("eu-1", 1_000)
    }

    #[track_caller]
    fn too_much(records: Vec<Record>, part: &str, line: usize) {
        assert_violation(&check(&history(records)), part, &[line]);
    }

    #[test]
    fn memory_and_files_have_fixed_bounds() {
        assert_eq!(check(&history([])), Verdict::Ok);
        assert_eq!(check(&history([used(MEMORY_BYTES, 0, FILES)])), Verdict::Ok);
        let small = used(1, 1, 1);
        let big = used(MEMORY_BYTES + 1, 0, 0);
        too_much(
            vec![small.clone(), big],
            "node eu-1 used 536870913 bytes of memory, and at most 536870912",
            1,
        );
        too_much(vec![small, used(0, 0, 1025)], "1025 open files", 1);
    }

    #[test]
    fn disk_grows_with_what_was_written_before() {
        let put = |at| op(1, Op::Put, Eventual, at, at + 1).text("four").etag("1");
        let bound = DISK_BASE_BYTES + DISK_FACTOR * (WRITE_BYTES + 7);
        let with = |put: Record, disk| vec![put, used(1, disk, 1)];
        assert_eq!(check(&history(with(put(900), bound))), Verdict::Ok);
        assert_eq!(check(&history(with(put(900).info(), bound))), Verdict::Ok);
        too_much(with(put(900), bound + 1), "bytes of disk", 1);
        too_much(with(put(1_001), bound), "bytes of disk", 1);
        too_much(with(put(900).failed(), bound), "bytes of disk", 1);
    }

    #[test]
    fn a_measurement_without_figures_is_unknown_and_a_silent_node_is_not_judged() {
        let mut bare = used(1, 1, 1);
        bare.value = None;
        assert_unknown(&check(&history([bare.clone()])), "line 1: a measurement");
        assert_eq!(check(&history([bare.failed()])), Verdict::Ok);
    }
}
