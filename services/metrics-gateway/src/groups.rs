//! The store: groups of metric families by grouping key, in memory.
//!
//! Its invariant is that a scrape of it always succeeds: one type per name, no series twice, valid names, and bounds on
//! how much there is. Every push is checked against that before anything changes, under one lock, so pushes need no
//! queue: when `push` returns, the next scrape shows it.
mod around;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use parking_lot::RwLock;

use self::around::Around;
use crate::{
    consistency::{self, Violation, Violations},
    family::{Family, Kind, Labels, PUSH_FAILURE_TIME, PUSH_TIME, Series, Value},
};

/// How much may be stored. What goes beyond is refused; nothing that is there is ever dropped to make room.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Grouping keys.
    pub groups: usize,
    /// Series over all groups.
    pub series: usize,
}

/// What happens to the group's families that a push does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// They stay: POST.
    Merge,
    /// They go: PUT.
    Replace,
}

/// One push, parsed.
#[derive(Debug)]
pub struct Push {
    /// Grouping key, `job` included.
    pub grouping: Labels,
    /// Each name once.
    pub families: Vec<Family>,
    /// Whether any sample carried a timestamp.
    pub timestamps: bool,
    /// What goes.
    pub mode: Mode,
}

/// Why a push was not stored. The group and all others are as before, but for the time of the failure.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum Rejected {
    /// It breaks the rules of a scrape.
    #[error("pushed metrics are invalid or inconsistent with existing metrics: {0}")]
    Inconsistent(Violations),
    /// No room for another group.
    #[error(
        "the gateway holds {0} groups, as many as it may: delete groups that nobody needs, or raise --push.max-groups"
    )]
    TooManyGroups(usize),
    /// No room for that many series.
    #[error(
        "with this push the gateway would hold {wanted} series, but it may hold {limit}: delete groups that nobody \
         needs, or raise --push.max-series"
    )]
    TooManySeries {
        /// After the push.
        wanted: usize,
        /// The limit.
        limit: usize,
    },
}

/// A family as it was pushed, and when.
#[derive(Debug, PartialEq)]
pub struct Stored {
    /// With final labels.
    pub family: Family,
    /// When it came.
    pub at: DateTime<Utc>,
}

/// What one grouping key holds. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Without the empty `instance` that its series carry.
    pub grouping: Labels,
    /// By name.
    pub families: BTreeMap<String, Arc<Stored>>,
    /// The last push that was stored.
    pub pushed: Option<DateTime<Utc>>,
    /// The last push that was parsed but rejected.
    pub failed: Option<DateTime<Utc>>,
}

/// The store.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    own_kind: fn(&str) -> Option<Kind>,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the labels that every series of the group carries: two keys that differ only in an empty `instance` would
    /// yield the same series, so they are one place.
    groups: BTreeMap<Labels, Group>,
    names: HashMap<String, Name>,
    series: usize,
    /// Counts changes, so that persisting knows whether there is something to do.
    version: u64,
}

/// All series of one name, over all groups.
#[derive(Debug)]
struct Name {
    kind: Kind,
    series: HashSet<Labels>,
}

impl Store {
    /// An empty store. `own_kind` knows the families that the gateway itself adds to a scrape.
    pub fn new(limits: Limits, own_kind: fn(&str) -> Option<Kind>) -> Self {
        Self { limits, own_kind, state: RwLock::default() }
    }

    /// Checks and stores a push.
    ///
    /// # Errors
    /// When it is rejected; the group's failure time is then set, and nothing else.
    pub fn push(&self, push: Push, now: DateTime<Utc>) -> Result<(), Rejected> {
        let mut state = self.state.write();
        let Push { grouping, families, timestamps, mode } = push;
        let place = Labels::default().in_group(&grouping);
        let old = state.groups.get(&place);
        if let Some(other) = old.filter(|group| group.grouping != grouping) {
            // Two keys for the same series. The failure is the pusher's, not that of the group which is there.
            let series = stamp(&other.grouping, other.pushed);
            let violation = Violation::Duplicate {
                name: PUSH_TIME.to_owned(),
                series: consistency::describe(Kind::Gauge, &series),
            };
            return Err(Rejected::Inconsistent(Violations(vec![violation])));
        }
        if old.is_none() && state.groups.len() >= self.limits.groups {
            return Err(Rejected::TooManyGroups(self.limits.groups));
        }
        let families = settle(families, &grouping);
        if let Err(rejected) = self.admit(&state, &place, &families, timestamps, mode) {
            state.group(place, grouping).failed = Some(now);
            state.version += 1;
            return Err(rejected);
        }
        state.group(place.clone(), grouping).pushed = Some(now);
        if mode == Mode::Replace {
            state.clear(&place);
        }
        for family in families {
            state.put(&place, family, now);
        }
        state.version += 1;
        Ok(())
    }

    fn admit(
        &self,
        state: &State,
        place: &Labels,
        families: &[Family],
        timestamps: bool,
        mode: Mode,
    ) -> Result<(), Rejected> {
        if timestamps {
            return Err(Rejected::Inconsistent(Violations(vec![Violation::Timestamp])));
        }
        let around = Around::new(self.own_kind, state, state.groups.get(place), families, mode);
        let violations = consistency::check(families, &around);
        if !violations.is_empty() {
            return Err(Rejected::Inconsistent(Violations(violations)));
        }
        let old = around.group.iter().flat_map(|group| group.families.values());
        let gone = old.filter(|stored| around.goes(&stored.family.name));
        let gone: usize = gone.map(|stored| stored.family.series.len()).sum();
        let new: usize = families.iter().map(|family| family.series.len()).sum();
        let wanted = state.series - gone + new;
        if wanted > self.limits.series {
            return Err(Rejected::TooManySeries { wanted, limit: self.limits.series });
        }
        Ok(())
    }

