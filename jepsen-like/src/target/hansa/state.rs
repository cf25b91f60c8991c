//! How the nodes see themselves and each other, and what they hold: whether the cluster has settled.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use hansa_client::Error;
use hansa_client::admin::{Admin, PeerStatus, Standing, StatusReply};

use crate::nemesis::NodeIndex;
use crate::workload::{COUNTERS, REGISTERS, SETS};

/// How long a question to one node may take. A digest reads everything that the node holds.
const ASK_WITHIN: Duration = Duration::from_secs(5);

/// One node's digests: keyspace and hexadecimal digits.
pub(super) type Digests = Vec<(String, String)>;

/// What a settled cluster looks like.
pub(super) struct Expected<'a> {
    /// The names of the nodes, in order.
    pub(super) names: Vec<&'a str>,
    /// Nodes whose data was changed behind their backs: they may have lost it, and vote no more.
    pub(super) harmed: BTreeSet<NodeIndex>,
}

/// A connection to the admin service of each node, made when it is needed.
pub(super) struct Admins {
    nodes: Vec<Option<Admin>>,
}

impl Admins {
    /// No connection yet.
    pub(super) fn new(nodes: usize) -> Admins {
        Admins {
            nodes: vec![None; nodes],
        }
    }

    /// What keeps the cluster from having settled, in words; `None` when nothing does. `urls` say where each node
    /// listens; `None` where it does not run.
    pub(super) async fn unsettled(
        &mut self,
        urls: &[Option<String>],
        expected: &Expected<'_>,
    ) -> Option<String> {
        let nodes = self.nodes.iter_mut().zip(urls);
        let asked = nodes.map(|(slot, url)| async move {
            let admin = connect(url.as_deref(), slot).await?;
            answered(slot, admin.status().await)
        });
        for (node, status) in join_all(asked).await.into_iter().enumerate() {
            let missing = status.map_or_else(Some, |status| expected.missing(node, &status));
            if let Some(missing) = missing {
                return Some(format!("{}: {missing}", expected.names[node]));
            }
        }
        let mut all = Vec::with_capacity(expected.names.len());
        for (digests, name) in self.digests(urls).await.into_iter().zip(&expected.names) {
            match digests {
                Ok(digests) => all.push(digests),
                Err(why) => return Some(format!("{name}: {why}")),
            }
        }
        difference(&all)
    }

    /// The digests of every node over the workloads' keyspaces, in order; why there are none.
    pub(super) async fn digests(
        &mut self,
        urls: &[Option<String>],
    ) -> Vec<Result<Digests, String>> {
        let nodes = self.nodes.iter_mut().zip(urls);
        let asked = nodes.map(|(slot, url)| async move {
            let admin = connect(url.as_deref(), slot).await?;
            let reply = answered(slot, admin.digest("", false).await)?;
            let ours = [REGISTERS, COUNTERS, SETS];
            let pairs = reply.keyspaces.into_iter();
            let pairs = pairs.filter(|it| ours.contains(&it.keyspace.as_str()));
            Ok(pairs.map(|it| (it.keyspace, it.digest)).collect())
        });
        join_all(asked).await
    }
}

/// The connection to a node, a new one if there is none.
async fn connect(url: Option<&str>, slot: &mut Option<Admin>) -> Result<Admin, String> {
    let url = url.ok_or("it does not run")?;
    if let Some(admin) = slot {
        return Ok(admin.clone());
    }
    let admin = Admin::connect(url, ASK_WITHIN).await;
    let admin = admin.map_err(|error| format!("it does not answer: {error}"))?;
    Ok(slot.insert(admin).clone())
}

/// Forgets a connection on which nothing came.
fn answered<T>(slot: &mut Option<Admin>, reply: Result<T, Error>) -> Result<T, String> {
    reply.map_err(|error| {
        *slot = None;
        format!("it does not answer: {error}")
    })
}

impl Expected<'_> {
    /// What a node lacks to have settled.
    fn missing(&self, node: NodeIndex, status: &StatusReply) -> Option<String> {
        let lost = status.standing == i32::from(Standing::Lost);
        let counts = [
            (status.shards_refilling, "shards are not refilled"),
            (status.entries_uncommitted, "entries are not committed"),
            (status.sessions_waiting, "session requests wait"),
        ];
        let count = counts.into_iter().find(|(count, _)| *count > 0);
        if let Some((count, what)) = count {
            return Some(format!("{count} {what}"));
        }
        if lost && self.harmed.contains(&node) {
            return self.missing_peer(status);
        }
        if status.standing != i32::from(Standing::Voting) {
            let what = if lost {
                "it says that it lost data"
            } else {
                "it does not vote yet"
            };
            return Some(what.to_owned());
        }
        if !status.writable {
            let why = [&status.disk_trouble, &status.damage].map(String::as_str);
            return Some(format!("it takes no writes: {}", why.join(" ")));
        }
        if !status.strong_available {
            return Some("it sees no quorum".to_owned());
        }
        self.missing_peer(status)
    }

    fn missing_peer(&self, status: &StatusReply) -> Option<String> {
        status.peers.iter().find_map(|peer| {
            let known = self.names.iter().position(|name| *name == peer.node);
            let harmed = known.is_some_and(|node| self.harmed.contains(&node));
            let what = peer_fault(peer, harmed)?;
            Some(format!("{} {what}", peer.node))
        })
    }
}

