//! `hansa-jepsen check`: stored histories, the program itself, its exit codes.

use std::fs;
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

#[test]
fn a_history_is_exported_as_edn() {
    let folder = tempfile::tempdir().unwrap();
    let edn = folder.path().join("history.edn");
    let history = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/histories/lost_write.jsonl"
    );
    let export = |key: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hansa-jepsen"));
        command.arg("export").arg(history).arg("--edn").arg(&edn);
        command.args(key.iter().flat_map(|key| ["--key", key]));
        command.output().unwrap().status.code()
    };
    assert_eq!(export(None), Some(0));
    let text = fs::read_to_string(&edn).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{:type :invoke, :f :write, :key "t/k", :value "a", :process 0, :time 1, :index 0, :level :session}"#,
            r#"{:type :ok, :f :write, :key "t/k", :value "a", :process 0, :time 2, :index 1, :level :session}"#,
            r#"{:type :invoke, :f :read, :key "t/k", :value nil, :process 0, :time 5, :index 2, :level :session}"#,
            r#"{:type :ok, :f :read, :key "t/k", :value nil, :process 0, :time 6, :index 3, :level :session}"#,
        ]
    );
    assert_eq!(export(Some("nothing/there")), Some(2));
}
