//! Every rule against a planted violation, and a clean tree that passes them all.

use std::path::Path;

use tempfile::TempDir;

use super::arrows::Layers;
use super::cargo::Metadata;
use super::source::Sources;
use super::tree::Tree;
use super::violation::Violation;
use super::{arrows, check_files, crates, modules, purity};

/// A small workspace that breaks no rule.
const CLEAN: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nmembers = [\"consistency\"]\n"),
    (
        "consistency/Cargo.toml",
        "[package]\nname = \"hansa-consistency\"\n\n[dependencies]\nbytes = \"1\"\n",
    ),
    (
        "consistency/clippy.toml",
        "disallowed-types = [\n\
         \"std::time::Instant\",\n\
         { path = \"std::time::SystemTime\", reason = \"time is an argument\" },\n\
         \"std::collections::HashMap\", \"std::collections::HashSet\",\n\
         \"std::thread::JoinHandle\",\n\
         ]\n\
         disallowed-methods = [\n\
         \"std::thread::spawn\", \"std::thread::sleep\", \"std::env::var\",\n\
         ]\n",
    ),
    (
        "consistency/src/lib.rs",
        "//! The core.\n#![forbid(clippy::disallowed_methods, clippy::disallowed_types)]\n\
         pub mod key;\npub mod replica;\npub use key::Key;\n",
    ),
    ("consistency/src/key.rs", "//! Keys.\npub struct Key;\n"),
    (
        "consistency/src/replica.rs",
        "//! The replica.\nuse crate::Key;\npub struct Replica(pub Key);\n",
    ),
    (
        "docs/architecture.md",
        "# Architecture\n\nSee [the core](../consistency/src/lib.rs#top) and [this](#here).\n",
    ),
];

fn write(root: &Path, path: &str, text: &str) {
    let full = root.join(path);
    std::fs::create_dir_all(full.parent().expect("a file has a folder")).expect("folder");
    std::fs::write(full, text).expect("file");
}

/// The clean tree with `planted` files added or replaced.
fn plant(planted: &[(&str, &str)]) -> (TempDir, Tree) {
    let folder = TempDir::new().expect("a temporary folder");
    for (path, text) in CLEAN.iter().chain(planted) {
        write(folder.path(), path, text);
    }
    let tree = Tree::read(folder.path()).expect("the tree is readable");
    (folder, tree)
}

/// What the file rules say, each violation as `path:line: rule`.
fn found(planted: &[(&str, &str)]) -> Vec<String> {
    let (_folder, tree) = plant(planted);
    short(check_files(&tree))
}

fn short(mut violations: Vec<Violation>) -> Vec<String> {
    violations.sort();
    violations
        .iter()
        .map(|found| format!("{}:{}: {}", found.path, found.line, found.rule))
        .collect()
}

#[test]
fn a_clean_tree_passes() {
    assert_eq!(found(&[]), [""; 0]);
}

#[test]
fn a_violation_reads_path_line_rule_what() {
    let violation = Violation::new("a/b.rs", 7, "rule", "what");
    assert_eq!(violation.to_string(), "a/b.rs:7: rule: what");
}

#[test]
fn without_git_the_target_folder_is_left_out_and_binary_files_are_not_text() {
    let (folder, _) = plant(&[]);
    write(folder.path(), "target/debug/build.rs", "not rust");
    std::fs::write(folder.path().join("data.bin"), [0xff, 0x00]).expect("file");
    let tree = Tree::read(folder.path()).expect("the tree is readable");
    assert!(tree.file("target/debug/build.rs").is_none());
    assert!(tree.file("data.bin").is_none() && tree.paths.contains("data.bin"));
}

#[test]
fn with_git_new_files_count_and_ignored_ones_do_not() {
    let (folder, _) = plant(&[
        (".gitignore", "/ignored\n"),
        ("ignored/a.rs", "not rust"),
        ("new.rs", ""),
    ]);
    let status = std::process::Command::new("git")
        .args(["init", "--quiet"])
        .current_dir(folder.path())
        .status()
        .expect("git starts");
    assert!(status.success());
    let tree = Tree::read(folder.path()).expect("the tree is readable");
    assert!(tree.file("new.rs").is_some() && tree.file("ignored/a.rs").is_none());
}

