//! One logical client: does what is intended through the SDK and writes down how it went.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hansa_client::{Bytes, Error, Session, Unfinished};

use super::Seat;
use super::ask::{
    Answer, How, Naming, batch, contained, counted, finish, got, key_of, level, total, wanted,
    written,
};
use crate::history::{Datum, Membership, Op, Record, Swap};
use crate::nemesis::NodeIndex;
use crate::target::{RunClock, TargetClient};
use crate::workload::{Intent, Tie, split_key};

/// A client of a Hansa cluster. The SDK gives a write that wants it a request id, and repeats it by itself where that is
/// safe: all of that is one line of the history.
pub struct HansaClient {
    process: u64,
    seats: Arc<Vec<Seat>>,
    node: NodeIndex,
    session: Session,
    /// Whether the session still runs on the client of a node that was asked before.
    moved: bool,
    /// When the last operation completed.
    last_ns: u64,
    /// The last operation, when it had a request id and nobody knows what became of it.
    unfinished: Option<(Intent, Unfinished)>,
}

/// A call of the client itself, or of its session.
macro_rules! call {
    ($this:expr, $tie:expr, $operation:ident ( $($argument:expr),* )) => {
        match $tie {
            Tie::None => $this.seats[$this.node].client.$operation($($argument),*),
            Tie::Keeps | Tie::Carries => $this.session.$operation($($argument),*),
        }
    };
}

impl HansaClient {
    /// A client with a new session. The node must be one of the seats.
    pub(super) fn new(process: u64, seats: Arc<Vec<Seat>>, node: NodeIndex) -> HansaClient {
        HansaClient {
            process,
            session: seats[node].client.session(),
            seats,
            node,
            moved: false,
            last_ns: 0,
            unfinished: None,
        }
    }

    /// Takes the session to the node that is asked from now on.
    async fn arrive(&mut self) -> Result<(), Error> {
        if self.moved {
            let exported = self.session.export().await;
            self.resume(&exported)?;
        }
        Ok(())
    }

    /// Goes on with an exported session at the node that is asked from now on. One that does not let itself be resumed
    /// has not arrived: the next operation tries again, and none asks another node than its line says.
    fn resume(&mut self, exported: &str) -> Result<(), Error> {
        self.session = self.seats[self.node].client.resume(exported)?;
        self.moved = false;
        Ok(())
    }

    /// The session's token as histories have it; nothing before the first reply.
    async fn token(&self) -> Option<String> {
        let token = self.session.token().await;
        (!token.is_empty()).then(|| STANDARD_NO_PAD.encode(token))
    }

    async fn run(
        &self,
        intent: &Intent,
        deadline: Duration,
        naming: Naming<'_>,
    ) -> Result<Answer, Error> {
        let (space, name) = intent.address();
        let key = key_of(name);
        let tie = intent.tie;
        let how = How {
            level: level(intent.level),
            deadline,
            ack_regions: intent.ack_regions,
            naming,
        };
        match (intent.op, &intent.value) {
            (Op::Get, _) => how.ask(call!(self, tie, get(space, key)), got).await,
            (Op::Read, _) => how.ask(call!(self, tie, get(space, key)), total).await,
            (Op::Put, Some(Datum::Text(value))) => {
                let call = call!(self, tie, put(space, key, value.clone()));
                how.write(call, written).await
            }
            (Op::Delete, _) => {
                how.write(call!(self, tie, delete(space, key)), written)
                    .await
            }
            (Op::Cas, Some(Datum::Swap(Swap { expect, new }))) => {
                let new = Some(Bytes::from(new.clone()));
                let call = call!(self, tie, cas(space, key, wanted(expect), new));
                how.write(call, written).await
            }
            (Op::Incr, Some(Datum::Integer(by))) => {
                how.write(call!(self, tie, increment(space, key, *by)), counted)
                    .await
            }
            (Op::Add, Some(Datum::Text(element))) => {
                let call = call!(self, tie, add(space, key, element.clone()));
                how.write(call, counted).await
            }
            (Op::Remove, Some(Datum::Text(element))) => {
                let call = call!(self, tie, remove(space, key, element.clone()));
                how.write(call, counted).await
            }
            (Op::Contains, Some(Datum::Membership(Membership { element, .. }))) => {
                let call = call!(self, tie, contains(space, key, element.clone()));
                how.ask(call, |it| contained(element, it)).await
            }
            (Op::BatchGet, Some(Datum::Rows(asked))) => {
                let keys = asked.keys().map(|key| key_of(split_key(key).1));
                how.ask(call!(self, tie, batch_get(space, keys)), |it| {
                    batch(asked, it)
                })
                .await
            }
            (Op::Scan, _) if name.contains('/') => {
                let call = call!(self, tie, scan_key(space, key));
                how.scan(call, &intent.key).await
            }
            (Op::Scan, _) => how.scan(call!(self, tie, scan(space)), &intent.key).await,
            // What is left is to read a whole set.
            _ => how.all(call!(self, tie, members(space, key))).await,
        }
    }

