use super::*;

fn full() -> Record {
    Record {
        run: "r".into(),
        seed: u64::MAX,
        session: Some("s".into()),
        region: Some("eu".into()),
        node: Some("eu-1".into()),
        value: Some(Datum::Swap(Swap {
            expect: Expect::Etag("0a".into()),
            new: "b".into(),
        })),
        complete_ns: Some(9),
        status: Status::Ok,
        error: Some("E".into()),
        etag: Some("0b".into()),
        dot: Some("n:1".into()),
        seen: vec!["n:0".into()],
        token_in: Some("t".into()),
        token_out: Some("u".into()),
        request_id: Some("q".into()),
        receipt: Some(serde_json::json!({"level": "strong"})),
        ack_regions: Some(2),
        extra: BTreeMap::from([("future".to_owned(), serde_json::json!([1, 2]))]),
        ..Record::invoked(3, Op::Cas, "carts/1", Level::Strong, 5)
    }
}

#[test]
fn every_shape_survives_a_round_trip() {
    let values = [
        Datum::Integer(-4),
        Datum::Text("5".into()),
        Datum::Members(vec!["a".into()]),
        Datum::Members(vec![]),
        Datum::Swap(Swap {
            expect: Expect::Absent,
            new: "n".into(),
        }),
        Datum::Swap(Swap {
            expect: Expect::Value("o".into()),
            new: "n".into(),
        }),
        Datum::Membership(Membership {
            element: "e".into(),
            present: Some(false),
        }),
        Datum::Membership(Membership {
            element: "e".into(),
            present: None,
        }),
        Datum::Rows(BTreeMap::new()),
        Datum::Rows(BTreeMap::from([
            ("t/a".into(), Held::default()),
            (
                "t/b/c".into(),
                Held {
                    value: Some("v".into()),
                    etag: Some("01".into()),
                },
            ),
        ])),
        Datum::Json(serde_json::json!({"cut": ["us-east", "eu-central"]})),
        Datum::Json(serde_json::json!({"memory": 1, "disk": 2, "files": 3})),
    ];
    let mut records = vec![
        full(),
        Record::event(0, Op::Nemesis, 1),
        Record::event(0, Op::Usage, 1),
    ];
    records.extend(values.into_iter().map(|value| Record {
        value: Some(value),
        ..Record::event(1, Op::Final, 2)
    }));
    let history = History { records };
    let mut bytes = Vec::new();
    history.write(&mut bytes).unwrap();
    assert_eq!(
        bytes.iter().filter(|b| **b == b'\n').count(),
        history.records.len()
    );
    assert_eq!(History::read(bytes.as_slice()).unwrap(), history);
}

#[test]
fn empty_fields_are_omitted_and_names_are_stable() {
    let line = serde_json::to_string(&Record::event(7, Op::Nemesis, 1)).unwrap();
    assert_eq!(
        line,
        r#"{"run":"","seed":0,"process":7,"op":"nemesis","invoke_ns":1,"status":"info"}"#
    );
    let line = serde_json::to_string(&full()).unwrap();
    for name in [
        "run",
        "seed",
        "process",
        "session",
        "region",
        "node",
        "op",
        "key",
        "value",
        "level",
        "ack_regions",
        "invoke_ns",
        "complete_ns",
        "status",
        "error",
        "etag",
        "dot",
        "seen",
        "token_in",
        "token_out",
        "request_id",
        "receipt",
        "future",
    ] {
        assert!(line.contains(&format!("\"{name}\":")), "{name} in {line}");
    }
}

#[test]
fn a_bad_line_is_named() {
    let good = serde_json::to_string(&full()).unwrap();
    for bad in [
        "{\"run\":",
        &good.replace("\"cas\"", "\"cas2\""),
        &good.replace("\"strong\",\"ack", "\"sturdy\",\"ack"),
        &good.replace("\"status\":\"ok\"", "\"status\":\"fine\""),
    ] {
        let text = format!("{good}\n\n{bad}\n");
        let error = History::read(text.as_bytes()).unwrap_err().to_string();
        assert!(error.starts_with("history line 3:"), "{error} for {bad}");
    }
}

#[test]
fn reads_of_several_name_what_they_tell_of() {
    let line = r#"{"run":"r","seed":1,"process":1,"op":"batch_get","key":"t/","value":{"t/a":{},"t/b":{"value":"v"}},
        "level":"session","invoke_ns":1,"status":"info"}"#;
    let batch: Record = serde_json::from_str(line).unwrap();
    assert!(batch.tells_of("t/a") && batch.tells_of("t/b") && !batch.tells_of("t/c"));
    let scan = Record::invoked(1, Op::Scan, "t/k/", Level::Session, 1);
    assert!(scan.tells_of("t/k/a") && !scan.tells_of("t/k") && !scan.tells_of("t/kk/a"));
    let get = Record::invoked(1, Op::Get, "t/k", Level::Session, 1);
    assert!(get.tells_of("t/k") && !get.tells_of("t/k/a"));
}