#[test]
fn a_file_that_does_not_parse() {
    assert_eq!(
        found(&[("consistency/src/key.rs", "fn (")]),
        ["consistency/src/key.rs:1: parse"]
    );
}

// Text.

#[test]
fn notes_to_oneself_in_code() {
    let note = concat!("TO", "DO");
    let code = format!("//! A.\n// {note}: later\n// my{note} is a word of its own\n");
    let text = format!("{note} is a word people write about\n");
    assert_eq!(
        found(&[("a.rs", &code), ("a.md", &text)]),
        ["a.rs:2: left-over"]
    );
    let script = format!("#!/bin/sh\n# {}\n", concat!("FIX", "ME"));
    assert_eq!(found(&[(".ci/run", &script)]), [".ci/run:2: left-over"]);
}

#[test]
fn machine_paths_anywhere() {
    let text = format!(
        "a = \"{}x\"\n-v c:{}y\n",
        concat!("/wo", "rk/"),
        concat!("/ro", "ot/")
    );
    assert_eq!(
        found(&[("a.txt", &text)]),
        ["a.txt:1: machine-path", "a.txt:2: machine-path"]
    );
    let innocent = format!(
        "https://example.org{0}x net{0}y ~{0}z\n",
        concat!("/ho", "me/")
    );
    assert_eq!(found(&[("a.txt", &innocent)]), [""; 0]);
    let root = concat!("/ro", "ot/");
    assert_eq!(
        found(&[("a.sh", &format!("rm \"$base\"{root}x\n"))]),
        [""; 0]
    );
    let script = format!("cd \"{root}x\"\na=\"{root}\"\n");
    assert_eq!(
        found(&[("a.sh", &script)]),
        ["a.sh:1: machine-path", "a.sh:2: machine-path"]
    );
}

#[test]
fn registry_hosts_anywhere() {
    let host = concat!("static.", "crates.io");
    assert_eq!(
        found(&[("deploy/a.yaml", &format!("x\nurl: https://{host}/x\n"))]),
        ["deploy/a.yaml:2: registry"]
    );
    assert_eq!(
        found(&[(".cargo/config.toml", "[source.mirror]\n")]),
        [".cargo/config.toml:1: registry"]
    );
}

#[test]
fn a_lock_file_names_only_the_public_registry() {
    let public = concat!(
        "registry+https://github.com/rust-lang/",
        "crates.io",
        "-index"
    );
    assert_eq!(
        found(&[("Cargo.lock", &format!("source = \"{public}\"\n"))]),
        [""; 0]
    );
    let mirror = "name = \"a\"\nsource = \"registry+https://mirror.example/index\"\n";
    assert_eq!(found(&[("Cargo.lock", mirror)]), ["Cargo.lock:2: registry"]);
}

#[test]
fn rust_is_ascii() {
    assert_eq!(
        found(&[("a.rs", "//! A.\n// caf\u{e9}\n"), ("a.md", "caf\u{e9}\n")]),
        ["a.rs:2: ascii"]
    );
}

// Tokens.

#[test]
fn unfinished_code() {
    let code = "fn a() { todo!() }\nfn b() { unimplemented!(\"later\") }\n\
                fn c(todo: bool) -> bool { todo != true } // todo!()\n\
                const D: &str = \"todo!()\";\n";
    assert_eq!(
        found(&[("a.rs", code)]),
        ["a.rs:1: unfinished", "a.rs:2: unfinished"]
    );
}

#[test]
fn tests_switched_off_without_a_reason() {
    let code = "#[test]\n#[ignore]\nfn a() {}\n#[test]\n#[ignore = \"needs root\"]\nfn b() {}\n";
    assert_eq!(found(&[("a.rs", code)]), ["a.rs:2: ignored-test"]);
}

#[test]
fn warnings_silenced() {
    let code = "#[allow(dead_code)]\nfn a() {}\n\
                #[cfg_attr(test, allow(unused_variables))]\nfn b() {}\n\
                #[allow(clippy::too_many_arguments)]\nfn c() {}\n";
    assert_eq!(
        found(&[("a.rs", code)]),
        ["a.rs:1: silenced", "a.rs:3: silenced"]
    );
}

// Length.

