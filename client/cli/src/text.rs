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

    /// Bytes as a table or a line of several fields shows them: control characters and what is no
    /// UTF-8 are escaped, so that nothing breaks the line or steers the terminal.
    pub(crate) fn show(self, bytes: &[u8]) -> String {
        match self {
            Encoding::Raw => match str::from_utf8(bytes) {
                Ok(text) if !text.contains(char::is_control) => text.to_owned(),
                Ok(text) => text.escape_debug().to_string(),
                Err(_) => bytes.escape_ascii().to_string(),
            },
            Encoding::Hex => to_hex(bytes),
            Encoding::Base64 => to_base64(bytes),
        }
    }
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
        assert_eq!(Encoding::Raw.show(b"\x1b[2Jx\ty"), "\\u{1b}[2Jx\\ty");
        assert_eq!(Encoding::Raw.show(&[0xff, b'a']), "\\xffa");
        assert_eq!(Encoding::Raw.show("\u{fc}".as_bytes()), "\u{fc}");
    }
}
