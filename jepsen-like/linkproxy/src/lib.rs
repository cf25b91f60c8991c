//! A TCP link proxy: the WAN between two nodes on one machine.
//!
//! A [`Link`] listens on one address and forwards every connection to one
//! target. Each [`Direction`] has its own one-way delay, jitter, bandwidth, loss
//! and [`Cut`], and all of them can be changed while connections are open:
//!
//! ```no_run
//! use std::time::Duration;
//! use hansa_linkproxy::{Cut, Direction, DirectionSettings, Link, LinkSettings};
//!
//! # async fn example() -> std::io::Result<()> {
//! let one_way = DirectionSettings::delayed(Duration::from_millis(45));
//! let link = Link::start(
//!     "127.0.0.1:7201".parse().expect("a literal address"),
//!     "127.0.0.1:7101".parse().expect("a literal address"),
//!     LinkSettings::symmetric(one_way),
//! )
//! .await?;
//! // Cut the way to the target, keep the way back.
//! link.set(Direction::Forward, DirectionSettings { cut: Cut::Blackhole, ..one_way });
//! link.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What it promises
//!
//! - **Delay line.** Bytes read at `t` leave at `t + delay + jitter`, in order,
//!   never earlier, and about 0.2 ms later on an idle machine (the crate has its
//!   own timer thread, because the runtime's timer counts whole milliseconds).
//! - **No collapse.** Reading and writing are independent, so a delay costs
//!   latency and not throughput, up to [`LinkSettings::buffer`] bytes in flight
//!   per direction and connection.
//! - **Bounded memory.** A full buffer stops the reading; the kernel then
//!   pushes back on the sender, as on a real link.
//! - **TCP events travel in the line.** A half-close or a reset of one end
//!   reaches the other end after the delay, and not through a black hole.
//!
//! - **Bandwidth is exact over a second**, for all connections of a direction
//!   together: in any second at most the limit and 20 ms' worth of it come out,
//!   and as much as the limit if there is enough to send.
//! - **Half-open is for ever.** A connection that lost bytes in a
//!   [`Cut::HalfOpen`] stays up and silent in that direction until both ends
//!   have closed it, healed or not.
//!
//! # What it is not
//!
//! The proxy sees bytes, not packets. There is no duplication and no
//! retransmission timer, what is lost takes its connection with it, and the TCP
//! handshake itself costs nothing: a new connection pays its first delay with
//! its first byte.

#![forbid(unsafe_code)]

mod bucket;
mod connection;
mod counters;
mod line;
mod link;
mod settings;
mod timer;

pub use counters::{DirectionCounters, LinkCounters};
pub use link::{Link, MAX_CONNECTIONS};
pub use settings::{
    Cut, DEFAULT_BUFFER, Direction, DirectionSettings, LOSS_MAX, LinkSettings, MAX_DELAY,
    MIN_BUFFER,
};