/// A function of exactly `lines` lines, whose braces in strings, characters and comments must not
/// be counted.
fn function(lines: usize) -> String {
    let body = "    let _ = (\"}\", r#\"}\"#, '}', b'}'); // }\n".repeat(lines - 2);
    format!("/// Documentation does not count.\nfn long<'a>() {{\n{body}}}\n")
}

#[test]
fn functions_of_the_product_have_seventy_lines() {
    assert_eq!(found(&[("a.rs", &function(70))]), [""; 0]);
    assert_eq!(
        found(&[("a.rs", &function(71))]),
        ["a.rs:2: function-length"]
    );
    let method = format!("struct A;\nimpl A {{\n{}}}\n", function(71));
    assert_eq!(found(&[("a.rs", &method)]), ["a.rs:4: function-length"]);
    let in_macro = format!("wrap! {{\n{}}}\n", function(71));
    assert_eq!(found(&[("a.rs", &in_macro)]), ["a.rs:3: function-length"]);
    let constant = function(71).replace("long<'a>()", "long() -> A<{ 1 }>");
    assert_eq!(found(&[("a.rs", &constant)]), ["a.rs:2: function-length"]);
}

#[test]
fn functions_of_tests_have_a_hundred_and_twenty() {
    let module = |lines| format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(lines));
    assert_eq!(found(&[("a.rs", &module(120))]), [""; 0]);
    assert_eq!(
        found(&[("a.rs", &module(121))]),
        ["a.rs:4: function-length"]
    );
    let test = format!("#[tokio::test]\n{}", function(120));
    assert_eq!(found(&[("a.rs", &test)]), [""; 0]);
    assert_eq!(
        found(&[("consistency/tests/laws.rs", &function(120))]),
        [""; 0]
    );
    let declared = (
        "consistency/src/key.rs",
        "//! Keys.\npub struct Key;\n#[cfg(test)]\nmod tests;\n",
    );
    assert_eq!(
        found(&[declared, ("consistency/src/key/tests.rs", &function(120))]),
        [""; 0]
    );
    assert_eq!(
        found(&[("consistency/src/key/tests.rs", &function(120))]),
        ["consistency/src/key/tests.rs:2: function-length"],
        "the name alone does not make it a test"
    );
}

#[test]
fn files_have_eight_hundred_lines_without_tests() {
    let lines = |count| "// A line.\n".repeat(count);
    let tests = "#[cfg(test)]\nmod tests {\n}\n";
    assert_eq!(found(&[("a.rs", &lines(800))]), [""; 0]);
    assert_eq!(found(&[("a.rs", &lines(801))]), ["a.rs:1: file-length"]);
    let with_tests = format!("{}{tests}", lines(799) + "fn a() {}\n");
    assert_eq!(found(&[("a.rs", &with_tests)]), [""; 0]);
    let tests_first = format!("{tests}{}", lines(799) + "fn a() {}\n");
    assert_eq!(found(&[("a.rs", &tests_first)]), ["a.rs:1: file-length"]);
    assert_eq!(found(&[("consistency/tests/a.rs", &lines(900))]), [""; 0]);
}

// Modules.

const UP: &str = "consistency/src/replica.rs";
const DOWN: &str = "consistency/src/key.rs";

/// What the rule on modules says where no crate has layers.
fn cycles_told(planted: &[(&str, &str)]) -> Vec<Violation> {
    let (_folder, tree) = plant(planted);
    modules::check(&Sources::parse(&tree).0, &[])
}

fn cycles(planted: &[(&str, &str)]) -> Vec<String> {
    short(cycles_told(planted))
}

#[test]
fn modules_that_use_each_other() {
    let cycle = [format!("{DOWN}:1: module-arrows")];
    // By its path, through a re-export of the root, from below, in a group, in a macro call.
    assert_eq!(
        cycles(&[(DOWN, "use crate::replica::Replica; pub struct Key;")]),
        cycle
    );
    assert_eq!(
        cycles(&[(DOWN, "use super::replica; pub struct Key;")]),
        cycle
    );
    assert_eq!(
        cycles(&[(
            DOWN,
            "use crate::{key, replica::{self, Replica}}; pub struct Key;"
        )]),
        cycle
    );
    assert_eq!(
        cycles(&[(DOWN, "fn a() { assert!(crate::replica::ok()); }")]),
        cycle
    );
    assert_eq!(
        cycles(&[(DOWN, "mod inner { use super::super::replica; }")]),
        cycle
    );
    let child = "consistency/src/key/part.rs";
    assert_eq!(
        cycles(&[(child, "use super::{Key, super::replica};")]),
        [format!("{child}:1: module-arrows")],
        "a module and its children count as one"
    );
}

