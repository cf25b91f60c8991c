//! Code that only looks finished: macros that panic instead of working, tests switched off without
//! a reason, warnings silenced.
//!
//! It works on tokens, so a string or a comment that mentions one of these is not one of these.

use proc_macro2::{Delimiter, Group, Ident, TokenStream, TokenTree};
use quote::ToTokens;

use super::source::Sources;
use super::violation::Violation;

/// All rules on every file.
pub(crate) fn check(sources: &Sources) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in &sources.files {
        scan(source.syntax.to_token_stream(), &mut |line, rule, what| {
            violations.push(Violation::new(&source.path, line, rule, what));
        });
    }
    violations
}

type Report<'a> = &'a mut dyn FnMut(usize, &'static str, String);

fn scan(tokens: TokenStream, report: Report<'_>) {
    let tokens: Vec<TokenTree> = tokens.into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        match token {
            TokenTree::Ident(name) => judge_name(name, next, tokens.get(index + 2), report),
            TokenTree::Punct(punct) if punct.as_char() == '#' => judge_ignore(next, report),
            TokenTree::Group(group) => scan(group.stream(), report),
            _ => {}
        }
    }
}

fn judge_name(
    name: &Ident,
    next: Option<&TokenTree>,
    after: Option<&TokenTree>,
    report: Report<'_>,
) {
    let line = name.span().start().line;
    match (name.to_string().as_str(), next, after) {
        (
            word @ ("todo" | "unimplemented"),
            Some(TokenTree::Punct(bang)),
            Some(TokenTree::Group(_)),
        ) if bang.as_char() == '!' => {
            report(
                line,
                "unfinished",
                format!("{word}! panics instead of working: finish it or leave it out"),
            );
        }
        ("allow", Some(TokenTree::Group(lints)), _) => judge_allow(line, lints, report),
        _ => {}
    }
}

fn judge_allow(line: usize, lints: &Group, report: Report<'_>) {
    for token in lints.stream() {
        let TokenTree::Ident(lint) = token else {
            continue;
        };
        let lint = lint.to_string();
        if lint == "dead_code" || lint.starts_with("unused") {
            report(
                line,
                "silenced",
                format!("allow({lint}): delete what is not used"),
            );
        }
    }
}

/// `#[ignore]` with nothing behind it. `#[ignore = "why"]` is fine: the reason is printed with the
/// test.
fn judge_ignore(attribute: Option<&TokenTree>, report: Report<'_>) {
    let Some(TokenTree::Group(group)) = attribute else {
        return;
    };
    let mut inside = group.stream().into_iter();
    let (first, second) = (inside.next(), inside.next());
    if let (Delimiter::Bracket, Some(TokenTree::Ident(name)), None) =
        (group.delimiter(), first, second)
        && name == "ignore"
    {
        let what = "a test is switched off without a reason: write #[ignore = \"why\"]".to_owned();
        report(name.span().start().line, "ignored-test", what);
    }
}
