//! One container of a Pod: made ready, run, asked to end, run again where its policy says so.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use chrono::Utc;
use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use rustix::process::Signal;
use tokio::fs;

use super::{Life, Pause, Running, Slot, Stop, waiting};
use crate::job_runner::{
    command::{Launch, Mount, launch},
    environment, layout,
    log::Log,
    place::Unready,
    process::{Exit, Process},
    status::{Doing, Ended, MESSAGE_BYTES},
    volumes::{self, Volumes},
};

/// How long a container may take to end when the runner itself ends.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// How long a restarted container waits, doubled every time.
const RESTART_PAUSE: Duration = Duration::from_secs(10);
const RESTART_PAUSE_MOST: Duration = Duration::from_secs(300);

impl Running {
    /// Runs a container until it need not run again.
    pub(super) async fn supervise(
        &self,
        slot: Slot,
        container: &Container,
        volumes: &Volumes,
    ) -> Life {
        let mut pause = Pause::default();
        let mut restart = RESTART_PAUSE;
        loop {
            let launch = loop {
                match self.prepare(container, volumes).await {
                    Ok(launch) => break launch,
                    Err(unready) => {
                        self.line(slot, |line| line.doing = waiting(&unready)).await;
                        if self.wait(&unready, &mut pause).await.is_none() {
                            return Life::Stopped;
                        }
                    }
                }
            };
            if self.stop.borrow().is_some() {
                return Life::Stopped;
            }
            let (ended, stopped) = self.execute(slot, container, launch).await;
            let succeeded = ended.code == 0;
            let again = match (self.spec.restart_policy.as_deref(), slot) {
                (Some("Never"), _) => false,
                (Some("OnFailure"), _) | (_, Slot::Init(_)) => !succeeded,
                _ => true,
            };
            self.line(slot, |line| line.doing = Doing::Terminated(ended.clone())).await;
            if stopped {
                return Life::Stopped;
            }
            if !again {
                return if succeeded { Life::Succeeded } else { Life::Failed };
            }
            let message = format!("back-off {}s restarting failed container", restart.as_secs());
            self.line(slot, |line| {
                line.before = Some(ended);
                line.restarts += 1;
                line.doing = Doing::Waiting { reason: "CrashLoopBackOff".into(), message };
            })
            .await;
            tokio::select! {
                () = tokio::time::sleep(restart) => {}
                _ = self.stopped() => return Life::Stopped,
            }
            restart = (restart * 2).min(RESTART_PAUSE_MOST);
        }
    }

    /// Everything that a container needs to start.
    async fn prepare(&self, container: &Container, volumes: &Volumes) -> Result<Launch, Unready> {
        if container.restart_policy.is_some() {
            return Err(Unready::refused(format!(
                "container {:?} has a restartPolicy of its own, which the local Job runner does \
                 not support",
                container.name
            )));
        }
        let image = container.image.as_deref().unwrap_or_default();
        let program = self.runner.images.find(image).ok_or_else(|| Unready::image(image))?;
        let home = self.runner.layout.pod(&self.uid).join("home");
        layout::private(&home).await.map_err(|e| Unready::config(format!("{e:#}")))?;
        let termination = self.termination(container);
        let mut env =
            environment::resolve(container, &self.pod, &self.sources, &home.to_string_lossy())
                .await?;
        env.push(("TERMINATION_LOG".into(), termination.to_string_lossy().into_owned()));
        let mut mounts = volumes::mounts(container, volumes)?;
        let inside =
            container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
        mounts.push(Mount { inside: inside.to_owned(), outside: termination });
        Ok(launch(container, program, env, &mounts, &home))
    }

    fn termination(&self, container: &Container) -> PathBuf {
        self.runner.layout.termination(&self.uid, &container.name)
    }