#[test]
fn arrows_one_way_and_inside_of_a_module_are_fine() {
    let child = "consistency/src/key/part.rs";
    assert_eq!(
        found(&[(
            child,
            "use super::Key; use crate::key; pub(crate) struct Part;"
        )]),
        [""; 0]
    );
    assert_eq!(found(&[(DOWN, "mod inner { use super::Key; }")]), [""; 0]);
    let test = "pub struct Key;\n#[cfg(test)]\nmod tests { use crate::replica::Replica; }\n";
    assert_eq!(
        found(&[(DOWN, test)]),
        [""; 0],
        "a test may look from anywhere"
    );
    assert_eq!(
        found(&[(
            DOWN,
            "// crate::replica\nconst A: &str = \"crate::replica\";"
        )]),
        [""; 0]
    );
}

#[test]
fn a_long_cycle_is_told_once_with_its_way() {
    let violations = cycles_told(&[
        ("consistency/src/a.rs", "use crate::b;"),
        ("consistency/src/b.rs", "\nuse crate::c;"),
        ("consistency/src/c.rs", "\n\nuse crate::a;"),
    ]);
    assert_eq!(violations.len(), 1);
    let expected = "consistency/src/a.rs:1: module-arrows: cycle a -> b -> c -> a \
                    (consistency/src/a.rs:1, consistency/src/b.rs:2, consistency/src/c.rs:3)";
    assert_eq!(violations[0].to_string(), expected);
}

#[test]
fn a_glob_of_the_root_hides_arrows() {
    assert_eq!(
        found(&[(DOWN, "use crate::*;")]),
        [format!("{DOWN}:1: module-arrows")]
    );
    assert_eq!(
        found(&[(DOWN, "use super::*;")]),
        [format!("{DOWN}:1: module-arrows")]
    );
}

#[test]
fn layers() {
    let judge = |layers: Layers| {
        let (_folder, tree) = plant(&[]);
        let (sources, _) = Sources::parse(&tree);
        short(modules::check(&sources, &[layers]))
    };
    let name = "hansa-consistency";
    assert_eq!(judge((name, &[&["key"], &["replica"]])), [""; 0]);
    assert_eq!(judge((name, &[&["key", "replica"]])), [""; 0]);
    assert_eq!(
        judge((name, &[&["replica"], &["key"]])),
        [format!("{UP}:2: module-arrows")]
    );
    assert_eq!(
        judge((name, &[&["replica"]])),
        [format!("{DOWN}:1: module-arrows")]
    );
}

#[test]
fn the_core_and_the_node_keep_to_their_layers() {
    let version = "consistency/src/version.rs";
    assert_eq!(
        found(&[
            (version, "\nuse crate::request;"),
            ("consistency/src/request.rs", "")
        ]),
        [format!("{version}:2: module-arrows")]
    );
    let unknown = "consistency/src/helpers.rs";
    assert_eq!(
        found(&[(unknown, "")]),
        [format!("{unknown}:1: module-arrows")],
        "a new module needs a layer"
    );
    let store = "node/src/store.rs";
    let node = [
        ("node/Cargo.toml", "[package]\nname = \"hansa-node\"\n"),
        ("node/src/server.rs", "use crate::store;"),
        ("node/src/driver.rs", "use crate::store;"),
    ];
    assert_eq!(found(&[&node[..], &[(store, "")]].concat()), [""; 0]);
    assert_eq!(
        found(
            &[
                &node[..],
                &[
                    (store, "use crate::settings;"),
                    ("node/src/settings.rs", "")
                ]
            ]
            .concat()
        ),
        [format!("{store}:1: module-arrows")]
    );
}

#[test]
fn a_module_stands_in_one_layer() {
    for (package, layers) in arrows::LAYERS {
        let mut modules = layers.concat();
        modules.sort_unstable();
        let count = modules.len();
        modules.dedup();
        assert!(
            count > 0 && modules.len() == count,
            "{package}: {modules:?}"
        );
    }
}

