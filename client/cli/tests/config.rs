//! `config`, `completions` and the help texts.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn hansa(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hansa"));
    command.env_clear().current_dir(folder).args(arguments);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap()
}

#[test]
fn what_init_writes_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    let made = hansa(folder.path(), &["config", "init", "new"]);
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let checked = hansa(
        folder.path(),
        &["config", "check", "--config", "new/node.toml"],
    );
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).starts_with("ok: node "));
    let again = hansa(folder.path(), &["config", "init", "new"]);
    assert_eq!(again.status.code(), Some(2), "nothing is overwritten");
}

/// All `node*.toml` below a folder.
fn node_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            node_files(&path, found);
        } else if name.starts_with("node") && name.ends_with(".toml") {
            found.push(path);
        }
    }
}

#[test]
fn what_deploy_ships_passes_the_check() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let mut files = Vec::new();
    node_files(&deploy, &mut files);
    assert!(files.len() >= 4, "three regions and a service: {files:?}");
    for file in files {
        let checked = hansa(
            &deploy,
            &["config", "check", "--config", file.to_str().unwrap()],
        );
        assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    }
}

#[test]
fn a_wrong_setting_names_file_line_and_field() {
    let folder = tempfile::tempdir().unwrap();
    hansa(folder.path(), &["config", "init"]);
    let path = folder.path().join("node.toml");
    let broken = format!(
        "{}\nengin = \"fjall\"\n",
        fs::read_to_string(&path).unwrap()
    );
    fs::write(&path, &broken).unwrap();
    let checked = hansa(folder.path(), &["config", "check", "--config", "node.toml"]);
    assert_eq!(checked.status.code(), Some(2));
    let said = text(&checked.stderr);
    let line = format!("node.toml, line {}", broken.lines().count());
    assert!(said.contains(&line) && said.contains("engin"), "{said}");
    // The node does not start on it either.
    let serve = hansa(folder.path(), &["serve", "--config", "node.toml"]);
    assert_eq!(serve.status.code(), Some(2));
}

#[test]
fn show_says_where_each_value_comes_from() {
    let folder = tempfile::tempdir().unwrap();
    hansa(folder.path(), &["config", "init"]);
    let arguments = [
        "config",
        "show",
        "--config",
        "node.toml",
        "--engine",
        "sled",
    ];
    let shown = hansa(folder.path(), &arguments);
    let said = text(&shown.stdout);
    assert!(said.contains("engine\tsled\tflag"), "{said}");
    assert!(said.contains("\tdefault"), "{said}");
    assert!(said.contains("node.toml:"), "{said}");
}

#[test]
fn every_command_that_does_something_shows_an_example() {
    let folder = tempfile::tempdir().unwrap();
    for command in [
        "serve",
        "status",
        "completions",
        "config check",
        "config show",
        "config init",
        "admin cut",
        "admin heal",
        "kv get",
        "kv put",
        "kv delete",
        "kv cas",
        "kv incr",
        "kv add",
        "kv remove",
        "kv contains",
        "kv members",
        "kv scan",
        "kv import",
        "kv export",
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = hansa(folder.path(), &arguments);
        assert_eq!(help.status.code(), Some(0));
        let said = text(&help.stdout);
        assert!(
            said.contains(&format!("hansa {command}")) && said.contains("Example"),
            "{said}"
        );
    }
    let help = hansa(folder.path(), &["--help"]);
    assert!(text(&help.stdout).contains("4  outcome unknown"));
}

#[test]
fn completions_are_printed_for_shells() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let script = hansa(folder.path(), &["completions", shell]);
        assert!(text(&script.stdout).contains("hansa"), "{shell}");
    }
}

#[test]
fn options_are_shown_and_taken_only_where_they_work() {
    let folder = tempfile::tempdir().unwrap();
    let of_kv = [
        "--level",
        "--region",
        "--stay",
        "--session",
        "--explain",
        "--hex",
    ];
    let none: &[&str] = &[];
    for (command, has) in [
        ("serve", none),
        ("demo", none),
        ("completions", none),
        ("config check", &["--output"]),
        ("admin cut", &["--output", "--timeout", "--admin"]),
        ("status", &["--output", "--timeout", "--endpoint"]),
        (
            "kv scan",
            &[
                "--output",
                "--timeout",
                "--endpoint",
                "--level",
                "--session",
            ],
        ),
    ] {
        let mut arguments: Vec<&str> = command.split(' ').collect();
        arguments.push("--help");
        let help = hansa(folder.path(), &arguments);
        let said = text(&help.stdout);
        let shows = |option: &str| {
            said.contains(&format!("{option} ")) || said.contains(&format!("{option}\n"))
        };
        for option in ["--output", "--timeout", "--endpoint"].iter().chain(&of_kv) {
            let is_there = has.contains(option) || (command == "kv scan" && of_kv.contains(option));
            assert_eq!(shows(option), is_there, "{option} of {command}: {said}");
        }
    }
    for arguments in [
        &["demo", "--level", "strong"][..],
        &["serve", "--endpoint", "x"],
    ] {
        assert_eq!(hansa(folder.path(), arguments).status.code(), Some(2));
    }
}

#[test]
fn only_a_build_with_mutants_knows_the_variable_that_breaks_a_rule() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hansa"));
    command.env_clear().env("HANSA_MUTANT", "NoSuchRule");
    let refused = command.current_dir(folder.path()).arg("serve").output();
    let refused = refused.unwrap();
    assert_eq!(refused.status.code(), Some(2), "it has no settings");
    let said = text(&refused.stderr);
    assert_eq!(
        said.contains("HANSA_MUTANT"),
        cfg!(feature = "mutants"),
        "{said}"
    );
}
