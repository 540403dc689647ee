//! What the fuzz targets feed: each reader of a format that others write, on any bytes. Whoever holds a repository's key, or
//! a store whose memory fails, can put anything into it. The answer may be an error, and what is taken is the same after it
//! was written and read again; anything else panics. Nothing else uses this.

#![allow(clippy::panic, clippy::expect_used, reason = "a panic is how a finding is told")]

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::crypto::SealingKey;
use crate::forget::{self, GroupBy, KeepPolicy};
use crate::id::Id;
use crate::index::Index;
use crate::index_file;
use crate::key::{KeyFile, Password};
use crate::lock;
use crate::pack::{self, HeaderError};
use crate::snapshot::Snapshot;
use crate::tree::Tree;

fn key() -> SealingKey {
    SealingKey::from_bytes(&[7; 64])
}

/// The plain header of a pack, and then the same sealed at the end of a pack of a size that the first bytes tell.
pub fn pack_header(bytes: &[u8]) {
    let Some((size, header)) = bytes.split_first_chunk::<2>() else { return };
    let mut packed = vec![0; usize::from(u16::from_le_bytes(*size))];
    let sealed = key().seal(header).expect("random bytes can be had");
    packed.extend_from_slice(&sealed);
    packed.extend_from_slice(&u32::try_from(sealed.len()).unwrap_or(u32::MAX).to_le_bytes());
    match pack::read_header(&key(), &packed) {
        Ok(blobs) => assert_eq!(pack::size_of(&blobs), packed.len() as u64),
        Err(HeaderError::Ragged | HeaderError::UnknownType(_) | HeaderError::WrongSize) => {}
        Err(error) => panic!("{error}"),
    }
    // As it came: nothing but what we have sealed can be opened.
    assert!(pack::read_header(&key(), bytes).is_err());
}

/// The document of an index file.
pub fn index(bytes: &[u8]) {
    let Ok(packs) = index_file::decode("index", bytes) else { return };
    let again = index_file::encode(&packs).expect("what was read can be written");
    assert_eq!(index_file::decode("index", &again).expect("and read again"), packs);
    let listed: usize = packs.iter().map(|pack| pack.blobs.len()).sum();
    let files = index_file::split(packs.clone());
    let split: usize = files.iter().flatten().map(|pack| pack.blobs.len()).sum();
    assert_eq!(split, listed);
    let mut index = Index::default();
    index.add_file(Id::of(bytes), &packs);
    for blob in packs.iter().flat_map(|pack| &pack.blobs) {
        let place = index.get(blob.kind, &blob.id).expect("it was added");
        let _ = place.content_length();
    }
    for pack in &packs {
        let _ = pack.size();
    }
}

/// Documents of snapshots, a line each; a policy is applied to those that can be read.
pub fn snapshots(bytes: &[u8]) {
    let mut read = Vec::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        let Ok(snapshot) = Snapshot::decode(Id::of(line), "snapshot", line) else { continue };
        let again = snapshot.encode().expect("what was read can be written");
        let again = Snapshot::decode(snapshot.id, "snapshot", &again).expect("and read again");
        assert_eq!(again, snapshot);
        read.push(snapshot);
    }
    let policy = KeepPolicy {
        last: 1,
        hourly: 2,
        daily: 2,
        weekly: 2,
        monthly: 2,
        yearly: 2,
        within: "1y2m3d4h".parse().expect("it is a span"),
        within_weekly: "2m".parse().expect("it is a span"),
        ..KeepPolicy::default()
    };
    let count = read.len();
    let now: DateTime<Utc> = DateTime::from_timestamp(1_800_000_000, 0).expect("it is a time");
    let groups = forget::plan(read, GroupBy::default(), &policy, now);
    let planned: usize = groups.iter().map(|group| group.keep.len() + group.remove.len()).sum();
    assert_eq!(planned, count, "each snapshot is kept or removed");
    assert!(groups.iter().all(|group| !group.keep.is_empty()), "the last one is kept");
}

/// The document of a tree.
pub fn tree(bytes: &[u8]) {
    let Ok(tree) = Tree::decode("tree", bytes) else { return };
    let written = tree.encode().expect("what was read can be written");
    let again = Tree::decode("tree", &written).expect("and read again");
    assert_eq!(again.encode().expect("and written again"), written);
}

/// The document of a key file. Its password is derived as it says, if that is cheap.
pub fn key_file(bytes: &[u8]) {
    let Ok(file) = KeyFile::decode("key", bytes) else { return };
    let written = file.encode().expect("what was read can be written");
    let again = KeyFile::decode("key", &written).expect("and read again");
    assert_eq!(again.encode().expect("and written again"), written);
    if file.is_cheap() {
        let opened = file.open("key", &Password::new("not the one"));
        assert!(!matches!(opened, Ok(Some(_))), "a wrong password opens nothing");
    }
}

/// The document of the config.
pub fn config(bytes: &[u8]) {
    let Ok(config) = Config::decode(bytes) else { return };
    let again = config.encode().expect("what was read can be written");
    assert_eq!(Config::decode(&again).expect("and read again"), config);
}

/// The document of a lock file.
pub fn lock_file(bytes: &[u8]) {
    lock::read_any(bytes);
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// What was found once stays mended.
    #[test]
    fn the_kept_corpus_passes() {
        type Reader = fn(&[u8]);
        let readers: [(&str, Reader); 7] = [
            ("pack", super::pack_header),
            ("index", super::index),
            ("snapshots", super::snapshots),
            ("tree", super::tree),
            ("key", super::key_file),
            ("config", super::config),
            ("lock", super::lock_file),
        ];
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/fuzz/corpus");
        for (name, read) in readers {
            let folder = corpus.join(format!("restic-{name}"));
            let mut files = 0;
            for file in std::fs::read_dir(&folder).unwrap() {
                read(&std::fs::read(file.unwrap().path()).unwrap());
                files += 1;
            }
            assert!(files > 0, "{}", folder.display());
        }
    }
}
