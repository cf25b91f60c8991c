use std::collections::BTreeSet;

use super::*;

#[test]
fn every_rule_has_one_round_and_its_faults_are_possible() {
    let all = all();
    let names: BTreeSet<&str> = all.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names.len(), all.len(), "a rule is there twice");
    for candidate in &all {
        let destroying = candidate.cell.nemeses.iter().filter(|it| it.destroys());
        assert!(destroying.count() <= 1, "{}", candidate.name);
        assert!(!candidate.cell.nemeses.is_empty(), "{}", candidate.name);
        let cuts = candidate.stage.is_some() || candidate.cell.nemeses == [Nemesis::PowerCut];
        assert!(!candidate.cuts || cuts, "{}", candidate.name);
    }
}

#[test]
fn a_stage_is_in_order_and_in_time_and_of_the_kinds_that_its_cell_names() {
    let all = all();
    let staged = all.iter().filter_map(|it| Some((it, it.stage.as_ref()?)));
    let mut count = 0;
    for (candidate, (stage, _)) in staged {
        count += 1;
        let name = &candidate.name;
        assert!(stage.is_sorted_by_key(|it| it.at), "{name}");
        assert!(stage.iter().all(|it| it.at < ROUND), "{name}");
        let begun = stage.iter().filter(|it| it.begins).map(|it| it.of);
        let begun: BTreeSet<Nemesis> = begun.collect();
        let kinds = candidate.cell.nemeses.iter().copied();
        assert_eq!(begun, kinds.collect(), "{name}");
        for (at, planned) in stage.iter().enumerate() {
            assert!(begun.contains(&planned.of), "{name}");
            let Action::Kill(node) = planned.action else {
                continue;
            };
            // Where the power goes with a kill, it is said what becomes of the data.
            let then = stage[at + 1].action;
            assert!(matches!(then, Action::Data(of, _) if of == node), "{name}");
        }
    }
    assert!(count > 0);
}

#[test]
fn a_binary_with_other_rules_is_refused_by_their_names() {
    let mut known: Vec<String> = all().into_iter().map(|it| it.name).collect();
    check(&known).unwrap();
    known.push("BrandNew".to_owned());
    assert!(check(&known).unwrap_err().to_string().contains("BrandNew"));
    known.retain(|name| name != "BrandNew" && name != "SyncSkipped");
    let missing = check(&known).unwrap_err().to_string();
    assert!(missing.contains("SyncSkipped"), "{missing}");
}

#[test]
fn a_program_that_breaks_no_rules_is_refused_with_the_way_to_build_one() {
    let refused = known_to(Path::new("/bin/true")).unwrap_err().to_string();
    assert!(refused.contains("--features mutants"), "{refused}");
}

#[test]
fn each_property_is_named_once_and_the_wait_for_the_end_last() {
    let finding = |property| Finding::new(property, String::new());
    let findings = ["settles", "durability", "settles"].map(finding);
    assert_eq!(properties(findings.into()), ["durability", "settles"]);
}
