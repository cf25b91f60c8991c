//! What can go wrong, and what it means for the data.
//!
//! Every error says whether anything was [`Applied`]. That is a field and never guessed from a code:
//! "unavailable" from a broken connection says nothing about the write that was under way.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::etag::Etag;
use crate::request_ids::{RequestId, Unfinished};

/// Whether a failed call left anything behind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Applied {
    /// Surely not, and never will.
    No,
    /// It may have been, or may still be.
    Maybe,
}

impl Applied {
    /// `no` or `maybe`.
    pub fn name(self) -> &'static str {
        match self {
            Applied::No => "no",
            Applied::Maybe => "maybe",
        }
    }
}

/// What kind of failure, by what the caller can do about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The request, or a setting of the client, is wrong: fix it. Nothing was applied.
    Invalid,
    /// Not allowed: fix the rights. Nothing was applied.
    Denied,
    /// Too much is waiting: come back after [`Error::retry_after`].
    Overloaded,
    /// It can not be served now: no quorum, or what the session has seen, could be reached in time, or
    /// the nodes asked have a fault of their own. Nothing was applied: retry, or choose another level
    /// or region.
    Unavailable,
    /// A write whose outcome nobody told: it may have been applied, or may still be. Read, then decide.
    Indeterminate,
    /// A condition did not hold, nothing was applied: read again. [`Error::etag`] carries the current
    /// version.
    Conflict,
    /// Stored data is damaged where the call was served: call an operator.
    Corrupt,
    /// A defect of the server or of this crate: report it.
    Internal,
    /// No endpoint could be reached, or none that the client may ask; nothing was applied.
    Unreachable,
}

impl ErrorKind {
    /// A stable lower-case word, as in the command line's JSON errors.
    pub fn name(self) -> &'static str {
        match self {
            ErrorKind::Invalid => "invalid",
            ErrorKind::Denied => "denied",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Unavailable => "unavailable",
            ErrorKind::Indeterminate => "indeterminate",
            ErrorKind::Conflict => "conflict",
            ErrorKind::Corrupt => "corrupt",
            ErrorKind::Internal => "internal",
            ErrorKind::Unreachable => "unreachable",
        }
    }

    /// The kind of a refusal, by its gRPC code; by its reason where the code says too little.
    pub(crate) fn of_refusal(code: u32, reason: &str, applied: Applied) -> ErrorKind {
        match reason {
            // A failed precondition, but the node's: there is nothing to fix in the request.
            "CLOCK_OUT_OF_BOUNDS" => ErrorKind::Unavailable,
            _ => ErrorKind::of_code(code, applied),
        }
    }

    /// The kind of a gRPC code. An unanswered call is indeterminate only if it may have applied.
    pub(crate) fn of_code(code: u32, applied: Applied) -> ErrorKind {
        match code {
            3 | 5 | 6 | 9 | 11 | 12 => ErrorKind::Invalid,
            7 | 16 => ErrorKind::Denied,
            8 => ErrorKind::Overloaded,
            1 | 2 | 4 | 14 if applied == Applied::Maybe => ErrorKind::Indeterminate,
            1 | 4 | 14 => ErrorKind::Unavailable,
            10 => ErrorKind::Conflict,
            15 => ErrorKind::Corrupt,
            _ => ErrorKind::Internal,
        }
    }
}

/// A failed call.
///
/// `Display` prints one line with reason, message and what was applied. It never contains keys or
/// values.
#[derive(Clone, Debug)]
pub struct Error(Box<Details>);

#[derive(Clone, Debug)]
struct Details {
    kind: ErrorKind,
    applied: Applied,
    reason: String,
    message: String,
    field: String,
    etag: Etag,
    session_token: Bytes,
    retry_after: Option<Duration>,
    endpoint: String,
    attempts: u32,
    named: Option<Unfinished>,
}

impl Error {
    /// An error with a stable reason and a message for people.
    pub(crate) fn new(
        kind: ErrorKind,
        applied: Applied,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) -> Error {
        Error(Box::new(Details {
            kind,
            applied,
            reason: reason.into(),
            message: message.into(),
            field: String::new(),
            etag: Etag::default(),
            session_token: Bytes::new(),
            retry_after: None,
            endpoint: String::new(),
            attempts: 0,
            named: None,
        }))
    }

