//! The metrics-gateway's process.
use std::process::ExitCode;

use clap::Parser;
use coffer_metrics_gateway::{args::Args, build};

fn main() -> ExitCode {
    coffer_runtime::process::run(Args::parse(), async |args, runtime| {
        let app = build(args.config()?, &runtime).await?;
        tracing::info!(http = %app.http_addr, grpc = %app.grpc_addr, "listening");
        Ok(app.run().await?)
    })
}
