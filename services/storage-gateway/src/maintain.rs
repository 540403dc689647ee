//! What is done to a repository as a whole: thin steps over the engine, each on a freshly checked handle.

mod keys;

pub use keys::{NewKey, add_key, change_key, list_keys, remove_key};

use crate::operation::Operation;
use crate::repositories::{At, Error, Missing, Opened, Repositories};
use crate::{backend, place};
use coffer_restic as restic;
use coffer_runtime::fault::Class;

/// Copies that an error names.
const MOST_NAMED: usize = 20;

/// Figures of a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// The engine's.
    pub counted: restic::Stats,
    /// The repository's id.
    pub id: restic::Id,
    /// The format version.
    pub version: restic::Version,
}

/// What to forget, and how.
#[derive(Debug, Clone)]
pub struct Forget {
    /// The snapshots that count.
    pub filter: restic::SnapshotFilter,
    /// What they are grouped by.
    pub group_by: restic::GroupBy,
    /// What to keep of each group.
    pub policy: restic::KeepPolicy,
    /// Whether to free the space.
    pub prune: bool,
    /// Only plan.
    pub dry_run: bool,
    /// Is told how far it is.
    pub observer: restic::Observer,
}

/// What was forgotten.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// The decision.
    pub summary: restic::ForgetSummary,
    /// What pruning freed, if there was anything to prune.
    pub pruned: Option<restic::prune::Summary>,
}

/// A repository that `operation` may be done to.
async fn open(repositories: &Repositories, at: &At, operation: Operation) -> Result<Opened, Error> {
    let opened = repositories.open(at, Missing::Refuse).await?;
    if operation.destroys() {
        tracing::info!(repository = %at, operation = operation.name(), "about to change a repository");
    }
    Ok(opened)
}

/// Makes the repository where there is none.
///
/// # Errors
/// When the place is not usable, or holds something already that the password does not open.
pub async fn init(repositories: &Repositories, at: &At) -> Result<Opened, Error> {
    repositories.open(at, Missing::Create).await
}

/// The snapshots that pass the filter, with their files if asked for.
///
/// # Errors
/// When one of them cannot be read: a listing is complete or fails.
pub async fn list(
    repositories: &Repositories,
    at: &At,
    filter: &restic::SnapshotFilter,
    with_files: bool,
) -> Result<Vec<(restic::Snapshot, Vec<restic::FileEntry>)>, Error> {
    let opened = open(repositories, at, Operation::List).await?;
    let failed = opened.place.failed("list the snapshots of");
    if with_files {
        return opened.repository.snapshots_with_files(filter).await.map_err(failed);
    }
    let snapshots = opened.repository.snapshots(filter).await.map_err(failed)?;
    Ok(snapshots.into_iter().map(|snapshot| (snapshot, Vec::new())).collect())
}

/// The ids of snapshots that are named by id or beginning of one. A name that fits none or several refuses all.
async fn resolve(
    opened: &Opened,
    names: &[String],
    act: &'static str,
) -> Result<Vec<restic::Id>, Error> {
    let failed = || opened.place.failed(act);
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
    Ok(ids)
}

/// Deletes snapshots by id or beginning of one; a name that fits none or several refuses the whole call.
///
/// # Errors
/// When a name does not fit, or the repository is not usable.
pub async fn delete(
    repositories: &Repositories,
    at: &At,
    names: &[String],
    observer: &restic::Observer,
) -> Result<Vec<restic::Id>, Error> {
    let opened = open(repositories, at, Operation::DeleteSnapshots).await?;
    let act = "delete snapshots of";
    let ids = resolve(&opened, names, act).await?;
    opened.repository.delete_snapshots(&ids, observer).await.map_err(opened.place.failed(act))?;
    Ok(ids)
}

/// Applies the keep rules to every group, and prunes if asked and anything was removed.
///
/// # Errors
/// When the repository is locked or not usable.
pub async fn forget(
    repositories: &Repositories,
    at: &At,
    request: &Forget,
) -> Result<Forgotten, Error> {
    let Forget { filter, group_by, policy, prune, dry_run, observer } = request;
    let operation = if *dry_run { Operation::PlanForget } else { Operation::Forget };
    let opened = open(repositories, at, operation).await?;
    let summary = opened
        .repository
        .forget(filter, *group_by, policy, *dry_run, observer)
        .await
        .map_err(opened.place.failed("apply the retention policy to"))?;
    let mut pruned = None;
    if *prune && !dry_run && !summary.removed.is_empty() {
        let (compression, observer) = (opened.compression, observer.clone());
        let options = restic::prune::Options { compression, observer, ..Default::default() };
        let freed = opened.repository.prune(&options).await;
        pruned = Some(freed.map_err(opened.place.failed("prune"))?);
    }
    Ok(Forgotten { summary, pruned })
}

