//! Backups between servers of every version at hand, each to each, by every way out. What arrived is read
//! from the target by replication.

#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests")]

mod support;

use coffer_api::outcome::Verified;
use coffer_rdb::resp::Reply;
use coffer_rdb::target::Feature;
use coffer_runtime::Runtime;
use support::gateway::Services;
use support::job::{BACKUP, RESTORE, backed_up, failed, restored, run_with, session};
use support::line;
use support::makes::{Make, digests, entries, figures, fill};

async fn each_to_each(method: &str) {
    if !Make::AVAILABLE {
        return;
    }
    let targets: Vec<_> = Make::ALL.iter().map(|make| (*make, make.start(&[]))).collect();
    for source in Make::ALL {
        let (server, services) = (source.start(&[]), Services::default());
        fill(&mut server.client().await, source).await;
        let endpoint = services.serve().await;
        let runtime = Runtime::new();
        let backup = session("BackupSession", server.redis(), &endpoint);
        let flag = format!("--method={method}");
        let outcome = run_with(&backup, BACKUP, &[&flag], &runtime).await;
        let done = backed_up(outcome);
        assert_eq!(done.method, method);
        let held = entries(&server).await;
        assert_eq!(done.keys.values().sum::<u64>(), held.len() as u64, "{}", source.name);
        for (target, receiver) in &targets {
            let what = format!("{} to {} by {method}", source.name, target.name);
            let restore = session("RestoreSession", receiver.redis(), &endpoint);
            line(&mut receiver.client().await, "FLUSHALL").await;
            let loses = [Feature::Functions, Feature::FieldTtls]
                .into_iter()
                .any(|feature| source.can(feature) && !target.can(feature));
            if loses {
                let failure = failed(run_with(&restore, RESTORE, &[], &runtime).await);
                assert_eq!(failure.class, "Unimplemented", "{what}: {}", failure.error);
                let named = match source.can(Feature::FieldTtls) {
                    true => "key ttl of database 0 would lose the times to live of its fields",
                    false => "would be lost: Redis",
                };
                assert!(failure.error.contains(named), "{what}: {}", failure.error);
                let size = line(&mut receiver.client().await, "DBSIZE").await;
                assert_eq!((size, failure.keys_written), (Reply::Integer(0), 0), "{what}");
            }
            let mut more = if loses { vec!["--on-loss=report"] } else { vec![] };
            more.extend((method != "portable").then_some("--verify=true"));
            // A repeat gives the same.
            for _ in 0..if source == Make::MACHINE { 2 } else { 1 } {
                let outcome = run_with(&restore, RESTORE, &more, &runtime).await;
                let told = outcome.warnings.join("; ");
                let done = restored(outcome);
                assert_eq!(
                    done.restored.values().sum::<u64>(),
                    held.len() as u64,
                    "{what}: {told}"
                );
                assert_eq!(loses, told.contains("lost"), "{what}: {told}");
                let keys = held.len() as u64;
                let same = Verified { keys, ..Verified::default() };
                assert_eq!(done.verified, (method != "portable").then_some(same), "{what}");
            }
            let (want, got) = (digests(&held, *target), digests(&entries(receiver).await, *target));
            let differ: Vec<_> = want
                .iter()
                .filter(|(key, digest)| got.get(*key) != Some(*digest))
                .map(|(key, _)| key)
                .chain(got.keys().filter(|key| !want.contains_key(*key)))
                .collect();
            assert!(differ.is_empty(), "{what}: {differ:?}");
            if source == *target {
                for key in ["stream", "trimmed", "emptied", "no-entries", "big-stream"] {
                    let here = figures(&mut server.client().await, key).await;
                    let there = figures(&mut receiver.client().await, key).await;
                    assert_eq!(here, there, "{what}: {key}");
                }
            }
        }
    }
}

#[tokio::test]
async fn typed_commands_travel_from_each_version_to_each() {
    each_to_each("portable").await;
}

#[tokio::test]
async fn payloads_travel_from_each_version_to_each() {
    each_to_each("scan").await;
}

#[tokio::test]
async fn files_travel_from_each_version_to_each() {
    each_to_each("replication").await;
}
