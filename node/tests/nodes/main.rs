//! Whole nodes inside this process, on loopback: started, asked, stopped, killed.

mod exchange;
mod restart;
mod single_node;
mod support;
mod three_nodes;
