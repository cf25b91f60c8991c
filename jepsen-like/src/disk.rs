//! A file system in user space that keeps only what was synced, and can fail in every way a disk fails.
