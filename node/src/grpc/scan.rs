//! Pages of rows: of one key, of one set, or of a whole keyspace, shard by shard.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hansa_consistency::key::{KeyspaceId, ShardId, prefix_end, sort_prefix};
use hansa_consistency::limits::SCAN_ROWS_MAX;
use hansa_consistency::request::{Answer, Command, Level, Reply, Scan, ScannedRow};
use hansa_consistency::topology::ValueType;
use hansa_proto::v1;

use super::Edge;
use super::status::Failure;
use super::wire::{self, Options, Target};
use crate::limits::{PAGE_BYTES_MAX, PAGE_ROWS_DEFAULT, PAGE_SHARDS_MAX, PAGE_TOKEN_BYTES_MAX};

/// What is scanned: ranges of storage keys, one after the other, each within one shard.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Extent {
    /// The rows of one key.
    Key { from: Bytes, to: Bytes },
    /// All shards.
    Keyspace { id: KeyspaceId, shards: u16 },
}

impl Extent {
    /// The range of this number; `None` behind the last.
    fn range(&self, index: u16) -> Option<(Bytes, Bytes)> {
        match self {
            Extent::Key { from, to } => (index == 0).then(|| (from.clone(), to.clone())),
            Extent::Keyspace { id, shards } => {
                let shard = ShardId {
                    keyspace: *id,
                    index,
                };
                let from = Bytes::copy_from_slice(&shard.prefix());
                let to = Bytes::copy_from_slice(&shard.end()?);
                (index < *shards).then_some((from, to))
            }
        }
    }

    /// Tokens of another scan do not pass as this one's.
    fn seed(&self) -> u64 {
        let mut name = BytesMut::new();
        if let Some((from, to)) = self.range(0) {
            name.put_slice(&from);
            name.put_slice(&to);
        }
        name.put_u8(u8::from(matches!(self, Extent::Keyspace { .. })));
        xxhash_rust::xxh3::xxh3_64(&name)
    }
}

/// Where a scan goes on: at a storage key of a range.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Position {
    index: u16,
    from: Bytes,
}

const TOKEN_VERSION: u8 = 1;

impl Position {
    /// As clients carry it: version | range u16 | storage key | check u32.
    fn token(&self, seed: u64) -> Bytes {
        let mut out = BytesMut::with_capacity(7 + self.from.len());
        out.put_u8(TOKEN_VERSION);
        out.put_u16(self.index);
        out.put_slice(&self.from);
        let check = xxhash_rust::xxh3::xxh3_64_with_seed(&out, seed) as u32;
        out.put_u32(check);
        out.freeze()
    }

    /// Takes a token back; it must lie inside the extent.
    fn from_token(token: &Bytes, extent: &Extent) -> Result<Position, Failure> {
        let parse = || {
            if token.len() > PAGE_TOKEN_BYTES_MAX {
                return None;
            }
            let (body, check) = token.split_at_checked(token.len().checked_sub(4)?)?;
            let fits = xxhash_rust::xxh3::xxh3_64_with_seed(body, extent.seed()) as u32;
            let [TOKEN_VERSION, high, low, ..] = *body else {
                return None;
            };
            let index = u16::from_be_bytes([high, low]);
            let from = token.slice(3..body.len());
            let (start, end) = extent.range(index)?;
            let inside = start <= from && from < end;
            (check == fits.to_be_bytes() && inside).then_some(Position { index, from })
        };
        parse().ok_or_else(Failure::page_token)
    }
}

/// Rows in order, what they are worth, and where to go on.
struct Page {
    rows: Vec<ScannedRow>,
    header: v1::ReplyHeader,
    next: Bytes,
}

