//! One title per document, and links that lead somewhere.

use super::tree::{TextFile, Tree};
use super::violation::Violation;

/// Titles of everything below `docs`, relative links of every Markdown file.
pub(crate) fn check(tree: &Tree) -> Vec<Violation> {
    let mut violations = Vec::new();
    for file in tree.files.iter().filter(|file| file.has_extension("md")) {
        let prose = prose(&file.text);
        if file.path.starts_with("docs/") {
            violations.extend(title(file, &prose));
        }
        for (line, text) in &prose {
            let broken = targets(text)
                .into_iter()
                .filter(|target| !leads_somewhere(tree, file, target));
            violations.extend(broken.map(|target| {
                Violation::new(
                    &file.path,
                    *line,
                    "doc-link",
                    format!("{target} leads to no file of the tree"),
                )
            }));
        }
    }
    violations
}

/// The numbered lines outside of code fences.
fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut fenced = false;
    let mut lines = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```") || line.trim_start().starts_with("~~~");
        if is_fence {
            fenced = !fenced;
        } else if !fenced {
            lines.push((index + 1, line));
        }
    }
    lines
}

fn title(file: &TextFile, prose: &[(usize, &str)]) -> Option<Violation> {
    let titles: Vec<usize> = prose
        .iter()
        .filter(|(_, text)| text.starts_with("# "))
        .map(|(line, _)| *line)
        .collect();
    let (line, what) = match titles.as_slice() {
        [_] => return None,
        [] => (
            1,
            "no title: a document begins with one `# ` line".to_owned(),
        ),
        [_, second, ..] => (
            *second,
            format!("{} titles: a document has one `# ` line", titles.len()),
        ),
    };
    Some(Violation::new(&file.path, line, "doc-title", what))
}

/// The targets of the links in one line: `[text](target)` and `[name]: target`. Code spans are left
/// out.
fn targets(line: &str) -> Vec<&str> {
    // Every second piece between backticks is code.
    let pieces = line.split('`').step_by(2);
    let mut found: Vec<&str> = Vec::new();
    for piece in pieces {
        let inline = piece.split("](").skip(1);
        found.extend(inline.filter_map(|rest| rest.split([')', ' ']).next()));
    }
    // A text that is itself a code span is cut at the backtick: `[`name`](target)` leaves
    // `](target)`, found above.
    let definition = line
        .trim_start()
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("]: "));
    found.extend(definition.and_then(|(_, target)| target.split_whitespace().next()));
    found
}

/// Whether a target is an address, an anchor of the same page, or a file or folder of the tree.
fn leads_somewhere(tree: &Tree, file: &TextFile, target: &str) -> bool {
    let path = target.split('#').next().unwrap_or_default();
    let has_scheme = target.contains("://") || target.starts_with("mailto:");
    if has_scheme || path.is_empty() {
        return true;
    }
    let mut parts: Vec<&str> = file.path.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                if parts.pop().is_none() {
                    return false;
                }
            }
            name => parts.push(name),
        }
    }
    // An absolute target means the root of somebody's disk or of a web site: neither is the tree.
    !path.starts_with('/') && tree.paths.contains(&parts.join("/"))
}
