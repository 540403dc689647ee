//! The series of a session, as Stash's dashboards query them: each under its new and its old name. Pure.

use coffer_api::session::Target;

/// A gauge with its samples.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// Name.
    pub name: String,
    /// What it is.
    pub help: &'static str,
    /// Labels and value.
    pub labels: Labels,
    /// Value.
    pub value: f64,
}

/// Labels of a series.
pub type Labels = Vec<(&'static str, String)>;

/// Group of an invoker's series: the `job` of the push.
#[must_use]
pub fn group(invoker_kind: &str, namespace: &str, invoker: &str) -> String {
    format!("{}-{namespace}-{invoker}", invoker_kind.to_lowercase())
}

/// Labels of a session as a whole.
#[must_use]
pub fn invoker(kind: &str, namespace: &str, name: &str, repository: &str) -> Labels {
    vec![
        ("invoker_kind", kind.to_owned()),
        ("invoker_name", name.to_owned()),
        ("namespace", namespace.to_owned()),
        ("driver", "Restic".to_owned()),
        ("repository", repository.to_owned()),
    ]
}

/// Labels of a target: kind and group come from the `type` of its AppBinding.
#[must_use]
pub fn target(mut labels: Labels, target: &Target) -> Labels {
    let (group, kind) = match target.app_type.rsplit_once('/') {
        Some((group, kind)) => (group, kind),
        None if target.app_type.is_empty() => ("appcatalog.appscode.com", "appbindings"),
        None => ("", target.app_type.as_str()),
    };
    labels.extend([
        ("kind", kind.to_owned()),
        ("group", group.to_owned()),
        ("name", target.name.clone()),
    ]);
    labels
}

/// Labels of a host.
#[must_use]
pub fn host(mut labels: Labels, host: &str) -> Labels {
    labels.push(("hostname", host.to_owned()));
    labels
}

/// Labels of a repository.
#[must_use]
pub fn repository(mut labels: Labels, repository: &coffer_api::Repository) -> Labels {
    labels.retain(|(name, _)| *name != "namespace");
    labels.push(("namespace", repository.metadata.namespace.clone().unwrap_or_default()));
    labels.push(("name", repository.metadata.name.clone().unwrap_or_default()));
    if let Some(at) = repository.spec.backend.location() {
        labels.push(("backend", at.provider.to_owned()));
        for (name, value) in [("bucket", at.container), ("prefix", at.prefix)] {
            if !value.is_empty() {
                labels.push((name, value.to_owned()));
            }
        }
    }
    labels
}

/// Collects families.
#[derive(Default)]
pub struct Collector(Vec<Family>);

impl Collector {
    /// Adds a gauge under both its names.
    pub fn add(&mut self, name: &str, old: &str, help: &'static str, labels: &Labels, value: f64) {
        for name in [format!("stash_appscode_com_{name}"), format!("stash_{old}")] {
            self.0.push(Family { name, help, labels: labels.clone(), value });
        }
    }

    /// What was collected.
    #[must_use]
    pub fn families(self) -> Vec<Family> {
        self.0
    }
}

/// Figures of a backup that succeeded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BackupFigures {
    /// From start to end.
    pub seconds: f64,
    /// Bytes of the data.
    pub bytes: u64,
    /// Bytes that were new.
    pub uploaded: u64,
    /// Files, and how many of them are new.
    pub files: (u64, u64),
}

/// What a session's series tell.
pub struct Session<'a> {
    /// Labels of the session.
    pub labels: Labels,
    /// Labels of its target.
    pub target: Labels,
    /// restic's host.
    pub host: &'a str,
    /// Whether all of it succeeded, what comes after the transfer included.
    pub succeeded: bool,
    /// Whether the transfer succeeded.
    pub transferred: bool,
    /// How many targets it has.
    pub targets: u32,
    /// From creation to end.
    pub seconds: f64,
    /// Unix time.
    pub now: f64,
}

