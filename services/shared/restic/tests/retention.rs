//! Our keep plan against the restic program's, on generated histories.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta};
use coffer_restic::{BackupOptions, GroupBy, KeepPolicy, SnapshotFilter, Version, forget};
use futures::{StreamExt, stream};
use serde_json::Value;
use support::{Place, backup};

/// id → reasons of those kept, and the ids of those removed.
type Decision = (BTreeMap<String, Vec<String>>, BTreeSet<String>);

fn restics(output: &[u8]) -> Decision {
    let groups: Value = serde_json::from_slice(output).unwrap();
    let (mut keep, mut remove) = Decision::default();
    for group in groups.as_array().unwrap() {
        for reason in group["reasons"].as_array().into_iter().flatten() {
            let matches = reason["matches"].as_array().unwrap();
            let matches = matches.iter().map(|m| m.as_str().unwrap().to_owned()).collect();
            // The reasons name the snapshot without its id; the keep list has both.
            let tree_and_time = (&reason["snapshot"]["tree"], &reason["snapshot"]["time"]);
            let id = group["keep"]
                .as_array()
                .unwrap()
                .iter()
                .find(|kept| (&kept["tree"], &kept["time"]) == tree_and_time)
                .unwrap()["id"]
                .as_str()
                .unwrap();
            keep.insert(id.to_owned(), matches);
        }
        for removed in group["remove"].as_array().into_iter().flatten() {
            remove.insert(removed["id"].as_str().unwrap().to_owned());
        }
    }
    (keep, remove)
}

fn ours(groups: Vec<forget::Group>) -> Decision {
    let (mut keep, mut remove) = Decision::default();
    for group in groups {
        keep.extend(group.keep.into_iter().map(|k| (k.snapshot.id.to_string(), k.reasons)));
        remove.extend(group.remove.into_iter().map(|s| s.id.to_string()));
    }
    (keep, remove)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_keep_what_restic_keeps() {
    let place = Place::new();
    let repository = place.init(Version::V2).await;
    let start = DateTime::parse_from_rfc3339("2024-11-03T22:10:00+02:00").unwrap();
    let zones = ["+00:00", "+02:00", "-07:00", "+05:30"];
    // Gaps from minutes to months, so that each rule has something to decide.
    let history = (0_u32..90).scan(start, |time, i| {
        let minutes = [7, 55, 61, 700, 1441, 3000, 11_000, 40_000][(i * i % 8) as usize];
        *time += TimeDelta::minutes(minutes) + TimeDelta::seconds(i64::from(i));
        Some((i, *time))
    });
    let writes = history.map(|(i, time)| {
        let zone = DateTime::parse_from_str(
            &format!("2000-01-01 00:00 {}", zones[(i / 7 % 4) as usize]),
            "%Y-%m-%d %H:%M %:z",
        );
        let options = BackupOptions {
            host: format!("host-{}", i % 3 / 2),
            time: time.with_timezone(zone.unwrap().offset()),
            tags: if i % 11 == 0 { vec!["hold".into(), format!("n{i}")] } else { Vec::new() },
            ..BackupOptions::default()
        };
        let (repository, path) = (repository.clone(), if i % 5 == 4 { "/b" } else { "/a" });
        async move {
            let content = i.to_le_bytes();
            backup(&repository, options, &[(path, &content)]).await.unwrap();
        }
    });
    stream::iter(writes).buffer_unordered(45).collect::<Vec<()>>().await;
    let everyone = SnapshotFilter::default();
    assert_eq!(repository.snapshots(&everyone).await.unwrap().len(), 90);

    let by_host = GroupBy { host: true, paths: false, tags: false };
    let policies: [(&[&str], KeepPolicy, GroupBy); 6] = [
        (&["--keep-last=3"], KeepPolicy { last: 3, ..Default::default() }, GroupBy::default()),
        (
            &["--keep-hourly=5", "--keep-daily=9"],
            KeepPolicy { hourly: 5, daily: 9, ..Default::default() },
            GroupBy::default(),
        ),
        (
            &["--keep-weekly=20", "--group-by=host"],
            KeepPolicy { weekly: 20, ..Default::default() },
            by_host,
        ),
        (
            &["--keep-monthly=6", "--keep-yearly=10", "--keep-tag=hold"],
            KeepPolicy {
                monthly: 6,
                yearly: 10,
                tags: vec![vec!["hold".into()]],
                ..Default::default()
            },
            GroupBy::default(),
        ),
        (
            &["--keep-tag=hold,n11", "--keep-tag=n22", "--group-by=host,tags"],
            KeepPolicy {
                tags: vec![vec!["hold".into(), "n11".into()], vec!["n22".into()]],
                ..Default::default()
            },
            GroupBy { host: true, paths: false, tags: true },
        ),
        (
            &[
                "--keep-last=1",
                "--keep-hourly=2",
                "--keep-daily=3",
                "--keep-weekly=4",
                "--keep-monthly=5",
                "--keep-yearly=6",
                "--group-by=",
            ],
            KeepPolicy {
                last: 1,
                hourly: 2,
                daily: 3,
                weekly: 4,
                monthly: 5,
                yearly: 6,
                tags: vec![],
            },
            GroupBy { host: false, paths: false, tags: false },
        ),
    ];
    for (arguments, policy, group_by) in policies {
        let arguments: Vec<&str> =
            ["forget", "--dry-run", "--json"].iter().chain(arguments).copied().collect();
        let theirs = restics(&place.run(&arguments).await);
        let plan = repository.forget(&everyone, group_by, &policy, true).await.unwrap();
        assert_eq!(plan.removed.len(), theirs.1.len(), "{arguments:?}");
        let (ours, theirs) = (ours(plan.groups), theirs);
        assert_eq!(ours.1, theirs.1, "{arguments:?}");
        for (id, reasons) in &theirs.0 {
            // Tag lists are shown differently from version to version.
            let shape =
                |r: &String| if r.starts_with("has tags") { "has tags".into() } else { r.clone() };
            let found: Vec<String> = ours.0[id].iter().map(shape).collect();
            assert_eq!(found, reasons.iter().map(shape).collect::<Vec<_>>(), "{arguments:?}");
        }
    }
}
