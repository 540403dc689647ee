//! Check: is everything there that snapshots need, and is it what it claims to be?
//!
//! A check never stops at the first finding: each damaged object becomes a [`Problem`] that names it.
//! Only a store that does not answer is an error. It runs under a shared lock, beside backups: the
//! snapshots are listed first, then the index, then the packs, so that whatever an earlier list
//! refers to is in the later ones.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, stream};

use crate::encode;
use crate::error::{Error, Kind, Result};
use crate::id::Id;
use crate::key::KeyFile;
use crate::lock::{self, Mode};
use crate::pack::{self, IndexedPack, PackedBlob};
use crate::repository::{Inner, Repository};
use crate::shared_index;
use crate::snapshot::Snapshot;
use crate::store::FileKind;
use crate::used;

/// Packs read at a time with `read_data`; each is in memory as a whole.
const PACK_READS: usize = 2;

/// How deep to look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Also read, decrypt and hash every blob of every pack.
    pub read_data: bool,
}

/// What was looked at and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Snapshots seen.
    pub snapshots: u64,
    /// Packs seen.
    pub packs: u64,
    /// Blobs seen in the index.
    pub blobs: u64,
    /// Bytes of pack data read (with `read_data`).
    pub bytes_read: u64,
    /// Damage: data is or may be lost.
    pub problems: Vec<Problem>,
    /// Oddities that lose nothing, such as packs no index lists (an interrupted backup's).
    pub notes: Vec<Problem>,
}

impl Report {
    /// Whether the repository is sound.
    #[must_use]
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, file: impl Into<String>, problem: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), problem: problem.into() });
    }

    /// Damage becomes a finding; anything else ends the check.
    fn note_failure(&mut self, file: String, error: Error) -> Result<()> {
        match error.kind() {
            Kind::Corrupt | Kind::NotFound | Kind::Invalid => {
                self.problem(file, error.chain());
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The object it is about.
    pub file: String,
    /// What is wrong.
    pub problem: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.file, self.problem)
    }
}

impl Repository {
    /// Checks the whole repository.
    ///
    /// # Errors
    /// [`Error::Locked`], and errors of the store other than missing objects. Damage is no error
    /// but in the report.
    pub async fn check(&self, options: &Options) -> Result<Report> {
        let lock = self.inner.lock_for_reading(Mode::Shared).await?;
        lock::during(lock, self.look(options)).await
    }

    async fn look(&self, options: &Options) -> Result<Report> {
        let inner = &self.inner;
        let mut report = Report::default();
        check_keys(inner, &mut report).await?;
        let snapshots = check_snapshots(inner, &mut report).await?;
        let files = check_index(inner, &mut report).await?;
        let packs = check_packs(inner, &files, &mut report).await?;
        let index = used::index_of(&files);
        let (_, failures) = used::walk(inner, &index, &snapshots).await;
        for failure in failures {
            report.note_failure("snapshots".into(), failure)?;
        }
        if options.read_data {
            read_packs(inner, packs, &mut report).await?;
        }
        report.problems.sort();
        report.problems.dedup();
        report.notes.sort();
        Ok(report)
    }
}

async fn check_keys(inner: &Inner, report: &mut Report) -> Result<()> {
    let store = &inner.vault.store;
    for (id, _) in store.list(FileKind::Key).await? {
        let name = FileKind::Key.name(&id);
        match store.get(&name).await {
            Ok(json) if Id::of(&json) != id => {
                report.problem(name, "its content does not have the SHA-256 that is its name");
            }
            Ok(json) => {
                if let Err(error) = KeyFile::decode(&name, &json) {
                    report.note_failure(name, error)?;
                }
            }
            Err(error) => report.note_failure(name, error)?,
        }
    }
    Ok(())
}

async fn check_snapshots(inner: &Inner, report: &mut Report) -> Result<Vec<Snapshot>> {
    let mut snapshots = Vec::new();
    for (id, _) in inner.vault.store.list(FileKind::Snapshot).await? {
        match inner.load_snapshot(id).await {
            Ok(Some(snapshot)) => snapshots.push(snapshot),
            // Deleted since it was listed.
            Ok(None) => {}
            Err(error) => report.note_failure(FileKind::Snapshot.name(&id), error)?,
        }
    }
    report.snapshots = snapshots.len() as u64;
    Ok(snapshots)
}

