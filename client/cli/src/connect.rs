//! From the options of `kv` to a client, and to the session of a file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::Duration;

use hansa_client::{Client, Session};

use crate::args::KvOptions;
use crate::exit::Failure;

/// Request numbers left out in the stored session while a command runs: if it is killed, none of the
/// numbers it used is used again. A session has 2^32 of them.
const WRITES_AHEAD: u32 = 1 << 20;

/// As much of a session's file as is read, in bytes; an exported session has at most 264.
const FILE_BYTES_MAX: u64 = 4096;

/// An endpoint as given: its region if named, and its address with a scheme.
pub(crate) fn endpoint(text: &str) -> (Option<String>, String) {
    let (region, address) = match text.split_once('=') {
        Some((region, address)) => (Some(region.to_owned()), address),
        None => (None, text),
    };
    let url = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    (region, url)
}

/// A client as the options ask for it.
pub(crate) async fn client(options: &KvOptions) -> Result<Client, Failure> {
    let mut builder = Client::builder()
        .deadline(options.reach.patience.timeout)
        .connect_timeout(options.reach.patience.timeout.min(Duration::from_secs(2)));
    if let Some(region) = &options.region {
        builder = builder.region(region);
    }
    if options.stay {
        builder = builder.stay_in_region();
    }
    for text in &options.reach.endpoints {
        builder = match endpoint(text) {
            (Some(region), url) => builder.endpoint(region, url),
            (None, url) => builder.endpoint_anywhere(url),
        };
    }
    Ok(builder.build().await?)
}

/// A session that lives in a file. The file is locked as long as this exists, so that two commands
/// never go on with the same session at once.
pub(crate) struct StoredSession {
    pub(crate) session: Session,
    file: File,
    path: String,
}

impl StoredSession {
    /// Goes on with the session in the file, or begins one if the file is missing.
    pub(crate) async fn open(client: &Client, path: &Path) -> Result<StoredSession, Failure> {
        let name = path.display().to_string();
        let failed = |error: io::Error| Failure::local(format!("session {name}: {error}"));
        let mut options = OpenOptions::new();
        // Nobody else may act as this session.
        options.read(true).write(true).mode(0o600);
        let (file, is_new) = match options.clone().create_new(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                (options.open(path).map_err(failed)?, false)
            }
            made => (made.map_err(failed)?, true),
        };
        file.try_lock().map_err(|_| {
            let advice = "in use by another command: wait for it, or use another file";
            Failure::local(format!("session {name}: {advice}"))
        })?;
        let mut bytes = Vec::new();
        let mut head = (&file).take(FILE_BYTES_MAX);
        head.read_to_end(&mut bytes).map_err(failed)?;
        let session = match is_new {
            true => client.session(),
            // Bytes that are no text are no session either: the SDK says so.
            false => client
                .resume(&String::from_utf8_lossy(&bytes))
                .map_err(|error| Failure::Call(error, format!("session {name}")))?,
        };
        let stored = StoredSession {
            session,
            file,
            path: name,
        };
        if let Err(unstored) = stored.store_ahead().await {
            if is_new {
                // An empty file would be refused the next time. If it stays, that says what to do.
                let _ = std::fs::remove_file(path);
            }
            return Err(unstored);
        }
        Ok(stored)
    }

    /// Stores the session as if it had made many more writes.
    pub(crate) async fn store_ahead(&self) -> Result<(), Failure> {
        let text = self.session.export_ahead(WRITES_AHEAD).await;
        let written = self.write(&text);
        written.map_err(|error| Failure::local(format!("session {}: {error}", self.path)))
    }

    /// Stores the session as it is.
    pub(crate) async fn store(&self) -> Result<(), Failure> {
        let written = self.write(&self.session.export().await);
        written.map_err(|error| {
            let lost = "the file does not know what this command saw and wrote";
            Failure::local(format!(
                "session {}: not stored, {lost}: {error}",
                self.path
            ))
        })
    }

    /// Over the old text, then cut to length: a killed command leaves one of the two, or a text whose
    /// check does not hold, and never an empty file.
    fn write(&self, text: &str) -> io::Result<()> {
        let line = format!("{text}\n");
        self.file.write_all_at(line.as_bytes(), 0)?;
        self.file.set_len(line.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_name_a_region_and_leave_the_scheme_out() {
        let url = "http://127.0.0.1:1".to_owned();
        assert_eq!(endpoint("127.0.0.1:1"), (None, url.clone()));
        assert_eq!(
            endpoint("a=http://127.0.0.1:1"),
            (Some("a".to_owned()), url)
        );
    }
}
