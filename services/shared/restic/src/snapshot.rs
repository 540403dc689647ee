//! The snapshot document, and how people name one.

use chrono::{DateTime, FixedOffset, Utc};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::id::Id;

mod summary;
mod tags;
pub use summary::SnapshotSummary;
pub use tags::TagList;

/// One snapshot of a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The id, which is the name of its file and not part of it.
    #[serde(skip, default = "Snapshot::unnamed")]
    pub id: Id,
    /// The moment it stands for.
    #[serde(serialize_with = "crate::tree::as_go_does")]
    pub time: DateTime<FixedOffset>,
    /// The snapshot it was compared with while it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Id>,
    /// Its root tree.
    pub tree: Id,
    /// The paths it was made from.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub paths: Vec<String>,
    /// The host it was made on.
    #[serde(default)]
    pub hostname: String,
    /// The user it was made by.
    #[serde(default)]
    pub username: String,
    /// That user's id.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub uid: u32,
    /// That user's group.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub gid: u32,
    /// Patterns that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub excludes: Vec<String>,
    /// Labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_empty")]
    pub tags: Vec<String>,
    /// The snapshot this one is an altered copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub original: Option<Id>,
    /// The program that made it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub program_version: String,
    /// What the backup did; restic writes it since 0.17.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_readable")]
    pub summary: Option<SnapshotSummary>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Go writes a nil slice as null.
pub(crate) fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Nothing is lost with a summary that some program writes otherwise.
fn if_readable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SnapshotSummary>, D::Error> {
    let summary = Option::<serde_json::Value>::deserialize(deserializer)?;
    Ok(summary.and_then(|summary| serde_json::from_value(summary).ok()))
}

impl Snapshot {
    const fn unnamed() -> Id {
        Id::from_bytes([0; 32])
    }

    pub(crate) fn decode(id: Id, name: &str, json: &[u8]) -> Result<Self> {
        let snapshot: Self = serde_json::from_slice(json)
            .map_err(|source| Error::damaged_by(name, "is not a snapshot document", source))?;
        Ok(Self { id, ..snapshot })
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|source| Error::internal("encode snapshot", source))
    }

    /// When its document was written, as far as it says so.
    #[must_use]
    pub fn completed(&self) -> DateTime<FixedOffset> {
        self.summary.as_ref().map_or(self.time, |summary| summary.backup_end)
    }
}

/// Which snapshots count. Empty fields let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    /// The host must be one of these.
    pub hosts: Vec<String>,
    /// The snapshot must have all of these paths.
    pub paths: Vec<String>,
    /// One of these lists must name the snapshot.
    pub tags: Vec<TagList>,
}

impl SnapshotFilter {
    /// Whether the snapshot counts.
    #[must_use]
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.hostname))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
            && (self.tags.is_empty() || self.tags.iter().any(|tags| tags.names(snapshot)))
    }

    /// Whether this snapshot was [`latest`](SnapshotRef::Latest) at some moment since: none of those that pass is
    /// newer and was complete by then.
    #[must_use]
    pub fn was_latest_since(
        &self,
        since: DateTime<Utc>,
        snapshot: &Snapshot,
        snapshots: &[Snapshot],
    ) -> bool {
        let newer = |other: &&Snapshot| (other.time, other.id) > (snapshot.time, snapshot.id);
        self.matches(snapshot)
            && snapshots
                .iter()
                .filter(|other| self.matches(other))
                .filter(newer)
                .all(|newer| newer.completed() > since)
    }

    fn describe(&self) -> String {
        let tags: Vec<String> = self.tags.iter().map(ToString::to_string).collect();
        let parts = [
            ("host", self.hosts.join(" or ")),
            ("path", self.paths.join(" and ")),
            ("tags", tags.join(" or ")),
        ];
        let given = parts.iter().filter(|(_, values)| !values.is_empty());
        given.map(|(what, values)| format!(" with {what} {values}")).collect()
    }
}

