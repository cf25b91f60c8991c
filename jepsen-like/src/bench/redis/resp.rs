//! The protocol of Redis (RESP 2), as far as it is needed: commands, and the replies that are no lists.

use bytes::{Buf as _, Bytes, BytesMut};

use crate::bench::VALUE_BYTES_MAX;

/// Longest line of a reply, bytes: an error in words, or a number.
const LINE_MAX: usize = 4096;
/// Longest value of a reply, bytes: a value, or what a server tells of itself.
const BULK_MAX: usize = VALUE_BYTES_MAX + 65_536;
/// The end of a line.
const END: &[u8] = b"\r\n";

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// A word, like `OK`.
    Status(Bytes),
    /// A refusal: a word, then what is wrong in words.
    Error(String),
    /// A number.
    Integer(i64),
    /// A value; `None` for a key that is not there.
    Bulk(Option<Bytes>),
}

/// What can not be a reply to anything that is asked here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Wrong {
    #[error("a reply has a line of more than {LINE_MAX} bytes")]
    LineTooLong,
    #[error("a reply has a value of {0} bytes, more than {BULK_MAX}")]
    ValueTooLong(i64),
    #[error("a reply begins with byte {0}, which is none of + - : $")]
    Kind(u8),
    #[error("a reply has no number where one belongs")]
    Number,
    #[error("a value of a reply does not end where it said")]
    End,
}

/// Appends a command.
pub(super) fn command(out: &mut BytesMut, parts: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", parts.len()).as_bytes());
    for part in parts {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(END);
    }
}

/// Takes a whole reply from the begin of what came; `None`, and nothing is taken, where it is not whole yet.
///
/// # Errors
/// What it is that can be no reply; the connection is of no use then.
pub(super) fn take(from: &mut BytesMut) -> Result<Option<Reply>, Wrong> {
    let Some(&kind) = from.first() else {
        return Ok(None);
    };
    if !b"+-:$".contains(&kind) {
        return Err(Wrong::Kind(kind));
    }
    let Some(line) = line(&from[1..])? else {
        return Ok(None);
    };
    // The kind, the line, its end.
    let taken = 1 + line.len() + END.len();
    let reply = match kind {
        b'+' => Reply::Status(Bytes::copy_from_slice(line)),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Integer(number(line)?),
        _ => return value(from, number(line)?, taken),
    };
    from.advance(taken);
    Ok(Some(reply))
}

/// Takes a value of a length that was said before it.
fn value(from: &mut BytesMut, length: i64, taken: usize) -> Result<Option<Reply>, Wrong> {
    if length == -1 {
        from.advance(taken);
        return Ok(Some(Reply::Bulk(None)));
    }
    let bytes = usize::try_from(length).ok().filter(|it| *it <= BULK_MAX);
    let bytes = bytes.ok_or(Wrong::ValueTooLong(length))?;
    let Some(behind) = from.get(taken + bytes..taken + bytes + END.len()) else {
        return Ok(None);
    };
    if behind != END {
        return Err(Wrong::End);
    }
    from.advance(taken);
    let found = from.split_to(bytes).freeze();
    from.advance(END.len());
    Ok(Some(Reply::Bulk(Some(found))))
}

/// Up to the end of a line, if that is there.
fn line(from: &[u8]) -> Result<Option<&[u8]>, Wrong> {
    let within = &from[..from.len().min(LINE_MAX + END.len())];
    match within.windows(END.len()).position(|it| it == END) {
        Some(end) => Ok(Some(&from[..end])),
        None if from.len() >= LINE_MAX + END.len() => Err(Wrong::LineTooLong),
        None => Ok(None),
    }
}

fn number(line: &[u8]) -> Result<i64, Wrong> {
    let text = std::str::from_utf8(line).map_err(|_| Wrong::Number)?;
    text.parse().map_err(|_| Wrong::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(raw: &[u8]) -> Result<Vec<Reply>, Wrong> {
        let mut from = BytesMut::from(raw);
        let mut out = Vec::new();
        while let Some(reply) = take(&mut from)? {
            out.push(reply);
        }
        assert!(from.is_empty(), "{from:?} is left");
        Ok(out)
    }

    const REPLIES: &[u8] =
        b"+OK\r\n-ERR no such thing\r\n:-12\r\n$5\r\na\r\nbc\r\n$0\r\n\r\n$-1\r\n";

    fn replies() -> Vec<Reply> {
        vec![
            Reply::Status(Bytes::from_static(b"OK")),
            Reply::Error("ERR no such thing".to_owned()),
            Reply::Integer(-12),
            Reply::Bulk(Some(Bytes::from_static(b"a\r\nbc"))),
            Reply::Bulk(Some(Bytes::new())),
            Reply::Bulk(None),
        ]
    }

    #[test]
    fn replies_are_read_one_after_the_other() {
        assert_eq!(all(REPLIES), Ok(replies()));
    }

    #[test]
    fn what_comes_byte_by_byte_is_the_same() {
        let mut from = BytesMut::new();
        let mut out = Vec::new();
        for byte in REPLIES {
            from.extend_from_slice(&[*byte]);
            out.extend(take(&mut from).unwrap());
        }
        assert_eq!(out, replies());
        assert!(from.is_empty());
    }

    #[test]
    fn a_command_is_counted_and_holds_any_bytes() {
        let mut out = BytesMut::new();
        command(&mut out, &[b"SET", b"k", b"\r\n\0"]);
        assert_eq!(&out[..], b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$3\r\n\r\n\0\r\n");
    }

    #[test]
    fn what_can_be_no_reply_is_refused_and_bounded() {
        assert_eq!(all(b"*1\r\n+OK\r\n"), Err(Wrong::Kind(b'*')));
        assert_eq!(all(b":x\r\n"), Err(Wrong::Number));
        assert_eq!(all(b":\xff\r\n"), Err(Wrong::Number));
        assert_eq!(all(b"$1\r\nabc"), Err(Wrong::End));
        assert_eq!(all(b"$-2\r\n"), Err(Wrong::ValueTooLong(-2)));
        let huge = format!("${}\r\n", BULK_MAX + 1);
        let too_long = Wrong::ValueTooLong(BULK_MAX as i64 + 1);
        assert_eq!(all(huge.as_bytes()), Err(too_long));
        let endless = [&b"+"[..], &vec![b'x'; LINE_MAX + 2]].concat();
        assert_eq!(all(&endless), Err(Wrong::LineTooLong));
        let longest = [&b"+"[..], &vec![b'x'; LINE_MAX], END].concat();
        assert_eq!(all(&longest).unwrap().len(), 1);
    }
}
