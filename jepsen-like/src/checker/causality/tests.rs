use crate::checker::testing::*;
use crate::checker::{
    Verdict, monotonic_reads, monotonic_writes, read_your_writes, writes_follow_reads,
};
use crate::history::{History, Op, Record};

const UNIT: i64 = 1 << super::index::LOW_BITS;

fn put(session: &str, key: &str, value: &str, at: u64) -> Record {
    op(1, Op::Put, Session, at, at + 1)
        .session(session)
        .key(key)
        .text(value)
        .etag(&format!("{at:03}"))
}

/// A read of a value under the version that a put at time `version` got.
fn get(session: &str, key: &str, value: &str, version: u64, at: u64) -> Record {
    op(2, Op::Get, Session, at, at + 1)
        .session(session)
        .key(key)
        .text(value)
        .etag(&format!("{version:03}"))
}

fn nothing(session: &str, key: &str, at: u64) -> Record {
    op(2, Op::Get, Session, at, at + 1)
        .session(session)
        .key(key)
}

fn verdicts(history: &History) -> [Verdict; 4] {
    [
        read_your_writes::check(history),
        monotonic_reads::check(history),
        monotonic_writes::check(history),
        writes_follow_reads::check(history),
    ]
}

/// Exactly the guarantee `which` is broken, by `lines`.
#[track_caller]
fn broken(records: &[Record], which: usize, part: &str, lines: &[usize]) {
    for (at, verdict) in verdicts(&history(records.to_vec())).iter().enumerate() {
        match at == which {
            true => assert_violation(verdict, part, lines),
            false => assert_eq!(*verdict, Verdict::Ok, "guarantee {at}"),
        }
    }
}

#[track_caller]
fn kept(records: &[Record]) {
    for verdict in verdicts(&history(records.to_vec())) {
        assert_eq!(verdict, Verdict::Ok);
    }
}

#[test]
fn read_your_writes_of_registers() {
    let write = put("s", "t/x", "a", 10);
    broken(
        &[write.clone(), nothing("s", "t/x", 20)],
        0,
        "session s: version none is below version 010, which the session itself wrote before",
        &[0, 1],
    );
    broken(
        &[
            put("o", "t/x", "z", 1),
            write.clone(),
            get("s", "t/x", "z", 1, 20),
        ],
        0,
        "version 001 is below version 010",
        &[1, 2],
    );
    kept(&[
        write.clone(),
        get("s", "t/x", "a", 10, 20),
        nothing("o", "t/x", 30),
    ]);
    // Somebody else's later write is as good, and a write of unknown outcome promises nothing.
    kept(&[
        write.clone(),
        put("o", "t/x", "b", 15),
        get("s", "t/x", "b", 15, 20),
    ]);
    kept(&[write.clone().info(), nothing("s", "t/x", 20)]);
    // Nothing found may be a delete, unless its version says which.
    let delete = op(3, Op::Delete, Eventual, 12, 13).key("t/x").etag("012");
    kept(&[write.clone(), delete.clone(), nothing("s", "t/x", 20)]);
    kept(&[
        write.clone(),
        delete.clone(),
        nothing("s", "t/x", 20).etag("012"),
    ]);
    let early = delete.etag("005");
    broken(
        &[write, early, nothing("s", "t/x", 20).etag("005")],
        0,
        "below version 010",
        &[0, 2],
    );
}

#[test]
fn eventual_operations_are_bound_only_by_their_token() {
    let mut write = put("s", "t/x", "a", 10);
    write.level = Some(Eventual);
    let read = nothing("s", "t/x", 20);
    kept(&[write.clone(), read.clone()]);
    write.token_out = Some("t".into());
    broken(&[write.clone(), read.clone()], 0, "wrote before", &[0, 1]);
    kept(&[
        write,
        Record {
            level: Some(Eventual),
            ..read
        },
    ]);
}

#[test]
fn monotonic_reads_across_nodes() {
    let (a, b) = (put("w", "t/x", "a", 10), put("w", "t/x", "b", 20));
    let first = get("s", "t/x", "b", 20, 30);
    broken(
        &[
            a.clone(),
            b.clone(),
            first.clone(),
            get("s", "t/x", "a", 10, 40),
        ],
        1,
        "version 010 is below version 020, which the session itself read before",
        &[2, 3],
    );
    // Reads in flight together are not ordered.
    let mut together = get("s", "t/x", "a", 10, 25);
    together.complete_ns = Some(50);
    kept(&[a, b, first, together]);
}

