//! `hansa-jepsen check`: stored histories, the program itself, its exit codes.

use std::io;
use std::process::{Command, Output};

use hansa_jepsen::checker::ALL;

fn check(files: &[&str]) -> io::Result<Output> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/histories");
    let files = files.iter().map(|file| format!("{folder}/{file}"));
    Command::new(env!("CARGO_BIN_EXE_hansa-jepsen"))
        .arg("check")
        .args(files)
        .output()
}

#[test]
fn a_clean_history_exits_with_0_and_names_every_property() {
    let output = check(&["clean.jsonl"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text.matches("\n  ok  ").count(), ALL.len(), "{text}");
}

#[test]
fn a_lost_write_exits_with_1_and_is_shown() {
    let output = check(&["clean.jsonl", "lost_write.jsonl"]).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for property in ["read_your_writes", "durability", "convergence"] {
        assert!(text.contains(&format!("VIOLATED  {property}")), "{text}");
    }
    assert!(text.contains("line 2: process 1 session s"), "{text}");
}

#[test]
fn a_file_that_is_no_history_exits_with_2() {
    for file in ["missing.jsonl", "../check.rs"] {
        let output = check(&[file]).unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(file), "{text}");
    }
}
