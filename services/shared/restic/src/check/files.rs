//! The files one by one: config, keys, locks, snapshots, and the index against the packs that are there.

use std::collections::HashMap;

use futures::{StreamExt, stream};

use super::Report;
use crate::catalog::Catalog;
use crate::config::Config;
use crate::error::Result;
use crate::id::Id;
use crate::key::KeyFile;
use crate::lock::Mode;
use crate::progress::Observer;
use crate::repository::{Inner, LISTED_ONLY, MISNAMED_SNAPSHOT, is_misnamed_snapshot};
use crate::snapshot::Snapshot;
use crate::store::{CONFIG, FileKind};
use crate::vault::Vault;

/// Files fetched at a time.
const FETCHES: usize = 8;

const MISNAMED: &str = "its content does not have the SHA-256 that is its name";

/// The config may have been damaged since the repository was opened.
pub(super) async fn check_config(inner: &Inner, report: &mut Report) -> Result<()> {
    let store = &inner.vault.store;
    let config = async {
        let sealed = store.get(CONFIG).await?;
        Config::decode(&Vault::open_config(&inner.vault.key, store, &sealed)?)
    };
    match config.await {
        // Its version may have been upgraded since.
        Ok(Config { version: _, id, polynomial })
            if (id, polynomial) == (inner.config.id, inner.config.polynomial) => {}
        Ok(_) => report.problem(CONFIG, "it is another one than when the repository was opened"),
        Err(error) => report.note_failure(CONFIG.into(), error)?,
    }
    Ok(())
}

pub(super) async fn check_keys(inner: &Inner, report: &mut Report) -> Result<()> {
    let store = &inner.vault.store;
    let (keys, misplaced) = store.list_with_misplaced(FileKind::Key).await?;
    tell_misplaced(misplaced, report);
    let in_use = *inner.key_id.lock();
    if !keys.iter().any(|(id, _)| *id == in_use) {
        report.problem(FileKind::Key.name(&in_use), "the key in use is missing");
    }
    for (id, _) in keys {
        let name = FileKind::Key.name(&id);
        match store.get(&name).await {
            Ok(json) if !json.is_empty() && Id::of(&json) != id => report.problem(name, MISNAMED),
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

/// A lock that cannot be read keeps everybody out. One that is gone was released.
pub(super) async fn check_locks(inner: &Inner, report: &mut Report) -> Result<()> {
    let (locks, misplaced) = inner.vault.store.list_with_misplaced(FileKind::Lock).await?;
    tell_misplaced(misplaced, report);
    for (id, size) in locks {
        let name = FileKind::Lock.name(&id);
        if size == 0 {
            report.note(name, "it is empty, which a crash leaves; unlock removes it");
            continue;
        }
        match inner.vault.load(FileKind::Lock, &id).await {
            Ok(_) => {}
            Err(error) if error.is_not_found_in_store() => {}
            Err(error) => report.note_failure(name, error)?,
        }
    }
    Ok(())
}

pub(super) async fn check_snapshots(
    inner: &Inner,
    observer: &Observer,
    report: &mut Report,
) -> Result<Vec<Snapshot>> {
    let (listed, misplaced) = inner.vault.store.list_with_misplaced(FileKind::Snapshot).await?;
    for name in misplaced {
        if is_misnamed_snapshot(&name) {
            report.problem(name, MISNAMED_SNAPSHOT);
        } else {
            let problem = "it lies where nobody looks for a snapshot: prune frees its data";
            report.note(name, problem);
        }
    }
    let step = observer.items("read the snapshots", listed.len() as u64);
    let mut loading = stream::iter(listed)
        .map(|(id, _)| async move { (id, inner.load_snapshot(id).await) })
        .buffer_unordered(FETCHES);
    let (mut snapshots, mut gone) = (Vec::new(), Vec::new());
    while let Some((id, loaded)) = loading.next().await {
        match loaded {
            Ok(Some(snapshot)) => snapshots.push(snapshot),
            // Perhaps deleted since it was listed.
            Ok(None) => gone.push(id),
            Err(error) => report.note_failure(FileKind::Snapshot.name(&id), error)?,
        }
        step.advance(1);
    }
    for id in inner.not_to_be_had(gone, Mode::Shared).await? {
        report.problem(FileKind::Snapshot.name(&id), LISTED_ONLY);
    }
    report.snapshots = snapshots.len() as u64;
    Ok(snapshots)
}

/// Compares index and listing; tells for each pack of the catalog whether it is there, whole.
pub(super) async fn check_packs(
    inner: &Inner,
    catalog: &Catalog,
    report: &mut Report,
) -> Result<Vec<bool>> {
    let (listed, misplaced) = inner.vault.store.list_with_misplaced(FileKind::Pack).await?;
    tell_misplaced(misplaced, report);
    report.packs = listed.len() as u64;
    let mut sizes: HashMap<Id, u64> = listed.into_iter().collect();
    let mut present = Vec::with_capacity(catalog.packs().len());
    for pack in catalog.packs() {
        let found = sizes.remove(&pack.id);
        let name = || FileKind::Pack.name(&pack.id);
        match found {
            None => report.problem(name(), "the index lists it, but it is missing"),
            Some(size) if size != pack.size => {
                let problem = format!("it has {size} bytes, by the index {}", pack.size);
                report.problem(name(), problem);
            }
            Some(_) => {}
        }
        present.push(found == Some(pack.size));
    }
    for id in sizes.keys() {
        report.note(FileKind::Pack.name(id), "no index lists it; prune will remove it");
    }
    tell_duplicates(catalog, report);
    Ok(present)
}

/// Index files are not loaded here, and listed once more for this.
pub(super) async fn check_index_names(inner: &Inner, report: &mut Report) -> Result<()> {
    let (_, misplaced) = inner.vault.store.list_with_misplaced(FileKind::Index).await?;
    tell_misplaced(misplaced, report);
    Ok(())
}

/// Copies that somebody put aside are in nobody's way; what was moved by mistake is missed elsewhere.
fn tell_misplaced(names: Vec<String>, report: &mut Report) {
    for name in names {
        report.note(name, "it lies where nobody looks for it, and counts for nothing");
    }
}

/// Lists that say the same twice cost memory and no more.
fn tell_duplicates(catalog: &Catalog, report: &mut Report) {
    let mut seen = vec![false; catalog.packs().len()];
    let numbers = catalog.files().iter().flat_map(|file| &file.packs);
    let twice =
        numbers.filter(|number| std::mem::replace(&mut seen[**number as usize], true)).count();
    if twice > 0 {
        report.note("index", format!("{twice} packs are listed in more than one index file"));
    }
}