/// Frees the space of what no snapshot uses.
///
/// # Errors
/// When the repository is locked, damaged or not usable.
pub async fn prune(
    repositories: &Repositories,
    at: &At,
    options: restic::prune::Options,
) -> Result<restic::prune::Summary, Error> {
    let operation = if options.dry_run { Operation::PlanPrune } else { Operation::Prune };
    let opened = open(repositories, at, operation).await?;
    let options = restic::prune::Options { compression: opened.compression, ..options };
    opened.repository.prune(&options).await.map_err(opened.place.failed("prune"))
}

/// Looks for damage. What is found is the result, not an error.
///
/// # Errors
/// When the repository cannot be looked at.
pub async fn check(
    repositories: &Repositories,
    at: &At,
    options: &restic::check::Options,
) -> Result<restic::check::Report, Error> {
    let opened = open(repositories, at, Operation::Check).await?;
    opened.repository.check(options).await.map_err(opened.place.failed("check"))
}

/// Counts what is there.
///
/// # Errors
/// When the repository cannot be read.
pub async fn stats(
    repositories: &Repositories,
    at: &At,
    filter: &restic::SnapshotFilter,
    observer: &restic::Observer,
) -> Result<Stats, Error> {
    let opened = open(repositories, at, Operation::Stats).await?;
    let counted = opened.repository.stats_of(filter, observer).await;
    let counted = counted.map_err(opened.place.failed("measure"))?;
    let (id, version) = (opened.repository.id(), opened.repository.version());
    Ok(Stats { counted, id, version })
}

/// Removes locks; returns how many.
///
/// # Errors
/// When the repository is not usable.
pub async fn unlock(
    repositories: &Repositories,
    at: &At,
    scope: restic::UnlockScope,
) -> Result<usize, Error> {
    let opened = open(repositories, at, Operation::Unlock).await?;
    opened.repository.unlock(scope).await.map_err(opened.place.failed("unlock"))
}

/// Copies snapshots, named by id or beginning of one, or all, to another repository, which must be there.
///
/// # Errors
/// When a name does not fit, or one of the repositories is not usable.
pub async fn copy(
    repositories: &Repositories,
    from: &At,
    to: &At,
    names: &[String],
    observer: restic::Observer,
) -> Result<restic::CopySummary, Error> {
    let source = open(repositories, from, Operation::CopyFrom).await?;
    let target = open(repositories, to, Operation::CopyTo).await?;
    let act = "copy snapshots of";
    let snapshots = resolve(&source, names, act).await?;
    let options = restic::CopyOptions { snapshots, observer, ..restic::CopyOptions::default() };
    let copied = source.repository.copy_to(&target.repository, &options).await;
    let committed = options.committed.lock();
    copied.map_err(source.place.failed(act)).map_err(|error| midway(error, &committed))
}

/// A failure with what was copied before it, and stays.
fn midway(error: Error, committed: &[(restic::Id, restic::Id)]) -> Error {
    let shown = |(from, to): &(restic::Id, restic::Id)| {
        let [from, to] = [from, to].map(|id| id.to_string()[..8].to_owned());
        format!("{from} as {to}")
    };
    match error {
        Error::Engine { act, subject, cause, kind } if !committed.is_empty() => {
            let mut pairs: Vec<String> = committed.iter().take(MOST_NAMED).map(shown).collect();
            if committed.len() > MOST_NAMED {
                pairs.push(format!("and {} more", committed.len() - MOST_NAMED));
            }
            let pairs = pairs.join(", ");
            let cause = format!("{cause}; copied before, and kept: {pairs}");
            Error::Engine { act, subject, cause, kind }
        }
        error => error,
    }
}

/// Makes the index agree with the packs.
///
/// # Errors
/// When the repository is locked or not usable.
pub async fn repair_index(
    repositories: &Repositories,
    at: &At,
    options: &restic::RepairOptions,
) -> Result<restic::RepairSummary, Error> {
    let opened = open(repositories, at, Operation::RepairIndex).await?;
    let repaired = opened.repository.repair_index(options).await;
    repaired.map_err(opened.place.failed("repair the index of"))
}

/// Upgrades format 1 to format 2.
///
/// # Errors
/// When the repository is locked, damaged or not usable.
pub async fn migrate(
    repositories: &Repositories,
    at: &At,
    observer: &restic::Observer,
) -> Result<restic::Migration, Error> {
    let opened = open(repositories, at, Operation::Migrate).await?;
    let migrated = opened.repository.migrate(observer).await;
    let migrated = migrated.map_err(opened.place.failed("migrate"))?;
    // Who comes next opens it anew, and writes the new format.
    repositories.forget(&opened);
    Ok(migrated)
}

/// Deletes the repository; returns how many objects it had. The password must open it: that is what tells this
/// repository from somebody else's at a mistyped place.
///
/// # Errors
/// When the repository is not usable.
pub async fn wipe(repositories: &Repositories, at: &At) -> Result<usize, Error> {
    let opened = match open(repositories, at, Operation::Wipe).await {
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
        Error::Backend(_) | Error::Elsewhere { .. } => false,
    }
}
