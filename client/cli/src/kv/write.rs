//! `put`, `delete`, `cas`, `incr`, `add` and `remove`.

use hansa_client::{Etag, Expect, Written};
use serde_json::json;

use crate::args::{ElementArgs, KeyArgs, ValueArgs};
use crate::exit::{Code, Failure, told};
use crate::output::receipt;

use super::{Work, call};

pub(super) async fn put(
    work: &Work<'_>,
    args: KeyArgs,
    value: ValueArgs,
    ack_regions: u8,
) -> Result<Code, Failure> {
    let (key, value) = (work.key(&args)?, work.value(&value)?);
    let call = call!(work, put(&args.keyspace, key, value));
    done(work, &call.ack_regions(ack_regions).await?)
}

pub(super) async fn delete(work: &Work<'_>, args: KeyArgs) -> Result<Code, Failure> {
    let key = work.key(&args)?;
    done(work, &call!(work, delete(&args.keyspace, key)).await?)
}

pub(super) fn expect(
    work: &Work<'_>,
    absent: bool,
    etag: Option<Etag>,
    value: Option<String>,
) -> Result<Expect, Failure> {
    match (absent, etag, value) {
        (true, None, None) => Ok(Expect::Absent),
        (false, Some(etag), None) => Ok(Expect::Etag(etag)),
        (false, None, Some(value)) => Ok(Expect::Value(work.bytes(&value)?)),
        _ => Err(Failure::local(
            "say what to expect: one of --if-absent, --if-etag and --if-value",
        )),
    }
}

pub(super) async fn cas(
    work: &Work<'_>,
    args: KeyArgs,
    value: ValueArgs,
    delete: bool,
    expect: Expect,
) -> Result<Code, Failure> {
    let key = work.key(&args)?;
    let value = if delete {
        None
    } else {
        Some(work.value(&value)?)
    };
    done(
        work,
        &call!(work, cas(&args.keyspace, key, expect, value)).await?,
    )
}

pub(super) async fn increment(work: &Work<'_>, args: KeyArgs, by: i64) -> Result<Code, Failure> {
    let key = work.key(&args)?;
    done(
        work,
        &call!(work, increment(&args.keyspace, key, by)).await?,
    )
}

pub(super) async fn add(work: &Work<'_>, args: ElementArgs) -> Result<Code, Failure> {
    let (key, element) = (work.key(&args.key)?, work.bytes(&args.element)?);
    done(
        work,
        &call!(work, add(&args.key.keyspace, key, element)).await?,
    )
}

pub(super) async fn remove(work: &Work<'_>, args: ElementArgs) -> Result<Code, Failure> {
    let (key, element) = (work.key(&args.key)?, work.bytes(&args.element)?);
    done(
        work,
        &call!(work, remove(&args.key.keyspace, key, element)).await?,
    )
}

/// A counter's new value, else the row's new version.
fn done(work: &Work<'_>, written: &Written) -> Result<Code, Failure> {
    work.output.explain(work.options.explain, &written.receipt);
    let printed = if work.output.is_json() {
        let mut shown = json!({
            "etag": written.etag.to_string(),
            "receipt": receipt(&written.receipt),
        });
        if let Some(total) = written.total {
            shown["total"] = total.into();
        }
        work.output.json(&shown)
    } else {
        let line = match written.total {
            Some(total) => format!("{total}\n"),
            None => format!("ok {}\n", written.etag),
        };
        work.output.value(line.as_bytes())
    };
    told(printed.map_err(Failure::afterwards), Code::Ok)
}
