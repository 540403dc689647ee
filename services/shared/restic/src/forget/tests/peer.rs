//! The same decisions as the restic program, on random histories with random policies.
//!
//! The snapshot files are written directly: forget reads nothing else. Where restic of the machine is older than 0.16, it
//! does not keep the oldest, and neither do we for the comparison.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::process::Command;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::*;
use crate::progress::Observer;
use crate::store::FileKind;
use crate::{InitOptions, Kdf, OpenOptions, Password, Repository, SnapshotFilter, Store};

const HISTORIES: u64 = 8;
const POLICIES: usize = 6;
const PASSWORD: &str = "correct horse";

/// id → reasons of those kept, and the ids of those removed.
type Decision = (BTreeMap<String, Vec<String>>, BTreeSet<String>);

fn restic(repository: &std::path::Path, args: &[String]) -> Vec<u8> {
    let output = Command::new("restic")
        .args(["--no-cache", "--repo"])
        .arg(repository)
        .args(args)
        .envs([("RESTIC_PASSWORD", PASSWORD), ("TZ", "UTC")])
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "restic {args:?}: {problem}");
    output.stdout
}

/// Whether restic keeps the oldest, as it does since 0.16.
fn restic_keeps_the_oldest() -> bool {
    let output = Command::new("restic").arg("version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.split_whitespace().nth(1).unwrap();
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (0, 16)
}

fn theirs(output: &[u8]) -> Decision {
    // It says nothing at all where no snapshot counts.
    let groups = if output.is_empty() { b"[]" } else { output };
    let groups: Value = serde_json::from_slice(groups).unwrap();
    let (mut keep, mut remove) = Decision::default();
    for group in groups.as_array().unwrap() {
        let ids: BTreeMap<&str, &str> = group["keep"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|kept| (kept["tree"].as_str().unwrap(), kept["id"].as_str().unwrap()))
            .collect();
        for reason in group["reasons"].as_array().into_iter().flatten() {
            let matches = reason["matches"].as_array().unwrap();
            let matches = matches.iter().map(|m| shape(m.as_str().unwrap())).collect();
            // The reasons name the snapshot without its id; its tree is its own here.
            let id = ids[reason["snapshot"]["tree"].as_str().unwrap()];
            keep.insert(id.to_owned(), matches);
        }
        for removed in group["remove"].as_array().into_iter().flatten() {
            remove.insert(removed["id"].as_str().unwrap().to_owned());
        }
    }
    (keep, remove)
}

/// Lists of tags, and the oldest, are shown differently from version to version.
fn shape(reason: &str) -> String {
    let reason = reason.strip_prefix("oldest ").unwrap_or(reason);
    if reason.starts_with("has tags") { "has tags".into() } else { reason.to_owned() }
}

fn ours(groups: Vec<Group>) -> Decision {
    let (mut keep, mut remove) = Decision::default();
    for group in groups {
        keep.extend(group.keep.into_iter().map(|kept| {
            let reasons = kept.reasons.iter().map(|reason| shape(reason)).collect();
            (kept.snapshot.id.to_string(), reasons)
        }));
        remove.extend(group.remove.into_iter().map(|snapshot| snapshot.id.to_string()));
    }
    (keep, remove)
}

/// An instant, and the offset it is recorded with: somewhere in the world, or in Berlin with its daylight saving time.
fn instant(random: &mut StdRng) -> DateTime<FixedOffset> {
    // Ends of ISO years, changes of the clock in Berlin, a leap day, the future.
    const EDGES: [(&str, i64); 9] = [
        ("2024-12-30T00:00:00Z", 20_000),
        ("2020-12-31T12:00:00Z", 20_000),
        ("2026-01-01T00:00:00Z", 3000),
        ("2024-10-27T01:00:00Z", 200),
        ("2025-03-30T01:00:00Z", 200),
        ("2024-02-29T12:00:00Z", 5000),
        ("2025-06-01T00:00:00Z", 500_000),
        ("2026-05-01T00:00:00Z", 3_000),
        ("2095-01-01T00:00:00Z", 500),
    ];
    let (edge, minutes) = EDGES[random.random_range(0..EDGES.len())];
    let edge = DateTime::parse_from_rfc3339(edge).unwrap();
    let seconds = random.random_range(-minutes * 60..minutes * 60);
    let time = edge
        + TimeDelta::seconds(seconds)
        + TimeDelta::nanoseconds(random.random_range(0..1_000_000_000));
    let offset = if random.random_bool(0.5) {
        let summer = |from: &str, to: &str| {
            let at = |text: &str| DateTime::parse_from_rfc3339(text).unwrap();
            (at(from)..at(to)).contains(&time)
        };
        let saving = summer("2024-03-31T01:00:00Z", "2024-10-27T01:00:00Z")
            || summer("2025-03-30T01:00:00Z", "2025-10-26T01:00:00Z");
        if saving { 7200 } else { 3600 }
    } else {
        *[0, 19_800, -25_200, 50_400].choose(random).unwrap()
    };
    time.with_timezone(&FixedOffset::east_opt(offset).unwrap())
}

fn history(random: &mut StdRng) -> Vec<Snapshot> {
    let mut seen = HashSet::new();
    (0..random.random_range(1_u32..70))
        .filter_map(|number| {
            let time = instant(random);
            // Of two at one instant, restic keeps the one that its listing has first.
            seen.insert(time.to_utc()).then(|| {
                let mut snapshot = snapshot(0, "2026-01-01T00:00:00Z");
                snapshot.time = time;
                snapshot.tree = crate::Id::of(&number.to_le_bytes());
                snapshot.hostname = format!("host-{}", random.random_range(0..3));
                if random.random_bool(0.2) {
                    snapshot.paths = vec!["/b".into(), "/a".into()];
                }
                for tag in ["hold", "week", "x"] {
                    if random.random_bool(0.15) {
                        snapshot.tags.push(tag.into());
                    }
                }
                snapshot
            })
        })
        .collect()
}

/// One list or some: in order and not, with spaces, and with the tag that stands for none.
fn tag_lists(random: &mut StdRng) -> Vec<&'static str> {
    const LISTS: [&str; 9] = ["hold", "week,x", " x , week ", "x", "", " ", ",hold", "hold,", "y"];
    let count = random.random_range(1..4);
    LISTS.choose_multiple(random, count).copied().collect()
}

