use hansa_client::admin::PeerStatus;

use super::super::board::Board;
use super::super::board::tests::receipt;
use super::*;

fn measured() -> Cells {
    let board = Board::default();
    for _ in 0..80 {
        board.count(0, 0, &Ok(receipt(1, 145, false)));
    }
    board.count(2, 2, &Ok(receipt(150, 0, true)));
    board.take()
}

fn view<'a>(cells: &'a Cells, cut: &[&str]) -> View<'a> {
    let behind = Lag {
        silent: 1,
        shards_behind: 12,
    };
    View {
        up: Duration::from_secs(125),
        period: Duration::from_secs(2),
        cells,
        lags: [Lag::default(), Lag::default(), behind],
        cut: cut.iter().map(|name| (*name).to_owned()).collect(),
        silent: Vec::new(),
    }
}

#[test]
fn the_table_has_a_row_per_region_and_level() {
    let text = view(&measured(), &[]).table();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 2 + 9 + 1);
    assert!(
        lines[11].contains("ms ") && lines[11].contains("shards"),
        "{}",
        lines[11]
    );
    assert_eq!(lines[0], "up 02:05   all links open");
    let expected = "us-east       eventual   40.0     1.00     1.00      0      145      0      0";
    assert_eq!(lines[2], expected);
    assert!(
        lines[10].starts_with("ap-northeast  strong      0.5   150."),
        "{}",
        lines[10]
    );
    assert!(lines[8].ends_with("silent"), "{}", lines[8]);
    assert!(
        lines.iter().all(|line| line.len() < 80),
        "a narrow terminal does not wrap it"
    );
    // Nothing measured is a dash, not a zero.
    assert!(lines[3].contains("0.0        -        -"), "{}", lines[3]);
}

#[test]
fn a_cut_stands_in_the_first_line() {
    let text = view(&measured(), &["us-east (inbound)", "ap-northeast"]).table();
    assert!(
        text.starts_with("up 02:05   CUT: us-east (inbound), ap-northeast\n"),
        "{text}"
    );
}

#[test]
fn piped_output_is_one_line_per_period() {
    let cells = measured();
    let mut screen = Screen::new(false);
    for _ in 0..2 {
        let text = screen.draw(&view(&cells, &["us-east (inbound)"]));
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert!(!text.contains('\x1b'));
        assert!(text.starts_with("up=125s cut=us-east(inbound) | us-east lag=0 eventual=40.0/s"));
        assert!(text.contains("| ap-northeast lag=12 silent=1 "), "{text}");
    }
}

#[test]
fn a_terminal_is_drawn_over_except_after_news() {
    let cells = measured();
    let mut screen = Screen::new(true);
    assert!(
        !screen.draw(&view(&cells, &[])).contains('\x1b'),
        "nothing is there yet"
    );
    assert!(
        screen
            .draw(&view(&cells, &[]))
            .starts_with("\x1b[12A\x1b[J")
    );
    assert_eq!(screen.news("cut"), "cut\n");
    assert!(
        !screen.draw(&view(&cells, &[])).contains('\x1b'),
        "the news stay"
    );
}

#[test]
fn the_lag_is_that_of_the_worst_node() {
    let status = |shards: &[u64]| {
        let peer = |shards: &u64| PeerStatus {
            shards_behind: *shards,
            ..PeerStatus::default()
        };
        Some(StatusReply {
            peers: shards.iter().map(peer).collect(),
            ..StatusReply::default()
        })
    };
    let lag = Lag::of(&[status(&[1, 9]), None, status(&[3])]);
    assert_eq!((lag.silent, lag.shards_behind), (1, 9));
}

#[test]
fn a_node_that_does_not_answer_is_named() {
    let cells = measured();
    let view = View {
        silent: vec!["us-east-1".to_owned(), "us-east-2".to_owned()],
        ..view(&cells, &[])
    };
    let table = view.table();
    assert!(
        table.starts_with("up 02:05   all links open   NO ANSWER: us-east-1, us-east-2\n"),
        "{table}"
    );
    let line = view.line();
    assert!(
        line.starts_with("up=125s cut=none no-answer=us-east-1,us-east-2 | us-east "),
        "{line}"
    );
}
