//! Reads a counter from a node's metrics page.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a page may take.
const WITHIN: Duration = Duration::from_secs(5);

/// The largest page that is read, in bytes.
const PAGE_BYTES_MAX: u64 = 4 << 20;

/// The sum of a counter over all its series that carry every one of `labels` (as `name="value"`).
///
/// # Errors
/// When the page can not be read or has no such series.
pub(crate) async fn counter(page: SocketAddr, name: &str, labels: &[&str]) -> Result<u64> {
    let text = timeout(WITHIN, read(page)).await;
    let text = text
        .with_context(|| format!("{page}: no metrics within {} s", WITHIN.as_secs()))?
        .with_context(|| format!("{page}: no metrics"))?;
    sum(&text, name, labels).with_context(|| format!("{page}: no {name} with {labels:?}"))
}

async fn read(page: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect(page).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {page}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream
        .take(PAGE_BYTES_MAX)
        .read_to_string(&mut answer)
        .await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "it answered {answer}");
    Ok(answer)
}

fn sum(text: &str, name: &str, labels: &[&str]) -> Option<u64> {
    let series = text.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let (found, carried) = series.split_once('{')?;
        let carries = |label: &&str| carried.contains(*label);
        (found == name && labels.iter().all(carries)).then_some(value)
    });
    let mut values = series.map(|value| value.parse::<u64>().ok()).peekable();
    values.peek()?;
    values.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "\
# TYPE hansa_syncs counter
hansa_syncs_total{region=\"us-east\",file=\"store\"} 40
hansa_syncs_total{region=\"us-east\",file=\"sequence\"} 2
hansa_syncs_total_ever{region=\"us-east\",file=\"store\"} 7
hansa_pipes{region=\"us-east\"} 1
";

    #[test]
    fn series_are_summed_by_name_and_label() {
        let name = "hansa_syncs_total";
        assert_eq!(sum(PAGE, name, &["file=\"store\""]), Some(40));
        assert_eq!(sum(PAGE, name, &["region=\"us-east\""]), Some(42));
    }

    #[test]
    fn what_is_not_there_is_not_zero() {
        assert_eq!(sum(PAGE, "hansa_groups_total", &[]), None);
        assert_eq!(sum(PAGE, "hansa_syncs_total", &["file=\"other\""]), None);
    }
}
