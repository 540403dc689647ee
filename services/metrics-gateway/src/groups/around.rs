//! The store as one push sees it: what stays when the push is carried out.
use std::collections::{HashMap, HashSet};

use super::{Group, Mode, State};
use crate::{
    consistency::Surroundings,
    family::{Family, Kind, Labels, PUSH_FAILURE_TIME, PUSH_TIME},
};

/// The store, a group in it, and a push to that group.
pub(super) struct Around<'a> {
    own_kind: fn(&str) -> Option<Kind>,
    state: &'a State,
    pub(super) group: Option<&'a Group>,
    mode: Mode,
    /// For each pushed name, the series of it that the group has now: they make way.
    replaced: HashMap<&'a str, HashSet<&'a Labels>>,
}

impl<'a> Around<'a> {
    pub(super) fn new(
        own_kind: fn(&str) -> Option<Kind>,
        state: &'a State,
        group: Option<&'a Group>,
        families: &'a [Family],
        mode: Mode,
    ) -> Self {
        let replaced = families
            .iter()
            .map(|family| {
                let old = group.and_then(|group| group.families.get(&family.name));
                let old = old.iter().flat_map(|stored| &stored.family.series);
                (family.name.as_str(), old.map(|series| &series.labels).collect())
            })
            .collect();
        Self { own_kind, state, group, mode, replaced }
    }

    /// Whether the push takes this family of its group away or puts another in its place.
    pub(super) fn goes(&self, name: &str) -> bool {
        self.mode == Mode::Replace || self.replaced.contains_key(name)
    }

    fn in_group(&self, name: &str) -> Option<&Family> {
        Some(&self.group?.families.get(name)?.family)
    }
}

impl Surroundings for Around<'_> {
    fn own_kind(&self, name: &str) -> Option<Kind> {
        match name {
            PUSH_TIME | PUSH_FAILURE_TIME => Some(Kind::Gauge),
            name => (self.own_kind)(name),
        }
    }

    fn kind_elsewhere(&self, name: &str) -> Option<Kind> {
        let entry = self.state.names.get(name)?;
        let here = self.in_group(name).map_or(0, |family| family.series.len());
        (entry.series.len() > here).then_some(entry.kind)
    }

    fn has_elsewhere(&self, name: &str, labels: &Labels) -> bool {
        let there = self.state.names.get(name).is_some_and(|entry| entry.series.contains(labels));
        there && !self.replaced.get(name).is_some_and(|series| series.contains(labels))
    }

    fn kind_kept(&self, name: &str) -> Option<Kind> {
        let family = self.in_group(name)?;
        (!self.goes(name)).then_some(family.kind)
    }
}
