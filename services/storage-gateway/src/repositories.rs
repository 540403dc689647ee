//! Open repositories: one handle for each location, so that the password is derived once and all streams share one index.
//!
//! Repository and Secret are read for every operation, and a handle serves only while they resolve to the very same
//! place; whoever names that place shares it. Before a handle is used again its `config` is looked at: a repository that was deleted or replaced meanwhile
//! must not receive packs that no key opens.

use crate::backend::{self, Reader};
use crate::place::{Backend, Connection, Place};
use coffer_restic as restic;
use coffer_runtime::fault::{Class, Fault};
use coffer_runtime::grant::RepositoryRef;
use futures::TryStreamExt as _;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Handles that are kept open. An index of a million blobs takes some 60 MiB; beyond this many the least recently used
/// one is closed.
const MOST_HANDLES: usize = 32;
const CONFIG: &str = "config";
const KEYS: &str = "keys";
const WAIT_LONGER: &str =
    "if it is at work, wait longer: coffer's --retry-lock, or --lock-wait of the storage-gateway";

/// A repository cannot be opened, or an operation on it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Repository or its Secret is not usable.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The engine failed. The cause is part of the text, since the remedy has to come after it.
    #[error("{act} {subject}: {cause}")]
    Engine {
        /// What was attempted, as a verb.
        act: &'static str,
        /// The Repository, and where it is.
        subject: String,
        /// The engine's error with its causes, and what to do.
        cause: String,
        /// The engine's class.
        kind: restic::Kind,
    },
    /// The repository lies where Coffer has put it before.
    #[error(
        "there is no repository at {subject}, where restic has it, but one at {former}, where Coffer has put it before; move its \
         objects from there, or set the prefix in spec.backend to {prefix:?}"
    )]
    Elsewhere {
        /// Where it is to be, and the Repository.
        subject: String,
        /// Where it is.
        former: String,
        /// The prefix that names that place.
        prefix: String,
    },
}

impl Fault for Error {
    fn class(&self) -> Class {
        match self {
            Self::Backend(error) => error.class(),
            Self::Engine { kind, .. } => class(*kind),
            Self::Elsewhere { .. } => Class::Invalid,
        }
    }
}

/// The class of an engine's failure.
#[must_use]
pub fn class(kind: restic::Kind) -> Class {
    match kind {
        restic::Kind::NotFound | restic::Kind::NoRepository => Class::NotFound,
        // Wrong in the same way until somebody corrects the Secret.
        restic::Kind::WrongPassword | restic::Kind::Invalid => Class::Invalid,
        restic::Kind::Locked => Class::Conflict,
        restic::Kind::Denied | restic::Kind::AppendOnly => Class::Denied,
        restic::Kind::Unavailable => Class::Unavailable,
        restic::Kind::Corrupt => Class::Corrupt,
        restic::Kind::Exhausted => Class::Exhausted,
        restic::Kind::Cancelled => Class::Cancelled,
        // The enum is open; a class that is new to us is treated like a bug.
        _ => Class::Internal,
    }
}

/// A Repository, as one call uses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct At {
    /// Which one.
    pub repository: RepositoryRef,
    /// How long to wait for a lock of somebody else, if not as long as usual.
    pub lock_wait: Option<Duration>,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)
    }
}

/// What to do where there is no repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// Fail.
    Refuse,
    /// Make one, if the place holds nothing of one.
    Create,
}

/// A repository in use. Keeps working for as long as it is held, even if its handle is closed.
#[derive(Clone)]
pub struct Opened {
    /// The engine's handle.
    pub repository: restic::Repository,
    /// Where it is.
    pub place: Arc<Place>,
    /// Its object store.
    pub connection: Connection,
    /// True if this very call made it.
    pub created: bool,
    /// How its data are to be compressed.
    pub compression: restic::Compression,
    config: Stamp,
}

/// What tells one config from another that took its place: all of it, sealed as it is. It is small, and not every store
/// says when an object was written.
type Stamp = bytes::Bytes;

struct Handle {
    /// As whoever came first has it.
    place: Place,
    used: AtomicU64,
    /// Held while opening, so that ten callers derive one key and only one of them makes a repository.
    opened: tokio::sync::Mutex<Option<Opened>>,
}

/// The open repositories of this process.
pub struct Repositories {
    reader: Reader,
    options: restic::OpenOptions,
    compression: restic::Compression,
    handles: Mutex<HashMap<String, Arc<Handle>>>,
    uses: AtomicU64,
}

impl Repositories {
    /// None open yet. All are opened with these options, so they share processors and memory. Data are compressed as
    /// `compression` says, unless the Repository says otherwise.
    #[must_use]
    pub fn new(
        reader: Reader,
        options: restic::OpenOptions,
        compression: restic::Compression,
    ) -> Self {
        Self { reader, options, compression, handles: Mutex::default(), uses: AtomicU64::new(0) }
    }

