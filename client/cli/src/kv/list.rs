//! `members` and `scan`: page by page to the end or the limit.

use hansa_client::{Key, Page, Paged, Pages, Receipt, Row};
use serde_json::{Map, Value as Json};

use crate::args::KeyArgs;
use crate::exit::{Code, Failure};
use crate::output::{Style, put_bytes, put_value, receipt, show_value};
use crate::text::Encoding;

use super::{Work, call};

/// The largest page.
const PAGE_SIZE: usize = 1000;

/// Rows at most in a page when `limit` are wanted in all.
fn page_size(limit: Option<usize>) -> u32 {
    limit.unwrap_or(PAGE_SIZE).clamp(1, PAGE_SIZE) as u32
}

pub(super) async fn members(
    work: &Work<'_>,
    args: KeyArgs,
    limit: Option<usize>,
) -> Result<Code, Failure> {
    let key = work.key(&args)?;
    let call = call!(work, members(&args.keyspace, key));
    let pages = call.page_size(page_size(limit)).pages();
    let object = |element: &hansa_client::Bytes| {
        let mut object = Map::new();
        put_bytes(&mut object, "element", element);
        object.into()
    };
    let encoding = work.encoding;
    let show = |element: &hansa_client::Bytes| vec![encoding.show(element)];
    let shape = Shape {
        head: &["element"],
        show: &show,
        object: &object,
    };
    list(
        work,
        pages,
        limit,
        |page| (page.elements, page.receipt),
        shape,
    )
    .await
}

pub(super) async fn scan(
    work: &Work<'_>,
    keyspace: String,
    key: Option<String>,
    prefix: Option<String>,
    limit: Option<usize>,
) -> Result<Code, Failure> {
    let decode = |text: Option<String>| work.encoding.decode(&text.unwrap_or_default());
    let key = Key::from((decode(key)?, decode(prefix)?));
    let call = call!(work, scan_key(keyspace, key));
    let pages: Pages<Page> = call.page_size(page_size(limit)).pages();
    let encoding = work.encoding;
    let show = |row: &Row| show_row(encoding, row);
    let shape = Shape {
        head: &["key", "sort", "element", "value", "etag"],
        show: &show,
        object: &row_object,
    };
    list(work, pages, limit, |page| (page.rows, page.receipt), shape).await
}

fn show_row(encoding: Encoding, row: &Row) -> Vec<String> {
    let element = row.element.as_ref().map(|element| encoding.show(element));
    vec![
        encoding.show(&row.key.partition),
        encoding.show(&row.key.sort),
        element.unwrap_or_default(),
        show_value(encoding, &row.value),
        row.etag.to_string(),
    ]
}

fn row_object(row: &Row) -> Json {
    let mut object = Map::new();
    put_bytes(&mut object, "key", &row.key.partition);
    if !row.key.sort.is_empty() {
        put_bytes(&mut object, "sort", &row.key.sort);
    }
    if let Some(element) = &row.element {
        put_bytes(&mut object, "element", element);
    }
    put_value(&mut object, &row.value);
    object.insert("etag".to_owned(), row.etag.to_string().into());
    object.into()
}

/// How one item is printed.
struct Shape<'a, T> {
    head: &'a [&'a str],
    show: &'a dyn Fn(&T) -> Vec<String>,
    object: &'a dyn Fn(&T) -> Json,
}

/// Prints items as they come; JSON over several lines is one object and needs them all first.
async fn list<R: Paged, T>(
    work: &Work<'_>,
    mut pages: Pages<R>,
    limit: Option<usize>,
    take: impl Fn(R) -> (Vec<T>, Receipt),
    shape: Shape<'_, T>,
) -> Result<Code, Failure> {
    let limit = limit.unwrap_or(usize::MAX);
    let (mut count, mut kept, mut rows) = (0, Vec::new(), Vec::new());
    let mut joined: Option<Receipt> = None;
    while count < limit
        && let Some(page) = pages.next().await
    {
        let (mut items, page_receipt) = take(page?);
        items.truncate(limit - count);
        count += items.len();
        match work.output.style {
            Style::Json => kept.extend(items.iter().map(shape.object)),
            Style::Jsonl => {
                for item in &items {
                    work.output.json(&(shape.object)(item))?;
                }
            }
            Style::Plain => {
                let lines: Vec<_> = items.iter().map(shape.show).collect();
                work.output.rows(shape.head, &lines)?;
            }
            // The widths of a table's columns depend on all of its rows.
            Style::Table => rows.extend(items.iter().map(shape.show)),
        }
        joined = Some(match joined {
            Some(before) => before.join(page_receipt),
            None => page_receipt,
        });
    }
    match work.output.style {
        Style::Json => {
            let receipt = joined.as_ref().map(receipt);
            let whole = serde_json::json!({"rows": kept, "receipt": receipt});
            work.output.json(&whole)?;
        }
        Style::Table => work.output.rows(shape.head, &rows)?,
        _ => {}
    }
    if let Some(receipt) = &joined {
        work.output.explain_list(work.options.explain, receipt);
    }
    Ok(Code::Ok)
}