    /// Runs a container's process once; the answer tells also whether it had to be stopped.
    async fn execute(&self, slot: Slot, container: &Container, launch: Launch) -> (Ended, bool) {
        let started = Utc::now();
        let record = self.runner.layout.process(&self.uid, &container.name);
        let (log, mut process) = match self.start(container, &launch, &record).await {
            Ok(started) => started,
            Err(error) => {
                let program = launch.program.display();
                let ended = Ended {
                    code: 128,
                    signal: None,
                    reason: "StartError".into(),
                    message: format!("failed to start {program}: {error}"),
                    started: None,
                    finished: Utc::now(),
                };
                return (ended, false);
            }
        };
        let entered = self.runner.containers.enter(
            &self.uid,
            &container.name,
            launch.clone(),
            record.clone(),
        );
        let identity = process.id().map(|id| (launch.program.display().to_string(), id));
        self.line(slot, |line| {
            line.identity = identity;
            line.doing = Doing::Running { since: started };
        })
        .await;
        let (exit, stopped) = self.attend(&mut process).await;
        drop(entered);
        // The group is dead: a record that outlived it would only name somebody else's process.
        let _ = fs::remove_file(&record).await;
        let message = self.last_words(container, exit, &log).await;
        let ended = Ended {
            code: exit.code,
            signal: exit.signal,
            reason: if exit.code == 0 { "Completed".into() } else { "Error".into() },
            message,
            started: Some(started),
            finished: Utc::now(),
        };
        (ended, stopped)
    }

    async fn start(
        &self,
        container: &Container,
        launch: &Launch,
        record: &Path,
    ) -> std::io::Result<(Log, Process)> {
        let termination = self.termination(container);
        if let Some(parent) = termination.parent() {
            fs::create_dir_all(parent).await?;
        }
        fs::write(&termination, b"").await?;
        let logs = self.runner.layout.logs(&self.namespace, &self.pod.name_any());
        let log = Log::create(logs.join(format!("{}.log", container.name))).await?;
        let process = Process::start(launch, &log, record).await?;
        Ok((log, process))
    }

    /// Waits for a process; when the Pod is stopped, asks it to end and, in time, makes it. The
    /// answer tells whether it was asked.
    async fn attend(&self, process: &mut Process) -> (Exit, bool) {
        let lost = Exit { code: 137, signal: None };
        let stop = tokio::select! {
            biased;
            exit = process.wait() => return (exit.unwrap_or(lost), false),
            stop = self.stopped() => stop,
        };
        process.signal(Signal::TERM);
        let mut changes = self.stop.clone();
        let mut grace = self.grace(stop);
        let asked = tokio::time::Instant::now();
        loop {
            tokio::select! {
                exit = process.wait() => return (exit.unwrap_or(lost), true),
                () = tokio::time::sleep_until(asked + grace) => break,
                Ok(()) = changes.changed() => {
                    let stop = *changes.borrow_and_update();
                    grace = stop.map_or(grace, |stop| self.grace(stop).min(grace));
                }
            }
        }
        process.signal(Signal::KILL);
        (process.wait().await.unwrap_or(lost), true)
    }

    fn grace(&self, stop: Stop) -> Duration {
        let own = self.spec.termination_grace_period_seconds.unwrap_or(30);
        let own = Duration::from_secs(u64::try_from(own).unwrap_or(0));
        match stop {
            Stop::Deleted { grace } => grace,
            Stop::Shutdown => own.min(SHUTDOWN_GRACE),
            Stop::Deadline => own,
        }
    }

    /// The termination message, or, where the container asks for it, the end of its log.
    async fn last_words(&self, container: &Container, exit: Exit, log: &Log) -> String {
        let mut bytes = fs::read(self.termination(container)).await.unwrap_or_default();
        bytes.truncate(MESSAGE_BYTES);
        let message = String::from_utf8_lossy(&bytes).into_owned();
        let fall_back =
            container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError");
        if message.is_empty() && exit.code != 0 && fall_back { log.tail().await } else { message }
    }
}
