//! What the harness asks etcd, and what the answers mean in a history.
//!
//! The version of a register is the revision of etcd's store at which it changed: one number for the whole cluster that
//! grows with every change, as 16 hexadecimal digits. A key that is not there has none, because etcd keeps no tombstone
//! that a read shows. A delete of nothing changes nothing and has no revision of its own, so it is recorded as refused
//! ([`NOTHING_THERE`]).

use bytes::Bytes;
use tonic::{Code, Status as Reply};

use super::api::compare::{CompareResult, CompareTarget, TargetUnion};
use super::api::request_op::Request;
use super::api::response_op::Response;
use super::api::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, KeyValue, PutRequest, PutResponse,
    RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest, TxnResponse,
};
use super::{Api, Reads};
use crate::history::{CONDITION_FAILED, Datum, Expect, Held, Op, Record, Status, Swap};
use crate::workload::Intent;

/// The error of a delete that found nothing.
pub(super) const NOTHING_THERE: &str = "NOTHING_THERE";
/// The error of an answer that is not what etcd's API says.
const MALFORMED: &str = "MALFORMED";

/// One request.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Ask {
    Range(RangeRequest),
    Put(PutRequest),
    Delete(DeleteRangeRequest),
    Txn(TxnRequest),
}

/// One answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    Delete(DeleteRangeResponse),
    Txn(TxnResponse),
}

impl Ask {
    /// What an intent asks.
    ///
    /// # Errors
    /// Says why etcd can not be asked this.
    pub(super) fn of(intent: &Intent, reads: Reads) -> Result<Ask, String> {
        let key = Bytes::from(intent.key.clone());
        let range_end = Bytes::new();
        match (intent.op, &intent.value) {
            (Op::Get, None) => Ok(Ask::Range(read(&intent.key, reads))),
            (Op::Put, Some(Datum::Text(text))) => Ok(Ask::Put(PutRequest {
                key,
                value: text.clone().into(),
            })),
            (Op::Delete, None) => Ok(Ask::Delete(DeleteRangeRequest { key, range_end })),
            (Op::Cas, Some(Datum::Swap(swap))) => Ok(Ask::Txn(compare_and_set(&key, swap)?)),
            (Op::BatchGet, Some(Datum::Rows(rows))) => {
                let reads = rows.keys().map(|key| RequestOp {
                    request: Some(Request::RequestRange(read(key, reads))),
                });
                Ok(Ask::Txn(TxnRequest {
                    success: reads.collect(),
                    ..TxnRequest::default()
                }))
            }
            (op, _) => Err(format!("etcd has no registers' operation {op:?}")),
        }
    }

    /// Asks, and waits for the answer however long it takes.
    pub(super) async fn send(self, api: &mut Api) -> Result<Answer, Reply> {
        Ok(match self {
            Ask::Range(it) => Answer::Range(api.range(it).await?.into_inner()),
            Ask::Put(it) => Answer::Put(api.put(it).await?.into_inner()),
            Ask::Delete(it) => Answer::Delete(api.delete_range(it).await?.into_inner()),
            Ask::Txn(it) => Answer::Txn(api.txn(it).await?.into_inner()),
        })
    }
}

/// The request that reads one key.
pub(super) fn read(key: &str, reads: Reads) -> RangeRequest {
    RangeRequest {
        key: Bytes::from(key.to_owned()),
        serializable: reads == Reads::Serializable,
        ..RangeRequest::default()
    }
}

/// The request that reads all keys.
pub(super) fn read_all(reads: Reads) -> RangeRequest {
    let zero = Bytes::from_static(b"\0");
    RangeRequest {
        key: zero.clone(),
        range_end: zero,
        serializable: reads == Reads::Serializable,
        ..RangeRequest::default()
    }
}

fn compare_and_set(key: &Bytes, swap: &Swap) -> Result<TxnRequest, String> {
    let (target, union) = match &swap.expect {
        Expect::Absent => (CompareTarget::Create, TargetUnion::CreateRevision(0)),
        Expect::Value(value) => (
            CompareTarget::Value,
            TargetUnion::Value(value.clone().into()),
        ),
        Expect::Etag(etag) => {
            let revision = i64::from_str_radix(etag, 16)
                .map_err(|_| format!("{etag} is no revision in hexadecimal"))?;
            (CompareTarget::Mod, TargetUnion::ModRevision(revision))
        }
    };
    let operation = |request| RequestOp {
        request: Some(request),
    };
    let put = PutRequest {
        key: key.clone(),
        value: swap.new.clone().into(),
    };
    let found = RangeRequest {
        key: key.clone(),
        ..RangeRequest::default()
    };
    Ok(TxnRequest {
        compare: vec![Compare {
            result: CompareResult::Equal.into(),
            target: target.into(),
            key: key.clone(),
            target_union: Some(union),
        }],
        success: vec![operation(Request::RequestPut(put))],
        // What was there instead is the version of the refusal.
        failure: vec![operation(Request::RequestRange(found))],
    })
}

