//! The orchestrator's program, built beside the tests that run several.

use std::process::ExitCode;

use clap::Parser as _;
use coffer_orchestrator::{Args, build};

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), async |args: Args, runtime| {
        let client = kube::Client::try_default().await?;
        Ok(build(args.config()?, client, &runtime).await?.run().await?)
    })
}
