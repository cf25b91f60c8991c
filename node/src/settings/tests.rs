use std::path::Path;

use hansa_consistency::key::{KeyspaceId, NodeId, RegionId};
use hansa_consistency::request::Level;
use hansa_consistency::topology::{Mixing, ValueType};

use super::*;

mod places;

fn topology() -> TopologySettings {
    TopologySettings::from_text(Path::new("topology.toml"), TOPOLOGY_EXAMPLE).unwrap()
}

/// The problem that a changed example has, as printed.
fn problem(from: &str, to: &str) -> String {
    assert!(
        TOPOLOGY_EXAMPLE.contains(from),
        "{from} is not in the example"
    );
    let text = TOPOLOGY_EXAMPLE.replacen(from, to, 1);
    TopologySettings::from_text(Path::new("t.toml"), &text)
        .unwrap_err()
        .to_string()
}

#[test]
fn the_examples_are_valid_and_show_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("topology.toml"), TOPOLOGY_EXAMPLE).unwrap();
    let file = Partial::file_text(&folder.path().join("node.toml"), NODE_EXAMPLE).unwrap();
    for field in FIELDS {
        assert!(NODE_EXAMPLE.contains(field.name), "{}", field.name);
    }
    let loaded = Settings::load(Partial::default(), Partial::default(), file).unwrap();
    assert_eq!(loaded.settings.node, "us-east-1");
    assert_eq!(
        loaded.settings.data_dir,
        folder.path().join("data/us-east-1")
    );
    assert!(loaded.settings.reflection && !loaded.settings.rebuild);
}

#[test]
fn flag_beats_environment_beats_file_beats_default_and_origins_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("t.toml"), TOPOLOGY_EXAMPLE).unwrap();
    let text = "node = \"us-east-1\"\ntopology = \"t.toml\"\nlisten = \"127.0.0.1:1\"\nlog_level = \"warn\"\n\
                peer_listen = \"127.0.0.1:2\"\n";
    let path = folder.path().join("node.toml");
    let file = Partial::file_text(&path, text).unwrap();
    let set = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let environment = Partial::environment([
        set("HANSA_LISTEN", "127.0.0.1:3"),
        set("HANSA_LOG_LEVEL", "debug"),
        set("HANSA_ENDPOINTS", "for clients"),
    ]);
    let flags = [
        ("log_level", "trace".to_owned()),
        ("data_dir", "d".to_owned()),
    ];
    let loaded = Settings::load(Partial::flags(flags).unwrap(), environment, file).unwrap();
    let settings = &loaded.settings;
    assert_eq!(settings.log_level, "trace");
    assert_eq!(settings.listen.port(), 3);
    assert_eq!(settings.peer_listen.port(), 2);
    assert_eq!(settings.metrics_listen.unwrap().port(), 9464);
    assert_eq!(settings.data_dir, Path::new("d"));
    let origin = |name| {
        let found = loaded.origins.iter().find(|o| o.0 == name).unwrap();
        found.2.clone()
    };
    assert_eq!(origin("log_level"), Origin::Flag);
    assert_eq!(origin("listen"), Origin::Environment);
    assert_eq!(origin("peer_listen"), Origin::File { path, line: 5 });
    assert_eq!(origin("engine"), Origin::Default);
}

#[test]
fn bad_values_name_their_place() {
    let path = Path::new("node.toml");
    let unknown = Partial::file_text(path, "node = \"a\"\nlissten = \"b\"\n").unwrap_err();
    let text = unknown.to_string();
    assert!(
        text.starts_with("node.toml, line 2, lissten: unknown field"),
        "{text}"
    );
    assert!(text.contains("lissten"), "{text}");

    let load = |flags: Partial, environment: Partial, file: Partial| {
        let base = Partial::flags([
            ("node", "us-east-1".to_owned()),
            ("data_dir", "d".to_owned()),
        ]);
        let partial = flags.over(environment).over(file).over(base.unwrap());
        build(&partial.over(Partial::defaults()), topology())
            .unwrap_err()
            .to_string()
    };
    let file = Partial::file_text(path, "\nlisten = \"nowhere\"\n").unwrap();
    let text = load(Partial::default(), Partial::default(), file);
    assert!(
        text.starts_with("node.toml, line 2, listen: `nowhere`"),
        "{text}"
    );
    let environment = Partial::environment([("HANSA_ENGINE".to_owned(), "rocks".to_owned())]);
    let text = load(Partial::default(), environment, Partial::default());
    assert!(
        text.starts_with("environment HANSA_ENGINE, engine"),
        "{text}"
    );
    let flags = Partial::flags([("log_format", "xml".to_owned())]).unwrap();
    let text = load(flags, Partial::default(), Partial::default());
    assert!(
        text.starts_with("command line --log-format, log_format: `xml`"),
        "{text}"
    );
    assert!(Partial::flags([("nonsense", String::new())]).is_err());

    let missing = build(&Partial::defaults(), topology())
        .unwrap_err()
        .to_string();
    assert!(missing.contains("HANSA_NODE"), "{missing}");
}

