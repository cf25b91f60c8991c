//! `hansa status`: every endpoint's view of itself and its peers.

use hansa_client::admin::{KeyspaceInfo, PeerStatus, Standing, StatusReply};
use hansa_client::{Admin, Error};
use serde_json::{Value as Json, json};
use tokio::task::JoinSet;

use crate::args::{Reach, StatusArgs};
use crate::connect::endpoint;
use crate::exit::{Code, Failure, told};
use crate::output::{Output, Style};

/// What one endpoint said.
type Answer = (String, Result<StatusReply, Error>);

/// Asks all endpoints at once.
pub(crate) async fn run(args: &StatusArgs) -> Result<Code, Failure> {
    let output = Output::new(args.printing.format);
    if args.keyspaces {
        return keyspaces(&args.reach, output).await;
    }
    let mut asking = JoinSet::new();
    for (index, text) in args.reach.endpoints.iter().enumerate() {
        let (_, url) = endpoint(text);
        let time = args.reach.patience.timeout;
        asking.spawn(async move {
            let answer = match Admin::connect(&url, time).await {
                Ok(admin) => admin.status().await,
                Err(error) => Err(error),
            };
            (index, (url, answer))
        });
    }
    let mut answers: Vec<(usize, Answer)> = asking.join_all().await;
    answers.sort_by_key(|(index, _)| *index);
    let answers: Vec<Answer> = answers.into_iter().map(|(_, answer)| answer).collect();
    let code = match answers.iter().all(|(_, answer)| answer.is_ok()) {
        true => Code::Ok,
        false => Code::Unreachable,
    };
    told(print(output, &answers), code)
}

fn print(output: Output, answers: &[Answer]) -> Result<(), Failure> {
    match output.style {
        Style::Json => {
            let nodes: Vec<Json> = answers.iter().map(node_json).collect();
            output.json(&json!({"nodes": nodes}))
        }
        Style::Jsonl => answers
            .iter()
            .try_for_each(|answer| output.json(&node_json(answer))),
        Style::Table | Style::Plain => {
            let head = [
                "endpoint", "node", "region", "standing", "serves", "start", "open",
            ];
            let nodes: Vec<_> = answers.iter().map(node_row).collect();
            output.rows_under_head(&head, &nodes)?;
            if output.style == Style::Table {
                output.value(b"\n")?;
                let head = [
                    "from",
                    "to",
                    "state",
                    "rtt ms",
                    "staleness ms",
                    "shards behind",
                    "votes",
                ];
                let peers: Vec<_> = answers.iter().flat_map(peer_rows).collect();
                output.rows(&head, &peers)?;
            }
            Ok(())
        }
    }
}

fn standing(reply: &StatusReply) -> &'static str {
    match reply.standing() {
        Standing::Asking => "asking",
        Standing::Voting => "voting",
        Standing::Lost => "lost",
        Standing::Unspecified => "unknown",
    }
}

fn node_row((url, answer): &Answer) -> Vec<String> {
    match answer {
        Ok(reply) => vec![
            url.clone(),
            reply.node.clone(),
            reply.region.clone(),
            standing(reply).to_owned(),
            reply.levels.join(","),
            reply.start.to_string(),
            reply.open_requests.to_string(),
        ],
        Err(error) => {
            let mut row = vec![url.clone(), "-".to_owned(), "-".to_owned()];
            row.push(error.reason().to_lowercase());
            row.extend(["-", "-", "-"].map(str::to_owned));
            row
        }
    }
}

fn peer_rows((_, answer): &Answer) -> Vec<Vec<String>> {
    let Ok(reply) = answer else {
        return Vec::new();
    };
    let row = |peer: &PeerStatus| {
        let state = match (peer.reachable, peer.lost, peer.clock_disputed) {
            (false, ..) => "unreachable",
            (_, true, _) => "refilling",
            (.., true) => "clock differs",
            _ => "reachable",
        };
        let rtt = peer.rtt_us.map(|rtt| format!("{:.1}", rtt as f64 / 1000.0));
        let staleness = peer.staleness_ms.map(|time| time.to_string());
        vec![
            reply.node.clone(),
            peer.node.clone(),
            state.to_owned(),
            rtt.unwrap_or_else(|| "-".to_owned()),
            staleness.unwrap_or_else(|| "-".to_owned()),
            peer.shards_behind.to_string(),
            if peer.votes { "yes" } else { "no" }.to_owned(),
        ]
    };
    reply.peers.iter().map(row).collect()
}