const SUCCESS: &str = "1 if it succeeded, 0 if it failed";
const SECONDS: &str = "Seconds from start to end";
const COUNT: &str = "How many there are";
const LAST: &str = "Unix time of the last success";
const BYTES: &str = "Bytes";

/// The series of a backup.
#[must_use]
pub fn backup(session: &Session<'_>, figures: Option<BackupFigures>) -> Vec<Family> {
    let mut all = Collector::default();
    let (i, t) = (&session.labels, &session.target);
    let h = &host(t.clone(), session.host);
    let yes = |value: bool| if value { 1.0 } else { 0.0 };
    all.add("backupsession_success", "backup_session_success", SUCCESS, i, yes(session.succeeded));
    if session.succeeded {
        all.add(
            "backupsession_duration_seconds",
            "backup_session_duration_seconds",
            SECONDS,
            i,
            session.seconds,
        );
        all.add(
            "backupsession_target_count_total",
            "backup_target_count_total",
            COUNT,
            i,
            f64::from(session.targets),
        );
        all.add(
            "backupsession_last_success_time_seconds",
            "backup_last_success_time_seconds",
            LAST,
            i,
            session.now,
        );
    }
    let done = yes(session.transferred);
    all.add("backupsession_target_success", "backup_target_success", SUCCESS, t, done);
    all.add("backupsession_host_backup_success", "backup_host_backup_success", SUCCESS, h, done);
    if session.transferred {
        all.add(
            "backupsession_target_host_count_total",
            "backup_target_host_count_total",
            COUNT,
            t,
            1.0,
        );
        all.add(
            "backupsession_target_last_success_time_seconds",
            "backup_target_last_success_time_seconds",
            LAST,
            t,
            session.now,
        );
    }
    if let Some(f) = figures.filter(|_| session.transferred) {
        all.add(
            "backupsession_host_backup_duration_seconds",
            "backup_host_backup_duration_seconds",
            SECONDS,
            h,
            f.seconds,
        );
        for (name, help, value) in [
            ("data_size_bytes", BYTES, number(f.bytes)),
            ("data_uploaded_bytes", BYTES, number(f.uploaded)),
            ("data_processing_time_seconds", SECONDS, f.seconds),
            ("files_total", COUNT, number(f.files.0)),
            ("files_new", COUNT, number(f.files.1)),
            ("files_modified", COUNT, 0.0),
            ("files_unmodified", COUNT, number(f.files.0.saturating_sub(f.files.1))),
        ] {
            all.add(
                &format!("backupsession_host_{name}"),
                &format!("backup_host_{name}"),
                help,
                h,
                value,
            );
        }
    }
    all.families()
}

/// The series of a restore.
#[must_use]
pub fn restore(session: &Session<'_>, seconds: Option<f64>) -> Vec<Family> {
    let mut all = Collector::default();
    let (i, t) = (&session.labels, &session.target);
    let h = &host(t.clone(), session.host);
    let yes = |value: bool| if value { 1.0 } else { 0.0 };
    all.add(
        "restoresession_success",
        "restore_session_success",
        SUCCESS,
        i,
        yes(session.succeeded),
    );
    if session.succeeded {
        all.add(
            "restoresession_duration_seconds",
            "restore_session_duration_seconds",
            SECONDS,
            i,
            session.seconds,
        );
        all.add(
            "restoresession_target_count_total",
            "restore_target_count_total",
            COUNT,
            i,
            f64::from(session.targets),
        );
    }
    let done = yes(session.transferred);
    all.add("restoresession_target_success", "restore_target_success", SUCCESS, t, done);
    all.add(
        "restoresession_target_host_count_total",
        "restore_target_host_count_total",
        COUNT,
        t,
        1.0,
    );
    all.add(
        "restoresession_host_restore_success",
        "restore_host_restore_success",
        SUCCESS,
        h,
        done,
    );
    if let Some(seconds) = seconds.filter(|_| session.transferred) {
        all.add(
            "restoresession_host_restore_duration_seconds",
            "restore_host_restore_duration_seconds",
            SECONDS,
            h,
            seconds,
        );
    }
    all.families()
}