    /// Opens a repository, or hands out the open one.
    ///
    /// # Errors
    /// When the Repository, its Secret, the place or the password is not usable, or there is no repository and `missing`
    /// refuses to make one.
    pub async fn open(&self, at: &At, missing: Missing) -> Result<Opened, Error> {
        let opened = self.open_any(&at.repository, missing).await?;
        Ok(match at.lock_wait {
            None => opened,
            Some(wait) => Opened { repository: opened.repository.waiting(wait), ..opened },
        })
    }

    /// The repository with the usual patience.
    async fn open_any(&self, reference: &RepositoryRef, missing: Missing) -> Result<Opened, Error> {
        let (place, compression) = self.reader.place(reference).await?;
        let compression = compression.unwrap_or(self.compression);
        let handle = self.handle(&place);
        let place = Arc::new(place);
        let mut opened = handle.opened.lock().await;
        let connection = match opened.as_ref() {
            Some(opened) => opened.connection.clone(),
            None => {
                let create = missing == Missing::Create;
                place.connect(create).await.map_err(backend::Error::from)?
            }
        };
        let config = look(&place, &connection).await?;
        if config.is_none() {
            look_elsewhere(&place, &connection).await?;
        }
        let created = match (opened.as_ref(), config) {
            (Some(opened), Some(config)) if opened.config == config => {
                return Ok(Opened { compression, place, ..opened.clone() });
            }
            (_, Some(_)) => false,
            // The engine says that there is none; it is asked to, for one wording.
            (_, None) if missing == Missing::Refuse => false,
            (_, None) => true,
        };
        *opened = None;
        // A directory that vanished has to be made again.
        let connection = if created {
            place.connect(true).await.map_err(backend::Error::from)?
        } else {
            connection
        };
        let (repository, created) = self.open_engine(&place, &connection, created).await?;
        if created {
            tracing::info!(repository = %reference, location = place.location(), "made a repository");
        }
        // What a gateway that was killed here has left would keep every forget and prune out for half an hour. Only locks
        // that `restic unlock` calls stale go: old ones, and ours of processes that are gone.
        match repository.unlock(restic::UnlockScope::Stale).await {
            Ok(0) => {}
            Ok(removed) => tracing::warn!(repository = %reference, removed, "removed stale locks"),
            Err(error) => {
                let error = error.chain();
                tracing::warn!(repository = %reference, error, "could not look for stale locks");
            }
        }
        let config = look(&place, &connection).await?.unwrap_or_default();
        let fresh = Opened { repository, place, connection, created, compression, config };
        *opened = Some(Opened { created: false, ..fresh.clone() });
        Ok(fresh)
    }

    /// Closes the handle of a repository that is gone.
    pub fn forget(&self, opened: &Opened) {
        self.handles.lock().remove(&opened.place.location());
    }

    async fn open_engine(
        &self,
        place: &Place,
        connection: &Connection,
        create: bool,
    ) -> Result<(restic::Repository, bool), Error> {
        let store = place.store(connection).map_err(place.failed("open"))?;
        let password = restic::Password::new(place.password.reveal());
        let options = self.options.clone();
        if create {
            let init = restic::InitOptions::default();
            match restic::Repository::init(store.clone(), &password, &init, options.clone()).await {
                // By another gateway, or the restic program, since we have looked.
                Err(restic::Error::AlreadyInitialised { .. }) => {}
                made => return Ok((made.map_err(place.failed("initialise"))?, true)),
            }
        }
        let opened = restic::Repository::open(store, &password, options).await;
        Ok((opened.map_err(place.failed("open"))?, false))
    }

    /// The handle for this very place; one for the same location with other credentials is replaced.
    fn handle(&self, place: &Place) -> Arc<Handle> {
        let used = self.uses.fetch_add(1, Ordering::Relaxed);
        let mut handles = self.handles.lock();
        let location = place.location();
        if let Some(handle) = handles.get(&location)
            && handle.place.is_same(place)
        {
            handle.used.store(used, Ordering::Relaxed);
            return handle.clone();
        }
        if handles.len() >= MOST_HANDLES && !handles.contains_key(&location) {
            let oldest =
                handles.iter().min_by_key(|(_, handle)| handle.used.load(Ordering::Relaxed));
            if let Some(location) = oldest.map(|(location, _)| location.clone()) {
                handles.remove(&location);
            }
        }
        let handle = Arc::new(Handle {
            place: place.clone(),
            used: AtomicU64::new(used),
            opened: tokio::sync::Mutex::default(),
        });
        handles.insert(location, handle.clone());
        handle
    }
}

