//! What can go wrong in a repository, and the closed classes a caller decides by.
//!
//! Each variant names the operation and its subject; the cause is the source and is not repeated in
//! the text. [`Error::kind`] is what callers branch on, so that a new variant never needs a new
//! branch elsewhere.

use std::error::Error as StdError;
use std::io::ErrorKind as IoKind;

use crate::id::Id;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type Cause = Box<dyn StdError + Send + Sync>;

/// The class of an [`Error`]: what a caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// The thing asked for (a snapshot, a file, a bucket) is not there.
    NotFound,
    /// No key of the repository opens with this password.
    WrongPassword,
    /// There is no repository at this place.
    NoRepository,
    /// Somebody else holds a lock that conflicts with ours.
    Locked,
    /// The store refuses access, or is read-only.
    Denied,
    /// The repository only grows, and the operation would take something away.
    AppendOnly,
    /// The store does not answer, or not in time; trying again may help.
    Unavailable,
    /// The repository contradicts itself: an object is damaged or missing.
    Corrupt,
    /// The disk or the quota is full.
    Exhausted,
    /// The request makes no sense.
    Invalid,
    /// The caller stopped the work.
    Cancelled,
    /// A fault of this program.
    Internal,
}

/// A failed operation on a repository.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no `config` object.
    #[error("no repository at {location}: it has no config; initialise it first")]
    NoRepository {
        /// Where the repository was looked for.
        location: String,
    },
    /// `init` found a `config` or a key.
    #[error("{location} already holds a repository ({found} is there); nothing was changed")]
    AlreadyInitialised {
        /// Where the repository was to be made.
        location: String,
        /// The object that gave it away.
        found: String,
    },
    /// There are files of a repository but no `config`: something was lost, and a new repository
    /// would bury it.
    #[error(
        "{location} holds {found} but no config, and {problem}; nothing was changed: restore the config, or \
         delete what is there if it is of no use, or use another place"
    )]
    Remains {
        /// Where the repository was to be made.
        location: String,
        /// An object that is there.
        found: String,
        /// Why it is not taken for a beginning that could be completed.
        problem: String,
    },
    /// The operation takes something away from a repository that only grows.
    #[error("{operation}: the repository at {location} is append-only; nothing was changed")]
    AppendOnly {
        /// What was attempted.
        operation: &'static str,
        /// The repository.
        location: String,
    },
    /// The store acknowledged a write, twice where it could be repeated, and keeps something else.
    #[error("write {path}: the store acknowledged it, but {problem}; do not trust this store")]
    WrongWrite {
        /// The object, with its location.
        path: String,
        /// What is there instead.
        problem: String,
    },
    /// Every key file was tried.
    #[error(
        "the password opens none of the {keys} keys of the repository at {location}; \
         check the RESTIC_PASSWORD of its storage secret"
    )]
    WrongPassword {
        /// The repository.
        location: String,
        /// How many key files were tried.
        keys: usize,
    },
    /// The bucket, container or directory that should hold the repository is not there.
    #[error("{operation} {path}: the bucket does not exist; create it or correct the backend")]
    NoBucket {
        /// What was attempted.
        operation: &'static str,
        /// The object, with its location.
        path: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },
    /// An operation on the object store failed.
    #[error("{operation} {path}")]
    Store {
        /// What was attempted, as a verb: "read", "write", "list", "delete".
        operation: &'static str,
        /// The object, with its location.
        path: String,
        /// The store's answer.
        #[source]
        source: object_store::Error,
    },
    /// The directory of a local repository cannot be used.
    #[error("open the directory {path}")]
    Directory {
        /// The directory.
        path: String,
        /// Why not.
        #[source]
        source: object_store::Error,
    },
    /// An object is not what its name or its format promises.
    #[error("{file}: {problem}")]
    Damaged {
        /// The object.
        file: String,
        /// What is wrong with it.
        problem: String,
        /// The decoder's answer, where there is one.
        #[source]
        source: Option<Cause>,
    },
    /// A blob is in no pack that the index knows.
    #[error("{kind} blob {id} of {needed_by} is in no index; the repository is damaged")]
    MissingBlob {
        /// `data` or `tree`.
        kind: &'static str,
        /// The blob.
        id: Id,
        /// Who refers to it.
        needed_by: String,
    },
    /// A pack that is needed is gone from the store, or has the wrong size.
    #[error("pack {id} is needed by {needed_by} but {problem}")]
    MissingPack {
        /// The pack.
        id: Id,
        /// Who refers to it.
        needed_by: String,
        /// "is missing" or the difference in size.
        problem: String,
    },
    /// The wait for a lock ended before the lock was free.
    #[error(
        "the repository is locked by {holder} since {since} ({lock}, {mode}); \
         waited {waited_seconds} s; if that program is gone, unlock the repository"
    )]
    Locked {
        /// The lock's short id.
        lock: String,
        /// `user@host, process n`.
        holder: String,
        /// When the lock was last refreshed.
        since: String,
        /// `exclusive` or `shared`.
        mode: &'static str,
        /// How long we waited.
        waited_seconds: u64,
    },
    /// Our lock was lost and could not be had again, so that going on would be unsafe.
    #[error("lost the repository lock: {problem}; nothing was committed")]
    LockLost {
        /// What happened to it.
        problem: String,
    },
    /// No snapshot answers to the name.
    #[error("no snapshot matches {wanted}")]
    NoSnapshot {
        /// The reference and the filter.
        wanted: String,
    },
    /// An id prefix names several snapshots.
    #[error("the id {prefix} is ambiguous: it begins {first} and {second}")]
    AmbiguousSnapshot {
        /// The prefix.
        prefix: String,
        /// One match.
        first: Id,
        /// Another match.
        second: Id,
    },
    /// The snapshot has no such file.
    #[error("snapshot {snapshot} has no file {path}; it has {present}")]
    NoFile {
        /// The snapshot.
        snapshot: Id,
        /// The file asked for.
        path: String,
        /// The files it has.
        present: String,
    },
    /// The request cannot be carried out as it stands.
    #[error("{subject}: {problem}")]
    Invalid {
        /// What was given.
        subject: String,
        /// Why it is refused.
        problem: String,
    },
    /// The backup was given up, by its caller or after an earlier failure.
    #[error("the backup was stopped: {reason}; nothing was committed")]
    Stopped {
        /// The first failure, or "cancelled".
        reason: String,
        /// The class of the first failure.
        kind: Kind,
    },
    /// What was encoded does not decode to what was given: bad memory or a codec fault.
    #[error("{kind} blob {id} does not decode to its input: {problem}; suspect the memory")]
    VerifyFailed {
        /// `data` or `tree`.
        kind: &'static str,
        /// The blob.
        id: Id,
        /// What differs.
        problem: String,
    },
    /// A fault of this program.
    #[error("{operation}: internal fault")]
    Internal {
        /// What was being done.
        operation: &'static str,
        /// The cause.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// The class of this error.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NoRepository { .. } => Kind::NoRepository,
            Self::AlreadyInitialised { .. } | Self::Invalid { .. } => Kind::Invalid,
            Self::AmbiguousSnapshot { .. } => Kind::Invalid,
            Self::WrongPassword { .. } => Kind::WrongPassword,
            Self::NoBucket { .. } | Self::NoSnapshot { .. } | Self::NoFile { .. } => Kind::NotFound,
            Self::Store { source, .. } | Self::Directory { source, .. } => store_kind(source),
            Self::Damaged { .. }
            | Self::MissingBlob { .. }
            | Self::MissingPack { .. }
            | Self::Remains { .. } => Kind::Corrupt,
            Self::AppendOnly { .. } => Kind::AppendOnly,
            Self::WrongWrite { .. } => Kind::Unavailable,
            Self::Locked { .. } | Self::LockLost { .. } => Kind::Locked,
            Self::Stopped { kind, .. } => *kind,
            Self::VerifyFailed { .. } | Self::Internal { .. } => Kind::Internal,
        }
    }

    /// This error and its causes on one line, for texts that cannot carry a chain.
    #[must_use]
    pub fn chain(&self) -> String {
        self.chain_after(self.to_string())
    }

    /// The same beside the name of this object, which is not named again.
    pub(crate) fn chain_about(&self, name: &str) -> String {
        let is_it = |subject: &str| {
            subject
                .strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(" in "))
        };
        match self {
            Self::Damaged { file, problem, .. } if is_it(file) => self.chain_after(problem.clone()),
            Self::Invalid { subject, problem } if is_it(subject) => problem.clone(),
            Self::Store { path, .. } if is_it(path) && self.is_not_found_in_store() => {
                "the store says that it is not there".into()
            }
            Self::Store { operation, path, .. } if is_it(path) => {
                self.chain_after(format!("cannot {operation} it"))
            }
            _ => self.chain(),
        }
    }

    fn chain_after(&self, mut text: String) -> String {
        let mut cause = self.source();
        while let Some(source) = cause {
            let line = source.to_string();
            // object_store repeats its cause in its own text.
            if !text.contains(&line) {
                text.push_str(": ");
                text.push_str(&line);
            }
            cause = source.source();
        }
        text
    }

    pub(crate) fn damaged(file: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Damaged { file: file.into(), problem: problem.into(), source: None }
    }

    pub(crate) fn damaged_by(
        file: impl Into<String>,
        problem: impl Into<String>,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self::Damaged { file: file.into(), problem: problem.into(), source: Some(Box::new(source)) }
    }

    pub(crate) fn invalid(subject: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Invalid { subject: subject.into(), problem: problem.into() }
    }

    pub(crate) fn internal(
        operation: &'static str,
        source: impl StdError + Send + Sync + 'static,
    ) -> Self {
        Self::Internal { operation, source: Box::new(source) }
    }

    pub(crate) fn is_not_found_in_store(&self) -> bool {
        matches!(self, Self::Store { source: object_store::Error::NotFound { .. }, .. })
    }
}

