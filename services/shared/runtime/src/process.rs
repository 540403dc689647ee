//! What a process has one of: the subscriber, the crypto provider, the signal handlers, the exit code. Services never
//! call this; their `main.rs` does:
//!
//! ```ignore
//! fn main() -> ExitCode {
//!     coffer_runtime::process::run(Args::parse(), async |args, runtime| build(args, &runtime).await?.run().await)
//! }
//! ```

use crate::args::CommonArgs;
use crate::{Runtime, admin, fault, telemetry, tls};
use std::future::Future;
use std::process::{ExitCode, Termination};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

/// How long tasks may take to end after `main` has returned. `main` drains its servers itself, with their own limits.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);
/// What a shell shows for a process that SIGINT ended.
const ABORTED: i32 = 130;

/// Runs a process: logs, provider, signals and the admin endpoint, then `main`, then the drain of what `main` left
/// running. The first SIGTERM or SIGINT triggers the runtime's shutdown, the second ends the process at once. An error is
/// logged with its chain and makes the exit code 1.
pub fn run<A, F, Fut, T>(args: A, main: F) -> ExitCode
where
    A: AsRef<CommonArgs>,
    F: FnOnce(A, Runtime) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
    T: Termination,
{
    if let Err(error) = telemetry::init(&args.as_ref().log) {
        eprintln!("error: {}", fault::chain(&error));
        return ExitCode::FAILURE;
    }
    // Libraries that build their own TLS (the Kubernetes client, the object store) take the process's provider.
    install_crypto_provider();
    let executor = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(executor) => executor,
        Err(error) => {
            tracing::error!(%error, "cannot start the async runtime");
            return ExitCode::FAILURE;
        }
    };
    match executor.block_on(supervise(args, main)) {
        Ok(outcome) => outcome.report(),
        Err(error) => {
            tracing::error!(error = fault::chain(error.as_ref()), "stopped by an error");
            ExitCode::FAILURE
        }
    }
}

async fn supervise<A, F, Fut, T>(args: A, main: F) -> anyhow::Result<T>
where
    A: AsRef<CommonArgs>,
    F: FnOnce(A, Runtime) -> Fut,
    Fut: Future<Output = anyhow::Result<T>>,
{
    let runtime = Runtime::new();
    let signals = tokio::spawn(watch_signals(runtime.clone())?);
    let admin = match args.as_ref().admin.admin_listen {
        Some(address) => {
            let endpoint = admin::Endpoint::bind(address, &runtime).await?;
            tracing::info!(address = %endpoint.address(), "probes and metrics are served");
            Some(tokio::spawn(endpoint.serve()))
        }
        None => None,
    };
    let outcome = main(args, runtime.clone()).await;
    runtime.shutdown.trigger();
    if let Err(error) = runtime.shutdown.drain(DRAIN_LIMIT).await {
        tracing::warn!(error = fault::chain(&error), "tasks were aborted");
    }
    if let Some(admin) = admin {
        admin.abort();
    }
    signals.abort();
    outcome
}

fn watch_signals(runtime: Runtime) -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if runtime.shutdown.is_triggered() {
                tracing::warn!(signal = name, "second signal, aborting");
                std::process::exit(ABORTED);
            }
            tracing::info!(signal = name, "stopping; a second signal aborts");
            runtime.shutdown.trigger();
        }
    })
}

/// Has the processes and threads that this one starts from now on, and itself, give way to others on the machine: adds
/// to its nice value. To be called before there are threads, which would keep theirs.
///
/// # Errors
/// When the system refuses, as it does for a negative adjustment without the right to it.
pub fn give_way(adjustment: i32) -> std::io::Result<()> {
    rustix::process::nice(adjustment)?;
    Ok(())
}

/// Installs the process's crypto provider, for programs that do not use [`run`] (the CLI, the standalone server, tests
/// that use the Kubernetes client or an object store over TLS). Does nothing when there is one.
pub fn install_crypto_provider() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race to another thread means the same provider is installed.
        let _ = std::sync::Arc::unwrap_or_clone(tls::provider()).install_default();
    }
}
