//! Where in a TOML file each value stands, so that whatever is wrong with it names its line.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem};

/// The lines of a file's values, by their paths: `regions[0].name`. A table stands where its header does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Lines {
    file: PathBuf,
    lines: BTreeMap<String, usize>,
}

impl Lines {
    /// The place of a value, or of the nearest table it would belong to; the file's first line when the file
    /// has none of them.
    pub(super) fn place(&self, field: &str) -> Place {
        self.at(self.line(field))
    }

    /// The line of that place, from 1.
    pub(super) fn line(&self, field: &str) -> usize {
        let parents = field.rmatch_indices(['.', '[']);
        let nearest = std::iter::once(field).chain(parents.map(|(end, _)| &field[..end]));
        let mut found = nearest.filter_map(|path| self.lines.get(path));
        found.next().copied().unwrap_or(1)
    }

    fn at(&self, line: usize) -> Place {
        Place::File {
            path: self.file.clone(),
            line,
        }
    }
}

/// What a file says, and where.
///
/// # Errors
/// The reader's first complaint, with its line.
pub(super) fn read<T: DeserializeOwned>(file: &Path, text: &str) -> Result<(T, Lines), Problem> {
    let mut lines = Lines {
        file: file.to_owned(),
        lines: BTreeMap::new(),
    };
    let mut spans = BTreeMap::new();
    let complaint = |lines: &Lines, field: &str, error: &toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(text, span.start));
        let what = error.message().trim().replace('\n', ", ");
        let advice = "mend the line; `hansa config init` prints a complete example";
        Problem::new(field, what, advice).at(lines.at(line))
    };
    let table = DeTable::parse(text).map_err(|error| complaint(&lines, "", &error))?;
    walk("", table.get_ref(), &mut |path, span| {
        let line = line_of(text, span.start);
        lines.lines.entry(path.to_owned()).or_insert(line);
        // A table and the first one in it may share a header: the inner one is meant.
        spans.insert((span.start, span.end), path.to_owned());
    });
    let value = toml::from_str(text).map_err(|error| {
        let span = error.span().map(|span| (span.start, span.end));
        let field = span.and_then(|span| spans.get(&span));
        complaint(&lines, field.map_or("", String::as_str), &error)
    })?;
    Ok((value, lines))
}

/// Calls back with the path and the bytes of every value and of its key, the outer ones first.
fn walk(path: &str, table: &DeTable<'_>, found: &mut impl FnMut(&str, Range<usize>)) {
    for (key, value) in table {
        let path = match path {
            "" => key.get_ref().to_string(),
            _ => format!("{path}.{}", key.get_ref()),
        };
        walk_value(&path, value, found);
        found(&path, key.span());
    }
}

fn walk_value(
    path: &str,
    value: &Spanned<DeValue<'_>>,
    found: &mut impl FnMut(&str, Range<usize>),
) {
    found(path, value.span());
    match value.get_ref() {
        DeValue::Table(table) => walk(path, table, found),
        DeValue::Array(array) => {
            for (at, value) in array.iter().enumerate() {
                walk_value(&format!("{path}[{at}]"), value, found);
            }
        }
        _ => {}
    }
}

/// The text of a file. `unreadable` makes the problem of a file that can not be read out of what is wrong.
///
/// # Errors
/// When it can not be read, or is not UTF-8.
pub(super) fn text_of(
    file: &Path,
    unreadable: impl FnOnce(String) -> Problem,
) -> Result<String, Problem> {
    let bytes = std::fs::read(file)
        .map_err(|error| unreadable(format!("{} can not be read: {error}", file.display())))?;
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good]
            .split(|byte| *byte == b'\n')
            .count();
        Problem::new("", "is no UTF-8 text", "save the file as UTF-8").at(Place::File {
            path: file.to_owned(),
            line,
        })
    })
}

/// The line, from 1, in which a byte of a text stands.
fn line_of(text: &str, byte: usize) -> usize {
    let before = text.as_bytes().get(..byte).unwrap_or(text.as_bytes());
    before.iter().filter(|b| **b == b'\n').count() + 1
}
