//! Flags and environment of the process.

use clap::Parser;
use coffer_runtime::Listen;
use coffer_runtime::args::{CommonArgs, ListenArgs, TlsArgs};
use coffer_runtime::tls::TlsOptions;

/// Resolves Tasks and Functions into the containers of a Job.
#[derive(Debug, Parser)]
#[command(name = "coffer-catalog", version)]
pub struct Args {
    /// Logs, probes and metrics.
    #[command(flatten)]
    pub common: CommonArgs,
    /// gRPC.
    #[command(flatten)]
    pub listen: ListenArgs,
    /// Certificates.
    #[command(flatten)]
    pub tls: TlsArgs,
}

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

/// How the catalog is to be served.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of the gRPC server; port 0 takes a free one.
    pub listen: Listen,
    /// Certificates. Without them the server speaks plain HTTP/2, and only users with a token can call it.
    pub tls: Option<TlsOptions>,
}

impl From<&Args> for Config {
    fn from(args: &Args) -> Self {
        let Args { common: _, listen, tls } = args;
        Self { listen: listen.listen.into(), tls: tls.options() }
    }
}
