//! What is done to a repository as a whole: thin steps over the engine, each on a freshly checked handle.

use crate::repositories::{Error, Missing, Opened, Repositories};
use crate::{backend, place};
use coffer_restic as restic;
use coffer_runtime::fault::Class;
use coffer_runtime::grant::RepositoryRef;
use futures::TryStreamExt as _;
use object_store::path::Path;

/// Figures of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The engine's.
    pub counted: restic::Stats,
    /// Pack files.
    pub packs: u64,
    /// The repository's id.
    pub id: restic::Id,
    /// The format version.
    pub version: restic::Version,
}

/// Makes the repository where there is none.
///
/// # Errors
/// When the place is not usable, or holds something already that the password does not open.
pub async fn init(repositories: &Repositories, at: &RepositoryRef) -> Result<Opened, Error> {
    repositories.open(at, Missing::Create).await
}

/// The snapshots that pass the filter, with their files if asked for.
///
/// # Errors
/// When one of them cannot be read: a listing is complete or fails.
pub async fn list(
    repositories: &Repositories,
    at: &RepositoryRef,
    filter: &restic::SnapshotFilter,
    with_files: bool,
) -> Result<Vec<(restic::Snapshot, Vec<restic::FileEntry>)>, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    let failed = || opened.place.failed("list the snapshots of");
    let mut listed = Vec::new();
    for snapshot in opened.repository.snapshots(filter).await.map_err(failed())? {
        let files = if with_files {
            opened.repository.files(&snapshot).await.map_err(failed())?
        } else {
            Vec::new()
        };
        listed.push((snapshot, files));
    }
    Ok(listed)
}

/// Deletes snapshots by id or beginning of one; a name that fits none or several refuses the whole call.
///
/// # Errors
/// When a name does not fit, or the repository is not usable.
pub async fn delete(
    repositories: &Repositories,
    at: &RepositoryRef,
    names: &[String],
) -> Result<Vec<restic::Id>, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    let failed = || opened.place.failed("delete snapshots of");
    let all = restic::SnapshotFilter::default();
    let snapshots = opened.repository.snapshots(&all).await.map_err(failed())?;
    let mut ids = Vec::new();
    for name in names {
        let wanted = name.parse::<restic::SnapshotRef>().map_err(failed())?;
        let id = wanted.pick(&snapshots, &all).map_err(failed())?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    opened.repository.delete_snapshots(&ids).await.map_err(failed())?;
    Ok(ids)
}

/// Applies the keep rules to every (host, paths) group, and prunes if asked and anything was removed.
///
/// # Errors
/// When the repository is locked or not usable.
pub async fn forget(
    repositories: &Repositories,
    at: &RepositoryRef,
    policy: &restic::KeepPolicy,
    prune: bool,
    dry_run: bool,
) -> Result<restic::ForgetSummary, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    let all = restic::SnapshotFilter::default();
    let group_by = restic::GroupBy::default();
    let summary = opened
        .repository
        .forget(&all, group_by, policy, dry_run)
        .await
        .map_err(opened.place.failed("apply the retention policy to"))?;
    if prune && !dry_run && !summary.removed.is_empty() {
        let options = restic::prune::Options::default();
        opened.repository.prune(&options).await.map_err(opened.place.failed("prune"))?;
    }
    Ok(summary)
}

/// Frees the space of what no snapshot uses.
///
/// # Errors
/// When the repository is locked, damaged or not usable.
pub async fn prune(
    repositories: &Repositories,
    at: &RepositoryRef,
    options: &restic::prune::Options,
) -> Result<restic::prune::Summary, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    opened.repository.prune(options).await.map_err(opened.place.failed("prune"))
}

/// Looks for damage. What is found is the result, not an error.
///
/// # Errors
/// When the repository cannot be looked at.
pub async fn check(
    repositories: &Repositories,
    at: &RepositoryRef,
    options: &restic::check::Options,
) -> Result<restic::check::Report, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    opened.repository.check(options).await.map_err(opened.place.failed("check"))
}

/// Counts what is there.
///
/// # Errors
/// When the repository cannot be read.
pub async fn stats(repositories: &Repositories, at: &RepositoryRef) -> Result<Stats, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    let failed = || opened.place.failed("measure");
    let counted = opened.repository.stats().await.map_err(failed())?;
    let packs = opened.connection.objects.list(Some(&Path::from("data")));
    let packs = packs.try_fold(0, |count: u64, _| async move { Ok(count + 1) }).await;
    let packs = packs.map_err(|source| {
        let path = format!("data in {}", opened.place.location());
        failed()(restic::Error::Store { operation: "list", path, source })
    })?;
    let (id, version) = (opened.repository.id(), opened.repository.version());
    Ok(Stats { counted, packs, id, version })
}

/// Removes locks; returns how many.
///
/// # Errors
/// When the repository is not usable.
pub async fn unlock(
    repositories: &Repositories,
    at: &RepositoryRef,
    scope: restic::UnlockScope,
) -> Result<usize, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    opened.repository.unlock(scope).await.map_err(opened.place.failed("unlock"))
}

/// Deletes the repository; returns how many objects it had. The password must open it: that is what tells this
/// repository from somebody else's at a mistyped place.
///
/// # Errors
/// When the repository is not usable.
pub async fn wipe(repositories: &Repositories, at: &RepositoryRef) -> Result<usize, Error> {
    let opened = match repositories.open(at, Missing::Refuse).await {
        Ok(opened) => opened,
        Err(error) if is_nothing(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    repositories.forget(&opened);
    let failed = opened.place.failed("wipe");
    opened.repository.wipe().await.map_err(failed)
}

/// True for a place that can be looked at and holds no repository. A bucket that is missing is not that: it may be
/// mistyped, and the data elsewhere.
fn is_nothing(error: &Error) -> bool {
    match error {
        Error::Engine { kind, .. } => *kind == restic::Kind::NoRepository,
        Error::Backend(backend::Error::Place(place::Error::Directory { class, .. })) => {
            *class == Class::NotFound
        }
        Error::Backend(_) | Error::Remains { .. } => false,
    }
}
