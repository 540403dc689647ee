//! The process: parse, build, run.

use clap::Parser as _;
use coffer_catalog::args::Args;
use std::process::ExitCode;

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), async |args: Args, runtime| {
        let client = kube::Client::try_default().await?;
        let catalog = coffer_catalog::build((&args).into(), client, &runtime).await?;
        tracing::info!(endpoint = catalog.endpoint(), "the catalog is served");
        Ok(catalog.run().await?)
    })
}
