//! Command lines that are none.

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::exit::Failure;
use crate::output::{Format, Output};

/// Ends with help or version and code 0, or says what is wrong with the command line and ends with 2.
pub(crate) fn end(error: &clap::Error) -> ExitCode {
    let failure = match error.kind() {
        ErrorKind::InvalidUtf8 => Failure::local(
            "an argument is no UTF-8 text: write keys, values and elements of other bytes with --hex or \
             --base64, or read a value with --file FILE or `-`",
        ),
        _ if error.use_stderr() && json(env::args_os()).is_some() => Failure::local(plain(error)),
        // Coloured, with the usage and near misses.
        _ => error.exit(),
    };
    Output::new(json(env::args_os())).failure(&failure);
    ExitCode::from(failure.code() as u8)
}

/// Clap's words in one line, without its usage.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    let told = text.split("\n\nUsage:").next().unwrap_or_default();
    let words: Vec<&str> = told.split_whitespace().collect();
    let told = words.join(" ");
    told.strip_prefix("error: ").unwrap_or(&told).to_owned()
}

/// The JSON format a command line asks for that could not be read.
fn json(arguments: impl Iterator<Item = OsString>) -> Option<Format> {
    let arguments: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .take_while(|argument| argument != "--")
        .collect();
    let beside = arguments.windows(2).filter_map(|pair| {
        matches!(pair[0].as_str(), "-o" | "--output").then_some(pair[1].as_str())
    });
    let inside = arguments.iter().filter_map(|argument| {
        let short = argument
            .strip_prefix("-o")
            .map(|rest| rest.trim_start_matches('='));
        argument.strip_prefix("--output=").or(short)
    });
    beside.chain(inside).find_map(|format| match format {
        "json" => Some(Format::Json),
        "jsonl" => Some(Format::Jsonl),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_found_however_it_is_written() {
        let found = |line: &str| json(line.split(' ').map(OsString::from));
        for line in [
            "hansa kv -o json",
            "hansa -ojson",
            "hansa --output=json x",
            "-o=json",
        ] {
            assert_eq!(found(line), Some(Format::Json), "{line}");
        }
        assert_eq!(found("hansa kv get --output jsonl"), Some(Format::Jsonl));
        for line in ["hansa kv get json", "hansa -o table", "hansa -- -o json"] {
            assert_eq!(found(line), None, "{line}");
        }
    }
}