impl Edge {
    pub(super) async fn scan(
        &self,
        request: v1::ScanRequest,
        within: Option<Duration>,
    ) -> Result<v1::ScanReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        let extent = extent(target, &request)?;
        let options = self.scan_options(target, request.options, within)?;
        let rows = page_rows(request.page_size)?;
        let page = self.page(target.id, &extent, rows, &request.page_token, &options);
        let page = page.await?;
        Ok(v1::ScanReply {
            header: Some(page.header),
            rows: page
                .rows
                .into_iter()
                .map(scanned)
                .collect::<Result<_, _>>()?,
            next_page_token: page.next,
        })
    }

    pub(super) async fn members(
        &self,
        request: v1::MembersRequest,
        within: Option<Duration>,
    ) -> Result<v1::MembersReply, Failure> {
        let target = wire::target(&self.names, &request.keyspace)?;
        if target.policy.value_type != ValueType::Set {
            let message = "the keyspace holds no sets: use Get";
            return Err(Failure::wrong_type("keyspace", message));
        }
        let row = target.any_row(&request.key, &request.sort, None)?;
        let extent = Extent::Key {
            from: row.as_bytes().clone(),
            to: row.elements_end(),
        };
        let options = self.scan_options(target, request.options, within)?;
        let rows = page_rows(request.page_size)?;
        let page = self.page(target.id, &extent, rows, &request.page_token, &options);
        let page = page.await?;
        let element = |row: ScannedRow| row.row.parts().and_then(|parts| parts.element);
        let elements: Option<Vec<Bytes>> = page.rows.into_iter().map(element).collect();
        Ok(v1::MembersReply {
            header: Some(page.header),
            elements: elements.ok_or_else(|| Failure::internal("a member without an element"))?,
            next_page_token: page.next,
        })
    }

    fn scan_options(
        &self,
        target: Target<'_>,
        options: Option<v1::RequestOptions>,
        within: Option<Duration>,
    ) -> Result<Options, Failure> {
        let (now, default) = (self.driver.now(), target.default_level);
        let options = wire::options(&self.names, now, options, default, within)?;
        if options.level == Level::Strong {
            let message = "ranges and whole sets are not read at level strong, a row is the unit: \
                           name level eventual or session, or read the rows one by one";
            return Err(Failure::level_not_supported(message));
        }
        Ok(options)
    }

    /// Reads ranges until the page is full or there are no more.
    async fn page(
        &self,
        keyspace: KeyspaceId,
        extent: &Extent,
        limit: usize,
        token: &Bytes,
        options: &Options,
    ) -> Result<Page, Failure> {
        let mut at = match token.is_empty() {
            true => start_of(extent, 0),
            false => Some(Position::from_token(token, extent)?),
        };
        let (mut sum, mut rows, mut bytes): (Option<Reply>, Vec<ScannedRow>, usize) =
            (None, Vec::new(), 0);
        let mut ranges = 0;
        while let Some(Position { index, from }) =
            at.take_if(|_| ranges < PAGE_SHARDS_MAX && rows.len() < limit && bytes < PAGE_BYTES_MAX)
        {
            ranges += 1;
            let Some((_, to)) = extent.range(index) else {
                break;
            };
            let scan = Scan {
                keyspace,
                from,
                to,
                limit: limit - rows.len(),
            };
            // Later ranges show at least what earlier ones showed.
            let seen = sum.as_ref().map(|sum| options.having_seen(&sum.context));
            let request = seen.as_ref().unwrap_or(options);
            let reply = self.ask(request.request(Command::Scan(scan))).await?;
            add(&mut sum, &reply);
            let Answer::Page { rows: more, next } = reply.answer else {
                return Err(Failure::internal("a scan was answered by something else"));
            };
            bytes += more.iter().map(size).sum::<usize>();
            rows.extend(more);
            at = match next {
                Some(from) => Some(Position { index, from }),
                None => start_of(extent, index + 1),
            };
        }
        let sum = sum.ok_or_else(|| Failure::internal("a scan over nothing"))?;
        let (level, receipt) = (sum.level, &sum.receipt);
        Ok(Page {
            rows,
            header: wire::header(
                &self.names,
                self.node,
                level,
                &sum.context,
                sum.hlc,
                receipt,
            ),
            next: at.map_or(Bytes::new(), |at| at.token(extent.seed())),
        })
    }
}

