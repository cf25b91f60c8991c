//! Every error about settings says where the value stands, or where a missing one belongs. Each row changes one
//! good file in one place.

use super::*;

const TOPOLOGY: &str = r#"cluster_id = "example"
epoch = 1

[[regions]]
name = "east"

[[regions.nodes]]
name = "east-1"
peer_address = "h1:1"
client_address = "h1:2"

[[regions]]
name = "west"
nodes = [
    { name = "west-1", peer_address = "h2:1", client_address = "h2:2" },
]

[[keyspaces]]
name = "profiles"
type = "register"
regions = [
    "east",
    "west",
]
shards = 16
replicas = 1
default_level = "eventual"
mixing = "strong_wins"

[[keyspaces]]
name = "stock"
type = "counter"
"#;

const NODE: &str = r#"# A comment.
node = "east-1"
data_dir = "data"
topology = "topology.toml"
listen = "127.0.0.1:1"
peer_listen = "127.0.0.1:2"
metrics_listen = "127.0.0.1:3"
engine = "memory"
log_format = "text"
log_level = "info"
reflection = true

[dial]
west-1 = "h3:1"
"#;

/// What is said when both files are read, with the folder left out.
fn loaded(node: &[u8], topology: &[u8], flags: Partial, environment: Partial) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("topology.toml"), topology).unwrap();
    std::fs::write(folder.path().join("node.toml"), node).unwrap();
    let loaded = Partial::file(&folder.path().join("node.toml"))
        .and_then(|file| Settings::load(flags, environment, file));
    let said = loaded.map_or_else(|error| error.to_string(), |_| "ok".to_owned());
    said.replace(&format!("{}/", folder.path().display()), "")
}

fn files(node: &str, topology: &str) -> String {
    let (flags, environment) = Default::default();
    loaded(node.as_bytes(), topology.as_bytes(), flags, environment)
}

fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from} is not in the example");
    text.replacen(from, to, 1)
}

/// One of the problems starts with the place, and each has a place and an advice.
fn assert_said(said: &str, expected: &str, row: &str) {
    let found = said.lines().any(|line| line.starts_with(expected));
    assert!(found, "{row:?}: expected {expected:?}, got\n{said}");
    for line in said.lines() {
        assert!(!line.starts_with("settings"), "{row:?}: no place: {line}");
        assert!(line.contains("; "), "{row:?}: no advice: {line}");
    }
}

#[test]
fn the_files_of_the_rows_are_good() {
    assert_eq!(files(NODE, TOPOLOGY), "ok");
}

