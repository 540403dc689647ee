//! Why a job failed. The chain of messages is what the user sees in the session's status.

use std::path::PathBuf;

use coffer_runtime::fault::{Class, Fault, class_of};

use crate::{redis, redis_args};

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The session Secret is not mounted, or not readable.
    #[error("read the session from {}", path.display())]
    ReadSession {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// What is mounted is no session.
    #[error("read the session from {}", path.display())]
    ParseSession {
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A session for another kind of worker.
    #[error(
        "the session is a {found} of version {version}, and this job needs a {expected} of version 1"
    )]
    WrongSession {
        /// What it is.
        found: String,
        /// Its version.
        version: u32,
        /// What it should be.
        expected: &'static str,
    },
    /// An argument for the old programs that cannot be honoured.
    #[error(transparent)]
    RedisArgs(#[from] redis_args::Error),
    /// A flag's value makes no sense.
    #[error("flag --{flag}={value}: {problem}")]
    Flag {
        /// Its name.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A flag's value is none of its words.
    #[error("flag --{flag}={value}: one of {} is needed", words.join(", "))]
    Choice {
        /// Its name.
        flag: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        words: Vec<&'static str>,
    },
    /// The Redis.
    #[error(transparent)]
    Redis(#[from] redis::Error),
    /// The server allows none of the methods that were tried, each for a reason of its own.
    #[error("no method of dumping is allowed: {refused}; {method} is not possible")]
    NoMethod {
        /// What was said of those before the last one.
        refused: String,
        /// The last one.
        method: &'static str,
        /// Why not the last one.
        #[source]
        source: Box<redis::Error>,
    },
    /// The gateway's address or the grant cannot be used.
    #[error("prepare the connection to the {service}")]
    Channel {
        /// Which service.
        service: &'static str,
        /// Why not.
        #[source]
        source: coffer_runtime::grpc::Error,
    },
    /// The storage-gateway was not reached, or was lost on the way.
    #[error(
        "{act} repository {repository}: no connection to the storage-gateway at {address}, see its log"
    )]
    Lost {
        /// What was being done, with its preposition: `write a snapshot to`.
        act: &'static str,
        /// Namespace and name.
        repository: String,
        /// Where the storage-gateway should be.
        address: String,
        /// What became of the connection.
        #[source]
        source: tonic::Status,
    },
    /// The storage-gateway refused or failed.
    #[error("{act} repository {repository}")]
    Gateway {
        /// What was being done, with its preposition: `write a snapshot to`.
        act: &'static str,
        /// Namespace and name.
        repository: String,
        /// What it said.
        #[source]
        source: tonic::Status,
    },
    /// The storage-gateway answered with something that breaks the contract.
    #[error("{act} repository {repository}: {problem}")]
    Contract {
        /// What was being done.
        act: &'static str,
        /// Namespace and name.
        repository: String,
        /// What is wrong.
        problem: String,
    },
    /// What was read is not what was stored.
    #[error("restore {path} of snapshot {snapshot}: {problem}")]
    Differs {
        /// The file.
        path: String,
        /// The snapshot.
        snapshot: String,
        /// What differs.
        problem: String,
    },
    /// The target does not hold what was restored.
    #[error(
        "verify the restore: of {keys} keys {lost} are lost and {changed} are not as in the snapshot (beside {added} others): {named}; was the target written to meanwhile?"
    )]
    Unlike {
        /// Keys that were compared.
        keys: u64,
        /// Those that are not there.
        lost: u64,
        /// Those that differ.
        changed: u64,
        /// Keys of the target that are not in the snapshot.
        added: u64,
        /// The first of them.
        named: String,
    },
    /// Somebody asked us to stop.
    #[error(
        "terminated before the job was done: a backup has committed nothing, a restore is incomplete"
    )]
    Terminated,
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::ReadSession { .. }
            | Self::ParseSession { .. }
            | Self::WrongSession { .. }
            | Self::Flag { .. }
            | Self::Choice { .. }
            | Self::Channel { .. } => Class::Invalid,
            Self::RedisArgs(error) => error.class(),
            Self::Redis(error) => error.class(),
            Self::NoMethod { source, .. } => source.class(),
            Self::Lost { .. } => Class::Unavailable,
            Self::Gateway { source, .. } => class_of(source),
            Self::Contract { .. } => Class::Internal,
            Self::Differs { .. } | Self::Unlike { .. } => Class::Corrupt,
            Self::Terminated => Class::Cancelled,
        }
    }
}
