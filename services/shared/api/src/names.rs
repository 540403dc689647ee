//! Labels, finalizers, what is a name at all, and the names of children, derived from their owner's so that a repeat is
//! harmless.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

/// Finalizer of Repositories.
pub const REPOSITORY_FINALIZER: &str = "stash";
/// Finalizer of BackupConfigurations and RestoreSessions.
pub const FINALIZER: &str = "stash.appscode.com";

/// Label: what part of the application an object is.
pub const COMPONENT: &str = "app.kubernetes.io/component";
/// Label: who manages an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label: kind of the invoker of a session.
pub const INVOKER_TYPE: &str = "stash.appscode.com/invoker-type";
/// Label: name of the invoker of a session.
pub const INVOKER_NAME: &str = "stash.appscode.com/invoker-name";
/// Label: kind of the target of a session.
pub const TARGET_KIND: &str = "stash.appscode.com/target-kind";
/// Label: name of the target of a session.
pub const TARGET_NAME: &str = "stash.appscode.com/target-name";
/// Label: namespace of the target of a session.
pub const TARGET_NAMESPACE: &str = "stash.appscode.com/target-namespace";

/// Longest name of most objects.
const NAME_MAX: usize = 63;

/// Whether this may name a namespace: a DNS-1123 label, up to 63 lower-case letters, digits and hyphens inside.
#[must_use]
pub fn is_label(text: &str) -> bool {
    text.len() <= NAME_MAX && is_part(text)
}

/// Whether this may name most other objects: a DNS-1123 subdomain, up to 253 characters, with dots, too. Such a name is
/// one segment of a path, and never leads out of it.
#[must_use]
pub fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inside = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let ends = [text.bytes().next(), text.bytes().last()];
    text.bytes().all(inside) && ends.iter().all(|end| end.is_some_and(|b| b != b'-'))
}

/// The labels that every object made for backups carries, over the invoker's own.
#[must_use]
pub fn backup_labels(own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels(own, "stash-backup")
}

/// The same for restores.
#[must_use]
pub fn restore_labels(own: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels(own, "stash-restore")
}

fn labels(own: &BTreeMap<String, String>, component: &str) -> BTreeMap<String, String> {
    let mut labels = own.clone();
    labels.insert(COMPONENT.to_owned(), component.to_owned());
    labels.insert(MANAGED_BY.to_owned(), "stash.appscode.com".to_owned());
    labels
}

/// Name of the session of an invoker for an instant: its Unix seconds as suffix, the invoker's name cut to fit.
#[must_use]
pub fn session(invoker: &str, instant: DateTime<Utc>) -> String {
    let suffix = format!("-{}", instant.timestamp());
    format!("{}{suffix}", cut(invoker, NAME_MAX - suffix.len()))
}

/// Another name for a session whose own is taken by a session of another invoker: two long names that are cut alike, or
/// two kinds of invoker with one name. The same owner always gives the same name; the instant stays its suffix.
#[must_use]
pub fn distinct_session(name: &str, owner_uid: &str) -> String {
    let (base, instant) = name.rsplit_once('-').unwrap_or((name, "0"));
    let mark: String = owner_uid.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    let suffix = format!("-{}-{instant}", mark.to_lowercase());
    format!("{}{suffix}", cut(base, NAME_MAX.saturating_sub(suffix.len())))
}

/// Name of the RestoreSession of a member of a RestoreBatch.
#[must_use]
pub fn member(batch: &str, member: usize) -> String {
    let suffix = format!("-{member}");
    format!("{}{suffix}", cut(batch, NAME_MAX - suffix.len()))
}

/// Name of the Job of a BackupSession.
#[must_use]
pub fn backup_job(session: &str, target: usize) -> String {
    fit(&format!("stash-backup-{}-{target}", session.replace('.', "-")))
}

/// Name of the Job of a RestoreSession.
#[must_use]
pub fn restore_job(session: &str, target: usize) -> String {
    fit(&format!("stash-restore-{}-{target}", session.replace('.', "-")))
}

/// Name of the Secret of a session: that of its Job.
#[must_use]
pub fn session_secret(job: &str) -> String {
    job.to_owned()
}

/// Name of the ServiceAccount made for an invoker's Jobs.
#[must_use]
pub fn service_account(invoker_kind: &str, invoker: &str, target: usize) -> String {
    fit(&format!("{}-{}-{target}", invoker_kind.to_lowercase(), invoker.replace('.', "-")))
}

/// Name of the CronJob of an invoker.
#[must_use]
pub fn cron_job(invoker: &str) -> String {
    let name = format!("stash-trigger-{}", invoker.replace('.', "-"));
    let start = name.len().saturating_sub(52);
    name[start..].trim_start_matches('-').to_owned()
}

/// Name of the container of a Function in a pod.
#[must_use]
pub fn container(function: &str, step: usize) -> String {
    format!("{}-{step}", function.replace('.', "-"))
}

/// What a host is called when the target has no alias.
pub const DEFAULT_HOST: &str = "host-0";

/// A name that is too long keeps its first 32 and last 31 characters.
fn fit(name: &str) -> String {
    if name.len() <= NAME_MAX {
        return name.to_owned();
    }
    format!("{}{}", &name[..32], &name[name.len() - 31..])
}

fn cut(name: &str, max: usize) -> &str {
    name[..name.len().min(max)].trim_end_matches(['-', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_segment_of_a_path() {
        let (label, name) = ("x".repeat(63), "x.".repeat(126) + "x");
        for good in ["a", "repo", "1-2", &label] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for only_subdomain in ["a.b", "repo.v1-2", &name, &"x".repeat(64)] {
            assert!(!is_label(only_subdomain) && is_subdomain(only_subdomain), "{only_subdomain}");
        }
        for bad in
            ["", ".", "..", "a/b", "a..b", "-a", "a-", "a.-b", "A", "a?b", "a%2f", "ä", "a b"]
        {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad}");
        }
        assert!(!is_subdomain(&"x".repeat(254)));
    }

    #[test]
    fn names_fit() {
        let at = DateTime::from_timestamp(1_700_000_000, 0).unwrap();
        assert_eq!(session("orders", at), "orders-1700000000");
        assert_eq!(session(&"x".repeat(80), at).len(), 63);
        assert_eq!(distinct_session("orders-17", "0a1B-2c3d-4e"), "orders-0a1b2c3d-17");
        assert_eq!(distinct_session(&session(&"x".repeat(80), at), "0a1b2c3d").len(), 63);
        assert_eq!(backup_job("orders-1.5", 0), "stash-backup-orders-1-5-0");
        let long = backup_job(&"y".repeat(70), 0);
        assert_eq!(long.len(), 63);
        assert!(long.starts_with("stash-backup-") && long.ends_with("-0"));
        assert_eq!(container("redis-backup-7.0.5", 0), "redis-backup-7-0-5-0");
        assert_eq!(cron_job(&"z".repeat(60)).len(), 52);
    }
}
