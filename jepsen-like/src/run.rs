//! A run on real processes: load, faults, healing, liveness, verdict.
