//! Complete examples of both files: what `hansa config init` writes. Tests keep them valid.

/// A `node.toml` with every setting.
pub const NODE_EXAMPLE: &str = r#"# One node of a Hansa cluster. Flags (--data-dir) and variables (HANSA_DATA_DIR) win over this file.

# This node's name in the topology.
node = "us-east-1"

# The topology file, the same on all nodes. Paths are relative to this file.
topology = "topology.toml"

# Everything the node keeps; one node each.
data_dir = "data/us-east-1"

# Where clients, the other nodes, and Prometheus connect; metrics_listen may be "off".
listen = "127.0.0.1:7101"
peer_listen = "127.0.0.1:7201"
metrics_listen = "127.0.0.1:9464"

# fjall, sled or memory (keeps nothing over a restart).
engine = "fjall"

# text or json; off, error, warn, info, debug or trace.
log_format = "text"
log_level = "info"

# Server reflection, for clients that have no .proto files.
reflection = true

# Dial a peer elsewhere than the topology says, for example through a proxy.
# [dial]
# eu-central-1 = "127.0.0.1:9002"
"#;

/// A `topology.toml` of three regions with one node each.
pub const TOPOLOGY_EXAMPLE: &str = r#"# A Hansa cluster: the same file on all nodes. Order counts: append, never reorder.
cluster_id = "example"
epoch = 1

[[regions]]
name = "us-east"
nodes = [{ name = "us-east-1", peer_address = "127.0.0.1:7201", client_address = "127.0.0.1:7101" }]

[[regions]]
name = "eu-central"
nodes = [{ name = "eu-central-1", peer_address = "127.0.0.1:7202", client_address = "127.0.0.1:7102" }]

[[regions]]
name = "ap-northeast"
nodes = [{ name = "ap-northeast-1", peer_address = "127.0.0.1:7203", client_address = "127.0.0.1:7103" }]

# type: register, counter or set. Left out: regions = all, replicas = 1 (in each region), shards = 64,
# default_level = "eventual", mixing = "strong_wins" (or "strong_only": strong writes alone are taken).
[[keyspaces]]
name = "profiles"
type = "register"

[[keyspaces]]
name = "stock"
type = "counter"

[[keyspaces]]
name = "carts"
type = "set"

[[keyspaces]]
name = "locks"
type = "register"
shards = 16
default_level = "strong"
mixing = "strong_only"
"#;