#[test]
fn topology_problems_name_line_and_field() {
    let cases = [
        (
            "type = \"set\"",
            "type = \"bag\"",
            "keyspaces[2].type: `bag`",
        ),
        ("shards = 16", "shards = 0", "keyspaces[3].shards: is 0"),
        (
            "shards = 16",
            "shards = 16\nreplicas = 0",
            "keyspaces[3].replicas: is 0",
        ),
        (
            "shards = 16",
            "shards = 16\nreplicas = 2",
            "region `us-east` has 1 nodes",
        ),
        (
            "shards = 16",
            "regions = [\"mars\"]",
            "keyspaces[3].regions[0]: there is no region `mars`",
        ),
        (
            "shards = 16",
            "regions = [\"us-east\", \"us-east\"]",
            "`us-east` is there already",
        ),
        ("shards = 16", "regions = []", "held by no region"),
        (
            "shards = 16",
            "shards = 16\ncolour = \"red\"",
            "unknown field `colour`",
        ),
        (
            "mixing = \"strong_only\"",
            "mixing = \"mixed\"",
            "keyspaces[3].mixing",
        ),
        ("\"strong\"", "\"quorum\"", "keyspaces[3].default_level"),
        (
            "name = \"carts\"",
            "name = \"stock\"",
            "keyspaces[2].name: `stock` is there already",
        ),
        (
            "name = \"eu-central\"",
            "name = \"us-east\"",
            "regions[1].name: `us-east` is there already",
        ),
        (
            "name = \"eu-central\"",
            "name = \"EU\"",
            "regions[1].name: `EU` is no name",
        ),
        ("eu-central-1", "us-east-1", "regions[1].nodes[0].name"),
        (
            "127.0.0.1:7202",
            "127.0.0.1:7201",
            "regions[1].nodes[0].peer_address",
        ),
        ("127.0.0.1:7202", "somewhere", "`somewhere` is no address"),
        ("127.0.0.1:7202", "::1:0", "is no address"),
        ("epoch = 1", "epoch = 0", "t.toml, line 3, epoch: is 0"),
        ("epoch = 1", "epoch = \"one\"", "t.toml, line 3"),
        ("epoch = 1", "", "missing field `epoch`"),
    ];
    for (from, to, expected) in cases {
        let text = problem(from, to);
        assert!(text.contains(expected), "{to}: {text}");
        assert!(text.contains("; "), "no advice: {text}");
    }
}

#[test]
fn seventeen_regions_and_none_are_refused() {
    let mut many = topology();
    for n in 0..14 {
        let mut region = many.regions[0].clone();
        region.name = format!("r{n}");
        region.nodes[0].name = format!("n{n}");
        region.nodes[0].peer_address = format!("h{n}:1");
        region.nodes[0].client_address = format!("h{n}:2");
        many.regions.push(region);
    }
    let problems = many.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].what.contains("17"));
    many.regions.clear();
    assert!(many.problems().iter().any(|p| p.field == "regions"));
}

#[test]
fn one_socket_for_two_listeners_is_refused() {
    let mut settings = Settings::new("us-east-1", "d".into(), topology()).unwrap();
    settings.peer_listen = settings.listen;
    let text = settings.check().unwrap_err().to_string();
    assert!(text.contains("peer_listen"), "{text}");
    settings.peer_listen = "0.0.0.0:9464".parse().unwrap();
    assert!(settings.check().is_err());
    for listen in [&mut settings.listen, &mut settings.peer_listen] {
        *listen = "127.0.0.1:0".parse().unwrap();
    }
    settings.check().unwrap();
}

#[test]
fn unknown_nodes_are_refused() {
    assert!(Settings::new("mars-1", "d".into(), topology()).is_err());
    let mut settings = Settings::new("us-east-1", "d".into(), topology()).unwrap();
    settings.dial.insert("mars-1".to_owned(), "h:1".to_owned());
    assert!(settings.check().unwrap_err().to_string().contains("mars-1"));
    let dial: Dial = "eu-central-1=a:1, ap-northeast-1=b:2".parse().unwrap();
    assert_eq!(dial.0["ap-northeast-1"], "b:2");
    assert!("eu-central-1".parse::<Dial>().is_err());
}

#[test]
fn names_are_numbered_in_file_order_and_back() {
    let names = Names::new(&topology()).unwrap();
    assert_eq!(names.region("eu-central"), Some(RegionId(1)));
    assert_eq!(names.region_name(RegionId(2)), "ap-northeast");
    assert_eq!(names.node("ap-northeast-1"), Some(NodeId(2)));
    assert_eq!(names.node_name(NodeId(1)), "eu-central-1");
    assert_eq!(names.node_name(NodeId(9)), "?");
    let (id, policy, level) = names.keyspace("locks").unwrap();
    assert_eq!((id, level), (KeyspaceId(3), Level::Strong));
    assert_eq!(policy.mixing, Mixing::StrongOnly);
    assert_eq!(policy.value_type, ValueType::Register);
    assert_eq!(policy.shards, 16);
    assert_eq!(names.topology().region_of(NodeId(2)), Some(RegionId(2)));
    assert!(names.keyspace("mars").is_none());
}

#[test]
fn the_digest_covers_what_nodes_must_agree_on_and_no_addresses() {
    let digest = |change: fn(&mut TopologySettings)| {
        let mut topology = topology();
        change(&mut topology);
        Names::new(&topology).unwrap().digest()
    };
    let same = digest(|_| {});
    assert_eq!(
        same,
        digest(|t| t.regions[0].nodes[0].peer_address = "x:1".to_owned())
    );
    let changes: [fn(&mut TopologySettings); 6] = [
        |t| t.cluster_id = "other".to_owned(),
        |t| t.epoch += 1,
        |t| t.regions.swap(0, 1),
        |t| t.keyspaces.swap(0, 1),
        |t| t.keyspaces[0].shards = 8,
        |t| t.regions[0].nodes[0].name = "renamed".to_owned(),
    ];
    for change in changes {
        assert_ne!(same, digest(change));
    }
    let text = topology().to_text().unwrap();
    let again = TopologySettings::from_text(Path::new("t"), &text).unwrap();
    assert_eq!(again, topology());
}
