//! What to do next, as commands that work as printed.

use std::env;
use std::path::{Path, PathBuf};

use hansa_client::{Applied, Error, ErrorKind};

use crate::exit::LINKS;

/// How this program is called here: `hansa` when that is what a shell finds, the form with cargo in
/// the repository it was built in, else the path it was called by.
pub(crate) fn invocation() -> String {
    let found = env::var_os("PATH").and_then(|path| {
        let mut folders = env::split_paths(&path);
        folders.find_map(|folder| folder.join("hansa").canonicalize().ok())
    });
    let ours = env::current_exe().and_then(|exe| exe.canonicalize());
    let here = env::current_dir().and_then(|folder| folder.canonicalize());
    let (ours, here) = (ours.unwrap_or_default(), here.unwrap_or_default());
    if found.is_some_and(|found| found == ours) {
        return "hansa".to_owned();
    }
    if repository(&ours).is_some_and(|repository| here.starts_with(repository)) {
        return "cargo run --release --".to_owned();
    }
    // A name without a folder was found by other means than our PATH.
    let called = env::args_os().next().map(PathBuf::from);
    let called = called.filter(|path| path.components().nth(1).is_some());
    quoted(&called.unwrap_or(ours).to_string_lossy())
}

/// The repository in whose `target/` the program is. Outside of it cargo can not run it.
fn repository(program: &Path) -> Option<&Path> {
    let mut targets = program.ancestors().filter(|path| path.ends_with("target"));
    targets.find_map(|target| {
        let folder = target.parent()?;
        folder
            .join("client/cli/Cargo.toml")
            .is_file()
            .then_some(folder)
    })
}

/// As a shell takes it for one word.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// What it means to delete a session's file. The data is not the file's.
const ANEW: &str = "to begin a new session: no data is lost, but the new one is not promised to \
                    see what the old one saw and wrote";

/// What to do after an error, in one line.
/// `doing` is what was being done, as in [`Failure::Call`](crate::exit::Failure::Call).
pub(crate) fn next_step(error: &Error, doing: &str) -> String {
    let hansa = invocation();
    if error.applied() == Applied::Maybe && doing == LINKS {
        return "repeat it at the address the demo printed: to cut or heal twice does no harm"
            .to_owned();
    }
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
        ("STRONG_ONLY", _) => "write with --level strong".to_owned(),
        ("LEVEL_NOT_SUPPORTED" | "LEVEL_NOT_AVAILABLE", _) => "choose another --level".to_owned(),
        ("QUORUM_UNREACHABLE", _) => {
            format!(
                "retry{after}, use --level eventual, or ask a region of the majority with --region"
            )
        }
        ("SESSION_UNAVAILABLE", _) => {
            format!("retry{after}, or go on in the region where the session was before")
        }
        ("SESSION_TOKEN_OTHER_CLUSTER", _) => {
            "the session is another cluster's: name another --session file, or delete this one"
                .to_owned()
        }
        ("SESSION_TOKEN_MALFORMED", _) => format!("delete the --session file {ANEW}"),
        ("SESSION_TOKEN_NEWER", _) => {
            format!("use the newer version, or delete the --session file {ANEW}")
        }
        ("NOT_SERVED", _) => {
            "ask where it is served: nodes with --endpoint, a demo's links with --admin".to_owned()
        }
        (_, ErrorKind::Unreachable) if doing == LINKS => {
            format!("start a `{hansa} demo`, or name its address with --admin or HANSA_DEMO_ADMIN")
        }
        (_, ErrorKind::Unreachable) => format!(
            "start a cluster (`{hansa} demo`), or name its addresses with --endpoint or HANSA_ENDPOINTS"
        ),
        (_, ErrorKind::Conflict) => "read the row again and repeat with its new etag".to_owned(),
        ("OVERFLOW", _) => {
            "add less: the amount, BY, would take the counter out of 64 bits".to_owned()
        }
        (_, ErrorKind::Invalid) => match option_of(error.field(), doing) {
            Some(option) => format!("correct {option}"),
            None => "correct what the message names".to_owned(),
        },
        (_, ErrorKind::Denied) => "ask for the right to do this".to_owned(),
        (_, ErrorKind::Overloaded | ErrorKind::Unavailable) => format!("retry{after}"),
        (_, ErrorKind::Corrupt) => {
            format!("stop the node and look: `{hansa} serve --help`, --rebuild")
        }
        _ => "report it".to_owned(),
    }
}

/// What sets a field of a request or a setting of the client on the command line.
fn option_of(field: &str, doing: &str) -> Option<&'static str> {
    Some(match field {
        "keyspace" => "the argument KEYSPACE",
        "key" | "sort" => "the argument KEY, or --sort",
        "value" => "the value: VALUE or --file",
        "element" => "the argument ELEMENT",
        "change" => "the amount: BY",
        "sort_prefix" => "--prefix",
        "page_size" => "--limit",
        "expect" | "expect_etag" => "the condition: --if-etag, --if-value or --if-absent",
        "options.level" => "--level, or HANSA_LEVEL",
        "options.ack_regions" => "--ack-regions",
        "options.deadline_ms" => "--timeout, or HANSA_TIMEOUT",
        "options.session_token" => "--session",
        "endpoint" if doing == LINKS => "--admin, or HANSA_DEMO_ADMIN",
        "endpoint" => "--endpoint, or HANSA_ENDPOINTS",
        "region" if doing == LINKS => "the argument NAME, a region",
        "region" => "--region, or HANSA_REGION",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_repository_of_its_target_folder_runs_a_program_by_cargo() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = folder.path().join("client/cli/Cargo.toml");
        let program = folder.path().join("target/release/hansa");
        assert_eq!(repository(&program), None);
        std::fs::create_dir_all(manifest.parent().unwrap()).unwrap();
        std::fs::write(manifest, "").unwrap();
        assert_eq!(repository(&program), Some(folder.path()));
        assert_eq!(repository(&folder.path().join("bin/hansa")), None);
    }

    #[test]
    fn a_printed_path_is_one_word_of_a_shell() {
        assert_eq!(quoted("./bin/hansa-0.1"), "./bin/hansa-0.1");
        assert_eq!(quoted("/my $a's/hansa"), "'/my $a'\\''s/hansa'");
    }
}
