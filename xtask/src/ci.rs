//! `cargo xtask ci` and `cargo xtask fix`: the steps and their order.
//!
//! To add a gate, add a [`Step`] to [`steps`], or an [`Extra`] to [`EXTRAS`] when it is a program
//! of ours that may not be ready yet. A gate only reads: it may write the target folder and nothing
//! else.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::tidy;

/// Whether `ci` runs `cargo test`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Tests {
    /// Run them.
    Run,
    /// Leave them out: the caller has just run them.
    Skip,
}

/// One gate.
struct Step {
    name: &'static str,
    work: Work,
}

/// What a gate does.
enum Work {
    /// `cargo` with these arguments and these extra environment variables.
    Cargo {
        arguments: Vec<&'static str>,
        environment: &'static [(&'static str, &'static str)],
    },
    /// `hansa-jepsen`, as the step before built it, with these arguments.
    Harness(&'static [&'static str]),
    /// Our own rules, in this process.
    Tidy,
}

/// A gate made of `hansa-jepsen`, a program of this workspace. Optimised, because what these gates find grows with
/// what they get through.
struct Extra {
    name: &'static str,
    /// What it is called with.
    arguments: &'static [&'static str],
    /// Why it is off, if it is. A step that is off is reported as `not run:`, never as passed.
    off: Option<&'static str>,
}

/// The extra gates. About half of the 1000 seeds are bent by a shape, so all shapes are in it.
const EXTRAS: &[Extra] = &[
    Extra {
        name: "sim",
        arguments: &["sim", "--seeds", "1000"],
        off: None,
    },
    Extra {
        name: "model",
        arguments: &["model", "--schedules", "100000"],
        off: None,
    },
    Extra {
        name: "matrix",
        arguments: &["matrix", "--seed", "1"],
        off: None,
    },
    Extra {
        name: "run",
        arguments: &[
            "run",
            "--time",
            "300",
            "--seed",
            "1",
            "--out",
            "target/jepsen-run",
            "--replace",
        ],
        off: None,
    },
    Extra {
        name: "mutants",
        arguments: &["mutants"],
        off: Some("it takes many minutes; run it with a change of the protocol (CONTRIBUTING.md)"),
    },
];

/// What builds the harness and the product that it starts.
const BUILD: &[&str] = &["build", "--release", "--workspace", "--bins", "--locked"];

/// The gates every change must pass, in order: the quickest answer first.
fn steps(tests: Tests) -> Vec<Step> {
    let cargo = |name, arguments: &[&'static str]| Step {
        name,
        work: Work::Cargo {
            arguments: arguments.to_vec(),
            environment: &[],
        },
    };
    let mut steps = vec![
        cargo("fmt", &["fmt", "--all", "--", "--check"]),
        cargo(
            "clippy",
            &[
                "clippy",
                "--workspace",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ),
        // Code that only breaks rules must build, too.
        cargo(
            "clippy-mutants",
            &[
                "clippy",
                "--package",
                "hansa-jepsen",
                "--package",
                "hansa",
                "--features",
                "hansa-jepsen/mutants,hansa/mutants",
                "--all-targets",
                "--locked",
                "--",
                "-D",
                "warnings",
            ],
        ),
    ];
    if tests == Tests::Run {
        steps.push(cargo("test", &["test", "--workspace", "--locked"]));
    }
    steps.push(Step {
        name: "doc",
        work: Work::Cargo {
            arguments: vec!["doc", "--workspace", "--no-deps", "--locked"],
            environment: &[("RUSTDOCFLAGS", "-D warnings")],
        },
    });
    steps.push(Step {
        name: "tidy",
        work: Work::Tidy,
    });
    steps.push(cargo("release", BUILD));
    let extras = EXTRAS.iter().filter(|extra| extra.off.is_none());
    steps.extend(extras.map(|extra| Step {
        name: extra.name,
        work: Work::Harness(extra.arguments),
    }));
    steps
}

/// Runs every gate, also after one failed, so that one run tells everything. True when all passed.
pub(crate) fn run(root: &Path, tests: Tests) -> anyhow::Result<bool> {
    let mut results: Vec<(&'static str, bool, Duration)> = Vec::new();
    for step in steps(tests) {
        println!("xtask: {}", step.name);
        let began = Instant::now();
        let passed = match step.work {
            Work::Cargo {
                arguments,
                environment,
            } => cargo(root, &arguments, environment)?,
            Work::Harness(arguments) => harness(root, arguments)?,
            Work::Tidy => tidy::run(root)?,
        };
        results.push((step.name, passed, began.elapsed()));
    }
    println!("xtask: summary");
    for (name, passed, time) in &results {
        let verdict = if *passed { "ok" } else { "FAILED" };
        println!("  {name:<8} {verdict:<6} {:>7.1} s", time.as_secs_f64());
    }
    if tests == Tests::Skip {
        println!("  test     left out: --no-tests");
    }
    for extra in EXTRAS {
        if let Some(why) = extra.off {
            println!("not run: xtask {}: {why}", extra.name);
        }
    }
    Ok(results.iter().all(|(_, passed, _)| *passed))
}

/// Formats every crate, then lets clippy apply what it can. Writes the tree. True when both
/// succeeded.
pub(crate) fn fix(root: &Path) -> anyhow::Result<bool> {
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ];
    let fixed = cargo(root, &clippy, &[])?;
    // Last, because a fix of clippy may leave a line that is not formatted.
    let formatted = cargo(root, &["fmt", "--all"], &[])?;
    Ok(fixed && formatted)
}

/// Runs cargo in `root` with its output passed through. True when it exited with 0.
fn cargo(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<bool> {
    let mut command = Command::new("cargo");
    command
        .current_dir(root)
        .args(arguments)
        .envs(environment.iter().copied());
    succeeds(command)
}

/// Runs `hansa-jepsen` in `root` with its output passed through. True when it exited with 0.
fn harness(root: &Path, arguments: &[&str]) -> anyhow::Result<bool> {
    let target = env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let mut command = Command::new(target.join("release").join("hansa-jepsen"));
    command.current_dir(root).args(arguments);
    succeeds(command)
}

/// True when the command exited with 0; an error when it could not be started.
fn succeeds(mut command: Command) -> anyhow::Result<bool> {
    let status = command.status();
    let status = status.with_context(|| format!("cannot start {command:?}"))?;
    Ok(status.success())
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    fn names(tests: Tests) -> Vec<&'static str> {
        steps(tests).iter().map(|step| step.name).collect()
    }

    #[test]
    fn steps_come_in_the_documented_order() {
        assert_eq!(
            names(Tests::Run)[..6],
            ["fmt", "clippy", "clippy-mutants", "test", "doc", "tidy"]
        );
        let first = ["fmt", "clippy", "clippy-mutants", "doc", "tidy", "release"];
        assert_eq!(names(Tests::Skip)[..6], first);
    }

    #[test]
    fn only_extras_that_are_on_are_steps() {
        let on: Vec<_> = EXTRAS
            .iter()
            .filter(|extra| extra.off.is_none())
            .map(|extra| extra.name)
            .collect();
        assert_eq!(names(Tests::Skip)[6..], on[..]);
    }

    #[test]
    fn a_failing_command_is_reported_as_failed() {
        let quiet = |argument: &str| {
            let mut command = Command::new("cargo");
            command
                .arg(argument)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            succeeds(command).expect("cargo starts")
        };
        assert!(quiet("--version"));
        assert!(!quiet("--no-such-flag"));
        assert!(succeeds(Command::new("./no/such/program")).is_err());
    }
}
