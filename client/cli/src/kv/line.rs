//! One line of an import or an export: a write as a JSON object.

use hansa_client::{Bytes, Key, Row, Value};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use crate::output::put_bytes;
use crate::text::from_base64;

/// A line as written. `home` says where the demo writes it.
#[derive(Deserialize, Debug)]
#[serde(deny_unknown_fields)]
struct Line {
    keyspace: String,
    key: Option<String>,
    key_base64: Option<String>,
    sort: Option<String>,
    sort_base64: Option<String>,
    op: String,
    value: Option<String>,
    value_base64: Option<String>,
    element: Option<String>,
    element_base64: Option<String>,
    amount: Option<i64>,
    #[serde(default, rename = "home")]
    _home: Option<String>,
}

/// What a line does to its row.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Change {
    Put(Bytes),
    Add(Bytes),
    Increment(i64),
}

/// A line understood.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Write {
    pub(super) keyspace: String,
    pub(super) key: Key,
    pub(super) change: Change,
}

/// Reads a line, or says what is wrong with it.
pub(super) fn read(text: &str) -> Result<Write, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| json_error(&error))?;
    let key = bytes("key", line.key, line.key_base64)?.ok_or("`key` is missing")?;
    let sort = bytes("sort", line.sort, line.sort_base64)?.unwrap_or_default();
    let value = bytes("value", line.value, line.value_base64)?;
    let element = bytes("element", line.element, line.element_base64)?;
    let change = match (line.op.as_str(), value, element, line.amount) {
        ("put", Some(value), None, None) => Change::Put(value),
        ("add", None, Some(element), None) => Change::Add(element),
        ("incr", None, None, Some(amount)) => Change::Increment(amount),
        ("put" | "add" | "incr", ..) => {
            return Err("`put` takes `value`, `add` takes `element`, `incr` takes `amount`".into());
        }
        (op, ..) => return Err(format!("`op` is put, add or incr, not `{op}`")),
    };
    Ok(Write {
        keyspace: line.keyspace,
        key: Key::from((key, sort)),
        change,
    })
}

/// Without the number of the line inside of the text: it is always 1, and not the file's.
fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(what) => format!("{what}, column {}", error.column()),
        None => text,
    }
}

fn bytes(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Bytes>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("`{name}` and `{name}_base64`: give one of them")),
        (Some(text), None) => Ok(Some(Bytes::from(text))),
        (None, Some(text)) => match from_base64(&text) {
            Some(bytes) => Ok(Some(Bytes::from(bytes))),
            None => Err(format!("`{name}_base64` is not base64")),
        },
        (None, None) => Ok(None),
    }
}

/// The write that makes a row.
pub(super) fn write(keyspace: &str, row: &Row) -> Json {
    let mut object = Map::new();
    object.insert("keyspace".to_owned(), keyspace.into());
    put_bytes(&mut object, "key", &row.key.partition);
    if !row.key.sort.is_empty() {
        put_bytes(&mut object, "sort", &row.key.sort);
    }
    let op = match &row.value {
        Value::Bytes(value) => {
            put_bytes(&mut object, "value", value);
            "put"
        }
        Value::Total(total) => {
            object.insert("amount".to_owned(), (*total).into());
            "incr"
        }
        Value::Member => {
            put_bytes(
                &mut object,
                "element",
                row.element.as_deref().unwrap_or_default(),
            );
            "add"
        }
    };
    object.insert("op".to_owned(), op.into());
    object.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hansa_client::Etag;

    #[test]
    fn rows_come_back_from_their_lines() {
        for value in [
            Value::Bytes(Bytes::from_static(b"\xff\n")),
            Value::Total(-3),
            Value::Member,
        ] {
            let member = value == Value::Member;
            let row = Row {
                key: Key::from((b"k\xfe", "s")),
                element: member.then(|| Bytes::from_static(b"\x00e")),
                value,
                etag: Etag::default(),
            };
            let back = read(&write("ks", &row).to_string()).unwrap();
            assert_eq!((back.keyspace.as_str(), &back.key), ("ks", &row.key));
            match (back.change, &row.value) {
                (Change::Put(bytes), Value::Bytes(value)) => assert_eq!(bytes, value),
                (Change::Increment(by), Value::Total(total)) => assert_eq!(by, *total),
                (Change::Add(element), Value::Member) => {
                    assert_eq!(Some(element), row.element);
                }
                (change, value) => panic!("{change:?} for {value:?}"),
            }
        }
    }

    #[test]
    fn wrong_lines_are_told_apart() {
        for (line, part) in [
            ("{", "EOF"),
            (
                r#"{"keyspace":"p","op":"put","value":"v"}"#,
                "`key` is missing",
            ),
            (r#"{"keyspace":"p","key":"k","op":"put"}"#, "takes `value`"),
            (
                r#"{"keyspace":"p","key":"k","op":"cas","value":"v"}"#,
                "not `cas`",
            ),
            (
                r#"{"keyspace":"p","key":"k","op":"put","value":"v","ttl":1}"#,
                "unknown field",
            ),
            (
                r#"{"keyspace":"p","key_base64":"?","op":"put","value":"v"}"#,
                "not base64",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
            assert!(!error.contains("line 1"), "{line}: {error}");
        }
    }
}
