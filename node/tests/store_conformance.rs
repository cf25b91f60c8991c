//! One suite for every storage engine. What each case asks for stands in `store_support/`.
//!
//! Cases that need a file system of their own run in a process with private mounts, so that nothing is left
//! behind whatever happens. Where the machine does not permit that, they say `not run:` and why.

// A test fails by panicking, in its helpers too.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod store_support;

use hansa_node::store::Engine;
use store_support::{cases, crash, disk, full, rot};

/// The cases every engine must pass.
macro_rules! conformance {
    ($($name:ident: $engine:expr;)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn keys_are_ordered_and_ranges_are_half_open() {
                cases::order(&cases::Bench::new($engine));
            }

            #[test]
            fn the_last_write_of_a_batch_counts() {
                cases::last_write_counts(&cases::Bench::new($engine));
            }

            #[test]
            fn a_batch_is_atomic_over_families_for_every_reader() {
                cases::atomic_for_readers(&cases::Bench::new($engine));
            }

            #[test]
            fn a_snapshot_does_not_move() {
                cases::snapshot_isolation(&cases::Bench::new($engine));
            }

            #[test]
            fn a_visitor_may_write() {
                cases::visitor_may_write(&cases::Bench::new($engine));
            }

            #[test]
            fn values_and_keys_of_every_size_come_back() {
                cases::sizes(&cases::Bench::new($engine));
            }

            #[test]
            fn random_batches_match_a_map() {
                cases::random_batches(&cases::Bench::new($engine));
            }
        }
    )+};
}

/// The cases for engines that keep something.
macro_rules! durability {
    ($($name:ident: $engine:expr;)+) => {$(
        mod $name {
            use super::*;

            #[test]
            fn a_store_comes_back_when_opened_again() {
                cases::reopen($engine);
            }

            #[test]
            fn a_checkpoint_is_a_store_of_one_moment() {
                cases::checkpoint($engine);
            }

            #[test]
            fn overwritten_values_give_back_their_space() {
                cases::space_after_overwrite($engine);
            }

            #[test]
            fn twenty_kills_lose_and_tear_nothing() {
                crash::kills($engine);
            }

            #[test]
            fn twenty_power_cuts_lose_and_tear_nothing() {
                let case = concat!(stringify!($name), "::twenty_power_cuts_lose_and_tear_nothing");
                disk::with_private_mounts(case, || crash::power_cuts($engine));
            }

            #[test]
            fn a_failed_sync_stops_writes_for_good() {
                let case = concat!(stringify!($name), "::a_failed_sync_stops_writes_for_good");
                disk::with_private_mounts(case, || crash::failed_sync($engine));
            }

            #[test]
            fn a_full_disk_refuses_writes_and_serves_reads() {
                let case = concat!(stringify!($name), "::a_full_disk_refuses_writes_and_serves_reads");
                disk::with_private_mounts(case, || full::with_reserve($engine));
            }

            #[test]
            fn running_out_of_space_inside_the_engine_loses_nothing_synced() {
                let case = concat!(
                    stringify!($name),
                    "::running_out_of_space_inside_the_engine_loses_nothing_synced"
                );
                disk::with_private_mounts(case, || full::without_reserve($engine));
            }

            #[test]
            fn a_damaged_record_is_never_served() {
                rot::damaged_record($engine);
            }

            #[test]
            fn damaged_files_never_give_wrong_bytes() {
                rot::damaged_files($engine);
            }
        }
    )+};
}

conformance! {
    fjall: Engine::Fjall;
    sled: Engine::Sled;
    memory: Engine::Memory;
}

durability! {
    fjall_on_disk: Engine::Fjall;
    sled_on_disk: Engine::Sled;
}

#[test]
fn the_memory_engine_says_what_it_can_not() {
    cases::memory_has_no_checkpoint();
}

/// No test: the process that crash tests start and kill. Does nothing when run with the others.
#[test]
fn writer_process() {
    crash::writer_process();
}
