//! A client of etcd: one operation at a time, at the member that it was told to ask.

use std::time::Duration;

use tokio::time::timeout;

use super::ask::{self, Ask};
use super::{Api, Reads, node_name, region_name};
use crate::history::{Record, Status};
use crate::nemesis::NodeIndex;
use crate::target::{RunClock, TargetClient};
use crate::workload::Intent;

/// The error of an operation that was given up.
const DEADLINE: &str = "DEADLINE";
/// The error of an operation that etcd does not have.
const NOT_SUPPORTED: &str = "NOT_SUPPORTED";

/// One logical client.
///
/// etcd knows no sessions. Whatever is linearizable keeps a session's promises too, so the client is one.
pub struct EtcdClient {
    process: u64,
    node: NodeIndex,
    /// One connection to each member, made when first used.
    members: Vec<Api>,
    reads: Reads,
    /// When the last operation completed.
    last_ns: u64,
}

impl EtcdClient {
    pub(super) fn new(
        process: u64,
        node: NodeIndex,
        members: Vec<Api>,
        reads: Reads,
    ) -> EtcdClient {
        EtcdClient {
            process,
            node,
            members,
            reads,
            last_ns: 0,
        }
    }
}

impl TargetClient for EtcdClient {
    fn move_to(&mut self, node: NodeIndex) {
        self.node = node;
    }

    async fn perform(&mut self, intent: &Intent, clock: RunClock, deadline: Duration) -> Record {
        let invoke_ns = clock.now_ns().max(self.last_ns + 1);
        let session = format!("s{}", self.process);
        let mut record = intent.record(self.process, &session, invoke_ns);
        record.node = Some(node_name(self.node));
        record.region = Some(region_name(self.node));
        let asked = Ask::of(intent, self.reads);
        match (asked, self.members.get_mut(self.node)) {
            (Ok(asked), Some(api)) => match timeout(deadline, asked.send(api)).await {
                Ok(Ok(answer)) => answer.note(&mut record),
                Ok(Err(error)) => ask::note_error(&mut record, &error),
                Err(_) => record.error = Some(DEADLINE.to_owned()),
            },
            (Err(why), _) => refuse(&mut record, &why),
            (_, None) => refuse(&mut record, "there is no such member"),
        }
        self.last_ns = clock.now_ns().max(invoke_ns);
        record.complete_ns = Some(self.last_ns);
        record
    }
}

fn refuse(record: &mut Record, why: &str) {
    record.status = Status::Fail;
    record.error = Some(format!("{NOT_SUPPORTED}: {why}"));
}
