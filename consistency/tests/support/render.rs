//! Replies and rows as one line of text.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use hansa_consistency::key::RegionId;
use hansa_consistency::record::Record;
use hansa_consistency::request::{Answer, Applied, Found, Level, Refusal, Reply};
use hansa_consistency::session::Context;
use hansa_consistency::value::State;
use hansa_consistency::version::Ballot;

/// A reply or refusal, with the time it took.
pub(crate) fn outcome(result: &Result<Reply, Refusal>, took: Duration, asked: Level) -> String {
    match result {
        Ok(reply) => format!(
            "{} | {}",
            answer(&reply.answer),
            receipt(reply, took, asked)
        ),
        Err(refusal) => {
            let applied = match refusal.applied {
                Applied::No => "no",
                Applied::Maybe => "maybe",
            };
            let reason = refusal.reason.name();
            format!("refused {reason} applied={applied} | took={}", time(took))
        }
    }
}

fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Read { found, .. } => found_text(found),
        Answer::Written { total: 0, .. } => "written".to_owned(),
        Answer::Written { total, .. } => format!("written total={total}"),
        Answer::Page { rows, next } => {
            let element = |row: &hansa_consistency::request::ScannedRow| {
                let parts = row.row.parts().expect("a row's name");
                text(&parts.element.unwrap_or(parts.partition))
            };
            let rows: Vec<String> = rows.iter().map(element).collect();
            let more = if next.is_some() { " ..." } else { "" };
            format!("[{}{more}]", rows.join(" "))
        }
    }
}

fn found_text(found: &Found) -> String {
    match found {
        Found::Nothing => "nothing".to_owned(),
        Found::Value(value) => format!("value {}", text(value)),
        Found::Total(total) => format!("total {total}"),
        Found::Member => "member".to_owned(),
    }
}

fn receipt(reply: &Reply, took: Duration, asked: Level) -> String {
    assert_eq!(reply.level, asked, "a reply is of the level asked for");
    let receipt = &reply.receipt;
    let mut words = vec![
        reply.level.name().to_owned(),
        format!("regions={}", regions(&receipt.regions)),
        format!("trips={}", receipt.wan_round_trips),
        format!("took={}", time(took)),
    ];
    if !receipt.durable_regions.is_empty() {
        words.push(format!("durable={}", regions(&receipt.durable_regions)));
    }
    if receipt.absorbed {
        words.push("absorbed".to_owned());
    }
    if receipt.forwarded_to.is_some() {
        words.push("forwarded".to_owned());
    }
    words.join(" ")
}

/// A row of the eventual view, as stored.
pub(crate) fn record(record: Option<&Record>) -> String {
    let Some(record) = record else {
        return "never written".to_owned();
    };
    let found = match &record.state {
        State::Register(_) => record.state.bytes().cloned().map(Found::Value),
        State::Counter(_) => record.state.total().ok().map(Found::Total),
        State::Element(_) => record.state.present().then_some(Found::Member),
    };
    let chosen = if record.chosen > Ballot::ZERO {
        "yes"
    } else {
        "no"
    };
    format!(
        "{} | chosen={chosen} touched={} deps={}",
        found_text(&found.unwrap_or(Found::Nothing)),
        context(&record.touched),
        context(&record.deps),
    )
}

fn context(context: &Context) -> String {
    let named: Vec<RegionId> = context.iter().map(|(region, _)| region).collect();
    if named.is_empty() {
        "-".to_owned()
    } else {
        regions(&named)
    }
}

/// Regions by letter, in order.
pub(crate) fn regions(regions: &[RegionId]) -> String {
    let ordered: BTreeSet<&RegionId> = regions.iter().collect();
    let letters = ordered.iter().map(|r| ((b'a' + r.0) as char).to_string());
    letters.collect::<Vec<_>>().join(",")
}

/// A time in milliseconds, with a fraction only where there is one.
pub(crate) fn time(time: Duration) -> String {
    let micros = time.as_micros();
    match micros % 1000 {
        0 => format!("{}ms", micros / 1000),
        rest => format!("{}.{rest:03}ms", micros / 1000),
    }
}

fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
