//! What a test tells.

use std::io::Write as _;

/// Prints one line that the test runner does not swallow: what was measured, or what was not run.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
