//! Exit codes, and failures on their way to one.

use std::fmt;
use std::io;

use hansa_client::{Applied, Error, ErrorKind};

/// The documented exit codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum Code {
    /// Done, found, holds.
    Ok = 0,
    /// Not found, the condition failed, or not a member.
    No = 1,
    /// The command line, a file or a setting is wrong; nothing was sent.
    Usage = 2,
    /// Refused; nothing was applied.
    Refused = 3,
    /// The outcome is unknown; it may have been applied.
    Unknown = 4,
    /// No endpoint could be reached; nothing was sent.
    Unreachable = 5,
}

/// Printed by `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, found, holds
  1  not found, condition failed, not a member
  2  usage: the command line, a file or a setting is wrong; nothing was sent
  3  refused, nothing was applied
  4  outcome unknown, it may have been applied
  5  no endpoint could be reached, nothing was sent";

/// Why a command ends without its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something on this side: arguments, files, settings.
    Local(String),
    /// What the SDK said; the second field says what was being done, where that is not plain.
    Call(Error, String),
    /// A node refused to start or ended by itself.
    Node(String),
    /// Whoever reads our output has gone. No failure of ours.
    Hangup,
}

impl Failure {
    pub(crate) fn local(message: impl Into<String>) -> Failure {
        Failure::Local(message.into())
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Failure::Local(_) => Code::Usage,
            Failure::Node(_) => Code::Refused,
            Failure::Hangup => Code::Ok,
            Failure::Call(error, _) => match (error.applied(), error.kind()) {
                (Applied::Maybe, _) => Code::Unknown,
                (_, ErrorKind::Conflict) => Code::No,
                (_, ErrorKind::Unreachable) => Code::Unreachable,
                // Refused by the SDK itself: no node has seen it.
                (_, ErrorKind::Invalid) if error.endpoint().is_empty() => Code::Usage,
                (_, ErrorKind::Invalid) if error.reason() == "WRONG_ENDPOINT" => Code::Usage,
                _ => Code::Refused,
            },
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Local(message) | Failure::Node(message) => f.write_str(message),
            Failure::Call(error, doing) if doing.is_empty() => {
                write!(f, "{}: {}", error.reason(), error.message())
            }
            Failure::Call(error, doing) => {
                write!(f, "{doing}: {}: {}", error.reason(), error.message())
            }
            Failure::Hangup => f.write_str("the reader of the output has gone"),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Call(error, String::new())
    }
}

/// Of our own output: the only stream without a name of its own.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Hangup,
            _ => Failure::local(format!("can not write the output: {error}")),
        }
    }
}