impl Place {
    /// Turns an engine's error into ours, with the words of this place.
    pub fn failed(&self, act: &'static str) -> impl FnOnce(restic::Error) -> Error {
        let place = self.clone();
        move |error| {
            let (kind, mut cause) = (error.kind(), error.chain());
            let remedy = match error {
                restic::Error::Locked { .. } => Some(WAIT_LONGER.to_owned()),
                _ => place.remedy(kind),
            };
            // rustls' words, whichever client they come through.
            let untrusted = cause.contains("invalid peer certificate");
            if let Some(remedy) = remedy {
                cause.push_str("; ");
                cause.push_str(&remedy);
            }
            if untrusted {
                let secret = &place.secret;
                cause.push_str(&format!(
                    "; the certificate that the server shows has to be valid for that host, and to be in CA_CERT_DATA of Secret \
                     {secret} itself, or its CA's, unless the system trusts it"
                ));
            }
            let subject = format!("Repository {} at {}", place.repository, place.location());
            Error::Engine { act, subject, cause, kind }
        }
    }

    fn remedy(&self, kind: restic::Kind) -> Option<String> {
        let secret = &self.secret;
        match (kind, &self.backend) {
            (restic::Kind::WrongPassword, _) if self.password_ends_in_line_break() => Some(format!(
                "RESTIC_PASSWORD in Secret {secret} ends in a line break, which counts as part of the password"
            )),
            (restic::Kind::NoRepository, _) => {
                Some("the first backup makes it; was one ever taken there?".to_owned())
            }
            (restic::Kind::Denied, Backend::Local(_)) => Some(
                "make the directory writable for the storage-gateway's user, and its volume not read-only"
                    .to_owned(),
            ),
            (restic::Kind::Denied, _) => {
                let what = self.opened_with()?;
                Some(format!("check {what}, and that listing, reading, writing and deleting is allowed there"))
            }
            (restic::Kind::Unavailable, _) => {
                Some(format!("check the endpoint {} and the network to it", self.endpoint()?))
            }
            (restic::Kind::AppendOnly, _) => Some(
                "spec.appendOnly of the Repository says so; take away from it with credentials of your own and the \
                 restic program, if you must"
                    .to_owned(),
            ),
            (restic::Kind::Exhausted, _) => {
                Some("free some space; nothing that was there is harmed".to_owned())
            }
            _ => None,
        }
    }

    fn store_failed(
        &self,
        operation: &'static str,
        path: &str,
        source: object_store::Error,
    ) -> Error {
        let path = format!("{path} in {}", self.location());
        let no_bucket = matches!(source, object_store::Error::NotFound { .. });
        let error = if no_bucket || names_no_bucket(&source) {
            restic::Error::NoBucket { operation, path, source }
        } else {
            restic::Error::Store { operation, path, source }
        };
        self.failed("reach")(error)
    }
}

/// The config, if there is one. Only a clear "no such object" counts as none, and only in a bucket that is there: the first
/// backup does not make one, and asking again would not help.
async fn look(place: &Place, connection: &Connection) -> Result<Option<Stamp>, Error> {
    let read = async { connection.probe.get(&Path::from(CONFIG)).await?.bytes().await };
    match read.await {
        Ok(config) => return Ok(Some(config)),
        Err(object_store::Error::NotFound { source, .. }) if !names_no_bucket(&*source) => {}
        Err(source) => return Err(place.store_failed("look up", CONFIG, source)),
    }
    // Swift says the same of a missing object and a missing container, but lists only what is there.
    if matches!(place.backend, Backend::Swift(_)) {
        let first = connection.probe.list(Some(&Path::from(KEYS))).try_next().await;
        first.map_err(|source| place.store_failed("list", KEYS, source))?;
    }
    Ok(None)
}

/// S3, B2 and GCS answer 404 to a missing object and to a missing bucket, as Azure does of its containers; the text differs.
fn names_no_bucket(error: &(impl fmt::Debug + ?Sized)) -> bool {
    let text = format!("{error:?}");
    ["NoSuchBucket", "ContainerNotFound"].iter().any(|code| text.contains(code))
}

/// Refuses to take for missing, or to make anew, what lies where Coffer has put it before.
async fn look_elsewhere(place: &Place, connection: &Connection) -> Result<(), Error> {
    use object_store::Error as E;
    for (objects, (former, prefix)) in connection.former.iter().zip(place.former()) {
        match objects.head(&Path::from(CONFIG)).await {
            Ok(_) => {
                let subject = format!("{} of Repository {}", place.location(), place.repository);
                return Err(Error::Elsewhere { subject, former, prefix });
            }
            // Whoever may not read there has not written there.
            Err(E::NotFound { .. } | E::PermissionDenied { .. } | E::Unauthenticated { .. }) => {}
            Err(source) => return Err(place.store_failed("look up", CONFIG, source)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
