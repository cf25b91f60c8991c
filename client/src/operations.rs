//! The operations, the same for a client and for a session.

use bytes::Bytes;
use hansa_proto::v1;
use hansa_proto::v1::pipe_request::Body;

use crate::call::{Call, Effect};
use crate::client::Client;
use crate::etag::Etag;
use crate::key::Key;
use crate::reply::{Batch, Contained, Got, Members, Page, Written};
use crate::session::Session;
use crate::wire;

/// What a compare-and-set must find.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expect {
    /// Nothing.
    Absent,
    /// The version of this etag, as an earlier reply or error told it.
    Etag(Etag),
    /// These bytes, at most 1 MiB.
    Value(Bytes),
}

/// Inherent methods, so that no user has to import a trait to make a call.
macro_rules! operations {
    ($($type:ty),*) => {$(
        /// The operations. The name of a keyspace has 1 to 64 bytes, keys are bounded as
        /// [`Key`] says, and what else is too long or of another type than the keyspace is refused
        /// by the server. What a call can fail with: [errors](Call#errors).
        impl $type {
            /// Reads a register or a counter. An absent row is no error.
            pub fn get(&self, keyspace: impl Into<String>, key: impl Into<Key>) -> Call<Got> {
                Call::new(self, Effect::Read, get(keyspace, key, None), wire::got)
            }

            /// Writes a register: 0 bytes to 1 MiB.
            pub fn put(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                value: impl Into<Bytes>,
            ) -> Call<Written> {
                let body = put(keyspace, key, value);
                Call::new(self, Effect::Idempotent, body, wire::written)
            }

            /// Deletes a register, or takes off a counter what the write sees of it. An absent row is
            /// no error.
            pub fn delete(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
            ) -> Call<Written> {
                let body = delete(keyspace, key);
                Call::new(self, Effect::Idempotent, body, wire::written)
            }

            /// Writes a register (`Some`, at most 1 MiB) or deletes it (`None`) if it is as expected;
            /// level strong only, and that is what it has unless told otherwise. If it is not as
            /// expected, an error of kind [`Conflict`](crate::ErrorKind::Conflict).
            pub fn cas(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                expect: Expect,
                value: Option<Bytes>,
            ) -> Call<Written> {
                let body = cas(keyspace, key, expect, value);
                Call::new(self, Effect::Once, body, wire::written)
            }

            /// Adds to a counter; `by` may be negative. Refused with `OVERFLOW` when the counter would
            /// leave 64 bits. Repeated after an error that says
            /// [`Maybe`](crate::Applied::Maybe) it may count twice.
            pub fn increment(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                by: i64,
            ) -> Call<Written> {
                let body = update(keyspace, key, v1::update_request::Change::Increment(by));
                Call::new(self, Effect::Once, body, wire::written)
            }

            /// Adds an element of at most 4096 bytes to a set.
            pub fn add(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                element: impl Into<Bytes>,
            ) -> Call<Written> {
                let change = v1::update_request::Change::Add(element.into());
                let body = update(keyspace, key, change);
                Call::new(self, Effect::Idempotent, body, wire::written)
            }

            /// Removes an element from a set. Adds that this write has not seen survive it.
            pub fn remove(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                element: impl Into<Bytes>,
            ) -> Call<Written> {
                let change = v1::update_request::Change::Remove(element.into());
                let body = update(keyspace, key, change);
                Call::new(self, Effect::Idempotent, body, wire::written)
            }

            /// Whether an element of at most 4096 bytes is in a set.
            pub fn contains(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
                element: impl Into<Bytes>,
            ) -> Call<Contained> {
                let body = get(keyspace, key, Some(element.into()));
                Call::new(self, Effect::Read, body, wire::contained)
            }

            /// Reads 1 to 100 registers or counters of one keyspace; each for itself, no snapshot over
            /// them. One refused key refuses all, and so do values that are too large together for
            /// one reply, 3 MiB.
            pub fn batch_get<K: Into<Key>>(
                &self,
                keyspace: impl Into<String>,
                keys: impl IntoIterator<Item = K>,
            ) -> Call<Batch> {
                Call::new(self, Effect::Read, batch(keyspace, keys), wire::batch)
            }

            /// Reads a set's elements; levels eventual and session. Await it for one page, or take
            /// [`pages`](Call::pages).
            pub fn members(
                &self,
                keyspace: impl Into<String>,
                key: impl Into<Key>,
            ) -> Call<Members> {
                Call::new(self, Effect::Read, members(keyspace, key), wire::members)
            }

            /// Reads all rows of a keyspace, shard by shard; levels eventual and session. Await it
            /// for one page, or take [`pages`](Call::pages).
            pub fn scan(&self, keyspace: impl Into<String>) -> Call<Page> {
                let body = scan(keyspace, Key::default());
                Call::new(self, Effect::Read, body, wire::page)
            }

            /// Reads the rows of one partition key in order of their sort keys; only those whose
            /// sort key starts with `key`'s. Levels eventual and session.
            pub fn scan_key(&self, keyspace: impl Into<String>, key: impl Into<Key>) -> Call<Page> {
                Call::new(self, Effect::Read, scan(keyspace, key), wire::page)
            }
        }
    )*};
}

