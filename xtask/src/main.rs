//! The gates of the workspace, in one place that needs only cargo.
//!
//! - `cargo xtask ci [--no-tests]` runs every gate and writes nothing but the target folder.
//! - `cargo xtask fix` formats and applies what clippy can apply by itself.
//! - `cargo xtask tidy` holds the tree against the rules that no compiler knows: see [`tidy`].
//!
//! Exit code: 0 when all is well, 1 when a gate failed, 2 for a wrong command line.

#![forbid(unsafe_code)]

mod ci;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  ci [--no-tests]  every gate, in order; reads only
  fix              cargo fmt and clippy --fix; writes
  tidy             arrows, purity, lengths, banned text, documents";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        ["ci"] => workspace_root().and_then(|root| ci::run(&root, ci::Tests::Run)),
        ["ci", "--no-tests"] => workspace_root().and_then(|root| ci::run(&root, ci::Tests::Skip)),
        ["fix"] => workspace_root().and_then(|root| ci::fix(&root)),
        ["tidy"] => workspace_root().and_then(|root| tidy::run(&root)),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The folder of the workspace manifest: the parent of this crate's folder.
///
/// Cargo names that folder when it runs us; it is read at run time, so no path is compiled in.
fn workspace_root() -> anyhow::Result<PathBuf> {
    let own = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: start this with `cargo xtask`")?;
    let root = PathBuf::from(own).parent().map(PathBuf::from);
    root.context("the folder of xtask has no parent")
}
