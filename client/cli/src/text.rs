//! Between bytes and what people type and read.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::exit::Failure;

/// How keys and values are written on the command line and in plain output.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Encoding {
    /// As they are.
    #[default]
    Raw,
    /// Hexadecimal digits.
    Hex,
    /// Standard base64 with padding.
    Base64,
}

impl Encoding {
    /// The bytes of an argument.
    pub(crate) fn decode(self, text: &str) -> Result<Vec<u8>, Failure> {
        match self {
            Encoding::Raw => Ok(text.as_bytes().to_vec()),
            Encoding::Hex => {
                from_hex(text).ok_or_else(|| Failure::local(format!("`{text}` is not hexadecimal")))
            }
            Encoding::Base64 => from_base64(text)
                .ok_or_else(|| Failure::local(format!("`{text}` is not base64 with padding"))),
        }
    }

    /// Bytes as plain output shows them.
    pub(crate) fn encode(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Encoding::Raw => bytes.to_vec(),
            Encoding::Hex => to_hex(bytes).into_bytes(),
            Encoding::Base64 => to_base64(bytes).into_bytes(),
        }
    }

    /// Bytes as a table or a line of several fields shows them. Nothing in it breaks the line or
    /// steers the terminal, and different bytes never look the same: see `escape`.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Raw => escape(bytes),
            Encoding::Hex => to_hex(bytes),
            Encoding::Base64 => to_base64(bytes),
        }
    }
}

/// Text as it is but for backslashes, which double, and for what is not printable (control and
/// format characters, such as those that turn the direction of writing), which is escaped as in
/// Rust's literals: `\t`, `\u{202e}`. Bytes that are no UTF-8 become `\xff`; nothing else does.
fn escape(bytes: &[u8]) -> String {
    let quotes = ['"', '\''];
    let mut shown = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        // `escape_debug` would escape quotes as well, and values are often JSON.
        for piece in chunk.valid().split_inclusive(quotes) {
            let text = piece.trim_end_matches(quotes);
            shown.extend(text.escape_debug());
            shown.push_str(&piece[text.len()..]);
        }
        shown.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    shown
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    if !digits.len().is_multiple_of(2) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(byte).collect()
}

/// Standard base64.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard base64.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_from_every_encoding() {
        let bytes = [0, 10, 255, b'a'];
        for encoding in [Encoding::Hex, Encoding::Base64] {
            let text = String::from_utf8(encoding.encode(&bytes)).unwrap();
            assert_eq!(encoding.decode(&text).unwrap(), bytes);
        }
        assert!(Encoding::Hex.decode("+1").is_err());
        assert!(Encoding::Base64.decode("?").is_err());
    }

    #[test]
    fn a_shown_key_can_not_steer_the_terminal() {
        let show = |text: &str| Encoding::Raw.show(text.as_bytes());
        assert_eq!(show("\x1b[2Jx\ty"), "\\u{1b}[2Jx\\ty");
        assert_eq!(
            show("a\u{202e}b\u{2066}\u{200b}\u{feff}\u{2028}"),
            "a\\u{202e}b\\u{2066}\\u{200b}\\u{feff}\\u{2028}"
        );
        assert_eq!(show("\u{fc}e\u{301}"), "\u{fc}e\u{301}");
        assert_eq!(show("{\"a\":'b'}"), "{\"a\":'b'}");
        assert_eq!(
            Encoding::Raw.show(&[0xff, b'a', 0xc3, 0xbc]),
            "\\xffa\u{fc}"
        );
    }

    /// What `escape` made, back to bytes.
    fn unescape(mut text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Some(at) = text.find('\\') {
            bytes.extend(&text.as_bytes()[..at]);
            let (kind, rest) = text[at + 1..].split_at(1);
            let digits = |digits: &str| u32::from_str_radix(digits, 16).unwrap();
            let plain = |byte: u8| (vec![byte], rest);
            let (one, rest) = match kind {
                "x" => (vec![digits(&rest[..2]) as u8], &rest[2..]),
                "u" => {
                    let (number, rest) = rest[1..].split_once('}').unwrap();
                    let one = char::from_u32(digits(number)).unwrap();
                    (one.to_string().into_bytes(), rest)
                }
                "t" => plain(b'\t'),
                "n" => plain(b'\n'),
                "r" => plain(b'\r'),
                "0" => plain(0),
                "\\" => plain(b'\\'),
                other => panic!("\\{other}"),
            };
            bytes.extend(one);
            text = rest;
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    #[test]
    fn different_bytes_never_look_the_same() {
        let pairs = (0..=u16::MAX).map(|pair| pair.to_be_bytes().to_vec());
        let texts = [
            "\\t",
            "\t",
            "\\xff",
            "\\\\",
            "\\u{202e}",
            "\u{202e}",
            "\\0",
            "\x001",
            "\u{301}",
            "\"\u{301}'",
        ];
        let texts = texts.map(|text| text.as_bytes().to_vec());
        let mixed = [b"\xff\\xff".to_vec(), b"\xe2\x82\\xe2\x82\xac".to_vec()];
        for bytes in pairs.chain(texts).chain(mixed) {
            let shown = Encoding::Raw.show(&bytes);
            assert_eq!(unescape(&shown), bytes, "{shown}");
        }
    }
}
