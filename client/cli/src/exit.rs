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
    /// The command line, a file, a setting or the output is wrong; nothing was applied.
    Usage = 2,
    /// Refused; nothing was applied.
    Refused = 3,
    /// The outcome is unknown; it may have been applied.
    Unknown = 4,
    /// No endpoint could be reached; nothing was sent.
    Unreachable = 5,
    /// Applied, at least in part; something else failed: the output, the session's file, a line of
    /// an import.
    Applied = 6,
}

/// Printed by `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done, found, holds
  1  not found, condition failed, not a member
  2  usage: the command line, a file, a setting or the output is wrong; nothing was applied
  3  refused, nothing was applied
  4  outcome unknown, it may have been applied
  5  no endpoint could be reached, nothing was sent
  6  applied, at least in part, and then the output, the session's file or a line failed";

/// What `hansa admin` is doing.
pub(crate) const LINKS: &str = "the demo's links";

/// Why a command ends without its result.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something on this side: arguments, files, settings. Nothing was applied.
    Local(String),
    /// What the SDK said; the second field says what was being done, where that is not plain.
    Call(Error, String),
    /// A node refused to start or ended by itself.
    Node(String),
    /// Whoever reads our output has gone. No failure of ours.
    Hangup,
    /// Something on this side, after what was asked for had been done.
    Afterwards(String),
    /// An import that stopped.
    Import(Box<Stopped>),
    /// As the first says; besides, the session's file could not be stored.
    Unstored(Box<Failure>, String),
}

/// What became of the lines of an import that stopped.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The worst that happened to a line.
    pub(crate) worst: Failure,
    /// How many lines were applied.
    pub(crate) applied: u64,
    /// The lines that were not applied. No more than were under way at once, and one.
    pub(crate) failed: Vec<u64>,
    /// The lines that may have been applied. No more than were under way at once.
    pub(crate) maybe: Vec<u64>,
    /// The last line that was looked at: every line up to it that is not named was applied.
    pub(crate) last: u64,
}

impl Failure {
    pub(crate) fn local(message: impl Into<String>) -> Failure {
        Failure::Local(message.into())
    }

    /// The same failure of this side, when what was asked for had been done before it.
    pub(crate) fn afterwards(self) -> Failure {
        match self {
            Failure::Local(message) => Failure::Afterwards(message),
            other => other,
        }
    }

    /// The failure itself, without what surrounds it.
    pub(crate) fn cause(&self) -> &Failure {
        match self {
            Failure::Import(stopped) => stopped.worst.cause(),
            Failure::Unstored(failure, _) => failure.cause(),
            other => other,
        }
    }

    /// The lines, if it is an import's.
    pub(crate) fn stopped(&self) -> Option<&Stopped> {
        match self {
            Failure::Import(stopped) => Some(stopped),
            Failure::Unstored(failure, _) => failure.stopped(),
            _ => None,
        }
    }

    /// What the cluster was left with: `no`, `maybe`, `partly` or `yes`.
    pub(crate) fn applied(&self) -> &'static str {
        match self {
            Failure::Local(_) | Failure::Node(_) | Failure::Hangup => "no",
            Failure::Call(error, _) => error.applied().name(),
            Failure::Afterwards(_) => "yes",
            Failure::Import(stopped) if !stopped.maybe.is_empty() => "maybe",
            Failure::Import(stopped) if stopped.applied > 0 => "partly",
            Failure::Import(_) => "no",
            Failure::Unstored(failure, _) => failure.applied(),
        }
    }

    pub(crate) fn code(&self) -> Code {
        match self {
            Failure::Local(_) => Code::Usage,
            Failure::Node(_) => Code::Refused,
            Failure::Hangup => Code::Ok,
            Failure::Afterwards(_) => Code::Applied,
            Failure::Unstored(failure, _) => failure.code(),
            Failure::Import(stopped) => match self.applied() {
                "maybe" => Code::Unknown,
                "partly" => Code::Applied,
                _ => stopped.worst.code(),
            },
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

    /// The one that says more about the data: the second only if it is worse.
    pub(crate) fn or_worse(self, other: Failure) -> Failure {
        let rank = |failure: &Failure| match failure.code() {
            Code::Unknown => 3,
            Code::Refused | Code::No => 2,
            Code::Unreachable => 1,
            Code::Ok | Code::Usage | Code::Applied => 0,
        };
        if rank(&other) > rank(&self) {
            other
        } else {
            self
        }
    }
}

/// The code of a command whose answer was printed: it is told by the code, too, when the reader of
/// the output has gone.
pub(crate) fn told(printed: Result<(), Failure>, code: Code) -> Result<Code, Failure> {
    match printed {
        Ok(()) | Err(Failure::Hangup) => Ok(code),
        Err(failure) => Err(failure),
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Local(message) | Failure::Node(message) | Failure::Afterwards(message) => {
                f.write_str(message)
            }
            Failure::Call(error, doing) if doing.is_empty() => {
                write!(f, "{}: {}", error.reason(), error.message())
            }
            Failure::Call(error, doing) => {
                write!(f, "{doing}: {}: {}", error.reason(), error.message())
            }
            Failure::Hangup => f.write_str("the reader of the output has gone"),
            Failure::Import(stopped) => stopped.worst.fmt(f),
            Failure::Unstored(failure, what) => write!(f, "{failure}; besides, {what}"),
        }
    }
}

/// For example `3 applied, 1 not applied (line 2), 2 unknown (line 4, 5), read up to line 6`.
impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} applied", self.applied)?;
        for (lines, what) in [(&self.failed, "not applied"), (&self.maybe, "unknown")] {
            let numbers: Vec<String> = lines.iter().map(u64::to_string).collect();
            if !numbers.is_empty() {
                write!(f, ", {} {what} (line {})", lines.len(), numbers.join(", "))?;
            }
        }
        write!(f, ", read up to line {}", self.last)
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