fn node_json((url, answer): &Answer) -> Json {
    let reply = match answer {
        Ok(reply) => reply,
        Err(error) => {
            let error = json!({"reason": error.reason(), "message": error.message()});
            return json!({"endpoint": url, "reachable": false, "error": error});
        }
    };
    let peer = |peer: &PeerStatus| {
        json!({
            "node": peer.node,
            "region": peer.region,
            "reachable": peer.reachable,
            "lost": peer.lost,
            "clock_disputed": peer.clock_disputed,
            "rtt_us": peer.rtt_us,
            "staleness_ms": peer.staleness_ms,
            "shards_behind": peer.shards_behind,
            "votes": peer.votes,
        })
    };
    json!({
        "endpoint": url,
        "reachable": true,
        "cluster_id": reply.cluster_id,
        "node": reply.node,
        "region": reply.region,
        "epoch": reply.epoch,
        "version": reply.version,
        "uptime_ms": reply.uptime_ms,
        "standing": standing(reply),
        "levels": reply.levels,
        "open_requests": reply.open_requests,
        "writable": reply.writable,
        "strong_available": reply.strong_available,
        "store_sequence": reply.store_sequence,
        "shards": reply.shards,
        "entries_applied": reply.entries_applied,
        "entries_uncommitted": reply.entries_uncommitted,
        "shards_refilling": reply.shards_refilling,
        "sessions_waiting": reply.sessions_waiting,
        "unsettled": reply.unsettled,
        "damage": reply.damage,
        "disk_trouble": reply.disk_trouble,
        "incarnation": reply.incarnation,
        "start": reply.start,
        "peers": reply.peers.iter().map(peer).collect::<Vec<_>>(),
    })
}

/// The topology's keyspaces, from the first endpoint that answers.
async fn keyspaces(reach: &Reach, output: Output) -> Result<Code, Failure> {
    let mut last = None;
    for text in &reach.endpoints {
        let (_, url) = endpoint(text);
        let asked = match Admin::connect(&url, reach.patience.timeout).await {
            Ok(admin) => admin.topology().await,
            Err(error) => Err(error),
        };
        match asked {
            Ok(topology) => {
                print_keyspaces(output, &topology.keyspaces)?;
                return Ok(Code::Ok);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(match last {
        Some(error) => error.into(),
        None => Failure::local("no endpoint was named"),
    })
}

fn print_keyspaces(output: Output, keyspaces: &[KeyspaceInfo]) -> Result<(), Failure> {
    if output.is_json() {
        let one = |keyspace: &KeyspaceInfo| {
            json!({
                "name": keyspace.name,
                "type": keyspace.r#type,
                "regions": keyspace.regions,
                "replicas": keyspace.replicas,
                "shards": keyspace.shards,
                "default_level": keyspace.default_level,
                "mixing": keyspace.mixing,
            })
        };
        let all: Vec<Json> = keyspaces.iter().map(one).collect();
        return output.json(&json!({"keyspaces": all}));
    }
    let row = |keyspace: &KeyspaceInfo| {
        vec![
            keyspace.name.clone(),
            keyspace.r#type.clone(),
            keyspace.default_level.clone(),
            keyspace.mixing.clone(),
            keyspace.replicas.to_string(),
            keyspace.shards.to_string(),
            keyspace.regions.join(","),
        ]
    };
    let head = [
        "keyspace", "type", "level", "mixing", "replicas", "shards", "regions",
    ];
    output.rows_under_head(&head, &keyspaces.iter().map(row).collect::<Vec<_>>())
}
