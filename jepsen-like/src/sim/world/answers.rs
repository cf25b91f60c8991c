//! What becomes of the answers to operations that are several requests, and what is watched in answers.

use hansa_consistency::key::Row;
use hansa_consistency::request::{Answer, Command, Level, Refusal, Reply};

use super::{CLIENT_US, Todo, World};
use crate::sim::client::{self, Asked, Open};
use crate::sim::several::Step;

impl World {
    /// Takes an answer for the operation of a process; gives what it comes to, once it is whole.
    pub(super) fn put_together(
        &mut self,
        index: usize,
        number: u64,
        result: Result<Reply, Refusal>,
    ) -> Option<Result<Reply, Refusal>> {
        let process = &mut self.processes[index];
        let node = process.node;
        let Asked::Several(several) = &mut process.open.as_mut()?.asked else {
            return Some(result);
        };
        if let Ok(reply) = &result {
            for (row, etag) in several.shown(number, reply) {
                self.invariants.shown(&row, &etag);
            }
        }
        match several.answered(number, &result) {
            Step::Done(result) => return Some(*result),
            Step::Wait => {}
            Step::Ask(request, by_client) => {
                self.next_op += 1;
                let part = self.next_op;
                self.open.insert(part, index);
                // Between pages the answer goes to the client, and the client asks again.
                let delay = if by_client { 2 * CLIENT_US } else { 0 };
                self.after(delay, Todo::Ask(node, part, request));
            }
        }
        self.open.remove(&number);
        None
    }

    /// Ends the operation of a process: whatever of it is still under way is of no interest any more.
    pub(super) fn close(&mut self, index: usize) -> Option<Open> {
        self.open.retain(|_, of| *of != index);
        self.processes[index].open.take()
    }

    /// Watches the version that a weak read of one register showed.
    pub(super) fn watch(&mut self, open: &Open, result: &Result<Reply, Refusal>) {
        if let (Asked::One(request), Ok(reply)) = (&open.asked, result)
            && let Command::Get(row) = &request.command
            && request.level != Level::Strong
            && is_register(row)
            && let Answer::Read { etag, .. } = &reply.answer
        {
            self.invariants.shown(row, etag);
        }
    }
}

fn is_register(row: &Row) -> bool {
    row.shard().keyspace == client::REGISTERS
}
