//! The storage-gateway's program, built beside the test that kills it.

use std::process::ExitCode;

use clap::Parser as _;
use coffer_storage_gateway::{args::Args, build};

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), async |args: Args, runtime| {
        let config = args.into_config().await?;
        Ok(build(config, &runtime).await?.run().await?)
    })
}
