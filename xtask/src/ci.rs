//! `cargo xtask ci` and `cargo xtask fix`: the steps and their order.
//!
//! To add a gate, add a [`Step`] to [`steps`], or an [`Extra`] to [`EXTRAS`] when it is a program
//! of ours that may not be ready yet. A gate only reads: it may write the target folder and nothing
//! else.

use std::path::Path;
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
    /// Our own rules, in this process.
    Tidy,
}

/// A gate made of `hansa-jepsen`, a program of this workspace.
struct Extra {
    name: &'static str,
    /// Features it is built with.
    features: &'static [&'static str],
    /// What it is called with.
    arguments: &'static [&'static str],
    /// Why it is off, if it is. A step that is off is reported as `not run:`, never as passed.
    off: Option<&'static str>,
}

impl Extra {
    /// What cargo is called with. Optimised, because what these gates find grows with what they get through.
    fn cargo_arguments(&self) -> Vec<&'static str> {
        let mut all = vec!["run", "--release", "--locked", "-p", "hansa-jepsen"];
        for feature in self.features {
            all.extend(["--features", feature]);
        }
        all.push("--");
        all.extend(self.arguments);
        all
    }
}

/// The extra gates. The number of seeds is what takes half a minute on two cores; about half of them are
/// bent by a shape, so all shapes are in it.
const EXTRAS: &[Extra] = &[
    Extra {
        name: "sim",
        features: &[],
        arguments: &["sim", "--seeds", "1000"],
        off: None,
    },
    Extra {
        name: "model",
        features: &[],
        arguments: &["model", "--schedules", "20000"],
        off: None,
    },
    Extra {
        name: "mutants",
        features: &["mutants"],
        arguments: &["mutants"],
        off: Some("it takes many minutes; run it with a change of the protocol (CONTRIBUTING.md)"),
    },
];

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
    let extras = EXTRAS.iter().filter(|extra| extra.off.is_none());
    steps.extend(extras.map(|extra| cargo(extra.name, &extra.cargo_arguments())));
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
            names(Tests::Run)[..5],
            ["fmt", "clippy", "test", "doc", "tidy"]
        );
        assert_eq!(names(Tests::Skip)[..4], ["fmt", "clippy", "doc", "tidy"]);
    }

    #[test]
    fn only_extras_that_are_on_are_steps() {
        let on: Vec<_> = EXTRAS
            .iter()
            .filter(|extra| extra.off.is_none())
            .map(|extra| extra.name)
            .collect();
        assert_eq!(names(Tests::Skip)[4..], on[..]);
    }

    #[test]
    fn an_extra_is_one_call_of_cargo() {
        let line = |name: &str| {
            let extra = EXTRAS.iter().find(|extra| extra.name == name);
            extra.expect("there is one").cargo_arguments().join(" ")
        };
        assert_eq!(
            line("sim"),
            "run --release --locked -p hansa-jepsen -- sim --seeds 1000"
        );
        assert_eq!(
            line("mutants"),
            "run --release --locked -p hansa-jepsen --features mutants -- mutants"
        );
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
