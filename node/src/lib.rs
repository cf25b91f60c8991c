//! A Hansa node as a library.

pub mod driver;
pub mod grpc;
pub mod identity;
pub mod limits;
pub mod metrics;
pub mod mutant;
pub mod open;
pub mod peers;
pub mod server;
pub mod settings;
pub mod store;
pub mod telemetry;