operations!(Client, Session);

fn get(keyspace: impl Into<String>, key: impl Into<Key>, element: Option<Bytes>) -> Body {
    let Key { partition, sort } = key.into();
    Body::Get(v1::GetRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        element,
        options: None,
    })
}

fn put(keyspace: impl Into<String>, key: impl Into<Key>, value: impl Into<Bytes>) -> Body {
    let Key { partition, sort } = key.into();
    Body::Put(v1::PutRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        value: value.into(),
        options: None,
    })
}

fn delete(keyspace: impl Into<String>, key: impl Into<Key>) -> Body {
    let Key { partition, sort } = key.into();
    Body::Delete(v1::DeleteRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        options: None,
    })
}

fn cas(
    keyspace: impl Into<String>,
    key: impl Into<Key>,
    expect: Expect,
    value: Option<Bytes>,
) -> Body {
    use v1::compare_and_set_request::Expect as Wire;
    let Key { partition, sort } = key.into();
    let expect = match expect {
        Expect::Absent => Wire::ExpectAbsent(true),
        Expect::Etag(etag) => Wire::ExpectEtag(etag.0),
        Expect::Value(value) => Wire::ExpectValue(value),
    };
    Body::CompareAndSet(v1::CompareAndSetRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        expect: Some(expect),
        value,
        options: None,
    })
}

fn update(
    keyspace: impl Into<String>,
    key: impl Into<Key>,
    change: v1::update_request::Change,
) -> Body {
    let Key { partition, sort } = key.into();
    Body::Update(v1::UpdateRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        change: Some(change),
        options: None,
    })
}

fn batch<K: Into<Key>>(keyspace: impl Into<String>, keys: impl IntoIterator<Item = K>) -> Body {
    let one = |key: K| {
        let Key { partition, sort } = key.into();
        v1::BatchKey {
            key: partition,
            sort,
            element: None,
        }
    };
    Body::BatchGet(v1::BatchGetRequest {
        keyspace: keyspace.into(),
        keys: keys.into_iter().map(one).collect(),
        options: None,
    })
}

fn members(keyspace: impl Into<String>, key: impl Into<Key>) -> Body {
    let Key { partition, sort } = key.into();
    Body::Members(v1::MembersRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort,
        page_size: 0,
        page_token: Bytes::new(),
        options: None,
    })
}

fn scan(keyspace: impl Into<String>, key: impl Into<Key>) -> Body {
    let Key { partition, sort } = key.into();
    Body::Scan(v1::ScanRequest {
        keyspace: keyspace.into(),
        key: partition,
        sort_prefix: sort,
        page_size: 0,
        page_token: Bytes::new(),
        options: None,
    })
}
