//! What the engine relies on in an object store, as checks that any store can be put to.
//!
//! They write below the store's root, in the folders of a repository, under names that are ids, and take
//! away what they wrote. A store that passes them all can hold a repository. The first deviation ends the
//! checks, in words.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode};

use crate::id::Id;
use crate::store::FileKind;

/// Requests at a time.
const AT_ONCE: usize = 8;

/// How a store deviates.
pub type Deviation = String;

type Verdict = Result<(), Deviation>;

/// What the engine finds out about a store that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Of several that create an object at once only one succeeds. Where it is not so, two that initialise
    /// at once are told apart by their keys alone.
    pub create: bool,
}

/// All checks, in turn. `many` objects are listed: more than the store hands out in a page, if that is to be
/// seen.
///
/// # Errors
/// The first deviation.
pub async fn check(store: &dyn ObjectStore, many: u32) -> Result<Abilities, Deviation> {
    missing_objects_are_not_found(store).await?;
    objects_are_written_whole_and_replaced_whole(store).await?;
    ranges_are_exact(store).await?;
    listings_are_complete_and_current(store, many).await?;
    many_at_a_time_do_not_mix(store).await?;
    let create = creation_is_exclusive(store).await?;
    Ok(Abilities { create })
}

fn name(kind: FileKind, number: u32) -> Path {
    Path::from(kind.name(&Id::of(&number.to_le_bytes())))
}

/// Bytes that differ from number to number.
fn content(number: u32, length: usize) -> Bytes {
    let seed = number.wrapping_mul(2_654_435_761).to_le_bytes();
    seed.into_iter().cycle().zip(0u8..=250).map(|(a, b)| a ^ b).cycle().take(length).collect()
}

fn failed(act: &str, path: &Path) -> impl FnOnce(Error) -> Deviation {
    let subject = format!("{act} {path}");
    move |error| format!("{subject}: {error}")
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> Deviation) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

async fn put(store: &dyn ObjectStore, path: &Path, content: Bytes) -> Verdict {
    store.put(path, content.into()).await.map(drop).map_err(failed("write", path))
}

async fn get(store: &dyn ObjectStore, path: &Path) -> Result<Bytes, Deviation> {
    let answer = store.get(path).await.map_err(failed("read", path))?;
    answer.bytes().await.map_err(failed("read", path))
}

async fn delete(store: &dyn ObjectStore, path: &Path) -> Verdict {
    store.delete(path).await.map_err(failed("delete", path))
}

/// "Not there" is told from every other failure, and only it makes a repository "not there".
///
/// # Errors
/// When it is not.
pub async fn missing_objects_are_not_found(store: &dyn ObjectStore) -> Verdict {
    for path in [name(FileKind::Pack, 1), name(FileKind::Snapshot, 1), Path::from("config")] {
        let answers = [
            ("get", store.get(&path).await.map(drop)),
            ("head", store.head(&path).await.map(drop)),
            ("get a range of", store.get_range(&path, 1..5).await.map(drop)),
        ];
        for (act, answer) in answers {
            ensure(matches!(answer, Err(Error::NotFound { .. })), || {
                format!("{act} {path}, which is not there: {answer:?}")
            })?;
        }
        let gone = store.delete(&path).await;
        ensure(matches!(gone, Ok(()) | Err(Error::NotFound { .. })), || {
            format!("delete {path}, which is not there: {gone:?}")
        })?;
    }
    Ok(())
}

/// What was written is read, also when it replaces something longer.
///
/// # Errors
/// When it is not.
pub async fn objects_are_written_whole_and_replaced_whole(store: &dyn ObjectStore) -> Verdict {
    let path = name(FileKind::Pack, 2);
    for (number, length) in [(1, 1), (2, 3_000_000), (3, 70_000), (4, 0)] {
        let written = content(number, length);
        put(store, &path, written.clone()).await?;
        let read = get(store, &path).await?;
        ensure(read == written, || format!("{path}: wrote {length} bytes, read {}", read.len()))?;
        let meta = store.head(&path).await.map_err(failed("head", &path))?;
        ensure(meta.size == length as u64, || {
            format!("{path}: wrote {length} bytes, it says {}", meta.size)
        })?;
    }
    delete(store, &path).await?;
    let gone = store.get(&path).await;
    ensure(matches!(gone, Err(Error::NotFound { .. })), || format!("{path} outlived its deletion"))
}

/// Part of an object is exactly that part; what goes beyond the end is cut there.
///
/// # Errors
/// When it is not.
pub async fn ranges_are_exact(store: &dyn ObjectStore) -> Verdict {
    let path = name(FileKind::Pack, 3);
    let written = content(5, 300_000);
    put(store, &path, written.clone()).await?;
    for (from, to) in [(0, 1), (0, 300_000), (1, 2), (99_999, 200_001), (299_999, 300_000)] {
        let part = store.get_range(&path, from..to).await.map_err(failed("read part of", &path))?;
        let range = usize::try_from(from).unwrap_or(0)..usize::try_from(to).unwrap_or(0);
        ensure(part == written[range], || format!("{path}: {from}..{to} is something else"))?;
    }
    let end = store.get_range(&path, 299_990..400_000).await.map_err(failed("read", &path))?;
    ensure(end == written[299_990..], || format!("{path}: its end has {} bytes", end.len()))?;
    delete(store, &path).await
}

