//! What replies promise about the past: contexts and versions never go back in real time.

use hansa_consistency::register::Action as Does;
use hansa_consistency::session::Context;
use hansa_consistency::topology::ValueType;

use super::calls::{Call, History, Reply, Seen};

/// The first broken promise, in words.
///
/// * A strong reply's context covers the causes of every strong write answered before the call began, and of every
///   eventual write that it shows (DESIGN 4.1, 3).
/// * A register's etag is never below one that a strong reply had carried before the call began; a write's is above.
pub(super) fn broken(history: &History) -> Option<String> {
    let replies = || history.calls.iter().enumerate().filter_map(with_reply);
    for (i, call, reply) in replies() {
        let uncovered = |w: &&super::calls::EventualWrite| !covers(&reply.context, &w.context);
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

fn with_reply((i, call): (usize, &Call)) -> Option<(usize, &Call, &Reply)> {
    call.reply.as_ref().map(|reply| (i, call, reply))
}

fn wrote(call: &Call, seen: Seen) -> bool {
    call.operation.action != Does::Read && !matches!(seen, Seen::Refused(_))
}

fn covers(context: &Context, other: &Context) -> bool {
    other.iter().all(|(region, hlc)| context.get(region) >= hlc)
}
