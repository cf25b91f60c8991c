//! Rules on lines of text.

use super::tree::{TextFile, Tree};
use super::violation::Violation;

// The banned words are put together from halves, so that this file passes its own rules.

/// Notes to oneself: do it, or write an issue.
const NOTES: &[&str] = &[
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("TO", "DO"),
];

/// Files that are code in the sense of [`NOTES`].
const CODE_EXTENSIONS: &[&str] = &["rs", "proto", "toml", "sh", "py", "yaml", "yml", "service"];

/// Folders that exist on one machine only.
const MACHINE_FOLDERS: &[&str] = &[
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/ho", "me/"),
];

/// Package registries. Where packages come from is the business of the machine that builds.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("index.", "crates.io"),
    concat!("static.", "crates.io"),
    concat!("crates.io", "-index"),
    concat!("pypi", ".org"),
    concat!("python", "hosted.org"),
    concat!("registry.", "npmjs.org"),
    concat!("proxy.", "golang.org"),
];

/// What `Cargo.lock` says of every package that does not come from this tree. A mirror of one
/// machine says something else.
const LOCKED_SOURCE: &str = concat!(
    "registry+https://github.com/rust-lang/",
    "crates.io",
    "-index"
);

/// All rules on every file.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    tree.files.iter().flat_map(check_file).collect()
}

fn check_file(file: &TextFile) -> Vec<Violation> {
    let judge = match file.path.as_str() {
        "Cargo.lock" => locked_source,
        _ => line_rules,
    };
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        for (rule, what) in judge(file, line) {
            violations.push(Violation::new(&file.path, index + 1, rule, what));
        }
    }
    if file.path.starts_with(".cargo/") {
        violations.extend(source_replacement(file));
    }
    violations
}

type Findings = Vec<(&'static str, String)>;

fn locked_source(_: &TextFile, line: &str) -> Findings {
    let source = line
        .trim()
        .strip_prefix("source = \"")
        .map(|rest| rest.trim_end_matches('"'));
    match source {
        Some(source) if source != LOCKED_SOURCE => {
            vec![(
                "registry",
                format!("{source}: every package comes from the public registry"),
            )]
        }
        _ => Vec::new(),
    }
}

fn line_rules(file: &TextFile, line: &str) -> Findings {
    let mut findings = Vec::new();
    if CODE_EXTENSIONS
        .iter()
        .any(|extension| file.has_extension(extension))
        || file.path == ".ci/run"
    {
        for note in NOTES.iter().filter(|note| has_word(line, note)) {
            findings.push(("left-over", format!("{note}: do it, or write an issue")));
        }
    }
    for folder in MACHINE_FOLDERS
        .iter()
        .filter(|folder| has_absolute_path(file, line, folder))
    {
        findings.push((
            "machine-path",
            format!("{folder} exists on one machine only"),
        ));
    }
    for host in REGISTRY_HOSTS.iter().filter(|host| line.contains(**host)) {
        findings.push((
            "registry",
            format!("{host}: where packages come from is set outside of the tree"),
        ));
    }
    if file.has_extension("rs")
        && let Some(found) = line.chars().find(|character| !character.is_ascii())
    {
        let what = format!("U+{:04X} is not ASCII: write an escape", u32::from(found));
        findings.push(("ascii", what));
    }
    findings
}

fn source_replacement(file: &TextFile) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let table = line.trim();
        if table.starts_with("[source") || table.starts_with("[registr") {
            let what = format!("{table}: a registry is set outside of the tree");
            violations.push(Violation::new(&file.path, index + 1, "registry", what));
        }
    }
    violations
}

/// Whether `word` stands in `line` with no letter, digit or underscore beside it.
fn has_word(line: &str, word: &str) -> bool {
    let is_part = |character: char| character.is_alphanumeric() || character == '_';
    line.match_indices(word).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        let after = line[start + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

/// Whether a path in `line` begins with `folder`; the same inside a longer path or an address does
/// not count.
fn has_absolute_path(file: &TextFile, line: &str, folder: &str) -> bool {
    let goes_on = |character: char| character.is_alphanumeric() || "/._-}~$)*".contains(character);
    line.match_indices(folder).any(|(start, _)| {
        let mut before = &line[..start];
        // A shell joins `"$base"/name` to one path; in Rust, `r"/name"` begins one.
        if !file.has_extension("rs") {
            before = before.strip_suffix('"').unwrap_or(before);
        }
        !before.chars().next_back().is_some_and(goes_on)
    })
}
