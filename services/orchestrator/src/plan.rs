//! The vocabulary of decisions: what was looked up, what is to be done, and when to look again.
//!
//! A plan has actions (cluster writes, in order), then either one call to another service, whose answer is recorded in
//! status, or a status. At most one call a pass: the next pass sees its answer, and so does one after a crash.

use chrono::{DateTime, Utc};
use coffer_api::{
    BackupConfiguration, BackupSession, Repository, RestoreSession,
    repository::Reference,
    retention::RetentionPolicy,
    session::{self, Session},
};
use coffer_runtime::grant::Grant;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{PersistentVolumeClaim, Secret, ServiceAccount},
};

use crate::{hook::Hook, metrics::Family, trigger::Trigger};

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<T> {
    /// It is there.
    Found(T),
    /// It is not, or is about to go.
    Missing,
    /// The API server did not say; why not.
    Unknown(String),
}

impl<T> Lookup<T> {
    /// What was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            Self::Missing | Self::Unknown(_) => None,
        }
    }
}

impl<T> From<Option<T>> for Lookup<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Self::Found)
    }
}

/// What to do about an object.
#[derive(Debug)]
pub struct Plan<S> {
    /// Carried out first, in order; the first failure ends the pass.
    pub actions: Vec<Action>,
    /// The status as it should be; absent: as it is.
    pub status: Option<S>,
    /// Made after the actions; its answer is recorded in the status.
    pub call: Option<Call>,
    /// When to look again if nothing changes.
    pub requeue: Requeue,
}

impl<S> Plan<S> {
    /// Nothing to do until something changes.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { actions: vec![], status: None, call: None, requeue: Requeue::OnChange }
    }

    /// Only a status.
    #[must_use]
    pub const fn status(status: S, requeue: Requeue) -> Self {
        Self { actions: vec![], status: Some(status), call: None, requeue }
    }

    /// Only a call.
    #[must_use]
    pub const fn call(call: Call) -> Self {
        Self { actions: vec![], status: None, call: Some(call), requeue: Requeue::OnChange }
    }
}

/// When to look again if nothing changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// Not before something changes, or the periodic resync.
    OnChange,
    /// At this instant.
    At(DateTime<Utc>),
}

impl Requeue {
    /// The earlier of the two.
    #[must_use]
    pub fn or_at(self, instant: DateTime<Utc>) -> Self {
        match self {
            Self::OnChange => Self::At(instant),
            Self::At(other) => Self::At(other.min(instant)),
        }
    }
}

/// A write to the cluster.
#[derive(Debug)]
pub enum Action {
    /// Adds this finalizer to the object.
    AddFinalizer(&'static str),
    /// Removes this finalizer from the object.
    RemoveFinalizer(&'static str),
    /// Creates a session; one that exists stays as it is.
    CreateSession(Box<BackupSession>),
    /// Creates the restore of a batch's member; one that exists stays as it is.
    CreateRestore(Box<RestoreSession>),
    /// Applies a Repository that a blueprint makes; one that it did not make stays as it is.
    ApplyRepository(Box<Repository>),
    /// The same for a BackupConfiguration.
    ApplyConfiguration(Box<BackupConfiguration>),
    /// Deletes a BackupConfiguration and its sessions, if it is there.
    DeleteConfiguration(Child),
    /// Applies a CronJob with its account and rights.
    ApplyTrigger(Box<Trigger>),
    /// Deletes a CronJob with its account and rights, if they are there.
    DeleteTrigger(Child),
    /// Applies a ServiceAccount.
    ApplyServiceAccount(Box<ServiceAccount>),
    /// Signs the grant, puts it into the document and the document into the Secret; one that exists stays as it is.
    CreateSessionSecret(Box<SessionSecret>),
    /// Creates a claim for a session's volume; one that exists stays as it is.
    CreateClaim(Box<PersistentVolumeClaim>),
    /// Creates a Job; one that exists stays as it is.
    CreateJob(Box<Job>),
    /// Deletes a Job and its pods, if it is there.
    DeleteJob(Child),
    /// Deletes a Secret, if it is there.
    DeleteSecret(Child),
    /// Forgets the progress of a session that is over.
    ForgetProgress,
    /// Tells people, in an Event on the object.
    Emit(Notice),
}

/// A session Secret that still lacks its grant.
#[derive(Debug)]
pub struct SessionSecret {
    /// Metadata only.
    pub secret: Secret,
    /// What the worker gets.
    pub document: Session,
    /// What it may do.
    pub grant: Grant,
}

/// An object of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Child {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// True for `Warning`.
    pub warning: bool,
    /// Reason.
    pub reason: &'static str,
    /// Message.
    pub message: String,
}

/// A call to another service, or a clean-up whose failure is a result and not a reason to try again.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    /// Applies keep rules.
    Forget {
        /// The repository.
        repository: session::Repository,
        /// The rules.
        policy: RetentionPolicy,
    },
    /// Checks the repository.
    Check {
        /// The repository.
        repository: session::Repository,
    },
    /// Reads the repository's figures, writes them to its status and pushes them.
    Figures {
        /// The repository.
        repository: session::Repository,
        /// Group of the push.
        group: String,
        /// Labels of the repository's series.
        labels: Vec<(&'static str, String)>,
        /// When the backup was asked for.
        backup_time: DateTime<Utc>,
    },
    /// Deletes old sessions.
    CleanHistory {
        /// Their namespace.
        namespace: String,
        /// Their names.
        sessions: Vec<String>,
    },
    /// Pushes a session's figures.
    Push {
        /// Group of the push.
        group: String,
        /// The figures.
        families: Vec<Family>,
    },
    /// Runs a hook.
    Hook(Box<Hook>),
    /// Deletes the repository's data.
    Wipe {
        /// The repository.
        repository: session::Repository,
    },
}

/// The answer to a [`Call`]; the error is a text for people.
pub type Answer = Result<Done, String>;

/// What a call did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Keep rules were applied.
    Forgot {
        /// Snapshots kept.
        kept: usize,
        /// Snapshots removed.
        removed: usize,
    },
    /// The repository was checked; what is wrong with it.
    Checked {
        /// Empty when it is sound.
        errors: Vec<String>,
    },
    /// The repository's figures are known.
    Figures {
        /// Formatted.
        size: String,
        /// Snapshots.
        snapshots: u64,
    },
    /// Old sessions are gone.
    Cleaned,
    /// Figures were pushed.
    Pushed,
    /// A hook did this.
    Hooked(String),
    /// The data is gone.
    Wiped {
        /// Objects deleted.
        objects: u64,
    },
}

/// A reference from an invoker, as a Repository's status lists it.
#[must_use]
pub fn reference(kind: &str, namespace: &str, name: &str) -> Reference {
    Reference {
        api_group: None,
        kind: kind.to_owned(),
        name: name.to_owned(),
        namespace: namespace.to_owned(),
    }
}
