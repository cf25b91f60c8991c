//! One proxied connection: dial, carry both directions, end as TCP would.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::counters::{Counters, add};
use crate::line::{End, Line};
use crate::settings::{Cut, Direction, State};
use crate::timer::Timer;

/// How long the target may take to accept. Only a target that is not on this
/// machine can take longer than an instant.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a connection needs of its link.
pub(crate) struct Context {
    pub(crate) target: SocketAddr,
    pub(crate) state: watch::Receiver<State>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) timer: Arc<Timer>,
}

/// Serves one accepted connection until both ends are closed, or the link is
/// reset or ends. `resets` is the link's count when the client was accepted.
pub(crate) async fn run(client: TcpStream, context: &Context, number: u64, resets: u64) {
    let mut stopped = pin!(reset_or_end(context.state.clone(), resets));
    let dialled = tokio::select! {
        biased;
        () = &mut stopped => None,
        target = dial(&client, context) => target,
    };
    let Some(mut target) = dialled else {
        add(&context.counters.refused, 1);
        return reset(client);
    };
    // Watching for the client's close swallowed its "readable" events; a fresh
    // registration reports what is already there. It fails only for want of
    // memory, and then both sockets are closed by being dropped.
    let Ok(mut client) = client.into_std().and_then(TcpStream::from_std) else {
        return;
    };
    let is_clean = tokio::select! {
        biased;
        () = &mut stopped => false,
        is_clean = carry_both(&mut client, &mut target, context, number) => is_clean,
    };
    if !is_clean {
        reset(client);
        reset(target);
    }
}

/// Closes a socket with a reset instead of a half-close, so that its owner
/// notices at once that the connection is lost.
pub(crate) fn reset(stream: TcpStream) {
    // A socket on which this fails is closed the ordinary way.
    let _ = stream.set_zero_linger();
}

/// Returns when the link counts other resets than these, or has ended.
async fn reset_or_end(mut state: watch::Receiver<State>, resets: u64) {
    let _ = state.wait_for(|state| state.resets != resets).await;
}

/// Connects to the target once the way there is open.
///
/// `None` when the target does not answer or the client gave up before.
async fn dial(client: &TcpStream, context: &Context) -> Option<TcpStream> {
    let mut state = context.state.clone();
    let is_open = |state: &State| state.settings.forward.cut == Cut::Open;
    tokio::select! {
        biased;
        opened = state.wait_for(is_open) => drop(opened.ok()?),
        _ = closed_by_peer(client) => return None,
    }
    let target = timeout(CONNECT_TIMEOUT, TcpStream::connect(context.target))
        .await
        .ok()?
        .ok()?;
    // With nobody listening on a local port the kernel may pick that very port
    // for our end and connect the socket to itself.
    if target.local_addr().ok()? == target.peer_addr().ok()? {
        return None;
    }
    client.set_nodelay(true).ok()?;
    target.set_nodelay(true).ok()?;
    Some(target)
}

/// Returns when the peer has closed its end, even if unread bytes lie before
/// the end of the stream.
async fn closed_by_peer(stream: &TcpStream) -> io::Result<()> {
    loop {
        if stream.ready(Interest::READABLE).await?.is_read_closed() {
            return Ok(());
        }
        // Clears the "readable" flag and leaves the bytes, so that the next
        // round waits for the next event.
        let untouched = stream.try_io(Interest::READABLE, || -> io::Result<()> {
            Err(io::ErrorKind::WouldBlock.into())
        });
        debug_assert!(untouched.is_err());
    }
}

/// Carries both directions until both have ended. True if both half-closed in
/// good order, false if the connection must be reset.
async fn carry_both(
    client: &mut TcpStream,
    target: &mut TcpStream,
    context: &Context,
    number: u64,
) -> bool {
    let line = |direction| Line {
        direction,
        state: context.state.clone(),
        timer: &context.timer,
        cells: context.counters.direction(direction),
        seed: number << 1 | u64::from(direction == Direction::Backward),
    };
    let (forward_line, backward_line) = (line(Direction::Forward), line(Direction::Backward));
    let (from_client, to_client) = client.split();
    let (from_target, to_target) = target.split();
    let mut forward = pin!(forward_line.carry(from_client, to_target));
    let mut backward = pin!(backward_line.carry(from_target, to_client));
    let (mut forward_end, mut backward_end) = (None, None);
    while forward_end.is_none() || backward_end.is_none() {
        let end = tokio::select! {
            end = &mut forward, if forward_end.is_none() => *forward_end.insert(end),
            end = &mut backward, if backward_end.is_none() => *backward_end.insert(end),
        };
        if end == End::Reset {
            return false;
        }
    }
    forward_end == Some(End::Finished) && backward_end == Some(End::Finished)
}
