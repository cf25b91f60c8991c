//! What all reports have in common: the document around them, its header, its facts.

use super::escape::{short, text};

/// Characters of a command, at most.
const COMMAND_MAX: usize = 1_000;

const STYLE: &str = include_str!("style.css");

/// A whole document: nothing is loaded from anywhere, and no script would run.
pub(super) fn page(title: &str, header: &str, main: &str, footer: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\
         <meta name=\"color-scheme\" content=\"light dark\"/>\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\"/>\
         <title>{}</title><style>{STYLE}</style></head><body>{header}<main>{main}</main><footer>{footer}</footer></body></html>\n",
        text(title)
    )
}

/// What kind of report this is, and links to its parts.
pub(super) fn header(kind: &str, links: &str) -> String {
    format!(
        "<header><p class=\"brand\">Hansa <span>{}</span></p><nav aria-label=\"Sections\">{links}</nav></header>",
        text(kind)
    )
}

/// Names and what they are, side by side.
pub(super) fn facts(facts: &[(&str, String)]) -> String {
    let shown = facts
        .iter()
        .map(|(name, value)| format!("<div><dt>{}</dt><dd>{}</dd></div>", text(name), text(value)));
    format!("<dl class=\"facts\">{}</dl>", shown.collect::<String>())
}

/// The command that does it again.
pub(super) fn repeat(command: &str) -> String {
    format!(
        "<p class=\"replay\">Repeat it:</p><pre tabindex=\"0\" aria-label=\"Command that repeats the run\">{}</pre>",
        short(command, COMMAND_MAX)
    )
}
