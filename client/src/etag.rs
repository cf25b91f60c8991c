//! Versions of rows.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;

/// The version of a row: opaque, compared and never taken apart. At most 64 bytes.
///
/// Prints and parses as hexadecimal digits.
#[derive(Clone, PartialEq, Eq, Debug, Default, Hash)]
pub struct Etag(pub Bytes);

impl Etag {
    /// Whether the row was never written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Text that is no etag.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an etag is an even number of hexadecimal digits")]
pub struct InvalidEtag;

impl FromStr for Etag {
    type Err = InvalidEtag;

    fn from_str(digits: &str) -> Result<Etag, InvalidEtag> {
        let byte = |pair: &[u8]| {
            let pair = str::from_utf8(pair).ok()?;
            u8::from_str_radix(pair, 16).ok()
        };
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        bytes
            .filter(|_| digits.len().is_multiple_of(2) && !digits.contains('+'))
            .map(|bytes| Etag(Bytes::from(bytes)))
            .ok_or(InvalidEtag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_print_and_parse() {
        let etag = Etag(Bytes::from_static(b"\x00\x0a\xff"));
        assert_eq!(etag.to_string(), "000aff");
        assert_eq!("000aff".parse::<Etag>().unwrap(), etag);
        for wrong in ["0", "0g", "+1", "0\u{e9}"] {
            assert!(wrong.parse::<Etag>().is_err(), "{wrong}");
        }
    }
}
