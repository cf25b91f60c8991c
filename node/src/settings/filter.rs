//! What is logged, as a text.

use tracing_subscriber::EnvFilter;

/// The levels a filter may name.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What to write as a filter.
pub(crate) const FILTER_ADVICE: &str =
    "write off, error, warn, info, debug or trace, or a filter like hansa_node=debug,warn";

/// A filter from its text, or what is wrong with it.
///
/// A directive that is a single word must be a level: `EnvFilter` would take any other word as the name of a crate,
/// and a misspelt level would turn off all logging but that crate's.
pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, String> {
    for directive in text.split(',') {
        let bare = !directive.contains(['=', '[', '{']);
        let known = || LEVELS.iter().any(|l| directive.eq_ignore_ascii_case(l));
        if bare && !known() {
            return Err(format!("`{directive}` is no level"));
        }
    }
    EnvFilter::try_new(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters() {
        let rest = [
            "INFO",
            "hansa_node=debug,warn",
            "warn,hansa_node::peers=trace",
            "info,hansa_node[link{peer=b}]=debug",
        ];
        for filter in LEVELS.into_iter().chain(rest) {
            assert!(parse_filter(filter).is_ok(), "{filter}");
        }
    }
}