/// What is changed in the topology, to what, and what is said.
const TOPOLOGY_ROWS: &[(&str, &str, &str)] = &[
    // The reader's own: syntax, types, unknown, missing and repeated keys.
    ("epoch = 1", "epoch = ", "line 2"),
    ("epoch = 1", "epoch = \"one\"", "line 2, epoch: "),
    ("epoch = 1", "epoch = -1", "line 2, epoch: "),
    ("epoch = 1", "epoch = 1\nepoch = 2", "line 3"),
    (
        "epoch = 1",
        "epoch = 1\nage = 2",
        "line 3, age: unknown field",
    ),
    ("epoch = 1\n", "", "line 1: missing field `epoch`"),
    (
        "cluster_id = \"example\"\n",
        "",
        "line 1: missing field `cluster_id`",
    ),
    (
        "cluster_id = \"example\"",
        "cluster_id = 5",
        "line 1, cluster_id: ",
    ),
    (
        "name = \"east\"\n",
        "",
        "line 4, regions[0]: missing field `name`",
    ),
    (
        "name = \"east-1\"\n",
        "",
        "line 7, regions[0].nodes[0]: missing field `name`",
    ),
    (
        "peer_address = \"h1:1\"\n",
        "",
        "line 7, regions[0].nodes[0]: missing field `peer_address`",
    ),
    (
        "client_address = \"h1:2\"\n",
        "",
        "line 7, regions[0].nodes[0]: missing field `client_address`",
    ),
    (
        ", client_address = \"h2:2\"",
        "",
        "line 15, regions[1].nodes[0]: missing field `client_address`",
    ),
    (
        "name = \"west\"",
        "colour = \"red\"",
        "line 13, regions[1].colour: unknown field",
    ),
    (
        "name = \"stock\"\n",
        "",
        "line 30, keyspaces[1]: missing field `name`",
    ),
    (
        "type = \"counter\"\n",
        "",
        "line 30, keyspaces[1]: missing field `type`",
    ),
    (
        "shards = 16",
        "shards = 70000",
        "line 25, keyspaces[0].shards: ",
    ),
    (
        "    \"west\",\n",
        "    7,\n",
        "line 23, keyspaces[0].regions[1]: ",
    ),
    // Values against each other.
    (
        "\"example\"",
        "\"Example\"",
        "line 1, cluster_id: `Example` is no name",
    ),
    ("epoch = 1", "epoch = 0", "line 2, epoch: is 0"),
    (
        "name = \"east\"",
        "name = \"East\"",
        "line 5, regions[0].name: `East` is no name",
    ),
    (
        "name = \"west\"",
        "name = \"east\"",
        "line 13, regions[1].name: `east` is there already",
    ),
    (
        "nodes = [\n",
        "nodes = []\nempty = [\n",
        "line 15, regions[1].empty: unknown field",
    ),
    (
        "name = \"east-1\"",
        "name = \"East\"",
        "line 8, regions[0].nodes[0].name: `East` is no name",
    ),
    (
        "\"west-1\"",
        "\"east-1\"",
        "line 15, regions[1].nodes[0].name: `east-1` is there already",
    ),
    (
        "\"h1:1\"",
        "\"h1\"",
        "line 9, regions[0].nodes[0].peer_address: `h1` is no address",
    ),
    (
        "\"h1:2\"",
        "\"h1:0\"",
        "line 10, regions[0].nodes[0].client_address: `h1:0` is no address",
    ),
    (
        "\"h2:2\"",
        "\"h1:1\"",
        "line 15, regions[1].nodes[0].client_address: `h1:1` is there already",
    ),
    (
        "\"profiles\"",
        "\"\"",
        "line 19, keyspaces[0].name: `` is no name",
    ),
    (
        "\"stock\"",
        "\"profiles\"",
        "line 31, keyspaces[1].name: `profiles` is there already",
    ),
    (
        "type = \"counter\"",
        "type = \"bag\"",
        "line 32, keyspaces[1].type: `bag` is none",
    ),
    (
        "    \"west\",\n",
        "    \"mars\",\n",
        "line 23, keyspaces[0].regions[1]: there is no region `mars`",
    ),
    (
        "    \"west\",\n",
        "    \"east\",\n",
        "line 23, keyspaces[0].regions[1]: `east` is there already",
    ),
    (
        "type = \"counter\"",
        "type = \"counter\"\nregions = []",
        "line 33, keyspaces[1].regions: ",
    ),
    (
        "shards = 16",
        "shards = 0",
        "line 25, keyspaces[0].shards: is 0",
    ),
    (
        "replicas = 1",
        "replicas = 0",
        "line 26, keyspaces[0].replicas: is 0",
    ),
    (
        "replicas = 1",
        "replicas = 2",
        "line 26, keyspaces[0].replicas: 2 replicas are wanted",
    ),
    (
        "type = \"counter\"",
        "type = \"counter\"\n\nreplicas = 2",
        "line 34, keyspaces[1].replicas: 2 replicas are wanted",
    ),
    (
        "\"eventual\"",
        "\"quorum\"",
        "line 27, keyspaces[0].default_level: `quorum` is none",
    ),
    (
        "\"strong_wins\"",
        "\"mixed\"",
        "line 28, keyspaces[0].mixing: `mixed` is none",
    ),
];

#[test]
fn every_error_about_a_value_of_the_topology_names_its_line() {
    for (from, to, expected) in TOPOLOGY_ROWS {
        let said = files(NODE, &changed(TOPOLOGY, from, to));
        assert_said(&said, &format!("topology.toml, {expected}"), to);
    }
}

