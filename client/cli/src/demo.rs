//! `hansa demo`: three regions on this machine, as processes of their own, with WAN latency between
//! them.
//!
//! The demo starts one `hansa serve` per node, puts a proxied link with a delay between every two
//! nodes of different regions, loads a data set, and then either shows a light workload live, tells
//! the whole story by itself with checks (`--smoke`), or measures strong operations
//! (`--bench-strong`). It ends its nodes whatever way it ends itself.
//!
//! | file | what |
//! | --- | --- |
//! | `shape`, `ports`, `schedule` | what was asked for: regions and round trips, ports, cuts |
//! | `files`, `launcher`, `lifeline`, `ready` | the nodes: settings, processes, their end, their start |
//! | `links`, `orders` | the WAN, and `hansa admin cut`, `heal` |
//! | `cluster` | all of it together, from start to stop |
//! | `dataset`, `workload`, `board`, `table`, `live` | what a spectator sees |
//! | `smoke`, `history`, `bench`, `scrape` | what a judge sees |

mod bench;
mod board;
mod cluster;
mod dataset;
mod files;
mod history;
mod launcher;
mod lifeline;
mod links;
mod live;
mod orders;
mod ports;
mod ready;
mod schedule;
mod scrape;
mod shape;
mod smoke;
mod table;
mod workload;

use std::path::PathBuf;

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use self::cluster::Cluster;
use self::ports::BASE_DEFAULT;
use self::schedule::ScheduledCut;
use self::shape::{NODES_PER_REGION_MAX, Rtt};
use crate::exit::{Code, Failure};

pub(crate) use self::lifeline::parent_gone;

/// Options of `demo`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  hansa demo
  hansa demo --cut ap-northeast@20s..40s
  hansa demo --rtt us-east:eu-central=20,us-east:ap-northeast=40 --nodes-per-region 3
  hansa demo --smoke --history smoke.jsonl
  hansa demo --bench-strong

A node that ends while the demo runs stays down: the demo says so, names it in the table and prints the
command that starts it again.

Ports: 7100 takes `hansa admin cut|heal`, clients 7101.. (one per node), metrics 7201.., peers and
links 7301...

Ends with 0 after Ctrl-C or when all checks hold, with 1 when a check of --smoke or --bench-strong
does not hold, with 2 when it can not start, with 3 when a node fails.")]
pub(crate) struct DemoArgs {
    /// Nodes in each region; every node holds all keys of its region
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=i64::from(NODES_PER_REGION_MAX))
    )]
    pub(crate) nodes_per_region: u16,
    /// Round trip between two regions in milliseconds; else 90 us-eu, 150 us-ap, 220 eu-ap
    #[arg(long, value_name = "A:B=MS", value_delimiter = ',')]
    pub(crate) rtt: Vec<Rtt>,
    /// Keep the data here and go on with it the next time; else in a temporary directory
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// First port, at least 1024; all others follow from it
    #[arg(long, value_name = "PORT", default_value_t = BASE_DEFAULT)]
    pub(crate) port_base: u16,
    /// Storage engine: fjall, sled or memory (keeps nothing over a restart; not with --smoke)
    #[arg(
        long,
        value_name = "ENGINE",
        default_value = "fjall",
        value_parser = ["fjall", "sled", "memory"]
    )]
    pub(crate) engine: String,
    /// Cut a region off for a while, counted from when the demo is ready; may be repeated
    #[arg(long, value_name = "REGION@FROM..UNTIL", conflicts_with_all = ["smoke", "bench_strong"])]
    pub(crate) cut: Vec<ScheduledCut>,
    /// Tell the whole story with checks, in under 90 s; one JSON line of figures comes last
    #[arg(long, conflicts_with = "bench_strong")]
    pub(crate) smoke: bool,
    /// Write what --smoke did and saw as JSON lines (docs/history-format.md)
    #[arg(long, value_name = "FILE", requires = "smoke")]
    pub(crate) history: Option<PathBuf>,
    /// Measure 200 strong gets and 200 strong puts in each region, with nothing else running
    #[arg(long)]
    pub(crate) bench_strong: bool,
}

