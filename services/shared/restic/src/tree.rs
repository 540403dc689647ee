//! The tree document: the names in a folder, and how restic writes it.
//!
//! Written exactly as restic would, byte for byte, because restic refuses to rewrite a tree that does
//! not survive its own decode and encode.

use std::collections::BTreeMap;

use chrono::{DateTime, FixedOffset};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::id::Id;

pub(crate) mod name;

/// A folder.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Tree {
    /// Sorted by name.
    #[serde(deserialize_with = "crate::snapshot::null_is_empty")]
    pub(crate) nodes: Vec<Node>,
}

/// A name in a folder. Fields in restic's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Node {
    /// As it is quoted: see [`name`].
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) mode: u32,
    #[serde(default = "epoch", serialize_with = "as_go_does")]
    pub(crate) mtime: DateTime<FixedOffset>,
    #[serde(default = "epoch", serialize_with = "as_go_does")]
    pub(crate) atime: DateTime<FixedOffset>,
    #[serde(default = "epoch", serialize_with = "as_go_does")]
    pub(crate) ctime: DateTime<FixedOffset>,
    #[serde(default)]
    pub(crate) uid: u32,
    #[serde(default)]
    pub(crate) gid: u32,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) inode: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) device_id: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub(crate) links: u64,
    #[serde(default)]
    pub(crate) content: Option<Vec<Id>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) subtree: Option<Id>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

fn epoch() -> DateTime<FixedOffset> {
    DateTime::UNIX_EPOCH.fixed_offset()
}

/// RFC 3339 with as many digits of a second as there are.
pub(crate) fn as_go_does<S: Serializer>(
    time: &DateTime<FixedOffset>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut text = time.format("%Y-%m-%dT%H:%M:%S").to_string();
    // Of a leap second there are more than a second's worth; it has its own number of seconds, 60.
    let nanos = format!("{:09}", time.timestamp_subsec_nanos() % 1_000_000_000);
    let digits = nanos.trim_end_matches('0');
    if !digits.is_empty() {
        text.push('.');
        text.push_str(digits);
    }
    if time.offset().local_minus_utc() == 0 {
        text.push('Z');
    } else {
        text.push_str(&time.format("%:z").to_string());
    }
    serializer.serialize_str(&text)
}

/// A file of a file system, whatever names it has there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    device: u64,
    number: u64,
}

impl Node {
    /// The file that this is a name of, if it had others.
    pub(crate) fn hard_link(&self) -> Option<Inode> {
        let linked = self.links > 1 && self.inode != 0;
        linked.then_some(Inode { device: self.device_id, number: self.inode })
    }
}

impl Tree {
    pub(crate) fn decode(name: &str, json: &[u8]) -> Result<Self> {
        serde_json::from_slice(json)
            .map_err(|source| Error::damaged_by(name, "is not a tree document", source))
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let mut json =
            serde_json::to_vec(self).map_err(|source| Error::internal("encode tree", source))?;
        json.push(b'\n');
        Ok(json)
    }
}

/// A file that is to get a name in a tree.
#[derive(Debug)]
pub(crate) struct FileNode {
    pub(crate) size: u64,
    pub(crate) content: Vec<Id>,
}

/// Folders and files by name, to be made into trees from the leaves up.
#[derive(Debug, Default)]
pub(crate) struct Folder {
    entries: BTreeMap<String, Entry>,
}

#[derive(Debug)]
enum Entry {
    File(FileNode),
    Folder(Folder),
}

impl Folder {
    /// Puts a file under an absolute path that [`check_path`] accepted. Fails if the path leads
    /// through a file or is taken.
    pub(crate) fn insert(&mut self, path: &str, file: FileNode) -> Result<()> {
        let taken = || Error::invalid(format!("file {path}"), "collides with another file");
        let (folders, name) = path.rsplit_once('/').ok_or_else(taken)?;
        let mut folder = self;
        for name in folders.split('/').filter(|name| !name.is_empty()) {
            let entry =
                folder.entries.entry(name.into()).or_insert_with(|| Entry::Folder(Self::default()));
            match entry {
                Entry::Folder(inner) => folder = inner,
                Entry::File(_) => return Err(taken()),
            }
        }
        match folder.entries.insert(name.into(), Entry::File(file)) {
            None => Ok(()),
            Some(_) => Err(taken()),
        }
    }

