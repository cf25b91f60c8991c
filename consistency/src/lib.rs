//! Hansa's pure core (being built).

pub mod port;