    /// One line of the history.
    async fn attempt(
        &mut self,
        intent: &Intent,
        naming: Naming<'_>,
        (clock, deadline): (RunClock, Duration),
    ) -> Record {
        let arrived = self.arrive().await;
        let token_in = match intent.tie {
            Tie::Carries => self.token().await,
            Tie::Keeps | Tie::None => None,
        };
        // A process invokes strictly after its last operation completed.
        let invoke_ns = clock.now_ns().max(self.last_ns + 1);
        let outcome = match arrived {
            Ok(()) => self.run(intent, deadline, naming).await,
            Err(error) => Err(error),
        };
        let complete_ns = clock.now_ns().max(invoke_ns);
        self.last_ns = complete_ns;
        let seat = &self.seats[self.node];
        let mut record = intent.record(self.process, &format!("s{}", self.process), invoke_ns);
        record.region = Some(seat.region.clone());
        record.node = Some(seat.name.clone());
        record.complete_ns = Some(complete_ns);
        record.token_in = token_in;
        // Of an eventual write that failed the session keeps nothing.
        if intent.tie == Tie::Carries || (intent.tie == Tie::Keeps && outcome.is_ok()) {
            record.token_out = self.token().await;
        }
        let unfinished = outcome.as_ref().err().and_then(Error::unfinished);
        self.unfinished = unfinished.map(|write| (intent.clone(), write.clone()));
        finish(&mut record, outcome);
        record
    }
}

impl TargetClient for HansaClient {
    fn move_to(&mut self, node: NodeIndex) {
        // Nodes that do not exist are nobody to move to.
        if node < self.seats.len() && node != self.node {
            self.node = node;
            self.moved = true;
        }
    }

    async fn perform(&mut self, intent: &Intent, clock: RunClock, deadline: Duration) -> Record {
        let naming = match intent.identified {
            true => Naming::Fresh,
            false => Naming::Without,
        };
        self.attempt(intent, naming, (clock, deadline)).await
    }

    async fn repeat(&mut self, clock: RunClock, deadline: Duration) -> Option<Record> {
        let (intent, before) = self.unfinished.take()?;
        let again = Naming::Again(&before);
        Some(self.attempt(&intent, again, (clock, deadline)).await)
    }
}

#[cfg(test)]
mod tests {
    use super::super::seat;
    use super::*;

    #[tokio::test]
    async fn a_session_that_could_not_be_resumed_has_not_arrived() {
        // Nobody listens there, and nobody is asked.
        let url = "http://127.0.0.1:9";
        let seats = vec![
            seat("eu", "eu-1", url).await.unwrap(),
            seat("us", "us-1", url).await.unwrap(),
        ];
        let mut client = HansaClient::new(1, Arc::new(seats), 0);
        client.arrive().await.unwrap();
        client.move_to(1);
        assert!(client.resume("damaged").is_err());
        assert!(client.moved, "the next operation tries again");
        client.arrive().await.unwrap();
        assert!(!client.moved);
    }
}
