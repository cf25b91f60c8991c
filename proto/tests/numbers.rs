//! The wire format only grows: every field that was ever released keeps its number, name and type.
//!
//! `numbers.txt` is what stands on the wire. A change that only adds lines is fine: run this test with
//! `HANSA_WRITE_NUMBERS=1` to add them. A line that changes or goes breaks clients.

#![allow(clippy::unwrap_used)] // a test: a panic is its report

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet};

fn descriptors() -> FileDescriptorSet {
    FileDescriptorSet::decode(hansa_proto::FILE_DESCRIPTOR_SET).unwrap()
}

fn fields(message: &DescriptorProto, lines: &mut BTreeSet<String>) {
    for field in &message.field {
        lines.insert(format!(
            "{}.{} = {} {} {:?} {:?}",
            message.name(),
            field.name(),
            field.number(),
            field.type_name(),
            field.r#type(),
            field.label(),
        ));
    }
}

fn lines() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for file in &descriptors().file {
        for message in &file.message_type {
            assert!(message.nested_type.is_empty(), "{}", message.name());
            fields(message, &mut lines);
        }
        for each in &file.enum_type {
            for value in &each.value {
                lines.insert(format!(
                    "{}.{} = {}",
                    each.name(),
                    value.name(),
                    value.number()
                ));
            }
        }
        for service in &file.service {
            for method in &service.method {
                lines.insert(format!(
                    "{}/{}({}{}) {}{}",
                    service.name(),
                    method.name(),
                    if method.client_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.input_type(),
                    if method.server_streaming() {
                        "stream "
                    } else {
                        ""
                    },
                    method.output_type(),
                ));
            }
        }
    }
    lines
}

#[test]
fn nothing_released_was_changed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/numbers.txt");
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let released: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let now = lines();
    let broken: Vec<_> = released.difference(&now).collect();
    assert!(
        broken.is_empty(),
        "these were changed or removed: {broken:#?}"
    );
    if std::env::var_os("HANSA_WRITE_NUMBERS").is_some() {
        let all: Vec<String> = now.iter().cloned().collect();
        std::fs::write(&path, all.join("\n") + "\n").unwrap();
        return;
    }
    let new: Vec<_> = now.difference(&released).collect();
    assert!(
        new.is_empty(),
        "add these with HANSA_WRITE_NUMBERS=1: {new:#?}"
    );
}

#[test]
fn what_is_to_come_has_its_numbers_reserved() {
    let descriptors = descriptors();
    let messages = || descriptors.file.iter().flat_map(|file| &file.message_type);
    for (message, names) in [
        (
            "RequestOptions",
            &["bounded", "sla", "residency", "identity"][..],
        ),
        ("PipeRequest", &["watch", "identity"]),
        ("PipeReply", &["watch", "identity"]),
        ("Receipt", &["sla", "residency"]),
        ("PutRequest", &["ttl_ms", "residency"]),
        ("PeerHello", &["identity", "residency"]),
    ] {
        let found = messages().find(|each| each.name() == message).unwrap();
        assert!(!found.reserved_range.is_empty(), "{message}");
        for name in names {
            assert!(
                found.reserved_name.iter().any(|each| each == name),
                "{message}.{name}"
            );
        }
    }
}

#[test]
fn every_message_of_clients_and_operators_says_what_it_is() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/hansa/v1");
    for file in ["kv.proto", "admin.proto", "peer.proto"] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let mut before = "";
        for line in text.lines() {
            let starts = ["message ", "enum ", "service ", "  rpc "];
            if starts.iter().any(|start| line.starts_with(start)) {
                assert!(before.trim_start().starts_with("//"), "{file}: {line}");
            }
            before = line;
        }
    }
}