fn peer_fault(peer: &PeerStatus, harmed: bool) -> Option<String> {
    let what = match peer {
        peer if !peer.reachable => "is not reached",
        peer if peer.clock_disputed => "has another clock",
        peer if peer.lost && !harmed => "says that it lost data",
        peer if !peer.votes && !peer.lost => "does not vote",
        peer if peer.shards_behind > 0 => {
            return Some(format!("has more in {} shards", peer.shards_behind));
        }
        _ => return None,
    };
    Some(what.to_owned())
}

/// The keyspaces in which not all nodes agree, in words.
fn difference(all: &[Digests]) -> Option<String> {
    let (first, others) = all.split_first()?;
    let longest = all.iter().map(Vec::len).max().unwrap_or(0);
    let differs = |at: &usize| others.iter().any(|it| it.get(*at) != first.get(*at));
    let name = |at: usize| all.iter().find_map(|it| Some(it.get(at)?.0.as_str()));
    let names: Vec<&str> = (0..longest).filter(differs).filter_map(name).collect();
    (!names.is_empty()).then(|| format!("the digests of {} differ", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(name: &str) -> PeerStatus {
        PeerStatus {
            node: name.to_owned(),
            reachable: true,
            votes: true,
            ..PeerStatus::default()
        }
    }

    fn status() -> StatusReply {
        StatusReply {
            standing: Standing::Voting.into(),
            writable: true,
            strong_available: true,
            peers: vec![peer("b"), peer("c")],
            ..StatusReply::default()
        }
    }

    fn missing(harmed: &[NodeIndex], change: impl FnOnce(&mut StatusReply)) -> String {
        let expected = Expected {
            names: vec!["a", "b", "c"],
            harmed: harmed.iter().copied().collect(),
        };
        let mut status = status();
        change(&mut status);
        expected.missing(0, &status).unwrap_or_default()
    }

    #[test]
    fn what_is_not_settled_is_said() {
        assert_eq!(missing(&[], |_| {}), "");
        let words = missing(&[], |it| it.standing = Standing::Asking.into());
        assert_eq!(words, "it does not vote yet");
        let words = missing(&[], |it| it.peers[1].shards_behind = 3);
        assert_eq!(words, "c has more in 3 shards");
        let words = missing(&[], |it| it.peers[0].reachable = false);
        assert_eq!(words, "b is not reached");
        let words = missing(&[], |it| it.entries_uncommitted = 2);
        assert_eq!(words, "2 entries are not committed");
        assert_eq!(
            missing(&[], |it| it.strong_available = false),
            "it sees no quorum"
        );
    }

    #[test]
    fn only_a_harmed_node_may_have_lost_its_data() {
        let lost = |it: &mut StatusReply| {
            it.standing = Standing::Lost.into();
            it.writable = false;
        };
        assert_eq!(missing(&[], lost), "it says that it lost data");
        assert_eq!(missing(&[1], lost), "it says that it lost data");
        assert_eq!(missing(&[0], lost), "");
        let lost_peer = |it: &mut StatusReply| {
            it.peers[0].lost = true;
            it.peers[0].votes = false;
        };
        assert_eq!(missing(&[], lost_peer), "b says that it lost data");
        assert_eq!(missing(&[1], lost_peer), "");
        let words = missing(&[0], |it| {
            lost(it);
            it.shards_refilling = 1;
        });
        assert_eq!(words, "1 shards are not refilled");
    }

    #[test]
    fn different_digests_are_named() {
        let node = |a: &str, b: &str| {
            vec![
                ("counters".to_owned(), a.to_owned()),
                ("sets".to_owned(), b.to_owned()),
            ]
        };
        assert_eq!(difference(&[node("1", "2"), node("1", "2")]), None);
        let all = [node("1", "2"), node("1", "2"), node("1", "3")];
        assert_eq!(difference(&all).unwrap(), "the digests of sets differ");
        let all = [Vec::new(), node("1", "2")];
        assert_eq!(
            difference(&all).unwrap(),
            "the digests of counters, sets differ"
        );
    }
}
