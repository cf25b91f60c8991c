//! Refusals as clients see them. The only file that names gRPC codes.
//!
//! Every refusal has a stable reason, says whether anything was applied, and what to do. A unary call says it
//! in its status and `google.rpc` details; a Pipe says the same in an `Error` message.

use std::collections::HashMap;
use std::time::Duration;

use hansa_consistency::clock::Hlc;
use hansa_consistency::key::ClusterId;
use hansa_consistency::limits::VALUE_BYTES_MAX;
use hansa_consistency::request::{Applied, Reason, Refusal};
use hansa_consistency::session::{SessionToken, TokenError};
use hansa_proto::v1;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::limits::{BATCH_REPLY_BYTES_MAX, REQUEST_BYTES_MAX};

/// The domain of every reason, as `google.rpc.ErrorInfo` wants one.
pub const DOMAIN: &str = "hansa";

/// Reasons that only the edge of a node gives; the others are [`Reason::ALL`].
pub const EDGE_REASONS: [&str; 9] = [
    "LEVEL_NOT_AVAILABLE",
    "TOPOLOGY_EPOCH_DIFFERS",
    "SESSION_TOKEN_MALFORMED",
    "SESSION_TOKEN_NEWER",
    "SESSION_TOKEN_OTHER_CLUSTER",
    "PAGE_TOKEN_INVALID",
    "REPLY_TOO_LARGE",
    "NOT_SERVED",
    "INTERNAL",
];

/// A refused request on its way to a client.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failure {
    code: Code,
    /// The stable reason.
    pub reason: &'static str,
    /// Whether anything was applied.
    pub applied: Applied,
    /// What was wrong and what to do; without keys and values.
    pub message: String,
    /// The request's field at fault; empty when none is.
    pub field: &'static str,
    /// For a failed condition: the row's version.
    pub etag: Box<[u8]>,
    /// What the session has seen by learning this.
    pub session_token: Box<[u8]>,
    /// When repeating makes sense.
    pub retry_after: Option<Duration>,
}