#[test]
fn what_there_is_too_much_or_nothing_of_is_named_by_its_line() {
    let head = "cluster_id = \"example\"\nepoch = 1\n";
    let region =
        |n: usize, nodes: &str| format!("\n[[regions]]\nname = \"r{n}\"\nnodes = [{nodes}]");
    let node = |n: usize| {
        format!("\n{{ name = \"n{n}\", peer_address = \"p{n}:1\", client_address = \"c{n}:1\" }},")
    };
    let regions: String = (0..17).map(|n| region(n, &node(n))).collect();
    let nodes: String = (0..=crate::limits::NODES_MAX).map(node).collect();
    let spaces = 0..=crate::limits::KEYSPACES_MAX;
    let spaces: String = spaces
        .map(|n| format!("\n[[keyspaces]]\nname = \"k{n}\"\ntype = \"set\""))
        .collect();
    let rows = [
        (head.to_owned(), "line 1, regions: there are 0"),
        (
            format!("{head}\nregions = []\n"),
            "line 4, regions: there are 0",
        ),
        (
            format!("{head}{}", region(0, "")),
            "line 6, regions[0].nodes: region `r0` has no nodes",
        ),
        (
            format!("{head}\n[[regions]]\nname = \"r\"\n"),
            "line 4, regions[0].nodes: region `r` has no nodes",
        ),
        (
            format!("{head}{regions}"),
            "line 68, regions[16]: there are 17",
        ),
        (
            format!("{head}{}", region(0, &nodes)),
            "line 1031, regions[0].nodes[1024]: there are 1025",
        ),
        (
            format!("{head}{}{spaces}", region(0, &node(0))),
            "line 776, keyspaces[256]: there are 257",
        ),
    ];
    for (topology, expected) in rows {
        let said = files(NODE, &topology);
        assert_said(&said, &format!("topology.toml, {expected}"), expected);
    }
}

/// What is changed in the node's file, to what, and what is said.
const NODE_ROWS: &[(&str, &str, &str)] = &[
    (
        "topology = \"topology.toml\"\n",
        "",
        "line 1, topology: topology.toml can not be read",
    ),
    ("listen = \"127.0.0.1:1\"", "listen = ", "line 5"),
    (
        "listen = \"127.0.0.1:1\"",
        "listen = 7101",
        "line 5, listen: ",
    ),
    (
        "listen = \"127.0.0.1:1\"",
        "lissten = \"x\"",
        "line 5, lissten: unknown field",
    ),
    (
        "node = \"east-1\"",
        "[node]\nname = \"east-1\"",
        "line 2, node: ",
    ),
    ("[dial]", "[[dial]]", "line 13, dial"),
    ("west-1 = \"h3:1\"", "west-1 = 5", "line 14, dial.west-1: "),
    ("node = \"east-1\"\n", "", "line 1, node: is missing"),
    ("data_dir = \"data\"\n", "", "line 1, data_dir: is missing"),
    (
        "node = \"east-1\"",
        "node = \"mars-1\"",
        "line 2, node: the topology names no node `mars-1`",
    ),
    (
        "data_dir = \"data\"",
        "data_dir = \"\"",
        "line 3, data_dir: is empty",
    ),
    ("\"topology.toml\"", "\"\"", "line 4, topology: is empty"),
    (
        "\"topology.toml\"",
        "\"none.toml\"",
        "line 4, topology: none.toml can not be read",
    ),
    (
        "listen = \"127.0.0.1:1\"",
        "listen = \"here\"",
        "line 5, listen: `here`",
    ),
    (
        "peer_listen = \"127.0.0.1:2\"",
        "peer_listen = \"here\"",
        "line 6, peer_listen: `here`",
    ),
    (
        "\"127.0.0.1:2\"",
        "\"127.0.0.1:1\"",
        "line 6, peer_listen: 127.0.0.1:1 is what `listen`",
    ),
    (
        "\"127.0.0.1:3\"",
        "\"127.0.0.1:1\"",
        "line 7, metrics_listen: 127.0.0.1:1 is what `listen`",
    ),
    ("\"127.0.0.1:3\"", "\"on\"", "line 7, metrics_listen: `on`"),
    (
        "\"127.0.0.1:1\"\npeer_listen = \"127.0.0.1:2\"",
        "\"127.0.0.1:7201\"",
        "line 5, listen: 127.0.0.1:7201 is what `peer_listen`",
    ),
    ("\"memory\"", "\"rocks\"", "line 8, engine: `rocks`"),
    ("\"text\"", "\"xml\"", "line 9, log_format: `xml`"),
    (
        "\"info\"",
        "\"loud\"",
        "line 10, log_level: `loud`: `loud` is no level; write off, error, warn, info, debug or trace",
    ),
    ("\"info\"", "\"\"", "line 10, log_level: ``: `` is no level"),
    (
        "\"info\"",
        "\"warn,hansa_node\"",
        "line 10, log_level: `warn,hansa_node`: `hansa_node` is no level",
    ),
    (
        "\"info\"",
        "\"hansa_node=loud\"",
        "line 10, log_level: `hansa_node=loud`: ",
    ),
    (
        "reflection = true",
        "reflection = \"on\"",
        "line 11, reflection: ",
    ),
    (
        "west-1 = ",
        "mars-1 = ",
        "line 14, dial.mars-1: the topology names no node `mars-1`",
    ),
    ("west-1 = ", "\"a=b\" = ", "line 14, dial.a=b: "),
    ("\"h3:1\"", "\"h3:1,h4:1\"", "line 14, dial.west-1: "),
    (
        "\"h3:1\"",
        "\"h3\"",
        "line 14, dial.west-1: `h3` is no address",
    ),
];

