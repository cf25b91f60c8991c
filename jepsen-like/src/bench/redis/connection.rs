//! One connection to a server, on which many ask without waiting for each other: replies come in the order of commands.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::resp::{self, Reply};
use crate::bench::CLIENTS_MAX;

/// Requests that are not written yet, and those that are not answered yet, at most: what is more waits. Each client has
/// one.
const REQUESTS_MAX: usize = CLIENTS_MAX;
/// What is written at once, at most, bytes: less system calls for the same commands.
const WRITTEN_AT_ONCE: usize = 65_536;

/// Why nothing is asked any more.
const GONE: &str = "DISCONNECTED";

/// Who waits for how many replies.
struct Waiter {
    replies: usize,
    answer: oneshot::Sender<Vec<Reply>>,
}

/// A connection. Clones share it; it ends with the last one.
#[derive(Clone)]
pub(super) struct Connection {
    give: mpsc::Sender<(Bytes, Waiter)>,
}

impl Connection {
    /// Connects, on the runtime that this is awaited on, and stays there.
    ///
    /// # Errors
    /// When nobody answers in time.
    pub(super) async fn open(address: SocketAddr, within: Duration) -> Result<Connection> {
        let stream = timeout(within, TcpStream::connect(address)).await;
        let stream = stream
            .context("it does not answer in time")
            .and_then(|it| Ok(it?));
        let stream = stream.with_context(|| format!("no connection to a redis at {address}"))?;
        stream.set_nodelay(true)?;
        let (read, write) = stream.into_split();
        let (give, take) = mpsc::channel(REQUESTS_MAX);
        let (asked, waiting) = mpsc::channel(REQUESTS_MAX);
        tokio::spawn(write_all(write, take, asked));
        tokio::spawn(read_all(read, waiting));
        Ok(Connection { give })
    }

    /// Sends commands and waits for their replies.
    ///
    /// # Errors
    /// `DISCONNECTED`, when the connection ended or something came that is no reply.
    pub(super) async fn ask(&self, commands: Bytes, replies: usize) -> Result<Vec<Reply>, String> {
        let (answer, answered) = oneshot::channel();
        let waiter = Waiter { replies, answer };
        let gone = || GONE.to_owned();
        self.give
            .send((commands, waiter))
            .await
            .map_err(|_| gone())?;
        answered.await.map_err(|_| gone())
    }
}

/// Writes commands as they come, as many at once as there are, until nobody asks any more or the other end is gone.
async fn write_all(
    mut to: OwnedWriteHalf,
    mut take: mpsc::Receiver<(Bytes, Waiter)>,
    asked: mpsc::Sender<Waiter>,
) {
    let mut out = BytesMut::new();
    while let Some((commands, waiter)) = take.recv().await {
        let mut next = Some((commands, waiter));
        while let Some((commands, waiter)) = next {
            if asked.send(waiter).await.is_err() {
                return;
            }
            out.extend_from_slice(&commands);
            next = match out.len() < WRITTEN_AT_ONCE {
                true => take.try_recv().ok(),
                false => None,
            };
        }
        if to.write_all_buf(&mut out).await.is_err() {
            return;
        }
    }
}

/// Hands replies to those that wait for them, in their order. What waits when it ends learns that the connection is
/// gone.
async fn read_all(mut from: OwnedReadHalf, mut waiting: mpsc::Receiver<Waiter>) {
    let mut come = BytesMut::new();
    while let Some(waiter) = waiting.recv().await {
        let mut replies = Vec::with_capacity(waiter.replies);
        while replies.len() < waiter.replies {
            match resp::take(&mut come) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => match from.read_buf(&mut come).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                Err(_) => return,
            }
        }
        // Who asked may have given up.
        let _ = waiter.answer.send(replies);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    const SOON: Duration = Duration::from_secs(30);

    async fn pair() -> (Connection, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connection = Connection::open(address, SOON).await.unwrap();
        (connection, listener.accept().await.unwrap().0)
    }

    #[tokio::test]
    async fn replies_go_to_those_who_asked_in_order() {
        let (connection, mut server) = pair().await;
        let asks = [1, 2, 1].map(|replies| {
            let connection = connection.clone();
            async move { connection.ask(Bytes::from_static(b"x"), replies).await }
        });
        let answer = async {
            let mut asked = [0; 3];
            server.read_exact(&mut asked).await.unwrap();
            server.write_all(b":1\r\n:2\r\n:3").await.unwrap();
            server.write_all(b"\r\n:4\r\n").await.unwrap();
        };
        let (answers, ()) = tokio::join!(futures_util::future::join_all(asks), answer);
        let answers: Vec<Vec<Reply>> = answers.into_iter().map(Result::unwrap).collect();
        let numbers = |all: &[i64]| all.iter().map(|it| Reply::Integer(*it)).collect::<Vec<_>>();
        assert_eq!(answers, [numbers(&[1]), numbers(&[2, 3]), numbers(&[4])]);
    }

    #[tokio::test]
    async fn who_waits_when_it_ends_and_who_asks_later_is_told() {
        for last in [&b""[..], b"*0\r\n"] {
            let (connection, mut server) = pair().await;
            let waits = connection.ask(Bytes::from_static(b"x"), 1);
            let end = async {
                let mut asked = [0; 1];
                server.read_exact(&mut asked).await.unwrap();
                server.write_all(last).await.unwrap();
                drop(server);
            };
            let (answer, ()) = tokio::join!(timeout(SOON, waits), end);
            assert_eq!(answer.unwrap(), Err(GONE.to_owned()));
            let later = timeout(SOON, connection.ask(Bytes::from_static(b"y"), 1)).await;
            assert_eq!(later.unwrap(), Err(GONE.to_owned()));
        }
    }

    #[tokio::test]
    async fn it_ends_when_nobody_holds_it() {
        let (connection, mut server) = pair().await;
        drop(connection);
        let mut rest = Vec::new();
        let read = timeout(SOON, server.read_to_end(&mut rest)).await;
        assert_eq!(read.unwrap().unwrap(), 0);
    }
}
