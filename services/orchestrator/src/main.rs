//! The orchestrator as a process, and the small program that the CronJobs of `scheduler: cronjob` run.

use std::process::ExitCode;

use clap::Parser as _;
use coffer_orchestrator::{Args, build, trigger};

fn main() -> ExitCode {
    let mut words: Vec<_> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == trigger::COMMAND) {
        words.remove(1);
        let args = trigger::Args::parse_from(words);
        return coffer_runtime::process::run(args, |args, runtime| async move {
            let client = kube::Client::try_default().await?;
            trigger::run(&args, client, &runtime.clock).await
        });
    }
    coffer_runtime::process::run(Args::parse(), |args, runtime| async move {
        let client = kube::Client::try_default().await?;
        build(args.config()?, client, &runtime).await?.run().await?;
        Ok(())
    })
}
