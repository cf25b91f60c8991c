//! Text and numbers as they may stand in HTML and SVG. Everything that comes from a run goes through here: keys and
//! values are whatever somebody else's database holds.

/// Text for content and for quoted attributes. Line ends stay; other control characters, and those that turn the
/// direction of writing, are spelled out, so that what is shown is what there is.
pub(super) fn text(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    for character in raw.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(character),
            hidden if is_hidden(hidden) => out.extend(hidden.escape_unicode()),
            plain => out.push(plain),
        }
    }
    out
}

/// Text cut to so many characters, with an ellipsis in place of the rest, then as [`text`].
pub(super) fn short(raw: &str, most: usize) -> String {
    text(&cut(raw, most))
}

/// Text cut to so many characters, with an ellipsis in place of the rest; not escaped.
pub(super) fn cut(raw: &str, most: usize) -> String {
    if raw.chars().nth(most).is_none() {
        return raw.to_owned();
    }
    let mut kept: String = raw.chars().take(most.saturating_sub(1)).collect();
    kept.push('\u{2026}');
    kept
}

/// A coordinate: one decimal at most. What is no number becomes 0, so that a figure is never broken by one.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "0".to_owned();
    }
    let rounded = format!("{value:.1}");
    let trimmed = rounded.strip_suffix(".0").unwrap_or(&rounded);
    match trimmed {
        "-0" => "0".to_owned(),
        other => other.to_owned(),
    }
}

fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fffe}'
                | '\u{ffff}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_key_holds_is_markup() {
        assert_eq!(
            text("<a href=\"x\" b='&'>"),
            "&lt;a href=&quot;x&quot; b=&#39;&amp;&#39;&gt;"
        );
        assert_eq!(text("a\u{0}\u{202e}b\nc"), "a\\u{0}\\u{202e}b\nc");
        assert_eq!(text("r\u{e9}gion"), "r\u{e9}gion");
    }

    #[test]
    fn a_cut_counts_characters_and_comes_before_the_escape() {
        assert_eq!(short("abcd", 4), "abcd");
        assert_eq!(short("abcde", 4), "abc\u{2026}");
        assert_eq!(short("\u{e9}<\u{e9}\u{e9}", 3), "\u{e9}&lt;\u{2026}");
        assert_eq!(short("", 0), "");
    }

    #[test]
    fn a_coordinate_is_always_a_number() {
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(-0.01), "0");
        assert_eq!(number(7.0), "7");
        assert_eq!(number(f64::NAN), "0");
        assert_eq!(number(f64::INFINITY), "0");
    }
}
