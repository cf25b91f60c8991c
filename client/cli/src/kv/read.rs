//! `get` and `contains`.

use std::io::{self, Write as _};

use hansa_client::Value;
use serde_json::{Map, json};

use crate::args::{ElementArgs, KeyArgs};
use crate::exit::{Code, Failure, told};
use crate::output::{put_bytes, put_value, receipt};

use super::{Work, call};

/// The bytes of a register, or a counter's total.
pub(super) async fn get(work: &Work<'_>, args: KeyArgs) -> Result<Code, Failure> {
    let key = work.key(&args)?;
    let got = call!(work, get(&args.keyspace, key.clone())).await?;
    work.output.explain(work.options.explain, &got.receipt);
    let found = got.found.value.is_some();
    let printed = if work.output.is_json() {
        let mut object = Map::new();
        object.insert("keyspace".to_owned(), args.keyspace.into());
        put_bytes(&mut object, "key", &key.partition);
        if !key.sort.is_empty() {
            put_bytes(&mut object, "sort", &key.sort);
        }
        object.insert("found".to_owned(), found.into());
        if let Some(value) = &got.found.value {
            put_value(&mut object, value);
        }
        object.insert("etag".to_owned(), got.found.etag.to_string().into());
        object.insert("receipt".to_owned(), receipt(&got.receipt));
        work.output.json(&object.into())
    } else {
        match got.found.value {
            Some(Value::Bytes(bytes)) => work.output.value(&work.encoding.encode(&bytes)),
            Some(Value::Total(total)) => work.output.value(format!("{total}\n").as_bytes()),
            Some(Value::Member) => work.output.value(b"member\n"),
            None => {
                // The exit code says it, too.
                let _ = writeln!(io::stderr(), "not found");
                Ok(())
            }
        }
    };
    told(printed, if found { Code::Ok } else { Code::No })
}

/// `yes` or `no`, and the exit code.
pub(super) async fn contains(work: &Work<'_>, args: ElementArgs) -> Result<Code, Failure> {
    let key = work.key(&args.key)?;
    let element = work.bytes(&args.element)?;
    let reply = call!(work, contains(&args.key.keyspace, key, element)).await?;
    work.output.explain(work.options.explain, &reply.receipt);
    let printed = if work.output.is_json() {
        let receipt = receipt(&reply.receipt);
        let shown = json!({"member": reply.member, "receipt": receipt});
        work.output.json(&shown)
    } else {
        work.output
            .value(if reply.member { b"yes\n" } else { b"no\n" })
    };
    told(printed, if reply.member { Code::Ok } else { Code::No })
}
