//! Real `hansa serve` processes on this machine, and everything that can be done to them.