    /// Encodes this folder and those below it. `save` stores an encoded tree and gives its id;
    /// it sees children before their parents, and the root last.
    pub(crate) fn encode(
        self,
        time: DateTime<FixedOffset>,
        save: &mut impl FnMut(Vec<u8>) -> Id,
    ) -> Result<Id> {
        let mut nodes = Vec::with_capacity(self.entries.len());
        for (name, entry) in self.entries {
            nodes.push(match entry {
                Entry::File(file) => {
                    let content = Some(file.content);
                    node(name, "file", 0o644, time, file.size, content, None)
                }
                Entry::Folder(folder) => {
                    let subtree = folder.encode(time, save)?;
                    // Go's directory bit, which restic keeps in the mode.
                    let mode = 1 << 31 | 0o755;
                    node(name, "dir", mode, time, 0, None, Some(subtree))
                }
            });
        }
        Ok(save(Tree { nodes }.encode()?))
    }
}

fn node(
    name: String,
    kind: &str,
    mode: u32,
    time: DateTime<FixedOffset>,
    size: u64,
    content: Option<Vec<Id>>,
    subtree: Option<Id>,
) -> Node {
    Node {
        name,
        kind: kind.into(),
        mode,
        mtime: time,
        atime: time,
        ctime: time,
        uid: 0,
        gid: 0,
        inode: 0,
        device_id: 0,
        size,
        links: 0,
        content,
        subtree,
    }
}

/// Refuses paths that restic would write differently: it quotes names, and knows no dots.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"\\<>&".contains(&b) || b == b' ';
    let names = path.strip_prefix('/').unwrap_or_default();
    let sound = !names.is_empty()
        && names.split('/').all(|name| !matches!(name, "" | "." | "..") && name.bytes().all(plain));
    if sound {
        return Ok(());
    }
    let problem = "is not an absolute path of plain ASCII names";
    Err(Error::invalid(format!("path {path:?}"), problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[&[u8]]) -> FileNode {
        FileNode { size: 3, content: content.iter().map(|c| Id::of(c)).collect() }
    }

    #[test]
    fn trees_are_written_as_restic_does() {
        let mut root = Folder::default();
        root.insert("/dump.rdb", file(&[b"abc"])).unwrap();
        let time = DateTime::parse_from_rfc3339("2026-02-03T04:05:06.120+01:00").unwrap();
        let mut saved = Vec::new();
        root.encode(time, &mut |json| {
            saved.push(String::from_utf8(json).unwrap());
            Id::of(b"")
        })
        .unwrap();
        let at = r#""2026-02-03T04:05:06.12+01:00""#;
        let id = Id::of(b"abc");
        assert_eq!(
            saved,
            [format!(
                r#"{{"nodes":[{{"name":"dump.rdb","type":"file","mode":420,"mtime":{at},"atime":{at},"ctime":{at},"uid":0,"gid":0,"size":3,"content":["{id}"]}}]}}"#
            ) + "\n"]
        );
    }

    #[test]
    fn folders_come_before_their_parents_and_collisions_are_refused() {
        let mut root = Folder::default();
        root.insert("/b/c/d", file(&[])).unwrap();
        root.insert("/a", file(&[])).unwrap();
        assert!(root.insert("/a/x", file(&[])).is_err());
        assert!(root.insert("/a", file(&[])).is_err());
        assert!(root.insert("/b", file(&[])).is_err());
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in ["/a", "/a/b c.rdb", "/manifest.json"] {
            check_path(path).unwrap();
        }
        for path in ["", "/", "a", "//a", "/a/", "/a/../b", "/.", "/a\nb", "/ä", "/a\"", "/a\\b"] {
            assert!(check_path(path).is_err(), "{path}");
        }
    }
}