/// The series of a repository.
#[must_use]
pub fn repository_figures(
    labels: &Labels,
    sound: bool,
    bytes: u64,
    snapshots: u64,
    removed: u64,
) -> Vec<Family> {
    let mut all = Collector::default();
    for (name, help, value) in [
        ("integrity", "1 if the last check found no errors", if sound { 1.0 } else { 0.0 }),
        ("size_bytes", BYTES, number(bytes)),
        ("snapshot_count", COUNT, number(snapshots)),
        ("snapshot_cleaned", "Snapshots that the last retention removed", number(removed)),
    ] {
        let name = format!("repository_{name}");
        all.add(&name, &name, help, labels, value);
    }
    all.families()
}

/// Prometheus knows only floating point; exact up to 8 PiB.
#[allow(
    clippy::cast_precision_loss,
    reason = "Prometheus knows only floating point; exact up to 8 PiB"
)]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(succeeded: bool, transferred: bool) -> Session<'static> {
        let labels = invoker("BackupConfiguration", "demo", "orders", "repo");
        let app = Target {
            app_type: "kubedb.com/redis".into(),
            name: "orders".into(),
            ..Target::default()
        };
        Session {
            targets: 1,
            target: target(labels.clone(), &app),
            labels,
            host: "host-0",
            succeeded,
            transferred,
            seconds: 3.0,
            now: 1e9,
        }
    }

    fn value(families: &[Family], name: &str) -> Option<f64> {
        families.iter().find(|f| f.name == name).map(|f| f.value)
    }

    #[test]
    fn success_means_all_of_it() {
        let figures = BackupFigures { seconds: 2.0, bytes: 10, uploaded: 5, files: (2, 2) };
        let good = backup(&session(true, true), Some(figures));
        assert_eq!(value(&good, "stash_appscode_com_backupsession_success"), Some(1.0));
        assert_eq!(value(&good, "stash_backup_host_data_size_bytes"), Some(10.0));
        assert_eq!(value(&good, "stash_backup_last_success_time_seconds"), Some(1e9));
        // Retention failed: the data is there, the session is not a success.
        let half = backup(&session(false, true), Some(figures));
        assert_eq!(value(&half, "stash_backup_session_success"), Some(0.0));
        assert_eq!(value(&half, "stash_backup_target_success"), Some(1.0));
        assert_eq!(value(&half, "stash_backup_session_duration_seconds"), None);
        let bad = backup(&session(false, false), None);
        assert_eq!(value(&bad, "stash_backup_host_backup_success"), Some(0.0));
        assert_eq!(value(&bad, "stash_backup_host_data_size_bytes"), None);
        let restored = restore(&session(true, true), Some(1.0));
        assert_eq!(value(&restored, "stash_appscode_com_restoresession_success"), Some(1.0));
        assert_eq!(value(&restored, "stash_restore_session_duration_seconds"), Some(3.0));
    }

    #[test]
    fn labels_are_those_of_the_reference() {
        let families = backup(&session(true, true), None);
        let host = families.iter().find(|f| f.name == "stash_backup_host_backup_success").unwrap();
        let label =
            |name: &str| host.labels.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str());
        assert_eq!((label("kind"), label("group")), (Some("redis"), Some("kubedb.com")));
        assert_eq!((label("hostname"), label("driver")), (Some("host-0"), Some("Restic")));
        let plain = target(vec![], &Target::default());
        assert_eq!(plain[0].1, "appbindings");
        assert_eq!(
            group("BackupConfiguration", "demo", "orders"),
            "backupconfiguration-demo-orders"
        );
    }
}
