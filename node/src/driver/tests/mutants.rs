//! Each broken rule of the way to the disk is seen by a test.

use super::peers::{a_repeated_entry_is_acknowledged, pair};
use super::*;
use crate::driver::mutant::DiskMutant;

/// Whether a scenario fails: it panics.
fn fails<F: Future<Output = ()>>(
    mutant: DiskMutant,
    config: Config,
    scenario: impl FnOnce(Fixture) -> F + Send + 'static,
) -> bool {
    let run = move || {
        let fixture = Fixture {
            rules: DiskRules::without(mutant),
            ..Fixture::with(config)
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.unwrap().block_on(scenario(fixture));
    };
    std::thread::spawn(run).join().is_err()
}

#[test]
fn a_skipped_sync_is_caught() {
    let mutant = DiskMutant::SyncSkipped;
    assert!(fails(mutant, config(), the_power_is_cut));
    assert!(fails(mutant, pair(false), a_repeated_entry_is_acknowledged));
}

#[test]
fn a_vote_ahead_of_the_sequence_file_is_caught() {
    let mutant = DiskMutant::SequenceNotSynced;
    assert!(fails(mutant, config(), votes_wait_for_the_sequence_file));
}

#[test]
fn a_claim_ahead_of_its_sync_is_caught() {
    let mutant = DiskMutant::ClaimsIgnored;
    assert!(fails(mutant, pair(false), a_repeated_entry_is_acknowledged));
}
