//! Following a session to its end, and what is said about it then. The same for backups and restores.
use std::{process::ExitCode, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use coffer_proto::orchestrator::v1::{
    Session, SessionKind, SessionRef, WatchRequest, sessions_client::SessionsClient,
};
use coffer_runtime::{
    fault::{Class, class_of},
    grpc::Authorized,
};
use serde::Serialize;
use tokio::time::Instant;

use crate::{args::Format, figures, output, progress::Progress};

/// How long the orchestrator may be away (a restart, a lost connection) before following is given up.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRY_EVERY: Duration = Duration::from_secs(1);
/// What a shell shows for a program that ctrl-C ended.
const INTERRUPTED: u8 = 130;

/// Whether to stay until the session is over.
#[derive(Clone, Debug, clap::Args)]
pub struct WaitArgs {
    /// Watch the session until it is over (the default)
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Return as soon as the session exists
    #[arg(long)]
    pub no_wait: bool,
}

/// A session as `-o json` and `-o yaml` show it.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    kind: &'static str,
    namespace: String,
    name: String,
    phase: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    invoker: String,
    target: String,
    repository: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    snapshot: String,
    created: Option<DateTime<Utc>>,
    finished: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<ShownResult>,
}

/// What it moved.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownResult {
    bytes: u64,
    uploaded_bytes: u64,
    keys: u64,
    keys_skipped: u64,
    keys_expired: u64,
    keys_replaced: u64,
    duration_ms: u64,
}