impl Answer {
    /// Fills the record in.
    pub(super) fn note(self, record: &mut Record) {
        record.status = Status::Ok;
        match self {
            Answer::Txn(txn) if record.op == Op::BatchGet => found_by(record, &txn),
            Answer::Range(range) => {
                if let Some(found) = range.kvs.first() {
                    record.etag = etag(found.mod_revision);
                    record.value = Some(Datum::Text(text(found)));
                }
            }
            Answer::Put(put) => written(record, put.header),
            Answer::Delete(deleted) if deleted.deleted == 0 => refused(record, NOTHING_THERE),
            Answer::Delete(deleted) => written(record, deleted.header),
            Answer::Txn(txn) if txn.succeeded => written(record, txn.header),
            Answer::Txn(txn) => {
                refused(record, CONDITION_FAILED);
                let found = txn.responses.first().and_then(|it| it.response.as_ref());
                if let Some(Response::ResponseRange(range)) = found {
                    let found = range.kvs.first();
                    record.etag = found.and_then(|found| etag(found.mod_revision));
                }
            }
        }
    }
}

/// What the reads of a transaction found. A key that is not there stays as it was asked.
fn found_by(record: &mut Record, txn: &TxnResponse) {
    let Some(Datum::Rows(rows)) = &mut record.value else {
        return;
    };
    for response in &txn.responses {
        if let Some(Response::ResponseRange(range)) = &response.response {
            rows.extend(range.kvs.iter().map(held));
        }
    }
}

/// A key and what it holds.
fn held(found: &KeyValue) -> (String, Held) {
    let key = String::from_utf8_lossy(&found.key).into_owned();
    let (value, etag) = (Some(text(found)), etag(found.mod_revision));
    (key, Held { value, etag })
}

/// The change of this answer has the revision that the store has after it.
fn written(record: &mut Record, header: Option<ResponseHeader>) {
    record.etag = header.and_then(|header| etag(header.revision));
    if record.etag.is_none() {
        record.status = Status::Info;
        record.error = Some(MALFORMED.to_owned());
    }
}

fn refused(record: &mut Record, error: &str) {
    record.status = Status::Fail;
    record.error = Some(error.to_owned());
}

/// A revision as a version whose text order is the order of winning; `None` for what is none.
pub(super) fn etag(revision: i64) -> Option<String> {
    (revision > 0).then(|| format!("{revision:016x}"))
}

/// The value, as histories have it.
pub(super) fn text(found: &KeyValue) -> String {
    String::from_utf8_lossy(&found.value).into_owned()
}

/// Notes an error: a failure where it is certain that nothing was done, otherwise nobody knows.
pub(super) fn note_error(record: &mut Record, error: &Reply) {
    record.status = match is_certain(error) {
        true => Status::Fail,
        false => Status::Info,
    };
    record.error = Some(format!("{:?}: {}", error.code(), error.message()));
}

/// Whether the request did not take effect and never will: it could not be sent, or etcd refused it as such.
///
/// "Unavailable" is not among them: etcd says so, too, of what it proposed and lost sight of.
fn is_certain(error: &Reply) -> bool {
    let refused = matches!(
        error.code(),
        Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    );
    refused || was_not_sent(error)
}

