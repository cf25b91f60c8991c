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

use crate::bucket::Buckets;
use crate::counters::{Counters, add};
use crate::line::{End, Line, swallow};
use crate::settings::{Born, Cut, Direction, State};
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
    pub(crate) buckets: Buckets,
}

/// What became of the dialling.
enum Dialled {
    Target(TcpStream),
    /// The target does not answer, or the client gave up before.
    Nobody,
    /// The way there is broken for good: the client must not notice.
    Nowhere,
}

/// Serves one accepted connection until both ends are closed, or the link is
/// reset or ends. `born` is what the link counted when the client was accepted.
pub(crate) async fn run(client: TcpStream, context: &Context, number: u64, born: Born) {
    let mut stopped = pin!(reset_or_end(context.state.clone(), born.resets));
    let dialled = tokio::select! {
        biased;
        () = &mut stopped => Dialled::Nobody,
        dialled = dial(&client, context, &born) => dialled,
    };
    if !matches!(dialled, Dialled::Target(_)) {
        add(&context.counters.refused, 1);
    }
    if matches!(dialled, Dialled::Nobody) {
        return reset(client);
    }
    // Watching for the client's close swallowed its "readable" events; a fresh
    // registration reports what is already there. It fails only for want of
    // memory, and then both sockets are closed by being dropped.
    let Ok(mut client) = client.into_std().and_then(TcpStream::from_std) else {
        return;
    };
    let Dialled::Target(mut target) = dialled else {
        tokio::select! {
            biased;
            () = stopped => {}
            () = swallow(&mut client, context.counters.direction(Direction::Forward)) => {}
        }
        return reset(client);
    };
    let is_clean = tokio::select! {
        biased;
        () = &mut stopped => false,
        is_clean = carry(&mut client, &mut target, context, number, &born) => is_clean,
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
async fn dial(client: &TcpStream, context: &Context, born: &Born) -> Dialled {
    let mut state = context.state.clone();
    let is_broken = |state: &State| state.is_broken(Direction::Forward, born);
    let is_open = |state: &State| state.settings.forward.cut == Cut::Open;
    let settled = state.wait_for(|state| is_broken(state) || is_open(state));
    tokio::select! {
        biased;
        settled = settled => match settled {
            Ok(state) if is_broken(&state) => return Dialled::Nowhere,
            Ok(_) => {}
            Err(_) => return Dialled::Nobody,
        },
        _ = closed_by_peer(client) => return Dialled::Nobody,
    }
    let connected = connect(client, context.target).await;
    connected.map_or(Dialled::Nobody, Dialled::Target)
}

/// Connects to the target for this client.
///
/// `None` when the target does not answer or a socket is closed already.
async fn connect(client: &TcpStream, target: SocketAddr) -> Option<TcpStream> {
    let target = timeout(CONNECT_TIMEOUT, TcpStream::connect(target))
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

/// Carries both directions until the connection has ended. True if both ends
/// half-closed in good order, false if the connection must be reset.
async fn carry(
    client: &mut TcpStream,
    target: &mut TcpStream,
    context: &Context,
    number: u64,
    born: &Born,
) -> bool {
    let [forward, backward] = carry_both(client, target, context, number, born).await;
    // Behind a direction that is broken for good nobody hears that the other end
    // is gone; whoever stands there keeps the connection until he closes it.
    if forward == Some(End::Broken) {
        swallow(target, context.counters.direction(Direction::Backward)).await;
    }
    if backward == Some(End::Broken) {
        swallow(client, context.counters.direction(Direction::Forward)).await;
    }
    [forward, backward] == [Some(End::Finished); 2]
}

/// Carries both directions until both have ended, or one by a reset. How the
/// forward and the backward one ended.
async fn carry_both(
    client: &mut TcpStream,
    target: &mut TcpStream,
    context: &Context,
    number: u64,
    born: &Born,
) -> [Option<End>; 2] {
    let line = |direction| Line {
        direction,
        state: context.state.clone(),
        timer: &context.timer,
        cells: context.counters.direction(direction),
        bucket: context.buckets.direction(direction),
        born: *born,
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
            break;
        }
    }
    [forward_end, backward_end]
}
