use super::*;

fn options(schedules: u64, broken: Option<Broken>) -> FenceOptions {
    FenceOptions {
        schedules,
        seed: 1,
        broken,
    }
}

#[test]
fn random_schedules_are_clean_and_take_every_path() {
    let report = run(options(1000, None));
    assert!(report.violation.is_none(), "{report}");
    for taken in [
        report.closed,
        report.opened,
        report.published_again,
        report.adopted,
        report.session_waits,
    ] {
        assert!(taken > 80, "{report}");
    }
    assert!(report.session_reads > 3 * report.schedules, "{report}");
    assert!(report.acknowledged > 3 * report.schedules, "{report}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let one = run(options(50, None));
    assert_eq!(one, run(options(50, None)));
    let other = run(FenceOptions {
        seed: 2,
        ..options(50, None)
    });
    assert_ne!(one.trace_hash, other.trace_hash);
}

#[test]
fn the_script_proves_nothing_against_the_rules() {
    assert_eq!(script::one_is_let_in(None), None);
    assert_eq!(script::one_is_left(None), None);
}

/// A letter and a digit name the invariant.
fn invariant(what: &str) -> &str {
    what.split(':').next().unwrap_or_default()
}

#[test]
fn every_broken_rule_is_noticed() {
    for (broken, what) in Broken::ALL {
        let noticed = catch(broken, 5000);
        assert!(noticed.is_some(), "{broken:?}: {what}");
    }
}

#[test]
fn what_only_the_script_reaches_is_noticed_for_its_reason() {
    for broken in [
        Broken::StatementWithoutRoster,
        Broken::OwnWordWithoutRoster,
        Broken::RelayWithoutRoster,
        Broken::RosterNotKept,
        Broken::MajorityClosed,
    ] {
        let broken = Some(broken);
        let what = script::one_is_let_in(broken).or_else(|| script::one_is_left(broken));
        assert_eq!(what.as_deref().map(invariant), Some("F4"), "{broken:?}");
    }
}
