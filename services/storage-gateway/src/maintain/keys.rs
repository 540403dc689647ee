//! The keys of a repository. Which password is the current one, the Repository's Secret says.

use super::open;
use crate::operation::Operation;
use crate::repositories::{At, Error, Repositories};
use coffer_restic as restic;

/// A key to be made.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// What opens it; is not printed.
    pub password: restic::Password,
    /// For whom, as the key file says.
    pub username: String,
    /// Where it was made, as the key file says.
    pub hostname: String,
}

/// The keys, the oldest first.
///
/// # Errors
/// When the repository is not usable.
pub async fn list_keys(
    repositories: &Repositories,
    at: &At,
) -> Result<Vec<restic::KeyInfo>, Error> {
    let opened = open(repositories, at, Operation::ListKeys).await?;
    opened.repository.keys().await.map_err(opened.place.failed("list the keys of"))
}

/// Adds a key.
///
/// # Errors
/// When the password is empty, or the repository is locked or not usable.
pub async fn add_key(
    repositories: &Repositories,
    at: &At,
    key: &NewKey,
) -> Result<restic::KeyInfo, Error> {
    let opened = open(repositories, at, Operation::AddKey).await?;
    let NewKey { password, username, hostname } = key;
    let kdf = restic::Kdf::default();
    let added = opened.repository.add_key(password, kdf, hostname, username).await;
    added.map_err(opened.place.failed("add a key to"))
}

/// Removes the key whose id begins so, unless it is the current one.
///
/// # Errors
/// When it is the current one, or none or several begin so, or the repository is locked or not usable.
pub async fn remove_key(
    repositories: &Repositories,
    at: &At,
    id: &str,
) -> Result<restic::Id, Error> {
    let opened = open(repositories, at, Operation::RemoveKey).await?;
    opened.repository.remove_key(id).await.map_err(opened.place.failed("remove a key of"))
}

/// Replaces the current key. From then on the Secret must hold the new password, which is the caller's to see to; the
/// repository's handle is closed, so that whoever comes before that is told at once.
///
/// # Errors
/// As [`add_key`].
pub async fn change_key(
    repositories: &Repositories,
    at: &At,
    key: &NewKey,
) -> Result<restic::KeyInfo, Error> {
    let opened = open(repositories, at, Operation::ChangeKey).await?;
    let NewKey { password, username, hostname } = key;
    let kdf = restic::Kdf::default();
    let changed = opened.repository.change_key(password, kdf, hostname, username).await;
    repositories.forget(&opened);
    changed.map_err(opened.place.failed("change the key of"))
}
