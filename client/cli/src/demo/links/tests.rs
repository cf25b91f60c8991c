use super::*;
use crate::demo::ports::BASE_DEFAULT;

fn planned(nodes_per_region: u16) -> (Shape, Ports, Vec<Planned>) {
    let shape = Shape::new(nodes_per_region, &[]);
    let ports = Ports::new(BASE_DEFAULT, shape.nodes(), count(&shape)).unwrap();
    let plan = plan(&shape, ports);
    (shape, ports, plan)
}

#[test]
fn every_ordered_pair_of_regions_has_its_own_link_with_half_the_round_trip() {
    let (_, ports, plan) = planned(1);
    let found: Vec<_> = plan
        .iter()
        .map(|link| (link.from, link.to, link.one_way.as_millis()))
        .collect();
    assert_eq!(
        found,
        [
            (0, 1, 45),
            (0, 2, 75),
            (1, 0, 45),
            (1, 2, 110),
            (2, 0, 75),
            (2, 1, 110)
        ]
    );
    for (number, link) in plan.iter().enumerate() {
        assert_eq!(link.listen, ports.link(number));
        assert_eq!(link.target, ports.peer(link.to));
    }
}

#[test]
fn nodes_of_one_region_have_no_link() {
    let (shape, _, plan) = planned(2);
    assert_eq!(plan.len(), 6 * 4);
    let inside = |link: &&Planned| shape.region_of(link.from) == shape.region_of(link.to);
    assert_eq!(plan.iter().filter(inside).count(), 0);
}

#[test]
fn a_cut_covers_both_directions_of_all_links_of_the_region_and_no_other() {
    let mut cuts = Cuts::default();
    cuts.change(2, None, Way::Both, true);
    for (from, to, expected) in [(0, 2, true), (2, 1, true), (0, 1, false), (1, 0, false)] {
        assert_eq!(cuts.covers(from, to), expected, "{from} to {to}");
    }
    assert_eq!(cuts.of(0, 2), [Cut::Blackhole; 2]);
    assert_eq!(describe(&cuts), ["ap-northeast"]);
}

#[test]
fn healing_one_region_leaves_what_another_was_cut_for() {
    let mut cuts = Cuts::default();
    cuts.change(1, None, Way::Both, true);
    cuts.change(2, None, Way::Both, true);
    cuts.change(1, None, Way::Both, false);
    assert!(cuts.covers(1, 2), "ap-northeast is still cut");
    assert!(!cuts.covers(0, 1));
    cuts.change(2, None, Way::Both, false);
    assert_eq!(cuts, Cuts::default());
}

#[test]
fn one_way_and_one_peer_can_be_cut_alone() {
    let mut cuts = Cuts::default();
    cuts.change(0, Some(1), Way::Inbound, true);
    // Forward is from us-east to eu-central here: only the way back is cut.
    assert_eq!(cuts.of(0, 1), [Cut::Open, Cut::Blackhole]);
    assert_eq!(cuts.of(1, 0), [Cut::Blackhole, Cut::Open]);
    assert_eq!(cuts.of(0, 2), [Cut::Open; 2]);
    assert_eq!(describe(&cuts), ["us-east (inbound)"]);
}

#[tokio::test]
async fn running_links_count_each_direction_that_changes() {
    let shape = Shape::new(1, &[]);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    // Ports from the system: this test needs no fixed ones.
    let (_, _, mut plan) = planned(1);
    for link in &mut plan {
        link.listen = any;
    }
    let links = Links::start(&shape, &plan).await.unwrap();
    assert_eq!(links.set(2, None, Way::Both, true), 8);
    assert_eq!(links.set(2, None, Way::Both, true), 0, "it is cut already");
    assert_eq!(
        links.set(0, None, Way::Outbound, true),
        2,
        "the way to eu-central"
    );
    assert_eq!(links.cut_now(), ["us-east (outbound)", "ap-northeast"]);
    assert_eq!(links.set(0, None, Way::Both, false), 2);
    assert_eq!(links.set(2, None, Way::Both, false), 8);
    assert!(links.cut_now().is_empty());
    let delays = links.links[0].link.settings().forward.delay;
    assert_eq!(
        delays,
        Duration::from_millis(45),
        "a heal restores the delay"
    );
    links.shutdown().await;
}