/// Which snapshots count, and restic's flags for that; more often than not, all do.
fn filter(random: &mut StdRng) -> (SnapshotFilter, Vec<String>) {
    let (mut filter, mut flags) = (SnapshotFilter::default(), Vec::new());
    if random.random_bool(0.3) {
        let hosts = ["host-0", "host-1", "host-9"];
        let count = random.random_range(1..3);
        filter.hosts = hosts.choose_multiple(random, count).map(|host| (*host).into()).collect();
        flags.extend(filter.hosts.iter().map(|host| format!("--host={host}")));
    }
    if random.random_bool(0.3) {
        let lists = tag_lists(random);
        filter.tags = lists.iter().map(|list| (*list).into()).collect();
        flags.extend(lists.iter().map(|list| format!("--tag={list}")));
    }
    (filter, flags)
}

/// A policy that keeps something, how to group, and restic's flags for both.
fn policy(random: &mut StdRng, keep_oldest: bool) -> (KeepPolicy, GroupBy, Vec<String>) {
    let mut policy = KeepPolicy { keep_oldest, ..KeepPolicy::default() };
    let mut flags = Vec::new();
    let counts = [
        ("last", &mut policy.last),
        ("hourly", &mut policy.hourly),
        ("daily", &mut policy.daily),
        ("weekly", &mut policy.weekly),
        ("monthly", &mut policy.monthly),
        ("yearly", &mut policy.yearly),
    ];
    for (name, count) in counts {
        if random.random_bool(0.3) {
            *count = random.random_range(1..12);
            flags.push(format!("--keep-{name}={count}"));
        }
    }
    let spans = [
        ("within", &mut policy.within),
        ("within-hourly", &mut policy.within_hourly),
        ("within-daily", &mut policy.within_daily),
        ("within-weekly", &mut policy.within_weekly),
        ("within-monthly", &mut policy.within_monthly),
        ("within-yearly", &mut policy.within_yearly),
    ];
    for (name, span) in spans {
        if random.random_bool(0.2) {
            span.years = random.random_range(0..3);
            span.months = random.random_range(0..15);
            span.days = random.random_range(0..40);
            span.hours = random.random_range(1..30);
            flags.push(format!("--keep-{name}={span}"));
        }
    }
    if random.random_bool(0.3) || flags.is_empty() {
        let lists = tag_lists(random);
        policy.tags = lists.iter().map(|list| (*list).into()).collect();
        flags.extend(lists.iter().map(|list| format!("--keep-tag={list}")));
    }
    let (host, paths, tags) =
        (random.random_bool(0.5), random.random_bool(0.5), random.random_bool(0.2));
    let names = [("host", host), ("paths", paths), ("tags", tags)];
    let names: Vec<&str> = names.iter().filter(|(_, by)| *by).map(|(name, _)| *name).collect();
    flags.push(format!("--group-by={}", names.join(",")));
    (policy, GroupBy { host, paths, tags }, flags)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn we_keep_what_restic_keeps() {
    let keep_oldest = restic_keeps_the_oldest();
    for seed in 0..HISTORIES {
        let mut random = StdRng::seed_from_u64(seed);
        let folder = tempfile::tempdir().unwrap();
        let init = InitOptions { kdf: Kdf { log_n: 10, r: 8, p: 1 }, ..InitOptions::default() };
        let store = Store::local(folder.path()).unwrap();
        let password = Password::new(PASSWORD);
        let repository =
            Repository::init(store, &password, &init, OpenOptions::default()).await.unwrap();
        for snapshot in history(&mut random) {
            let json = snapshot.encode().unwrap();
            repository.inner.vault.save(FileKind::Snapshot, &json).await.unwrap();
        }
        for _ in 0..POLICIES {
            let (policy, group_by, flags) = policy(&mut random, keep_oldest);
            let (filter, which) = filter(&mut random);
            let args = ["forget", "--dry-run", "--json"].map(str::to_owned);
            let args: Vec<String> = args.into_iter().chain(flags).chain(which).collect();
            let theirs = theirs(&restic(folder.path(), &args));
            let plan = repository
                .forget(&filter, group_by, &policy, true, &Observer::default())
                .await
                .unwrap();
            assert_eq!(ours(plan.groups), theirs, "history {seed}: {args:?}");
        }
    }
}