    /// A request or a setting that the SDK itself refuses.
    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Invalid, Applied::No, "INVALID", message)
    }

    /// Nothing was sent, because nobody answered.
    pub(crate) fn unreachable(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Unreachable, Applied::No, "UNREACHABLE", message)
    }

    pub(crate) fn with_field(mut self, field: impl Into<String>) -> Error {
        self.0.field = field.into();
        self
    }

    pub(crate) fn with_etag(mut self, etag: Etag) -> Error {
        self.0.etag = etag;
        self
    }

    pub(crate) fn with_session_token(mut self, token: Bytes) -> Error {
        self.0.session_token = token;
        self
    }

    /// What the session has seen by learning this; empty when nothing new.
    pub(crate) fn session_token(&self) -> &Bytes {
        &self.0.session_token
    }

    pub(crate) fn with_retry_after(mut self, hint: Option<Duration>) -> Error {
        self.0.retry_after = hint;
        self
    }

    pub(crate) fn at(mut self, endpoint: &str, attempts: u32) -> Error {
        self.0.endpoint = endpoint.to_owned();
        self.0.attempts = attempts;
        self
    }

    /// Of a call whose attempts carried this name.
    pub(crate) fn of_write(mut self, named: Option<Unfinished>) -> Error {
        self.0.named = named;
        self
    }

    /// The same failure after an earlier attempt whose outcome is unknown: the whole call is
    /// unknown then, whatever the last attempt was told.
    pub(crate) fn after_unknown(self) -> Error {
        if self.applied() == Applied::Maybe {
            return self;
        }
        let message = format!(
            "an earlier attempt may have been applied: read, then decide; the last one failed: {} ({})",
            self.message(),
            self.reason()
        );
        Error::new(
            ErrorKind::Indeterminate,
            Applied::Maybe,
            "UNKNOWN_OUTCOME",
            message,
        )
        .with_etag(self.0.etag)
        .with_session_token(self.0.session_token)
        .with_retry_after(self.0.retry_after)
        .at(&self.0.endpoint, self.0.attempts)
    }

    /// What kind of failure, by what the caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether anything was applied.
    pub fn applied(&self) -> Applied {
        self.0.applied
    }

    /// The stable name of the reason, such as `QUORUM_UNREACHABLE`; branch on this. Those of servers
    /// are listed in `docs/consistency-model.md` of the repository. The SDK's own: `INVALID`,
    /// `WRONG_ENDPOINT` (an endpoint is of another region or cluster), `UNREACHABLE`,
    /// `CONNECTION_BROKEN`, `DEADLINE_EXCEEDED`, `UNKNOWN_OUTCOME` and `BAD_REPLY` (a reply that does
    /// not fit its request).
    pub fn reason(&self) -> &str {
        &self.0.reason
    }

    /// What was wrong and what to do, for people.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What is at fault, where somebody knows: a field of the request as in `kv.proto` (`value`,
    /// `options.ack_regions`), or a setting of the client (`endpoint`, `region`); else empty.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// For [`ErrorKind::Conflict`]: the row's version at that moment; `None` when it was never written.
    pub fn etag(&self) -> Option<&Etag> {
        (!self.0.etag.is_empty()).then_some(&self.0.etag)
    }

    /// How long to wait before a retry is worth anything, where the server knows.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }

    /// The address of the endpoint that said so; empty when none did.
    pub fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// How many attempts were made, those that reached nobody included; 0 when the call was refused
    /// before the first.
    pub fn attempts(&self) -> u32 {
        self.0.attempts
    }

    /// The request id that the attempts of a write carried; `None` when they carried none, and when
    /// none was made.
    pub fn request_id(&self) -> Option<RequestId> {
        self.0.named.as_ref().map(|named| named.id)
    }

    /// What [`Call::repeat`](crate::Call::repeat) asks again by; `None` when nothing was applied, and
    /// for a write that carried no request id.
    pub fn unfinished(&self) -> Option<&Unfinished> {
        let unknown = self.applied() == Applied::Maybe;
        self.0.named.as_ref().filter(|_| unknown)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Details {
            reason,
            message,
            applied,
            ..
        } = &*self.0;
        write!(f, "{reason}: {message} (applied: {})", applied.name())
    }
}

impl std::error::Error for Error {}

/// An error with all its causes in one line; transports hide the useful part at the end.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

/// What a status says, with all its causes; never empty.
pub(crate) fn what_came(status: &tonic::Status) -> String {
    use std::error::Error as _;
    let said = match status.source() {
        Some(source) => with_sources(source),
        None => status.message().to_owned(),
    };
    match said.as_str() {
        "" => format!("it answered {:?} without words", status.code()),
        _ => said,
    }
}

/// The same, of an endpoint that has not shown yet that it is a node's client port.
pub(crate) fn what_came_first(status: &tonic::Status) -> String {
    let said = what_came(status);
    match status.code() {
        // With words of its own a node says so; this is another service, or no gRPC at all.
        tonic::Code::Unimplemented | tonic::Code::Internal => format!(
            "what answers there is no client port of a Hansa node ({said}): name a node's `listen` \
             address, not that for metrics or peers"
        ),
        _ => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_attempt_makes_the_whole_call_unknown() {
        let refused = Error::new(ErrorKind::Overloaded, Applied::No, "OVERLOADED", "full");
        let whole = refused.after_unknown();
        assert_eq!(whole.applied(), Applied::Maybe);
        assert_eq!(whole.kind(), ErrorKind::Indeterminate);
        assert_eq!(whole.reason(), "UNKNOWN_OUTCOME");
    }

    #[test]
    fn an_ended_deadline_is_indeterminate_only_if_it_may_have_applied() {
        assert_eq!(
            ErrorKind::of_code(4, Applied::Maybe),
            ErrorKind::Indeterminate
        );
        assert_eq!(ErrorKind::of_code(4, Applied::No), ErrorKind::Unavailable);
    }
}
