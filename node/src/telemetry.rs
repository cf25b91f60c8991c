//! Logs: one line per event, text or JSON, to standard error. Keys and values never stand in them.

use std::io;

use tracing_subscriber::fmt::MakeWriter;

use crate::settings::{FILTER_ADVICE, LogFormat, parse_filter};

/// Why logging could not be set up. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter can not be understood.
    #[error("log_level `{filter}` is no filter ({why}): {FILTER_ADVICE}")]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something in this process logs already.
    #[error("logging is set up already in this process")]
    Twice,
}

/// Sets up logging for the whole process, once.
///
/// # Errors
/// [`TelemetryError`] when the filter is wrong, or logging is set up already.
pub fn init(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    tracing::subscriber::set_global_default(subscriber(format, filter, io::stderr)?)
        .map_err(|_| TelemetryError::Twice)
}

fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<Box<dyn tracing::Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let parsed = parse_filter(filter).map_err(|why| TelemetryError::Filter {
        filter: filter.to_owned(),
        why,
    })?;
    let base = tracing_subscriber::fmt()
        .with_env_filter(parsed)
        .with_writer(writer)
        .with_ansi(false);
    Ok(match format {
        LogFormat::Text => Box::new(base.finish()),
        LogFormat::Json => Box::new(base.json().flatten_event(true).finish()),
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, "warn", move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("left out");
            tracing::warn!(peer = "b", "link is down");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_and_json_lines_carry_level_message_and_fields() {
        let text = logged(LogFormat::Text);
        assert!(
            text.contains("WARN") && text.contains("link is down peer=\"b\""),
            "{text}"
        );
        assert_eq!(text.lines().count(), 1);
        let json = logged(LogFormat::Json);
        assert!(
            json.starts_with('{') && json.trim_end().ends_with('}'),
            "{json}"
        );
        assert!(json.contains("\"message\":\"link is down\""), "{json}");
        assert!(json.contains("\"peer\":\"b\""), "{json}");
    }

    #[test]
    fn a_wrong_filter_is_named() {
        for filter in ["hansa_node=loud", "loud", "", "info,", "warn,hansa_node"] {
            let wrong = subscriber(LogFormat::Text, filter, io::sink).err();
            let text = wrong.map(|error| error.to_string()).unwrap_or_default();
            assert!(text.contains(&format!("`{filter}`")), "{filter}: {text}");
            assert!(text.contains(FILTER_ADVICE), "{filter}: {text}");
        }
    }
}
