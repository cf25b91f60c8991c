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
        let cuts = candidate.cell.nemeses == [Nemesis::PowerCut];
        assert!(!candidate.cuts || cuts, "{}", candidate.name);
    }
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
