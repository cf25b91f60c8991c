//! Compiles the protos without protoc and keeps their descriptors for server reflection.

use std::error::Error;
use std::path::PathBuf;

use prost::Message as _;

const FILES: [&str; 3] = [
    "hansa/v1/kv.proto",
    "hansa/v1/peer.proto",
    "hansa/v1/admin.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("hansa.v1.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        // Zero-copy receive of keys, values and stored records.
        .bytes(".hansa.v1")
        .compile_fds(descriptors)?;
    Ok(())
}
