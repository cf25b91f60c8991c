//! Clients: they write, and read anywhere under the token of all they have seen.

use hansa_consistency::clock::Hlc;
use hansa_consistency::session::Context;
use hansa_consistency::value::State;

use super::roster::node as node_id;
use super::world::{HOME, Life, ROWS, World};

/// Clients of a schedule.
const CLIENTS: usize = 3;

/// Writes of a schedule, at most: the k-th adds 2^k to a counter, so that a total tells which it holds.
pub(super) const WRITES_MAX: usize = 24;

/// A set of writes, one bit each.
pub(super) type Writes = u64;

/// One client.
#[derive(Clone, Debug)]
pub(super) struct Client {
    token: Context,
    /// What it wrote or saw, with all causes.
    past: Writes,
    /// The write it waits for.
    pending: Option<usize>,
}

/// One write.
#[derive(Clone, Debug)]
pub(super) struct Call {
    client: usize,
    row: usize,
    /// What its client had seen before.
    past: Writes,
    pub(super) acknowledged: bool,
}

impl Client {
    pub(super) fn all() -> Vec<Client> {
        let client = Client {
            token: Context::new(),
            past: 0,
            pending: None,
        };
        vec![client; CLIENTS]
    }
}

impl World {
    /// Some client writes somewhere in the region, at once or once its node has all that the session has seen.
    pub(super) fn client_writes(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        let at = self.random.below(self.home as u64) as usize;
        let row = self.random.below(ROWS as u64) as usize;
        let waits = self.random.chance(500);
        if self.clients[client].pending.is_some() && !self.random.chance(200) {
            return;
        }
        self.write_of(client, at, row, waits);
    }

    /// A client writes at a node; `false` if that node takes no writes now.
    pub(super) fn write_of(&mut self, client: usize, at: usize, row: usize, waits: bool) -> bool {
        let token = self.clients[client].token.clone();
        let node = &self.nodes[at];
        let (Some((_, term)), Life::Up) = (node.writes, node.life) else {
            return false;
        };
        let covered = self.safe_time(at) >= token.get(HOME);
        let fenced = node.acceptor.refuses(node_id(at), term) || node.refused;
        if self.calls.len() >= WRITES_MAX || fenced || node.lost || waits && !covered {
            return false;
        }
        let write = self.calls.len();
        self.calls.push(Call {
            client,
            row,
            past: self.clients[client].past,
            acknowledged: false,
        });
        self.clients[client].pending = Some(write);
        let clock = &mut self.nodes[at].clock;
        *clock = (*clock).max(token.newest().0);
        let now = self.now;
        self.trace.note(now, (b'w', client, at, write), || {
            format!("client {client} writes {write} at n{at}")
        });
        self.write(at, write, row, token);
        true
    }

    /// A write is committed.
    pub(super) fn answer(&mut self, write: usize, hlc: Hlc) {
        let Call { client, past, .. } = self.calls[write];
        self.calls[write].acknowledged = true;
        let now = self.now;
        self.trace.note(now, (b'o', write, hlc), || {
            format!("write {write} is answered, {hlc:?}")
        });
        let client = &mut self.clients[client];
        if client.pending == Some(write) {
            client.pending = None;
            client.token.raise(HOME, hlc);
            client.past |= past | 1 << write;
        }
    }

    /// Some client reads somewhere, at level session or eventual.
    pub(super) fn client_reads(&mut self) {
        let client = self.random.below(CLIENTS as u64) as usize;
        let at = self.random.below(self.nodes.len() as u64) as usize;
        let row = self.random.below(ROWS as u64) as usize;
        let session = self.random.chance(700);
        if self.nodes[at].life == Life::Up {
            self.read_of(client, at, row, session);
        }
    }

    fn read_of(&mut self, client: usize, at: usize, row: usize, session: bool) {
        let wanted = self.clients[client].token.get(HOME);
        if session && self.safe_time(at) < wanted {
            self.counts.session_waits += 1;
            return;
        }
        let record = self.nodes[at].view[row].clone();
        let seen = record.as_ref().map_or(0, |record| held_by(&record.state));
        let now = self.now;
        self.trace.note(now, (b'r', client, at, seen), || {
            format!("client {client} reads row {row} at n{at}: {seen:b}")
        });
        if session {
            self.counts.session_reads += 1;
            let of_row = |w: &usize| self.calls[*w].row == row;
            let row_mask: Writes = (0..self.calls.len()).filter(of_row).map(|w| 1 << w).sum();
            let lacks = self.clients[client].past & row_mask & !seen;
            self.ledger.violated_if(lacks != 0, || {
                format!("F5: client {client} at n{at} misses writes {lacks:b} of its past")
            });
        }
        let writes = (0..self.calls.len()).filter(|w| seen & (1 << w) != 0);
        let past: Writes = writes
            .map(|w| self.calls[w].past | 1 << w)
            .fold(0, |a, b| a | b);
        let client = &mut self.clients[client];
        client.past |= past;
        if let Some(record) = record {
            client.token.join(&record.context());
        }
    }

    /// The newest token of any session.
    pub(super) fn newest_token(&self) -> Hlc {
        let tokens = self.clients.iter().map(|client| client.token.get(HOME));
        tokens.max().unwrap_or(Hlc::ZERO)
    }

    /// The writes that a node shows.
    pub(super) fn shown_at(&self, at: usize) -> Writes {
        let rows = self.nodes[at].view.iter().flatten();
        rows.map(|record| held_by(&record.state))
            .fold(0, |a, b| a | b)
    }
}

/// The writes that a counter holds.
fn held_by(state: &State) -> Writes {
    match state {
        State::Counter(counter) => counter.total().map_or(0, i64::cast_unsigned),
        _ => 0,
    }
}