#[test]
fn monotonic_writes_are_seen_in_order() {
    let (x, y) = (put("w", "t/x", "a", 10), put("w", "t/y", "b", 20));
    broken(
        &[
            x.clone(),
            y.clone(),
            get("s", "t/y", "b", 20, 30),
            nothing("s", "t/x", 40),
        ],
        2,
        "session s: version none is below version 010, which session w wrote before a write that this session",
        &[0, 3],
    );
    kept(&[
        x.clone(),
        y.clone(),
        nothing("s", "t/x", 30),
        get("s", "t/y", "b", 20, 40),
    ]);
    kept(&[
        x.clone(),
        y,
        get("s", "t/x", "a", 10, 30),
        nothing("s", "t/y", 40),
    ]);
    broken(
        &[x, put("w", "t/x", "c", 20).etag("005")],
        2,
        "version 005 is below version 010",
        &[0, 1],
    );
}

#[test]
fn writes_follow_reads_through_other_sessions() {
    let chain = [
        put("u", "t/x", "a", 10),
        get("v", "t/x", "a", 10, 20),
        put("v", "t/y", "b", 30),
        get("s", "t/y", "b", 30, 40),
    ];
    let with = |record| chain.iter().cloned().chain([record]).collect::<Vec<_>>();
    broken(
        &with(nothing("s", "t/x", 50)),
        3,
        "which session v read before",
        &[1, 4],
    );
    kept(&with(get("s", "t/x", "a", 10, 50)));
    // A third session that reads what the second wrote inherits all of it.
    let mut long = with(put("s", "t/z", "c", 50));
    long.push(get("r", "t/z", "c", 50, 60));
    kept(&long);
    long.push(nothing("r", "t/x", 70));
    broken(&long, 3, "below version 010", &[1, 6]);
    // A write of unknown outcome passes on what its session knew, once it is seen.
    long[2] = long[2].clone().info();
    broken(&long, 3, "below version 010", &[1, 6]);
    let low = [
        chain[0].clone(),
        chain[1].clone(),
        put("v", "t/x", "b", 30).etag("005"),
    ];
    broken(
        &low,
        3,
        "version 005 is below version 010, which the session itself read",
        &[1, 2],
    );
}

#[test]
fn a_compare_and_set_reads_too() {
    let cas = op(1, Op::Cas, Strong, 30, 31).session("s").key("t/x");
    let cas = cas
        .value(swap(crate::history::Expect::Value("a".into()), "n"))
        .etag("030");
    let (a, b) = (put("o", "t/x", "a", 5), put("s", "t/x", "b", 10));
    broken(
        &[a.clone(), b.clone(), cas.clone()],
        0,
        "version 005 is below version 010",
        &[1, 2],
    );
    broken(
        &[a.clone(), b.clone(), cas.clone().refused().etag("005")],
        0,
        "version 005",
        &[1, 2],
    );
    kept(&[a, b, cas.refused().etag("010")]);
}

#[test]
fn counters_by_mask_and_strong_part() {
    let incr = |session, amount, level, at| {
        op(1, Op::Incr, level, at, at + 1)
            .session(session)
            .int(amount)
    };
    let read = |session, total, at| {
        op(2, Op::Read, Session, at, at + 1)
            .session(session)
            .int(total)
    };
    broken(
        &[
            incr("s", 4, Session, 1),
            incr("o", 8, Session, 3),
            read("s", 8, 10),
        ],
        0,
        "the total lacks increments 4",
        &[0, 2],
    );
    broken(
        &[incr("o", 4, Session, 1), read("s", 4, 10), read("s", 0, 20)],
        1,
        "the total lacks increments 4",
        &[1, 2],
    );
    broken(
        &[
            incr("s", UNIT, Strong, 1),
            incr("s", UNIT, Strong, 5),
            read("s", UNIT, 10),
        ],
        0,
        "the strong part 1 is below 2",
        &[1, 2],
    );
    broken(
        &[
            incr("o", 4, Session, 1),
            incr("o", 8, Session, 5),
            read("s", 8, 10),
            read("s", 8, 20),
        ],
        2,
        "lacks increments 4",
        &[0, 3],
    );
    kept(&[
        incr("s", 4, Session, 1),
        incr("s", 2 * UNIT, Strong, 5),
        read("s", 2 * UNIT + 4, 10),
    ]);
    let down = incr("o", -UNIT, Strong, 7);
    kept(&[incr("s", UNIT, Strong, 1), down, read("s", 0, 10)]);
}

