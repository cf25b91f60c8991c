//! Coverage: workload x level x fault, and the rare paths that must have been taken.
