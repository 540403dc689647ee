//! What a scrape shows: every group's families and push times, and the gateway's own, merged by name.
use std::collections::BTreeMap;

use crate::{exposition::render, family::Family, groups::Group};

/// The text of a scrape. Of several help texts for one name the gateway's own wins, else that of the first group.
pub fn text(groups: &[Group], own: Vec<Family>) -> String {
    let mut merged: BTreeMap<String, Family> = BTreeMap::new();
    for family in own {
        merged.insert(family.name.clone(), family);
    }
    for group in groups {
        for family in group.stamps() {
            merge(&mut merged, &family);
        }
        for stored in group.families.values() {
            merge(&mut merged, &stored.family);
        }
    }
    render(merged.values())
}

fn merge(merged: &mut BTreeMap<String, Family>, family: &Family) {
    match merged.get_mut(&family.name) {
        None => {
            merged.insert(family.name.clone(), family.clone());
        }
        Some(there) => {
            if there.help.as_deref().unwrap_or_default().is_empty() {
                there.help.clone_from(&family.help);
            }
            there.series.extend(family.series.iter().cloned());
        }
    }
}
