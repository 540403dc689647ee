//! The program: arguments, then the service.

use clap::Parser;
use coffer_storage_gateway::{args::Args, build};
use std::process::ExitCode;

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), |args: Args, runtime| async move {
        let config = args.into_config().await?;
        Ok(build(config, &runtime).await?.run().await?)
    })
}
