//! The orchestrator as a process.

use std::process::ExitCode;

use clap::Parser as _;
use coffer_orchestrator::{Args, build};

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), |args, runtime| async move {
        let client = kube::Client::try_default().await?;
        build(args.config()?, client, &runtime).await?.run().await?;
        Ok(())
    })
}