/// Whether nobody listened. A connection that was there can not be refused any more.
fn was_not_sent(error: &Reply) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            return error.kind() == std::io::ErrorKind::ConnectionRefused;
        }
        source = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Level;
    use crate::workload::Tie;

    fn intent(op: Op, value: Option<Datum>) -> Intent {
        Intent {
            op,
            key: "registers/k".to_owned(),
            value,
            level: Level::Strong,
            tie: Tie::Carries,
            identified: false,
            ack_regions: 0,
        }
    }

    fn swap(expect: Expect) -> Intent {
        let new = "v2".to_owned();
        intent(Op::Cas, Some(Datum::Swap(Swap { expect, new })))
    }

    fn noted(op: Op, answer: Answer) -> Record {
        let mut record = Record::invoked(1, op, "registers/k", Level::Strong, 1);
        answer.note(&mut record);
        record
    }

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader {
            revision,
            ..ResponseHeader::default()
        })
    }

    fn found(revision: i64) -> RangeResponse {
        let kvs = vec![KeyValue {
            mod_revision: revision,
            value: Bytes::from_static(b"v1"),
            ..KeyValue::default()
        }];
        RangeResponse {
            kvs,
            ..RangeResponse::default()
        }
    }

    #[test]
    fn conditions_compare_what_they_name() {
        let compared = |expect| match Ask::of(&swap(expect), Reads::Serializable).unwrap() {
            Ask::Txn(txn) => txn.compare[0].clone(),
            other => panic!("{other:?}"),
        };
        let absent = compared(Expect::Absent);
        assert_eq!(absent.target, CompareTarget::Create as i32);
        assert_eq!(absent.target_union, Some(TargetUnion::CreateRevision(0)));
        let value = compared(Expect::Value("v1".to_owned()));
        assert_eq!(value.target, CompareTarget::Value as i32);
        let version = compared(Expect::Etag("000000000000001f".to_owned()));
        assert_eq!(version.target, CompareTarget::Mod as i32);
        assert_eq!(version.target_union, Some(TargetUnion::ModRevision(31)));
        assert!(Ask::of(&swap(Expect::Etag("?".to_owned())), Reads::Linearizable).is_err());
        let counter = intent(Op::Incr, Some(Datum::Integer(1)));
        assert!(Ask::of(&counter, Reads::Linearizable).is_err());
    }

    #[test]
    fn only_reads_depend_on_how_they_are_asked() {
        for (reads, serializable) in [(Reads::Linearizable, false), (Reads::Serializable, true)] {
            match Ask::of(&intent(Op::Get, None), reads).unwrap() {
                Ask::Range(range) => assert_eq!(range.serializable, serializable),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn several_keys_are_one_transaction() {
        let asked = Datum::Rows(
            [
                ("t/a".into(), Held::default()),
                ("t/b".into(), Held::default()),
            ]
            .into(),
        );
        let batch = intent(Op::BatchGet, Some(asked.clone()));
        let Ok(Ask::Txn(txn)) = Ask::of(&batch, Reads::Linearizable) else {
            panic!("a batch is a transaction");
        };
        assert_eq!((txn.compare.len(), txn.success.len()), (0, 2));
        // Scans are weak, and etcd is asked at level strong.
        assert!(Ask::of(&intent(Op::Scan, None), Reads::Linearizable).is_err());
        let mut found = found(7);
        found.kvs[0].key = Bytes::from_static(b"t/b");
        let row = |record: &Record, key: &str| record.rows().unwrap().get(key).cloned();
        let held = Held {
            value: Some("v1".into()),
            etag: etag(7),
        };
        let response = Some(Response::ResponseRange(found));
        let nothing = Some(Response::ResponseRange(RangeResponse::default()));
        let answers =
            [nothing, response].map(|response| super::super::api::ResponseOp { response });
        let mut record = Record::invoked(1, Op::BatchGet, "t/", Level::Strong, 1);
        record.value = Some(asked);
        let txn = TxnResponse {
            header: header(9),
            succeeded: true,
            responses: answers.to_vec(),
        };
        Answer::Txn(txn).note(&mut record);
        assert_eq!((record.status, record.etag.clone()), (Status::Ok, None));
        assert_eq!(row(&record, "t/a"), Some(Held::default()));
        assert_eq!(row(&record, "t/b"), Some(held));
    }

    #[test]
    fn versions_are_revisions_of_fixed_width() {
        let put = noted(Op::Put, Answer::Put(PutResponse { header: header(31) }));
        assert_eq!(put.etag.as_deref(), Some("000000000000001f"));
        assert_eq!(put.status, Status::Ok);
        let get = noted(Op::Get, Answer::Range(found(31)));
        assert_eq!((get.text(), &get.etag), (Some("v1"), &put.etag));
        let nothing = noted(Op::Get, Answer::Range(RangeResponse::default()));
        assert_eq!((nothing.status, nothing.value), (Status::Ok, None));
        let headless = noted(Op::Put, Answer::Put(PutResponse::default()));
        assert_eq!(headless.status, Status::Info);
    }

    #[test]
    fn a_refusal_changed_nothing_and_says_what_it_found() {
        let delete = |deleted| {
            let header = header(9);
            noted(
                Op::Delete,
                Answer::Delete(DeleteRangeResponse { header, deleted }),
            )
        };
        assert_eq!(delete(1).status, Status::Ok);
        assert_eq!(delete(0).error.as_deref(), Some(NOTHING_THERE));
        let response = Some(Response::ResponseRange(found(7)));
        let refused = TxnResponse {
            header: header(9),
            succeeded: false,
            responses: vec![super::super::api::ResponseOp { response }],
        };
        let refused = noted(Op::Cas, Answer::Txn(refused));
        assert!(refused.is_refused());
        assert_eq!(refused.etag, etag(7));
    }

    #[tokio::test]
    async fn what_was_never_sent_failed_and_what_got_lost_is_unknown() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        drop(port);
        let mut api = super::super::api_at(address).unwrap();
        let ask = Ask::of(
            &intent(Op::Put, Some(Datum::Text("v".to_owned()))),
            Reads::Linearizable,
        );
        let error = ask.unwrap().send(&mut api).await.unwrap_err();
        let mut record = Record::invoked(1, Op::Put, "registers/k", Level::Strong, 1);
        note_error(&mut record, &error);
        assert_eq!(record.status, Status::Fail, "{error:?}");
        note_error(
            &mut record,
            &Reply::unavailable("etcdserver: request timed out"),
        );
        assert_eq!(record.status, Status::Info);
        note_error(
            &mut record,
            &Reply::invalid_argument("etcdserver: key is not provided"),
        );
        assert_eq!(record.status, Status::Fail);
    }
}