// Purity.

#[test]
fn the_core_forbids_what_its_clippy_list_bans() {
    let root = "consistency/src/lib.rs";
    let missing = format!("{root}:1: purity");
    assert_eq!(
        found(&[(root, "pub mod key;")]),
        [missing.clone(), missing.clone()]
    );
    assert_eq!(
        found(&[(
            root,
            "#![deny(clippy::disallowed_methods)]\n#![forbid(clippy::disallowed_types)]\n"
        )]),
        [missing]
    );
    let two = "#![forbid(clippy::disallowed_methods)]\n#![forbid(clippy::disallowed_types)]\n";
    assert_eq!(found(&[(root, two), (UP, "use crate::key::Key;")]), [""; 0]);
}

#[test]
fn the_clippy_list_bans_clocks_threads_and_hash_maps() {
    let list = "consistency/clippy.toml";
    let (_, clean) = CLEAN
        .iter()
        .find(|(path, _)| *path == list)
        .expect("it is there");
    let commented = clean.replace("\"std::time::Instant\",", "# \"std::time::Instant\",");
    assert_eq!(found(&[(list, &commented)]), [format!("{list}:1: purity")]);
    let all = arrows::CORE_BANNED_TYPES.len() + arrows::CORE_BANNED_METHODS.len();
    assert_eq!(found(&[(list, "")]).len(), all);
    assert_eq!(found(&[(list, "not toml")]), [format!("{list}:1: purity")]);
}

#[test]
fn the_core_is_built_from_listed_packages() {
    let clean = "hansa-consistency v0.1.0 (/x)\nbytes v1.0.0\nserde v1.0.0\nserde v1.0.0 (*)\n";
    assert_eq!(short(purity::check_closure(clean)), [""; 0]);
    let violations = purity::check_closure("bytes v1.0.0\ntokio v1.0.0\nleft-pad v0.1.0\n");
    assert_eq!(violations.len(), 2);
    assert!(
        violations[0]
            .what
            .starts_with("left-pad is not on the list")
    );
    assert!(violations[1].what.starts_with("tokio must never be part"));
}

#[test]
fn no_package_is_on_both_lists() {
    let both = arrows::CORE_CLOSURE
        .iter()
        .filter(|package| arrows::CORE_NEVER.contains(*package));
    assert_eq!(both.count(), 0);
}

#[test]
fn rules_broken_on_purpose_stay_out_of_the_product() {
    let clean =
        "hansa v0.1.0 (/x)|default\nhansa-consistency v0.1.0 (/x)|\n\nbytes v1.0.0|std (*)\n";
    assert_eq!(short(purity::check_built_features(clean)), [""; 0]);
    let core = "hansa-consistency v0.1.0 (/x)|default,mutants";
    let on = format!("{core}\n{core} (*)\n");
    assert_eq!(
        short(purity::check_built_features(&on)),
        ["Cargo.toml:1: mutants"]
    );
}

// Crates.

fn metadata(packages: &str) -> Metadata {
    let text = format!("{{\"workspace_root\": \"/x\", \"packages\": [{packages}]}}");
    serde_json::from_str(&text).expect("the planted metadata parses")
}

fn package(name: &str, folder: &str, rest: &str) -> String {
    format!("{{\"name\": \"{name}\", \"manifest_path\": \"/x/{folder}/Cargo.toml\", {rest}}}")
}

fn arrows_of(packages: &[String]) -> Vec<String> {
    let manifest =
        "[package]\nname = \"a\"\n\n[dependencies]\nbytes = \"1\"\nhansa-node.workspace = true\n";
    let (_folder, tree) = plant(&[("jepsen-like/Cargo.toml", manifest)]);
    short(crates::check(
        &metadata(&packages.join(",")),
        &tree,
        arrows::CRATES,
    ))
}

const NODE: &str = "\"dependencies\": [{\"name\": \"tokio\", \"kind\": null}]";

