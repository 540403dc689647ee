//! The keep policy by table and by property, and (in `peer`) against the restic program.

mod peer;

use std::collections::BTreeSet;

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::snapshot::tests::snapshot;

fn now() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-06-01T00:00:00Z").unwrap().to_utc()
}

fn kept(times: &[&str], policy: &KeepPolicy) -> Vec<(u8, Vec<String>)> {
    let snapshots = (1..).zip(times).map(|(id, time)| snapshot(id, time)).collect();
    let groups = plan(snapshots, GroupBy::default(), policy, now());
    let keep = groups.into_iter().flat_map(|group| group.keep);
    keep.map(|kept| (kept.snapshot.id.as_bytes()[0], kept.reasons)).collect()
}

fn ids(times: &[&str], policy: &KeepPolicy) -> Vec<u8> {
    kept(times, policy).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn each_rule_counts_its_own_periods() {
    let times = [
        "2026-01-01T10:00:00Z",
        "2026-01-01T10:30:00Z",
        "2026-01-02T09:00:00Z",
        "2026-02-10T09:00:00Z",
        "2025-12-29T09:00:00Z",
    ];
    let policy = |set: fn(&mut KeepPolicy)| {
        let mut policy = KeepPolicy { keep_oldest: false, ..KeepPolicy::default() };
        set(&mut policy);
        policy
    };
    assert_eq!(ids(&times, &policy(|p| p.last = 2)), [4, 3]);
    assert_eq!(ids(&times, &policy(|p| p.hourly = 3)), [4, 3, 2]);
    assert_eq!(ids(&times, &policy(|p| p.daily = 3)), [4, 3, 2]);
    // 29 December 2025 to 4 January 2026 is one ISO week.
    assert_eq!(ids(&times, &policy(|p| p.weekly = 9)), [4, 3]);
    assert_eq!(ids(&times, &policy(|p| p.monthly = 9)), [4, 3, 5]);
    assert_eq!(ids(&times, &policy(|p| p.yearly = 9)), [4, 5]);
}

#[test]
fn the_day_is_the_snapshots_own() {
    let policy = KeepPolicy { daily: 5, keep_oldest: false, ..Default::default() };
    // The same UTC day, two local ones.
    assert_eq!(ids(&["2026-01-01T23:30:00+02:00", "2026-01-02T00:30:00+02:00"], &policy), [2, 1]);
    assert_eq!(ids(&["2026-01-01T21:30:00Z", "2026-01-01T22:30:00Z"], &policy), [2]);
}

#[test]
fn reasons_are_restics_words() {
    let policy = KeepPolicy { last: 1, yearly: 1, ..Default::default() };
    let all = kept(&["2026-01-01T00:00:00Z"], &policy);
    assert_eq!(all, [(1, vec!["last snapshot".to_owned(), "yearly snapshot".to_owned()])]);
    let all = kept(&["2026-01-01T00:00:00Z"], &KeepPolicy::default());
    assert_eq!(all, [(1, vec!["policy is empty".to_owned()])]);
}

#[test]
fn the_oldest_stays_while_counts_are_left() {
    let times = ["2026-01-01T00:00:00Z", "2026-01-01T08:00:00Z", "2026-01-01T16:00:00Z"];
    let policy = |daily| KeepPolicy { daily, ..KeepPolicy::default() };
    assert_eq!(ids(&times, &policy(1)), [3]);
    let reasons = |text: &str| vec![text.to_owned()];
    let both = [(3, reasons("daily snapshot")), (1, reasons("oldest daily snapshot"))];
    assert_eq!(kept(&times, &policy(2)), both);
    let without = KeepPolicy { keep_oldest: false, ..policy(2) };
    assert_eq!(ids(&times, &without), [3]);
    let forever = policy(UNLIMITED);
    assert_eq!(ids(&times, &forever), [3, 1]);
}

#[test]
fn spans_are_counted_from_the_newest_that_is_not_of_the_future() {
    let times = [
        "2030-01-01T00:00:00Z",
        "2026-03-31T12:00:00Z",
        "2026-03-31T00:00:00Z",
        "2026-03-03T12:00:01Z",
        "2026-03-03T12:00:00Z",
        "2026-01-01T00:00:00Z",
    ];
    let policy = |set: fn(&mut KeepPolicy)| {
        let mut policy = KeepPolicy { keep_oldest: false, ..KeepPolicy::default() };
        set(&mut policy);
        policy
    };
    // A month before 31 March is 31 February, which is 3 March.
    let month = |p: &mut KeepPolicy| p.within = Within { months: 1, ..Within::default() };
    assert_eq!(ids(&times, &policy(month)), [1, 2, 3, 4]);
    let daily = |p: &mut KeepPolicy| p.within_daily = Within { days: 90, ..Within::default() };
    assert_eq!(ids(&times, &policy(daily)), [1, 2, 4, 6]);
    let all = kept(&times[1..2], &policy(month));
    assert_eq!(all[0].1, ["within 1m"]);
}

#[test]
fn groups_are_kept_apart_and_tags_protect() {
    let mut snapshots: Vec<_> =
        (1..=6).map(|id| snapshot(id, &format!("2026-01-0{id}T00:00:00Z"))).collect();
    snapshots[0].tags = vec!["keep".into(), "x".into()];
    snapshots[1].hostname = "host-1".into();
    snapshots[2].paths = vec!["/b".into(), "/a".into()];
    snapshots[3].paths = vec!["/a".into(), "/b".into()];
    let policy = KeepPolicy { last: 1, tags: vec!["x,keep".into()], ..Default::default() };
    let removed = |by| -> BTreeSet<u8> {
        let groups = plan(snapshots.clone(), by, &policy, now());
        groups.into_iter().flat_map(|g| g.remove).map(|s| s.id.as_bytes()[0]).collect()
    };
    assert_eq!(removed(GroupBy::default()), [3, 5].into());
    let one = GroupBy { host: false, paths: false, tags: false };
    assert_eq!(removed(one), [2, 3, 4, 5].into());
}

prop_compose! {
    fn policy()(counts in proptest::array::uniform6(0_u32..6)) -> KeepPolicy {
        let [last, hourly, daily, weekly, monthly, yearly] = counts;
        KeepPolicy { last, hourly, daily, weekly, monthly, yearly, ..KeepPolicy::default() }
    }
}

proptest! {
    #[test]
    fn properties(
        offsets in proptest::collection::vec(0_i64..80_000, 0..60),
        policy in policy(),
    ) {
        let start = DateTime::parse_from_rfc3339("2024-12-20T00:00:00Z").unwrap();
        let snapshots: Vec<_> = (1_u8..)
            .zip(&offsets)
            .map(|(id, minutes)| {
                let mut snapshot = snapshot(id, "2026-01-01T00:00:00Z");
                snapshot.time = start + TimeDelta::minutes(*minutes * 17);
                snapshot
            })
            .collect();
        let groups = plan(snapshots.clone(), GroupBy::default(), &policy, now());
        let keep: Vec<_> = groups.iter().flat_map(|g| &g.keep).collect();
        let remove: Vec<_> = groups.iter().flat_map(|g| &g.remove).collect();
        // Nothing is lost or invented.
        prop_assert_eq!(keep.len() + remove.len(), snapshots.len());
        // The newest always stays, and an empty policy keeps everything.
        if let Some(newest) = snapshots.iter().map(|s| s.time).max() {
            prop_assert!(keep.iter().any(|k| k.snapshot.time == newest));
        }
        prop_assert!(!policy.is_empty() || remove.is_empty());
        // No rule keeps more than its count, but for the oldest.
        for (rule, count) in [
            ("last", policy.last), ("hourly", policy.hourly), ("daily", policy.daily),
            ("weekly", policy.weekly), ("monthly", policy.monthly), ("yearly", policy.yearly),
        ] {
            let name = format!("{rule} snapshot");
            let by_rule = keep.iter().filter(|k| k.reasons.contains(&name)).count();
            prop_assert!(by_rule <= count as usize, "{}", name);
        }
        // Forgetting again forgets nothing more.
        let again: Vec<Snapshot> = keep.iter().map(|k| k.snapshot.clone()).collect();
        let twice = plan(again, GroupBy::default(), &policy, now());
        prop_assert!(twice.iter().all(|g| g.remove.is_empty()));
    }
}