/// A listing shows what was written a moment ago, all of it, with sizes, and nothing that was deleted; and
/// only of its own folder.
///
/// # Errors
/// When it does not.
pub async fn listings_are_complete_and_current(store: &dyn ObjectStore, many: u32) -> Verdict {
    for folder in ["data", "index", "snapshots", "keys", "locks"] {
        let found = list(store, folder).await?;
        ensure(found.is_empty(), || format!("{folder} is not empty: {found:?}"))?;
    }
    let length = |number: u32| usize::try_from(number % 7 + 1).unwrap_or(1);
    let all: Vec<(Path, u32)> = (0..many).map(|n| (name(FileKind::Pack, n), n)).collect();
    let writes = all.iter().map(|(path, n)| put(store, path, content(*n, length(*n))));
    stream::iter(writes).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
    put(store, &name(FileKind::Key, 1), content(1, 9)).await?;
    let mut expected: BTreeMap<String, u64> =
        all.iter().map(|(path, n)| (path.to_string(), length(*n) as u64)).collect();
    same(&list(store, "data").await?, &expected)?;

    let (gone, stay) = all.split_at(all.len() / 2);
    let paths = gone.iter().map(|(path, _)| Ok(path.clone())).collect::<Vec<_>>();
    let deleted = store.delete_stream(stream::iter(paths).boxed());
    deleted.try_collect::<Vec<_>>().await.map_err(|error| format!("delete many: {error}"))?;
    for (path, _) in gone {
        expected.remove(path.as_ref());
    }
    same(&list(store, "data").await?, &expected)?;
    for (path, _) in stay {
        delete(store, path).await?;
    }
    delete(store, &name(FileKind::Key, 1)).await?;
    same(&list(store, "data").await?, &BTreeMap::new())
}

async fn list(store: &dyn ObjectStore, folder: &str) -> Result<BTreeMap<String, u64>, Deviation> {
    let listed = store.list(Some(&Path::from(folder)));
    let listed = listed.map_ok(|meta| (meta.location.to_string(), meta.size));
    listed.try_collect().await.map_err(|error| format!("list {folder}: {error}"))
}

fn same(found: &BTreeMap<String, u64>, expected: &BTreeMap<String, u64>) -> Verdict {
    let odd = found.iter().find(|(name, size)| expected.get(*name) != Some(size));
    let missing = expected.keys().find(|name| !found.contains_key(*name));
    ensure(odd.is_none() && missing.is_none(), || {
        format!("listed {} of {}: odd {odd:?}, missing {missing:?}", found.len(), expected.len())
    })
}

/// Writes and reads at the same time stay apart.
///
/// # Errors
/// When they do not.
pub async fn many_at_a_time_do_not_mix(store: &dyn ObjectStore) -> Verdict {
    let round = (0..24).map(|number| async move {
        let path = name(FileKind::Index, number);
        let written = content(number, 200_000);
        put(store, &path, written.clone()).await?;
        let read = get(store, &path).await?;
        ensure(read == written, || format!("{path} holds something else"))?;
        delete(store, &path).await
    });
    stream::iter(round).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await.map(drop)
}

/// Whether of several that create an object only one succeeds. Some stores refuse the condition, some take it
/// and let several through; the engine does not depend on it.
///
/// # Errors
/// When nobody succeeds, or the object is nobody's.
pub async fn creation_is_exclusive(store: &dyn ObjectStore) -> Result<bool, Deviation> {
    let path = Path::from("config");
    let create = |number: u32| {
        let path = path.clone();
        async move {
            let payload = content(number, 400).into();
            match store.put_opts(&path, payload, PutMode::Create.into()).await {
                Ok(_) => Ok(Some(number)),
                Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        }
    };
    let answers = futures::future::join_all((0..8).map(create)).await;
    let refused = |answer: &Result<_, Error>| {
        matches!(answer, Err(Error::NotImplemented { .. } | Error::NotSupported { .. }))
    };
    if answers.iter().all(refused) {
        return Ok(false);
    }
    let mut winners = Vec::new();
    for answer in answers {
        winners.extend(answer.map_err(failed("create", &path))?);
    }
    let read = get(store, &path).await?;
    ensure(winners.iter().any(|winner| read == content(*winner, 400)), || {
        format!("{} of 8 created {path}, and it is nobody's", winners.len())
    })?;
    delete(store, &path).await?;
    Ok(winners.len() == 1)
}
