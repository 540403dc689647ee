//! The containers that run now, and further commands in them: what `exec` is for.
//!
//! A command ends with its container, and with whoever asked for it: dropping it kills its process group.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use rustix::process::Signal;
use tokio_util::sync::CancellationToken;

use super::{
    command::Launch,
    process::{Exit, Pipes, Process},
};

/// Uid of a Pod and name of a container.
type Name = (String, String);

/// What runs; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    running: Arc<Mutex<HashMap<Name, Container>>>,
}

/// A container that runs, or ran when it was found.
#[derive(Clone, Debug)]
pub struct Container {
    launch: Launch,
    record: PathBuf,
    /// How many commands were started in it, which tells their records apart.
    commands: Arc<AtomicU64>,
    ended: CancellationToken,
}

/// A container counts as running as long as this lives.
pub(super) struct Entered {
    containers: Containers,
    name: Name,
}

/// A further command in a container.
pub struct Further {
    process: Process,
    record: PathBuf,
    ended: CancellationToken,
}

impl Containers {
    /// Tells that a container runs; `record` is where its process is written down.
    pub(super) fn enter(
        &self,
        pod: &str,
        container: &str,
        launch: Launch,
        record: PathBuf,
    ) -> Entered {
        let name = (pod.to_owned(), container.to_owned());
        let ended = CancellationToken::new();
        let entry = Container { launch, record, commands: Arc::default(), ended };
        self.running.lock().insert(name.clone(), entry);
        Entered { containers: self.clone(), name }
    }

    /// The container of this name of the Pod with this uid, if it runs.
    #[must_use]
    pub fn find(&self, pod: &str, container: &str) -> Option<Container> {
        self.running.lock().get(&(pod.to_owned(), container.to_owned())).cloned()
    }
}

impl Container {
    /// Starts a command. With `input` it reads from a pipe, otherwise it reads nothing.
    ///
    /// # Errors
    /// When there is no such program, or it cannot be started.
    pub async fn start(&self, command: &[String], input: bool) -> io::Result<Further> {
        let number = self.commands.fetch_add(1, Ordering::Relaxed);
        let record = self.record.with_extension(format!("exec-{number}"));
        let input = if input { Stdio::piped() } else { Stdio::null() };
        let process = Process::spawn(&self.launch.further(command), input, &record).await?;
        Ok(Further { process, record, ended: self.ended.clone() })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(container) = self.containers.running.lock().remove(&self.name) {
            container.ended.cancel();
        }
    }
}

impl Further {
    /// Its input, output and error output: each is there once.
    pub fn pipes(&mut self) -> Pipes {
        self.process.pipes()
    }

    /// Waits until it ends; what it left running in its group ends with it, and so does it with its container.
    ///
    /// # Errors
    /// When the system does not say how it ended.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        tokio::select! {
            exit = self.process.wait() => return exit,
            () = self.ended.cancelled() => self.process.signal(Signal::KILL),
        }
        self.process.wait().await
    }
}

impl Drop for Further {
    fn drop(&mut self) {
        // The process group dies with `process`; a record that outlived it would only name somebody else's.
        let _ = std::fs::remove_file(&self.record);
    }
}
