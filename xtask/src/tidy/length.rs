//! Functions that fit on a screen, files that can be read.
//!
//! A function is measured from `fn` to its closing brace, so the signature counts and its
//! documentation does not. The search works on tokens, so functions inside a macro call
//! (`proptest!`) are measured as well.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use quote::ToTokens;
use syn::Item;
use syn::spanned::Spanned;

use super::source::{Source, Sources, attributes, is_test_function, is_test_only};
use super::violation::Violation;

/// Lines of a function of the product. Review at 50.
const FUNCTION_LINES_MAX: usize = 70;
/// Lines of a function that only tests use: a story may take longer to tell.
const TEST_FUNCTION_LINES_MAX: usize = 120;
/// Lines of a file, without a closing test module. Test files have no bound.
const FILE_LINES_MAX: usize = 800;

/// Both rules on every file.
pub(crate) fn check(sources: &Sources) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &sources.files {
        let mut found = Vec::new();
        in_items(&source.syntax.items, source.is_test, &mut found);
        violations.extend(
            found
                .iter()
                .filter_map(|function| function.judge(&source.path)),
        );
        violations.extend(file_length(source));
    }
    violations
}

struct Function {
    name: String,
    line: usize,
    lines: usize,
    is_test: bool,
}

impl Function {
    fn judge(&self, path: &str) -> Option<Violation> {
        let max = if self.is_test {
            TEST_FUNCTION_LINES_MAX
        } else {
            FUNCTION_LINES_MAX
        };
        let what = format!(
            "fn {} has {} lines, {max} are allowed: split it",
            self.name, self.lines
        );
        (self.lines > max).then(|| Violation::new(path, self.line, "function-length", what))
    }
}

/// Finds the functions of `items`; what stands under `#[cfg(test)]` or `#[test]` is a test.
fn in_items(items: &[Item], is_test: bool, found: &mut Vec<Function>) {
    for item in items {
        let attributes = attributes(item);
        let is_test = is_test || is_test_only(attributes) || is_test_function(attributes);
        match item {
            Item::Mod(module) => {
                let inside = module.content.as_ref().map(|(_, items)| items.as_slice());
                in_items(inside.unwrap_or_default(), is_test, found);
            }
            other => in_tokens(other.to_token_stream(), is_test, found),
        }
    }
}

fn in_tokens(tokens: TokenStream, is_test: bool, found: &mut Vec<Function>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        if let TokenTree::Group(group) = token {
            in_tokens(group.stream(), is_test, found);
        }
        let TokenTree::Ident(keyword) = token else {
            continue;
        };
        // `fn` without a name is a function pointer type.
        let Some(TokenTree::Ident(name)) = tokens.get(index + 1) else {
            continue;
        };
        if keyword != "fn" {
            continue;
        }
        if let Some(body) = body(&tokens[index + 2..]) {
            let line = keyword.span().start().line;
            let lines = body.span_close().end().line - line + 1;
            found.push(Function {
                name: name.to_string(),
                line,
                lines,
                is_test,
            });
        }
    }
}

/// The body that follows a signature; none when a semicolon ends it first.
fn body(after_name: &[TokenTree]) -> Option<&Group> {
    for (index, token) in after_name.iter().enumerate() {
        match token {
            TokenTree::Punct(punct) if punct.as_char() == ';' => return None,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                // `Name<{ N }>` in the signature: an argument, not the body.
                let before = index
                    .checked_sub(1)
                    .map(|before| after_name[before].to_string());
                if !matches!(before.as_deref(), Some("<" | "," | "=")) {
                    return Some(group);
                }
            }
            _ => {}
        }
    }
    None
}

fn file_length(source: &Source) -> Option<Violation> {
    if source.is_test {
        return None;
    }
    let all = source.text.lines().count();
    let lines = match source.syntax.items.last() {
        Some(item @ Item::Mod(module))
            if module.content.is_some() && is_test_only(attributes(item)) =>
        {
            item.span().start().line - 1
        }
        _ => all,
    };
    let what = format!("{lines} lines without tests, {FILE_LINES_MAX} are allowed: split the file");
    (lines > FILE_LINES_MAX).then(|| Violation::new(&source.path, 1, "file-length", what))
}
