//! A session as a string, to be carried to another process.
//!
//! Format, version 1: `hansa1.` and the URL-safe base64 (no padding) of
//! session u64 | next seq u32 | issued u64 | token bytes | check u32, all big-endian.
//! The check is FNV-1a over everything before it: it notices a cut or mistyped string, it is no
//! secret. The token has its own check, made by the servers.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::error::{Applied, Error, ErrorKind};
use crate::request_ids::Lane;

const PREFIX: &str = "hansa1.";
const FIXED_BYTES: usize = 8 + 4 + 8;
const CHECK_BYTES: usize = 4;
/// Longest token a server makes, bytes.
pub(crate) const TOKEN_BYTES_MAX: usize = 160;

/// What travels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Portable {
    pub(crate) lane: Lane,
    /// The newest server clock value the session was told; 0 before its first call.
    pub(crate) issued: u64,
    /// Opaque to the SDK.
    pub(crate) token: Bytes,
}

impl Portable {
    pub(crate) fn write(&self) -> String {
        let mut out = BytesMut::with_capacity(FIXED_BYTES + self.token.len() + CHECK_BYTES);
        out.put_u64(self.lane.session);
        out.put_u32(self.lane.next_seq);
        out.put_u64(self.issued);
        out.put_slice(&self.token);
        out.put_u32(fnv1a(&out));
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&out))
    }

    pub(crate) fn read(text: &str) -> Result<Portable, Error> {
        let refused =
            |reason, message: String| Error::new(ErrorKind::Invalid, Applied::No, reason, message);
        let Some(body) = text.trim().strip_prefix(PREFIX) else {
            return Err(match newer(text.trim()) {
                Some(version) => refused(
                    "SESSION_TOKEN_NEWER",
                    format!("the exported session has format {version}, and this version reads 1"),
                ),
                None => refused(
                    "SESSION_TOKEN_MALFORMED",
                    "no exported session, or a damaged one: it starts with `hansa1.`".to_owned(),
                ),
            });
        };
        let damaged = || {
            let message = "the exported session is damaged or was cut off";
            refused("SESSION_TOKEN_MALFORMED", message.to_owned())
        };
        let mut body = Bytes::from(URL_SAFE_NO_PAD.decode(body).map_err(|_| damaged())?);
        let lengths = FIXED_BYTES + CHECK_BYTES..=FIXED_BYTES + TOKEN_BYTES_MAX + CHECK_BYTES;
        if !lengths.contains(&body.len()) {
            return Err(damaged());
        }
        let mut check = body.split_off(body.len() - CHECK_BYTES);
        if check.get_u32() != fnv1a(&body) {
            return Err(damaged());
        }
        let lane = Lane {
            session: body.get_u64(),
            next_seq: body.get_u32(),
        };
        let issued = body.get_u64();
        Ok(Portable {
            lane,
            issued,
            token: body,
        })
    }
}

/// The format of a text that starts as a later version's would: `hansa2.`.
fn newer(text: &str) -> Option<u32> {
    let (version, _) = text.strip_prefix("hansa")?.split_once('.')?;
    let version = version.parse().ok()?;
    (version > 1).then_some(version)
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(token: &'static [u8]) -> Portable {
        Portable {
            lane: Lane {
                session: 1 << 63,
                next_seq: 42,
            },
            issued: 77,
            token: Bytes::from_static(token),
        }
    }

    #[test]
    fn sessions_come_back() {
        for token in [&b""[..], &[0xff; 160]] {
            let session = session(token);
            assert_eq!(Portable::read(&session.write()).unwrap(), session);
        }
    }

    #[test]
    fn every_changed_or_missing_character_is_noticed() {
        let text = session(b"token").write();
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert!(
                Portable::read(&String::from_utf8(changed).unwrap()).is_err(),
                "at {at}"
            );
            assert!(Portable::read(&text[..at]).is_err(), "cut at {at}");
        }
        for (text, reason) in [
            ("hansa2.AAAA", "SESSION_TOKEN_NEWER"),
            ("hansa1.AAAA", "SESSION_TOKEN_MALFORMED"),
            ("hansa0.AAAA", "SESSION_TOKEN_MALFORMED"),
            ("hansa", "SESSION_TOKEN_MALFORMED"),
            ("", "SESSION_TOKEN_MALFORMED"),
        ] {
            let error = Portable::read(text).unwrap_err();
            assert_eq!((error.reason(), error.kind()), (reason, ErrorKind::Invalid));
        }
    }
}
