//! What to do next, as commands that work as printed.

use std::env;
use std::path::Path;

use hansa_client::{Applied, Error, ErrorKind};

/// How this program is called here: `hansa` when that is what a shell finds, else the form that
/// works in the repository.
pub(crate) fn invocation() -> &'static str {
    let found = env::var_os("PATH").and_then(|path| {
        let mut folders = env::split_paths(&path);
        folders.find_map(|folder| folder.join("hansa").canonicalize().ok())
    });
    let ours = env::current_exe().and_then(|exe| exe.canonicalize());
    match (found, ours) {
        (Some(found), Ok(ours)) if is_same(&found, &ours) => "hansa",
        _ => "cargo run --release --",
    }
}

fn is_same(found: &Path, ours: &Path) -> bool {
    found == ours
}

/// What to do after an error, in one line.
pub(crate) fn next_step(error: &Error) -> String {
    let hansa = invocation();
    if error.applied() == Applied::Maybe {
        return format!("read the key (`{hansa} kv get ...`), then decide whether to repeat");
    }
    let after = error
        .retry_after()
        .map(|time| format!(" in {} ms", time.as_millis()));
    let after = after.unwrap_or_default();
    match (error.reason(), error.kind()) {
        ("UNKNOWN_KEYSPACE", _) => format!("see the keyspaces: `{hansa} status --keyspaces`"),
        ("WRONG_TYPE", _) => format!("see the keyspaces' types: `{hansa} status --keyspaces`"),
        ("LEVEL_NOT_SUPPORTED" | "LEVEL_NOT_AVAILABLE" | "STRONG_ONLY", _) => {
            "choose another --level".to_owned()
        }
        ("QUORUM_UNREACHABLE", _) => {
            format!(
                "retry{after}, use --level eventual, or ask a region of the majority with --region"
            )
        }
        ("SESSION_UNAVAILABLE", _) => {
            format!("retry{after}, or go on in the region where the session was before")
        }
        ("NOT_AVAILABLE", _) => "only `demo` serves this: give its address with --admin".to_owned(),
        (_, ErrorKind::Unreachable) => format!(
            "start a cluster (`{hansa} demo`), or name its addresses with --endpoint or HANSA_ENDPOINTS"
        ),
        (_, ErrorKind::Conflict) => "read the row again and repeat with its new etag".to_owned(),
        (_, ErrorKind::Invalid) => "correct the command".to_owned(),
        (_, ErrorKind::Denied) => "ask for the right to do this".to_owned(),
        (_, ErrorKind::Overloaded | ErrorKind::Unavailable) => format!("retry{after}"),
        (_, ErrorKind::Corrupt) => {
            format!("stop the node and look: `{hansa} serve --help`, --rebuild")
        }
        _ => "report it".to_owned(),
    }
}
