//! Which snapshots a keep policy keeps: pure, restic's rules.
//!
//! Snapshots are grouped (by host and paths, unless told otherwise), each group is walked from the
//! newest to the oldest, and each rule keeps the newest snapshot of each of its first *n* periods, or
//! of each period within a span before the newest snapshot. A period is read off the snapshot's own
//! clock: its time with the offset it was recorded with.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, FixedOffset, Timelike, Utc};

use crate::snapshot::{Snapshot, TagList};

mod within;
pub use within::Within;

/// A count that never runs out: `restic forget --keep-daily unlimited`.
pub const UNLIMITED: u32 = u32::MAX;

/// What to keep; zero and empty mean "no rule". With no rule at all everything is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// All that are younger than this, counted from the newest.
    pub within: Within,
    /// The newest of each hour within this span.
    pub within_hourly: Within,
    /// The same for days.
    pub within_daily: Within,
    /// The same for ISO weeks.
    pub within_weekly: Within,
    /// The same for months.
    pub within_monthly: Within,
    /// The same for years.
    pub within_yearly: Within,
    /// All that one of these lists names.
    pub tags: Vec<TagList>,
    /// A group's oldest snapshot stays for as long as a rule has counts left: restic does so since
    /// 0.16, and a history that is still short gets longer by it.
    pub keep_oldest: bool,
}

impl Default for KeepPolicy {
    fn default() -> Self {
        let none = Within::default();
        Self {
            last: 0,
            hourly: 0,
            daily: 0,
            weekly: 0,
            monthly: 0,
            yearly: 0,
            within: none,
            within_hourly: none,
            within_daily: none,
            within_weekly: none,
            within_monthly: none,
            within_yearly: none,
            tags: Vec::new(),
            keep_oldest: true,
        }
    }
}

impl KeepPolicy {
    /// Whether there is no rule, so that everything is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self { keep_oldest: self.keep_oldest, ..Self::default() }
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

/// Applies the policy to each group. Groups come in the order of their keys. Snapshots of the future
/// do not count as the newest, from which spans are counted: hence `now`.
#[must_use]
pub fn plan(
    snapshots: Vec<Snapshot>,
    group_by: GroupBy,
    policy: &KeepPolicy,
    now: DateTime<Utc>,
) -> Vec<Group> {
    let mut groups: BTreeMap<GroupKey, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        groups.entry(GroupKey::of(&snapshot, group_by)).or_default().push(snapshot);
    }
    groups.into_iter().map(|(key, members)| plan_group(key, members, policy, now)).collect()
}

fn plan_group(
    key: GroupKey,
    mut snapshots: Vec<Snapshot>,
    policy: &KeepPolicy,
    now: DateTime<Utc>,
) -> Group {
    // Newest first; ties by id, so that the plan does not depend on the order of a listing.
    snapshots.sort_by(|a, b| b.time.cmp(&a.time).then(a.id.cmp(&b.id)));
    let newest = snapshots.iter().map(|snapshot| snapshot.time).find(|time| *time < now);
    let mut rules = Rules::new(policy, newest);
    let mut group = Group { key, keep: Vec::new(), remove: Vec::new() };
    let count = snapshots.len();
    for (number, snapshot) in snapshots.into_iter().enumerate() {
        let oldest = policy.keep_oldest && number + 1 == count;
        let reasons = if policy.is_empty() {
            vec!["policy is empty".to_owned()]
        } else {
            rules.reasons(&snapshot, policy, oldest)
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
type PeriodOf = fn(&DateTime<FixedOffset>) -> Period;

const PERIODS: [(&str, PeriodOf); 5] = [
    ("hourly", |t| (t.year(), t.ordinal(), t.hour())),
    ("daily", |t| (t.year(), t.ordinal(), 0)),
    ("weekly", |t| (t.iso_week().year(), t.iso_week().week(), 0)),
    ("monthly", |t| (t.year(), t.month(), 0)),
    ("yearly", |t| (t.year(), 0, 0)),
];

/// One rule on its way from the newest snapshot to the oldest.
struct Rule {
    limit: Limit,
    period: PeriodOf,
    last: Option<Period>,
    reason: String,
}

enum Limit {
    Left(u32),
    /// Later than this; `None`: whatever its time.
    After(Option<DateTime<FixedOffset>>),
}

struct Rules {
    newest_left: u32,
    within: Option<(Limit, String)>,
    /// Those that count, then those that span, as restic names them.
    periodic: Vec<Rule>,
}

impl Rules {
    fn new(policy: &KeepPolicy, newest: Option<DateTime<FixedOffset>>) -> Self {
        let p = policy;
        let counts = [p.hourly, p.daily, p.weekly, p.monthly, p.yearly];
        let spans =
            [p.within_hourly, p.within_daily, p.within_weekly, p.within_monthly, p.within_yearly];
        let after = |span: Within| Limit::After(newest.map(|newest| span.before(newest)));
        let counting = PERIODS.iter().zip(counts).filter(|(_, count)| *count > 0).map(
            |((name, period), count)| Rule {
                limit: Limit::Left(count),
                period: *period,
                last: None,
                reason: format!("{name} snapshot"),
            },
        );
        let spanning = PERIODS.iter().zip(spans).filter(|(_, span)| !span.is_zero()).map(
            |((name, period), span)| Rule {
                limit: after(span),
                period: *period,
                last: None,
                reason: format!("{name} within {span}"),
            },
        );
        Self {
            newest_left: p.last,
            within: (!p.within.is_zero())
                .then(|| (after(p.within), format!("within {}", p.within))),
            periodic: counting.chain(spanning).collect(),
        }
    }

    fn reasons(&mut self, snapshot: &Snapshot, policy: &KeepPolicy, oldest: bool) -> Vec<String> {
        let time = &snapshot.time;
        let mut reasons = Vec::new();
        for tags in policy.tags.iter().filter(|tags| tags.names(snapshot)) {
            reasons.push(format!("has tags {tags}"));
        }
        if let Some((limit, reason)) = &self.within
            && limit.allows(time)
        {
            reasons.push(reason.clone());
        }
        if self.newest_left > 0 {
            spend(&mut self.newest_left);
            reasons.push("last snapshot".into());
        }
        for rule in self.periodic.iter_mut().filter(|rule| rule.limit.allows(time)) {
            let period = (rule.period)(time);
            if rule.last != Some(period) {
                reasons.push(rule.reason.clone());
            } else if oldest {
                reasons.push(format!("oldest {}", rule.reason));
            } else {
                continue;
            }
            rule.last = Some(period);
            rule.limit.spend();
        }
        reasons
    }
}

impl Limit {
    fn allows(&self, time: &DateTime<FixedOffset>) -> bool {
        match self {
            Self::Left(left) => *left > 0,
            Self::After(start) => start.is_none_or(|start| *time > start),
        }
    }

    fn spend(&mut self) {
        if let Self::Left(left) = self {
            spend(left);
        }
    }
}

fn spend(left: &mut u32) {
    if *left != UNLIMITED {
        *left -= 1;
    }
}

#[cfg(test)]
mod tests;
