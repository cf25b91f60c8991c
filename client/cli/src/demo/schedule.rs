//! Cuts that happen by themselves: `--cut REGION@20s..40s`.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::shape::{REGIONS, region_index};

/// One `--cut`: all links of a region are black holes for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct ScheduledCut {
    /// The region's position.
    pub(crate) region: usize,
    /// When it begins, counted from when the demo is ready.
    pub(crate) from: Duration,
    /// When it ends; after `from`.
    pub(crate) until: Duration,
}

impl ScheduledCut {
    /// The region's name.
    pub(crate) fn region_name(&self) -> &'static str {
        REGIONS[self.region]
    }
}

impl FromStr for ScheduledCut {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<ScheduledCut> {
        let form = "write REGION@FROM..UNTIL, for example ap-northeast@20s..40s";
        let (region, times) = text.split_once('@').context(form)?;
        let region = region_index(region)?;
        let (from, until) = times.split_once("..").context(form)?;
        let (from, until) = (time(from)?, time(until)?);
        if from >= until {
            bail!("the cut would end before it begins; {form}");
        }
        Ok(ScheduledCut {
            region,
            from,
            until,
        })
    }
}

/// A whole number of `ms`, `s` or `m`.
fn time(text: &str) -> Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        _ => bail!("`{text}` is no time: write a whole number and ms, s or m, for example 20s"),
    };
    let number: u32 = digits
        .parse()
        .ok()
        .with_context(|| format!("`{text}` is no time: write a whole number and ms, s or m"))?;
    Ok(Duration::from_millis(u64::from(number) * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_read() {
        let cut: ScheduledCut = "ap-northeast@1500ms..1m".parse().unwrap();
        assert_eq!(cut.region_name(), "ap-northeast");
        assert_eq!(cut.from, Duration::from_millis(1500));
        assert_eq!(cut.until, Duration::from_secs(60));
    }

    #[test]
    fn wrong_cuts_say_what_is_wrong() {
        for (text, part) in [
            ("us-east", "REGION@FROM..UNTIL"),
            ("us-east@20s", "REGION@FROM..UNTIL"),
            ("mars@1s..2s", "no region `mars`"),
            ("us-east@40s..20s", "before it begins"),
            ("us-east@20s..20s", "before it begins"),
            ("us-east@20..40", "no time"),
            ("us-east@s..40s", "no time"),
            ("us-east@1s..99999999999s", "no time"),
        ] {
            let error = text.parse::<ScheduledCut>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
