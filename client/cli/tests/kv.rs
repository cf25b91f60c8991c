//! The binary against a pretended cluster: arguments, output, exit codes.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use hansa_client::fake::{Cluster, Fault};
use hansa_client::{Applied, Consistency};
use serde_json::Value as Json;

/// A pretended cluster and a folder.
struct World {
    cluster: Cluster,
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> World {
        World {
            cluster: Cluster::start(&["us-east", "eu-central"]).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Waits until the cluster has seen so many requests; fails when the command that sends them ends before.
    fn wait_for(&self, requests: usize, sender: &mut Child) {
        while self.cluster.seen().len() < requests {
            let ended = sender.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} before request {requests}");
            std::thread::yield_now();
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = hansa(self.folder.path());
        let endpoints: Vec<String> = self
            .cluster
            .nodes
            .iter()
            .map(|node| format!("{}={}", node.region, node.url()))
            .collect();
        command
            .env("HANSA_ENDPOINTS", endpoints.join(","))
            .env("HANSA_REGION", "eu-central")
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn fed(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        child.wait_with_output().unwrap()
    }

    fn refuse(&self, reason: &'static str, applied: Applied) {
        self.cluster.nodes[1].fault(Fault::Refuse {
            reason,
            code: 14,
            applied,
            retry_after_ms: 0,
        });
    }
}

fn hansa(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hansa"));
    command.env_clear().current_dir(folder);
    command
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> &str {
    str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    str::from_utf8(&output.stderr).unwrap()
}

fn json(text: &str) -> Json {
    serde_json::from_str(text).unwrap()
}

#[test]
fn writes_and_reads_of_every_type() {
    let world = World::new();
    assert_eq!(
        code(&world.run(&["kv", "put", "profiles", "alice", "Visby"])),
        0
    );
    assert_eq!(
        out(&world.run(&["kv", "get", "profiles", "alice"])),
        "Visby"
    );
    assert_eq!(out(&world.run(&["kv", "incr", "stock", "TEA", "5"])), "5\n");
    assert_eq!(
        out(&world.run(&["kv", "incr", "stock", "TEA", "-2"])),
        "3\n"
    );
    assert_eq!(out(&world.run(&["kv", "get", "stock", "TEA"])), "3\n");
    world.run(&["kv", "incr", "counters", "views", "--sort", "2026"]);
    assert_eq!(
        out(&world.run(&["kv", "get", "counters", "views", "2026"])),
        "1\n"
    );
    world.run(&["kv", "add", "carts", "alice", "TEA"]);
    assert_eq!(
        code(&world.run(&["kv", "contains", "carts", "alice", "TEA"])),
        0
    );
    world.run(&["kv", "remove", "carts", "alice", "TEA"]);
    let gone = world.run(&["kv", "contains", "carts", "alice", "TEA"]);
    assert_eq!((code(&gone), out(&gone)), (1, "no\n"));
    world.run(&["kv", "delete", "profiles", "alice"]);
    let gone = world.run(&["kv", "get", "profiles", "alice"]);
    assert_eq!(
        (code(&gone), out(&gone), err(&gone)),
        (1, "", "not found\n")
    );
}

#[test]
fn bytes_stay_what_they_are() {
    let world = World::new();
    let value = [0, 255, 10, 13, 128];
    assert_eq!(
        code(&world.fed(&["kv", "put", "profiles", "k", "-"], &value)),
        0
    );
    assert_eq!(world.run(&["kv", "get", "profiles", "k"]).stdout, value);
    let file = world.folder.path().join("value");
    fs::write(&file, value).unwrap();
    world.run(&["kv", "put", "profiles", "f", "--file", "value"]);
    assert_eq!(world.run(&["kv", "get", "profiles", "f"]).stdout, value);
    world.run(&["kv", "--hex", "put", "profiles", "00ff", "0aff"]);
    assert_eq!(
        out(&world.run(&["kv", "get", "profiles", "00ff", "--hex"])),
        "0aff"
    );
    assert_eq!(
        out(&world.run(&["kv", "get", "profiles", "AP8=", "--base64"])),
        "Cv8="
    );
    let shown = world.run(&["kv", "get", "profiles", "00ff", "--hex", "-o", "jsonl"]);
    let shown = json(out(&shown));
    assert_eq!(
        (&shown["key_base64"], &shown["value_base64"]),
        (&"AP8=".into(), &"Cv8=".into())
    );
}

#[test]
fn compare_and_set_tells_a_failed_condition_by_its_exit_code() {
    let world = World::new();
    let first = world.run(&["kv", "cas", "profiles", "k", "1", "--if-absent"]);
    assert_eq!(code(&first), 0, "{}", err(&first));
    let etag = out(&first).trim().strip_prefix("ok ").unwrap();
    let again = world.run(&["kv", "cas", "profiles", "k", "1", "--if-absent"]);
    assert_eq!(code(&again), 1);
    assert!(err(&again).contains("CONDITION_FAILED"), "{}", err(&again));
    assert!(
        err(&again).contains(&format!("current etag: {etag}")),
        "{}",
        err(&again)
    );
    assert_eq!(
        code(&world.run(&["kv", "cas", "profiles", "k", "2", "--if-etag", etag])),
        0
    );
    assert_eq!(
        code(&world.run(&["kv", "cas", "profiles", "k", "--delete", "--if-value", "2"])),
        0
    );
    assert_eq!(code(&world.run(&["kv", "get", "profiles", "k"])), 1);
    let seen = world.cluster.seen();
    assert!(
        seen[..4]
            .iter()
            .all(|seen| seen.level == Consistency::Strong)
    );
}

#[test]
fn standard_input_is_one_of_the_values_of_a_compare_and_set() {
    let world = World::new();
    world.run(&["kv", "put", "profiles", "k", "1"]);
    let both = world.fed(
        &["kv", "cas", "profiles", "k", "-", "--if-value", "-"],
        b"1",
    );
    assert_eq!(code(&both), 2, "{}", err(&both));
    assert!(err(&both).contains("standard input"), "{}", err(&both));
    assert_eq!(out(&world.run(&["kv", "get", "profiles", "k"])), "1");
    let expected = world.fed(
        &["kv", "cas", "profiles", "k", "2", "--if-value", "-"],
        b"1",
    );
    assert_eq!(code(&expected), 0, "{}", err(&expected));
    let value = world.fed(
        &["kv", "cas", "profiles", "k", "-", "--if-value", "2"],
        b"3",
    );
    assert_eq!(code(&value), 0, "{}", err(&value));
    assert_eq!(out(&world.run(&["kv", "get", "profiles", "k"])), "3");
}

#[test]
fn exit_codes_are_as_documented() {
    let world = World::new();
    let put = ["kv", "put", "profiles", "k", "v", "--level", "strong"];
    assert_eq!(code(&world.run(&["kv", "get", "profiles"])), 2);
    assert_eq!(
        code(&world.run(&["kv", "get", "profiles", "k", "--level", "quorum"])),
        2
    );
    assert_eq!(
        code(&world.run(&["kv", "put", "profiles", "xyz", "v", "--hex"])),
        2
    );
    assert_eq!(code(&world.run(&["kv", "get", "nowhere", "k"])), 3);
    world.refuse("QUORUM_UNREACHABLE", Applied::No);
    let refused = world.run(&put);
    assert_eq!(code(&refused), 3);
    let text = err(&refused);
    assert!(
        text.contains("QUORUM_UNREACHABLE") && text.contains("applied: no"),
        "{text}"
    );
    assert!(text.contains("next: retry, use --level eventual"), "{text}");
    world.refuse("UNKNOWN_OUTCOME", Applied::Maybe);
    let unknown = world.run(&put);
    assert_eq!(code(&unknown), 4);
    assert!(
        err(&unknown).contains("applied: maybe"),
        "{}",
        err(&unknown)
    );
    let nobody = nobody(&mut hansa(world.folder.path()));
    assert_eq!(code(&nobody), 5);
}

/// Asks where nobody answers.
fn nobody(command: &mut Command) -> Output {
    let get = ["kv", "get", "profiles", "k", "--endpoint", "127.0.0.1:1"];
    command.args(get).output().unwrap()
}

#[test]
fn the_next_step_works_as_it_is_printed() {
    let program = env!("CARGO_BIN_EXE_hansa");
    let folder = tempfile::tempdir().unwrap();
    let says = |output: &Output, words: &str| {
        let line = format!("start a cluster (`{words} demo`)");
        assert!(err(output).contains(&line), "{line}: {}", err(output));
    };
    // Where the file lies is no good reason to name cargo outside of the repository.
    says(&nobody(&mut hansa(folder.path())), program);
    let bin = Path::new(program).parent().unwrap();
    says(&nobody(hansa(folder.path()).env("PATH", bin)), "hansa");
    // The target folder may lie elsewhere.
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.join("../..").canonicalize().unwrap();
    if bin.starts_with(root.join("target")) {
        says(&nobody(&mut hansa(here)), "cargo run --release --");
    }
    std::os::unix::fs::symlink(program, folder.path().join("hansa")).unwrap();
    let mut linked = Command::new("./hansa");
    linked.env_clear().current_dir(folder.path());
    says(&nobody(&mut linked), "./hansa");
}

#[test]
fn errors_are_json_where_output_is() {
    let world = World::new();
    world.refuse("QUORUM_UNREACHABLE", Applied::No);
    let refused = world.run(&["kv", "get", "profiles", "k", "-o", "json"]);
    let error = &json(err(&refused))["error"];
    assert_eq!(error["reason"], "QUORUM_UNREACHABLE");
    assert_eq!(error["applied"], "no");
    assert_eq!(error["exit_code"], 3);
    assert_eq!(error["kind"], "unavailable");
}

#[test]
fn a_session_goes_on_in_a_file_and_never_reuses_a_number() {
    let world = World::new();
    let put = ["kv", "put", "profiles", "k", "v", "--session", "s"];
    world.run(&put);
    world.run(&[
        "kv",
        "get",
        "profiles",
        "k",
        "--session",
        "s",
        "--region",
        "us-east",
    ]);
    world.run(&put);
    let seen = world.cluster.seen();
    assert!(seen.iter().all(|seen| seen.level == Consistency::Session));
    assert_eq!(seen[0].token.len(), 0);
    assert_eq!(seen[1].node, "us-east-1");
    assert!(!seen[1].token.is_empty());
    let (first, second) = (seen[0].request_id.unwrap(), seen[2].request_id.unwrap());
    assert_eq!((first.0, first.1 + 1), (second.0, second.1));

    // Killed between the write and the end: the file was moved on before.
    world.cluster.nodes[1].fault(Fault::Silence);
    let mut killed = world.command(&put).spawn().unwrap();
    world.wait_for(4, &mut killed);
    killed.kill().unwrap();
    killed.wait().unwrap();
    let after = world.run(&put);
    assert_eq!(code(&after), 0, "{}", err(&after));
    let seen = world.cluster.seen();
    let (lost, next) = (seen[3].request_id.unwrap(), seen[4].request_id.unwrap());
    assert_eq!(lost.0, next.0);
    assert!(next.1 > lost.1);
}

#[test]
fn a_session_file_that_can_not_be_used_names_the_reason_and_is_left_alone() {
    let world = World::new();
    let file = world.folder.path().join("s");
    let put = ["kv", "put", "profiles", "k", "v", "--session", "s"];
    for (content, reason) in [
        (&b"hansa1.AAAA"[..], "SESSION_TOKEN_MALFORMED"),
        (b"", "SESSION_TOKEN_MALFORMED"),
        (b"\xff\xfe", "SESSION_TOKEN_MALFORMED"),
        (b"hansa2.AAAA", "SESSION_TOKEN_NEWER"),
    ] {
        fs::write(&file, content).unwrap();
        let refused = world.run(&put);
        assert_eq!(code(&refused), 2, "{}", err(&refused));
        for part in [reason, "delete the --session file", "no data is lost"] {
            assert!(err(&refused).contains(part), "{}", err(&refused));
        }
        assert_eq!(fs::read(&file).unwrap(), content);
    }
    assert_eq!(world.cluster.executed(), 0);
    fs::remove_file(&file).unwrap();
    assert_eq!(code(&world.run(&put)), 0);
}

#[test]
fn explain_says_what_it_cost() {
    let world = World::new();
    let put = [
        "kv",
        "put",
        "profiles",
        "k",
        "v",
        "--level",
        "strong",
        "--explain",
    ];
    let text = world.run(&put);
    let text = err(&text);
    for part in [
        "served by  eu-central-1",
        "level      strong",
        "1 WAN round trip (proven),",
        "merged",
        "request    ",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let put = world.run(&[&put[..], &["-o", "json"]].concat());
    let id = json(out(&put))["receipt"]["request_id"].clone();
    assert_eq!(id.as_str().map(|id| id.split('-').count()), Some(3), "{id}");
    let got = world.run(&["kv", "get", "profiles", "k", "-o", "json"]);
    let receipt = &json(out(&got))["receipt"];
    assert_eq!(receipt["staleness_ms"], 7);
    assert_eq!(receipt["served_in"], "eu-central");
}

#[test]
fn lists_come_whole_or_up_to_a_limit() {
    let world = World::new();
    for element in ["a", "b\tc", "d"] {
        world.run(&["kv", "add", "carts", "alice", element]);
        world.run(&["kv", "put", "profiles", element, "v"]);
    }
    assert_eq!(
        out(&world.run(&["kv", "members", "carts", "alice"])),
        "a\nb\\tc\nd\n"
    );
    world.run(&["kv", "add", "carts", "bob", "b\\tc"]);
    assert_eq!(
        out(&world.run(&["kv", "members", "carts", "bob"])),
        "b\\\\tc\n",
        "not as a tab looks"
    );
    let two = world.run(&[
        "kv", "members", "carts", "alice", "--limit", "2", "-o", "jsonl",
    ]);
    assert_eq!(out(&two), "{\"element\":\"a\"}\n{\"element\":\"b\\tc\"}\n");
    let whole = json(out(&world.run(&["kv", "scan", "profiles", "-o", "json"])));
    assert_eq!(whole["rows"].as_array().unwrap().len(), 3);
    let table = world.run(&["kv", "scan", "profiles", "-o", "table"]);
    assert!(
        out(&table).trim_start().starts_with("key"),
        "{}",
        out(&table)
    );
    assert_eq!(
        code(&world.run(&["kv", "scan", "profiles", "--level", "strong"])),
        3
    );
}

#[test]
fn the_receipt_of_a_list_counts_every_page() {
    let world = World::new();
    let line = |element: u32| {
        format!(
            "{{\"keyspace\":\"carts\",\"key\":\"k\",\"op\":\"add\",\"element\":\"{element:04}\"}}\n"
        )
    };
    let lines: String = (0..1001).map(line).collect();
    world.fed(&["kv", "import", "-"], lines.as_bytes());
    let listed = world.run(&["kv", "members", "carts", "k", "-o", "json"]);
    let listed = json(out(&listed));
    assert_eq!(listed["rows"].as_array().unwrap().len(), 1001);
    assert_eq!(listed["receipt"]["attempts"], 2, "one for each page");
}

#[test]
fn an_export_is_an_import() {
    let world = World::new();
    world.run(&["kv", "put", "profiles", "k", "v"]);
    world.fed(&["kv", "put", "profiles", "bytes", "-"], &[255]);
    world.run(&["kv", "add", "carts", "alice", "TEA"]);
    world.run(&["kv", "incr", "counters", "views", "7", "--sort", "2026"]);
    let exported = world.run(&["kv", "export", "profiles", "carts", "counters"]);
    let other = World::new();
    let imported = other.fed(&["kv", "import", "-"], &exported.stdout);
    assert_eq!(
        (code(&imported), out(&imported)),
        (0, "imported 4\n"),
        "{}",
        err(&imported)
    );
    let again = other.run(&["kv", "export", "profiles", "carts", "counters"]);
    assert_eq!(out(&again), out(&exported));
}

#[test]
fn an_import_stops_at_the_first_wrong_line_and_says_what_was_applied() {
    let world = World::new();
    let good = r#"{"keyspace":"profiles","key":"k","op":"put","value":"v","home":"us-east"}"#;
    let input = format!("{good}\n\n{{\"keyspace\":\"profiles\"}}\n{good}\n");
    let stopped = world.fed(&["kv", "import", "-"], input.as_bytes());
    assert_eq!(code(&stopped), 6, "{}", err(&stopped));
    for part in [
        "standard input, line 3: ",
        "applied: partly",
        "1 applied, 1 not applied (line 3), read up to line 3",
    ] {
        assert!(err(&stopped).contains(part), "{}", err(&stopped));
    }
    assert_eq!(world.cluster.executed(), 1);
    let nothing = world.fed(&["kv", "import", "-"], b"{\"keyspace\":\"profiles\"}\n");
    assert_eq!(code(&nothing), 2);
    assert!(err(&nothing).contains("applied: no"), "{}", err(&nothing));
    let wrong = r#"{"keyspace":"nowhere","key":"k","op":"put","value":"v"}"#;
    let refused = world.fed(&["kv", "import", "-"], wrong.as_bytes());
    assert_eq!(code(&refused), 3);
    assert!(
        err(&refused).contains("line 1: UNKNOWN_KEYSPACE"),
        "{}",
        err(&refused)
    );
}

#[test]
fn a_refused_line_of_an_import_hides_no_unknown_one() {
    let world = World::new();
    world.refuse("QUORUM_UNREACHABLE", Applied::No);
    world.refuse("UNKNOWN_OUTCOME", Applied::Maybe);
    let line = |key: &str| {
        format!("{{\"keyspace\":\"stock\",\"key\":\"{key}\",\"op\":\"incr\",\"amount\":1}}\n")
    };
    let input = line("a") + &line("b") + &line("c");
    // Whichever line meets which fault: one each.
    let arguments = ["kv", "import", "-", "--level", "strong", "-o", "json"];
    let stopped = world.fed(&arguments, input.as_bytes());
    assert_eq!(code(&stopped), 4, "{}", err(&stopped));
    let error = &json(err(&stopped))["error"];
    assert_eq!(
        (&error["reason"], &error["applied"]),
        (&"UNKNOWN_OUTCOME".into(), &"maybe".into())
    );
    let lines = &error["lines"];
    assert_eq!((&lines["applied"], &lines["last"]), (&1.into(), &3.into()));
    for list in ["not_applied", "maybe"] {
        assert_eq!(lines[list].as_array().unwrap().len(), 1, "{lines}");
    }
    assert_eq!(world.cluster.executed(), 1);
}

#[test]
fn a_write_that_can_not_be_reported_was_applied_all_the_same() {
    let world = World::new();
    let full = || fs::File::create("/dev/full").unwrap();
    let put = ["kv", "put", "profiles", "k", "v", "-o", "json"];
    let untold = world.command(&put).stdout(full()).output().unwrap();
    assert_eq!(code(&untold), 6, "{}", err(&untold));
    let error = &json(err(&untold))["error"];
    assert_eq!(error["applied"], "yes");
    assert_eq!(error["exit_code"], 6);
    assert_eq!(world.cluster.executed(), 1);
    let file = world.folder.path().join("lines");
    fs::write(
        &file,
        r#"{"keyspace":"profiles","key":"k","op":"put","value":"v"}"#,
    )
    .unwrap();
    let import = ["kv", "import", "lines"];
    let untold = world.command(&import).stdout(full()).output().unwrap();
    assert_eq!(code(&untold), 6, "{}", err(&untold));
    assert!(err(&untold).contains("applied: yes"), "{}", err(&untold));
    let get = ["kv", "get", "profiles", "k"];
    let unread = world.command(&get).stdout(full()).output().unwrap();
    assert_eq!(code(&unread), 2, "{}", err(&unread));
    // Not a panic, and the code says what could not be said.
    let gone = ["kv", "get", "profiles", "gone"];
    let missing = world.command(&gone).stderr(full()).output().unwrap();
    assert_eq!(code(&missing), 1);
}

/// Runs a write whose session can be stored before it and no more after it: no file of the command
/// may grow once the node has seen the write.
fn run_without_storing(world: &World, fault: Fault, arguments: &[&str]) -> Output {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    world.cluster.nodes[1].fault(fault);
    let before = world.cluster.seen().len();
    let plain = world.command(arguments);
    let mut command = Command::new("sh");
    // Beyond the limit a write fails, as on a full disk, instead of ending the process.
    command
        .args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""])
        .arg(plain.get_program())
        .args(plain.get_args())
        .env_clear()
        .envs(
            plain
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(world.folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    world.wait_for(before + 1, &mut child);
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    prlimit(Some(Pid::from_child(&child)), Resource::Fsize, none).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_session_that_can_not_be_stored_hides_no_outcome() {
    let world = World::new();
    let put = [
        "kv",
        "put",
        "profiles",
        "k",
        "v",
        "--session",
        "s",
        "--timeout",
        "2s",
        "-o",
        "json",
    ];
    let late = Fault::Delay(Duration::from_secs(1));
    let done = run_without_storing(&world, late, &put);
    assert_eq!(code(&done), 6, "{}", err(&done));
    let error = &json(err(&done))["error"];
    assert_eq!(error["applied"], "yes");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("session s: not stored")
    );
    assert!(!json(out(&done))["etag"].is_null(), "{}", out(&done));
    let unknown = run_without_storing(&world, Fault::Silence, &put);
    assert_eq!(code(&unknown), 4, "{}", err(&unknown));
    let error = &json(err(&unknown))["error"];
    assert_eq!(error["applied"], "maybe");
    assert!(
        error["besides"]
            .as_str()
            .unwrap()
            .contains("session s: not stored")
    );
}

#[test]
fn status_and_links_are_asked_of_the_nodes() {
    let mut world = World::new();
    let status = world.run(&["status"]);
    assert_eq!(code(&status), 0, "{}", err(&status));
    assert!(
        out(&status).starts_with("endpoint\tnode\tregion\tstanding\t")
            && out(&status).contains("us-east-1\tus-east\tvoting"),
        "{}",
        out(&status)
    );
    let admin = world.cluster.nodes[0].url();
    let cut = world.run(&["admin", "cut", "eu-central", "--admin", &admin]);
    assert_eq!((code(&cut), out(&cut)), (0, "cut eu-central: 4 links\n"));
    world.run(&["admin", "heal", "eu-central", "--admin", &admin]);
    let asked = [
        ("eu-central".to_owned(), true),
        ("eu-central".to_owned(), false),
    ];
    assert_eq!(world.cluster.links(), asked);
    world.cluster.nodes[0].stop();
    let status = world.run(&["status", "-o", "json"]);
    assert_eq!(code(&status), 5);
    assert_eq!(json(out(&status))["nodes"][0]["reachable"], false);
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let world = World::new();
    world.run(&["kv", "put", "profiles", "k", "v"]);
    let mut command = world.command(&["kv", "scan", "profiles"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((code(&output), err(&output)), (0, ""));
}

#[test]
fn an_address_that_is_no_node_is_named_with_what_to_do() {
    let world = World::new();
    let url = "http://127.0.0.1:1";
    let get = ["kv", "get", "profiles", "k", "--endpoint", url];
    let unreached = world.command(&get).env_remove("HANSA_REGION").output();
    let unreached = unreached.unwrap();
    assert!(err(&unreached).contains(&format!("UNREACHABLE: {url}: ")));
    assert!(
        err(&unreached).contains("--endpoint"),
        "{}",
        err(&unreached)
    );
    let cut = world.run(&["admin", "cut", "us-east", "--admin", url]);
    assert_eq!(code(&cut), 5, "{}", err(&cut));
    assert!(err(&cut).contains("--admin"), "{}", err(&cut));
}

#[test]
fn the_next_step_names_the_option_at_fault() {
    let world = World::new();
    for (arguments, option) in [
        (&["--endpoint", "ftp://x"][..], "correct --endpoint"),
        (&["--region", "mars"], "correct --region"),
    ] {
        let refused = world.run(&[&["kv", "get", "profiles", "k"], arguments].concat());
        assert!(err(&refused).contains(option), "{}", err(&refused));
    }
}

#[test]
fn bytes_that_are_no_text_are_pointed_at_their_options() {
    use std::os::unix::ffi::OsStrExt as _;
    let world = World::new();
    let mut command = world.command(&["kv", "put", "profiles"]);
    command.args([std::ffi::OsStr::from_bytes(b"\xff"), "v".as_ref()]);
    let refused = command.output().unwrap();
    assert_eq!(code(&refused), 2);
    for part in ["--hex", "--base64", "--file"] {
        assert!(err(&refused).contains(part), "{}", err(&refused));
    }
}

#[test]
fn json_has_one_shape_for_every_error_and_no_empty_fields() {
    let world = World::new();
    for (arguments, reason, status) in [
        (&["kv", "get", "profiles"][..], "USAGE", 2),
        (&["kv", "put", "profiles", "xyz", "v", "--hex"], "USAGE", 2),
        (&["kv", "get", "nowhere", "k"], "UNKNOWN_KEYSPACE", 3),
        (
            &["kv", "get", "p", "k", "--endpoint", "http://127.0.0.1:1"],
            "UNREACHABLE",
            5,
        ),
    ] {
        for format in ["json", "jsonl"] {
            let failed = world.run(&[arguments, &["-o", format]].concat());
            assert_eq!((code(&failed), out(&failed)), (status, ""));
            assert_eq!(err(&failed).lines().count(), 1, "{}", err(&failed));
            let error = &json(err(&failed))["error"];
            assert_eq!(
                (&error["reason"], &error["exit_code"]),
                (&reason.into(), &status.into())
            );
            for field in ["kind", "message", "applied"] {
                assert!(error[field].is_string(), "{field} in {error}");
            }
            assert!(
                error
                    .as_object()
                    .unwrap()
                    .values()
                    .all(|value| !value.is_null()),
                "{error}"
            );
        }
    }
    let put = world.run(&["kv", "put", "profiles", "k", "v", "-o", "json"]);
    assert!(!out(&put).contains("total"), "{}", out(&put));
    let scan = ["kv", "scan", "profiles", "-o", "jsonl"];
    assert_eq!(err(&world.run(&scan)), "");
    let explained = world.run(&[&scan[..], &["--explain"]].concat());
    assert!(
        json(err(&explained))["receipt"]["level"].is_string(),
        "{}",
        err(&explained)
    );
}
