//! Lists of tags, as restic's `--tag` and `--keep-tag` take them. What snapshots they name decides what is deleted: so they
//! are read and compared as restic does it, oddities included.

use std::fmt;

use super::Snapshot;

/// Tags that a snapshot must all have. Several lists are alternatives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagList(Vec<String>);

impl From<&str> for TagList {
    /// Commas separate, and spaces around a tag are none of it. The empty text holds one tag, the empty one.
    fn from(text: &str) -> Self {
        Self(text.split(',').map(|tag| tag.trim().to_owned()).collect())
    }
}

impl TagList {
    /// Whether the snapshot has all of these tags. The empty tag stands for having none, and then what comes behind it
    /// does not count.
    #[must_use]
    pub fn names(&self, snapshot: &Snapshot) -> bool {
        for tag in &self.0 {
            if tag.is_empty() && snapshot.tags.is_empty() {
                return true;
            }
            if !snapshot.tags.contains(tag) {
                return false;
            }
        }
        true
    }
}

impl fmt::Display for TagList {
    /// `[a, b]`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}]", self.0.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::snapshot;
    use super::*;

    /// What `restic snapshots --tag` shows; `forget`'s tests ask restic itself, with random ones.
    #[test]
    fn a_list_names_what_restic_says() {
        let tagged = |tags: &[&str]| {
            let mut snapshot = snapshot(1, "2026-01-01T00:00:00Z");
            snapshot.tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
            snapshot
        };
        let all = [tagged(&[]), tagged(&["x"]), tagged(&["x", "y"]), tagged(&["y", "z"])];
        for (list, named) in [
            ("", [true, false, false, false]),
            (" ", [true, false, false, false]),
            ("x", [false, true, true, false]),
            (" x , y ", [false, false, true, false]),
            ("z,x", [false, false, false, false]),
            (",x", [true, false, false, false]),
            ("x,", [false, false, false, false]),
        ] {
            assert_eq!(all.each_ref().map(|one| TagList::from(list).names(one)), named, "{list:?}");
        }
        assert_eq!(TagList::from("x ,y").to_string(), "[x, y]");
    }
}
