//! Hansa's wire format: the messages and generated services of package `hansa.v1`, and nothing else.
//!
//! * [`v1`] holds the messages; `v1::kv_client`, `v1::kv_server` and their siblings the services.
//! * [`FILE_DESCRIPTOR_SET`] describes them for server reflection.
//!
//! The `.proto` files under `proto/hansa/v1` are the reference: every field's unit and bound stands there.
//! Numbers in them are never reused.

#![forbid(unsafe_code)]

/// Package `hansa.v1`. Generated: its style is not ours to judge.
#[allow(warnings)]
pub mod v1 {
    tonic::include_proto!("hansa.v1");
}

/// The encoded `google.protobuf.FileDescriptorSet` of all protos, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hansa.v1.bin"));

/// The gRPC name of the service clients use; health is reported under it, and under it with
/// `/eventual`, `/session` or `/strong` behind.
pub const KV_SERVICE: &str = "hansa.v1.Kv";

/// The version of the peer protocol this build speaks: the `format_version` of its hello.
pub const PEER_FORMAT_VERSION: u32 = 1;

/// Longest encoded message either side accepts, bytes: the largest value, its key and a page of slack.
pub const MESSAGE_BYTES_MAX: usize = 4 << 20;