impl Failure {
    fn new(code: Code, reason: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            reason,
            applied: Applied::No,
            message: message.into(),
            field: "",
            etag: Box::default(),
            session_token: Box::default(),
            retry_after: None,
        }
    }

    /// A field is out of its bounds.
    pub fn invalid(field: &'static str, message: impl Into<String>) -> Failure {
        let reason = Reason::Invalid.name();
        Failure::new(Code::InvalidArgument, reason, message).at(field)
    }

    /// The topology names no such keyspace.
    pub fn unknown_keyspace() -> Failure {
        let refusal = Refusal::not_applied(
            Reason::UnknownKeyspace,
            "the topology names no such keyspace: see Admin.Topology for those it does",
        );
        Failure::of(ClusterId(0), refusal).at("keyspace")
    }

    /// The keyspace's type does not know the call.
    pub fn wrong_type(field: &'static str, message: impl Into<String>) -> Failure {
        let refusal = Refusal::not_applied(Reason::WrongType, message);
        Failure::of(ClusterId(0), refusal).at(field)
    }

    /// The call is not offered at this level.
    pub fn level_not_supported(message: impl Into<String>) -> Failure {
        let refusal = Refusal::not_applied(Reason::LevelNotSupported, message);
        Failure::of(ClusterId(0), refusal).at("options.level")
    }

    /// The level does not exist yet.
    pub fn level_not_available(level: &str) -> Failure {
        let message = format!("level {level} does not exist yet: use eventual, session or strong");
        Failure::new(Code::Unimplemented, "LEVEL_NOT_AVAILABLE", message).at("options.level")
    }

    /// The client knows another topology.
    pub fn epoch_differs(theirs: u64, ours: u64) -> Failure {
        let message = format!(
            "the request names topology epoch {theirs}, this node runs with {ours}: read Admin.Topology again"
        );
        Failure::new(Code::FailedPrecondition, "TOPOLOGY_EPOCH_DIFFERS", message)
            .at("options.epoch")
    }

    /// The session token can not be used.
    pub fn token(error: &TokenError) -> Failure {
        let (code, reason) = match error {
            TokenError::Malformed => (Code::InvalidArgument, "SESSION_TOKEN_MALFORMED"),
            TokenError::NewerVersion { .. } => (Code::InvalidArgument, "SESSION_TOKEN_NEWER"),
            TokenError::OtherCluster => (Code::InvalidArgument, "SESSION_TOKEN_OTHER_CLUSTER"),
            TokenError::FromFuture(_) => {
                (Code::FailedPrecondition, Reason::ClockOutOfBounds.name())
            }
        };
        Failure::new(code, reason, error.to_string()).at("options.session_token")
    }

    /// The page token can not be used.
    pub fn page_token() -> Failure {
        let message =
            "the page token is damaged, or belongs to another scan: start from the first page";
        Failure::new(Code::InvalidArgument, "PAGE_TOKEN_INVALID", message).at("page_token")
    }

    /// The reply would not fit into one message.
    pub fn reply_too_large() -> Failure {
        let message = format!(
            "the values add up to more than the {BATCH_REPLY_BYTES_MAX} bytes that fit into one reply: ask for fewer keys"
        );
        Failure::new(Code::OutOfRange, "REPLY_TOO_LARGE", message).at("keys")
    }

    /// The request is longer than anything that is read.
    pub fn request_too_large() -> Failure {
        let message = format!(
            "the request has more than {REQUEST_BYTES_MAX} bytes and was not read; a value has at most \
             {VALUE_BYTES_MAX}: split it"
        );
        Failure::invalid("", message)
    }

    /// The call is served elsewhere.
    pub fn not_served(message: impl Into<String>) -> Failure {
        Failure::new(Code::Unimplemented, "NOT_SERVED", message)
    }

    /// Something that can not happen did. A write may have been applied.
    pub fn internal(message: impl Into<String>) -> Failure {
        Failure {
            applied: Applied::Maybe,
            ..Failure::new(Code::Internal, "INTERNAL", message)
        }
    }

    /// The deadline passed without the core's word: the driver is stuck.
    pub fn late(applied: Applied) -> Failure {
        let message = "the deadline passed; this node is very slow: ask another one";
        let refusal = Refusal::not_applied(Reason::DeadlineExceeded, message);
        Failure {
            applied,
            ..Failure::of(ClusterId(0), refusal)
        }
    }

    /// The core's refusal.
    pub fn of(cluster: ClusterId, refusal: Refusal) -> Failure {
        let (code, retry_after) = kind(refusal.reason);
        Failure {
            applied: refusal.applied,
            etag: refusal.etag[..].into(),
            session_token: SessionToken::encode(cluster, &refusal.context)[..].into(),
            retry_after,
            ..Failure::new(code, refusal.reason.name(), refusal.message)
        }
    }

    /// The same failure, blamed on a field.
    pub fn at(self, field: &'static str) -> Failure {
        Failure { field, ..self }
    }

    /// As the status of a unary call. `server` is the node's hybrid clock, zero where there is none.
    pub fn into_status(self, server: Hlc) -> Status {
        let mut metadata = HashMap::new();
        metadata.insert("applied".to_owned(), applied_name(self.applied).to_owned());
        let mut put = |name: &str, value: String| {
            if !value.is_empty() {
                metadata.insert(name.to_owned(), value);
            }
        };
        put("field", self.field.to_owned());
        put("etag", hex(&self.etag));
        put("session_token", hex(&self.session_token));
        if server > Hlc::ZERO {
            put("server_hlc", server.0.to_string());
        }
        let mut details = ErrorDetails::with_error_info(self.reason, DOMAIN, metadata);
        if let Some(after) = self.retry_after {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(self.code, self.text(), details)
    }

    /// As a Pipe says it. `server` is the node's hybrid clock.
    pub fn into_error(self, server: Hlc) -> v1::Error {
        let retry_after = self.retry_after.unwrap_or_default();
        v1::Error {
            code: self.code as i32,
            reason: self.reason.to_owned(),
            applied: applied_to_wire(self.applied).into(),
            message: self.text(),
            etag: self.etag.into(),
            retry_after_ms: retry_after.as_millis() as u32,
            session_token: self.session_token.into(),
            field: self.field.to_owned(),
            server_hlc: server.0,
        }
    }

    fn text(&self) -> String {
        match self.field {
            "" => self.message.clone(),
            field => format!("{field}: {}", self.message),
        }
    }
}

/// The code of each reason, and when a retry makes sense: one table for unary calls and Pipes.
fn kind(reason: Reason) -> (Code, Option<Duration>) {
    let after = |ms| Some(Duration::from_millis(ms));
    match reason {
        Reason::UnknownKeyspace => (Code::NotFound, None),
        Reason::WrongType | Reason::LevelNotSupported | Reason::Invalid => {
            (Code::InvalidArgument, None)
        }
        Reason::StrongOnly | Reason::ClockOutOfBounds => (Code::FailedPrecondition, None),
        Reason::Overflow => (Code::OutOfRange, None),
        Reason::ConditionFailed => (Code::Aborted, None),
        Reason::QuorumUnreachable => (Code::Unavailable, after(500)),
        Reason::SessionUnavailable | Reason::NotHere => (Code::Unavailable, after(200)),
        Reason::AwaitingReadmission => (Code::Unavailable, after(5000)),
        Reason::StoreFailed | Reason::ShuttingDown => (Code::Unavailable, after(1000)),
        Reason::DeadlineExceeded => (Code::DeadlineExceeded, None),
        // Not ABORTED: that one is safe to read and try again, this one is not.
        Reason::UnknownOutcome => (Code::Unknown, None),
        Reason::Overloaded => (Code::ResourceExhausted, after(100)),
        Reason::Damaged => (Code::DataLoss, None),
    }
}

