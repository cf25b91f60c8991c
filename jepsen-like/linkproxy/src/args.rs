//! The command line, parsed by hand: five flags do not need a dependency.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use hansa_linkproxy::{DirectionSettings, LinkSettings};

pub(crate) const USAGE: &str = "\
usage: hansa-linkproxy --listen ADDR --target ADDR [--delay-ms X] [--back-delay-ms Y] [--jitter-ms Z]

  --listen ADDR        where clients connect, for example 127.0.0.1:7201
  --target ADDR        where their bytes go, for example 127.0.0.1:7101
  --delay-ms X         one-way delay from client to target (default 0)
  --back-delay-ms Y    one-way delay from target to client (default: as --delay-ms)
  --jitter-ms Z        extra random delay of up to Z in both directions (default 0)
  -h, --help           this text

Runs until SIGINT or SIGTERM. Exit code 0 stopped, 1 could not run, 2 wrong arguments.
";

/// What to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) listen: SocketAddr,
    pub(crate) target: SocketAddr,
    pub(crate) settings: LinkSettings,
}

/// Parses the arguments after the program name; `None` asks for the usage.
///
/// # Errors
///
/// A sentence that names the wrong argument.
pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
    let mut words = words;
    let (mut listen, mut target) = (None, None);
    let (mut delay, mut back_delay, mut jitter) = (None, None, None);
    while let Some(word) = words.next() {
        // `--flag value` and `--flag=value` are the same.
        let (flag, mut inline) = match word.split_once('=') {
            Some((flag, value)) => (flag, Some(value.to_owned())),
            None => (word.as_str(), None),
        };
        let mut value = || {
            inline
                .take()
                .or_else(|| words.next())
                .ok_or_else(|| format!("{flag} needs a value"))
        };
        match flag {
            "-h" | "--help" => return Ok(None),
            "--listen" => set(&mut listen, flag, value_of(flag, &value()?)?)?,
            "--target" => set(&mut target, flag, value_of(flag, &value()?)?)?,
            "--delay-ms" => set(&mut delay, flag, milliseconds(flag, &value()?)?)?,
            "--back-delay-ms" => set(&mut back_delay, flag, milliseconds(flag, &value()?)?)?,
            "--jitter-ms" => set(&mut jitter, flag, milliseconds(flag, &value()?)?)?,
            _ => return Err(format!("unknown argument {flag:?}")),
        }
    }
    let direction = |delay: Option<Duration>| DirectionSettings {
        delay: delay.unwrap_or_default(),
        jitter: jitter.unwrap_or_default(),
        ..DirectionSettings::default()
    };
    Ok(Some(Arguments {
        listen: listen.ok_or("--listen is missing")?,
        target: target.ok_or("--target is missing")?,
        settings: LinkSettings {
            forward: direction(delay),
            backward: direction(back_delay.or(delay)),
            ..LinkSettings::default()
        },
    }))
}

fn set<T>(place: &mut Option<T>, flag: &str, value: T) -> Result<(), String> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("{flag} is given twice")),
    }
}

fn value_of<T: FromStr>(flag: &str, text: &str) -> Result<T, String>
where
    T::Err: std::fmt::Display,
{
    text.parse()
        .map_err(|error| format!("{flag} {text:?}: {error}"))
}

fn milliseconds(flag: &str, text: &str) -> Result<Duration, String> {
    let value: f64 = value_of(flag, text)?;
    // An hour is the longest delay a link knows.
    if !(0.0..=3_600_000.0).contains(&value) {
        return Err(format!(
            "{flag} {text:?}: must be between 0 and 3600000 milliseconds"
        ));
    }
    Ok(Duration::from_secs_f64(value / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Arguments>, String> {
        parse(line.split_whitespace().map(str::to_owned))
    }

    const ADDRESSES: &str = "--listen 127.0.0.1:1 --target 127.0.0.1:2";

    #[test]
    fn the_way_back_takes_the_delay_of_the_way_there_unless_told() {
        let both = parsed(&format!("{ADDRESSES} --delay-ms 45"))
            .unwrap()
            .unwrap();
        assert_eq!(both.settings.forward.delay, Duration::from_millis(45));
        assert_eq!(both.settings.backward.delay, Duration::from_millis(45));
        let differ = parsed(&format!("{ADDRESSES} --delay-ms=45 --back-delay-ms 0.5"))
            .unwrap()
            .unwrap();
        assert_eq!(differ.settings.forward.delay, Duration::from_millis(45));
        assert_eq!(differ.settings.backward.delay, Duration::from_micros(500));
    }

    #[test]
    fn every_error_names_the_argument() {
        for (line, named) in [
            ("--target 127.0.0.1:2", "--listen is missing"),
            ("--listen 127.0.0.1:1", "--target is missing"),
            ("--listen", "--listen needs a value"),
            ("--listen here --target 127.0.0.1:2", "--listen \"here\""),
            (&format!("{ADDRESSES} --delay-ms -1"), "--delay-ms \"-1\""),
            (&format!("{ADDRESSES} --delay-ms NaN"), "--delay-ms \"NaN\""),
            (
                &format!("{ADDRESSES} --jitter-ms 1 --jitter-ms 2"),
                "--jitter-ms is given twice",
            ),
            (
                &format!("{ADDRESSES} --dealy-ms 1"),
                "unknown argument \"--dealy-ms\"",
            ),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(named), "{line:?} gave {error:?}");
        }
    }

    #[test]
    fn help_wins_over_missing_arguments() {
        assert_eq!(parsed("--help"), Ok(None));
    }
}