#[test]
fn crates_use_only_what_their_row_allows() {
    let node = package("hansa-node", "node", NODE);
    let arrow =
        |kind: &str| format!("\"dependencies\": [{{\"name\": \"hansa-node\", \"kind\": {kind}}}]");
    let good = package("hansa", "client/cli", &arrow("null"));
    assert_eq!(arrows_of(&[node.clone(), good]), [""; 0]);
    for kind in ["null", "\"dev\"", "\"build\""] {
        let bad = package("hansa-jepsen", "jepsen-like", &arrow(kind));
        assert_eq!(
            arrows_of(&[node.clone(), bad]),
            ["jepsen-like/Cargo.toml:6: crate-arrows"]
        );
    }
    let unknown = package("hansa-extra", "extra", "\"dependencies\": []");
    assert_eq!(arrows_of(&[unknown]), ["extra/Cargo.toml:1: crate-arrows"]);
}

#[test]
fn crates_name_only_the_outside_crates_they_may() {
    let outside = |name: &str, kind: &str| {
        format!("\"dependencies\": [{{\"name\": \"{name}\", \"kind\": {kind}}}]")
    };
    let link = |rest: &str| arrows_of(&[package("hansa-linkproxy", "link", rest)]);
    assert_eq!(link(&outside("tokio", "null")), [""; 0]);
    assert_eq!(
        link(&outside("tonic", "null")),
        ["link/Cargo.toml:1: crate-arrows"]
    );
    assert_eq!(
        link(&outside("tonic", "\"dev\"")),
        [""; 0],
        "what only tests use is not in the product"
    );
    let client = package("hansa-client", "client", &outside("fjall", "null"));
    assert_eq!(arrows_of(&[client]), ["client/Cargo.toml:1: crate-arrows"]);
}

#[test]
fn only_three_packages_forward_the_rules_broken_on_purpose() {
    let judge = |name: &str, rest: &str| {
        let (_folder, tree) = plant(&[]);
        short(purity::check_forwarding(
            &metadata(&package(name, "a", rest)),
            &tree,
        ))
    };
    let forward =
        "\"dependencies\": [], \"features\": {\"mutants\": [\"hansa-consistency/mutants\"]}";
    for may in ["hansa-jepsen", "hansa-node", "hansa"] {
        assert_eq!(judge(may, forward), [""; 0]);
    }
    assert_eq!(judge("hansa-client", forward), ["a/Cargo.toml:1: mutants"]);
    let by_default =
        "\"dependencies\": [], \"features\": {\"default\": [\"mutants\"], \"mutants\": []}";
    assert_eq!(
        judge("hansa-jepsen", by_default),
        ["a/Cargo.toml:1: mutants"]
    );
    let core = "{\"name\": \"hansa-consistency\", \"kind\": \"dev\", \"features\": [\"mutants\"]}";
    let asked = format!("\"dependencies\": [{core}]");
    assert_eq!(judge("hansa-jepsen", &asked), ["a/Cargo.toml:1: mutants"]);
}

// Documents.

#[test]
fn documents_have_one_title() {
    assert_eq!(
        found(&[("docs/a.md", "Text\n")]),
        ["docs/a.md:1: doc-title"]
    );
    assert_eq!(
        found(&[("docs/b/a.md", "# One\n\n# Two\n")]),
        ["docs/b/a.md:3: doc-title"]
    );
    assert_eq!(
        found(&[("docs/a.md", "# One\n\n```sh\n# a comment\n```\n")]),
        [""; 0]
    );
}

#[test]
fn links_lead_somewhere() {
    let lost = "# One\n\n[a](b.md) [c](../consistency)\n[`d`](gone/e.md#f)\n";
    assert_eq!(
        found(&[("docs/a.md", lost)]),
        ["docs/a.md:3: doc-link", "docs/a.md:4: doc-link"]
    );
    assert_eq!(
        found(&[("README.md", "[docs](docs/none.md)\n")]),
        ["README.md:1: doc-link"]
    );
    assert_eq!(
        found(&[("README.md", "[a]: docs/none.md\n")]),
        ["README.md:1: doc-link"]
    );
    assert_eq!(
        found(&[("README.md", "[up](../../etc)\n[root](/docs)\n")]),
        ["README.md:1: doc-link", "README.md:2: doc-link"]
    );
    let fine =
        "[a](https://example.org/x) [b](docs/) `[c](none)` [d](docs/architecture.md \"title\")\n";
    assert_eq!(found(&[("README.md", fine)]), [""; 0]);
}
