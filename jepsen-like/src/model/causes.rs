//! What replies promise about the past: contexts and versions never go back in real time, and no reply lacks an
//! eventual write that it must show.

use hansa_consistency::register::Action as Does;
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;

use super::calls::{Action, Call, EventualWrite, History, Reply, Seen};

/// The first broken promise, in words.
///
/// * A strong reply's context covers the causes of every strong write answered before the call began, and of every
///   eventual write that it shows (DESIGN 4.1, 3).
/// * A register's etag is never below one that a strong reply had carried before the call began; a write's is above.
pub(super) fn broken(history: &History) -> Option<String> {
    let replies = || history.calls.iter().enumerate().filter_map(with_reply);
    for (i, call, reply) in replies() {
        let uncovered = |w: &&EventualWrite| !covers(&reply.context, &w.context);
        if history.shown(reply.seen).any(|w| uncovered(&w)) {
            return Some(format!(
                "deps: call {i} shows an eventual write whose causes its context lacks"
            ));
        }
        let earlier = replies().filter(|(_, _, r)| r.at < call.invoked);
        for (j, before, its) in earlier {
            if wrote(before, its.seen) && !covers(&reply.context, &before.operation.deps) {
                return Some(format!(
                    "deps: the context of call {i} lacks causes of call {j}, answered before it"
                ));
            }
            let back = match wrote(call, reply.seen) {
                true => reply.etag <= its.etag,
                false => reply.etag < its.etag,
            };
            if history.value_type == ValueType::Register && back {
                return Some(format!("etag: call {i} carries one not above call {j}'s"));
            }
        }
    }
    None
}

/// An eventual write that a reply lacks though it must not.
///
/// A strong operation absorbs what its coordinator has applied of its own session's writes (DESIGN 4.1, 1); and the
/// last call, a read after everything was shipped, lacks nothing. On a register a write may have been overwritten,
/// but the version shown is not below it. On a counter each write has its own bit of the total; where a delete may
/// have taken it off, this proves nothing.
pub(super) fn lacks_eventual(history: &History) -> Option<String> {
    let deleted = history.calls.iter().any(|c| c.action == Action::Delete);
    let lacks = |reply: &Reply, k: usize, write: &EventualWrite| match reply.seen {
        Seen::Total(total) => !deleted && total >> k & 1 == 0,
        Seen::Version(_) | Seen::Refused(_) => reply.etag < write.etag,
    };
    let last = history.calls.len() - 1;
    let mut replies = history.calls.iter().enumerate().filter_map(with_reply);
    replies.find_map(|(i, call, reply)| {
        let writes = history.eventual.iter().enumerate();
        let mut due = writes.filter(|(k, _)| i == last || call.covered >> k & 1 == 1);
        let (k, _) = due.find(|(k, write)| lacks(reply, *k, write))?;
        Some(format!("E1: call {i} lacks eventual write {k}"))
    })
}

fn with_reply((i, call): (usize, &Call)) -> Option<(usize, &Call, &Reply)> {
    call.reply.as_ref().map(|reply| (i, call, reply))
}

fn wrote(call: &Call, seen: Seen) -> bool {
    call.operation.action != Does::Read && !matches!(seen, Seen::Refused(_))
}

fn covers(context: &Context, other: &Context) -> bool {
    other.iter().all(|(region, hlc)| context.get(region) >= hlc)
}
