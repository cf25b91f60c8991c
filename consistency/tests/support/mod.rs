//! A little cluster of real replicas under a script.
//!
//! Three regions a, b and c, with 90, 150 and 220 ms between a-b, a-c and b-c, virtual
//! time, disks in memory, and messages that can be held back, dropped and delivered by
//! name. [`Play`] runs one command line and says what came of it; the commands are
//! listed there.

pub(crate) mod cluster;
mod disk;
mod play;
mod post;
mod render;
mod words;

pub(crate) use play::Play;
