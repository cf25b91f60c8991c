//! `hansa kv`: reads and writes of keys.

mod export;
mod import;
mod line;
mod list;
mod read;
mod write;

use std::io::{self, IsTerminal as _, Read as _};

use hansa_client::{Bytes, Call, Client, Consistency, Key};

use crate::args::{KeyArgs, KvCommand, KvOptions, ValueArgs};
use crate::connect::{StoredSession, client};
use crate::exit::{Code, Failure};
use crate::output::Output;
use crate::text::Encoding;

/// What every command here works with.
pub(crate) struct Work<'a> {
    pub(crate) options: &'a KvOptions,
    pub(crate) output: Output,
    pub(crate) encoding: Encoding,
    pub(crate) client: Client,
    pub(crate) stored: Option<StoredSession>,
}

/// Makes a call on the session if there is one, else on the client.
macro_rules! call {
    ($work:expr, $method:ident($($argument:expr),* $(,)?)) => {{
        let work = $work;
        let call = match &work.stored {
            Some(stored) => stored.session.$method($($argument),*),
            None => work.client.$method($($argument),*),
        };
        work.at_level(call)
    }};
}
pub(crate) use call;

/// Runs one command.
pub(crate) async fn run(options: &KvOptions, command: KvCommand) -> Result<Code, Failure> {
    let output = Output::new(options.printing.format);
    if let Some(hint) = session_hint(options, output)
        && io::stderr().is_terminal()
    {
        eprintln!("{hint}");
    }
    let client = client(options).await?;
    let stored = match &options.session {
        Some(path) => Some(StoredSession::open(&client, path).await?),
        None => None,
    };
    let work = Work {
        options,
        output,
        encoding: options.encoding(),
        client,
        stored,
    };
    let writes = command.writes();
    let result = work.run(command).await;
    let Some(stored) = &work.stored else {
        return result;
    };
    // Also after a failure: what was learned and which numbers were used must not get lost.
    match (stored.store().await, result) {
        (Ok(()), result) => result,
        (Err(unstored), Ok(_) | Err(Failure::Hangup)) if writes => Err(unstored.afterwards()),
        (Err(unstored), Ok(_) | Err(Failure::Hangup)) => Err(unstored),
        // What became of the data comes first.
        (Err(unstored), Err(failure)) => {
            Err(Failure::Unstored(Box::new(failure), unstored.to_string()))
        }
    }
}

/// For people only: a session without a file ends with its command.
fn session_hint(options: &KvOptions, output: Output) -> Option<&'static str> {
    let ends = options.level == Some(Consistency::Session) && options.session.is_none();
    (ends && !output.is_json()).then_some(
        "note: this session ends with the command; --session FILE carries it on to the next",
    )
}

impl KvCommand {
    /// Whether it leaves something in the cluster when it succeeds.
    fn writes(&self) -> bool {
        !matches!(
            self,
            KvCommand::Get { .. }
                | KvCommand::Contains(_)
                | KvCommand::Members { .. }
                | KvCommand::Scan { .. }
                | KvCommand::Export { .. }
        )
    }
}

impl Work<'_> {
    async fn run(&self, command: KvCommand) -> Result<Code, Failure> {
        match command {
            KvCommand::Get { key, sort_too } => read::get(self, key.or_sort(sort_too)).await,
            KvCommand::Contains(args) => read::contains(self, args).await,
            KvCommand::Put {
                key,
                value,
                ack_regions,
            } => write::put(self, key, value, ack_regions).await,
            KvCommand::Delete { key, sort_too } => write::delete(self, key.or_sort(sort_too)).await,
            KvCommand::Cas {
                key,
                value,
                delete,
                if_absent,
                if_etag,
                if_value,
            } => {
                if value.value.as_deref() == Some("-") && if_value.as_deref() == Some("-") {
                    let advice = "standard input is one value: name the other, or use --file";
                    return Err(Failure::local(advice));
                }
                let expect = write::expect(self, if_absent, if_etag, if_value)?;
                write::cas(self, key, value, delete, expect).await
            }
            KvCommand::Incr { key, by } => write::increment(self, key, by).await,
            KvCommand::Add(args) => write::add(self, args).await,
            KvCommand::Remove(args) => write::remove(self, args).await,
            KvCommand::Members {
                key,
                sort_too,
                limit,
            } => list::members(self, key.or_sort(sort_too), limit).await,
            KvCommand::Scan {
                keyspace,
                key,
                prefix,
                limit,
            } => list::scan(self, keyspace, key, prefix, limit).await,
            KvCommand::Import { file, concurrency } => import::run(self, &file, concurrency).await,
            KvCommand::Export { keyspaces } => export::run(self, keyspaces).await,
        }
    }

    pub(crate) fn at_level<R>(&self, call: Call<R>) -> Call<R> {
        match self.options.level {
            Some(level) => call.level(level),
            None => call,
        }
    }

    /// The bytes of a row's name.
    pub(crate) fn key(&self, args: &KeyArgs) -> Result<Key, Failure> {
        let sort = args.sort.as_deref().unwrap_or_default();
        Ok(Key::from((
            self.encoding.decode(&args.key)?,
            self.encoding.decode(sort)?,
        )))
    }

    /// The bytes of a value or an element given as an argument; `-` reads standard input as it is.
    pub(crate) fn bytes(&self, text: &str) -> Result<Bytes, Failure> {
        if text != "-" {
            return Ok(Bytes::from(self.encoding.decode(text)?));
        }
        let mut bytes = Vec::new();
        io::stdin()
            .lock()
            .read_to_end(&mut bytes)
            .map_err(|error| Failure::local(format!("standard input: {error}")))?;
        Ok(Bytes::from(bytes))
    }

    /// The bytes of a value from wherever it comes.
    pub(crate) fn value(&self, args: &ValueArgs) -> Result<Bytes, Failure> {
        match (&args.value, &args.file) {
            (Some(text), _) => self.bytes(text),
            (None, Some(path)) => std::fs::read(path)
                .map(Bytes::from)
                .map_err(|error| Failure::local(format!("{}: {error}", path.display()))),
            (None, None) => Err(Failure::local(
                "no value: give it, or `-` for standard input, or --file FILE",
            )),
        }
    }
}

impl KeyArgs {
    /// With the sort key that stands behind the key.
    fn or_sort(mut self, sort: Option<String>) -> KeyArgs {
        self.sort = self.sort.or(sort);
        self
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::args::{Cli, Command};
    use crate::output::Format;

    #[test]
    fn a_session_without_a_file_is_hinted_at_but_not_in_json() {
        let hint = |line: &str| {
            let Command::Kv { options, .. } = Cli::parse_from(line.split(' ')).command else {
                panic!("no kv command: {line}");
            };
            let output = Output::new(options.printing.format.or(Some(Format::Table)));
            session_hint(&options, output).is_some()
        };
        assert!(hint("hansa kv get p k --level session"));
        assert!(!hint("hansa kv get p k --level session --session s"));
        assert!(!hint("hansa kv get p k --level eventual"));
        assert!(!hint("hansa kv get p k --level session -o json"));
    }
}