    /// Removes a group, if there is one.
    pub fn delete(&self, grouping: &Labels) {
        let mut state = self.state.write();
        let place = Labels::default().in_group(grouping);
        if state.groups.get(&place).is_some_and(|group| group.grouping == *grouping) {
            state.clear(&place);
            state.groups.remove(&place);
            state.version += 1;
        }
    }

    /// All groups as they are now, and the count of changes that led there.
    pub fn groups(&self) -> (Vec<Group>, u64) {
        let state = self.state.read();
        (state.groups.values().cloned().collect(), state.version)
    }

    /// The count of changes so far.
    pub fn version(&self) -> u64 {
        self.state.read().version
    }

    /// Puts back what [`Store::groups`] once gave. Checked like pushes, but for the limits: what was accepted once is
    /// kept even if they were lowered since.
    ///
    /// # Errors
    /// When a group does not fit those before it.
    pub fn restore(&self, group: Group) -> Result<(), Rejected> {
        let mut state = self.state.write();
        let place = Labels::default().in_group(&group.grouping);
        let families: Vec<Family> =
            group.families.values().map(|stored| stored.family.clone()).collect();
        let families = settle(families, &group.grouping);
        let unlimited = Self {
            limits: Limits { groups: usize::MAX, series: usize::MAX },
            own_kind: self.own_kind,
            state: RwLock::default(),
        };
        unlimited.admit(&state, &place, &families, false, Mode::Replace)?;
        let target = state.group(place.clone(), group.grouping);
        target.pushed = group.pushed;
        target.failed = group.failed;
        for family in families {
            let at = group.families.get(&family.name).map(|stored| stored.at);
            state.put(&place, family, at.unwrap_or_default());
        }
        Ok(())
    }
}

/// Final labels, and without the two gauges that only the gateway sets.
fn settle(families: Vec<Family>, grouping: &Labels) -> Vec<Family> {
    let mut families: Vec<Family> = families
        .into_iter()
        .filter(|family| family.name != PUSH_TIME && family.name != PUSH_FAILURE_TIME)
        .filter(|family| !family.series.is_empty())
        .collect();
    for series in families.iter_mut().flat_map(|family| &mut family.series) {
        series.labels = series.labels.in_group(grouping);
    }
    families
}

/// A group's push time as a series.
fn stamp(grouping: &Labels, at: Option<DateTime<Utc>>) -> Series {
    let labels = Labels::default().in_group(grouping);
    Series { labels, value: Value::Number(unix_seconds(at)) }
}

impl Group {
    /// The gauges `push_time_seconds` and `push_failure_time_seconds`; 0 stands for never.
    pub fn stamps(&self) -> [Family; 2] {
        let gauge = |name: &str, verb: &str, at| Family {
            name: name.to_owned(),
            help: Some(format!(
                "Last Unix time when changing this group in the Pushgateway {verb}."
            )),
            kind: Kind::Gauge,
            series: vec![stamp(&self.grouping, at)],
        };
        [
            gauge(PUSH_TIME, "succeeded", self.pushed),
            gauge(PUSH_FAILURE_TIME, "failed", self.failed),
        ]
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "nanoseconds as a float, as the original computes them"
)]
fn unix_seconds(at: Option<DateTime<Utc>>) -> f64 {
    at.and_then(|at| at.timestamp_nanos_opt()).map_or(0.0, |nanos| nanos as f64 / 1e9)
}

impl State {
    fn group(&mut self, place: Labels, grouping: Labels) -> &mut Group {
        self.groups.entry(place).or_insert_with(|| Group {
            grouping,
            families: BTreeMap::new(),
            pushed: None,
            failed: None,
        })
    }

    fn put(&mut self, place: &Labels, family: Family, at: DateTime<Utc>) {
        self.remove(place, &family.name);
        self.series += family.series.len();
        let name = self
            .names
            .entry(family.name.clone())
            .or_insert_with(|| Name { kind: family.kind, series: HashSet::new() });
        name.kind = family.kind;
        name.series.extend(family.series.iter().map(|series| series.labels.clone()));
        if let Some(group) = self.groups.get_mut(place) {
            group.families.insert(family.name.clone(), Arc::new(Stored { family, at }));
        }
    }

    fn remove(&mut self, place: &Labels, name: &str) {
        let old = self.groups.get_mut(place).and_then(|group| group.families.remove(name));
        let Some(old) = old else { return };
        self.series -= old.family.series.len();
        if let Some(entry) = self.names.get_mut(name) {
            for series in &old.family.series {
                entry.series.remove(&series.labels);
            }
            if entry.series.is_empty() {
                self.names.remove(name);
            }
        }
    }

    fn clear(&mut self, place: &Labels) {
        let names: Vec<String> = self
            .groups
            .get(place)
            .iter()
            .flat_map(|group| group.families.keys().cloned())
            .collect();
        for name in names {
            self.remove(place, &name);
        }
    }
}

#[cfg(test)]
mod tests;