async fn check_index(inner: &Inner, report: &mut Report) -> Result<Vec<(Id, Vec<IndexedPack>)>> {
    let listed = inner.vault.store.list(FileKind::Index).await?;
    let ids = listed.into_iter().map(|(id, _)| id).collect();
    let mut files = Vec::new();
    for (id, loaded) in shared_index::load_each(&inner.vault, &inner.resources, ids).await {
        match loaded {
            Ok(packs) => files.push((id, packs)),
            Err(error) => report.note_failure(FileKind::Index.name(&id), error)?,
        }
    }
    Ok(files)
}

/// Compares index and listing; gives the packs that are there and listed.
async fn check_packs(
    inner: &Inner,
    files: &[(Id, Vec<IndexedPack>)],
    report: &mut Report,
) -> Result<Vec<IndexedPack>> {
    let listed = inner.vault.store.list(FileKind::Pack).await?;
    let sizes: HashMap<Id, u64> = listed.into_iter().collect();
    report.packs = sizes.len() as u64;
    let mut present = Vec::new();
    let mut seen = HashSet::new();
    for pack in files.iter().flat_map(|(_, packs)| packs) {
        if !seen.insert(pack.id) {
            continue;
        }
        report.blobs += pack.blobs.len() as u64;
        let name = FileKind::Pack.name(&pack.id);
        match sizes.get(&pack.id) {
            None => report.problem(name, "the index lists it, but it is missing"),
            Some(size) if *size != pack.size() => {
                let expected = pack.size();
                report.problem(name, format!("it has {size} bytes, by the index {expected}"));
            }
            Some(_) => present.push(pack.clone()),
        }
    }
    for id in sizes.keys().filter(|id| !seen.contains(id)) {
        let problem = "no index lists it; prune will remove it".into();
        report.notes.push(Problem { file: FileKind::Pack.name(id), problem });
    }
    Ok(present)
}

async fn read_packs(
    inner: &Arc<Inner>,
    packs: Vec<IndexedPack>,
    report: &mut Report,
) -> Result<()> {
    let mut reading = stream::iter(packs)
        .map(|pack| read_pack(Arc::clone(inner), pack))
        .buffer_unordered(PACK_READS);
    while let Some((name, read)) = reading.next().await {
        match read {
            Ok((bytes, problems)) => {
                report.bytes_read += bytes;
                for problem in problems {
                    report.problem(name.clone(), problem);
                }
            }
            Err(error) => report.note_failure(name, error)?,
        }
    }
    Ok(())
}

async fn read_pack(inner: Arc<Inner>, pack: IndexedPack) -> (String, Result<(u64, Vec<String>)>) {
    let name = FileKind::Pack.name(&pack.id);
    let read = async {
        let content = inner.vault.store.get(&name).await?;
        let key = inner.vault.key.clone();
        let verify = move || (content.len() as u64, verify_pack(&key, &pack, &content));
        inner.resources.compute("verify a pack", verify).await
    };
    let read = read.await;
    (name, read)
}

fn verify_pack(
    key: &crate::crypto::SealingKey,
    indexed: &IndexedPack,
    content: &[u8],
) -> Vec<String> {
    let mut problems = Vec::new();
    if Id::of(content) != indexed.id {
        problems.push("its content does not have the SHA-256 that is its name".to_owned());
    }
    let mut expected: Vec<PackedBlob> = indexed.blobs.clone();
    expected.sort_by_key(|blob| blob.offset);
    match pack::read_header(key, content) {
        Ok(found) if found == expected => {}
        Ok(_) => problems.push("its header and the index differ".into()),
        Err(error) => problems.push(error.to_string()),
    }
    for blob in expected {
        let range = || {
            let start = usize::try_from(blob.offset).ok()?;
            content.get(start..start.checked_add(usize::try_from(blob.length).ok()?)?)
        };
        let decoded = range()
            .ok_or_else(|| "it lies outside the pack".to_owned())
            .and_then(|sealed| encode::decode(key, &blob.id, sealed, blob.raw_length));
        if let Err(problem) = decoded {
            problems.push(format!("{} blob {}: {problem}", blob.kind.name(), blob.id));
        }
    }
    problems
}
