//! Compiles the contracts with protox, so that nobody needs protoc.

use std::{env, path::PathBuf};

const PROTOS: [&str; 4] = [
    "coffer/catalog/v1/catalog.proto",
    "coffer/metrics/v1/metrics.proto",
    "coffer/orchestrator/v1/orchestrator.proto",
    "coffer/storage/v1/storage.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=coffer");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let descriptors = protox::compile(PROTOS, ["."])?;
    std::fs::write(out.join("descriptors.bin"), prost::Message::encode_to_vec(&descriptors))?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
