//! Hansa as a target: real processes, asked through the SDK.