fn start_of(extent: &Extent, index: u16) -> Option<Position> {
    let (from, _) = extent.range(index)?;
    Some(Position { index, from })
}

/// Adds a reply to the sum. Ranges are asked one after the other, so round trips add up.
fn add(sum: &mut Option<Reply>, reply: &Reply) {
    let Some(sum) = sum else {
        *sum = Some(reply.clone());
        return;
    };
    let trips = &mut sum.receipt.wan_round_trips;
    *trips = trips.saturating_add(reply.receipt.wan_round_trips);
    sum.join(reply);
}

fn size(row: &ScannedRow) -> usize {
    use hansa_consistency::request::Found;
    let value = match &row.found {
        Found::Value(bytes) => bytes.len(),
        Found::Nothing | Found::Total(_) | Found::Member => 0,
    };
    row.row.as_bytes().len() + row.etag.len() + value
}

/// The ranges of a scan request.
fn extent(target: Target<'_>, request: &v1::ScanRequest) -> Result<Extent, Failure> {
    let (id, shards) = (target.id, target.policy.shards);
    if request.key.is_empty() {
        if !request.sort_prefix.is_empty() {
            let message = "needs a key: sort keys are ordered under one key only";
            return Err(Failure::invalid("sort_prefix", message));
        }
        return Ok(Extent::Keyspace { id, shards });
    }
    // Checks the bounds of both.
    target.any_row(&request.key, &request.sort_prefix, None)?;
    let from = sort_prefix(id, shards, &request.key, &request.sort_prefix);
    let to = prefix_end(&from).ok_or_else(|| Failure::invalid("key", "is out of range"))?;
    Ok(Extent::Key { from, to })
}

fn page_rows(page_size: u32) -> Result<usize, Failure> {
    match page_size as usize {
        0 => Ok(PAGE_ROWS_DEFAULT),
        rows if rows <= SCAN_ROWS_MAX => Ok(rows),
        rows => {
            let message = format!("is {rows}, at most {SCAN_ROWS_MAX} are allowed");
            Err(Failure::invalid("page_size", message))
        }
    }
}

fn scanned(row: ScannedRow) -> Result<v1::ScanRow, Failure> {
    use v1::scan_row::Content;
    let parts = row.row.parts();
    let parts = parts.ok_or_else(|| Failure::internal("a row without a name"))?;
    let (_, value, total) = wire::found_to_wire(row.found);
    Ok(v1::ScanRow {
        key: parts.partition,
        sort: parts.sort,
        element: parts.element,
        content: value.map(Content::Value).or(total.map(Content::Total)),
        etag: row.etag,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyspace(shards: u16) -> Extent {
        Extent::Keyspace {
            id: KeyspaceId(2),
            shards,
        }
    }

    fn inside() -> Position {
        Position {
            index: 3,
            from: Bytes::from_static(&[0, 2, 0, 3, 9, 9]),
        }
    }

    #[test]
    fn tokens_come_back() {
        let token = inside().token(keyspace(4).seed());
        assert_eq!(Position::from_token(&token, &keyspace(4)), Ok(inside()));
    }

    #[test]
    fn damaged_and_foreign_tokens_are_refused() {
        let token = inside().token(keyspace(4).seed());
        for at in 0..token.len() {
            let mut bytes = token.to_vec();
            bytes[at] ^= 1;
            assert!(Position::from_token(&Bytes::from(bytes), &keyspace(4)).is_err());
            assert!(Position::from_token(&token.slice(..at), &keyspace(4)).is_err());
        }
        // Another scan over the same shard, and a shard that is no more.
        let key = Extent::Key {
            from: Bytes::from_static(&[0, 2, 0, 3]),
            to: Bytes::from_static(&[0, 2, 0, 4]),
        };
        assert!(Position::from_token(&token, &key).is_err());
        assert!(Position::from_token(&token, &keyspace(3)).is_err());
    }
}
