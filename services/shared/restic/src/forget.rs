//! Which snapshots a keep policy keeps: pure, restic's rules.
//!
//! Snapshots are grouped (by host and paths, unless told otherwise), each group is walked from the
//! newest to the oldest, and each rule keeps the newest snapshot of each of its first *n* periods.
//! A period is read off the snapshot's own clock: its time with the offset it was recorded with.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, FixedOffset, Timelike};

use crate::snapshot::Snapshot;

/// What to keep; zero and empty mean "no rule". With no rule at all everything is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeepPolicy {
    /// The newest *n*.
    pub last: u32,
    /// The newest of each of the last *n* hours that have one.
    pub hourly: u32,
    /// The same for days.
    pub daily: u32,
    /// The same for ISO weeks.
    pub weekly: u32,
    /// The same for months.
    pub monthly: u32,
    /// The same for years.
    pub yearly: u32,
    /// Snapshots that carry all tags of one of these lists.
    pub tags: Vec<Vec<String>>,
}

impl KeepPolicy {
    /// Whether there is no rule, so that everything is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What snapshots are grouped by before the policy is applied to each group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupBy {
    /// The host.
    pub host: bool,
    /// The set of paths.
    pub paths: bool,
    /// The set of tags.
    pub tags: bool,
}

impl Default for GroupBy {
    fn default() -> Self {
        Self { host: true, paths: true, tags: false }
    }
}

/// What the snapshots of a group have in common; `None` where it was not asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKey {
    /// The host.
    pub host: Option<String>,
    /// The paths, sorted.
    pub paths: Option<Vec<String>>,
    /// The tags, sorted.
    pub tags: Option<Vec<String>>,
}

impl GroupKey {
    fn of(snapshot: &Snapshot, by: GroupBy) -> Self {
        let sorted = |values: &[String]| {
            let mut values = values.to_vec();
            values.sort_unstable();
            values
        };
        Self {
            host: by.host.then(|| snapshot.hostname.clone()),
            paths: by.paths.then(|| sorted(&snapshot.paths)),
            tags: by.tags.then(|| sorted(&snapshot.tags)),
        }
    }
}

/// A snapshot that stays, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// The rules that keep it, in restic's words.
    pub reasons: Vec<String>,
}

/// The decision for one group; newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// What they have in common.
    pub key: GroupKey,
    /// Those that stay.
    pub keep: Vec<Kept>,
    /// Those that go.
    pub remove: Vec<Snapshot>,
}

/// Applies the policy to each group. Groups come in the order of their keys.
#[must_use]
pub fn plan(snapshots: Vec<Snapshot>, group_by: GroupBy, policy: &KeepPolicy) -> Vec<Group> {
    let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(GroupKey::of(&snapshot, group_by)).or_default().push(snapshot);
    }
    groups.into_iter().map(|(key, members)| plan_group(key, members, policy)).collect()
}

fn plan_group(key: GroupKey, mut snapshots: Vec<Snapshot>, policy: &KeepPolicy) -> Group {
    // Newest first; ties by id, so that the plan does not depend on the order of a listing.
    snapshots.sort_by(|a, b| b.time.cmp(&a.time).then(a.id.cmp(&b.id)));
    let mut rules = Rules::new(policy);
    let mut group = Group { key, keep: Vec::new(), remove: Vec::new() };
    for snapshot in snapshots {
        let reasons = if policy.is_empty() {
            vec!["policy is empty".to_owned()]
        } else {
            rules.reasons(&snapshot, policy)
        };
        if reasons.is_empty() {
            group.remove.push(snapshot);
        } else {
            group.keep.push(Kept { snapshot, reasons });
        }
    }
    group
}

/// Year, month or week, and so on: equal for two moments in the same period.
type Period = (i32, u32, u32);

struct Rule {
    left: u32,
    period: fn(&DateTime<FixedOffset>) -> Period,
    last: Option<Period>,
    reason: &'static str,
}

struct Rules {
    newest: u32,
    periodic: [Rule; 5],
}

impl Rules {
    fn new(policy: &KeepPolicy) -> Self {
        let KeepPolicy { last, hourly, daily, weekly, monthly, yearly, tags: _ } = *policy;
        let rule = |left, reason, period| Rule { left, period, last: None, reason };
        Self {
            newest: last,
            periodic: [
                rule(hourly, "hourly snapshot", |t| (t.year(), t.ordinal(), t.hour())),
                rule(daily, "daily snapshot", |t| (t.year(), t.ordinal(), 0)),
                rule(weekly, "weekly snapshot", |t| (t.iso_week().year(), t.iso_week().week(), 0)),
                rule(monthly, "monthly snapshot", |t| (t.year(), t.month(), 0)),
                rule(yearly, "yearly snapshot", |t| (t.year(), 0, 0)),
            ],
        }
    }

    fn reasons(&mut self, snapshot: &Snapshot, policy: &KeepPolicy) -> Vec<String> {
        let mut reasons = Vec::new();
        for tags in policy.tags.iter().filter(|tags| snapshot.has_tags(tags)) {
            reasons.push(format!("has tags [{}]", tags.join(", ")));
        }
        if self.newest > 0 {
            self.newest -= 1;
            reasons.push("last snapshot".into());
        }
        for rule in self.periodic.iter_mut().filter(|rule| rule.left > 0) {
            let period = (rule.period)(&snapshot.time);
            if rule.last != Some(period) {
                rule.last = Some(period);
                rule.left -= 1;
                reasons.push(rule.reason.into());
            }
        }
        reasons
    }
}

#[cfg(test)]
mod tests;
