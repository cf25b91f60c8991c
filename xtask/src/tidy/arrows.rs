//! The tables: who may use whom. Edit these, not the code that reads them.

/// What one crate of the workspace may depend on.
#[derive(Debug)]
pub(crate) struct CrateRule {
    /// The package.
    pub(crate) name: &'static str,
    /// The crates of ours it may use, in every kind of dependency: a dev-dependency is an arrow
    /// too.
    pub(crate) ours: &'static [&'static str],
    /// The outside crates it may use.
    pub(crate) outside: Outside,
}

/// Which outside crates a crate may name in its own manifest.
#[derive(Debug)]
pub(crate) enum Outside {
    /// Any but these (none here: any at all), except in dev-dependencies.
    AnyBut(&'static [&'static str]),
    /// These and no other, except in dev-dependencies.
    Only(&'static [&'static str]),
}

/// The arrows of `docs/architecture.md`. A crate that is missing here fails the gate.
pub(crate) const CRATES: &[CrateRule] = &[
    CrateRule {
        name: "hansa-proto",
        ours: &[],
        outside: Outside::AnyBut(&["crdts", "fjall", "sled", "clap"]),
    },
    CrateRule {
        name: "hansa-consistency",
        ours: &[],
        // The closure is checked as a whole: see `CORE_CLOSURE`.
        outside: Outside::Only(&["bytes", "crdts", "thiserror", "xxhash-rust"]),
    },
    CrateRule {
        name: "hansa-node",
        ours: &["hansa-proto", "hansa-consistency"],
        outside: Outside::AnyBut(&["clap"]),
    },
    CrateRule {
        name: "hansa-client",
        ours: &["hansa-proto"],
        outside: Outside::AnyBut(&["crdts", "fjall", "sled", "clap"]),
    },
    CrateRule {
        name: "hansa",
        ours: &["hansa-client", "hansa-node", "hansa-linkproxy"],
        outside: Outside::AnyBut(&["crdts", "fjall", "sled"]),
    },
    CrateRule {
        name: "hansa-jepsen",
        // Never the node as a library: the harness starts the binary, so no test can reach inside.
        ours: &["hansa-client", "hansa-consistency", "hansa-linkproxy"],
        outside: Outside::AnyBut(&["fjall", "sled"]),
    },
    CrateRule {
        name: "hansa-linkproxy",
        ours: &[],
        outside: Outside::Only(&[
            "bytes",
            "rustix",
            "socket2",
            "thiserror",
            "tokio",
            "tokio-util",
            "tracing",
        ]),
    },
    CrateRule {
        name: "xtask",
        ours: &[],
        outside: Outside::AnyBut(&["tokio", "tonic"]),
    },
];

/// The layers of one crate's modules, lowest first.
///
/// A module may use modules of its own layer and of lower ones; cycles are never allowed. Every
/// top-level module of a crate that has layers must stand in one of them. No layers: only the check
/// for cycles.
pub(crate) type Layers = (&'static str, &'static [&'static [&'static str]]);

/// The layers of each crate that declares them. Every crate is checked for cycles, named here or
/// not.
pub(crate) const LAYERS: &[Layers] = &[
    (
        "hansa-consistency",
        &[
            &["limits", "rules"],
            // Names and orders.
            &["clock", "codec", "key", "version"],
            // Who has seen what, who must agree, where it lies.
            &["layout", "quorum", "roster", "session", "topology"],
            // What is stored.
            &["record", "value"],
            &["register"],
            // The borders.
            &["message", "request"],
            &["effect", "event", "port"],
            &["replica"],
        ],
    ),
    (
        "hansa-node",
        &[
            &["limits", "mutant"],
            &["identity", "store"],
            &["driver", "settings"],
            &["metrics", "open", "telemetry"],
            // The peers' links speak what the services understand.
            &["grpc"],
            &["peers"],
            &["server"],
        ],
    ),
];

/// Every package the pure core may be built from. None of them has a clock, a thread, a socket or a
/// random number.
pub(crate) const CORE_CLOSURE: &[&str] = &[
    "hansa-consistency",
    "autocfg",
    "bytes",
    "crdts",
    "num",
    "num-bigint",
    "num-complex",
    "num-integer",
    "num-iter",
    "num-rational",
    "num-traits",
    "proc-macro2",
    "quote",
    "serde",
    "serde_core",
    "serde_derive",
    "syn",
    "thiserror",
    "thiserror-impl",
    "unicode-ident",
    "xxhash-rust",
];

/// Named in the message when they turn up in the core's closure, and refused even if someone allows
/// them above.
pub(crate) const CORE_NEVER: &[&str] = &[
    "fjall",
    "getrandom",
    "prost",
    "rand",
    "rand_core",
    "rustix",
    "sled",
    "tokio",
    "tonic",
    "tracing",
];

/// What `consistency/clippy.toml` must forbid, by its full path.
pub(crate) const CORE_BANNED_TYPES: &[&str] = &[
    "std::time::Instant",
    "std::time::SystemTime",
    "std::collections::HashMap",
    "std::collections::HashSet",
    "std::thread::JoinHandle",
];

/// As [`CORE_BANNED_TYPES`], for functions.
pub(crate) const CORE_BANNED_METHODS: &[&str] =
    &["std::thread::spawn", "std::thread::sleep", "std::env::var"];
