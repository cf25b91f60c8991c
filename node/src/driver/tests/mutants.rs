//! Each broken rule of the way to the disk is seen by a test.

use super::peers::{a_repeated_entry_is_acknowledged, pair};
use super::*;
use crate::mutant::DiskMutant;

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

#[test]
fn an_answer_ahead_of_its_sync_is_caught() {
    let mutant = DiskMutant::RepliedBeforeSync;
    assert!(fails(mutant, config(), the_power_is_cut));
}

#[test]
fn a_message_ahead_of_its_sync_is_caught() {
    let mutant = DiskMutant::SentBeforeSync;
    assert!(fails(mutant, pair(false), a_repeated_entry_is_acknowledged));
}

async fn every_answer_has_a_sync_of_its_own(fixture: Fixture) {
    let driver = fixture.start();
    for n in 0..25 {
        let before = fixture.store.syncs();
        let written = put(&driver.handle(), &format!("key {n}"), Level::Eventual).await;
        written.unwrap();
        assert!(fixture.store.syncs() > before, "write {n}");
    }
}

#[test]
fn a_sync_skipped_at_times_is_caught() {
    let scenario = every_answer_has_a_sync_of_its_own;
    assert!(fails(DiskMutant::SyncSkippedAtTimes, config(), scenario));
}

#[tokio::test]
async fn with_all_rules_in_force_every_answer_has_a_sync() {
    every_answer_has_a_sync_of_its_own(Fixture::new()).await;
}