/// Runs the demo until it is done or a signal comes. When it returns no process of it is left.
pub(crate) async fn run(args: DemoArgs) -> Result<Code, Failure> {
    if args.smoke && args.engine == "memory" {
        // The story kills a node and wants its data back, and a node without its data never votes
        // again: the checks would fail for a reason that is none.
        let advice = "--smoke kills a node and looks for its data: use --engine fjall or sled";
        return Err(Failure::local(advice));
    }
    let mut signals = Signals::new()?;
    let started = Cluster::start(&args, signals.next()).await;
    let started = started.map_err(|error| Failure::local(format!("{error:#}")))?;
    let Some(mut cluster) = started else {
        return Ok(interrupted(&args));
    };
    eprintln!("ready after {:.1} s", cluster.ready_after.as_secs_f64());
    let outcome = tokio::select! {
        outcome = play(&mut cluster, &args) => outcome,
        () = signals.next() => Ok(interrupted(&args)),
    };
    // Logs and data of a run that went wrong are worth more than the space they take.
    if !matches!(outcome, Ok(Code::Ok)) {
        cluster.files.keep();
        eprintln!(
            "data and logs are kept in {}",
            cluster.files.path().display()
        );
    }
    for name in cluster.stop().await {
        eprintln!("{name} did not stop by itself and was killed");
    }
    outcome.map_err(|error| Failure::Node(format!("{error:#}")))
}

/// How a demo ends that was told to: a spectator has seen enough, a judge has not.
fn interrupted(args: &DemoArgs) -> Code {
    if args.smoke || args.bench_strong {
        eprintln!("interrupted: not all checks were made");
        return Code::No;
    }
    Code::Ok
}

async fn play(cluster: &mut Cluster, args: &DemoArgs) -> anyhow::Result<Code> {
    let code = |good| if good { Code::Ok } else { Code::No };
    if args.bench_strong {
        return bench::run(cluster).await.map(code);
    }
    match cluster.load().await? {
        0 => eprintln!("the data set is there already"),
        lines => eprintln!("loaded {lines} records"),
    }
    if args.smoke {
        return Ok(code(smoke::run(cluster, args.history.as_deref()).await));
    }
    live::run(cluster, &args.cut).await.map(|()| Code::Ok)
}

/// The signals that end the demo.
struct Signals([tokio::signal::unix::Signal; 3]);

impl Signals {
    fn new() -> Result<Signals, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::local(format!("no signals: {error}")));
        Ok(Signals([
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ]))
    }

    /// Returns at the next signal.
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        demo: DemoArgs,
    }

    fn parse(arguments: &[&str]) -> Result<DemoArgs, String> {
        let line = Line::try_parse_from(["demo"].iter().chain(arguments));
        line.map(|line| line.demo)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn everything_has_a_default() {
        let args = parse(&[]).unwrap();
        assert_eq!((args.nodes_per_region, args.port_base), (1, 7100));
        assert_eq!(args.engine, "fjall");
        assert!(!args.smoke && !args.bench_strong && args.cut.is_empty());
    }

    #[tokio::test]
    async fn smoke_wants_an_engine_that_keeps_data() {
        let args = parse(&["--smoke", "--engine", "memory"]).unwrap();
        let failure = run(args).await.unwrap_err();
        assert_eq!(failure.code(), Code::Usage);
        assert!(failure.to_string().contains("--engine"), "{failure}");
    }

    #[test]
    fn lists_are_read_and_may_be_repeated() {
        let args = parse(&[
            "--rtt",
            "us-east:eu-central=20,us-east:ap-northeast=40",
            "--cut",
            "us-east@1s..2s",
            "--cut",
            "eu-central@3s..4s",
        ]);
        let args = args.unwrap();
        assert_eq!((args.rtt.len(), args.cut.len()), (2, 2));
    }

    #[test]
    fn what_does_not_fit_is_refused_with_words() {
        for (arguments, part) in [
            (&["--nodes-per-region", "6"][..], "1..=5"),
            (&["--engine", "files"], "fjall, sled, memory"),
            (&["--history", "f"], "--smoke"),
            (&["--smoke", "--bench-strong"], "cannot be used with"),
            (
                &["--smoke", "--cut", "us-east@1s..2s"],
                "cannot be used with",
            ),
            (&["--cut", "mars@1s..2s"], "no region `mars`"),
            (&["--rtt", "us-east:eu-central=x"], "MILLISECONDS"),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(error.contains(part), "{arguments:?}: {error}");
        }
    }
}