/// Ends a stream whose client does not follow the protocol.
pub fn broken_stream(message: impl Into<String>) -> Failure {
    Failure::invalid("id", message)
}

/// What a request means that the transport could not read: nothing of it was begun. `None` when the status says
/// something else, a broken connection as a rule.
pub fn unreadable(status: &Status) -> Option<Failure> {
    if !status.details().is_empty() {
        return None;
    }
    match status.code() {
        Code::OutOfRange => Some(Failure::request_too_large()),
        Code::Internal => Some(Failure::invalid(
            "",
            "the request is no message of this API: use a generated client of hansa.v1",
        )),
        _ => None,
    }
}

/// Refuses a peer's stream.
pub fn refused_peer(message: impl Into<String>) -> Status {
    Status::new(Code::FailedPrecondition, message)
}

/// Ends a peer's stream that says what can not be understood.
pub fn garbled_peer(message: impl Into<String>) -> Status {
    Status::new(Code::InvalidArgument, message)
}

/// The name in error metadata.
fn applied_name(applied: Applied) -> &'static str {
    match applied {
        Applied::No => "NO",
        Applied::Maybe => "MAYBE",
    }
}

fn applied_to_wire(applied: Applied) -> v1::Applied {
    match applied {
        Applied::No => v1::Applied::No,
        Applied::Maybe => v1::Applied::Maybe,
    }
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hansa_consistency::key::RegionId;
    use hansa_consistency::session::Context;

    use super::*;

    #[test]
    fn a_failed_condition_carries_etag_token_and_applied_both_ways() {
        let mut refusal = Refusal::not_applied(Reason::ConditionFailed, "another version");
        refusal.etag = Bytes::from_static(&[1, 255]);
        refusal.context = Context::of(RegionId(1), Hlc(9));
        let failure = Failure::of(ClusterId(7), refusal);
        let token = failure.session_token.clone();
        assert!(!token.is_empty());

        let error = failure.clone().into_error(Hlc(77));
        assert_eq!((error.code, error.server_hlc), (10, 77));
        assert_eq!(error.applied(), v1::Applied::No);
        assert_eq!(
            (error.reason.as_str(), &error.etag[..]),
            ("CONDITION_FAILED", &[1, 255][..])
        );

        let status = failure.into_status(Hlc(77));
        assert_eq!(status.code(), Code::Aborted);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("CONDITION_FAILED", DOMAIN)
        );
        assert_eq!(info.metadata["applied"], "NO");
        assert_eq!(info.metadata["etag"], "01ff");
        assert_eq!(info.metadata["server_hlc"], "77");
        assert_eq!(info.metadata["session_token"], hex(&token));
    }

    #[test]
    fn overload_says_when_to_come_back_and_unknown_outcomes_do_not() {
        let status = |refusal| Failure::of(ClusterId(7), refusal).into_status(Hlc::ZERO);
        let overloaded = status(Refusal::not_applied(Reason::Overloaded, "full"));
        assert!(
            overloaded
                .get_details_retry_info()
                .unwrap()
                .retry_delay
                .is_some()
        );
        let unknown = status(Refusal::maybe_applied(Reason::UnknownOutcome, "old"));
        assert!(unknown.get_details_retry_info().is_none());
        let info = unknown.get_details_error_info().unwrap();
        assert_eq!(info.metadata["applied"], "MAYBE");
        assert!(!info.metadata.contains_key("server_hlc"));
    }

    #[test]
    fn reasons_are_unique_and_no_refusal_is_ok() {
        let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.name()).collect();
        names.extend(EDGE_REASONS);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(Reason::ALL.iter().all(|reason| kind(*reason).0 != Code::Ok));
    }

    /// Of a code, as gRPC writes it.
    fn code_name(code: Code) -> String {
        let mut name = String::new();
        for letter in format!("{code:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_uppercase());
        }
        name
    }

    #[test]
    fn the_documents_table_has_every_reason_with_its_code() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/consistency-model.md");
        let text = std::fs::read_to_string(path).unwrap();
        let row = |name: &str| {
            let start = format!("| `{name}` | ");
            let row = text.lines().find(|line| line.starts_with(&start));
            row.unwrap_or_else(|| panic!("{name} has no row in {path}"))[start.len()..].to_owned()
        };
        for reason in Reason::ALL {
            let (row, code) = (row(reason.name()), code_name(kind(reason).0));
            assert!(row.starts_with(&format!("{code} | ")), "{row}");
        }
        for name in EDGE_REASONS {
            row(name);
        }
    }

    #[test]
    fn the_field_at_fault_is_in_text_and_details() {
        let status = Failure::invalid("page_size", "too large").into_status(Hlc::ZERO);
        assert_eq!(status.message(), "page_size: too large");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata["field"], "page_size");
    }
}
