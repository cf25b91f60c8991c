//! `export`: the rows of keyspaces as writes that `import` takes.

use crate::exit::{Code, Failure};
use crate::output::bytes;

use super::line::write;
use super::{Work, call};

/// The largest page.
const PAGE_SIZE: u32 = 1000;

/// No snapshot: rows that change meanwhile appear as they were when their page was read.
pub(super) async fn run(work: &Work<'_>, keyspaces: Vec<String>) -> Result<Code, Failure> {
    for keyspace in keyspaces {
        let mut pages = call!(work, scan(&keyspace)).page_size(PAGE_SIZE).pages();
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| Failure::Call(error, keyspace.clone()))?;
            let lines = page
                .rows
                .iter()
                .map(|row| format!("{}\n", write(&keyspace, row)));
            bytes(lines.collect::<String>().as_bytes())?;
        }
    }
    Ok(Code::Ok)
}
