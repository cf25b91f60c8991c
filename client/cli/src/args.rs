//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hansa_client::{Consistency, Etag};

use crate::exit::EXIT_CODES;
use crate::output::Format;
use crate::text::Encoding;

/// The ports of `demo`: what is asked when nobody names an endpoint.
pub(crate) const ENDPOINTS_DEFAULT: &str = "us-east=http://127.0.0.1:7101,\
eu-central=http://127.0.0.1:7102,ap-northeast=http://127.0.0.1:7103";

/// Where `demo` takes orders.
pub(crate) const DEMO_ADMIN_DEFAULT: &str = "http://127.0.0.1:7100";

/// Hansa: a geo-distributed key-value database with three consistency levels, chosen per request.
#[derive(Parser, Debug)]
#[command(name = "hansa", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How to print; of every command that prints an answer.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Printing {
    /// Output format; else a table on a terminal and plain text otherwise
    #[arg(short = 'o', long = "output", id = "output", global = true, value_enum)]
    pub(crate) format: Option<Format>,
}

/// How long to wait; of every command that asks a node or a demo.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// How long a call may take: 500ms, 5s, 1m; at most 60s
    #[arg(
        long,
        global = true,
        value_name = "TIME",
        value_parser = duration,
        default_value = "5s",
        env = "HANSA_TIMEOUT"
    )]
    pub(crate) timeout: Duration,
}

/// Whom to ask; of every command that asks nodes.
#[derive(Args, Clone, Debug)]
pub(crate) struct Reach {
    /// Where a node answers; may be repeated
    #[arg(
        long = "endpoint",
        global = true,
        value_name = "[REGION=]URL",
        value_delimiter = ',',
        env = "HANSA_ENDPOINTS",
        default_value = ENDPOINTS_DEFAULT
    )]
    pub(crate) endpoints: Vec<String>,
    #[command(flatten)]
    pub(crate) patience: Patience,
}

/// Options of every `kv` command.
#[derive(Args, Clone, Debug)]
pub(crate) struct KvOptions {
    /// Consistency level: eventual, session or strong; else the keyspace's default
    #[arg(long, global = true, value_name = "LEVEL", value_parser = level, env = "HANSA_LEVEL")]
    pub(crate) level: Option<Consistency>,
    /// Home region: its endpoints are asked first
    #[arg(long, global = true, env = "HANSA_REGION")]
    pub(crate) region: Option<String>,
    /// Fail rather than ask another region than --region
    #[arg(long, global = true, requires = "region")]
    pub(crate) stay: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    /// Go on with the session stored in this file and store it again; made if missing, not if empty
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) session: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) printing: Printing,
    /// Keys and values are hexadecimal digits
    #[arg(long, global = true, conflicts_with = "base64")]
    hex: bool,
    /// Keys and values are base64
    #[arg(long, global = true)]
    base64: bool,
    /// Say on standard error who answered, which level was reached, what it cost and what was merged
    #[arg(long, global = true)]
    pub(crate) explain: bool,
}

