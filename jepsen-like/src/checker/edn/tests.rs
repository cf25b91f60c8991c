use super::*;
use crate::checker::testing::*;
use crate::history::events::Phase;

fn edn(records: impl IntoIterator<Item = Record>) -> Vec<String> {
    let mut out = Vec::new();
    let count = write(&history(records), None, &mut out).unwrap();
    let lines: Vec<String> = String::from_utf8(out)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    assert_eq!(lines.len(), count);
    lines
}

#[test]
fn registers_are_written_read_and_swapped() {
    let put = op(7, Op::Put, Strong, 10, 20).text("a").etag("1");
    let cas = op(7, Op::Cas, Strong, 30, 40).etag("2");
    let by_version = cas.clone().value(swap(Expect::Etag("1".into()), "b"));
    let refused = op(9, Op::Cas, Strong, 35, 45).value(swap(Expect::Absent, "c"));
    let mut get = op(9, Op::Get, Eventual, 50, 60).text("b");
    (get.region, get.node) = (Some("eu".into()), Some("eu-1".into()));
    let delete = op(7, Op::Delete, Session, 55, 65).etag("3");
    let lines = edn([put, by_version, refused.refused(), get, delete]);
    assert_eq!(
        lines,
        [
            r#"{:type :invoke, :f :write, :key "t/k", :value "a", :process 0, :time 10, :index 0, :level :strong}"#,
            r#"{:type :ok, :f :write, :key "t/k", :value "a", :process 0, :time 20, :index 1, :level :strong}"#,
            r#"{:type :invoke, :f :cas, :key "t/k", :value ["a" "b"], :process 0, :time 30, :index 2, :level :strong}"#,
            r#"{:type :invoke, :f :cas, :key "t/k", :value [nil "c"], :process 1, :time 35, :index 3, :level :strong}"#,
            r#"{:type :ok, :f :cas, :key "t/k", :value ["a" "b"], :process 0, :time 40, :index 4, :level :strong}"#,
            r#"{:type :fail, :f :cas, :key "t/k", :value [nil "c"], :process 1, :time 45, :index 5, :level :strong, :error "CONDITION_FAILED"}"#,
            r#"{:type :invoke, :f :read, :key "t/k", :value nil, :process 1, :time 50, :index 6, :level :eventual, :region "eu", :node "eu-1"}"#,
            r#"{:type :invoke, :f :write, :key "t/k", :value nil, :process 0, :time 55, :index 7, :level :session}"#,
            r#"{:type :ok, :f :read, :key "t/k", :value "b", :process 1, :time 60, :index 8, :level :eventual, :region "eu", :node "eu-1"}"#,
            r#"{:type :ok, :f :write, :key "t/k", :value nil, :process 0, :time 65, :index 9, :level :session}"#,
        ]
    );
    let strange = cas.value(swap(Expect::Etag("77".into()), "b"));
    assert!(edn([strange])[0].contains(r#":value [{:etag "77"} "b"]"#));
}

#[test]
fn counters_and_sets_have_the_functions_of_jepsens_tests() {
    let values = |record: Record| -> Vec<String> {
        let part = |line: &String| {
            let from = line.find(":f ").unwrap();
            line[from..line.find(", :process").unwrap()].to_owned()
        };
        edn([record]).iter().map(part).collect()
    };
    let one = |what| op(1, what, Eventual, 10, 20);
    assert_eq!(
        values(one(Op::Incr).int(-4)),
        [r#":f :add, :key "t/k", :value -4"#; 2]
    );
    assert_eq!(
        values(one(Op::Read).int(9)),
        [
            r#":f :read, :key "t/k", :value nil"#,
            r#":f :read, :key "t/k", :value 9"#
        ]
    );
    assert_eq!(
        values(one(Op::Remove).text("e")),
        [r#":f :remove, :key "t/k", :value "e""#; 2]
    );
    assert_eq!(
        values(one(Op::Contains).value(asked("e", false))),
        [
            r#":f :contains, :key "t/k", :value ["e" nil]"#,
            r#":f :contains, :key "t/k", :value ["e" false]"#
        ]
    );
    assert_eq!(
        values(one(Op::Members).value(members(&["f", "e", "f"])))[1],
        r##":f :read, :key "t/k", :value #{"e" "f"}"##
    );
    let absent = values(one(Op::Get));
    assert_eq!(absent, [r#":f :read, :key "t/k", :value nil"#; 2]);
    assert!(values(one(Op::Add).text("a\"\\\n\u{1}"))[0].ends_with(r#":value "a\"\\\n\u0001""#));
}

/// Type, process and time of each line.
fn runs(lines: &[String]) -> Vec<(String, String, String)> {
    let field = |line: &str, name: &str| {
        let from = line.find(name).unwrap() + name.len();
        let end = line[from..].find([',', '}']).unwrap();
        line[from..from + end].trim_matches([' ', ':']).to_owned()
    };
    let all = lines.iter().map(|line| {
        let [kind, process, time] = [":type", ":process", ":time"].map(|name| field(line, name));
        (kind, process, time)
    });
    all.collect()
}

fn run(kind: &str, process: &str, time: &str) -> (String, String, String) {
    (kind.into(), process.into(), time.into())
}

#[test]
fn a_process_goes_on_under_a_new_number_after_an_unknown_outcome() {
    let get = |process, at| op(process, Op::Get, Strong, at, at + 5);
    let lost = |at, value: &str| op(3, Op::Put, Strong, at, at + 5).text(value).info();
    let never = Record {
        complete_ns: None,
        ..lost(70, "c")
    };
    let lines = edn([
        get(5, 1),
        lost(10, "a"),
        get(3, 20),
        lost(30, "b"),
        get(3, 40),
        never,
    ]);
    assert_eq!(
        runs(&lines),
        [
            run("invoke", "1", "1"),
            run("ok", "1", "6"),
            run("invoke", "0", "10"),
            run("info", "0", "15"),
            run("invoke", "2", "20"),
            run("ok", "2", "25"),
            run("invoke", "2", "30"),
            run("info", "2", "35"),
            run("invoke", "4", "40"),
            run("ok", "4", "45"),
            run("invoke", "4", "70"),
            // Nobody gave up: it is open until the end.
            run("info", "4", "70"),
        ]
    );
}

#[test]
fn attempts_of_one_request_are_one_operation_of_its_own_process() {
    let put = |at| op(3, Op::Put, Session, at, at + 5).text("a").request("q");
    let between = op(3, Op::Get, Strong, 20, 25);
    let lines = edn([put(10).info(), between.clone(), put(30).etag("1")]);
    let expected = [
        run("invoke", "1", "10"),
        run("invoke", "0", "20"),
        run("ok", "0", "25"),
        run("ok", "1", "35"),
    ];
    assert_eq!(runs(&lines), expected);
    let lines = edn([put(10).info(), between, put(30).info()]);
    assert_eq!(runs(&lines)[3], run("info", "1", "35"));
}

#[test]
fn faults_are_of_the_nemesis_and_what_the_harness_reads_is_left_out() {
    let event = FaultEvent {
        nemesis: "region-isolation".into(),
        phase: Phase::Begin,
        action: None,
        isolated: None,
        majority: None,
        connected: Vec::new(),
        impaired: Vec::new(),
    };
    let words = Record {
        value: Some(Datum::Text("Heal".into())),
        ..Record::event(1, Op::Nemesis, 9)
    };
    let end = last("eu", Some(Datum::Text("a".into())));
    let lines = edn([event.record(5, 7), words, end]);
    let fault = r#"{:type :info, :f :region-isolation, :value "{\"nemesis\":\"region-isolation\",\"phase\":\"begin\"}", :process :nemesis, :time 5, :index 0}"#;
    assert_eq!(lines[0], fault);
    assert_eq!(
        lines[3],
        r#"{:type :info, :f :fault, :value "Heal", :process :nemesis, :time 9, :index 3}"#
    );
    assert_eq!(lines.len(), 4);
}

#[test]
fn one_key_can_be_picked_and_a_process_that_does_two_things_is_refused() {
    let put = op(1, Op::Put, Strong, 10, 20).text("a").etag("1");
    let other = op(1, Op::Put, Strong, 30, 40)
        .text("a")
        .etag("1")
        .key("t/x");
    let mut out = Vec::new();
    let both = history([put.clone(), other.clone()]);
    assert_eq!(write(&both, Some("t/x"), &mut out).unwrap(), 2);
    assert!(String::from_utf8(out).unwrap().contains(":time 30"));
    let overlapping = Record {
        invoke_ns: 15,
        ..other
    };
    let error = write(&history([put, overlapping]), None, Vec::new()).unwrap_err();
    assert!(
        error.to_string().contains("line 2 begins before"),
        "{error}"
    );
}

#[test]
fn reads_of_several_are_reads_of_each_by_processes_of_their_own() {
    let rows = |text: &str| -> Datum { serde_json::from_str(text).unwrap() };
    let batch = op(7, Op::BatchGet, Strong, 10, 20).key("t/");
    let batch = batch.value(rows(r#"{"t/a": {"value": "x"}, "t/b": {}}"#));
    let after = op(7, Op::Get, Strong, 30, 40).key("t/b");
    let failed = op(9, Op::Scan, Session, 50, 60).key("t/").failed();
    assert_eq!(
        edn([batch, after, failed]),
        [
            r#"{:type :invoke, :f :read, :key "t/a", :value nil, :process 0, :time 10, :index 0, :level :strong}"#,
            r#"{:type :invoke, :f :read, :key "t/b", :value nil, :process 1, :time 10, :index 1, :level :strong}"#,
            r#"{:type :ok, :f :read, :key "t/a", :value "x", :process 0, :time 20, :index 2, :level :strong}"#,
            r#"{:type :ok, :f :read, :key "t/b", :value nil, :process 1, :time 20, :index 3, :level :strong}"#,
            r#"{:type :invoke, :f :read, :key "t/b", :value nil, :process 0, :time 30, :index 4, :level :strong}"#,
            r#"{:type :ok, :f :read, :key "t/b", :value nil, :process 0, :time 40, :index 5, :level :strong}"#,
        ]
    );
}