#[test]
fn every_error_about_a_value_of_the_node_file_names_its_line() {
    for (from, to, expected) in NODE_ROWS {
        let said = files(&changed(NODE, from, to), TOPOLOGY);
        assert_said(&said, &format!("node.toml, {expected}"), to);
    }
}

#[test]
fn a_file_that_is_no_text_names_the_line_of_the_first_byte_that_is_none() {
    let (flags, environment) = Default::default();
    let said = loaded(NODE.as_bytes(), b"a = 1\n\xff", flags, environment);
    assert_said(&said, "topology.toml, line 2: is no UTF-8", "topology");
    let (flags, environment) = Default::default();
    let said = loaded(b"\n\n# \xff", TOPOLOGY.as_bytes(), flags, environment);
    assert_said(&said, "node.toml, line 3: is no UTF-8", "node");
}

#[test]
fn a_value_of_a_flag_or_a_variable_names_that_and_not_the_file() {
    let rows = [
        ("node", "mars-1", "the topology names no node `mars-1`"),
        ("data_dir", "", "is empty"),
        ("topology", "/none.toml", "/none.toml can not be read"),
        ("listen", "here", "`here`"),
        ("listen", "127.0.0.1:2", "127.0.0.1:2 is what"),
        ("peer_listen", "127.0.0.1:1", "127.0.0.1:1 is what"),
        ("metrics_listen", "on", "`on`"),
        ("engine", "rocks", "`rocks`"),
        ("log_format", "xml", "`xml`"),
        (
            "log_level",
            "loud",
            "write off, error, warn, info, debug or trace",
        ),
        ("reflection", "perhaps", "`perhaps`"),
        ("dial", "west-1", "`west-1`"),
        ("dial", "mars-1=h:1", "the topology names no node `mars-1`"),
        ("dial", "west-1=h", "`h` is no address"),
    ];
    for (name, value, expected) in rows {
        let field = FIELDS.iter().find(|field| field.name == name).unwrap();
        let (node, topology) = (NODE.as_bytes(), TOPOLOGY.as_bytes());
        let flags = Partial::flags([(name, value.to_owned())]).unwrap();
        let said = loaded(node, topology, flags, Partial::default());
        let flag = format!("command line --{}, {name}", name.replace('_', "-"));
        assert_said(&said, &flag, value);
        assert!(said.contains(expected), "{said}");

        let set = (field.environment.to_owned(), value.to_owned());
        let said = loaded(
            node,
            topology,
            Partial::default(),
            Partial::environment([set]),
        );
        let variable = format!("environment {}, {name}", field.environment);
        assert_said(&said, &variable, value);
        assert!(said.contains(expected), "{said}");
    }
}