impl KvOptions {
    pub(crate) fn encoding(&self) -> Encoding {
        match (self.hex, self.base64) {
            (true, _) => Encoding::Hex,
            (_, true) => Encoding::Base64,
            _ => Encoding::Raw,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run one node until SIGTERM or SIGINT
    Serve(ServeArgs),
    /// Start three regions on this machine, with WAN latency between them, and show how it goes
    Demo(crate::demo::DemoArgs),
    /// Read and write keys
    Kv {
        #[command(flatten)]
        options: KvOptions,
        #[command(subcommand)]
        command: KvCommand,
    },
    /// How the nodes see themselves and each other
    Status(StatusArgs),
    /// Check, show or write a node's settings
    Config {
        #[command(flatten)]
        printing: Printing,
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Cut or heal a region of a running `demo`
    Admin {
        #[command(flatten)]
        printing: Printing,
        #[command(flatten)]
        patience: Patience,
        #[command(subcommand)]
        command: AdminCommand,
    },
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  hansa completions bash > ~/.local/share/bash-completion/completions/hansa"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

impl Command {
    /// The output format that was asked for.
    pub(crate) fn format(&self) -> Option<Format> {
        match self {
            Command::Kv { options, .. } => options.printing.format,
            Command::Status(args) => args.printing.format,
            Command::Config { printing, .. } | Command::Admin { printing, .. } => printing.format,
            Command::Serve(_) | Command::Demo(_) | Command::Completions { .. } => None,
        }
    }
}

/// Settings of a node: flag over environment over file over default.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct NodeArgs {
    /// A node.toml; `hansa config init` writes one
    #[arg(long, value_name = "FILE", env = "HANSA_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// This node's name in the topology [env: HANSA_NODE]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Directory of everything this node keeps [env: HANSA_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The topology file [env: HANSA_TOPOLOGY] [default: topology.toml]
    #[arg(long, value_name = "FILE")]
    topology: Option<String>,
    /// Where clients connect [env: HANSA_LISTEN] [default: 127.0.0.1:7101]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where the other nodes connect [env: HANSA_PEER_LISTEN] [default: 127.0.0.1:7201]
    #[arg(long, value_name = "IP:PORT")]
    peer_listen: Option<String>,
    /// Where metrics are served, or off [env: HANSA_METRICS_LISTEN] [default: 127.0.0.1:9464]
    #[arg(long, value_name = "IP:PORT|off")]
    metrics_listen: Option<String>,
    /// fjall, sled or memory [env: HANSA_ENGINE] [default: fjall]
    #[arg(long, value_name = "ENGINE")]
    engine: Option<String>,
    /// text or json [env: HANSA_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// off, error, warn, info, debug, trace, or a filter [env: HANSA_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// gRPC server reflection, on or off [env: HANSA_REFLECTION] [default: on]
    #[arg(long, value_name = "on|off")]
    reflection: Option<String>,
    /// Other addresses to dial peers at: NAME=host:port,... [env: HANSA_DIAL]
    #[arg(long, value_name = "LIST")]
    dial: Option<String>,
}

impl NodeArgs {
    /// The flags that were given, by the names of the settings.
    pub(crate) fn flags(&self) -> Vec<(&'static str, String)> {
        let all = [
            ("node", &self.node),
            ("data_dir", &self.data_dir),
            ("topology", &self.topology),
            ("listen", &self.listen),
            ("peer_listen", &self.peer_listen),
            ("metrics_listen", &self.metrics_listen),
            ("engine", &self.engine),
            ("log_format", &self.log_format),
            ("log_level", &self.log_level),
            ("reflection", &self.reflection),
            ("dial", &self.dial),
        ];
        let given = |(name, value): (&'static str, &Option<String>)| Some((name, value.clone()?));
        all.into_iter().filter_map(given).collect()
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hansa config init /etc/hansa && hansa serve --config /etc/hansa/node.toml
  hansa serve --node us-east-1 --data-dir data --topology topology.toml

Ends with 0 after a signal, with 2 when a setting is wrong, with 3 when the node can not serve.
A second signal ends it at once; nothing that was acknowledged is lost.")]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    /// Put a damaged or shortened store aside and refill this node from its peers
    #[arg(long)]
    pub(crate) rebuild: bool,
    /// Stop when standard input ends: how `demo` makes sure that no node outlives it
    #[arg(long, hide = true)]
    pub(crate) parent_pipe: bool,
}

/// Names a row.
#[derive(Args, Clone, Debug)]
pub(crate) struct KeyArgs {
    /// The keyspace
    pub(crate) keyspace: String,
    /// The partition key
    pub(crate) key: String,
    /// The sort key
    #[arg(long)]
    pub(crate) sort: Option<String>,
}

/// Where a value comes from.
#[derive(Args, Clone, Debug)]
pub(crate) struct ValueArgs {
    /// The value; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) value: Option<String>,
    /// Read the value from a file
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum KvCommand {
    /// Read a register or a counter
    #[command(after_help = "\
Examples:
  hansa kv get profiles alice --level strong
  hansa kv get counters views/DE 2026-01-01 --explain
  hansa kv get profiles photo > photo.jpg")]
    Get {
        #[command(flatten)]
        key: KeyArgs,
        /// The sort key, shorter
        #[arg(value_name = "SORT", conflicts_with = "sort")]
        sort_too: Option<String>,
    },
    /// Write a register
    #[command(after_help = "\
Examples:
  hansa kv put profiles alice 'Anna of Visby' --level eventual
  hansa kv put profiles photo --file photo.jpg
  date | hansa kv put profiles now -")]
    Put {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        value: ValueArgs,
        /// Further regions that must have it durably before the reply
        #[arg(long, value_name = "N", default_value_t = 0)]
        ack_regions: u8,
    },
    /// Delete a register, or take a counter's value off it
    #[command(after_help = "Example:\n  hansa kv delete profiles alice --level strong")]
    Delete {
        #[command(flatten)]
        key: KeyArgs,
        /// The sort key, shorter
        #[arg(value_name = "SORT", conflicts_with = "sort")]
        sort_too: Option<String>,
    },
    /// Write or delete a register if it is as expected; always strong
    #[command(
        group(ArgGroup::new("expect").required(true)),
        after_help = "\
Examples:
  hansa kv cas profiles alice taken --if-absent
  hansa kv cas profiles alice Riga --if-value Visby
  hansa kv cas profiles alice --delete --if-etag 0123456789abcdef"
    )]
    Cas {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        value: ValueArgs,
        /// Delete instead of writing
        #[arg(long, conflicts_with_all = ["value", "file"])]
        delete: bool,
        /// Only if nothing is there
        #[arg(long, group = "expect")]
        if_absent: bool,
        /// Only if this is its version
        #[arg(long, value_name = "ETAG", group = "expect")]
        if_etag: Option<Etag>,
        /// Only if these are its bytes; `-` reads standard input, which then can not be the value, too
        #[arg(long, value_name = "VALUE", group = "expect")]
        if_value: Option<String>,
    },
    /// Add to a counter
    #[command(
        after_help = "Examples:\n  hansa kv incr stock TEA-01/LUB 5\n  hansa kv incr stock TEA-01/LUB -1 --level strong"
    )]
    Incr {
        #[command(flatten)]
        key: KeyArgs,
        /// How much; may be negative
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Add an element to a set
    #[command(after_help = "Example:\n  hansa kv add carts alice 'TEA-01 x2'")]
    Add(ElementArgs),
    /// Remove an element from a set
    #[command(after_help = "Example:\n  hansa kv remove carts alice 'TEA-01 x2'")]
    Remove(ElementArgs),
    /// Ask whether an element is in a set; exit code 1 when it is not
    #[command(after_help = "Example:\n  hansa kv contains carts alice 'TEA-01 x2' --level strong")]
    Contains(ElementArgs),
    /// List the elements of a set; levels eventual and session
    #[command(after_help = "\
Example:
  hansa kv members carts alice --limit 20

Backslashes, control and format characters and what is no UTF-8 are escaped, as \\\\, \\t, \\u{202e} and
\\xff; --hex, --base64 and -o json keep every byte.")]
    Members {
        #[command(flatten)]
        key: KeyArgs,
        /// The sort key, shorter
        #[arg(value_name = "SORT", conflicts_with = "sort")]
        sort_too: Option<String>,
        /// At most this many elements
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// List rows; levels eventual and session
    #[command(after_help = "\
Examples:
  hansa kv scan profiles --limit 20
  hansa kv scan counters views/DE --prefix 2026-01 -o jsonl

Backslashes, control and format characters and what is no UTF-8 are escaped, as in `members`.")]
    Scan {
        /// The keyspace
        keyspace: String,
        /// Only rows of this partition key, in order of their sort keys
        key: Option<String>,
        /// Only sort keys that start with this
        #[arg(long, requires = "key")]
        prefix: Option<String>,
        /// At most this many rows
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Make the writes that stand in a file, one JSON object per line
    #[command(after_help = IMPORT_HELP)]
    Import {
        /// The file; `-` reads standard input
        file: PathBuf,
        /// Writes under way at once; a session makes one after the other
        #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
        concurrency: u16,
    },
    /// Print keyspaces as writes that `import` takes, one JSON object per line
    #[command(after_help = "Example:\n  hansa kv export profiles carts > backup.jsonl")]
    Export {
        /// The keyspaces
        #[arg(required = true)]
        keyspaces: Vec<String>,
    },
}

const IMPORT_HELP: &str = "\
A line: {\"keyspace\":\"profiles\",\"key\":\"alice\",\"op\":\"put\",\"value\":\"Anna\"}
  op      put with value, add with element, or incr with amount
  sort    the sort key, optional
  key_base64, sort_base64, value_base64, element_base64 take the place of texts for other bytes
  home    is passed over
Begins no line after one that failed, and names every line that was not applied and every one that
may have been; all others up to the last one read were applied. The exit code tells the worst: 4 when
a line may have been applied, else 6 when some were applied, else that of the failure. `incr` lines
count again when they are imported again.

Examples:
  hansa kv import backup.jsonl --level eventual
  hansa kv export carts | hansa kv import - --endpoint http://127.0.0.1:8101";

#[derive(Args, Clone, Debug)]
pub(crate) struct ElementArgs {
    #[command(flatten)]
    pub(crate) key: KeyArgs,
    /// The element; `-` reads standard input
    #[arg(allow_hyphen_values = true)]
    pub(crate) element: String,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  hansa status
  hansa status --endpoint http://127.0.0.1:7101 -o json

Piped, it prints a head and one line per endpoint, fields separated by tabs; -o json has the peers, too.
Ends with 0 when every endpoint answers, else with 5.")]
pub(crate) struct StatusArgs {
    /// Show the topology's keyspaces instead
    #[arg(long)]
    pub(crate) keyspaces: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
    #[command(flatten)]
    pub(crate) printing: Printing,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ConfigCommand {
    /// Say what is wrong with a node's settings; exit code 2 if anything is
    #[command(after_help = "Example:\n  hansa config check --config /etc/hansa/node.toml")]
    Check(NodeArgs),
    /// Print a node's settings and where each comes from
    #[command(after_help = "Example:\n  hansa config show --config node.toml --engine sled")]
    Show(NodeArgs),
    /// Write node.toml and topology.toml with every setting explained
    #[command(after_help = "Examples:\n  hansa config init .\n  hansa config init --print")]
    Init {
        /// Into this directory; files that exist are left alone
        #[arg(default_value = ".")]
        directory: PathBuf,
        /// Print them instead
        #[arg(long)]
        print: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(crate) enum AdminCommand {
    /// Cut a region off: its nodes reach no other region any more
    #[command(after_help = "Example:\n  hansa admin cut eu-central")]
    Cut(LinkArgs),
    /// Heal a region's links
    #[command(after_help = "Example:\n  hansa admin heal eu-central")]
    Heal(LinkArgs),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct LinkArgs {
    /// The region
    pub(crate) name: String,
    /// Which way: what the region receives, what it sends, or both
    #[arg(long, value_enum, default_value_t = Direction::Both)]
    pub(crate) direction: Direction,
    /// Where the demo takes orders
    #[arg(long, value_name = "URL", env = "HANSA_DEMO_ADMIN", default_value = DEMO_ADMIN_DEFAULT)]
    pub(crate) admin: String,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Direction {
    /// Both ways
    Both,
    /// What the region receives
    In,
    /// What the region sends
    Out,
}

fn level(word: &str) -> Result<Consistency, String> {
    match word.parse() {
        Ok(Consistency::KeyspaceDefault) | Err(_) => {
            Err("the levels are eventual, session and strong".to_owned())
        }
        Ok(level) => Ok(level),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let at = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "ms" => 0.001,
        "s" | "" => 1.0,
        "m" => 60.0,
        _ => return Err("write a number and ms, s or m, such as 500ms".to_owned()),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| "write a time such as 500ms or 5s".to_owned())?;
    let time = Duration::try_from_secs_f64(number * seconds).map_err(|error| error.to_string())?;
    if time.is_zero() || time > hansa_client::DEADLINE_MAX {
        return Err("a call takes more than 0 and at most 60s".to_owned());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_have_units_and_bounds() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        for wrong in ["", "0", "5h", "61s", "-1s", "1e400", "."] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