#[test]
fn set_elements_go_missing_only_by_a_removal() {
    let add = |session, at| {
        op(1, Op::Add, Session, at, at + 1)
            .session(session)
            .text("e")
    };
    let remove = |at| op(3, Op::Remove, Eventual, at, at + 1).text("e");
    let list = |elements: &[&str], at| {
        op(2, Op::Members, Session, at, at + 1)
            .session("s")
            .value(members(elements))
    };
    let has = |present, at| {
        op(2, Op::Contains, Session, at, at + 1)
            .session("s")
            .value(asked("e", present))
    };
    broken(
        &[add("s", 1), list(&[], 10)],
        0,
        "element e is missing",
        &[0, 1],
    );
    broken(
        &[add("o", 1), has(true, 10), list(&[], 20)],
        1,
        "element e is missing",
        &[1, 2],
    );
    broken(
        &[remove(1), add("s", 5), has(false, 10)],
        0,
        "element e is missing",
        &[1, 2],
    );
    kept(&[add("s", 1), remove(5), has(false, 10)]);
    kept(&[remove(1).info(), add("s", 5), has(false, 10)]);
    kept(&[add("s", 1), list(&["e"], 10), has(true, 20)]);
}

/// Sessions on one plain store, so everything holds; reads that go back are caught.
#[test]
fn random_sessions_pass_and_reads_that_go_back_do_not() {
    let mut rng = Rng(3);
    let mut caught = 0;
    for round in 0..200 {
        let mut store = [None::<u64>; 4];
        let mut records = Vec::new();
        for n in 0..60 {
            let (session, key) = (rng.below(5), rng.below(4));
            let (name, place) = (format!("s{session}"), format!("t/{key}"));
            let at = 10 + 2 * n;
            records.push(match (rng.chance(40), store[key as usize]) {
                (true, _) => {
                    store[key as usize] = Some(at);
                    put(&name, &place, &format!("w{at}"), at)
                }
                (false, Some(seen)) => get(&name, &place, &format!("w{seen}"), seen, at),
                (false, None) => nothing(&name, &place, at),
            });
        }
        kept(&records);
        // The last read of something that its session had written or read now shows nothing.
        let stale = records.iter().enumerate().rfind(|(at, read)| {
            let before = records[..*at].iter();
            let mut own = before.filter(|r| r.session == read.session && r.key == read.key);
            read.op == Op::Get && own.any(|r| r.etag.is_some())
        });
        let Some((at, _)) = stale else { continue };
        records[at].value = None;
        records[at].etag = None;
        let [ryw, mr, ..] = verdicts(&history(records));
        assert!(!ryw.is_ok() || !mr.is_ok(), "round {round}");
        caught += 1;
    }
    assert!(caught > 190, "{caught}");
}

#[test]
fn a_removal_takes_away_every_add_that_its_session_knew() {
    let on = |session: &str, what, at| {
        let (number, element) = (if session == "a" { 1 } else { 2 }, "e");
        op(number, what, Session, at, at + 1)
            .session(session)
            .text(element)
    };
    let has = |session: &str, present, at| {
        op(1, Op::Contains, Session, at, at + 1)
            .session(session)
            .value(asked("e", present))
    };
    let (add, remove) = (on("a", Op::Add, 10), on("a", Op::Remove, 20));
    let said = "element e is there";
    kept(&[add.clone(), remove.clone(), has("a", false, 30)]);
    broken(
        &[add.clone(), remove.clone(), has("a", true, 30)],
        0,
        said,
        &[1, 2],
    );
    // An add that the remover did not know explains the element: one of its own later, one of another session.
    let again = on("a", Op::Add, 25);
    kept(&[add.clone(), remove.clone(), again, has("a", true, 30)]);
    let strange = on("b", Op::Add, 15);
    kept(&[add.clone(), strange, remove.clone(), has("a", true, 30)]);
    // A reader that does not cover the removal may still see it.
    kept(&[add.clone(), remove.clone(), has("b", true, 30)]);
    // What the remover read, it knew.
    let theirs = [on("b", Op::Add, 10), has("a", true, 12), remove.clone()];
    broken(
        &[&theirs[..], &[has("a", true, 30)]].concat(),
        0,
        said,
        &[2, 3],
    );
    // A lost remove or an unknown one proves nothing.
    kept(&[add, remove.info(), has("a", true, 30)]);
}
