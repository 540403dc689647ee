//! The job's figures, for the metrics-gateway: those of the host, under the names that Stash uses and under
//! its older ones. The figures of the session and of the repository are the orchestrator's.

use std::collections::HashMap;
use std::time::Duration;

use coffer_api::outcome::{Outcome, Result as Ended};
use coffer_api::session::Session;
use coffer_proto::metrics::v1 as proto;
use coffer_proto::metrics::v1::metrics_client::MetricsClient;
use coffer_runtime::fault;
use tokio::time::timeout;

use crate::gateway;

/// For one push; a metrics-gateway that is away must not hold up a finished job.
const LIMIT: Duration = Duration::from_secs(10);

/// A figure: its name behind the new prefix, behind the old one, what it is, its value.
type Figure = (&'static str, &'static str, &'static str, f64);

/// Pushes; what goes wrong is given back as a warning.
pub(crate) async fn push(session: &Session, outcome: &Outcome) -> Option<String> {
    let endpoint = &session.endpoints.metrics_gateway;
    if endpoint.is_empty() {
        return None;
    }
    let warn =
        |problem: String| Some(format!("the figures were not pushed to {endpoint}: {problem}"));
    let channel = match gateway::channel(session, "metrics-gateway", endpoint) {
        Ok(channel) => channel,
        Err(error) => return warn(fault::chain(&error)),
    };
    let mut client = MetricsClient::new(channel);
    match timeout(LIMIT, client.push(request(session, outcome))).await {
        Ok(Ok(_)) => None,
        Ok(Err(status)) => warn(fault::describe(&status)),
        Err(_) => warn(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

fn request(session: &Session, outcome: &Outcome) -> proto::PushRequest {
    let job = format!(
        "{}-{}-{}",
        session.invoker_kind.to_lowercase(),
        session.namespace,
        session.invoker_name
    );
    let labels = labels(session);
    let families = figures(session, outcome).into_iter().flat_map(|(new, old, help, value)| {
        let labels = labels.clone();
        [format!("stash_appscode_com_{new}"), format!("stash_{old}")].map(|name| proto::Family {
            name,
            help: help.to_owned(),
            r#type: proto::Type::Gauge.into(),
            samples: vec![proto::Sample { labels: labels.clone(), value }],
        })
    });
    proto::PushRequest {
        grouping: HashMap::from([("job".to_owned(), job)]),
        families: families.collect(),
        mode: proto::Mode::Unspecified.into(),
    }
}

fn labels(session: &Session) -> HashMap<String, String> {
    // A target's kind and group come from its type, `kubedb.com/redis`; without one it is an AppBinding.
    let (group, kind) = match session.target.app_type.split_once('/') {
        Some((group, kind)) => (group, kind),
        None if session.target.app_type.is_empty() => ("", "appbindings"),
        None => ("", session.target.app_type.as_str()),
    };
    let host =
        if session.host.is_empty() { coffer_api::names::DEFAULT_HOST } else { &session.host };
    [
        ("invoker_kind", session.invoker_kind.as_str()),
        ("invoker_name", &session.invoker_name),
        ("namespace", &session.namespace),
        ("driver", "Restic"),
        ("repository", &session.repository.name),
        ("kind", kind),
        ("group", group),
        ("name", &session.target.name),
        ("hostname", host),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floats, and figures stay below 2^53")]
fn figures(session: &Session, outcome: &Outcome) -> Vec<Figure> {
    const SUCCESS: &str = "1 when the host's last job succeeded, else 0";
    let seconds = outcome.duration_ms as f64 / 1000.0;
    match &outcome.result {
        Ended::BackedUp(done) => vec![
            ("backupsession_host_backup_success", "backup_host_backup_success", SUCCESS, 1.0),
            (
                "backupsession_host_backup_duration_seconds",
                "backup_host_backup_duration_seconds",
                "time the backup took",
                seconds,
            ),
            (
                "backupsession_host_data_size_bytes",
                "backup_host_data_size_bytes",
                "bytes of the dump",
                done.bytes as f64,
            ),
            (
                "backupsession_host_data_uploaded_bytes",
                "backup_host_data_uploaded_bytes",
                "bytes that were new to the repository",
                done.data_added as f64,
            ),
            (
                "backupsession_host_data_processing_time_seconds",
                "backup_host_data_processing_time_seconds",
                "time the data took",
                seconds,
            ),
            (
                "backupsession_host_files_total",
                "backup_host_files_total",
                "files of the snapshot",
                done.files_new as f64,
            ),
            (
                "backupsession_host_files_new",
                "backup_host_files_new",
                "files that are new",
                done.files_new as f64,
            ),
            (
                "backupsession_host_files_modified",
                "backup_host_files_modified",
                "files that changed; a dump is always new",
                0.0,
            ),
            (
                "backupsession_host_files_unmodified",
                "backup_host_files_unmodified",
                "files that did not change; a dump is always new",
                0.0,
            ),
        ],
        Ended::Restored(_) => vec![
            ("restoresession_host_restore_success", "restore_host_restore_success", SUCCESS, 1.0),
            (
                "restoresession_host_restore_duration_seconds",
                "restore_host_restore_duration_seconds",
                "time the restore took",
                seconds,
            ),
        ],
        Ended::Failed(_) if session.kind == "RestoreSession" => {
            vec![(
                "restoresession_host_restore_success",
                "restore_host_restore_success",
                SUCCESS,
                0.0,
            )]
        }
        Ended::Failed(_) => {
            vec![("backupsession_host_backup_success", "backup_host_backup_success", SUCCESS, 0.0)]
        }
    }
}
