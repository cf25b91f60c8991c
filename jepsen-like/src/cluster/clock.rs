//! Wall clocks that show what they are told, by `libfaketime`: it is loaded before the C library of a node and
//! answers for the wall clock, from a file that is read anew each time. Clocks that only go forward stay true.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use super::files::Files;
use super::spec::Spec;
use crate::nemesis::{Clock, NodeIndex, Refused};

/// Where Debian puts the library, by machine.
const LIBRARIES: [&str; 2] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
];

/// The clock of one node.
struct Own {
    file: PathBuf,
    /// When its process started: rates count from there.
    started: SystemTime,
    /// What it shows.
    clock: Clock,
}

/// The clocks of all nodes.
pub(super) struct Clocks {
    library: &'static str,
    nodes: Vec<Own>,
}

impl Clocks {
    /// True clocks for all nodes.
    ///
    /// # Errors
    /// [`Refused::NotHere`] where the library is not installed; else when a file can not be written.
    pub(super) fn prepare(spec: &Spec, files: &Files) -> Result<Clocks> {
        let library = LIBRARIES.into_iter().find(|path| Path::new(path).is_file());
        let library = library.ok_or_else(|| {
            Refused::NotHere("clocks of their own: install Debian's `faketime`".to_owned())
        })?;
        let own = |node| Own {
            file: files.clock(&spec.node_name(node)),
            started: SystemTime::now(),
            clock: Clock::True,
        };
        let mut clocks = Clocks {
            library,
            nodes: (0..spec.layout.nodes()).map(own).collect(),
        };
        for node in 0..clocks.nodes.len() {
            clocks.set(node, Clock::True)?;
        }
        Ok(clocks)
    }

    /// What a process that starts now needs to be told. Its clock shows what it was last set to.
    ///
    /// # Errors
    /// When the file can not be written.
    pub(super) fn environment(&mut self, node: NodeIndex) -> Result<Vec<(&'static str, OsString)>> {
        let own = &mut self.nodes[node];
        own.started = SystemTime::now();
        if let clock @ Clock::Rate(_) = own.clock {
            // What it gathered in its last life is gone, as with a clock that was set at the boot.
            self.set(node, clock)?;
        }
        let own = &self.nodes[node];
        Ok(vec![
            ("LD_PRELOAD", self.library.into()),
            ("FAKETIME_TIMESTAMP_FILE", own.file.clone().into()),
            ("FAKETIME_NO_CACHE", "1".into()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
            // A frozen clock is told in seconds since 1970 and not in some local time.
            ("FAKETIME_FMT", "%s".into()),
        ])
    }

    /// Sets a node's clock; its process need not run.
    ///
    /// # Errors
    /// When the file can not be written.
    pub(super) fn set(&mut self, node: NodeIndex, clock: Clock) -> Result<()> {
        let own = &mut self.nodes[node];
        own.clock = clock;
        let now = SystemTime::now();
        let text = text(clock, now, own.started);
        // In one piece: a node may read at any moment.
        let fresh = own.file.with_extension("clock-new");
        let written = fs::write(&fresh, text).and_then(|()| fs::rename(&fresh, &own.file));
        written.with_context(|| format!("can not set the clock {}", own.file.display()))
    }
}

/// What the library is told. The rate is always named: it stays as it was when it is not.
fn text(clock: Clock, now: SystemTime, started: SystemTime) -> String {
    let age = now.duration_since(started).unwrap_or(Duration::ZERO);
    match clock {
        Clock::True => "+0 x1\n".to_owned(),
        Clock::Offset(ms) => format!("{:+.3} x1\n", ms as f64 / 1000.0),
        Clock::Rate(permille) => {
            // The library lets a clock drift since the start of its process. Taking off what that would have
            // gathered until now makes it true at this moment.
            let rate = permille as f64 / 1000.0;
            let gathered = age.as_secs_f64() * (rate - 1.0);
            format!("{:+.6} x{rate:.3}\n", -gathered)
        }
        Clock::Frozen => {
            let since = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
            format!("{}.{:06}\n", since.as_secs(), since.subsec_micros())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_library_is_told_in_its_own_words() {
        let started = UNIX_EPOCH + Duration::from_secs(1000);
        let now = started + Duration::from_millis(10_250);
        let say = |clock| text(clock, now, started);
        assert_eq!(say(Clock::True), "+0 x1\n");
        assert_eq!(say(Clock::Offset(-120)), "-0.120 x1\n");
        assert_eq!(say(Clock::Offset(240)), "+0.240 x1\n");
        assert_eq!(say(Clock::Rate(1040)), "-0.410000 x1.040\n");
        assert_eq!(say(Clock::Rate(960)), "+0.410000 x0.960\n");
        assert_eq!(say(Clock::Frozen), "1010.250000\n");
    }
}
