//! Redis as a peer: one primary in the first region, a replica in each other one.
//!
//! Its servers sync every write before they answer (`appendfsync always`). What comes nearest to the levels of Hansa:
//!
//! - a get at level eventual is read from the replica of the region, any other from the primary;
//! - a write goes to the primary, over the link of the region. At level eventual it is answered when the primary has
//!   synced it; else `WAIT 1` follows, which is answered when one replica has it too.
//!
//! None of this is linearizable when the primary is lost: replication is asynchronous, and `WAIT` does not undo what it
//! did not get acknowledged.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use bytes::{Bytes, BytesMut};
use tokio::time::timeout;

use super::keys::Place;
use super::mix::Kind;
use super::peer::{Asked, DEADLINE};
use crate::history::Level;

mod connection;
mod resp;
mod servers;

pub(super) use servers::{Servers, program};

use connection::Connection;
use resp::Reply;

/// Sets a key if it holds what is expected: `MULTI` needs two round trips for the same.
const COMPARE_AND_SET: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 else return 0 end";
/// Replicas that have to have a write before it is answered.
const REPLICAS: &[u8] = b"1";
/// The answer to what is written.
const OK: &[u8] = b"OK";

/// The ways from one region to the servers.
#[derive(Clone)]
pub(super) struct Ways {
    /// To the region's own server.
    own: Connection,
    /// To the primary.
    primary: Connection,
    /// Where to dial the primary.
    address: SocketAddr,
}

impl Ways {
    /// Connects to a region's own server, and over its link to the primary, on the runtime that this is awaited on.
    ///
    /// # Errors
    /// When one does not answer.
    pub(super) async fn open(
        own: SocketAddr,
        primary: SocketAddr,
        within: Duration,
    ) -> Result<Ways> {
        Ok(Ways {
            own: Connection::open(own, within).await?,
            primary: Connection::open(primary, within).await?,
            address: primary,
        })
    }

    /// A client of its own on them.
    pub(super) fn client(&self) -> RedisAsker {
        RedisAsker {
            ways: self.clone(),
            waiting: None,
        }
    }
}

/// One client. Reads share the connections of their region. `WAIT` keeps all that comes behind it on its connection
/// waiting, so a client that needs it has one of its own.
pub(super) struct RedisAsker {
    ways: Ways,
    waiting: Option<Connection>,
}

impl RedisAsker {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// The reason, one word.
    pub(super) async fn ask(&mut self, asked: &Asked) -> Result<(), String> {
        let answer = timeout(DEADLINE, self.answer(asked)).await;
        answer.unwrap_or_else(|_| Err("DEADLINE".to_owned()))
    }

    async fn answer(&mut self, asked: &Asked) -> Result<(), String> {
        let key = name(&asked.place, asked.kind);
        let value = &asked.value[..];
        match asked.kind {
            Kind::Get => self.get(asked.level, &key).await,
            Kind::Put | Kind::Insert => self.write(asked.level, &[b"SET", &key, value]).await,
            Kind::Incr => self.write(asked.level, &[b"INCRBY", &key, b"1"]).await,
            Kind::Cas => {
                let script = COMPARE_AND_SET.as_bytes();
                self.write(asked.level, &[b"EVAL", script, b"1", &key, value, value])
                    .await
            }
            Kind::ReadModifyWrite => {
                self.get(asked.level, &key).await?;
                self.write(asked.level, &[b"SET", &key, value]).await
            }
            Kind::Scan => Err("NOT_SUPPORTED".to_owned()),
        }
    }

    async fn get(&mut self, level: Level, key: &[u8]) -> Result<(), String> {
        let from = match level {
            Level::Eventual => &self.ways.own,
            Level::Session | Level::Strong => &self.ways.primary,
        };
        match &from.ask(commands(&[&[b"GET", key]]), 1).await?[..] {
            [Reply::Bulk(_)] => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn write(&mut self, level: Level, command: &[&[u8]]) -> Result<(), String> {
        if level == Level::Eventual {
            let replies = self.ways.primary.ask(commands(&[command]), 1).await?;
            return written(&replies);
        }
        let connection = match &self.waiting {
            Some(connection) => connection,
            None => {
                let opened = Connection::open(self.ways.address, DEADLINE).await;
                self.waiting
                    .insert(opened.map_err(|_| "UNREACHABLE".to_owned())?)
            }
        };
        let ms = DEADLINE.as_millis().to_string();
        let wait: [&[u8]; 3] = [b"WAIT", REPLICAS, ms.as_bytes()];
        let replies = connection.ask(commands(&[command, &wait]), 2).await;
        match replies.as_deref() {
            Ok([first, Reply::Integer(replicas)]) => {
                written(std::slice::from_ref(first))?;
                match *replicas >= 1 {
                    true => Ok(()),
                    false => Err("NOT_REPLICATED".to_owned()),
                }
            }
            Ok(other) => Err(unexpected(other)),
            Err(why) => {
                let why = why.clone();
                // It is of no use any more.
                self.waiting = None;
                Err(why)
            }
        }
    }
}

/// Commands in one piece.
fn commands(all: &[&[&[u8]]]) -> Bytes {
    let mut out = BytesMut::new();
    for parts in all {
        resp::command(&mut out, parts);
    }
    out.freeze()
}

/// Whether the answer to a write says that it was done.
fn written(replies: &[Reply]) -> Result<(), String> {
    match replies {
        [Reply::Status(said)] if said[..] == *OK => Ok(()),
        // A compare-and-set says whether its condition held; a counter what it counts now, which is never 0.
        [Reply::Integer(0)] => Err("CONDITION_FAILED".to_owned()),
        [Reply::Integer(_)] => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Why replies are not what was asked for: the first word of the first error among them.
fn unexpected(replies: &[Reply]) -> String {
    let errors = replies.iter().filter_map(|reply| match reply {
        Reply::Error(said) => said.split(' ').next(),
        _ => None,
    });
    errors
        .map(str::to_owned)
        .next()
        .unwrap_or_else(|| "UNEXPECTED_REPLY".to_owned())
}

/// The name of a key. Counters have names of their own, since a register is no number.
fn name(place: &Place, kind: Kind) -> Vec<u8> {
    let first = if kind == Kind::Incr { "c" } else { "r" };
    format!("{first}/{}/{}", place.partition, place.sort).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_done_only_if_its_answer_says_so() {
        assert_eq!(written(&[Reply::Status(Bytes::from_static(b"OK"))]), Ok(()));
        assert_eq!(written(&[Reply::Integer(1)]), Ok(()));
        let why = |reply| written(&[reply]).unwrap_err();
        assert_eq!(why(Reply::Integer(0)), "CONDITION_FAILED");
        let refused = "READONLY You can't write against a read only replica.".to_owned();
        assert_eq!(why(Reply::Error(refused)), "READONLY");
        assert_eq!(why(Reply::Bulk(None)), "UNEXPECTED_REPLY");
        assert_eq!(
            why(Reply::Status(Bytes::from_static(b"QUEUED"))),
            "UNEXPECTED_REPLY"
        );
        assert!(written(&[]).is_err());
    }

    #[test]
    fn counters_and_registers_do_not_meet() {
        let place = Place::of(7, false);
        assert_ne!(name(&place, Kind::Incr), name(&place, Kind::Put));
        assert_eq!(name(&place, Kind::Get), name(&place, Kind::Cas));
    }
}
