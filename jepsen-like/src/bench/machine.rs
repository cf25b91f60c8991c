//! What the machine spends and how fast its disk is.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// How the names of the generator's threads begin, so that its time is told from that of the link proxies, which run in
/// the same process.
pub(super) const GENERATOR_THREAD: &str = "bench-load";
/// `/proc` counts time in so many parts of a second, on every processor that Hansa is built for.
const TICKS_PER_SECOND: f64 = 100.0;
/// One write before a sync.
const SYNC_BYTES: usize = 4096;
/// Syncs that are measured.
const SYNCS: usize = 200;

/// Time that processes spent on processors, seconds; those that are gone count nothing.
pub(super) fn cpu_of(processes: &[u32]) -> f64 {
    let stat = |id: &u32| std::fs::read_to_string(format!("/proc/{id}/stat")).ok();
    let ticks = processes
        .iter()
        .filter_map(stat)
        .filter_map(|it| ticks(&it));
    ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// Time that the generator's threads spent on processors, seconds.
pub(super) fn cpu_of_generator() -> f64 {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return 0.0;
    };
    let stat = |task: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(task.ok()?.path().join("stat")).ok()
    };
    let ours = |stat: &String| stat.contains(&format!("({GENERATOR_THREAD}"));
    let ticks = tasks
        .filter_map(stat)
        .filter(ours)
        .filter_map(|it| ticks(&it));
    ticks.sum::<u64>() as f64 / TICKS_PER_SECOND
}

/// User and system time in a line of `stat` (proc(5)): the 14th and 15th field.
fn ticks(stat: &str) -> Option<u64> {
    // The second field is a name in brackets, which may have blanks.
    let mut behind = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = behind.next()?.parse().ok()?;
    let system: u64 = behind.next()?.parse().ok()?;
    Some(user + system)
}

/// The median time of a disk sync: 4 KiB appended, then `fdatasync`, 200 times, in a file in this directory.
///
/// # Errors
/// When the file can not be written.
pub(super) fn sync_p50(folder: &Path) -> Result<Duration> {
    let path = folder.join("sync");
    let measure = || -> std::io::Result<Vec<Duration>> {
        let mut file = File::create(&path)?;
        let page = [0x5a; SYNC_BYTES];
        let mut times = Vec::with_capacity(SYNCS);
        for _ in 0..SYNCS {
            let begun = Instant::now();
            file.write_all(&page)?;
            file.sync_data()?;
            times.push(begun.elapsed());
        }
        std::fs::remove_file(&path)?;
        Ok(times)
    };
    let mut times = measure().with_context(|| format!("can not write {}", path.display()))?;
    times.sort_unstable();
    Ok(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_read_behind_any_name() {
        let line = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 250 50 0 0 20";
        assert_eq!(ticks(line), Some(300));
        assert_eq!(ticks("12 (a"), None);
    }

    #[test]
    fn a_busy_generator_is_seen_and_told_from_others() {
        let before = cpu_of_generator();
        let busy = || {
            let until = Instant::now() + Duration::from_secs(20);
            while cpu_of_generator() < 0.1 && Instant::now() < until {}
            cpu_of_generator()
        };
        let thread = std::thread::Builder::new().name(format!("{GENERATOR_THREAD}-x"));
        let after = thread.spawn(busy).unwrap().join().unwrap();
        assert!(after >= 0.1 && after > before, "{before} {after}");
        assert!(cpu_of(&[std::process::id()]) >= 0.1);
        assert!(cpu_of(&[u32::MAX]).abs() < f64::EPSILON);
    }

    #[test]
    fn a_sync_takes_time_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(sync_p50(folder.path()).unwrap() > Duration::ZERO);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
