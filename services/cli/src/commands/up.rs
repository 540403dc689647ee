//! `coffer up`: the whole system on this machine.
use std::{net::IpAddr, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context;
use coffer_runtime::args::CommonArgs;
use coffer_standalone::{
    cluster::{self, Endpoints, Options, Ports},
    job_runner::Program,
};

use crate::output;

const AFTER_HELP: &str = "\
Examples:
  coffer up --data-dir ./coffer-data
  export KUBECONFIG=./coffer-data/kubeconfig    in another shell: coffer and kubectl work with it
  coffer up --listen 0.0.0.0 --api-port 6443    for other machines too

Everything is kept below the data directory; a later start goes on where the last one ended.";

/// The first argument that makes this program a worker; those of the container follow.
pub const WORKER: &str = "worker";

/// Flags of `coffer up`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct Args {
    /// Where everything is kept
    #[arg(
        long,
        env = "COFFER_DATA_DIR",
        hide_env_values = true,
        value_name = "DIR",
        default_value = "coffer-data"
    )]
    data_dir: PathBuf,
    /// Address to listen on
    #[arg(
        long,
        env = "COFFER_UP_LISTEN",
        hide_env_values = true,
        value_name = "IP",
        default_value = "127.0.0.1"
    )]
    listen: IpAddr,
    /// Port of the Kubernetes API
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    api_port: u16,
    /// Port of the orchestrator
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    orchestrator_port: u16,
    /// Port of the catalog
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    catalog_port: u16,
    /// Port of the storage-gateway
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    storage_gateway_port: u16,
    /// Port of the metrics-gateway
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    metrics_gateway_port: u16,
    /// Port of the Pushgateway HTTP API
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    pushgateway_port: u16,
    /// Port of the admission webhook
    #[arg(long, value_name = "PORT", default_value_t = 0, help_heading = PORTS)]
    admission_port: u16,
    /// A storage-gateway that runs elsewhere, instead of one in this process; it takes its certificate and the key of the
    /// grants from services/ below the data directory
    #[arg(long, value_name = "URL")]
    storage_gateway: Option<String>,
    /// An orchestrator that runs elsewhere, or several that share a Lease, instead of one in this process; the webhook is
    /// theirs to serve, at the address of --admission-port
    #[arg(long, value_name = "URL")]
    orchestrator: Option<String>,
    /// Jobs at a time; the others wait
    #[arg(long, value_name = "N", default_value_t = 4)]
    max_jobs: usize,
    /// Program that stands for an image, for Functions of your own; may be repeated
    #[arg(long = "image", value_name = "IMAGE=PROGRAM", value_parser = image)]
    images: Vec<(String, PathBuf)>,
    /// How long a Job may wait for a program that stands for its image
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
    start_grace: Duration,
    /// How far this and its Jobs give way to the machine's other programs, a Redis among them (nice value, 0 to 19)
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(i32).range(0..=19))]
    nice: i32,
    #[command(flatten)]
    common: CommonArgs,
}

const PORTS: &str = "Ports (0: that of the last run, or any)";

impl AsRef<CommonArgs> for Args {
    fn as_ref(&self) -> &CommonArgs {
        &self.common
    }
}

fn image(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((image, program)) if !image.is_empty() && !program.is_empty() => {
            Ok((image.to_owned(), program.into()))
        }
        _ => Err("write IMAGE=PROGRAM".to_owned()),
    }
}

/// Runs until Ctrl-C or SIGTERM.
pub fn run(args: Args) -> ExitCode {
    if let Err(error) = coffer_runtime::process::give_way(args.nice) {
        eprintln!("error: --nice {}: {error}", args.nice);
        return ExitCode::FAILURE;
    }
    coffer_runtime::process::run(args, async |args, runtime| {
        let this = std::env::current_exe().context("find this program, which is the worker too")?;
        let worker = Program { path: this, args: vec![WORKER.to_owned()] };
        let ready = |endpoints: &Endpoints| {
            // Somebody who closed our stdout wants us to run all the same.
            let _ = output::print(&banner(endpoints));
        };
        Ok(cluster::run(args.options(worker), runtime.shutdown.triggered(), ready).await?)
    })
}

impl Args {
    fn options(self, worker: Program) -> Options {
        Options {
            data_dir: self.data_dir,
            ip: self.listen,
            ports: Ports {
                api: self.api_port,
                orchestrator: self.orchestrator_port,
                catalog: self.catalog_port,
                storage_gateway: self.storage_gateway_port,
                metrics_gateway: self.metrics_gateway_port,
                pushgateway: self.pushgateway_port,
                admission: self.admission_port,
            },
            storage_gateway: self.storage_gateway,
            orchestrator: self.orchestrator,
            worker,
            images: self
                .images
                .into_iter()
                .map(|(image, path)| (image, Program { path, args: Vec::new() }))
                .collect(),
            max_jobs: self.max_jobs,
            start_grace: self.start_grace,
        }
    }
}

/// What the user sees once everything listens.
fn banner(endpoints: &Endpoints) -> String {
    let Endpoints {
        api,
        orchestrator,
        catalog,
        storage_gateway,
        metrics_gateway,
        pushgateway,
        kubeconfig,
    } = endpoints;
    let kubeconfig = kubeconfig.display();
    format!(
        "Coffer is up; Ctrl-C stops it.\n\n  \
         Kubernetes API    {api}\n  \
         orchestrator      {orchestrator}\n  \
         catalog           {catalog}\n  \
         storage-gateway   {storage_gateway}\n  \
         metrics-gateway   {metrics_gateway}\n  \
         Pushgateway       {pushgateway}\n\n  \
         export KUBECONFIG={kubeconfig}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_banner_tells_where_everything_is() {
        let endpoint = |port: u16| format!("https://127.0.0.1:{port}");
        let endpoints = Endpoints {
            api: endpoint(1),
            orchestrator: endpoint(2),
            catalog: endpoint(3),
            storage_gateway: endpoint(4),
            metrics_gateway: endpoint(5),
            pushgateway: "http://127.0.0.1:6".to_owned(),
            kubeconfig: "/data/kubeconfig".into(),
        };
        insta::assert_snapshot!(banner(&endpoints));
    }

    #[test]
    fn images() {
        assert_eq!(image("a/b:1=/bin/x"), Ok(("a/b:1".to_owned(), "/bin/x".into())));
        assert!(image("a").is_err() && image("=x").is_err() && image("a=").is_err());
    }
}