/// object_store knows few classes; the rest is in the chain, as I/O errors.
fn store_kind(error: &object_store::Error) -> Kind {
    use object_store::Error as E;
    match error {
        E::NotFound { .. } => return Kind::NotFound,
        E::PermissionDenied { .. } | E::Unauthenticated { .. } => return Kind::Denied,
        E::InvalidPath { .. } | E::UnknownConfigurationKey { .. } => return Kind::Invalid,
        E::NotSupported { .. } | E::NotImplemented { .. } => return Kind::Internal,
        _ => {}
    }
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(source) = cause {
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            match io.kind() {
                IoKind::StorageFull | IoKind::QuotaExceeded | IoKind::FileTooLarge => {
                    return Kind::Exhausted;
                }
                IoKind::PermissionDenied | IoKind::ReadOnlyFilesystem => return Kind::Denied,
                IoKind::NotFound | IoKind::NotADirectory => return Kind::NotFound,
                _ => {}
            }
        }
        cause = source.source();
    }
    Kind::Unavailable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(kind: IoKind) -> Error {
        let source = object_store::Error::Generic {
            store: "LocalFileSystem",
            source: Box::new(std::io::Error::from(kind)),
        };
        Error::Store { operation: "write", path: "data/x".into(), source }
    }

    #[test]
    fn io_errors_in_the_chain_decide_the_kind() {
        assert_eq!(stored(IoKind::StorageFull).kind(), Kind::Exhausted);
        assert_eq!(stored(IoKind::PermissionDenied).kind(), Kind::Denied);
        assert_eq!(stored(IoKind::ReadOnlyFilesystem).kind(), Kind::Denied);
        assert_eq!(stored(IoKind::TimedOut).kind(), Kind::Unavailable);
    }

    #[test]
    fn the_chain_names_each_cause_once() {
        let text = stored(IoKind::StorageFull).chain();
        assert_eq!(text.matches("no storage space").count(), 1, "{text}");
        assert!(text.starts_with("write data/x: "), "{text}");
    }
}
