//! A `local` backend: a directory in a volume.
//!
//! In a cluster the volume is mounted at the Repository's `mountPath` in a gateway of its own; `subPath` has acted through
//! the mount. There the directory must exist: making it would write into the container when the mount is missing, and the
//! backup would be gone with the Pod. Without a cluster the volume is a directory of this machine, and is made as Stash
//! makes it.

use super::Error;
use coffer_api::backend::Local;
use coffer_api::names;
use coffer_runtime::fault::Class;
use coffer_runtime::grant::RepositoryRef;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// What a `local` backend means to this gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalVolumes {
    /// Nothing: the gateway of the whole cluster has no volumes.
    None,
    /// The volume is mounted at `mountPath`.
    Mounted,
    /// This machine is the cluster: a hostPath is itself, a claim is `<dir>/<namespace>/<claim>`.
    Under(PathBuf),
}

/// A resolved directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The repository's root.
    pub path: PathBuf,
    /// Whether a first backup may make it.
    pub create: bool,
    /// The claim that must exist, where the directory stands for one.
    pub claim: Option<String>,
}

impl Directory {
    pub(super) fn resolve(
        repository: &RepositoryRef,
        local: &Local,
        volumes: &LocalVolumes,
    ) -> Result<Self, Error> {
        let root = match volumes {
            LocalVolumes::None => {
                return Err(Error::NoVolumes { repository: repository.clone() });
            }
            LocalVolumes::Mounted => {
                let field = "spec.backend.local.mountPath";
                let path = absolute(repository, field, &local.mount_path)?;
                return Ok(Self { path, create: false, claim: None });
            }
            LocalVolumes::Under(root) => root,
        };
        let volume = local.volume.as_volume("volume").map_err(|error| {
            bad(repository, "spec.backend.local", format!("it is no volume: {error}"))
        })?;
        let (mut path, create, claim) = if let Some(host_path) = volume.host_path {
            let field = "spec.backend.local.hostPath.path";
            let must_exist = host_path.type_.as_deref() == Some("Directory");
            (absolute(repository, field, &host_path.path)?, !must_exist, None)
        } else if let Some(claim) = &volume.persistent_volume_claim {
            let field = "spec.backend.local.persistentVolumeClaim.claimName";
            let claim = one_name(repository, field, &claim.claim_name)?;
            (root.join(&repository.namespace).join(claim), true, Some(claim.to_owned()))
        } else {
            let found = local.volume.source().map_or("no volume", |(name, _)| name);
            let problem = format!(
                "{found} is not available without a cluster; use hostPath or persistentVolumeClaim"
            );
            return Err(bad(repository, "spec.backend.local", problem));
        };
        if let Some(sub_path) = &local.sub_path {
            path.push(relative(repository, "spec.backend.local.subPath", sub_path)?);
        }
        Ok(Self { path, create, claim })
    }

    /// Makes sure that the directory is there; makes it if it may and `create` asks for it.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub(super) fn ensure(&self, repository: &RepositoryRef, create: bool) -> Result<(), Error> {
        let missing = match std::fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => ErrorKind::NotADirectory.into(),
            Err(error) => error,
        };
        if missing.kind() == ErrorKind::NotFound && create && self.create {
            return make(&self.path, sync).map_err(|error| self.unusable(repository, &error));
        }
        Err(self.unusable(repository, &missing))
    }

    fn unusable(&self, repository: &RepositoryRef, error: &std::io::Error) -> Error {
        let (problem, class) = match error.kind() {
            ErrorKind::NotFound if self.create => (
                "does not exist: there was no backup yet, or the wrong path is given".to_owned(),
                Class::NotFound,
            ),
            ErrorKind::NotFound => (
                "does not exist; mount the volume, or make the directory".to_owned(),
                Class::NotFound,
            ),
            ErrorKind::NotADirectory => {
                ("is no directory, or lies in something that is none".to_owned(), Class::Invalid)
            }
            ErrorKind::AlreadyExists => ("is no directory".to_owned(), Class::Invalid),
            ErrorKind::PermissionDenied => (
                format!("cannot be used: {error}; give its owner or the gateway's user access"),
                Class::Denied,
            ),
            ErrorKind::ReadOnlyFilesystem => {
                ("is on a read-only volume; mount it writable".to_owned(), Class::Denied)
            }
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                (format!("cannot be made: {error}; free some space"), Class::Exhausted)
            }
            _ => (format!("cannot be used: {error}"), Class::Unavailable),
        };
        let path = self.path.display().to_string();
        Error::Directory { repository: repository.clone(), path, problem, class }
    }
}

/// Makes a directory and those that lead to it, and their names safe: nothing that is stored in it is there without them.
fn make(path: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
    let missing = path.ancestors().take_while(|directory| !directory.exists()).count();
    std::fs::create_dir_all(path)?;
    path.ancestors().skip(1).take(missing).try_for_each(sync)
}

fn sync(directory: &Path) -> io::Result<()> {
    std::fs::File::open(directory)?.sync_all()
}

fn absolute(repository: &RepositoryRef, field: &'static str, path: &str) -> Result<PathBuf, Error> {
    let path = PathBuf::from(path);
    if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
        return Err(bad(
            repository,
            field,
            "it must be an absolute path without \"..\"".to_owned(),
        ));
    }
    Ok(path)
}

fn relative<'a>(
    repository: &RepositoryRef,
    field: &'static str,
    path: &'a str,
) -> Result<&'a Path, Error> {
    let path = Path::new(path);
    let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if !path.components().all(plain) {
        return Err(bad(repository, field, "it must be a relative path without \"..\"".to_owned()));
    }
    Ok(path)
}

fn one_name<'a>(
    repository: &RepositoryRef,
    field: &'static str,
    name: &'a str,
) -> Result<&'a str, Error> {
    if names::is_subdomain(name) {
        return Ok(name);
    }
    Err(bad(repository, field, "it must be the name of a claim".to_owned()))
}

fn bad(repository: &RepositoryRef, field: &'static str, problem: String) -> Error {
    Error::BadField { repository: repository.clone(), field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    #[test]
    fn the_names_of_all_directories_that_are_made_are_safe() {
        let root = tempfile::tempdir().unwrap();
        let synced = RefCell::new(Vec::new());
        let made = |path: &str| {
            let sync = |directory: &Path| {
                synced.borrow_mut().push(directory.strip_prefix(root.path()).unwrap().to_owned());
                sync(directory)
            };
            make(&root.path().join(path), sync).unwrap();
            assert!(root.path().join(path).is_dir());
            synced.take()
        };
        assert_eq!(made("demo/claim/repo"), ["demo/claim", "demo", ""].map(PathBuf::from));
        assert_eq!(made("demo/other"), ["demo"].map(PathBuf::from));
        let fails = |_: &Path| Err(ErrorKind::Other.into());
        assert!(make(&root.path().join("more"), fails).is_err());
    }
}
