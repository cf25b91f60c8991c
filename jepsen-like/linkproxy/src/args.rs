//! The command line, parsed by hand: nine flags do not need a dependency.

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use hansa_linkproxy::{Cut, DirectionSettings, LOSS_MAX, LinkSettings};

pub(crate) const USAGE: &str = "\
usage: hansa-linkproxy --listen ADDR --target ADDR [--delay-ms X] [--back-delay-ms Y] [--jitter-ms Z]
                       [--bandwidth BYTES] [--loss PERMILLE] [--cut CUT] [--back-cut CUT]

  --listen ADDR        where clients connect, for example 127.0.0.1:7201
  --target ADDR        where their bytes go, for example 127.0.0.1:7101
  --delay-ms X         one-way delay from client to target (default 0)
  --back-delay-ms Y    one-way delay from target to client (default: as --delay-ms)
  --jitter-ms Z        extra random delay of up to Z in both directions (default 0)
  --bandwidth BYTES    at most so many bytes per second in each direction, all connections together
                       (default: no limit)
  --loss PERMILLE      chance, in thousandths, of each read to be lost and its connection to be
                       reset with it, in both directions (default 0)
  --cut CUT            what the way from client to target does (default open):
                         open       it carries bytes
                         blackhole  nothing comes out; senders feel backpressure, nobody is told
                         reset      connections are reset as soon as they are accepted
                         half-open  everything is read and thrown away, connections stay up
  --back-cut CUT       the same for the way from target to client (default open)
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
    let (mut bandwidth, mut loss, mut cut, mut back_cut) = (None, None, None, None);
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
            "--bandwidth" => set(&mut bandwidth, flag, bytes_per_second(flag, &value()?)?)?,
            "--loss" => set(&mut loss, flag, permille(flag, &value()?)?)?,
            "--cut" => set(&mut cut, flag, cut_of(flag, &value()?)?)?,
            "--back-cut" => set(&mut back_cut, flag, cut_of(flag, &value()?)?)?,
            _ => return Err(format!("unknown argument {flag:?}")),
        }
    }
    let direction = |delay: Option<Duration>, cut: Option<Cut>| DirectionSettings {
        delay: delay.unwrap_or_default(),
        jitter: jitter.unwrap_or_default(),
        cut: cut.unwrap_or_default(),
        bandwidth,
        loss: loss.unwrap_or_default(),
    };
    Ok(Some(Arguments {
        listen: listen.ok_or("--listen is missing")?,
        target: target.ok_or("--target is missing")?,
        settings: LinkSettings {
            forward: direction(delay, cut),
            backward: direction(back_delay.or(delay), back_cut),
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

fn bytes_per_second(flag: &str, text: &str) -> Result<NonZeroU64, String> {
    let value = value_of(flag, text)?;
    NonZeroU64::new(value)
        .ok_or_else(|| format!("{flag} {text:?}: must be at least 1; for nothing use --cut"))
}

fn permille(flag: &str, text: &str) -> Result<u16, String> {
    let value = value_of(flag, text)?;
    if value > LOSS_MAX {
        return Err(format!("{flag} {text:?}: must be between 0 and {LOSS_MAX}"));
    }
    Ok(value)
}

fn cut_of(flag: &str, text: &str) -> Result<Cut, String> {
    match text {
        "open" => Ok(Cut::Open),
        "blackhole" => Ok(Cut::Blackhole),
        "reset" => Ok(Cut::Reset),
        "half-open" => Ok(Cut::HalfOpen),
        _ => Err(format!(
            "{flag} {text:?}: must be open, blackhole, reset or half-open"
        )),
    }
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
    fn limits_and_losses_are_for_both_ways_and_each_cut_for_one() {
        let line = format!("{ADDRESSES} --bandwidth 2048 --loss=15 --cut half-open");
        let LinkSettings {
            forward, backward, ..
        } = parsed(&line).unwrap().unwrap().settings;
        for way in [forward, backward] {
            assert_eq!((way.bandwidth, way.loss), (NonZeroU64::new(2048), 15));
        }
        assert_eq!((forward.cut, backward.cut), (Cut::HalfOpen, Cut::Open));
        for (text, cut) in [
            ("open", Cut::Open),
            ("blackhole", Cut::Blackhole),
            ("reset", Cut::Reset),
            ("half-open", Cut::HalfOpen),
        ] {
            let line = format!("{ADDRESSES} --back-cut {text}");
            let settings = parsed(&line).unwrap().unwrap().settings;
            assert_eq!(
                (settings.forward.cut, settings.backward.cut),
                (Cut::Open, cut)
            );
        }
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
            (&format!("{ADDRESSES} --bandwidth 0"), "--bandwidth \"0\""),
            (&format!("{ADDRESSES} --loss 1001"), "--loss \"1001\""),
            (&format!("{ADDRESSES} --cut off"), "--cut \"off\""),
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