/// Shows a session that was just made or found, follows it unless told otherwise, and says how it ended.
///
/// # Errors
/// When the session failed, or cannot be followed.
pub async fn conclude(
    client: &mut SessionsClient<Authorized>,
    session: Session,
    wait: &WaitArgs,
    format: Format,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let name = resource(&session);
    if wait.no_wait {
        print(&session, format, &format!("{name} created"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut progress = Progress::new(quiet);
    progress.say(&format!("watching {name}"));
    let followed = tokio::select! {
        followed = follow(client, session, &mut progress) => followed,
        _ = tokio::signal::ctrl_c() => {
            progress.finish();
            eprintln!("{name} goes on without being watched");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    progress.finish();
    let session = followed.with_context(|| format!("watch {name}"))?;
    if session.phase == "Succeeded" {
        print(&session, format, &summary(&session))?;
        return Ok(ExitCode::SUCCESS);
    }
    // Programs get their JSON in any case; people read the reason below.
    if matches!(format, Format::Json | Format::Yaml) {
        print(&session, format, "")?;
    }
    Err(anyhow::anyhow!("{}", failure(&session)))
}

/// The last state of the session, which is final.
async fn follow(
    client: &mut SessionsClient<Authorized>,
    mut session: Session,
    progress: &mut Progress,
) -> anyhow::Result<Session> {
    let reference = session.r#ref.clone();
    let mut heard = Instant::now();
    loop {
        progress.update(&session);
        if is_final(&session) {
            return Ok(session);
        }
        let request = WatchRequest { r#ref: reference.clone() };
        let lost = match client.watch(request).await {
            Ok(response) => {
                let mut stream = response.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            heard = Instant::now();
                            session = message.session.unwrap_or(session);
                            progress.update(&session);
                            if is_final(&session) {
                                return Ok(session);
                            }
                        }
                        Ok(None) => break None,
                        Err(status) => break Some(status),
                    }
                }
            }
            Err(status) => Some(status),
        };
        if heard.elapsed() >= PATIENCE {
            let why = lost
                .unwrap_or_else(|| tonic::Status::unavailable("the orchestrator ends every watch"));
            return Err(why.into());
        }
        if let Some(status) = lost {
            if class_of(&status) != Class::Unavailable {
                return Err(status.into());
            }
            progress.say("lost the orchestrator, trying again");
        }
        tokio::time::sleep(RETRY_EVERY).await;
    }
}

/// True when watching on is of no use. `Invalid` is the orchestrator's word for a spec that it will not carry out; it waits
/// for somebody to change something, which is not for a shell to wait for.
fn is_final(session: &Session) -> bool {
    matches!(session.phase.as_str(), "Succeeded" | "Failed" | "Skipped" | "Unknown" | "Invalid")
}

fn print(session: &Session, format: Format, line: &str) -> anyhow::Result<()> {
    let text = match format {
        Format::Table | Format::Wide => format!("{line}\n"),
        Format::Name => format!("{}\n", resource(session)),
        Format::Json => output::json(&shown(session))?,
        Format::Yaml => output::yaml(&shown(session))?,
    };
    output::print(&text)
}

fn kind(session: &Session) -> SessionKind {
    session.r#ref.as_ref().map_or(SessionKind::Unspecified, SessionRef::kind)
}

/// `backupsession.stash.appscode.com/orders-1700000000`
pub fn resource(session: &Session) -> String {
    let name = session.r#ref.as_ref().map(|reference| reference.name.as_str()).unwrap_or_default();
    match kind(session) {
        SessionKind::Restore => format!("restoresession.stash.appscode.com/{name}"),
        SessionKind::Backup | SessionKind::Unspecified => {
            format!("backupsession.stash.appscode.com/{name}")
        }
    }
}

/// The last line of a session that succeeded.
fn summary(session: &Session) -> String {
    let mut parts = Vec::new();
    let snapshot = session.snapshot_id.get(..8).unwrap_or(&session.snapshot_id);
    if !snapshot.is_empty() {
        parts.push(format!("snapshot {snapshot}"));
    }
    if let Some(result) = session.result {
        parts.push(figures::things(result.keys, "key"));
        for (count, what) in [
            (result.keys_skipped, "left out"),
            (result.keys_expired, "expired meanwhile"),
            (result.keys_replaced, "replaced"),
        ] {
            if count > 0 {
                parts.push(format!("{} {what}", figures::count(count)));
            }
        }
        let mut size = figures::bytes(result.bytes);
        if kind(session) == SessionKind::Backup {
            size.push_str(&format!(" ({} uploaded)", figures::bytes(result.uploaded_bytes)));
        }
        parts.push(size);
        if result.duration_ms > 0 {
            let rate = u128::from(result.bytes) * 1000 / u128::from(result.duration_ms);
            let rate = figures::bytes(u64::try_from(rate).unwrap_or(u64::MAX));
            let took = figures::span(Duration::from_millis(result.duration_ms));
            parts.push(format!("{took}, {rate}/s"));
        }
    }
    // Two lines: together they are longer than most terminals are wide.
    format!("{} succeeded:\n  {}", resource(session), parts.join(", "))
}

/// Why a session did not succeed.
fn failure(session: &Session) -> String {
    let phase = match session.phase.as_str() {
        "Skipped" => "was skipped",
        "Unknown" => "ended in an unknown state",
        "Invalid" => "is invalid",
        _ => "failed",
    };
    let why = if session.message.is_empty() {
        let reference = session.r#ref.clone().unwrap_or_default();
        let kind = resource(session).split('.').next().unwrap_or_default().to_owned();
        format!(
            "it says no reason, see `kubectl -n {} describe {kind} {}`",
            reference.namespace, reference.name
        )
    } else {
        session.message.clone()
    };
    format!("{} {phase}: {why}", resource(session))
}

fn shown(session: &Session) -> Shown {
    let reference = session.r#ref.clone().unwrap_or_default();
    let instant = |at: &Option<prost_types::Timestamp>| {
        let at = at.as_ref()?;
        DateTime::from_timestamp(at.seconds, u32::try_from(at.nanos).ok()?)
    };
    Shown {
        kind: match kind(session) {
            SessionKind::Restore => "RestoreSession",
            SessionKind::Backup | SessionKind::Unspecified => "BackupSession",
        },
        namespace: reference.namespace,
        name: reference.name,
        phase: session.phase.clone(),
        message: session.message.clone(),
        invoker: session.invoker.clone(),
        target: session.target.clone(),
        repository: session.repository.clone(),
        snapshot: session.snapshot_id.clone(),
        created: instant(&session.created),
        finished: instant(&session.finished),
        result: session.result.map(|result| ShownResult {
            bytes: result.bytes,
            uploaded_bytes: result.uploaded_bytes,
            keys: result.keys,
            keys_skipped: result.keys_skipped,
            keys_expired: result.keys_expired,
            keys_replaced: result.keys_replaced,
            duration_ms: result.duration_ms,
        }),
    }
}

/// Makes a trigger safe to repeat: a connection that breaks before the answer must not lead to a second session.
pub fn request_id() -> String {
    use std::hash::{BuildHasher, Hasher, RandomState};
    // Seeded by the system's randomness; the process and its two draws make a collision a matter of 128 bits.
    let draw = || RandomState::new().build_hasher().finish();
    format!("coffer-cli-{:016x}{:016x}", draw(), draw())
}

#[cfg(test)]
mod tests;