/// How a snapshot is named: `latest`, or an id or its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The newest one that passes the filter.
    Latest,
    /// The one whose id begins with these hex digits; the filter does not apply.
    Prefix(String),
}

impl std::str::FromStr for SnapshotRef {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        let hex = text.bytes().all(|b| b.is_ascii_hexdigit());
        if !hex || text.is_empty() || text.len() > 64 {
            let problem = "is neither \"latest\" nor the beginning of a snapshot id";
            return Err(Error::invalid(format!("snapshot {text:?}"), problem));
        }
        Ok(Self::Prefix(text.to_ascii_lowercase()))
    }
}

impl SnapshotRef {
    /// The snapshot meant, of those given.
    ///
    /// # Errors
    /// [`Error::NoSnapshot`], or [`Error::AmbiguousSnapshot`] if a prefix names several.
    pub fn pick(&self, snapshots: &[Snapshot], filter: &SnapshotFilter) -> Result<Snapshot> {
        let missing = |wanted: String| Error::NoSnapshot { wanted };
        match self {
            Self::Latest => snapshots
                .iter()
                .filter(|snapshot| filter.matches(snapshot))
                // Ties are broken by id, so that two callers never disagree.
                .max_by_key(|snapshot| (snapshot.time, snapshot.id))
                .cloned()
                .ok_or_else(|| missing(format!("\"latest\"{}", filter.describe()))),
            Self::Prefix(prefix) => {
                let mut matching =
                    snapshots.iter().filter(|s| s.id.to_string().starts_with(prefix.as_str()));
                let first = matching.next().ok_or_else(|| missing(format!("the id {prefix}")))?;
                match matching.next() {
                    None => Ok(first.clone()),
                    Some(second) => Err(Error::AmbiguousSnapshot {
                        prefix: prefix.clone(),
                        first: first.id,
                        second: second.id,
                    }),
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn snapshot(id: u8, time: &str) -> Snapshot {
        Snapshot {
            id: Id::from_bytes([id; 32]),
            time: DateTime::parse_from_rfc3339(time).unwrap(),
            parent: None,
            tree: Id::of(b"tree"),
            paths: vec!["/dump.rdb".into()],
            hostname: "host-0".into(),
            username: "coffer".into(),
            uid: 0,
            gid: 0,
            excludes: Vec::new(),
            tags: Vec::new(),
            original: None,
            program_version: String::new(),
            summary: None,
        }
    }

    #[test]
    fn latest_is_the_newest_that_passes() {
        let mut all = vec![
            snapshot(1, "2026-01-01T00:00:00Z"),
            snapshot(2, "2026-01-03T00:00:00+02:00"),
            snapshot(3, "2026-01-02T23:00:00Z"),
        ];
        all[2].hostname = "other".into();
        let everyone = SnapshotFilter::default();
        let ours = SnapshotFilter { hosts: vec!["host-0".into()], ..Default::default() };
        assert_eq!(SnapshotRef::Latest.pick(&all, &everyone).unwrap().id, all[2].id);
        assert_eq!(SnapshotRef::Latest.pick(&all, &ours).unwrap().id, all[1].id);
        let nobody = SnapshotFilter { tags: vec!["x".into(), "y,z".into()], ..ours };
        let error = SnapshotRef::Latest.pick(&all, &nobody).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no snapshot matches \"latest\" with host host-0 with tags [x] or [y, z]"
        );
    }

    #[test]
    fn what_was_latest_may_have_been_overtaken_since() {
        let mut all = vec![
            snapshot(1, "2026-01-01T00:00:00Z"),
            snapshot(2, "2026-01-02T00:00:00Z"),
            snapshot(3, "2026-01-03T00:00:00Z"),
        ];
        let everyone = SnapshotFilter::default();
        let latest_since = |all: &[Snapshot], filter: &SnapshotFilter, since: &str| {
            let since = since.parse().unwrap();
            let was = |snapshot| filter.was_latest_since(since, snapshot, all);
            all.iter().map(was).collect::<Vec<_>>()
        };
        let before_all = latest_since(&all, &everyone, "2025-12-31T00:00:00Z");
        assert_eq!(before_all, [true, true, true]);
        assert_eq!(latest_since(&all, &everyone, "2026-01-02T12:00:00Z"), [false, true, true]);
        assert_eq!(latest_since(&all, &everyone, "2026-01-03T00:00:00Z"), [false, false, true]);
        // What was begun before and completed after did not count yet.
        all[2].summary = Some(SnapshotSummary {
            backup_end: "2026-01-04T00:00:00+01:00".parse().unwrap(),
            ..SnapshotSummary::of_nothing(all[2].time)
        });
        assert_eq!(latest_since(&all, &everyone, "2026-01-03T12:00:00Z"), [false, true, true]);
        assert_eq!(latest_since(&all, &everyone, "2026-01-03T23:00:00Z"), [false, false, true]);
        // Others' do not count, and are not opened.
        all[2].hostname = "other".into();
        let ours = SnapshotFilter { hosts: vec!["host-0".into()], ..Default::default() };
        assert_eq!(latest_since(&all, &ours, "2026-01-05T00:00:00Z"), [false, true, false]);
    }

    #[test]
    fn prefixes_name_one_snapshot_or_fail() {
        let all =
            vec![snapshot(0x12, "2026-01-01T00:00:00Z"), snapshot(0x13, "2026-01-01T00:00:00Z")];
        let filter = SnapshotFilter::default();
        let pick = |text: &str| text.parse::<SnapshotRef>().unwrap().pick(&all, &filter);
        assert_eq!(pick("12").unwrap().id, all[0].id);
        assert!(matches!(pick("1"), Err(Error::AmbiguousSnapshot { .. })));
        assert!(matches!(pick("ff"), Err(Error::NoSnapshot { .. })));
        assert!("../etc".parse::<SnapshotRef>().is_err());
    }

    #[test]
    fn restics_documents_are_read() {
        let json = br#"{"time":"2026-01-02T03:04:05.123456789+01:00","tree":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","paths":["/dumpfile.resp"],"hostname":"h","username":"root","excludes":null,"tags":null}"#;
        let snapshot = Snapshot::decode(Id::of(b""), "snapshots/x", json).unwrap();
        assert_eq!(snapshot.paths, ["/dumpfile.resp"]);
        let text = String::from_utf8(snapshot.encode().unwrap()).unwrap();
        assert!(text.contains("2026-01-02T03:04:05.123456789+01:00"), "{text}");
        assert!(!text.contains("tags") && !text.contains("uid"), "{text}");

        let with_summary = |summary: &str| {
            let json = text.replace(r#""hostname""#, &format!(r#""summary":{summary},"hostname""#));
            Snapshot::decode(Id::of(b""), "snapshots/x", json.as_bytes()).unwrap()
        };
        let since_17 = with_summary(
            r#"{"backup_start":"2026-01-02T03:04:05+01:00","backup_end":"2026-01-02T03:04:09.5+01:00","files_new":1,"files_changed":0,"files_unmodified":0,"dirs_new":0,"dirs_changed":0,"dirs_unmodified":0,"data_blobs":2,"tree_blobs":1,"data_added":900,"data_added_packed":500,"total_files_processed":1,"total_bytes_processed":600}"#,
        );
        assert_eq!(since_17.completed().to_rfc3339(), "2026-01-02T03:04:09.500+01:00");
        assert_eq!(since_17.summary.as_ref().unwrap().total_bytes_processed, 600);
        let encoded = since_17.encode().unwrap();
        assert_eq!(Snapshot::decode(since_17.id, "snapshots/x", &encoded).unwrap(), since_17);
        assert_eq!(with_summary(r#"{"backup_end":"yesterday"}"#).completed(), snapshot.time);
    }
}
