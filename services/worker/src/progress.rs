//! How far the job is, told to the orchestrator. Best effort: nothing here can fail or slow a job.

use std::time::Duration;

use coffer_api::session::Session;
use coffer_proto::orchestrator::v1 as proto;
use coffer_proto::orchestrator::v1::progress_client::ProgressClient;
use coffer_runtime::grpc::Authorized;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::AbortOnDropHandle;

use crate::gateway;

/// At most so often.
const INTERVAL: Duration = Duration::from_millis(200);
/// After a failure.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// For the last report, at the end of the job.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// What the job is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Reaching the Redis.
    #[default]
    Connect,
    /// Waiting for the server's fork.
    Wait,
    /// Dumping.
    Transfer,
    /// Waiting for the snapshot.
    Commit,
    /// Loading.
    Load,
    /// Comparing.
    Verify,
}

impl Stage {
    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Wait => "wait",
            Self::Transfer => "transfer",
            Self::Commit => "commit",
            Self::Load => "load",
            Self::Verify => "verify",
        }
    }
}

/// How far it is; totals are 0 while unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) stage: Stage,
    pub(crate) bytes: u64,
    pub(crate) total_bytes: u64,
    pub(crate) keys: u64,
    pub(crate) total_keys: u64,
    /// What it waits for before it can begin, in words of the storage-gateway's; empty when it does not.
    pub(crate) waiting: String,
}

/// Where the job says it.
pub(crate) struct Progress {
    state: watch::Sender<State>,
    task: Option<AbortOnDropHandle<()>>,
}

impl Progress {
    /// Starts telling the session's orchestrator, if it names one.
    pub(crate) fn start(session: &Session, kind: proto::SessionKind) -> Self {
        let (state, seen) = watch::channel(State::default());
        let endpoint = &session.endpoints.orchestrator;
        let name = proto::SessionRef {
            kind: kind.into(),
            namespace: session.namespace.clone(),
            name: session.name.clone(),
        };
        let task = (!endpoint.is_empty())
            .then(|| gateway::channel(session, "orchestrator", endpoint).ok())
            .flatten()
            .map(|channel| AbortOnDropHandle::new(tokio::spawn(tell(channel, name, seen))));
        Self { state, task }
    }

    /// For those who make progress elsewhere.
    pub(crate) fn meter(&self) -> watch::Sender<State> {
        self.state.clone()
    }

    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(crate) fn stage(&self, stage: Stage) {
        tracing::info!(stage = stage.name(), "stage begins");
        self.update(|state| {
            state.stage = stage;
            state.waiting.clear();
        });
    }

    /// Tells the last state, if that is quick. Waits in vain while somebody has a [`meter`](Self::meter).
    pub(crate) async fn finish(self) {
        drop(self.state);
        if let Some(task) = self.task {
            let _ = timeout(LAST_LIMIT, task).await;
        }
    }
}

async fn tell(channel: Authorized, name: proto::SessionRef, mut seen: watch::Receiver<State>) {
    let mut client = ProgressClient::new(channel);
    loop {
        let (reports, queue) = mpsc::channel(1);
        let call = client.report(ReceiverStream::new(queue));
        let (seen, name) = (&mut seen, &name);
        let feed = async move {
            loop {
                let State { stage, bytes, total_bytes, keys, total_keys, waiting } =
                    seen.borrow_and_update().clone();
                let report = proto::ReportRequest {
                    session: Some(name.clone()),
                    stage: stage.name().to_owned(),
                    bytes,
                    total_bytes,
                    keys,
                    total_keys,
                    waiting,
                };
                if reports.send(report).await.is_err() {
                    break false;
                }
                pause(INTERVAL, seen).await;
                if seen.changed().await.is_err() {
                    // Ends the stream, upon which the call answers.
                    break true;
                }
            }
        };
        // The call answers when the reports end, or earlier with why it wants none.
        let (over, answer) = tokio::join!(feed, call);
        if let Err(status) = answer {
            tracing::debug!(error = status.message(), "the orchestrator does not take progress");
        }
        if over {
            return;
        }
        sleep(RETRY_PAUSE).await;
    }
}

/// Waits so long, but not beyond the end of the job, which would wait for us.
async fn pause(span: Duration, seen: &watch::Receiver<State>) {
    let mut seen = seen.clone();
    let _ = timeout(span, seen.wait_for(|_| false)).await;
}
