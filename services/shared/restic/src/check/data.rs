//! Every blob of the packs: read, opened, unpacked and hashed.

use std::sync::Arc;

use futures::{StreamExt, stream};

use super::{Options, Report};
use crate::catalog::{self, Catalog};
use crate::crypto::SealingKey;
use crate::encode;
use crate::error::Result;
use crate::id::Id;
use crate::pack::{self, IndexedPack, PackedBlob};
use crate::repository::Inner;
use crate::store::FileKind;

/// Packs read at a time; each is in memory as a whole.
const PACK_READS: usize = 2;

/// Reads packs that are `present`, index file by index file, since the catalog does not say what a
/// pack holds.
pub(super) async fn read(
    inner: &Arc<Inner>,
    catalog: &Catalog,
    present: &[bool],
    options: &Options,
    report: &mut Report,
) -> Result<()> {
    let there = catalog.packs().iter().zip(present).filter(|(_, present)| **present);
    let chosen = options.subset.choose(there.map(|(pack, _)| *pack).collect());
    let step = options.observer.bytes("read the packs", chosen.iter().map(|pack| pack.size).sum());
    let mut wanted = vec![false; catalog.packs().len()];
    for number in chosen.iter().filter_map(|pack| catalog.pack_number(&pack.id)) {
        wanted[number] = true;
    }
    for file in catalog.files() {
        if !file.packs.iter().any(|number| wanted[*number as usize]) {
            continue;
        }
        let packs = match catalog::load_file(inner, file.id).await {
            Ok(packs) => packs,
            Err(error) => {
                report.note_failure(FileKind::Index.name(&file.id), error)?;
                continue;
            }
        };
        let mut reads = Vec::new();
        for pack in packs {
            let Some(number) = catalog.pack_number(&pack.id).filter(|n| wanted[*n]) else {
                continue;
            };
            let whole = pack.blobs.len() == catalog.packs()[number].blobs as usize;
            // Once is enough, unless each of several files lists a part of it.
            wanted[number] = !whole;
            reads.push((pack, whole));
        }
        let mut reading = stream::iter(reads)
            .map(|(pack, whole)| read_pack(Arc::clone(inner), pack, whole))
            .buffer_unordered(PACK_READS);
        while let Some((name, read)) = reading.next().await {
            match read {
                Ok((bytes, problems)) => {
                    report.bytes_read += bytes;
                    step.advance(bytes);
                    for problem in problems {
                        report.problem(name.clone(), problem);
                    }
                }
                Err(error) => report.note_failure(name, error)?,
            }
        }
    }
    Ok(())
}

async fn read_pack(
    inner: Arc<Inner>,
    pack: IndexedPack,
    whole: bool,
) -> (String, Result<(u64, Vec<String>)>) {
    let name = FileKind::Pack.name(&pack.id);
    let read = async {
        let content = inner.vault.store.get(&name).await?;
        let key = inner.vault.key.clone();
        let verify = move || (content.len() as u64, verify_pack(&key, &pack, whole, &content));
        inner.resources.compute("verify a pack", verify).await
    };
    let read = read.await;
    (name, read)
}

/// `whole`: the index is to list exactly what the header does; else, nothing that it does not.
fn verify_pack(
    key: &SealingKey,
    indexed: &IndexedPack,
    whole: bool,
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
        Ok(found) if !whole && expected.iter().all(|blob| found.contains(blob)) => {}
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
